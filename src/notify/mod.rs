//! Alert transitions -> receivers.
//!
//! [`Notifier::notify`] puts a transition into a bounded queue and returns; it never waits. One task
//! takes what is due, sends it, and tries again while the receiver fails, so a receiver that is
//! down slows nobody. Transitions of an alert arrive in the order they were put in; one may arrive
//! twice (an answer that got lost), with the same `id`, `status` and `timestamp`.
//!
//! # Layout
//! - [`receivers`]: all of them, what each has settled, and the files that keep it
//! - [`config`]: whom to notify, and how; [`counters`]: what became of the transitions
//! - [`desk`]: the state of one receiver, without IO: groups, silences, what is told again; [`queue`]: what waits, and
//!   what goes when it is full
//! - `courier`: the task that sends; [`retry`]: how long to wait before the next attempt
//! - [`webhook`]: one attempt over HTTP, and what its answer means; `client`: TLS, headers, signature;
//!   [`payload`]: the documented one; [`alertmanager`]: that of Alertmanager, and how one is recognised; `command`:
//!   programs
//! - [`receipt`]: which transitions are settled, for the next start
//! - [`matcher`], [`silence`]: which alerts something is about, and what nobody is told of

pub mod alertmanager;
mod client;
mod command;
pub mod config;
pub mod counters;
mod courier;
pub mod desk;
pub mod matcher;
pub mod payload;
pub mod queue;
pub mod receipt;
pub mod receivers;
pub mod retry;
pub mod silence;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use operators::alerts::Expected;
use operators::sample::TimeNs;
use operators::series::Target;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use config::{Channel, Dialect, HttpConfig, ReceiverConfig};
pub use counters::NotifyCounters;
use counters::add;
use courier::{Channels, Courier};
use desk::{Desk, Memory};
use matcher::Subject;
use receipt::Receipt;
use silence::Silences;

use crate::intake::Clock;

/// What an alert has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// The breach has lasted long enough.
    Firing,
    /// The breach has ended.
    Resolved,
    /// The breach, as is known now, never lasted long enough.
    Retracted,
}

impl Status {
    /// As the payload says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Firing => "firing",
            Status::Resolved => "resolved",
            Status::Retracted => "retracted",
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
    /// Further labels that the rule gives, in their order.
    pub labels: Arc<[(Arc<str>, String)]>,
    /// Further texts that the rule gives.
    pub annotations: Arc<[(Arc<str>, String)]>,
    /// What a detector expected, and why the sample is strange.
    pub expected: Option<Expected>,
    /// Event time of the transition.
    pub time_ns: TimeNs,
    /// Event time at which the breach began.
    pub started_ns: TimeNs,
    /// What the alert has become.
    pub status: Status,
    /// Settled when nothing more will be done for it.
    pub receipt: Receipt,
}

impl Notification {
    /// What matchers compare.
    pub fn subject(&self) -> Subject<'_> {
        Subject { rule: &self.rule, severity: &self.severity, target: &self.target }
    }

    /// The id as receivers see it: 32 hexadecimal digits.
    pub fn id_text(&self) -> String {
        format!("{:032x}", self.id)
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

/// The door of one receiver: takes transitions. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

struct Shared {
    name: String,
    desk: Mutex<Desk>,
    clock: Clock,
    silences: Arc<Silences>,
    /// Nothing more is taken in.
    closed: AtomicBool,
    /// Closing has begun: nobody waits for longer than he must.
    closing: CancellationToken,
    /// Something was put in.
    wake: Notify,
    /// The receiver has turned out to be an Alertmanager.
    is_alertmanager: AtomicBool,
    counters: Arc<NotifyCounters>,
}

impl Notifier {
    /// Starts the task that delivers, on the runtime of the caller. `clock` is the wall clock.
    ///
    /// # Errors
    /// An address that is none, files for TLS that cannot be read, or a command without a program.
    pub fn start(
        config: ReceiverConfig,
        clock: Clock,
        silences: Arc<Silences>,
    ) -> Result<(Notifier, Running), NotifyError> {
        let channels = Channels::open(&config)?;
        let counters = Arc::new(NotifyCounters::default());
        let to_alertmanager = channels.is_alertmanager();
        let shared = Arc::new(Shared {
            name: config.name.clone(),
            desk: Mutex::new(Desk::new(config.desk.clone(), to_alertmanager, counters.clone())),
            clock,
            silences,
            closed: AtomicBool::new(false),
            closing: CancellationToken::new(),
            wake: Notify::new(),
            is_alertmanager: AtomicBool::new(to_alertmanager),
            counters,
        });
        let task = tokio::spawn(Courier::new(shared.clone(), config, channels).run());
        Ok((Notifier(shared.clone()), Running { shared, task }))
    }

    /// Goes on where a process ended. See [`Desk::resume`].
    pub fn resume(&self, firing: impl IntoIterator<Item = Notification>, memory: &Memory) {
        self.0.desk.lock().resume(firing, memory, &self.0.silences, (self.0.clock)());
        self.0.wake.notify_one();
    }

    /// Puts `notification` into the queue. Never waits.
    pub fn notify(&self, notification: Notification) {
        self.put_in(notification, Desk::take);
    }

    /// The same for one that the process before may have sent already.
    pub fn notify_again(&self, notification: Notification) {
        self.put_in(notification, Desk::take_again);
    }

    fn put_in(&self, notification: Notification, take: fn(&mut Desk, Notification, TimeNs)) {
        let now_ns = (self.0.clock)();
        let mut desk = self.0.desk.lock();
        // Read under the lock, so that nothing gets in behind the last look of the courier.
        if self.0.closed.load(Ordering::SeqCst) {
            add(&self.0.counters.notified, 1);
            add(&self.0.counters.turned_away, 1);
            return;
        }
        take(&mut desk, notification, now_ns);
        drop(desk);
        self.0.wake.notify_one();
    }

    /// What has become of the transitions so far.
    pub fn counters(&self) -> &NotifyCounters {
        &self.0.counters
    }

    /// Name of the receiver.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Transitions that wait or are being sent.
    pub fn waiting(&self) -> usize {
        self.0.desk.lock().waiting()
    }

    /// Alerts that silences hold back.
    pub fn held_len(&self) -> usize {
        self.0.desk.lock().held_len()
    }

    /// Whether the receiver is an Alertmanager, by its settings or as it answered.
    pub fn is_alertmanager(&self) -> bool {
        self.0.is_alertmanager.load(Ordering::Relaxed)
    }

    /// What has to outlive the process, if that has changed since `seen`; and the number of changes so far.
    pub fn memory(&self, seen: Option<u64>) -> Option<(u64, Memory)> {
        let desk = self.0.desk.lock();
        (seen != Some(desk.changes())).then(|| (desk.changes(), desk.memory((self.0.clock)())))
    }
}

/// The task that delivers.
pub struct Running {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Running {
    /// Takes nothing more in, tries at once what waits for another attempt or for its group, and goes on until
    /// everything is delivered or `deadline` has passed. Returns how many transitions were left.
    pub async fn stop(mut self, deadline: Duration) -> usize {
        {
            let mut desk = self.shared.desk.lock();
            self.shared.closed.store(true, Ordering::SeqCst);
            desk.hurry((self.shared.clock)());
        }
        self.shared.closing.cancel();
        self.shared.wake.notify_one();
        if tokio::time::timeout(deadline, &mut self.task).await.is_err() {
            self.task.abort();
            // Cancelled, as it was asked to be.
            let _ = self.task.await;
        }
        let left = self.shared.desk.lock().waiting();
        if left > 0 {
            add(&self.shared.counters.left_at_stop, left);
            tracing::warn!(
                receiver = self.shared.name,
                left,
                "alert transitions were not delivered before the stop"
            );
        }
        left
    }
}
