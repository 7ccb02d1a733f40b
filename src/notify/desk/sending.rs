//! What waits becomes batches: groups and their times, silences, and who is not told of what.

use operators::sample::{SECOND, TimeNs};

use super::{Desk, Entry, Group, Held, Label};
use crate::notify::counters::add;
use crate::notify::queue::{Dropped, GroupKey};
use crate::notify::silence::Silences;
use crate::notify::{Notification, Status};

impl Desk {
    /// Puts a transition into the queue.
    pub(super) fn enqueue(&mut self, notification: Notification, now_ns: TimeNs) -> bool {
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
        dropped != Some(Dropped::Newest)
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
            if let Some(entry) = self.entry(notification, &entries, now_ns, silences) {
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
        before: &[Entry],
        now_ns: TimeNs,
        silences: &Silences,
    ) -> Option<Entry> {
        let id = notification.id;
        let counters = self.counters.clone();
        if notification.status == Status::Firing {
            if silences.covers(&notification.subject(), now_ns) {
                notification.receipt.settle();
                add(&counters.silenced, 1);
                self.held.insert(id, Held { notification, is_queued: false });
                self.changes += 1;
                self.looked = (silences.version(), silences.next_change(now_ns).unwrap_or(TimeNs::MAX));
                return None;
            }
            let fired_ns = Some(notification.time_ns);
            return Some(Entry { notification, fired_ns, ended_ns: None });
        }
        let same = before.iter().rev().find(|entry| entry.notification.id == id);
        let fired_ns = same.map_or_else(|| self.told.get(&id).and_then(|told| told.fired_ns), |entry| entry.fired_ns);
        if same.is_none() && !self.fires(id) && self.held.remove(&id).is_some() {
            self.changes += 1;
            add(&counters.silenced, 1);
            notification.receipt.settle();
            return None;
        }
        let is_wanted = match notification.status {
            Status::Resolved => self.config.send_resolved,
            _ => self.config.send_retracted,
        };
        if !is_wanted {
            add(&counters.unwanted, 1);
            notification.receipt.settle();
            self.forget(id);
            return None;
        }
        Some(Entry { notification, fired_ns, ended_ns: None })
    }

    /// Puts those held back into the queue whose silence has ended.
    pub(super) fn let_go(&mut self, now_ns: TimeNs, silences: &Silences) {
        let (version, until_ns) = self.looked;
        if self.held.is_empty() || (version == silences.version() && now_ns < until_ns) {
            return;
        }
        self.looked = (silences.version(), silences.next_change(now_ns).unwrap_or(TimeNs::MAX));
        let is_free = |(id, held): (&u128, &Held)| {
            let free = !held.is_queued && !silences.covers(&held.notification.subject(), now_ns);
            // What waits behind it says that it has ended.
            (free && self.queue.newest(*id).is_none()).then_some(*id)
        };
        let mut free: Vec<u128> = self.held.iter().filter_map(is_free).collect();
        free.sort_unstable();
        for id in free {
            let Some(held) = self.held.get_mut(&id) else { continue };
            held.is_queued = true;
            let notification = held.notification.clone();
            add(&self.counters.notified, 1);
            if !self.enqueue(notification, now_ns) {
                // Full: a little later there may be room.
                self.held.entry(id).and_modify(|held| held.is_queued = false);
                self.looked.1 = now_ns.saturating_add(SECOND);
            }
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
        let values: Vec<String> = self.config.group_by.iter().map(|label| format!("{:?}", value(label))).collect();
        values.join(",").into()
    }
}
