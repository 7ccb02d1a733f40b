//! The storages: for each what feeds it, and what the API says of them together.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use operators::catalog::Catalog;

use super::{StartError, backends, wiring};
use crate::delivery::source::Source;
use crate::delivery::{CursorStore, DeadLetters, DeadLettersConfig, Delivery, DeliveryConfig};
use crate::feed::{RawFeed, WindowFeed};
use crate::http::StorageReport;
use crate::keeper::Keeper;
use crate::outbox::Outbox;
use crate::settings::{StorageSettings, Stored};
use crate::sinks::{self, Position, Reader, SinkStatus};

/// What is shared by everything that feeds a storage.
pub struct Sources {
    /// The journal.
    pub keeper: Arc<Keeper>,
    /// The outbox.
    pub outbox: Arc<Outbox>,
    /// Names of the series.
    pub catalog: Arc<Catalog>,
}

/// A storage, and one of the two streams that it is fed with.
struct Fed {
    delivery: Delivery,
    stream: Stored,
}

/// All storages.
#[derive(Default)]
pub struct Storages {
    fed: Vec<Fed>,
}

impl Storages {
    /// Opens the storages and begins to feed them. `dir` is where cursors and dead letters are; none with a journal
    /// in memory.
    ///
    /// # Errors
    /// A storage that can't be opened.
    pub fn start<'a>(
        settings: impl Iterator<Item = &'a StorageSettings>,
        sources: &Sources,
        dir: Option<&Path>,
        journal_id: Option<u128>,
    ) -> Result<Storages, StartError> {
        let mut storages = Storages::default();
        for storage in settings {
            for stream in &storage.store {
                let wrong = |why: String| StartError::Storage(format!("{}: {why}", storage.name));
                let mut config = backends::sink(storage);
                config.file.journal_id = journal_id;
                let mut name = storage.name.clone();
                if *stream == Stored::Windows {
                    name.push_str("-windows");
                    config.file.path = config.file.path.join("windows");
                }
                let sink = sinks::open(&config).map_err(|e| wrong(e.to_string()))?;
                let source: Box<dyn Source> = match stream {
                    Stored::Raw => Box::new(RawFeed::new(sources.keeper.clone(), sources.catalog.clone())),
                    Stored::Windows => Box::new(WindowFeed::new(
                        sources.outbox.clone(),
                        sources.catalog.clone(),
                        &storage.window_functions,
                    )),
                };
                let (cursor, dead_letters) = match dir {
                    None => (CursorStore::none(), DeadLetters::none()),
                    Some(dir) => (
                        CursorStore::at(dir.join("cursors").join(format!("{name}.cursor"))),
                        DeadLetters::at(DeadLettersConfig {
                            path: dir.join("dead-letters").join(format!("{name}.jsonl")),
                            bytes_max: storage.dead_letter_bytes_max,
                        }),
                    ),
                };
                // Storages that share a target must not pause alike.
                let seed = RandomState::new().hash_one(&name);
                let config = DeliveryConfig { seed, ..wiring::delivery(storage) };
                let delivery = Delivery::start(&name, sink, source, cursor, dead_letters, config)
                    .map_err(|e| wrong(e.to_string()))?;
                storages.fed.push(Fed { delivery, stream: *stream });
            }
        }
        Ok(storages)
    }

    /// Something new can be read.
    pub fn wake(&self) {
        self.fed.iter().for_each(|fed| fed.delivery.wake());
    }

    /// The last epoch that every storage fed with `stream` has stored; none where there is no such storage.
    pub fn cursor(&self, stream: Stored) -> Option<Position> {
        self.fed.iter().filter(|fed| fed.stream == stream).map(|fed| fed.delivery.cursor()).min()
    }

    /// The last epoch that some storage has stored.
    pub fn newest_cursor(&self) -> Position {
        self.fed.iter().map(|fed| fed.delivery.cursor()).max().unwrap_or(0)
    }

    /// Reads back raw samples: the first storage that can.
    pub fn reader(&self) -> Option<Arc<dyn Reader>> {
        self.fed.iter().filter(|fed| fed.stream == Stored::Raw).find_map(|fed| fed.delivery.reader())
    }

    /// For `/status`, `/storage/status` and `/metrics`: the documented object of the first storage, and where there
    /// are several, all of them in a list beside it.
    pub fn report(&self) -> StorageReport {
        let statuses: Vec<SinkStatus> = self.fed.iter().map(|fed| fed.delivery.status()).collect();
        let Some(first) = statuses.first() else {
            return StorageReport {
                status: "none".into(),
                json: serde_json::json!({ "type": "none", "status": "none" }),
                counters: Vec::new(),
            };
        };
        // One that is not well is what people want to see.
        let worst = statuses.iter().find(|status| status.status != "connected").unwrap_or(first);
        let mut json = serde_json::to_value(first).unwrap_or_default();
        if statuses.len() > 1 {
            json["storages"] = serde_json::to_value(&statuses).unwrap_or_default();
        }
        let of = |status: &SinkStatus| {
            [
                ("delivered", status.delivered),
                ("failed", status.failed),
                ("dead_lettered", status.dead_lettered),
                ("retried", status.retried),
                ("missed_epochs", status.missed_epochs),
                ("lag_epochs", status.lag_epochs),
            ]
            .map(|(figure, value)| (figure, status.name.clone(), value))
        };
        StorageReport { status: worst.status.clone(), json, counters: statuses.iter().flat_map(of).collect() }
    }

    /// Delivers what can be delivered in time. What is left stays in the journal; says whether nothing is.
    pub fn stop(&self, within: Duration) -> bool {
        let deadline = std::time::Instant::now() + within;
        std::thread::scope(|scope| {
            let stops: Vec<_> = self
                .fed
                .iter()
                .map(|fed| {
                    let left = deadline.saturating_duration_since(std::time::Instant::now());
                    scope.spawn(move || fed.delivery.stop(left).complete)
                })
                .collect();
            stops.into_iter().all(|stop| stop.join().unwrap_or(false))
        })
    }
}
