//! The one door down: decoded samples become numbered epochs.
//!
//! Callers hand in whole batches; one thread seals what has gathered into an epoch, stamps the arrival clock,
//! has the journal write it, and submits it. While samples keep coming an epoch takes a few milliseconds; it closes earlier
//! when everybody who is on the way in has come and somebody waits for an answer, and at once after a pause. When nothing
//! comes, a heartbeat carries the clock. Full means [`Full`]: the caller answers 503 or waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dataflows::engine::Engine;
use dataflows::epoch::{Epoch, Request, SharedEpoch};
use operators::catalog::Catalog;
use operators::rollup::RollupChange;
use operators::rule::RuleChange;
use operators::sample::{DurationNs, HOUR, SECOND, Sample, TimeNs};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::keeper::Keeper;
use crate::recent::Recent;
use crate::requests::{Remembered, RememberedRequest};
use crate::telemetry::Telemetry;

/// Limits and pace of the door.
#[derive(Clone, Copy, Debug)]
pub struct IntakeConfig {
    /// Samples taken in but not yet visible; beyond, callers are held back.
    pub in_flight_max: usize,
    /// Shortest time between two epochs.
    pub epoch_min: Duration,
    /// Time between two epochs while samples keep coming: an epoch costs the same whether it carries one or thousands.
    pub epoch_busy: Duration,
    /// Longest time without an epoch.
    pub heartbeat: Duration,
    /// Bytes of panes; beyond, the oldest are given up.
    pub memory_budget_bytes: u64,
    /// Requests with an idempotency key that are remembered.
    pub requests_max: usize,
    /// For how long, by the arrival clock.
    pub requests_retention_ns: DurationNs,
    /// How long an answer waits for the journal.
    pub ack_timeout: Duration,
}

impl Default for IntakeConfig {
    fn default() -> Self {
        IntakeConfig {
            in_flight_max: 1_000_000,
            epoch_min: Duration::from_millis(1),
            epoch_busy: Duration::from_millis(4),
            heartbeat: Duration::from_millis(100),
            memory_budget_bytes: 1 << 30,
            requests_max: 100_000,
            requests_retention_ns: HOUR,
            ack_timeout: Duration::from_secs(5),
        }
    }
}

/// There is no room; here is the batch back, try again later.
#[derive(Clone, Debug, PartialEq)]
pub struct Full(pub Vec<Sample>);

/// Reads the arrival clock. Tests pass a clock of their own.
pub type Clock = Arc<dyn Fn() -> TimeNs + Send + Sync>;

/// What became of a request with an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its samples travel with this epoch.
    New(u64),
    /// It came before: its samples travelled with this epoch, and this is what was said of them.
    Before(u64, Request),
}

/// The door.
pub struct Intake {
    config: IntakeConfig,
    catalog: Arc<Catalog>,
    clock: Clock,
    keeper: Arc<Keeper>,
    open: Mutex<Open>,
    arrived: Condvar,
    /// Room was made, or the engine moved on.
    progress: watch::Sender<u64>,
    in_flight: AtomicU64,
    sealed: Mutex<VecDeque<Sealed>>,
    telemetry: Arc<Telemetry>,
}

struct Open {
    batches: Vec<Vec<Sample>>,
    requests: Vec<Request>,
    remembered: Remembered,
    first_at: Option<Instant>,
    /// Batches that were announced and have not come yet.
    announced: usize,
    /// Whether somebody waits for what gathers to be written.
    awaited: bool,
    /// Rules that come and go with the next epoch.
    rules: Option<RuleChange>,
    /// Rollups that come and go with the next epoch.
    rollups: RollupChange,
    /// Whether the sealer wants to know when `announced` falls to zero.
    pausing: bool,
    sealed: u64,
    /// Of the last epoch before the start.
    floor_ns: TimeNs,
    closed: bool,
}

/// A sealed epoch on its way to being visible.
struct Sealed {
    number: u64,
    samples: u64,
    /// When its first batch came.
    since: Option<Instant>,
    sealed_at: Instant,
}

impl Intake {
    /// A door whose epochs nobody seals yet; see [`Intake::seal_until_closed`].
    pub fn new(
        config: IntakeConfig,
        catalog: Arc<Catalog>,
        clock: Clock,
        keeper: Arc<Keeper>,
        telemetry: Arc<Telemetry>,
    ) -> Intake {
        let open = Open {
            batches: Vec::new(),
            requests: Vec::new(),
            remembered: Remembered::new(config.requests_max, config.requests_retention_ns),
            first_at: None,
            announced: 0,
            awaited: false,
            rules: None,
            rollups: RollupChange::default(),
            pausing: false,
            sealed: 0,
            floor_ns: TimeNs::MIN,
            closed: false,
        };
        Intake {
            config,
            catalog,
            clock,
            keeper,
            open: Mutex::new(open),
            arrived: Condvar::new(),
            progress: watch::Sender::new(0),
            in_flight: AtomicU64::new(0),
            sealed: Mutex::default(),
            telemetry,
        }
    }

    /// The arrival clock.
    pub fn now_ns(&self) -> TimeNs {
        (self.clock)()
    }

    /// Goes on behind `epoch`, the last one of the journal, with what is remembered of requests in it and before.
    pub fn resume(&self, epoch: &Epoch, requests: impl Iterator<Item = RememberedRequest>) {
        let mut open = self.open.lock();
        open.sealed = epoch.number;
        open.floor_ns = epoch.floor_ns;
        requests.for_each(|request| open.remembered.add(request));
        self.progress.send_replace(epoch.number);
    }

    /// Numbers the next epoch behind `epoch`, where something outside knows of epochs that the journal has lost:
    /// their numbers must not mean anything else.
    pub fn skip_to(&self, epoch: u64) {
        let mut open = self.open.lock();
        open.sealed = open.sealed.max(epoch);
    }

    /// Requests that are remembered and came with epochs up to `epoch`.
    pub fn remembered(&self, epoch: u64) -> Vec<RememberedRequest> {
        self.open.lock().remembered.upto(epoch)
    }

    /// Says that a batch is on its way whose sender waits for the answer.
    pub fn announce(&self) -> Announced<'_> {
        self.open.lock().announced += 1;
        Announced(self)
    }

    /// Takes in a batch and gives the epoch that will carry it, for `min_epoch` and [`Intake::is_safe`].
    ///
    /// # Errors
    /// If too much is in flight, the journal can't be written, or the door is closed.
    pub fn submit(&self, batch: Vec<Sample>) -> Result<u64, Full> {
        match self.submit_once(batch, None)? {
            Taken::New(epoch) | Taken::Before(epoch, _) => Ok(epoch),
        }
    }

    /// Takes in the batch of a request, unless the same request was taken in before.
    ///
    /// # Errors
    /// If too much is in flight, the journal can't be written, or the door is closed.
    pub fn submit_once(&self, batch: Vec<Sample>, request: Option<Request>) -> Result<Taken, Full> {
        let len = batch.len() as u64;
        let trouble = self.keeper.trouble().is_some();
        let mut open = self.open.lock();
        if let Some(before) = request.and_then(|request| open.remembered.find(request.key)) {
            self.telemetry.requests_repeated.fetch_add(1, Ordering::Relaxed);
            self.telemetry.samples_repeated.fetch_add(len, Ordering::Relaxed);
            return Ok(Taken::Before(before.epoch, before.request));
        }
        let full = self.in_flight.load(Ordering::Relaxed) >= self.config.in_flight_max as u64;
        if open.closed || full || trouble {
            self.telemetry.intake_full.fetch_add(1, Ordering::Relaxed);
            return Err(Full(batch));
        }
        let epoch = open.sealed + 1;
        if let Some(request) = request.filter(|_| len > 0) {
            open.requests.push(request);
            open.remembered.add(RememberedRequest { arrival_ns: self.now_ns(), epoch, request });
        }
        if len > 0 {
            self.in_flight.fetch_add(len, Ordering::Relaxed);
            open.first_at.get_or_insert_with(Instant::now);
            open.awaited |= open.announced > 0;
            let wake = open.batches.is_empty() && !open.pausing;
            open.batches.push(batch);
            drop(open);
            if wake {
                self.arrived.notify_one();
            }
        }
        Ok(Taken::New(epoch))
    }

    /// Has rules come and go with the next epoch, whose number it gives. Those of an earlier call for that epoch must be
    /// known to the caller: what is gone was there, or is added in it.
    pub fn change_rules(&self, change: RuleChange) -> u64 {
        let mut open = self.open.lock();
        let pending = open.rules.get_or_insert_default();
        pending.added.retain(|(number, _)| !change.removed.contains(number));
        pending.removed.extend(change.removed);
        for (number, rule) in change.added {
            pending.added.retain(|(added, _)| *added != number);
            pending.added.push((number, rule));
        }
        let epoch = open.sealed + 1;
        drop(open);
        self.arrived.notify_one();
        epoch
    }

    /// Has rollups come and go with the next epoch, whose number it gives. What goes was there, or comes with an
    /// earlier call.
    pub fn change_rollups(&self, change: RollupChange) -> u64 {
        let mut open = self.open.lock();
        let pending = &mut open.rollups;
        pending.added.retain(|(number, _)| !change.removed.contains(number));
        pending.removed.extend(change.removed);
        pending.added.extend(change.added);
        let epoch = open.sealed + 1;
        drop(open);
        self.arrived.notify_one();
        epoch
    }

    /// Waits for room, and for a journal that can be written.
    pub async fn room(&self) {
        let mut progress = self.progress.subscribe();
        loop {
            if self.keeper.trouble().is_some() {
                tokio::time::sleep(self.keeper.config().retry).await;
            } else if self.in_flight.load(Ordering::Relaxed) >= self.config.in_flight_max as u64 {
                // The sender lives as long as `self`.
                let _ = progress.changed().await;
            } else {
                return;
            }
        }
    }

    /// Waits until `epoch` is as durable as configured; `false` if that takes too long. What it carries may be
    /// taken in later all the same: a request without an idempotency key that is repeated then counts twice.
    pub async fn is_safe(&self, epoch: u64) -> bool {
        self.keeper.is_safe_within(epoch, self.config.ack_timeout).await
    }

    /// Why nothing is taken in at the moment, if the journal is the reason.
    pub fn trouble(&self) -> Option<String> {
        self.keeper.trouble()
    }

    /// Waits until `epoch` is visible to queries.
    pub async fn visible(&self, epoch: u64) {
        let mut progress = self.progress.subscribe();
        let _ = progress.wait_for(|completed| *completed >= epoch).await;
    }

    /// Raw samples in memory.
    pub fn recent(&self) -> &Recent {
        self.keeper.recent()
    }

    /// Samples taken in and not yet visible.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The last sealed epoch.
    pub fn sealed(&self) -> u64 {
        self.open.lock().sealed
    }

    /// Whether it takes anything in.
    pub fn is_open(&self) -> bool {
        !self.open.lock().closed
    }

    /// Takes nothing in any more. What is inside still goes down.
    pub fn close(&self) {
        self.open.lock().closed = true;
        self.arrived.notify_one();
    }

    /// How long the oldest sealed epoch has been waiting to be complete.
    pub fn oldest_wait(&self) -> Option<Duration> {
        self.sealed.lock().front().map(|front| front.sealed_at.elapsed())
    }

    /// To be called when `epoch` is complete on all workers.
    pub fn completed(&self, epoch: u64) {
        let now = Instant::now();
        let mut sealed = self.sealed.lock();
        while let Some(front) = sealed.front().filter(|front| front.number <= epoch) {
            self.in_flight.fetch_sub(front.samples, Ordering::Relaxed);
            if let Some(since) = front.since {
                self.telemetry.arrival_to_visible.record(now - since);
            }
            sealed.pop_front();
        }
        drop(sealed);
        self.progress.send_replace(epoch);
    }

    /// Seals epochs, has them written and submits them until the door is closed and empty. `between` is called
    /// behind each, on this thread: what it asks of the engine takes effect between that epoch and the next.
    /// Runs on a thread of its own.
    pub fn seal_until_closed(&self, engine: &Engine, mut between: impl FnMut(&SharedEpoch)) {
        let mut budget = Budget {
            bytes_max: self.config.memory_budget_bytes,
            floor_ns: self.open.lock().floor_ns,
            checked_ns: TimeNs::MIN,
        };
        loop {
            let Gathered { number, batches, requests, rules, rollups, since, closed, waited } = self.gather();
            // Entries are taken after the batches: whoever pushed a sample had resolved its series before.
            let entries = self.catalog.take_fresh();
            let arrival_ns = self.now_ns();
            let floor_ns = budget.floor_ns(engine, arrival_ns);
            let epoch = Epoch { number, arrival_ns, floor_ns, batches, entries, requests, rules, rollups };
            let epoch = Arc::new(epoch);
            let samples = epoch.len() as u64;
            self.sealed.lock().push_back(Sealed { number, samples, since, sealed_at: Instant::now() });
            self.telemetry.epochs.fetch_add(1, Ordering::Relaxed);
            if self.keeper.append(&epoch).is_err() {
                self.telemetry.samples_given_up.fetch_add(samples, Ordering::Relaxed);
                tracing::error!(samples, "the journal can't be written and the service stops; given up");
                return;
            }
            engine.submit(epoch.clone());
            between(&epoch);
            if closed && samples == 0 {
                return;
            }
            std::thread::sleep(self.config.epoch_min);
            if !waited {
                self.pause(self.config.epoch_busy.saturating_sub(self.config.epoch_min));
            }
        }
    }

    /// Lets the next epoch gather for up to `longest`, unless all who wait for it are in.
    fn pause(&self, longest: Duration) {
        let deadline = Instant::now() + longest;
        let mut open = self.open.lock();
        open.pausing = true;
        while !(open.closed || open.awaited && open.announced == 0) && Instant::now() < deadline {
            self.arrived.wait_until(&mut open, deadline);
        }
        open.pausing = false;
    }

    /// Waits for something to seal, or for the heartbeat.
    fn gather(&self) -> Gathered {
        let mut open = self.open.lock();
        let waited = open.batches.is_empty() && open.rules.is_none() && open.rollups.is_empty();
        if waited && !open.closed {
            self.arrived.wait_for(&mut open, self.config.heartbeat);
        }
        // In the same breath as the batches go: whoever comes now is told the next epoch.
        open.sealed += 1;
        open.awaited = false;
        Gathered {
            number: open.sealed,
            batches: std::mem::take(&mut open.batches),
            requests: std::mem::take(&mut open.requests),
            rules: open.rules.take().map(Arc::new),
            rollups: std::mem::take(&mut open.rollups),
            since: open.first_at.take(),
            closed: open.closed,
            waited,
        }
    }
}

/// A batch on its way in. Dropped when it has come, or will not.
pub struct Announced<'a>(&'a Intake);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        let mut open = self.0.open.lock();
        open.announced -= 1;
        let last = open.pausing && open.awaited && open.announced == 0;
        drop(open);
        if last {
            self.0.arrived.notify_one();
        }
    }
}

/// What gathered for an epoch.
struct Gathered {
    /// Number of the epoch.
    number: u64,
    batches: Vec<Vec<Sample>>,
    requests: Vec<Request>,
    rules: Option<Arc<RuleChange>>,
    rollups: RollupChange,
    /// When the first of it came.
    since: Option<Instant>,
    /// Whether the door is closed.
    closed: bool,
    /// Whether nothing had come yet when the sealer looked.
    waited: bool,
}

/// Decides which panes are given up. A decision of the edge, so it travels in the epochs.
struct Budget {
    bytes_max: u64,
    floor_ns: TimeNs,
    checked_ns: TimeNs,
}

impl Budget {
    /// The floor as of `arrival_ns`; looked at once a second.
    fn floor_ns(&mut self, engine: &Engine, arrival_ns: TimeNs) -> TimeNs {
        if arrival_ns < self.checked_ns.saturating_add(SECOND) {
            return self.floor_ns;
        }
        self.checked_ns = arrival_ns;
        let bytes: u64 = engine.shards().iter().map(|shard| shard.read().counts.bytes).sum();
        if bytes > self.bytes_max {
            let shards = engine.shards().iter().enumerate();
            let spans = shards.filter_map(|(index, shard)| shard.read().span_ns(index));
            if let Some((oldest_ns, newest_ns)) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
                // A twentieth of what is held a second: the sweep takes a few to show what that freed.
                let step_ns = newest_ns.saturating_sub(oldest_ns) / 20;
                self.floor_ns = self.floor_ns.max(oldest_ns.saturating_add(step_ns.max(1)));
            }
        }
        self.floor_ns
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
