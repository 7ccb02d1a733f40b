//! The timely operators: alerts of series, over samples, and alerts of groups, over rows of rollups.

use std::cell::RefCell;
use std::rc::Rc;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;

use super::{AlertTransition, Machines};
use crate::pane::Obs;
use crate::rollup::RollupRow;
use crate::rule::ROLLUP_OF_RULE;
use crate::sample::{Sample, SeriesId, TimeNs};
use crate::stash::each_epoch;
use crate::window::{Alerting, Asleep, Control, Shard};

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
        each_epoch("Alerts", self, Pipeline, controls, move |epoch, controls, chunks, out| {
            machines.borrow_mut().apply(epoch, controls, chunks, out);
        })
    }
}

/// The machines of the series of the same worker. Shard and alerts take their turns.
impl Alerting for Rc<RefCell<Machines>> {
    fn prepare(&mut self, epoch: u64, controls: &[Control], shard: &Shard) {
        // Rules that are restored with their alerts are bound behind no sealed epoch, and start from those.
        if controls.iter().any(|control| matches!(control, Control::Seal { .. })) {
            self.borrow_mut().prepare(epoch, controls, |series, from_ns| shard.backlog(series, from_ns));
        }
    }

    fn asleep(&mut self) -> Vec<Asleep> {
        self.borrow_mut().take_asleep()
    }

    fn catch_up(&mut self, series: SeriesId, arrival_ns: TimeNs, values: &[Obs]) {
        self.borrow_mut().catch_up(series, arrival_ns, values);
    }

    fn lend(&mut self, series: SeriesId, is_held: impl FnOnce(&[(TimeNs, f64)]) -> bool) -> Option<usize> {
        self.borrow_mut().lend(series, is_held)
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
        each_epoch("Alerts of rows", self, Pipeline, controls, move |epoch, controls, chunks, out| {
            let rows = chunks.into_iter().flatten();
            let of_rules = rows.filter(|row: &RollupRow| row.rollup & ROLLUP_OF_RULE != 0).collect();
            machines.borrow_mut().apply_rows(epoch, controls, of_rules, out);
        })
    }
}
