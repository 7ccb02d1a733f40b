//! The latest transitions of alerts, in memory: those of this process, and behind them those that the outbox still had
//! when it started. Bounded; the oldest go first.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use operators::alerts::AlertTransition;
use parking_lot::Mutex;

use crate::alerts::KnownRule;
use crate::journal::log::Log;

/// Transitions that are remembered.
pub const LEN_MAX: usize = 10_000;

/// Bytes of the outbox that are read at a start.
const RECALLED_BYTES_MAX: u64 = 64 << 20;

/// A transition, and what it is of.
#[derive(Clone, Debug)]
pub struct Past {
    /// The epoch that said it.
    pub epoch: u64,
    /// Name of the rule.
    pub name: Arc<str>,
    /// The rule, where there still is one of that name.
    pub rule: Option<Arc<KnownRule>>,
    /// What happened. What its series is, is looked up by whoever asks.
    pub moved: AlertTransition,
}

/// The transitions.
#[derive(Debug, Default)]
pub struct AlertHistory {
    ring: Mutex<VecDeque<Past>>,
}

impl AlertHistory {
    /// Takes note of transitions that are newer than all others, the oldest first.
    pub fn extend(&self, past: impl IntoIterator<Item = Past>) {
        let mut ring = self.ring.lock();
        for past in past {
            if ring.len() == LEN_MAX {
                ring.pop_front();
            }
            ring.push_back(past);
        }
    }

    /// Up to `limit` transitions that `wanted` says are, the newest first, and whether older ones were forgotten.
    pub fn newest(&self, limit: usize, wanted: impl Fn(&Past) -> bool) -> (Vec<Past>, bool) {
        let ring = self.ring.lock();
        (ring.iter().rev().filter(|past| wanted(past)).take(limit).cloned().collect(), ring.len() == LEN_MAX)
    }
}

/// The number behind which a log holds no more than is read at a start.
pub fn recalled_from(log: &Log) -> u64 {
    let (mut from, mut till) = (0, log.appended());
    while from < till {
        let middle = from + (till - from) / 2;
        if log.behind(middle).1 > RECALLED_BYTES_MAX { from = middle + 1 } else { till = middle }
    }
    from
}

/// Reads what `log` still has, oldest first; `of` gives what a record says.
///
/// # Errors
/// The log can't be read.
pub fn recall(
    log: &Log,
    history: &AlertHistory,
    of: impl Fn(&crate::journal::reader::Record<'_>) -> Vec<Past>,
) -> io::Result<()> {
    let mut reader = log.reader(recalled_from(log));
    while let Some(record) = reader.next(log.appended())? {
        history.extend(of(&record));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::alert::{Kind, Transition};
    use operators::alerts::Source;

    #[test]
    fn the_newest_stay() {
        let history = AlertHistory::default();
        for epoch in 0..LEN_MAX as u64 + 5 {
            let transition =
                Transition { kind: Kind::Firing, at_ns: 0, since_ns: 0, value: 0.0, decided_by_ns: 0 };
            let moved = AlertTransition { rule: 0, source: Source::Series(7), transition, expected: None };
            history.extend([Past { epoch, name: "r".into(), rule: None, moved }]);
        }
        let (newest, forgotten) = history.newest(2, |past| past.epoch % 2 == 0);
        assert_eq!(newest.iter().map(|past| past.epoch).collect::<Vec<_>>(), [10_004, 10_002]);
        assert!(forgotten);
        let (all, _) = history.newest(usize::MAX, |_| true);
        assert_eq!((all.len(), all[LEN_MAX - 1].epoch), (LEN_MAX, 5));
    }
}
