//! The consumer's inner life: engine, door, storage, alerts; and the bus that feeds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::SharedEpoch;
use operators::catalog::Catalog;

use super::{StartError, wiring};
use crate::alerts::AlertBoard;
use crate::bus::Receiver;
use crate::codec::Codec;
use crate::codec::decoder::Decoder;
use crate::codec::json::Json;
use crate::codec::reject::{Reason, RejectLog};
use crate::delivery::Delivery;
use crate::http::StorageReport;
use crate::intake::{Clock, Intake};
use crate::notify::{self, Notifier, NotifyConfig};
use crate::raw;
use crate::settings::{Settings, StorageKind};
use crate::sinks;
use crate::telemetry::Telemetry;

/// Epochs that may wait before the storage's feeder.
const FEED_LEN_MAX: usize = 256;

/// Everything that turns samples into windows, alerts and stored rows.
pub struct Consumer {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The door.
    pub intake: Arc<Intake>,
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// Rejects.
    pub rejects: Arc<RejectLog>,
    /// Own counters.
    pub telemetry: Arc<Telemetry>,
    /// Alerts.
    pub board: Arc<AlertBoard>,
    /// The storage, unless there is none.
    pub storage: Option<Arc<Storage>>,
    notifier: Option<(Notifier, notify::Running)>,
    sealer: JoinHandle<()>,
    alerts: JoinHandle<()>,
    feeder: Option<JoinHandle<()>>,
}

/// The storage, as far as others ask.
pub struct Storage {
    /// The queue and the sink behind it.
    pub delivery: Delivery,
    /// Samples that found the feeder's queue full.
    pub dropped: AtomicU64,
}

impl Storage {
    /// For `/status`, `/storage/status` and `/metrics`.
    pub fn report(&self) -> StorageReport {
        let status = self.delivery.status();
        let dropped = self.dropped.load(Ordering::Relaxed);
        let counters = vec![
            ("delivered", status.delivered),
            ("failed", status.failed),
            ("dropped", status.dropped + dropped),
            ("retried", status.retried),
        ];
        let mut json = serde_json::to_value(&status).unwrap_or_default();
        json["dropped"] = (status.dropped + dropped).into();
        StorageReport { status: status.status, json, counters }
    }
}

impl Consumer {
    /// Starts engine, storage and notifier. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If one of them can't start.
    pub fn start(settings: &Settings, clock: Clock) -> Result<Consumer, StartError> {
        let telemetry = Arc::new(Telemetry::default());
        let catalog = Arc::new(Catalog::new(wiring::catalog_limits(settings)));
        let board = Arc::new(AlertBoard::new(wiring::rule_texts(settings), catalog.clone()));
        let door = wiring::intake(settings);
        let intake = Arc::new(Intake::new(door, catalog.clone(), clock, telemetry.clone()));
        let callbacks = Callbacks {
            progress: Box::new({
                let intake = intake.clone();
                move |epoch| intake.completed(epoch)
            }),
            outbox: Arc::new({
                let board = board.clone();
                move |transitions| board.push(transitions)
            }),
        };
        let engine = Engine::start(wiring::plan(settings), callbacks).map_err(StartError::engine)?;
        let engine = Arc::new(engine);
        let storage = start_storage(settings)?;
        let notifier = start_notifier(settings)?;
        let (feeder, tap) = match &storage {
            None => (None, None),
            Some(storage) => {
                let (sender, epochs) = sync_channel::<SharedEpoch>(FEED_LEN_MAX);
                let (storage, catalog) = (storage.clone(), catalog.clone());
                let feed = move || {
                    for epoch in epochs {
                        storage.delivery.offer(raw::messages(&epoch, &catalog));
                    }
                };
                (Some(spawn("storage feed", feed)?), Some(sender))
            }
        };
        let tap = tap_of(tap, storage.clone());
        let sealer = spawn("intake", {
            let (intake, engine) = (intake.clone(), engine.clone());
            move || intake.seal_until_closed(&engine, tap)
        })?;
        let alerts = spawn("alerts", {
            let (board, notifier) = (board.clone(), notifier.as_ref().map(|(notifier, _)| notifier.clone()));
            move || board.run(notifier.as_ref())
        })?;
        let rejects = Arc::new(RejectLog::new(settings.ingest.rejected_kept));
        Ok(Consumer {
            engine,
            intake,
            catalog,
            rejects,
            telemetry,
            board,
            storage,
            notifier,
            sealer,
            alerts,
            feeder,
        })
    }

    /// Stops in the order of the samples: door, engine, alerts, storage, notifier. Blocks; `within` bounds it.
    pub async fn stop(self, within: Duration) -> bool {
        let deadline = std::time::Instant::now() + within;
        let left = move || deadline.saturating_duration_since(std::time::Instant::now());
        self.intake.close();
        let Consumer { engine, board, storage, notifier, sealer, alerts, feeder, .. } = self;
        let drained = tokio::task::spawn_blocking(move || {
            // Each thread ends when what feeds it has ended.
            let _ = sealer.join();
            engine.stop();
            board.close();
            let _ = alerts.join();
            if let Some(feeder) = feeder {
                let _ = feeder.join();
            }
            storage.is_none_or(|storage| storage.delivery.stop(left()).complete)
        });
        let drained = tokio::time::timeout(left(), drained).await;
        if let Some((_, running)) = notifier {
            running.stop(left().min(Duration::from_secs(2))).await;
        }
        matches!(drained, Ok(Ok(true)))
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(|e| StartError::Thread(e.to_string()))
}

fn tap_of(sender: Option<SyncSender<SharedEpoch>>, storage: Option<Arc<Storage>>) -> crate::intake::Tap {
    Box::new(move |epoch| {
        let (Some(sender), Some(storage)) = (&sender, &storage) else { return };
        if epoch.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(epoch) | TrySendError::Disconnected(epoch)) =
            sender.try_send(epoch.clone())
        {
            storage.dropped.fetch_add(epoch.len() as u64, Ordering::Relaxed);
        }
    })
}

fn start_storage(settings: &Settings) -> Result<Option<Arc<Storage>>, StartError> {
    if settings.storage.kind == StorageKind::None {
        return Ok(None);
    }
    let sink = sinks::open(&wiring::sink(settings)).map_err(|e| StartError::Storage(e.to_string()))?;
    let delivery =
        Delivery::start(sink, wiring::delivery(settings)).map_err(|e| StartError::Thread(e.to_string()))?;
    Ok(Some(Arc::new(Storage { delivery, dropped: AtomicU64::new(0) })))
}

fn start_notifier(settings: &Settings) -> Result<Option<(Notifier, notify::Running)>, StartError> {
    let Some(url) = settings.alerts.webhook_url.as_ref().filter(|_| settings.alerts.enabled) else {
        return Ok(None);
    };
    let config = NotifyConfig {
        webhook_url: url.as_str().into(),
        queue_len_max: settings.alerts.queue_len_max,
        timeout: settings.alerts.webhook_timeout,
        ..NotifyConfig::default()
    };
    Notifier::start(config).map(Some).map_err(|e| StartError::Notifier(e.to_string()))
}

/// Feeds what the bus receives to the door, until the receiver ends.
pub struct BusFeed {
    /// The door.
    pub intake: Arc<Intake>,
    /// Rejects.
    pub rejects: Arc<RejectLog>,
    /// Own counters.
    pub telemetry: Arc<Telemetry>,
    /// Decodes, remembering shapes.
    pub decoder: Decoder,
}

impl BusFeed {
    /// Runs until the receiver ends, or the door closes.
    pub async fn run(mut self, mut receiver: Receiver) {
        while let Some(batch) = receiver.recv().await {
            self.decoder.begin(self.intake.now_ns());
            for (topic, payload) in batch.iter() {
                self.decode(topic, payload);
            }
            drop(batch);
            self.rejects.add("bus", self.decoder.arrival_ns, &self.decoder.rejects);
            self.telemetry.bus_messages.fetch_add(self.decoder.messages, Ordering::Relaxed);
            // The next batch is likely to be as long; growing a vector step by step costs copies and fresh pages.
            let next = Vec::with_capacity(self.decoder.samples.len());
            let samples = std::mem::replace(&mut self.decoder.samples, next);
            let newest_ns = samples.iter().map(|sample| sample.time_ns).max();
            self.telemetry.accepted(samples.len(), newest_ns);
            let mut samples = Some(samples);
            while let Some(batch) = samples.take() {
                // Full: not reading the socket is how the bus is held back.
                self.intake.room().await;
                samples = self.intake.submit(batch).err().map(|full| full.0);
                if samples.is_some() && !self.intake.is_open() {
                    return;
                }
            }
        }
    }

    fn decode(&mut self, topic: &[u8], payload: &[u8]) {
        let service = topic.strip_prefix(b"metrics.").unwrap_or(topic);
        if self.decoder.default_service.as_bytes() != service {
            self.decoder.default_service.clear();
            self.decoder.default_service.push_str(std::str::from_utf8(service).unwrap_or_default());
        }
        if let Err(malformed) = Json.decode(payload, &mut self.decoder) {
            self.decoder.messages += 1;
            self.decoder.reject(None, Reason::Malformed, malformed.to_string());
        }
    }
}
