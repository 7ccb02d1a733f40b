//! The task that sends: takes batches from the desk and stays with each until it is delivered, refused or given up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use operators::sample::TimeNs;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::command::Program;
use super::counters::add;
use super::desk::{Batch, Entry, Outcome};
use super::retry::Backoff;
use super::webhook::{Verdict, Webhook};
use super::{Channel, NotifyError, ReceiverConfig, Shared};

/// Longest sleep: the wall clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Shortest sleep for what is due but can't go yet.
const SLEEP_MIN: Duration = Duration::from_millis(5);
/// Time between two tries to find out what a receiver is that knows of alerts.
const FIND_OUT_EVERY: Duration = Duration::from_secs(30);

/// How the receiver is spoken to.
pub(super) enum Channels {
    Http(Box<Webhook>),
    Command(Program),
}

impl Channels {
    pub(super) fn open(config: &ReceiverConfig) -> Result<Channels, NotifyError> {
        let name = format!("receiver {}", config.name);
        Ok(match &config.channel {
            Channel::Http(http) => {
                Channels::Http(Box::new(Webhook::new(http, config.timeout, config.desk.resend_ns, &name)?))
            }
            Channel::Command(argv) => Channels::Command(Program::new(argv, config.timeout, &name)?),
        })
    }

    pub(super) fn is_alertmanager(&self) -> bool {
        matches!(self, Channels::Http(webhook) if webhook.is_alertmanager())
    }

    async fn attempt(&self, entries: &[Entry], now_ns: TimeNs) -> Verdict {
        match self {
            Channels::Http(webhook) => webhook.post(entries, now_ns).await,
            Channels::Command(program) => program.run(entries).await,
        }
    }
}

/// Decides what is sent when, and sends it.
pub(super) struct Courier {
    delivery: Arc<Delivery>,
    /// When it was last tried to find out what the receiver is.
    sought: Option<Instant>,
    /// That is known.
    is_found: bool,
}

/// What every batch on its way needs.
struct Delivery {
    shared: Arc<Shared>,
    config: ReceiverConfig,
    channels: Channels,
    backoff: Mutex<Backoff>,
}

impl Courier {
    pub(super) fn new(shared: Arc<Shared>, config: ReceiverConfig, channels: Channels) -> Courier {
        let backoff = Mutex::new(Backoff::new(config.backoff_min, config.backoff_max, config.jitter_seed));
        Courier {
            delivery: Arc::new(Delivery { shared, config, channels, backoff }),
            sought: None,
            is_found: false,
        }
    }

    /// Ends once closing has begun and nothing waits any more.
    pub(super) async fn run(mut self) {
        let shared = self.delivery.shared.clone();
        let mut silences = shared.silences.subscribe();
        let mut flying = JoinSet::new();
        loop {
            self.find_out(flying.is_empty()).await;
            let now_ns = (shared.clock)();
            let (batch, wake_ns, waiting) = {
                let mut desk = shared.desk.lock();
                (desk.next(now_ns, &shared.silences), desk.wake_at(), desk.waiting())
            };
            if let Some(batch) = batch {
                flying.spawn(self.delivery.clone().deliver(batch));
                continue;
            }
            if shared.closed.load(Ordering::SeqCst) && waiting == 0 && flying.is_empty() {
                return;
            }
            let until = |wake_ns: TimeNs| Duration::from_nanos(wake_ns.saturating_sub(now_ns).max(0) as u64);
            let sleep = wake_ns.map_or(SLEEP_MAX, until).clamp(SLEEP_MIN, SLEEP_MAX);
            let slept = wake_ns.is_some() || self.is_seeking();
            tokio::select! {
                landed = flying.join_next(), if !flying.is_empty() => {
                    if let Some(Err(error)) = landed {
                        tracing::error!(receiver = shared.name, %error, "a delivery ended before its time");
                    }
                }
                () = shared.wake.notified() => {}
                // The sender lives as long as the silences, which `shared` holds.
                _ = silences.changed() => {}
                () = tokio::time::sleep(sleep), if slept => {}
            }
        }
    }

    /// Whether it is to be found out what the receiver is, although nothing is to be sent: an Alertmanager is told
    /// again of what fires.
    fn is_seeking(&self) -> bool {
        matches!(self.delivery.channels, Channels::Http(_))
            && !self.is_found
            && self.delivery.shared.desk.lock().has_told()
    }

    async fn find_out(&mut self, is_idle: bool) {
        let Channels::Http(webhook) = &self.delivery.channels else { return };
        let due = self.sought.is_none_or(|sought| sought.elapsed() >= FIND_OUT_EVERY);
        if is_idle && due && self.is_seeking() {
            self.sought = Some(Instant::now());
            self.is_found = webhook.find_out().await;
            self.delivery.note_dialect();
        }
    }
}

impl Delivery {
    /// A batch that is refused may hold one bad transition: it is halved until that one stands alone.
    async fn deliver(self: Arc<Self>, batch: Batch) {
        let (is_repeat, group) = (batch.is_repeat, batch.group().cloned());
        let mut parts = VecDeque::from([batch.entries]);
        let mut delivered = false;
        while let Some(mut part) = parts.pop_front() {
            let len = part.len();
            let outcome = match self.try_until_decided(&part, is_repeat).await {
                Decided::Delivered => Outcome::Delivered,
                Decided::Halve => {
                    let rest = part.split_off(len / 2);
                    parts.push_front(rest);
                    parts.push_front(part);
                    continue;
                }
                Decided::Rejected(reason) => {
                    let receiver = &self.shared.name;
                    tracing::error!(receiver, alerts = len, reason, "the receiver refused alert transitions");
                    Outcome::Rejected
                }
                Decided::GivenUp(reason) if is_repeat => {
                    tracing::warn!(receiver = self.shared.name, alerts = len, reason, "told nobody again");
                    Outcome::GivenUp
                }
                Decided::GivenUp(reason) => {
                    tracing::error!(
                        receiver = self.shared.name,
                        alerts = len,
                        reason,
                        "gave up alert transitions"
                    );
                    Outcome::GivenUp
                }
            };
            delivered |= outcome == Outcome::Delivered;
            self.shared.desk.lock().settle(part, is_repeat, outcome, (self.shared.clock)());
        }
        self.shared.desk.lock().landed(group, delivered, (self.shared.clock)());
    }

    async fn try_until_decided(&self, part: &[Entry], is_repeat: bool) -> Decided {
        let (shared, config) = (&self.shared, &self.config);
        let began = Instant::now();
        let mut is_hurried = shared.closing.is_cancelled();
        for attempt in 0.. {
            add(&shared.counters.attempts, 1);
            let verdict = self.channels.attempt(part, (shared.clock)()).await;
            self.note_dialect();
            let (after, reason) = match verdict {
                Verdict::Delivered => return Decided::Delivered,
                Verdict::Unreadable(_) if part.len() > 1 => return Decided::Halve,
                Verdict::Unreadable(reason) | Verdict::Refused(reason) => return Decided::Rejected(reason),
                Verdict::Again { after, reason } => (after, reason),
            };
            if is_repeat || began.elapsed() >= config.give_up_after {
                return Decided::GivenUp(reason);
            }
            add(&shared.counters.retries, 1);
            let asked = after.unwrap_or_default().min(config.retry_after_max);
            let wait = self.backoff.lock().wait(attempt).max(asked);
            tracing::warn!(
                receiver = shared.name,
                attempt,
                ?wait,
                reason,
                "the receiver failed, trying again"
            );
            // Closing cuts one wait short.
            if is_hurried {
                tokio::time::sleep(wait).await;
            } else {
                is_hurried = timeout(wait, shared.closing.cancelled()).await.is_ok();
            }
        }
        unreachable!("the attempts are not counted to an end")
    }

    /// Tells the desk what the receiver has turned out to be.
    fn note_dialect(&self) {
        let is_alertmanager = self.channels.is_alertmanager();
        let known = self.shared.is_alertmanager.swap(is_alertmanager, Ordering::Relaxed);
        if known != is_alertmanager {
            self.shared.desk.lock().speaks_to(is_alertmanager, (self.shared.clock)());
        }
    }
}

enum Decided {
    Delivered,
    Halve,
    Rejected(String),
    GivenUp(String),
}
