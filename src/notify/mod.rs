//! Alert transitions -> receivers.
//!
//! [`Notifier::notify`] puts a transition into a bounded queue and returns; it never waits. One task
//! takes what is ready, posts it, and tries again while the receiver fails, so a receiver that is
//! down slows nobody. Transitions of an alert arrive in the order they were put in; one may arrive
//! twice (an answer that got lost), with the same `id`, `status` and `timestamp`.
//!
//! # Layout
//! - [`queue`]: what waits, and what goes when it is full
//! - [`webhook`]: the documented payload, one attempt to post it, and what its answer means
//! - [`receipt`]: which transitions are settled, for the next start
//! - [`retry`]: how long to wait before the next attempt

pub mod queue;
pub mod receipt;
pub mod retry;
pub mod webhook;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use operators::sample::TimeNs;
use operators::series::Target;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use queue::{Dropped, Queue};
use receipt::Receipt;
use retry::Backoff;
use webhook::{Verdict, Webhook};

/// What an alert has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The breach has lasted long enough.
    Firing,
    /// The breach has ended.
    Resolved,
}

impl Status {
    /// As the payload says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Firing => "firing",
            Status::Resolved => "resolved",
        }
    }
}

/// One transition of one alert, with everything that a receiver is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The alert: the same for all transitions of a rule and series.
    pub id: u128,
    /// Name of the rule.
    pub rule: Arc<str>,
    /// Service and tags of the series.
    pub target: Arc<Target>,
    /// Metric name of the series.
    pub metric: Arc<str>,
    /// Severity, as the rule says it.
    pub severity: Arc<str>,
    /// Message, as the rule says it.
    pub message: Arc<str>,
    /// Value of the sample that decided.
    pub value: f64,
    /// Threshold of the rule.
    pub threshold: f64,
    /// Event time of the transition.
    pub time_ns: TimeNs,
    /// Event time at which the breach began.
    pub started_ns: TimeNs,
    /// What the alert has become.
    pub status: Status,
    /// Settled when nothing more will be done for it.
    pub receipt: Receipt,
}

/// Whom to notify, and with how much patience.
#[derive(Clone, Debug)]
pub struct NotifyConfig {
    /// Address that is posted to, `http` or `https`; a name and password in it are sent as basic
    /// authorization.
    pub webhook_url: String,
    /// Transitions that may wait.
    pub queue_len_max: usize,
    /// Transitions in one post.
    pub batch_len_max: usize,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Wait after the first failed attempt; doubles with each further one.
    pub backoff_min: Duration,
    /// Longest wait between two attempts.
    pub backoff_max: Duration,
    /// Longest wait that a receiver may ask for by `Retry-After`.
    pub retry_after_max: Duration,
    /// Time after which a batch that still fails is given up, counted and logged.
    pub give_up_after: Duration,
    /// Seed of the jitter; `None` takes another one in every process.
    pub jitter_seed: Option<u64>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        NotifyConfig {
            webhook_url: "http://127.0.0.1:9093/api/v1/alerts".into(),
            queue_len_max: 10_000,
            batch_len_max: 64,
            timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(300),
            give_up_after: Duration::from_secs(3600),
            jitter_seed: None,
        }
    }
}

/// A configuration that cannot be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyError(pub String);

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotifyError {}

/// What has become of the transitions so far. Each one that was put in ends in exactly one of
/// `delivered`, `superseded`, `turned_away`, `rejected`, `given_up`, `left_at_stop`, or still waits.
#[derive(Debug, Default)]
pub struct NotifyCounters {
    /// Put in.
    pub notified: AtomicU64,
    /// Taken by the receiver.
    pub delivered: AtomicU64,
    /// Dropped from a full queue, their alert having a newer transition.
    pub superseded: AtomicU64,
    /// Not let into a full queue, or after the stop.
    pub turned_away: AtomicU64,
    /// Refused by the receiver for good.
    pub rejected: AtomicU64,
    /// Given up after the longest time of trying.
    pub given_up: AtomicU64,
    /// Not delivered when the deadline of the stop came.
    pub left_at_stop: AtomicU64,
    /// Attempts to post.
    pub attempts: AtomicU64,
    /// Attempts that failed and were tried again.
    pub retries: AtomicU64,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// The door: takes transitions. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    in_flight: AtomicUsize,
    closing: AtomicBool,
    /// Something was put in, or closing began.
    wake: Notify,
    counters: NotifyCounters,
}

impl Notifier {
    /// Starts the task that delivers, on the runtime of the caller.
    ///
    /// # Errors
    /// An address that is none, or TLS roots that cannot be read.
    pub fn start(config: NotifyConfig) -> Result<(Notifier, Running), NotifyError> {
        let webhook = Webhook::new(&config.webhook_url, config.timeout)?;
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(config.queue_len_max)),
            in_flight: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            wake: Notify::new(),
            counters: NotifyCounters::default(),
        });
        let backoff = Backoff::new(config.backoff_min, config.backoff_max, config.jitter_seed);
        let courier = Courier { shared: Arc::clone(&shared), config, webhook, backoff, hurried: false };
        let task = tokio::spawn(courier.run());
        Ok((Notifier(Arc::clone(&shared)), Running { shared, task }))
    }

    /// Puts `notification` into the queue. Never waits.
    pub fn notify(&self, notification: Notification) {
        let counters = &self.0.counters;
        add(&counters.notified, 1);
        let mut queue = self.0.queue.lock();
        // Read under the lock, so that nothing gets in behind the last look of the courier.
        if self.0.closing.load(Ordering::SeqCst) {
            add(&counters.turned_away, 1);
            return;
        }
        match queue.push(notification) {
            None => {}
            Some(Dropped::Superseded) => add(&counters.superseded, 1),
            Some(Dropped::Newest) => add(&counters.turned_away, 1),
        }
        drop(queue);
        self.0.wake.notify_one();
    }

    /// What has become of the transitions so far.
    pub fn counters(&self) -> &NotifyCounters {
        &self.0.counters
    }

    /// Transitions that wait or are being posted.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }
}

impl Shared {
    fn waiting(&self) -> usize {
        self.queue.lock().len() + self.in_flight.load(Ordering::SeqCst)
    }
}

/// The task that delivers.
pub struct Running {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Running {
    /// Takes nothing more in, tries at once what waits for another attempt, and goes on until
    /// everything is delivered or `deadline` has passed. Returns how many transitions were left.
    pub async fn stop(mut self, deadline: Duration) -> usize {
        {
            let _queue = self.shared.queue.lock();
            self.shared.closing.store(true, Ordering::SeqCst);
        }
        self.shared.wake.notify_one();
        if tokio::time::timeout(deadline, &mut self.task).await.is_err() {
            self.task.abort();
            // Cancelled, as it was asked to be.
            let _ = self.task.await;
        }
        let left = self.shared.waiting();
        if left > 0 {
            add(&self.shared.counters.left_at_stop, left);
            tracing::warn!(left, "alert transitions were not delivered before the stop");
        }
        left
    }
}

/// Takes batches out of the queue and stays with each until it is delivered, refused or given up.
struct Courier {
    shared: Arc<Shared>,
    config: NotifyConfig,
    webhook: Webhook,
    backoff: Backoff,
    /// Closing has already cut a wait short.
    hurried: bool,
}

impl Courier {
    async fn run(mut self) {
        loop {
            let batch = {
                let mut queue = self.shared.queue.lock();
                let batch = queue.take(self.config.batch_len_max.max(1));
                self.shared.in_flight.store(batch.len(), Ordering::SeqCst);
                batch
            };
            if !batch.is_empty() {
                self.deliver(batch).await;
            } else if self.shared.closing.load(Ordering::SeqCst) {
                return;
            } else {
                self.shared.wake.notified().await;
            }
        }
    }

    /// A batch that is refused may hold one bad transition: it is halved until that one stands alone.
    async fn deliver(&mut self, batch: Vec<Notification>) {
        let mut parts = VecDeque::from([batch]);
        while let Some(mut part) = parts.pop_front() {
            let len = part.len();
            let counter = match self.try_until_decided(&part).await {
                Decided::Delivered => &self.shared.counters.delivered,
                Decided::Halve => {
                    let rest = part.split_off(len / 2);
                    parts.push_front(rest);
                    parts.push_front(part);
                    continue;
                }
                Decided::Rejected(reason) => {
                    tracing::error!(alerts = len, reason, "the receiver refused alert transitions");
                    &self.shared.counters.rejected
                }
                Decided::GivenUp(reason) => {
                    tracing::error!(alerts = len, reason, "gave up alert transitions");
                    &self.shared.counters.given_up
                }
            };
            add(counter, len);
            part.iter_mut().for_each(|notification| notification.receipt.settle());
            self.shared.in_flight.fetch_sub(len, Ordering::SeqCst);
        }
    }

    async fn try_until_decided(&mut self, part: &[Notification]) -> Decided {
        let began = Instant::now();
        for attempt in 0.. {
            add(&self.shared.counters.attempts, 1);
            let (after, reason) = match self.webhook.post(part).await {
                Verdict::Delivered => return Decided::Delivered,
                Verdict::Unreadable(_) if part.len() > 1 => return Decided::Halve,
                Verdict::Unreadable(reason) | Verdict::Refused(reason) => return Decided::Rejected(reason),
                Verdict::Again { after, reason } => (after, reason),
            };
            if began.elapsed() >= self.config.give_up_after {
                return Decided::GivenUp(reason);
            }
            add(&self.shared.counters.retries, 1);
            let asked = after.unwrap_or_default().min(self.config.retry_after_max);
            let wait = self.backoff.wait(attempt).max(asked);
            tracing::warn!(attempt, ?wait, reason, "the receiver of alerts failed, trying again");
            self.pause(wait).await;
        }
        unreachable!("the attempts are not counted to an end")
    }

    /// Waits, but not on once closing begins.
    async fn pause(&mut self, wait: Duration) {
        let end = tokio::time::Instant::now() + wait;
        while !self.hurried {
            if self.shared.closing.load(Ordering::SeqCst) {
                self.hurried = true;
                return;
            }
            let woken = tokio::time::timeout_at(end, self.shared.wake.notified()).await;
            if woken.is_err() {
                return;
            }
        }
        tokio::time::sleep_until(end).await;
    }
}

enum Decided {
    Delivered,
    Halve,
    Rejected(String),
    GivenUp(String),
}
