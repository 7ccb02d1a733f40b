//! What waits to be sent, and what goes when there is no more room.
//!
//! Full, the queue drops the oldest transition whose alert has a newer one: a receiver that learns
//! late is told what is, before it is told what was. If every alert waits with one transition only,
//! the newest is turned away.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::Notification;

/// What alerts of one notification have in common.
pub type GroupKey = Arc<str>;

/// A bounded queue; every operation takes logarithmic time.
#[derive(Debug)]
pub struct Queue {
    len_max: usize,
    next: u64,
    waiting: BTreeMap<u64, (GroupKey, Notification)>,
    /// The waiting transitions of each alert, oldest first.
    of_alert: HashMap<u128, VecDeque<u64>>,
    of_group: HashMap<GroupKey, BTreeSet<u64>>,
    /// Those that wait and are not the newest of their alert.
    superseded: BTreeSet<u64>,
}

/// What a push cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The oldest transition with a newer one of the same alert.
    Superseded,
    /// The pushed one.
    Newest,
}

impl Queue {
    /// A queue for at most `len_max` transitions, at least one.
    pub fn new(len_max: usize) -> Self {
        let (waiting, of_alert, of_group, superseded) = Default::default();
        Queue { len_max: len_max.max(1), next: 0, waiting, of_alert, of_group, superseded }
    }

    /// Transitions that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a transition of `group` waits.
    pub fn has_group(&self, group: &str) -> bool {
        self.of_group.contains_key(group)
    }

    /// The newest transition of the alert that waits.
    pub fn newest(&self, id: u128) -> Option<&Notification> {
        let number = self.of_alert.get(&id)?.back()?;
        self.waiting.get(number).map(|(_, notification)| notification)
    }

    /// The transitions of the alert that wait, oldest first.
    pub fn waiting_of(&self, id: u128) -> Vec<&Notification> {
        let numbers = self.of_alert.get(&id).into_iter().flatten();
        numbers.filter_map(|number| self.waiting.get(number)).map(|(_, notification)| notification).collect()
    }

    /// Puts `notification` at the end; says what was dropped for it. What is dropped is settled.
    pub fn push(&mut self, mut notification: Notification, group: GroupKey) -> Option<Dropped> {
        let mut dropped = None;
        if self.waiting.len() >= self.len_max {
            // The pushed one supersedes the newest of its own alert.
            let before = self.of_alert.get(&notification.id).and_then(|of| of.back().copied());
            let Some(oldest) = self.superseded.first().copied().into_iter().chain(before).min() else {
                notification.receipt.settle();
                return Some(Dropped::Newest);
            };
            if let Some(mut dropped) = self.remove(oldest) {
                dropped.receipt.settle();
            }
            dropped = Some(Dropped::Superseded);
        }
        let of_alert = self.of_alert.entry(notification.id).or_default();
        self.superseded.extend(of_alert.back().copied());
        of_alert.push_back(self.next);
        self.of_group.entry(group.clone()).or_default().insert(self.next);
        self.waiting.insert(self.next, (group, notification));
        self.next += 1;
        dropped
    }

    /// Takes the newest transition of the alert away.
    pub fn remove_newest(&mut self, id: u128) -> Option<Notification> {
        let number = *self.of_alert.get(&id)?.back()?;
        self.remove(number)
    }

    /// Takes the oldest transitions of `group`, at most `len_max` of them, and none of alerts that are `busy`.
    pub fn take(&mut self, group: &str, len_max: usize, busy: impl Fn(u128) -> bool) -> Vec<Notification> {
        let Some(numbers) = self.of_group.get(group) else { return Vec::new() };
        let free = numbers.iter().copied().filter(|number| {
            self.waiting.get(number).is_some_and(|(_, notification)| !busy(notification.id))
        });
        let taken: Vec<u64> = free.take(len_max).collect();
        taken.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    fn remove(&mut self, number: u64) -> Option<Notification> {
        let (group, notification) = self.waiting.remove(&number)?;
        self.superseded.remove(&number);
        if let Some(of_alert) = self.of_alert.get_mut(&notification.id) {
            // One in the middle is never taken: what goes for want of room is the oldest of its alert.
            let _ =
                if of_alert.front() == Some(&number) { of_alert.pop_front() } else { of_alert.pop_back() };
            match of_alert.back() {
                // With the newest gone, the one before it is the newest.
                Some(newest) => self.superseded.remove(newest),
                None => self.of_alert.remove(&notification.id).is_some(),
            };
        }
        if let Some(of_group) = self.of_group.get_mut(&group) {
            of_group.remove(&number);
            if of_group.is_empty() {
                self.of_group.remove(&group);
            }
        }
        Some(notification)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::notify::tests::notification;

    fn transition(id: u128, time_ns: i64) -> Notification {
        Notification { time_ns, ..notification(id) }
    }

    fn group() -> GroupKey {
        "".into()
    }

    #[test]
    fn a_full_queue_drops_what_is_superseded_first() {
        let mut queue = Queue::new(3);
        let pushes = [
            (1, None),
            (2, None),
            (1, None),                      // 1 2 1: full, the first is superseded
            (3, Some(Dropped::Superseded)), // 2 1 3
            (4, Some(Dropped::Newest)),     // nothing is superseded
            (2, Some(Dropped::Superseded)), // 1 3 2: its own older one
        ];
        for (time_ns, (id, expect)) in pushes.into_iter().enumerate() {
            assert_eq!(queue.push(transition(id, time_ns as i64), group()), expect, "{time_ns}");
        }
        let taken: Vec<_> = queue.take("", 9, |_| false).iter().map(|n| (n.id, n.time_ns)).collect();
        assert_eq!(taken, [(1, 2), (3, 3), (2, 5)]);
        assert!(queue.is_empty() && queue.of_alert.is_empty() && queue.superseded.is_empty());
        assert!(queue.of_group.is_empty());
    }

    #[test]
    fn groups_are_taken_apart_and_busy_alerts_stay() {
        let mut queue = Queue::new(9);
        for (time_ns, (id, group)) in [(1, "a"), (2, "b"), (1, "a"), (3, "a")].into_iter().enumerate() {
            queue.push(transition(id, time_ns as i64), group.into());
        }
        let taken = |queue: &mut Queue, group: &str, busy: u128| -> Vec<i64> {
            queue.take(group, 9, |id| id == busy).iter().map(|n| n.time_ns).collect()
        };
        assert_eq!(taken(&mut queue, "a", 1), [3]);
        assert_eq!(queue.newest(1).unwrap().time_ns, 2);
        assert_eq!(queue.remove_newest(1).unwrap().time_ns, 2);
        assert!(queue.superseded.is_empty(), "the one before it is the newest now");
        assert_eq!(taken(&mut queue, "a", 0), [0]);
        assert_eq!(taken(&mut queue, "b", 0), [1]);
    }

    proptest! {
        /// Against a naive queue that looks through everything.
        #[test]
        fn agrees_with_a_naive_queue(
            len_max in 1_usize..6,
            steps in prop::collection::vec(prop_oneof![3 => (0_u128..5).prop_map(Ok), 1 => (0_usize..4).prop_map(Err)], 0..80),
        ) {
            let mut queue = Queue::new(len_max);
            let mut naive: Vec<(u128, i64)> = Vec::new();
            for (time_ns, step) in steps.into_iter().enumerate() {
                match step {
                    Ok(id) => {
                        let pushed = (id, time_ns as i64);
                        let mut all = naive.clone();
                        all.push(pushed);
                        let newer = |at: usize| all[at + 1..].iter().any(|(other, _)| *other == all[at].0);
                        let oldest = (0..all.len()).find(|at| newer(*at));
                        let expect = match oldest {
                            _ if naive.len() < len_max => { naive.push(pushed); None }
                            Some(at) => { naive.push(pushed); naive.remove(at); Some(Dropped::Superseded) }
                            None => Some(Dropped::Newest),
                        };
                        prop_assert_eq!(queue.push(transition(id, time_ns as i64), group()), expect);
                    }
                    Err(count) => {
                        let taken: Vec<_> = queue.take("", count, |_| false).iter().map(|n| (n.id, n.time_ns)).collect();
                        let expect: Vec<_> = naive.drain(..count.min(naive.len())).collect();
                        prop_assert_eq!(taken, expect);
                    }
                }
                prop_assert_eq!(queue.len(), naive.len());
                prop_assert!(queue.of_alert.len() + queue.superseded.len() == queue.len());
            }
        }
    }
}
