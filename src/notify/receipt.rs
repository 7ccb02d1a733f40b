//! Which transitions receivers have been told of, so that a restart goes on where the process ended.
//!
//! Transitions carry the number of the epoch they come from. An epoch is settled once each of its transitions
//! was delivered, refused for good, given up, or superseded by a newer one of its alert.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// The state of all receipts.
#[derive(Default)]
pub struct Receipts(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// Transitions by epoch of which nothing final is known.
    waiting: BTreeMap<u64, u64>,
    /// Every transition up to this epoch has been handed over.
    handed_over: u64,
}

impl Receipts {
    /// Begins behind `epoch`.
    pub fn after(epoch: u64) -> Arc<Receipts> {
        Arc::new(Receipts(Mutex::new(Open { waiting: BTreeMap::new(), handed_over: epoch })))
    }

    /// A receipt for a transition of `epoch`.
    pub fn issue(self: &Arc<Self>, epoch: u64) -> Receipt {
        *self.0.lock().waiting.entry(epoch).or_default() += 1;
        Receipt(Some((self.clone(), epoch)))
    }

    /// Every transition up to `epoch` has been handed over.
    pub fn handed_over(&self, epoch: u64) {
        let mut open = self.0.lock();
        open.handed_over = open.handed_over.max(epoch);
    }

    /// The last epoch up to which everything is settled.
    pub fn settled(&self) -> u64 {
        let open = self.0.lock();
        open.waiting.keys().next().map_or(open.handed_over, |first| open.handed_over.min(first - 1))
    }
}

/// A transition's receipt. Dropping it says nothing: the transition is told again after a restart.
#[derive(Clone, Default)]
pub struct Receipt(Option<(Arc<Receipts>, u64)>);

impl Receipt {
    /// Its transition is settled.
    pub fn settle(&mut self) {
        let Some((receipts, epoch)) = self.0.take() else { return };
        let mut open = receipts.0.lock();
        if let Some(count) = open.waiting.get_mut(&epoch) {
            *count -= 1;
            if *count == 0 {
                open.waiting.remove(&epoch);
            }
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receipt").field(&self.0.as_ref().map(|(_, epoch)| epoch)).finish()
    }
}

impl PartialEq for Receipt {
    /// Two of the same epoch are equal: what a receiver is told does not depend on them.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().map(|(_, epoch)| epoch) == other.0.as_ref().map(|(_, epoch)| epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_settled_when_all_before_it_are() {
        let receipts = Receipts::after(4);
        assert_eq!(receipts.settled(), 4);
        let mut of_six = [receipts.issue(6), receipts.issue(6)];
        let mut of_nine = receipts.issue(9);
        receipts.handed_over(10);
        assert_eq!(receipts.settled(), 5);
        of_nine.settle();
        of_six[0].settle();
        of_six[0].settle();
        assert_eq!(receipts.settled(), 5);
        of_six[1].settle();
        assert_eq!(receipts.settled(), 10);
        drop(receipts.issue(11));
        receipts.handed_over(12);
        assert_eq!(receipts.settled(), 10);
    }
}
