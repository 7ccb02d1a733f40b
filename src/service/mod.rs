//! The service: start and stop, told as a story.
//!
//! Start: the embedded bus, so that others can join; engine, storage and notifier; the API; the bus's
//! receiving side and StatsD's; the producer last, so that its first message finds a subscriber. Stop: the other way
//! round, so that everything taken in still reaches its place.

mod backends;
mod consumer;
mod notifying;
mod own;
mod storage;
mod upkeep;
pub mod wiring;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use operators::sample::TimeNs;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bus::{BusCounters, Forwarder, Publisher, Receiver};
use crate::codec::decoder::Decoder;
use crate::collectors;
use crate::http::serve::serve;
use crate::http::{App, Decoders};
use crate::intake::Clock;
use crate::journal::files::{Files, RealFiles};
use crate::producer::{Producer, ProducerConfig};
use crate::reload::{Reloader, Source};
use crate::settings::{Mode, Settings};
use crate::statsd::{Listener, StatsdCounters, StatsdFeed};
use consumer::{BusFeed, Consumer, Places};

/// Why the service can't start.
#[derive(Debug)]
pub enum StartError {
    /// The engine.
    Engine(String),
    /// The journal.
    Journal(String),
    /// The storage.
    Storage(String),
    /// The notifier.
    Notifier(String),
    /// The bus.
    Bus(String),
    /// The StatsD listener.
    Statsd(String),
    /// The API.
    Http(String),
    /// The producer.
    Producer(String),
    /// A thread.
    Thread(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (room, why) = match self {
            StartError::Engine(why) => ("engine", why),
            StartError::Journal(why) => ("journal", why),
            StartError::Storage(why) => ("storage", why),
            StartError::Notifier(why) => ("alerts", why),
            StartError::Bus(why) => ("bus", why),
            StartError::Statsd(why) => ("statsd.listen", why),
            StartError::Http(why) => ("http.listen", why),
            StartError::Producer(why) => ("collection", why),
            StartError::Thread(why) => ("thread", why),
        };
        write!(f, "{room}: {why}")
    }
}

impl std::error::Error for StartError {}

/// The wall clock: the only one that becomes state, by way of the epochs.
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimeNs::try_from(since.as_nanos()).unwrap_or(TimeNs::MAX)
    })
}

/// A running service.
pub struct Service {
    /// Where the API listens, if it does.
    pub http_addr: Option<SocketAddr>,
    /// Where publishers connect to the embedded bus.
    pub frontend: Option<SocketAddr>,
    /// Where subscribers connect to it.
    pub backend: Option<SocketAddr>,
    /// Where StatsD is received, if it is.
    pub statsd_addr: Option<SocketAddr>,
    consumer: Option<Consumer>,
    forwarder: Option<Forwarder>,
    counting: Option<(JoinHandle<()>, CancellationToken)>,
    receiving: Option<(JoinHandle<()>, CancellationToken)>,
    producing: Option<(JoinHandle<()>, CancellationToken)>,
    serving: Option<(JoinHandle<()>, CancellationToken)>,
    /// What reads rules again, where there are any.
    reloader: Option<Arc<Reloader>>,
    watching: Option<JoinHandle<()>>,
    stop_timeout: Duration,
}

impl Service {
    /// Starts what the settings' mode says.
    ///
    /// # Errors
    /// The first thing that can't start.
    pub async fn start(settings: &Settings, clock: Clock) -> Result<Service, StartError> {
        Service::start_from(settings, Source::given(settings), clock, Arc::new(RealFiles)).await
    }

    /// The same with settings that can be read again.
    ///
    /// # Errors
    /// The first thing that can't start.
    pub async fn start_reloadable(
        settings: &Settings,
        source: Source,
        clock: Clock,
    ) -> Result<Service, StartError> {
        Service::start_from(settings, source, clock, Arc::new(RealFiles)).await
    }

    /// The same with the journal on `files`.
    ///
    /// # Errors
    /// The first thing that can't start.
    pub async fn start_on(
        settings: &Settings,
        clock: Clock,
        files: Arc<dyn Files>,
    ) -> Result<Service, StartError> {
        Service::start_from(settings, Source::given(settings), clock, files).await
    }

    async fn start_from(
        settings: &Settings,
        source: Source,
        clock: Clock,
        files: Arc<dyn Files>,
    ) -> Result<Service, StartError> {
        let mode = settings.mode();
        let mut service = Service {
            http_addr: None,
            frontend: None,
            backend: None,
            statsd_addr: None,
            consumer: None,
            forwarder: None,
            counting: None,
            receiving: None,
            producing: None,
            serving: None,
            reloader: None,
            watching: None,
            stop_timeout: settings.service.stop_timeout,
        };
        if settings.bus.embedded.enabled {
            service.start_embedded_bus(settings).await?;
        }
        let places = Places::new(settings, files);
        let consumer = match mode {
            Mode::Producer => Consumer::start(&own_only(settings), clock, &places)?,
            _ => Consumer::start(settings, clock, &places)?,
        };
        service.start_reloading(settings, source, &consumer);
        let (mut counters, mut statsd) = (None, None);
        if mode != Mode::Producer {
            counters = Some(service.start_receiving(settings, &consumer).await?);
            statsd = service.start_statsd(settings, &consumer)?;
        }
        if settings.http.enabled {
            service.start_api(settings, &consumer, counters, statsd).await?;
        }
        if mode != Mode::Consumer {
            service.start_producing(settings, &consumer).await?;
        }
        service.consumer = Some(consumer);
        Ok(service)
    }

    async fn start_embedded_bus(&mut self, settings: &Settings) -> Result<(), StartError> {
        let config = wiring::forwarder(settings).map_err(|e| StartError::Bus(e.to_string()))?;
        let forwarder = Forwarder::start(config).await.map_err(|e| StartError::Bus(e.to_string()))?;
        self.frontend = forwarder.publishers().first().copied();
        self.backend = forwarder.subscribers().first().copied();
        self.forwarder = Some(forwarder);
        Ok(())
    }

    fn start_reloading(&mut self, settings: &Settings, source: Source, consumer: &Consumer) {
        if settings.mode() == Mode::Producer || !settings.alerts.enabled {
            return;
        }
        let reloader = Arc::new(Reloader::new(source, consumer.written.clone(), settings));
        let interval = settings.alerts.reload_interval;
        self.watching = (!interval.is_zero()).then(|| tokio::spawn(reloader.clone().watch(interval)));
        self.reloader = Some(reloader);
    }

    /// Reads the configuration again and brings its rules into force. Where there are no rules, nothing happens.
    ///
    /// # Errors
    /// What is wrong with it; nothing has changed then.
    pub async fn reload(&self) -> Result<(), String> {
        let Some(reloader) = self.reloader.clone() else { return Ok(()) };
        let reloaded = tokio::task::spawn_blocking(move || reloader.reload().map(|_| ())).await;
        reloaded.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn start_receiving(
        &mut self,
        settings: &Settings,
        consumer: &Consumer,
    ) -> Result<Arc<BusCounters>, StartError> {
        let inside = self.backend.map(inside);
        let config =
            wiring::receiver(settings, inside.as_deref()).map_err(|e| StartError::Bus(e.to_string()))?;
        let receiver = Receiver::start(config).await.map_err(|e| StartError::Bus(e.to_string()))?;
        let (counters, stop) = (receiver.counters(), receiver.stop_token());
        let feed = BusFeed {
            intake: consumer.intake.clone(),
            rejects: consumer.rejects.clone(),
            telemetry: consumer.telemetry.clone(),
            decoder: Decoder::new(consumer.catalog.clone(), wiring::limits(settings, "json")),
        };
        self.receiving = Some((tokio::spawn(feed.run(receiver)), stop));
        Ok(counters)
    }

    fn start_statsd(
        &mut self,
        settings: &Settings,
        consumer: &Consumer,
    ) -> Result<Option<Arc<StatsdCounters>>, StartError> {
        if !settings.statsd.enabled {
            return Ok(None);
        }
        let listener =
            Listener::bind(wiring::statsd(settings)).map_err(|e| StartError::Statsd(e.to_string()))?;
        self.statsd_addr = listener.local_addr().ok();
        let (counters, stop) = (listener.counters(), CancellationToken::new());
        let feed = StatsdFeed {
            intake: consumer.intake.clone(),
            rejects: consumer.rejects.clone(),
            telemetry: consumer.telemetry.clone(),
            decoder: Decoder::new(consumer.catalog.clone(), wiring::limits(settings, "statsd")),
        };
        self.counting = Some((tokio::spawn(listener.run(feed, stop.clone())), stop));
        Ok(Some(counters))
    }

    async fn start_api(
        &mut self,
        settings: &Settings,
        consumer: &Consumer,
        bus: Option<Arc<BusCounters>>,
        statsd: Option<Arc<StatsdCounters>>,
    ) -> Result<(), StartError> {
        let listen = settings.http.listen;
        let listener =
            TcpListener::bind(listen).await.map_err(|e| StartError::Http(format!("{listen}: {e}")))?;
        self.http_addr = listener.local_addr().ok();
        let storages = consumer.storages.clone();
        let reader = storages.reader();
        let app = App {
            config: wiring::http(settings),
            mode: settings.mode().word().into(),
            engine: consumer.engine.clone(),
            intake: consumer.intake.clone(),
            catalog: consumer.catalog.clone(),
            rejects: consumer.rejects.clone(),
            telemetry: consumer.telemetry.clone(),
            board: consumer.board.clone(),
            rules: consumer.written.clone(),
            receivers: consumer.receivers.clone(),
            silences: consumer.silences.clone(),
            clock: consumer.clock.clone(),
            rollups: consumer.rollups.clone(),
            decoders: Decoders::new(consumer.catalog.clone(), {
                let settings = settings.clone();
                move |format| wiring::limits(&settings, format)
            }),
            reader,
            reloader: self.reloader.clone(),
            storage: Box::new(move || storages.report()),
            journal: Box::new(consumer.journal_report()),
            bus: Box::new(bus_report(bus, self.forwarder.as_ref().map(Forwarder::counters))),
            statsd: Box::new(move || statsd.as_ref().map_or_else(Vec::new, |counters| counters.snapshot())),
            memory_budget_bytes: settings.windows.memory_budget_bytes,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, Arc::new(app), stop.clone(), Duration::from_secs(1)));
        self.serving = Some((task, stop));
        Ok(())
    }

    async fn start_producing(&mut self, settings: &Settings, consumer: &Consumer) -> Result<(), StartError> {
        let inside = self.frontend.map(inside);
        let config =
            wiring::publisher(settings, inside.as_deref()).map_err(|e| StartError::Bus(e.to_string()))?;
        let publisher = Publisher::start(config).await.map_err(|e| StartError::Bus(e.to_string()))?;
        let collection = wiring::collection(settings);
        let mut opened = collectors::open(&collection).map_err(|e| StartError::Producer(e.to_string()))?;
        if settings.collection.application_metrics {
            opened.push(own::collector(settings, consumer));
        }
        let pace = ProducerConfig {
            interval: settings.service.interval,
            metrics_max: settings.service.batch_size,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(pace, opened).map_err(|e| StartError::Producer(e.to_string()))?;
        let envelope = settings.bus.envelope.clone();
        let in_one_frame = settings.bus.framing == crate::settings::Framing::Envelope;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            // A publisher that is not connected yet would drop the first round.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let publish = |topic: &str, payload: &[u8]| {
                let topic = if in_one_frame { envelope.as_str() } else { topic };
                publisher.send(topic.as_bytes(), payload);
            };
            producer.run(publish, stopped).await;
            publisher.shutdown().await;
        });
        self.producing = Some((task, stop));
        Ok(())
    }

    /// Stops in order; returns whether everything taken in reached its place in time.
    pub async fn stop(mut self) -> bool {
        let deadline = Instant::now() + self.stop_timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        if let Some(watching) = self.watching.take() {
            watching.abort();
        }
        let inputs = [self.producing.take(), self.receiving.take(), self.counting.take()];
        for (task, stop) in inputs.into_iter().flatten() {
            stop.cancel();
            let _ = tokio::time::timeout(left() / 4, task).await;
        }
        if let Some((_, stop)) = &self.serving {
            stop.cancel();
        }
        let drained = match self.consumer.take() {
            Some(consumer) => consumer.stop(left().mul_f64(0.9)).await,
            None => true,
        };
        if let Some((task, _)) = self.serving.take() {
            let _ = tokio::time::timeout(left(), task).await;
        }
        if let Some(forwarder) = self.forwarder.take() {
            let _ = tokio::time::timeout(left(), forwarder.shutdown()).await;
        }
        drained
    }
}

/// What the receiver counts, and behind it under `embedded_` what the embedded bus does.
fn bus_report(
    receiver: Option<Arc<BusCounters>>,
    embedded: Option<Arc<BusCounters>>,
) -> impl Fn() -> Vec<(String, u64)> {
    move || {
        let of =
            |counters: &Option<Arc<BusCounters>>| counters.as_ref().map_or_else(Vec::new, |c| c.snapshot());
        let received = of(&receiver).into_iter().map(|(name, count)| (name.to_string(), count));
        received
            .chain(of(&embedded).into_iter().map(|(name, count)| (format!("embedded_{name}"), count)))
            .collect()
    }
}

/// A producer has an engine for its own telemetry alone: it stores nothing and watches nothing.
fn own_only(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.storage.0.clear();
    settings.alerts.enabled = false;
    settings.performance.worker_count = 1;
    settings
}

/// How the process itself reaches a bound address.
fn inside(addr: SocketAddr) -> String {
    match addr.ip().is_unspecified() {
        true => format!("tcp://127.0.0.1:{}", addr.port()),
        false => format!("tcp://{addr}"),
    }
}
