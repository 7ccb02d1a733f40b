//! What waits to be sent, and what goes when there is no more room.
//!
//! Full, the queue drops the oldest transition whose alert has a newer one: a receiver that learns
//! late is told what is, before it is told what was. If every alert waits with one transition only,
//! the newest is turned away.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Notification;

/// A bounded queue; every operation takes logarithmic time.
#[derive(Debug)]
pub struct Queue {
    len_max: usize,
    next: u64,
    waiting: BTreeMap<u64, Notification>,
    /// The newest waiting transition of each alert.
    newest: HashMap<u128, u64>,
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
        let (waiting, newest, superseded) = Default::default();
        Queue { len_max: len_max.max(1), next: 0, waiting, newest, superseded }
    }

    /// Transitions that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts `notification` at the end; says what was dropped for it.
    pub fn push(&mut self, mut notification: Notification) -> Option<Dropped> {
        let before = self.newest.get(&notification.id).copied();
        let mut dropped = None;
        if self.waiting.len() >= self.len_max {
            // The pushed one supersedes the newest of its own alert.
            let Some(oldest) = self.superseded.first().copied().into_iter().chain(before).min() else {
                notification.receipt.settle();
                return Some(Dropped::Newest);
            };
            if let Some(mut dropped) = self.waiting.remove(&oldest) {
                dropped.receipt.settle();
            }
            self.superseded.remove(&oldest);
            dropped = Some(Dropped::Superseded);
        }
        if let Some(before) = before.filter(|before| self.waiting.contains_key(before)) {
            self.superseded.insert(before);
        }
        self.newest.insert(notification.id, self.next);
        self.waiting.insert(self.next, notification);
        self.next += 1;
        dropped
    }

    /// Takes the oldest transitions, at most `len_max` of them.
    pub fn take(&mut self, len_max: usize) -> Vec<Notification> {
        let mut taken = Vec::new();
        while taken.len() < len_max
            && let Some((number, notification)) = self.waiting.pop_first()
        {
            self.superseded.remove(&number);
            if self.newest.get(&notification.id) == Some(&number) {
                self.newest.remove(&notification.id);
            }
            taken.push(notification);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use operators::series::Target;
    use proptest::prelude::*;

    use super::*;
    use crate::notify::Status;

    fn transition(id: u128, time_ns: i64) -> Notification {
        Notification {
            id,
            rule: "r".into(),
            target: Arc::new(Target::new("s", [])),
            metric: "m".into(),
            severity: "warning".into(),
            message: "".into(),
            value: 1.0,
            threshold: 0.0,
            time_ns,
            started_ns: 0,
            status: Status::Firing,
            receipt: Default::default(),
        }
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
            assert_eq!(queue.push(transition(id, time_ns as i64)), expect, "{time_ns}");
        }
        let taken: Vec<_> = queue.take(9).iter().map(|n| (n.id, n.time_ns)).collect();
        assert_eq!(taken, [(1, 2), (3, 3), (2, 5)]);
        assert!(queue.is_empty() && queue.newest.is_empty() && queue.superseded.is_empty());
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
                        prop_assert_eq!(queue.push(transition(id, time_ns as i64)), expect);
                    }
                    Err(count) => {
                        let taken: Vec<_> = queue.take(count).iter().map(|n| (n.id, n.time_ns)).collect();
                        let expect: Vec<_> = naive.drain(..count.min(naive.len())).collect();
                        prop_assert_eq!(taken, expect);
                    }
                }
                prop_assert_eq!(queue.len(), naive.len());
                prop_assert!(queue.newest.len() + queue.superseded.len() == queue.len());
            }
        }
    }
}
