//! Which transitions receivers have been told of, so that a restart goes on where the process ended.
//!
//! Transitions carry the number of the epoch they come from and their place in it. One is settled once it was
//! delivered, refused for good, given up, or needs nothing done any more. An epoch is settled when all of it is; what is
//! settled ahead of an earlier epoch that is not, is remembered by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Places by epoch.
type Places = BTreeMap<u64, BTreeSet<u32>>;

/// The state of all receipts.
#[derive(Default)]
pub struct Receipts(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// Transitions of which nothing final is known.
    waiting: Places,
    /// Transitions that are settled, of epochs that may not be.
    ahead: Places,
    /// Every transition up to this epoch has been handed over.
    handed_over: u64,
}

/// How far a receiver has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Everything up to this epoch is settled.
    pub epoch: u64,
    /// What is settled behind it, by epoch.
    pub ahead: Places,
}

impl Receipts {
    /// Begins behind a position.
    pub fn after(position: Position) -> Arc<Receipts> {
        let Position { epoch, ahead } = position;
        Arc::new(Receipts(Mutex::new(Open { waiting: Places::new(), ahead, handed_over: epoch })))
    }

    /// A receipt for the transition at `place` of `epoch`; none if that is settled already.
    pub fn issue(self: &Arc<Self>, epoch: u64, place: u32) -> Option<Receipt> {
        let mut open = self.0.lock();
        if open.ahead.get(&epoch).is_some_and(|places| places.contains(&place)) {
            return None;
        }
        open.waiting.entry(epoch).or_default().insert(place);
        drop(open);
        Some(Receipt(Some((self.clone(), epoch, place))))
    }

    /// Every transition up to `epoch` has been handed over.
    pub fn handed_over(&self, epoch: u64) {
        let mut open = self.0.lock();
        open.handed_over = open.handed_over.max(epoch);
    }

    /// The last epoch up to which everything is settled.
    pub fn settled(&self) -> u64 {
        self.0.lock().settled()
    }

    /// The same, and what is settled behind it.
    pub fn position(&self) -> Position {
        let mut open = self.0.lock();
        let epoch = open.settled();
        open.ahead = open.ahead.split_off(&(epoch + 1));
        Position { epoch, ahead: open.ahead.clone() }
    }
}

impl Open {
    fn settled(&self) -> u64 {
        self.waiting.keys().next().map_or(self.handed_over, |first| self.handed_over.min(first - 1))
    }
}

/// A transition's receipt. Dropping it says nothing: the transition is told again after a restart.
#[derive(Clone, Default)]
pub struct Receipt(Option<(Arc<Receipts>, u64, u32)>);

impl Receipt {
    /// Its transition is settled.
    pub fn settle(&mut self) {
        let Some((receipts, epoch, place)) = self.0.take() else { return };
        let mut open = receipts.0.lock();
        if let Some(places) = open.waiting.get_mut(&epoch) {
            places.remove(&place);
            if places.is_empty() {
                open.waiting.remove(&epoch);
            }
        }
        if epoch > open.settled() {
            open.ahead.entry(epoch).or_default().insert(place);
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receipt").field(&self.0.as_ref().map(|(_, epoch, _)| epoch)).finish()
    }
}

impl PartialEq for Receipt {
    /// Two of the same epoch are equal: what a receiver is told does not depend on them.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().map(|(_, epoch, _)| epoch) == other.0.as_ref().map(|(_, epoch, _)| epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_settled_when_all_before_it_are() {
        let receipts = Receipts::after(Position { epoch: 4, ..Position::default() });
        assert_eq!(receipts.settled(), 4);
        let mut of_six = [0, 3].map(|place| receipts.issue(6, place).unwrap());
        let mut of_nine = receipts.issue(9, 1).unwrap();
        receipts.handed_over(10);
        assert_eq!(receipts.settled(), 5);
        of_nine.settle();
        of_six[0].settle();
        of_six[0].settle();
        let position = receipts.position();
        let ahead = [(6, [0].into()), (9, [1].into())].into();
        assert_eq!(position, Position { epoch: 5, ahead });

        // The next process is not told of these again.
        let after = Receipts::after(position);
        assert!(after.issue(6, 0).is_none() && after.issue(9, 1).is_none());
        let mut last = after.issue(6, 3).unwrap();
        after.handed_over(10);
        last.settle();
        assert_eq!(after.position(), Position { epoch: 10, ..Position::default() });

        of_six[1].settle();
        assert_eq!(receipts.settled(), 10);
        drop(receipts.issue(11, 0));
        receipts.handed_over(12);
        assert_eq!(receipts.position(), Position { epoch: 10, ..Position::default() });
    }
}
