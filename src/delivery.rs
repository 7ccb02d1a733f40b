//! Between a log of epochs and a sink: a reader with a cursor, on a thread of its own.
//!
//! A delivery reads the log behind its position in stretches of whole epochs, writes them to the sink, and
//! flushes at an interval; then its cursor, which is durable, moves on. So a sink that is slow or away
//! holds nobody up and costs no memory but one stretch: what it has not got is in the log, and after a
//! crash is read again from the cursor. A sink that keeps the cursor inside its own data gets every sample
//! once; for the others a small file keeps it ([`CursorStore`]), and what was written after the last
//! flush is written a second time, which does no harm to a sink that stores by key.
//!
//! A target that can't take samples now is asked again, with pauses that double, for ever. What it refuses
//! for its content is bisected to the sample, which goes to the [`DeadLetters`]. A target that refuses
//! sample after sample is taken for the one that is wrong: see [`DeliveryConfig::refusals_max`].
//!
//! # Layout
//! - [`source`]: the log, as a delivery sees it; [`memory`]: one without a disk
//! - `courier`: all that a delivery does, as steps that are given the time
//! - `load`: what it has in its hands, and the bisection; `backoff`: how long it waits
//! - [`CursorStore`], [`DeadLetters`]: its two files

mod backoff;
mod courier;
mod cursor;
mod dead_letters;
mod load;
pub mod memory;
pub mod source;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::mpsc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use operators::sample::TimeNs;
use parking_lot::Mutex;

use crate::sinks::{Position, Reader, Sink, SinkStatus};
use courier::{Courier, Next};
pub use cursor::{CursorStore, Stored};
pub(crate) use cursor::{overwrite, replace};
pub use dead_letters::{DeadLetters, DeadLettersConfig};
use source::{Lag, Source};

/// Settings of one delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryConfig {
    /// At most so many samples are written at once.
    pub batch_samples: u64,
    /// What was written is made durable this often; as long a batch that is not full is waited for.
    pub flush_interval: Duration,
    /// When the log's end was reached, it is not looked at again before this, so that a log of
    /// many small epochs is not read one by one.
    pub gather: Duration,
    /// Shortest pause after a failure.
    pub retry_min: Duration,
    /// Longest pause after a failure.
    pub retry_max: Duration,
    /// A target's `Retry-After` counts up to this.
    pub retry_after_max: Duration,
    /// So many samples refused one after another, and none taken between them, and the target is taken to be
    /// wrong, not the samples: the next one is not dead-lettered but offered again after a pause as after
    /// any failure, and the status says so. A target that refuses everything thus costs no more than this many
    /// samples for each pause, and a run of samples that are really bad gets through at that rate.
    /// With 0, no sample is ever given up.
    pub refusals_max: u64,
    /// Where to begin when neither the sink nor the cursor store knows: behind this epoch. 0 is the oldest
    /// that the log holds.
    pub start_after: Position,
    /// For the jitter of the pauses. Deliveries with the same seed pause alike.
    pub seed: u64,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        DeliveryConfig {
            batch_samples: 10_000,
            flush_interval: Duration::from_secs(10),
            gather: Duration::from_millis(100),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(300),
            refusals_max: 100,
            start_after: 0,
            seed: 0,
        }
    }
}

/// What was done since the start, in samples unless said otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Read from the log.
    pub read: AtomicU64,
    /// Taken by the sink.
    pub written: AtomicU64,
    /// Durable: taken before a flush that succeeded.
    pub delivered: AtomicU64,
    /// Refused one by one, and put to the dead letters.
    pub dead_lettered: AtomicU64,
    /// Dead letters that had to go for the size of their file.
    pub forgotten: AtomicU64,
    /// Reads, writes and flushes that have to be tried again.
    pub retried: AtomicU64,
    /// Writes refused for their content, of one sample or more.
    pub refused_writes: AtomicU64,
    /// Epochs that the log had lost before they were read.
    pub missed_epochs: AtomicU64,
    /// Cursor files that made no sense.
    pub damaged_cursors: AtomicU64,
}

/// A running delivery.
pub struct Delivery {
    shared: Arc<Shared>,
    reader: Option<Arc<dyn Reader>>,
    thread: Thread,
    ended: Mutex<mpsc::Receiver<()>>,
}

/// How far a delivery came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopped {
    /// Whether everything that the log held became durable in time. What did not is still in the log.
    pub complete: bool,
    /// The last epoch that is stored whole.
    pub cursor: Position,
    /// What the log holds behind it, as far as it is known.
    pub left: Lag,
}

/// What the courier tells, and is told.
struct Shared {
    name: Box<str>,
    /// There may be something new in the log.
    fresh: AtomicBool,
    /// When the courier must have ended, once it shall end.
    deadline: Mutex<Option<Instant>>,
    durable: AtomicU64,
    /// All that was there was delivered; set at the end.
    complete: AtomicBool,
    counters: Counters,
    shown: Mutex<Shown>,
}

/// What the courier last saw.
struct Shown {
    status: SinkStatus,
    lag: Lag,
    lag_samples: u64,
    dead_letter_bytes: u64,
}

/// One moment, on the clock that only runs forward and on that of people.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    wall_ns: TimeNs,
}

impl Delivery {
    /// Gives `sink` a thread of its own, which feeds it from `source`: from the sink's own cursor on, else from
    /// that in `cursor`, else from [`DeliveryConfig::start_after`].
    ///
    /// # Errors
    /// The cursor's file can't be read, or the operating system has no thread left.
    pub fn start(
        name: &str,
        sink: Box<dyn Sink>,
        source: Box<dyn Source>,
        cursor: CursorStore,
        dead_letters: DeadLetters,
        config: DeliveryConfig,
    ) -> io::Result<Delivery> {
        let shared = Arc::new(Shared::new(name, sink.status()));
        let reader = sink.reader();
        let (end, ended) = mpsc::sync_channel(1);
        let courier = Courier::new(sink, source, cursor, dead_letters, config, shared.clone())?;
        let run = move || {
            run(courier);
            let _ = end.send(());
        };
        let thread = thread::Builder::new().name(format!("sink {name}")).spawn(run)?.thread().clone();
        Ok(Delivery { shared, reader, thread, ended: Mutex::new(ended) })
    }

    /// There is something new in the log. Cheap, and never waits.
    pub fn wake(&self) {
        if !self.shared.fresh.swap(true, AcqRel) {
            self.thread.unpark();
        }
    }

    /// How the sink is, and how far it is behind the log.
    pub fn status(&self) -> SinkStatus {
        self.shared.status(Moment::now().wall_ns)
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Reads back what the sink stored, if it can.
    pub fn reader(&self) -> Option<Arc<dyn Reader>> {
        self.reader.clone()
    }

    /// The last epoch that is stored whole: the log may forget everything up to it.
    pub fn cursor(&self) -> Position {
        self.shared.durable.load(Acquire)
    }

    /// Delivers what the log holds, as long as `within` lasts, and ends. A sink that still hangs then is left
    /// alone with its thread. What is not delivered stays in the log, for the next start.
    pub fn stop(&self, within: Duration) -> Stopped {
        *self.shared.deadline.lock() = Some(Instant::now() + within);
        self.thread.unpark();
        let ended = self.ended.lock().recv_timeout(within).is_ok();
        let left = self.shared.shown.lock().lag;
        let complete = ended && self.shared.complete.load(Acquire);
        Stopped { complete, cursor: self.cursor(), left }
    }
}

impl Drop for Delivery {
    /// Ends the thread without waiting for it, if [`Delivery::stop`] has not.
    fn drop(&mut self) {
        self.shared.deadline.lock().get_or_insert_with(Instant::now);
        self.thread.unpark();
    }
}

impl Shared {
    fn new(name: &str, status: SinkStatus) -> Self {
        let shown = Shown { status, lag: Lag::default(), lag_samples: 0, dead_letter_bytes: 0 };
        Shared {
            name: name.into(),
            fresh: AtomicBool::new(true),
            deadline: Mutex::new(None),
            durable: AtomicU64::new(0),
            complete: AtomicBool::new(false),
            counters: Counters::default(),
            shown: Mutex::new(shown),
        }
    }

    fn status(&self, wall_ns: TimeNs) -> SinkStatus {
        let shown = self.shown.lock();
        let mut status = shown.status.clone();
        let waited_ns = shown.lag.since_ns.map_or(0, |since_ns| wall_ns.saturating_sub(since_ns).max(0));
        status.lag_seconds = waited_ns as f64 / 1e9;
        status.lag_epochs = shown.lag.epochs;
        status.lag_bytes = shown.lag.bytes;
        status.lag_samples = shown.lag_samples;
        status.dead_letter_bytes = shown.dead_letter_bytes;
        drop(shown);
        let counters = &self.counters;
        status.name = self.name.to_string();
        status.delivered = counters.delivered.load(Relaxed);
        status.retried = counters.retried.load(Relaxed);
        status.dead_lettered = counters.dead_lettered.load(Relaxed);
        status.dead_letters_forgotten = counters.forgotten.load(Relaxed);
        status.missed_epochs = counters.missed_epochs.load(Relaxed);
        status.cursor = self.durable.load(Acquire);
        status
    }
}

impl Moment {
    fn now() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Moment { at: Instant::now(), wall_ns: TimeNs::try_from(wall.as_nanos()).unwrap_or(TimeNs::MAX) }
    }
}

/// The sink's thread. Who wakes it unparks it, so nothing is missed between a step and the sleep after it.
fn run(mut courier: Courier) {
    loop {
        match courier.step(Moment::now()) {
            Next::Now => {}
            Next::At(at) => thread::park_timeout(at.saturating_duration_since(Instant::now())),
            Next::Never => return,
        }
    }
}

/// The directory that a file is in.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
