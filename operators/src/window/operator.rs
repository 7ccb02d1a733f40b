//! The operator that brings samples to the shard of the worker that owns their series.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::quiet::Watching;
use super::{Alerting, Control, Shard};
use crate::closing::ClosedWindow;
use crate::exchange::{Parcel, by_worker};
use crate::rollup::Sliced;
use crate::sample::Sample;
use crate::stash::Stash;

/// Folds samples into the panes of a shard.
pub trait Windows<'scope> {
    /// Brings samples to the worker that owns their series and applies them, epoch by epoch, to `shard`.
    /// `controls` must carry one [`Control::Seal`] per epoch and worker. Gives the samples of watched series, as far as
    /// their alerts need to see them at once, and what the epoch gives to rollups, each under its epoch. `closed` is
    /// called with the closed windows of every epoch that has any, before the epoch is complete.
    fn windows(
        self,
        controls: StreamVec<'scope, u64, Control>,
        shard: Arc<RwLock<Shard>>,
        alerts: impl Alerting + 'static,
        closed: impl FnMut(u64, Vec<ClosedWindow>) + 'static,
    ) -> (StreamVec<'scope, u64, Sample>, StreamVec<'scope, u64, Sliced>);
}

impl<'scope> Windows<'scope> for StreamVec<'scope, u64, Parcel> {
    fn windows(
        self,
        controls: StreamVec<'scope, u64, Control>,
        shard: Arc<RwLock<Shard>>,
        mut alerts: impl Alerting + 'static,
        mut closed: impl FnMut(u64, Vec<ClosedWindow>) + 'static,
    ) -> (StreamVec<'scope, u64, Sample>, StreamVec<'scope, u64, Sliced>) {
        let mut builder = OperatorBuilder::new("Windows".to_owned(), self.scope());
        let mut samples = builder.new_input(self, by_worker());
        let mut controls = builder.new_input(controls, Pipeline);
        let (watched, watched_stream) = builder.new_output();
        let mut watched = OutputBuilder::<_, CapacityContainerBuilder<Vec<Sample>>>::from(watched);
        let (sliced, sliced_stream) = builder.new_output();
        let mut sliced = OutputBuilder::<_, CapacityContainerBuilder<Vec<Sliced>>>::from(sliced);
        builder.build(move |_capabilities| {
            let mut stash = Stash::default();
            let mut for_rollups: BTreeMap<u64, Capability<u64>> = BTreeMap::new();
            move |frontiers| {
                let (mut watched, mut sliced) = (watched.activate(), sliced.activate());
                let (port, sliced_port) = (watched.output_index(), sliced.output_index());
                samples.for_each(|capability, parcels| {
                    let Some(epoch) = capability.least().copied() else { return };
                    let stashed = stash.of(epoch, || capability.retain_least(port));
                    stashed.chunks.extend(parcels.drain(..).map(|parcel| parcel.samples));
                });
                controls.for_each(|capability, chunk| {
                    let Some(epoch) = capability.least().copied() else { return };
                    stash.of(epoch, || capability.retain_least(port)).controls.append(chunk);
                    // Every epoch has a control.
                    if let Some(retained) = capability.retain_least(sliced_port) {
                        for_rollups.entry(epoch).or_insert(retained);
                    }
                });
                let complete = |epoch| frontiers.iter().all(|frontier| !frontier.less_equal(&epoch));
                while let Some((epoch, mut stashed)) = stash.take(complete) {
                    // Each sender's chunks come in order and its share of the epoch is contiguous.
                    stashed.chunks.sort_by_key(|chunk| chunk.first().map_or(0, Sample::position));
                    let Some(capability) = stashed.capability else { continue };
                    alerts.prepare(epoch, &stashed.controls, &shard.read());
                    let mut session = watched.session(&capability);
                    let watcher = Watching { alerts: &mut alerts, give: |sample| session.give(sample) };
                    let mut shard = shard.write();
                    let rows = shard.apply(epoch, &stashed.controls, &stashed.chunks, watcher);
                    let given = shard.take_sliced();
                    drop(shard);
                    if let Some(capability) = for_rollups.remove(&epoch)
                        && !given.is_empty()
                    {
                        let mut session = sliced.session(&capability);
                        given.into_iter().for_each(|given| session.give(given));
                    }
                    if !rows.is_empty() {
                        closed(epoch, rows);
                    }
                }
            }
        });
        (watched_stream, sliced_stream)
    }
}
