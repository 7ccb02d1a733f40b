//! The timely operators: alerts of series, over samples, and alerts of groups, over rows of rollups.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator as _;

use super::{AlertTransition, Machines};
use crate::rollup::RollupRow;
use crate::rule::ROLLUP_OF_RULE;
use crate::sample::Sample;
use crate::stash::Stash;
use crate::window::Control;

/// Runs alert rules over samples.
pub trait Alerts<'scope> {
    /// Steps the alerts of every bound rule and series. `controls` are those of
    /// [`Windows::windows`](crate::window::Windows::windows). Between two epochs others may look at the machines.
    fn alerts(
        self,
        controls: StreamVec<'scope, u64, Control>,
        machines: Rc<RefCell<Machines>>,
    ) -> StreamVec<'scope, u64, AlertTransition>;
}

impl<'scope> Alerts<'scope> for StreamVec<'scope, u64, Sample> {
    fn alerts(
        self,
        controls: StreamVec<'scope, u64, Control>,
        machines: Rc<RefCell<Machines>>,
    ) -> StreamVec<'scope, u64, AlertTransition> {
        self.binary_frontier::<_, CapacityContainerBuilder<Vec<AlertTransition>>, _, _, _, _>(
            controls,
            Pipeline,
            Pipeline,
            "Alerts",
            move |_capability, _info| {
                let mut stash = Stash::default();
                move |(samples, samples_frontier), (controls, controls_frontier), output| {
                    let port = output.output_index();
                    samples.for_each(|capability, chunk| {
                        let Some(epoch) = capability.least().copied() else { return };
                        let stashed = stash.of(epoch, || capability.retain_least(port));
                        stashed.chunks.push(std::mem::take(chunk));
                    });
                    controls.for_each(|capability, chunk| {
                        let Some(epoch) = capability.least().copied() else { return };
                        stash.of(epoch, || capability.retain_least(port)).controls.append(chunk);
                    });
                    let complete =
                        |epoch| !samples_frontier.less_equal(&epoch) && !controls_frontier.less_equal(&epoch);
                    while let Some((epoch, stashed)) = stash.take(complete) {
                        let Some(capability) = stashed.capability else { continue };
                        let mut session = output.session(&capability);
                        let mut machines = machines.borrow_mut();
                        machines.apply(epoch, &stashed.controls, stashed.chunks, |t| session.give(t));
                    }
                }
            },
        )
    }
}

/// Runs alert rules over the rows of rollups that are their windows.
pub trait AlertsOfRows<'scope> {
    /// Steps the alerts of every rule and group. `controls` are those of the rollups.
    fn alerts_of_rows(
        self,
        controls: StreamVec<'scope, u64, Control>,
        machines: Rc<RefCell<Machines>>,
    ) -> StreamVec<'scope, u64, AlertTransition>;
}

impl<'scope> AlertsOfRows<'scope> for StreamVec<'scope, u64, RollupRow> {
    fn alerts_of_rows(
        self,
        controls: StreamVec<'scope, u64, Control>,
        machines: Rc<RefCell<Machines>>,
    ) -> StreamVec<'scope, u64, AlertTransition> {
        self.binary_frontier::<_, CapacityContainerBuilder<Vec<AlertTransition>>, _, _, _, _>(
            controls,
            Pipeline,
            Pipeline,
            "Alerts of rows",
            move |_capability, _info| {
                let mut stash = Stash::default();
                let mut rows: BTreeMap<u64, Vec<RollupRow>> = BTreeMap::new();
                move |(input, rows_frontier), (controls, controls_frontier), output| {
                    let port = output.output_index();
                    input.for_each(|capability, chunk| {
                        let Some(epoch) = capability.least().copied() else { return };
                        stash.of(epoch, || capability.retain_least(port));
                        let of_rules = chunk.drain(..).filter(|row| row.rollup & ROLLUP_OF_RULE != 0);
                        rows.entry(epoch).or_default().extend(of_rules);
                    });
                    controls.for_each(|capability, chunk| {
                        let Some(epoch) = capability.least().copied() else { return };
                        stash.of(epoch, || capability.retain_least(port)).controls.append(chunk);
                    });
                    let complete =
                        |epoch| !rows_frontier.less_equal(&epoch) && !controls_frontier.less_equal(&epoch);
                    while let Some((epoch, stashed)) = stash.take(complete) {
                        let of_epoch = rows.remove(&epoch).unwrap_or_default();
                        let Some(capability) = stashed.capability else { continue };
                        let mut session = output.session(&capability);
                        let mut machines = machines.borrow_mut();
                        machines.apply_rows(epoch, &stashed.controls, of_epoch, |t| session.give(t));
                    }
                }
            },
        )
    }
}
