//! What a receiver knows already, and when it is told that again.

use operators::sample::TimeNs;

use super::{Desk, Entry, Outcome, Told};
use crate::notify::counters::add;
use crate::notify::queue::GroupKey;
use crate::notify::silence::Silences;
use crate::notify::{Notification, Status};

/// The breach of an alert that a receiver takes to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    /// None.
    Nothing,
    /// That which began then.
    Since(TimeNs),
    /// Perhaps one, of which the start is not known.
    Unknown,
}

impl Lasting {
    /// Behind a transition. One of an earlier breach changes nothing.
    pub(super) fn after(self, notification: &Notification) -> Lasting {
        match (self, notification.status) {
            (Lasting::Since(newest_ns), _) if notification.started_ns < newest_ns => self,
            (_, Status::Firing) => Lasting::Since(notification.started_ns),
            (_, Status::Resolved | Status::Retracted) => Lasting::Nothing,
        }
    }
}

impl Desk {
    /// What is told again: to an Alertmanager whatever is due, to others what still fires of a group.
    pub(super) fn take_repeats(
        &mut self,
        now_ns: TimeNs,
        silences: &Silences,
    ) -> (Vec<Entry>, Option<GroupKey>) {
        let mut group = None;
        let (mut ids, mut later) = (Vec::new(), Vec::new());
        if !self.to_alertmanager {
            let mut due = self.again.range(..=(now_ns, u128::MAX)).map(|(_, id)| id);
            group = due.find_map(|id| self.told.get(id)).map(|told| told.group.clone());
            let Some(key) = &group else { return (Vec::new(), None) };
            if self.groups.get(key).is_some_and(|group| group.in_flight > 0) {
                return (Vec::new(), None);
            }
            self.call_together(key, now_ns);
        }
        for (_, id) in self.again.range(..=(now_ns, u128::MAX)) {
            let Some(told) = self.told.get(id) else { continue };
            if self.busy.contains_key(id) || group.as_ref().is_some_and(|key| told.group != *key) {
                continue;
            }
            let silenced = group.is_some() && silences.covers(&told.notification.subject(), now_ns);
            if silenced || told.is_over(now_ns) || self.queue.newest(*id).is_some() {
                later.push(*id);
            } else if ids.len() < self.config.batch_len_max.max(1) {
                ids.push(*id);
            } else {
                break;
            }
        }
        for id in later {
            self.put_off(id, now_ns);
        }
        let told = ids.iter().filter_map(|id| self.told.get(id));
        let entry = |told: &Told| {
            let entry = Entry::new(told.notification.clone(), told.fired_ns);
            Entry { ended_ns: told.ended_ns, ..entry }
        };
        (told.map(entry).collect(), group)
    }

    /// Makes what fires of a group due together; what was told a short while ago waits for the next time.
    pub(super) fn call_together(&mut self, key: &GroupKey, now_ns: TimeNs) {
        let soon_ns = self.config.repeat_ns / 2;
        let Some(group) = self.groups.get_mut(key) else { return };
        // Batch after batch of one call need no other.
        if group.called_ns.is_some_and(|called_ns| now_ns < called_ns.saturating_add(soon_ns)) {
            return;
        }
        group.called_ns = Some(now_ns);
        for id in &group.firing {
            if let Some(told) = self.told.get_mut(id)
                && let Some(due_ns) =
                    told.due_ns.filter(|due_ns| *due_ns > now_ns && *due_ns - now_ns <= soon_ns)
            {
                self.again.remove(&(due_ns, *id));
                self.again.insert((now_ns, *id));
                told.due_ns = Some(now_ns);
            }
        }
    }

    /// Not now, but when it is due the next time; what has ended long ago, never.
    pub(super) fn put_off(&mut self, id: u128, now_ns: TimeNs) {
        let due_ns = self.again_at(now_ns);
        let Some(told) = self.told.get_mut(&id) else { return };
        if let Some(due_ns) = told.due_ns.take() {
            self.again.remove(&(due_ns, id));
        }
        if told.is_over(now_ns) {
            self.told.remove(&id);
        } else {
            told.due_ns = due_ns;
            self.again.extend(due_ns.map(|due_ns| (due_ns, id)));
        }
    }

    pub(super) fn settle_again(&mut self, id: u128, outcome: Outcome, now_ns: TimeNs) {
        if outcome == Outcome::Delivered {
            add(&self.counters.repeated, 1);
            return self.put_off(id, now_ns);
        }
        // Another try after a quarter of the time.
        let every_ns = self.again_at(0).unwrap_or(0);
        self.put_off(id, now_ns.saturating_sub(every_ns / 4 * 3));
    }

    /// Notes what the receiver knows now. An Alertmanager is told again of what was given up.
    pub(super) fn note(
        &mut self,
        Entry { notification, fired_ns, is_over, is_past, .. }: Entry,
        outcome: Outcome,
        now_ns: TimeNs,
    ) {
        let id = notification.id;
        let status = notification.status;
        self.in_doubt.remove(&(id, notification.started_ns));
        if is_past {
            return;
        }
        if status == Status::Firing {
            self.held.remove(&id).inspect(|_| self.changes += 1);
        }
        let knows = outcome == Outcome::Delivered || (outcome == Outcome::GivenUp && self.to_alertmanager);
        let group = self.group_of(&notification);
        self.forget(id);
        match (status, knows) {
            (Status::Firing, true) if !is_over => {
                let due_ns = self.again_at(now_ns);
                self.keep_told(notification, group, due_ns);
            }
            (Status::Resolved | Status::Retracted, true) if self.to_alertmanager => {
                let ended_ns = Some(now_ns);
                let due_ns = self.again_at(now_ns);
                self.again.extend(due_ns.map(|due_ns| (due_ns, id)));
                self.told.insert(id, Told { notification, group, fired_ns, due_ns, ended_ns });
            }
            _ => {}
        }
    }

    pub(super) fn keep_told(&mut self, notification: Notification, group: GroupKey, due_ns: Option<TimeNs>) {
        let (id, fired_ns) = (notification.id, Some(notification.time_ns));
        self.forget(id);
        self.groups.entry(group.clone()).or_default().firing.insert(id);
        self.again.extend(due_ns.map(|due_ns| (due_ns, id)));
        self.told.insert(id, Told { notification, group, fired_ns, due_ns, ended_ns: None });
    }

    /// The alert has ended, and that is not told.
    pub(super) fn end(&mut self, id: u128, started_ns: TimeNs) {
        self.held.remove(&id).inspect(|_| self.changes += 1);
        self.in_doubt.remove(&(id, started_ns));
        self.forget(id);
    }

    pub(super) fn forget(&mut self, id: u128) {
        let Some(told) = self.told.remove(&id) else { return };
        if let Some(due_ns) = told.due_ns {
            self.again.remove(&(due_ns, id));
        }
        if let Some(group) = self.groups.get_mut(&told.group) {
            group.firing.remove(&id);
        }
    }

    /// Whether the receiver knows that the alert fires.
    pub(super) fn fires(&self, id: u128) -> bool {
        self.told.get(&id).is_some_and(|told| told.ended_ns.is_none())
    }

    /// What the receiver takes to last of the alert, nothing of it being on its way.
    pub(super) fn known(&self, id: u128) -> Lasting {
        let told = self.told.get(&id).filter(|told| told.ended_ns.is_none());
        match told {
            Some(told) => Lasting::Since(told.notification.started_ns),
            None if self.may_know(id) => Lasting::Unknown,
            None => Lasting::Nothing,
        }
    }

    /// The same behind what is on its way and what waits, but for the newest `without` of these.
    pub(super) fn lasting(&self, id: u128, without: usize) -> Lasting {
        let known = self.busy.get(&id).map_or_else(|| self.known(id), |(_, lasting)| *lasting);
        let waiting = self.queue.waiting_of(id);
        let counted = waiting.len().saturating_sub(without);
        waiting.into_iter().take(counted).fold(known, Lasting::after)
    }

    /// The start of the newest breach of the alert that the receiver knows of, or that is held back.
    pub(super) fn newest_start(&self, id: u128) -> Option<TimeNs> {
        let told = self.told.get(&id).filter(|told| told.ended_ns.is_none()).map(|told| &told.notification);
        let held = self.held.get(&id).map(|held| &held.notification);
        told.into_iter().chain(held).map(|notification| notification.started_ns).max()
    }

    /// Whether it knows so, or may.
    pub(super) fn may_know(&self, id: u128) -> bool {
        self.fires(id)
            || self.in_doubt.range((id, TimeNs::MIN)..=(id, TimeNs::MAX)).next().is_some()
            || self.held.get(&id).is_some_and(|held| held.may_be_known)
    }

    /// Whether the receiver has been told the very same.
    pub(super) fn knows(&self, notification: &Notification) -> bool {
        self.told.get(&notification.id).filter(|told| told.ended_ns.is_none()).is_some_and(|told| {
            let known = &told.notification;
            (known.started_ns, known.time_ns) == (notification.started_ns, notification.time_ns)
        })
    }

    /// When what is told at `now_ns` is told again.
    pub(super) fn again_at(&self, now_ns: TimeNs) -> Option<TimeNs> {
        let every_ns = if self.to_alertmanager { self.config.resend_ns } else { self.config.repeat_ns };
        (every_ns > 0).then(|| now_ns.saturating_add(every_ns))
    }
}
