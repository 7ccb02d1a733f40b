//! The state of one receiver: which transitions wait, what it has been told, and what is due when.
//!
//! A [`Desk`] does no IO and reads no clock: transitions and times go in, batches come out, and it is told what became
//! of them. Times are the wall clock's, in nanoseconds; alerts carry event times of their own.
//!
//! # What it promises
//! - Transitions of an alert come out in the order in which they went in, never two batches of an alert at a time.
//! - A transition waits for its group: the first of a group for `wait_ns`, later ones until `interval_ns` after the
//!   group's last notification.
//! - The beginning of an alert that is silenced is held back. If it still fires when the silence ends, it is told then;
//!   if it ends before, nothing is.
//! - Transitions of an earlier breach than the newest one of an alert (corrections of the past) are told as they are, and
//!   change nothing of what is known of the newest; an Alertmanager, which knows one breach of an alert, is not told.
//! - A retraction that is directly followed by a new beginning is told as that beginning alone: a correction of its
//!   start. One of a beginning that had not been sent takes that with it.
//! - An alert that fires is told again each `repeat_ns`; to an Alertmanager each `resend_ns`, and what has ended for
//!   [`RESEND_ENDED_NS`] longer.

mod again;
mod sending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use operators::sample::{DurationNs, SECOND, TimeNs};
use serde::{Deserialize, Serialize};

use self::again::Lasting;
use super::counters::{NotifyCounters, add};
use super::matcher::AlertMatcher;
use super::queue::{GroupKey, Queue};
use super::receipt::Receipt;
use super::silence::Silences;
use super::{Notification, Status};

/// How long an Alertmanager is told again that an alert has ended.
pub const RESEND_ENDED_NS: DurationNs = 15 * 60 * SECOND;

/// What of an alert can be common to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// Name of the rule.
    Rule,
    /// Severity.
    Severity,
    /// Service of the series.
    Service,
    /// Metric name of the series.
    Metric,
    /// A tag of the series.
    Tag(String),
}

/// What a receiver is told of, and when.
#[derive(Clone, Debug)]
pub struct DeskConfig {
    /// Which alerts.
    pub wanted: AlertMatcher,
    /// What alerts of one notification have in common.
    pub group_by: Vec<Label>,
    /// How long the first notification of a group waits for others.
    pub wait_ns: DurationNs,
    /// Shortest time between two notifications of a group.
    pub interval_ns: DurationNs,
    /// Time after which a group is told again; 0: never.
    pub repeat_ns: DurationNs,
    /// Time after which an Alertmanager is told again.
    pub resend_ns: DurationNs,
    /// Whether it is told of ends.
    pub send_resolved: bool,
    /// Whether it is told of retractions.
    pub send_retracted: bool,
    /// Transitions that may wait.
    pub queue_len_max: usize,
    /// Transitions in one batch.
    pub batch_len_max: usize,
    /// Batches that may be on their way at a time.
    pub in_flight_max: usize,
}

impl Default for DeskConfig {
    fn default() -> Self {
        DeskConfig {
            wanted: AlertMatcher::default(),
            group_by: Vec::new(),
            wait_ns: 0,
            interval_ns: 0,
            repeat_ns: 0,
            resend_ns: 60 * SECOND,
            send_resolved: true,
            send_retracted: true,
            queue_len_max: 10_000,
            batch_len_max: 64,
            in_flight_max: 1,
        }
    }
}

/// One alert of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The transition.
    pub notification: Notification,
    /// When the alert fired, in event time, as far as is known.
    pub fired_ns: Option<TimeNs>,
    /// When the receiver was first told of its end, by the wall clock; `None`: it has not been.
    pub ended_ns: Option<TimeNs>,
    /// The alert has ended since, and the receiver is not to be told so.
    is_over: bool,
    /// It is about an earlier breach than the one that the receiver knows of or will be told of.
    is_past: bool,
}

impl Entry {
    /// News.
    pub fn new(notification: Notification, fired_ns: Option<TimeNs>) -> Entry {
        Entry { notification, fired_ns, ended_ns: None, is_over: false, is_past: false }
    }
}

/// What is to be sent together.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// In the order in which they are told.
    pub entries: Vec<Entry>,
    /// Whether nothing of it is new to the receiver.
    pub is_repeat: bool,
    group: Option<GroupKey>,
}

impl Batch {
    /// The group that it is of.
    pub fn group(&self) -> Option<&GroupKey> {
        self.group.as_ref()
    }
}

/// What became of a batch or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has taken it.
    Delivered,
    /// The receiver refused it for good.
    Rejected,
    /// Tried for long enough.
    GivenUp,
}

/// What has to outlive the process beside the position in the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Alerts that silences hold back, as hexadecimal ids, and whether the receiver may know that they fire.
    pub held: BTreeMap<String, bool>,
    /// When each group was last told something.
    pub groups: BTreeMap<String, TimeNs>,
    /// When that was so, by the wall clock.
    pub at_ns: TimeNs,
}

/// An alert that the receiver knows to fire, or to have ended a while ago.
#[derive(Debug)]
struct Told {
    notification: Notification,
    group: GroupKey,
    fired_ns: Option<TimeNs>,
    /// When it is told again.
    due_ns: Option<TimeNs>,
    /// When the receiver was told of its end, by the wall clock.
    ended_ns: Option<TimeNs>,
}

impl Told {
    /// Whether its end has been told for long enough.
    fn is_over(&self, now_ns: TimeNs) -> bool {
        self.ended_ns.is_some_and(|ended_ns| ended_ns.saturating_add(RESEND_ENDED_NS) <= now_ns)
    }
}

/// An alert held back.
#[derive(Debug)]
struct Held {
    notification: Notification,
    /// It waits to be sent, its silence having ended.
    is_queued: bool,
    /// The receiver may know that it fires: from a beginning that this one corrects, or as the process before may have
    /// sent it shortly before it ended.
    may_be_known: bool,
}

#[derive(Debug, Default)]
struct Group {
    /// Alerts of it that the receiver knows to fire.
    firing: HashSet<u128>,
    last_ns: Option<TimeNs>,
    due_ns: Option<TimeNs>,
    /// When what fires of it was last made due together.
    called_ns: Option<TimeNs>,
    in_flight: usize,
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    config: DeskConfig,
    counters: Arc<NotifyCounters>,
    /// Whether the receiver is an Alertmanager.
    to_alertmanager: bool,
    queue: Queue,
    groups: HashMap<GroupKey, Group>,
    due: BTreeSet<(TimeNs, GroupKey)>,
    told: HashMap<u128, Told>,
    again: BTreeSet<(TimeNs, u128)>,
    held: HashMap<u128, Held>,
    /// Breaches of which the process before may have sent more than is known, by alert and start.
    in_doubt: BTreeSet<(u128, TimeNs)>,
    /// Earlier breaches that were told and have not ended, by alert and start.
    past: HashSet<(u128, TimeNs)>,
    /// Held ones were looked at under this version of the silences, and need not be until then.
    looked: (u64, TimeNs),
    /// Alerts on their way, with their number of transitions, and what lasts behind these.
    busy: HashMap<u128, (usize, Lasting)>,
    /// Receipts that are settled with the last transition of their alert that is on its way.
    behind: HashMap<u128, Vec<Receipt>>,
    in_flight: usize,
    /// Transitions on their way.
    flying: usize,
    is_hurried: bool,
    /// Changes of what has to outlive the process.
    changes: u64,
}

impl Desk {
    /// An empty desk.
    pub fn new(config: DeskConfig, to_alertmanager: bool, counters: Arc<NotifyCounters>) -> Desk {
        let (groups, due, told, again, held, in_doubt, past, busy, behind) = Default::default();
        Desk {
            queue: Queue::new(config.queue_len_max),
            config,
            counters,
            to_alertmanager,
            groups,
            due,
            told,
            again,
            held,
            in_doubt,
            past,
            looked: (0, TimeNs::MIN),
            busy,
            behind,
            in_flight: 0,
            flying: 0,
            is_hurried: false,
            changes: 0,
        }
    }

    /// Goes on where a process ended: `firing` are the alerts that fired at the position from which the log is told
    /// again. An Alertmanager is told of them at once.
    pub fn resume(
        &mut self,
        firing: impl IntoIterator<Item = Notification>,
        memory: &Memory,
        silences: &Silences,
        now_ns: TimeNs,
    ) {
        for notification in firing {
            if !self.config.wanted.matches(&notification.subject()) {
                continue;
            }
            if let Some(known) = memory.held.get(&notification.id_text()) {
                let may_be_known =
                    *known || !silences.covers_all(&notification.subject(), memory.at_ns, now_ns);
                self.held.insert(notification.id, Held { notification, is_queued: false, may_be_known });
                continue;
            }
            let group = self.group_of(&notification);
            let last_ns = memory.groups.get(&*group).copied();
            self.groups.entry(group.clone()).or_default().last_ns = last_ns;
            let due_ns = match self.to_alertmanager {
                true => Some(now_ns),
                false => self.again_at(last_ns.unwrap_or(now_ns)),
            };
            self.keep_told(notification, group, due_ns);
        }
    }

    /// Takes a transition that the process before may have sent already.
    pub fn take_again(&mut self, notification: Notification, now_ns: TimeNs) {
        self.in_doubt.insert((notification.id, notification.started_ns));
        self.take(notification, now_ns);
    }

    /// Takes the next transition. Never waits.
    pub fn take(&mut self, notification: Notification, now_ns: TimeNs) {
        add(&self.counters.notified, 1);
        let counters = self.counters.clone();
        let end = |mut notification: Notification, counter: &AtomicU64| {
            add(counter, 1);
            notification.receipt.settle();
        };
        let id = notification.id;
        if !self.config.wanted.matches(&notification.subject()) {
            return end(notification, &counters.unwanted);
        }
        let started_ns = notification.started_ns;
        let newest = self.queue.newest(id).map(|newest| (newest.status, newest.started_ns));
        match (notification.status, newest) {
            (Status::Firing, Some((Status::Retracted, retracted_ns)))
                if self.lasting(id, 1) == Lasting::Since(retracted_ns) =>
            {
                self.supersede(id);
            }
            (Status::Firing, None) if !self.busy.contains_key(&id) && self.knows(&notification) => {
                return end(notification, &counters.duplicate);
            }
            (Status::Retracted, Some((Status::Firing, begun_ns))) if begun_ns == started_ns => {
                self.supersede(id);
                let may_be_told = self.in_doubt.contains(&(id, started_ns));
                if self.lasting(id, 0) == Lasting::Nothing && !may_be_told {
                    self.held.remove(&id).inspect(|_| self.changes += 1);
                    return end(notification, &counters.superseded);
                }
            }
            _ => {}
        }
        self.enqueue(notification, now_ns);
    }

    /// The next batch that is due.
    pub fn next(&mut self, now_ns: TimeNs, silences: &Silences) -> Option<Batch> {
        if self.in_flight >= self.config.in_flight_max.max(1) {
            return None;
        }
        self.let_go(now_ns, silences);
        while let Some((due_ns, _)) = self.due.first()
            && *due_ns <= now_ns
            && let Some((_, key)) = self.due.pop_first()
        {
            let entries = self.take_group(&key, now_ns, silences);
            if !entries.is_empty() {
                return Some(self.depart(entries, Some(key), false));
            }
        }
        let (entries, group) = self.take_repeats(now_ns, silences);
        (!entries.is_empty()).then(|| self.depart(entries, group, true))
    }

    /// When [`Desk::next`] has something without anything else happening; `None`: not at all.
    pub fn wake_at(&self) -> Option<TimeNs> {
        if self.in_flight >= self.config.in_flight_max.max(1) {
            return None;
        }
        let held = (!self.held.is_empty()).then_some(self.looked.1);
        let due = self.due.first().map(|(due_ns, _)| *due_ns);
        let again = self.again.first().map(|(due_ns, _)| *due_ns);
        [held, due, again].into_iter().flatten().min()
    }

    /// Part of a batch has come to an end.
    pub fn settle(&mut self, part: Vec<Entry>, is_repeat: bool, outcome: Outcome, now_ns: TimeNs) {
        for mut entry in part {
            let id = entry.notification.id;
            entry.notification.receipt.settle();
            if let Some((count, _)) = self.busy.get_mut(&id) {
                *count -= 1;
                if *count == 0 {
                    self.busy.remove(&id);
                    self.behind.remove(&id).into_iter().flatten().for_each(|mut receipt| receipt.settle());
                }
            }
            if is_repeat {
                self.settle_again(id, outcome, now_ns);
                // A transition of it may have had to wait for this.
                let key = self.group_of(&entry.notification);
                self.arrange(&key, now_ns);
                continue;
            }
            self.flying -= 1;
            add(
                match outcome {
                    Outcome::Delivered => &self.counters.delivered,
                    Outcome::Rejected => &self.counters.rejected,
                    Outcome::GivenUp => &self.counters.given_up,
                },
                1,
            );
            self.note(entry, outcome, now_ns);
        }
    }

    /// All parts of a batch have come to an end.
    pub fn landed(&mut self, group: Option<GroupKey>, delivered: bool, now_ns: TimeNs) {
        self.in_flight -= 1;
        let Some(key) = group else { return };
        let Some(group) = self.groups.get_mut(&key) else { return };
        group.in_flight -= 1;
        if delivered {
            group.last_ns = Some(now_ns);
            if self.config.interval_ns > 0 || self.config.repeat_ns > 0 {
                self.changes += 1;
            }
        }
        self.arrange(&key, now_ns);
    }

    /// What the receiver has turned out to be.
    pub fn speaks_to(&mut self, alertmanager: bool, now_ns: TimeNs) {
        if alertmanager == self.to_alertmanager {
            return;
        }
        self.to_alertmanager = alertmanager;
        self.again.clear();
        if !alertmanager {
            self.told.retain(|_, told| told.ended_ns.is_none());
        }
        let due_ns = if alertmanager { Some(now_ns) } else { self.again_at(now_ns) };
        for (id, told) in &mut self.told {
            told.due_ns = due_ns;
            self.again.extend(due_ns.map(|due_ns| (due_ns, *id)));
        }
    }

    /// Waits for no group any more.
    pub fn hurry(&mut self, now_ns: TimeNs) {
        self.is_hurried = true;
        for (_, key) in std::mem::take(&mut self.due) {
            if let Some(group) = self.groups.get_mut(&key) {
                group.due_ns = Some(now_ns);
                self.due.insert((now_ns, key));
            }
        }
    }

    /// Transitions that wait or are on their way.
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.flying
    }

    /// Whether the receiver knows of alerts that fire.
    pub fn has_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// Alerts held back by silences.
    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Changes of [`Desk::memory`] so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// What has to outlive the process.
    pub fn memory(&self, now_ns: TimeNs) -> Memory {
        let mut memory = Memory {
            at_ns: now_ns,
            held: self.held.values().map(|held| (held.notification.id_text(), held.may_be_known)).collect(),
            groups: BTreeMap::new(),
        };
        if self.config.interval_ns > 0 || self.config.repeat_ns > 0 {
            let told = self.groups.iter().filter(|(_, group)| !group.firing.is_empty());
            memory.groups = told.filter_map(|(key, group)| Some((key.to_string(), group.last_ns?))).collect();
        }
        memory
    }

    fn depart(&mut self, entries: Vec<Entry>, group: Option<GroupKey>, is_repeat: bool) -> Batch {
        for Entry { notification, .. } in &entries {
            let (count, lasting) = match self.busy.get(&notification.id) {
                Some(busy) => *busy,
                None => (0, self.known(notification.id)),
            };
            self.busy.insert(notification.id, (count + 1, lasting.after(notification)));
        }
        self.in_flight += 1;
        self.flying += if is_repeat { 0 } else { entries.len() };
        if let Some(group) = group.as_ref().and_then(|key| self.groups.get_mut(key)) {
            group.in_flight += 1;
        }
        Batch { entries, is_repeat, group }
    }

    /// Takes the newest transition of an alert out of the queue, the next one having made it void.
    fn supersede(&mut self, id: u128) {
        if let Some(mut void) = self.queue.remove_newest(id) {
            void.receipt.settle();
            add(&self.counters.superseded, 1);
        }
    }
}
