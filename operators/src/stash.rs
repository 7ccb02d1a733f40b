//! What is known of epochs that are not complete yet: input and controls that wait for the frontier; and the operator
//! that takes one step for each epoch.

use std::collections::BTreeMap;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator as _;

use crate::window::Control;

/// Epochs under way, by number.
pub(crate) struct Stash<T> {
    epochs: BTreeMap<u64, Stashed<T>>,
}

impl<T> Default for Stash<T> {
    fn default() -> Stash<T> {
        Stash { epochs: BTreeMap::new() }
    }
}

/// One epoch under way.
pub(crate) struct Stashed<T> {
    /// Input as it came.
    pub(crate) chunks: Vec<Vec<T>>,
    /// Controls as they came.
    pub(crate) controls: Vec<Control>,
    /// What lets it be sent on under its epoch; there as soon as anything of the epoch is.
    pub(crate) capability: Option<Capability<u64>>,
}

impl<T> Default for Stashed<T> {
    fn default() -> Stashed<T> {
        Stashed { chunks: Vec::new(), controls: Vec::new(), capability: None }
    }
}

impl<T> Stash<T> {
    /// The place for `epoch`; `retain` is asked for its capability when there is none yet.
    pub(crate) fn of(
        &mut self,
        epoch: u64,
        retain: impl FnOnce() -> Option<Capability<u64>>,
    ) -> &mut Stashed<T> {
        let stashed = self.epochs.entry(epoch).or_default();
        if stashed.capability.is_none() {
            stashed.capability = retain();
        }
        stashed
    }

    /// Takes the oldest epoch out, if it is `complete`.
    pub(crate) fn take(&mut self, complete: impl FnOnce(u64) -> bool) -> Option<(u64, Stashed<T>)> {
        let oldest = self.epochs.first_entry().filter(|entry| complete(*entry.key()))?;
        Some(oldest.remove_entry())
    }
}

/// Calls `step` for every epoch, in order, as soon as it is complete on both inputs, with its number, its controls, its
/// input as it came, and where its output goes. The output has the epoch's time.
pub(crate) fn each_epoch<'scope, T: 'static, R: 'static>(
    name: &str,
    input: StreamVec<'scope, u64, T>,
    pact: impl ParallelizationContract<u64, Vec<T>>,
    controls: StreamVec<'scope, u64, Control>,
    mut step: impl FnMut(u64, &[Control], Vec<Vec<T>>, &mut dyn FnMut(R)) + 'static,
) -> StreamVec<'scope, u64, R> {
    input.binary_frontier::<_, CapacityContainerBuilder<Vec<R>>, _, _, _, _>(
        controls,
        pact,
        Pipeline,
        name,
        move |_capability, _info| {
            let mut stash = Stash::default();
            move |(input, input_frontier), (controls, controls_frontier), output| {
                let port = output.output_index();
                input.for_each(|capability, chunk| {
                    let Some(epoch) = capability.least().copied() else { return };
                    let stashed = stash.of(epoch, || capability.retain_least(port));
                    stashed.chunks.push(std::mem::take(chunk));
                });
                controls.for_each(|capability, chunk| {
                    let Some(epoch) = capability.least().copied() else { return };
                    stash.of(epoch, || capability.retain_least(port)).controls.append(chunk);
                });
                let complete =
                    |epoch| !input_frontier.less_equal(&epoch) && !controls_frontier.less_equal(&epoch);
                while let Some((epoch, stashed)) = stash.take(complete) {
                    let Some(capability) = stashed.capability else { continue };
                    let mut session = output.session(&capability);
                    step(epoch, &stashed.controls, stashed.chunks, &mut |row| session.give(row));
                }
            }
        },
    )
}
