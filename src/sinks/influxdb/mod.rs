//! `storage.type: influxdb`: samples as line protocol, one line a message, to InfluxDB 1.x, 2.x and 3 Core, and
//! to what speaks like them (VictoriaMetrics).
//!
//! [`Sink::write`] sends what it is given at once and returns when the server has it: nothing is held here, so
//! [`Sink::flush`] has nothing to confirm. A line that is sent again replaces itself (the same series, time and
//! fields), so a write that failed half way is simply repeated.
//!
//! What a server refuses for its content comes back as [`SinkError::Poison`] of that write. Lines older than the
//! server's retention are counted as refused and not tried again.
//!
//! # Layout
//! - `config`: settings
//! - `names`, `template`, `line`: names that InfluxDB can hold, the measurement, line protocol
//! - `server`, `setup`: the dialects and requests that write; the database and its retention
//! - `influxql`, `flux`, `read`: the two query languages; reading back

mod config;
mod flux;
mod influxql;
mod line;
mod names;
mod read;
mod server;
mod setup;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use operators::sample::HOUR;

pub use self::config::{Api, InfluxConfig, Precision};
use self::influxql::Cell;
use self::line::Encoder;
use self::read::InfluxReader;
use self::server::Server;
use super::{Position, Reader, Sink, SinkError, SinkStatus, bytes_text};
use crate::message::Message;

/// Bytes of lines in one request, at most and one message more: 1.x takes 25 MB.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// While nothing is written, the server is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The sink.
pub struct InfluxSink {
    server: Arc<Server>,
    encoder: Encoder,
    wrong: Option<String>,
    /// Lines that the server did not keep because of their age, and values that are none.
    refused: u64,
    disk_bytes: u64,
    /// 1.x tells how much disk it uses; not to everybody.
    tells_disk: bool,
    next_look: Instant,
}

impl InfluxSink {
    /// Makes the sink; connects to nothing yet.
    ///
    /// # Errors
    /// [`SinkError::Unusable`]: settings that can't be right.
    pub fn open(config: InfluxConfig) -> Result<Self, SinkError> {
        let encoder = Encoder::new(&config)?;
        let server = Arc::new(Server::new(config)?);
        if encoder.template.around_service().is_none() {
            tracing::warn!("storage.measurement does not tell the service alone: nothing is read back");
        }
        let (wrong, next_look) = (None, Instant::now());
        Ok(InfluxSink { server, encoder, wrong, refused: 0, disk_bytes: 0, tells_disk: true, next_look })
    }

    fn send(&mut self, messages: &[Message]) -> Result<(), SinkError> {
        let (mut lines, mut body, mut too_old) = (0, Vec::new(), 0);
        for message in messages {
            lines += self.encoder.push(message, &mut body);
            if lines >= self.server.config.batch_lines || body.len() >= REQUEST_BYTES_MAX {
                too_old += self.server.write(&body)?;
                body.clear();
                lines = 0;
            }
        }
        if lines > 0 {
            too_old += self.server.write(&body)?;
        }
        if too_old > 0 {
            tracing::warn!(lines = too_old, "samples older than the retention of InfluxDB were not kept");
        }
        let values = messages.iter().flat_map(|message| &message.metrics);
        self.refused += too_old + values.filter(|(_, value)| !value.is_finite()).count() as u64;
        Ok(())
    }

    /// Asks how the server is.
    fn look(&mut self) -> Result<(), SinkError> {
        let was_ready = self.server.is_ready();
        let api = self.server.prepare()?;
        if api == Api::V1 && self.tells_disk {
            match influxql::ask(&self.server, "SHOW STATS FOR 'shard'")? {
                Ok(tables) => self.disk_bytes = disk_bytes(&tables, &self.server.config.database),
                Err(_) => self.tells_disk = false,
            }
        } else if was_ready {
            self.server.ping()?;
        }
        Ok(())
    }
}

/// The bytes of all shards of `database`.
fn disk_bytes(tables: &[Vec<influxql::Series>], database: &str) -> u64 {
    let ours = |series: &&influxql::Series| series.tags.get("database").is_some_and(|name| name == database);
    let bytes = |series: &influxql::Series| {
        let at = series.columns.iter().position(|column| column == "diskBytes")?;
        match series.values.first()?.get(at)? {
            Cell::Int(bytes) => u64::try_from(*bytes).ok(),
            _ => None,
        }
    };
    tables.iter().flatten().filter(ours).filter_map(bytes).sum()
}

impl Sink for InfluxSink {
    fn write(&mut self, messages: &[Message]) -> Result<(), SinkError> {
        let sent = self.send(messages);
        self.wrong = match &sent {
            // The server is well; the messages are not.
            Ok(()) | Err(SinkError::Poison { .. }) => None,
            Err(error) => Some(error.to_string()),
        };
        sent
    }

    fn flush(&mut self, _upto: Position) -> Result<(), SinkError> {
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            self.wrong = self.look().err().map(|error| error.to_string());
        }
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        let mut status = SinkStatus::connected("influxdb");
        if let Some(why) = &self.wrong {
            status.error(why);
        }
        status.database = Some(self.server.database(self.server.known_api()).into());
        status.retention = self.server.config.retention_ns.map(|retention| retention.max(HOUR));
        status.disk_usage_bytes = self.disk_bytes;
        status.disk_usage = bytes_text(self.disk_bytes);
        status.failed = self.refused;
        status
    }

    fn reader(&self) -> Option<Arc<dyn Reader>> {
        self.encoder.template.around_service()?;
        let (server, encoder) = (self.server.clone(), self.encoder.clone());
        Some(Arc::new(InfluxReader { server, encoder }))
    }
}
