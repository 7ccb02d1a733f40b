//! What is known of epochs that are not complete yet: samples and controls that wait for the frontier.

use std::collections::BTreeMap;

use timely::dataflow::operators::Capability;

use crate::sample::Sample;
use crate::window::Control;

/// Epochs under way, by number.
#[derive(Default)]
pub(crate) struct Stash {
    epochs: BTreeMap<u64, Stashed>,
}

/// One epoch under way.
#[derive(Default)]
pub(crate) struct Stashed {
    /// Samples as they came.
    pub(crate) chunks: Vec<Vec<Sample>>,
    /// Controls as they came.
    pub(crate) controls: Vec<Control>,
    /// What lets it be sent on under its epoch; there as soon as anything of the epoch is.
    pub(crate) capability: Option<Capability<u64>>,
}

impl Stash {
    /// The place for `epoch`; `retain` is asked for its capability when there is none yet.
    pub(crate) fn of(
        &mut self,
        epoch: u64,
        retain: impl FnOnce() -> Option<Capability<u64>>,
    ) -> &mut Stashed {
        let stashed = self.epochs.entry(epoch).or_default();
        if stashed.capability.is_none() {
            stashed.capability = retain();
        }
        stashed
    }

    /// Takes the oldest epoch out, if it is `complete`.
    pub(crate) fn take(&mut self, complete: impl FnOnce(u64) -> bool) -> Option<(u64, Stashed)> {
        let oldest = self.epochs.first_entry().filter(|entry| complete(*entry.key()))?;
        Some(oldest.remove_entry())
    }
}
