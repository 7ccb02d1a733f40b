//! Between the engine and a sink: a bounded queue, and a thread that empties it.
//!
//! [`Delivery::offer`] never waits. When the queue is full, by samples or by bytes, the batch that
//! comes is turned away and its samples are counted. The sink's thread takes what is there in
//! batches, repeats with exponential back-off what the sink could not take yet, gives up what the
//! sink refuses for its content, and flushes at an interval. The states of all this are one plain
//! struct without a clock (`courier`), which the thread moves on and tests drive by hand.
//!
//! A journal will stand in the place of the queue: the courier then reads on from the position of
//! the last successful flush instead of dropping.

mod courier;
pub mod source;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::message::Message;
use crate::sinks::{Reader, Sink, SinkStatus};
use courier::{Courier, Next};

/// Settings of one delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryConfig {
    /// Samples that may wait.
    pub queue_samples_max: u64,
    /// Bytes that may wait, estimated.
    pub queue_bytes_max: u64,
    /// So many samples are written at once, if they are there.
    pub batch_samples: u64,
    /// What was written is made durable this often.
    pub flush_interval: Duration,
    /// Pause after a first failure; it doubles with each further one.
    pub retry_min: Duration,
    /// The longest pause.
    pub retry_max: Duration,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        DeliveryConfig {
            queue_samples_max: 1_000_000,
            queue_bytes_max: 128 << 20,
            batch_samples: 10_000,
            flush_interval: Duration::from_secs(10),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
        }
    }
}

/// What was done since the start, in samples unless said otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Taken into the queue.
    pub accepted: AtomicU64,
    /// Turned away because the queue was full or already closed.
    pub dropped: AtomicU64,
    /// Handed to the sink.
    pub written: AtomicU64,
    /// Durable: written before a flush that succeeded.
    pub delivered: AtomicU64,
    /// Given up because the sink refused them.
    pub failed: AtomicU64,
    /// Batches given up because the sink refused them.
    pub poison_batches: AtomicU64,
    /// Writes and flushes that have to be tried again.
    pub retried: AtomicU64,
}

/// A running delivery: the engine's side.
pub struct Delivery {
    shared: Arc<Shared>,
    reader: Option<Arc<dyn Reader>>,
    ended: Mutex<mpsc::Receiver<()>>,
}

/// What is left at the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drained {
    /// Whether everything became durable before the deadline.
    pub complete: bool,
    /// Samples accepted that neither became durable nor were refused.
    pub lost_samples: u64,
}

struct Shared {
    config: DeliveryConfig,
    queue: Mutex<Queue>,
    /// Told of a batch that came, and of the end.
    changed: Condvar,
    counters: Counters,
    status: Mutex<SinkStatus>,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    /// Of the waiting batches and of the one being written.
    samples: u64,
    bytes: u64,
    /// When the courier must have ended, once it shall end.
    deadline: Option<Instant>,
}

struct Batch {
    messages: Vec<Message>,
    samples: u64,
    bytes: u64,
    came: Instant,
}

impl Delivery {
    /// Gives `sink` a thread of its own.
    ///
    /// # Errors
    /// The operating system has no thread left.
    pub fn start(sink: Box<dyn Sink>, config: DeliveryConfig) -> std::io::Result<Delivery> {
        let shared = Arc::new(Shared {
            config,
            queue: Mutex::default(),
            changed: Condvar::new(),
            counters: Counters::default(),
            status: Mutex::new(sink.status()),
        });
        let reader = sink.reader();
        let (end, ended) = mpsc::sync_channel(1);
        let courier = Courier::new(sink, shared.clone(), Instant::now());
        thread::Builder::new().name("sink".into()).spawn(move || {
            run(courier);
            let _ = end.send(());
        })?;
        Ok(Delivery { shared, reader, ended: Mutex::new(ended) })
    }

    /// Puts messages into the queue; returns how many samples were turned away (none or all).
    pub fn offer(&self, messages: Vec<Message>) -> u64 {
        self.shared.offer(messages, Instant::now())
    }

    /// How the sink is, with the figures of the queue before it.
    pub fn status(&self) -> SinkStatus {
        self.shared.status(Instant::now())
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Reads back what the sink stored, if it can.
    pub fn reader(&self) -> Option<Arc<dyn Reader>> {
        self.reader.clone()
    }

    /// Takes nothing more, writes and flushes what is there, and waits for it until `within` is over.
    /// A sink that still hangs then is left alone with its thread.
    pub fn stop(&self, within: Duration) -> Drained {
        let deadline = Instant::now() + within;
        self.shared.queue.lock().deadline = Some(deadline);
        self.shared.changed.notify_all();
        let ended = self.ended.lock().recv_timeout(within).is_ok();
        let lost_samples = self.shared.open_samples();
        Drained { complete: ended && lost_samples == 0, lost_samples }
    }
}

impl Drop for Delivery {
    /// Ends the thread without waiting for it, if [`Delivery::stop`] has not.
    fn drop(&mut self) {
        self.shared.queue.lock().deadline.get_or_insert_with(Instant::now);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn offer(&self, messages: Vec<Message>, now: Instant) -> u64 {
        let samples = messages.iter().map(|message| message.metrics.len() as u64).sum();
        if samples == 0 {
            return 0;
        }
        let bytes = messages.iter().map(bytes_of).sum();
        let mut queue = self.queue.lock();
        let full = queue.samples + samples > self.config.queue_samples_max
            || queue.bytes + bytes > self.config.queue_bytes_max;
        if full || queue.deadline.is_some() {
            self.counters.dropped.fetch_add(samples, Relaxed);
            return samples;
        }
        queue.samples += samples;
        queue.bytes += bytes;
        queue.batches.push_back(Batch { messages, samples, bytes, came: now });
        self.counters.accepted.fetch_add(samples, Relaxed);
        drop(queue);
        self.changed.notify_one();
        0
    }

    /// Samples accepted of which nothing final is known yet.
    fn open_samples(&self) -> u64 {
        let counters = &self.counters;
        let done = counters.delivered.load(Relaxed) + counters.failed.load(Relaxed);
        counters.accepted.load(Relaxed).saturating_sub(done)
    }

    fn status(&self, now: Instant) -> SinkStatus {
        let mut status = self.status.lock().clone();
        let queue = self.queue.lock();
        status.lag_bytes = queue.bytes;
        if let Some(oldest) = queue.batches.front() {
            let waited = now.saturating_duration_since(oldest.came).as_secs_f64();
            status.lag_seconds = status.lag_seconds.max(waited);
        }
        drop(queue);
        status.lag_samples = self.open_samples();
        status.delivered = self.counters.delivered.load(Relaxed);
        status.failed += self.counters.failed.load(Relaxed);
        status.dropped = self.counters.dropped.load(Relaxed);
        status.retried = self.counters.retried.load(Relaxed);
        status
    }
}

/// A message's size in memory, taking its target for its own.
fn bytes_of(message: &Message) -> u64 {
    let tags = message.target.tags.iter().map(|(name, value)| name.len() + value.len() + 32);
    let target = message.target.service.len() + tags.sum::<usize>();
    (size_of::<Message>() + target + 24 * message.metrics.len()) as u64
}

/// The sink's thread.
fn run(mut courier: Courier) {
    loop {
        match courier.step(Instant::now()) {
            Next::Now => {}
            Next::Never => return,
            Next::At(at) => {
                let mut queue = courier.shared.queue.lock();
                if queue.batches.is_empty() && queue.deadline.is_none() {
                    courier.shared.changed.wait_until(&mut queue, at);
                }
            }
            Next::NotBefore(at) => {
                let mut queue = courier.shared.queue.lock();
                let stopping = queue.deadline.is_some();
                while queue.deadline.is_some() == stopping {
                    if courier.shared.changed.wait_until(&mut queue, at).timed_out() {
                        break;
                    }
                }
            }
        }
    }
}
