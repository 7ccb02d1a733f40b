//! The server: which dialect it speaks, requests that write, and what its answers mean.

use std::borrow::Cow;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use serde::Deserialize;

use super::config::{Api, InfluxConfig};
use super::setup;
use crate::sinks::SinkError;
use crate::sinks::target::{Answer, Auth, Target, TargetConfig, with_query};

/// The longest answer to a query.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// What 1.x and 2.x say, behind the number that follows, of lines older than the retention: all others are stored.
const TOO_OLD: &str = "partial write: points beyond retention policy dropped=";

/// One server, with what is known of it. Shared by the sink and its reader.
pub(super) struct Server {
    pub(super) target: Target,
    pub(super) config: InfluxConfig,
    known: Mutex<Known>,
}

#[derive(Clone, Default)]
struct Known {
    api: Option<Api>,
    /// The database is there, and its retention is as it should be.
    ready: bool,
    /// 1.x: the retention policy that is ours.
    policy: Option<String>,
}

impl Server {
    pub(super) fn new(config: InfluxConfig) -> Result<Self, SinkError> {
        for (key, text) in [("storage.database", &*config.database), ("storage.bucket", config.bucket())] {
            if text.is_empty() {
                return Err(SinkError::unusable(format!("{key}: expected a name, found an empty one")));
            }
        }
        if config.api == Api::V2 && config.org.is_none() {
            return Err(SinkError::unusable(
                "storage.org: expected an organisation for InfluxDB 2, found none",
            ));
        }
        let target = Target::new(TargetConfig {
            url: config.url.clone(),
            timeout: config.timeout,
            auth: config.auth.clone(),
            ca_file: config.ca_file.clone(),
            answer_bytes_max: ANSWER_BYTES_MAX,
            ..TargetConfig::default()
        })?;
        Ok(Server { target, config, known: Mutex::default() })
    }

    /// The dialect; asks the server the first time.
    pub(super) fn api(&self) -> Result<Api, SinkError> {
        let configured = Some(self.config.api).filter(|api| *api != Api::Auto);
        if let Some(api) = configured.or(self.known.lock().api) {
            return Ok(api);
        }
        let api = self.ping()?;
        self.known.lock().api = Some(api);
        Ok(api)
    }

    /// The dialect as far as it is known.
    pub(super) fn known_api(&self) -> Api {
        self.known.lock().api.unwrap_or(self.config.api)
    }

    /// Asks whether the server is there; says which dialect it speaks.
    pub(super) fn ping(&self) -> Result<Api, SinkError> {
        #[derive(Deserialize)]
        struct Body {
            version: String,
        }
        let answer = self.target.get("/ping", &[])?;
        let in_body = serde_json::from_str(&answer.body).ok().map(|body: Body| body.version);
        let version = answer.header("x-influxdb-version").map(String::from).or(in_body).unwrap_or_default();
        match version.trim_start_matches('v').bytes().next() {
            Some(b'0' | b'1') => Ok(Api::V1),
            Some(b'2') => Ok(Api::V2),
            Some(b'3'..=b'9') => Ok(Api::V3),
            _ if answer.status >= 500 => answer.check().map(|_| Api::V1),
            // It does not say (a proxy, or VictoriaMetrics): as we are configured.
            _ if self.config.org.is_some() || self.config.bucket.is_some() => Ok(Api::V2),
            _ if matches!(self.config.auth, Auth::Token(_) | Auth::Bearer(_)) => Ok(Api::V3),
            _ => Ok(Api::V1),
        }
    }

    /// Where samples go: the database of 1.x, else the bucket.
    pub(super) fn database(&self, api: Api) -> &str {
        if api == Api::V1 { &self.config.database } else { self.config.bucket() }
    }

    /// The retention policy that samples are written to and read from; `None`: the database's default.
    pub(super) fn policy(&self) -> Option<String> {
        self.known.lock().policy.clone()
    }

    /// Whether [`Server::prepare`] has nothing to do.
    pub(super) fn is_ready(&self) -> bool {
        self.known.lock().ready
    }

    /// Makes the database, if that has not been done.
    pub(super) fn prepare(&self) -> Result<Api, SinkError> {
        let api = self.api()?;
        if self.is_ready() {
            return Ok(api);
        }
        if api == Api::V2 && self.config.org.is_none() {
            let why = format!("storage.org: expected an organisation: {} is InfluxDB 2", self.target.shown());
            return Err(SinkError::retry(why));
        }
        let policy = setup::prepare(self, api)?;
        *self.known.lock() = Known { api: Some(api), ready: true, policy };
        Ok(api)
    }

    /// Sends `lines` in one request. Returns how many of them the server did not keep because they are older
    /// than its retention, which is no error: kept, they would be gone.
    pub(super) fn write(&self, lines: &[u8]) -> Result<u64, SinkError> {
        let api = self.prepare()?;
        let path = self.write_path(api);
        let mut headers = vec![("content-type", "text/plain; charset=utf-8")];
        let body = match self.config.gzip {
            false => lines.to_vec(),
            true => {
                headers.push(("content-encoding", "gzip"));
                packed(lines).map_err(|error| SinkError::retry(format!("expected to pack lines: {error}")))?
            }
        };
        let answer = self.target.post(&path, &headers, body)?;
        if answer.is_success() {
            return Ok(0);
        }
        let said = said(&answer);
        if matches!(answer.status, 401 | 404) || (answer.status >= 500 && answer.body.contains("not found")) {
            // The database or its policy has gone, or another server is here: the next try begins anew.
            *self.known.lock() = Known::default();
        }
        if let Some(count) = said.as_deref().and_then(too_old) {
            return Ok(count);
        }
        match (answer.status, said) {
            // Not the database's own words: a proxy, another server, plain HTTP on a TLS port. Nothing
            // is known of the lines.
            (400 | 422, None) => Err(SinkError::Retry { why: answer.told(), after: answer.retry_after }),
            _ => answer.check().map(|_| 0),
        }
    }

    fn write_path(&self, api: Api) -> String {
        let database = self.database(api);
        let precision = self.config.precision.word(api);
        let policy = self.policy();
        if api == Api::V1 {
            let mut parameters = vec![("db", database), ("precision", precision)];
            parameters.extend(policy.as_deref().map(|policy| ("rp", policy)));
            return with_query("/write", &parameters);
        }
        let mut parameters = vec![("bucket", database), ("precision", precision)];
        parameters.extend(self.config.org.as_deref().map(|org| ("org", org)));
        with_query("/api/v2/write", &parameters)
    }
}

/// What the database itself says of a request that it refuses: `error` of 1.x and 3, `message` of 2.x.
pub(super) fn said(answer: &Answer) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow)]
        error: Option<Cow<'a, str>>,
        #[serde(borrow)]
        message: Option<Cow<'a, str>>,
    }
    let refusal: Refusal<'_> = serde_json::from_str(&answer.body).ok()?;
    refusal.error.or(refusal.message).map(Cow::into_owned)
}

fn too_old(said: &str) -> Option<u64> {
    let (_, behind) = said.split_once(TOO_OLD)?;
    let digits = behind.find(|c: char| !c.is_ascii_digit()).map_or(behind, |end| &behind[..end]);
    digits.parse().ok()
}

fn packed(lines: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::with_capacity(lines.len() / 4), Compression::fast());
    gzip.write_all(lines)?;
    gzip.finish()
}
