//! What waits becomes batches: groups and their times, silences, and who is not told of what.

use operators::sample::{SECOND, TimeNs};

use super::{Desk, Entry, Group, Held, Label};
use crate::notify::counters::add;
use crate::notify::queue::{Dropped, GroupKey};
use crate::notify::silence::Silences;
use crate::notify::{Notification, Status};

impl Desk {
    /// Puts a transition into the queue.
    pub(super) fn enqueue(&mut self, notification: Notification, now_ns: TimeNs) {
        let key = self.group_of(&notification);
        let dropped = self.queue.push(notification, key.clone());
        match dropped {
            None => {}
            Some(Dropped::Superseded) => add(&self.counters.superseded, 1),
            Some(Dropped::Newest) => add(&self.counters.turned_away, 1),
        }
        if dropped != Some(Dropped::Newest) {
            self.groups.entry(key.clone()).or_default();
            self.arrange(&key, now_ns);
        }
    }

    /// Says when a group is due that has something waiting, and forgets one that has nothing.
    pub(super) fn arrange(&mut self, key: &GroupKey, now_ns: TimeNs) {
        let Some(group) = self.groups.get_mut(key) else { return };
        if !self.queue.has_group(key) {
            if group.firing.is_empty() && group.in_flight == 0 {
                if let Some(due_ns) = group.due_ns {
                    self.due.remove(&(due_ns, key.clone()));
                }
                self.groups.remove(key);
            }
            return;
        }
        // What is on its way says when the next one is due.
        let one_at_a_time = self.config.in_flight_max <= 1 || self.config.interval_ns > 0;
        if group.due_ns.is_some() || (group.in_flight > 0 && one_at_a_time) {
            return;
        }
        let due_ns = match group.last_ns {
            _ if self.is_hurried => now_ns,
            Some(last_ns) => last_ns.saturating_add(self.config.interval_ns).max(now_ns),
            None => now_ns.saturating_add(self.config.wait_ns),
        };
        group.due_ns = Some(due_ns);
        self.due.insert((due_ns, key.clone()));
    }

    /// What of a due group is to be sent.
    pub(super) fn take_group(&mut self, key: &GroupKey, now_ns: TimeNs, silences: &Silences) -> Vec<Entry> {
        if let Some(group) = self.groups.get_mut(key) {
            group.due_ns = None;
        }
        let busy = &self.busy;
        let taken = self.queue.take(key, self.config.batch_len_max.max(1), |id| busy.contains_key(&id));
        let took_some = !taken.is_empty();
        let mut entries: Vec<Entry> = Vec::new();
        for notification in taken {
            if let Some(entry) = self.entry(notification, &mut entries, now_ns, silences) {
                entries.push(entry);
            }
        }
        // The rest of what the group was waiting for goes at once, as soon as there is room for it.
        if self.queue.has_group(key)
            && took_some
            && let Some(group) = self.groups.get_mut(key)
        {
            group.due_ns = Some(now_ns);
            self.due.insert((now_ns, key.clone()));
        } else if entries.is_empty() {
            self.arrange_later(key);
        }
        entries
    }

    /// A group of which nothing is left, or all that is left waits for what is on its way.
    pub(super) fn arrange_later(&mut self, key: &GroupKey) {
        let gone = |group: &Group| group.firing.is_empty() && group.in_flight == 0;
        if !self.queue.has_group(key) && self.groups.get(key).is_some_and(gone) {
            self.groups.remove(key);
        }
    }

    /// A transition as it is sent, or nothing if it is not; `before` are those sent before it in the batch.
    pub(super) fn entry(
        &mut self,
        mut notification: Notification,
        before: &mut [Entry],
        now_ns: TimeNs,
        silences: &Silences,
    ) -> Option<Entry> {
        let id = notification.id;
        let counters = self.counters.clone();
        let is_behind = before.iter().any(|entry| entry.notification.id == id);
        let same = before.iter_mut().rev().find(|entry| entry.notification.id == id && !entry.is_past);
        let begun_ns = same.as_ref().filter(|entry| entry.notification.status == Status::Firing);
        let begun_ns = begun_ns.map(|entry| entry.notification.started_ns);
        if begun_ns.max(self.newest_start(id)).is_some_and(|newest_ns| notification.started_ns < newest_ns) {
            return self.past_entry(notification, is_behind, now_ns, silences);
        }
        // Whether the receiver may know by then that the alert fires.
        let told = same.as_ref().map(|entry| entry.notification.status == Status::Firing);
        let is_in_doubt = self.in_doubt.contains(&(id, notification.started_ns));
        let may_know = is_in_doubt || told.unwrap_or_else(|| self.may_know(id));
        if notification.status == Status::Firing {
            if silences.covers(&notification.subject(), now_ns) {
                self.done_with(&mut notification, is_behind);
                add(&counters.silenced, 1);
                self.held.insert(id, Held { notification, is_queued: false, may_be_known: may_know });
                self.changes += 1;
                self.looked.1 = self.looked.1.min(silences.next_change(now_ns).unwrap_or(TimeNs::MAX));
                return None;
            }
            let fired_ns = Some(notification.time_ns);
            return Some(Entry::new(notification, fired_ns));
        }
        let known = || self.told.get(&id).and_then(|told| told.fired_ns);
        let fired_ns = same.as_ref().map_or_else(known, |entry| entry.fired_ns);
        if told != Some(true)
            && let Some(held) = self.held.remove(&id)
        {
            self.changes += 1;
            if !may_know && !held.may_be_known {
                add(&counters.silenced, 1);
                self.done_with(&mut notification, is_behind);
                return None;
            }
        }
        let is_wanted = match notification.status {
            Status::Resolved => self.config.send_resolved,
            _ => self.config.send_retracted,
        };
        if !is_wanted {
            add(&counters.unwanted, 1);
            self.done_with(&mut notification, is_behind);
            match same.filter(|_| told == Some(true)) {
                Some(same) => same.is_over = true,
                None => self.end(id, notification.started_ns),
            }
            return None;
        }
        Some(Entry::new(notification, fired_ns))
    }

    /// The same for one of an earlier breach. An Alertmanager would take it for one of the newest.
    fn past_entry(
        &mut self,
        mut notification: Notification,
        is_behind: bool,
        now_ns: TimeNs,
        silences: &Silences,
    ) -> Option<Entry> {
        let breach = (notification.id, notification.started_ns);
        let (is_wanted, is_told) = match notification.status {
            Status::Firing => (true, false),
            Status::Resolved => (self.config.send_resolved, self.past.remove(&breach)),
            Status::Retracted => (self.config.send_retracted, self.past.remove(&breach)),
        };
        let counter = if self.to_alertmanager {
            &self.counters.superseded
        } else if !is_told && silences.covers(&notification.subject(), now_ns) {
            &self.counters.silenced
        } else if !is_wanted {
            &self.counters.unwanted
        } else {
            let fired_ns = (notification.status == Status::Firing).then_some(notification.time_ns);
            self.past.extend(fired_ns.map(|_| breach));
            return Some(Entry { is_past: true, ..Entry::new(notification, fired_ns) });
        };
        add(counter, 1);
        self.done_with(&mut notification, is_behind);
        None
    }

    /// Nothing more is to be done for a transition; settled it is not before those of its alert that stand before it.
    fn done_with(&mut self, notification: &mut Notification, is_behind: bool) {
        let mut receipt = std::mem::take(&mut notification.receipt);
        if is_behind {
            self.behind.entry(notification.id).or_default().push(receipt);
        } else {
            receipt.settle();
        }
    }

    /// Puts those held back into the queue whose silence has ended.
    pub(super) fn let_go(&mut self, now_ns: TimeNs, silences: &Silences) {
        let (version, until_ns) = self.looked;
        if self.held.is_empty() || (version == silences.version() && now_ns < until_ns) {
            return;
        }
        self.looked = (silences.version(), silences.next_change(now_ns).unwrap_or(TimeNs::MAX));
        let is_free = |held: &Held| !held.is_queued && !silences.covers(&held.notification.subject(), now_ns);
        let mut free: Vec<u128> =
            self.held.iter().filter(|(_, held)| is_free(held)).map(|(id, _)| *id).collect();
        free.sort_unstable();
        for id in free {
            // Behind what waits or is on its way of the same alert, and when there is room: a little later.
            let is_behind = self.queue.newest(id).is_some() || self.busy.contains_key(&id);
            if is_behind || self.queue.len() >= self.config.queue_len_max {
                self.looked.1 = self.looked.1.min(now_ns.saturating_add(SECOND));
                continue;
            }
            let Some(held) = self.held.get_mut(&id) else { continue };
            held.is_queued = true;
            let notification = held.notification.clone();
            add(&self.counters.notified, 1);
            self.enqueue(notification, now_ns);
        }
    }

    pub(super) fn group_of(&self, notification: &Notification) -> GroupKey {
        if self.config.group_by.is_empty() {
            return GroupKey::default();
        }
        let value = |label: &Label| match label {
            Label::Rule => notification.rule.to_string(),
            Label::Severity => notification.severity.to_string(),
            Label::Service => notification.target.service.to_string(),
            Label::Metric => notification.metric.to_string(),
            Label::Tag(name) => notification.target.tag(name).unwrap_or_default().to_string(),
        };
        // Quoted, so that two different groups never have one key.
        let values: Vec<String> =
            self.config.group_by.iter().map(|label| format!("{:?}", value(label))).collect();
        values.join(",").into()
    }
}
