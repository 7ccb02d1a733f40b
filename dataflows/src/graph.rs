//! The whole graph on one screen: what every sample passes, and beside it what decides which rule watches which series.
//!
//! They are two dataflows, since they move at different paces: the first has an epoch every few milliseconds, the
//! second stands still until an epoch brings a series or a rule.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::input::InputSession;
use operators::alerts::{AlertTransition, Alerts, AlertsOfRows, Machines};
use operators::binding::{RuleScope, bindings, controls};
use operators::closing::ClosedWindow;
use operators::exchange::Parcel;
use operators::rollup::binding::{Directory, RollupLimits, RollupScope, candidates, members};
use operators::rollup::{Groups, RollupRow, Rollups};
use operators::rule::ROLLUP_OF_RULE;
use operators::series::{SeriesKey, Target};
use operators::window::{Control, Shard, Windows};
use parking_lot::RwLock;
use timely::dataflow::operators::probe::Handle as Probe;
use timely::dataflow::operators::{Concat as _, Input, Inspect, Probe as _};
use timely::dataflow::{InputHandleVec, Scope};

/// The inputs of the way of samples, both at the same epoch, and a probe at its far end.
pub struct Inputs {
    pub(crate) samples: InputHandleVec<u64, Parcel>,
    pub(crate) controls: InputHandleVec<u64, Control>,
    /// Epochs up to which everything has happened.
    pub probe: Probe<u64>,
}

/// The inputs of the bindings, both at the same epoch, and what comes out for this worker's series.
pub struct Bindings {
    pub(crate) entries: InputSession<u64, (u32, SeriesKey), isize>,
    pub(crate) rules: InputSession<u64, RuleScope, isize>,
    pub(crate) rollups: InputSession<u64, RollupScope, isize>,
    /// What rules there are.
    pub(crate) watching: HashMap<u32, RuleScope>,
    /// The scopes of each rollup, for when it goes.
    pub(crate) scopes: BTreeMap<u32, Vec<RollupScope>>,
    /// Join keys that some rule or rollup has or had.
    pub(crate) joined: HashSet<u64>,
    /// This worker's share of the entries whose join key none had so far, by that key and by metric.
    pub(crate) aside: HashMap<u64, Aside>,
    /// What was bound and is not taken out yet.
    pub(crate) bound: Rc<RefCell<Vec<Control>>>,
    /// Epochs up to which everything is in `bound`.
    pub probe: Probe<u64>,
}

/// Entries by metric.
pub(crate) type Aside = BTreeMap<Arc<str>, Vec<(u32, Arc<Target>)>>;

/// Receives the epoch and alert transitions that it made, in the order of each alert, on the worker's thread;
/// must not block. An epoch may come in several calls, and from every worker. Epochs taken in again after a
/// restart bring theirs again.
pub type Outbox = Arc<dyn Fn(u64, &[AlertTransition]) + Send + Sync>;

/// Receives the closed windows of an epoch, on the thread of the worker whose series they are, before that
/// worker says that the epoch is complete; must not block. Called only where there are any.
pub type Closed = Arc<dyn Fn(u64, Vec<ClosedWindow>) + Send + Sync>;

/// Receives the rows that rollups gave in an epoch, in order of rollup, group and end, on the thread of the worker
/// whose groups they are, before that worker says that the epoch is complete; must not block. Called only where there
/// are any.
pub type Rolled = Arc<dyn Fn(u64, Vec<RollupRow>) + Send + Sync>;

/// The state of one worker that others can look at.
pub struct State {
    /// Its series.
    pub shard: Arc<RwLock<Shard>>,
    /// Its groups.
    pub groups: Arc<RwLock<Groups>>,
    /// Its alerts.
    pub machines: Rc<RefCell<Machines>>,
    /// Alerts of its groups.
    pub group_machines: Rc<RefCell<Machines>>,
}

/// Builds the way of samples on one worker.
pub fn samples(
    scope: Scope<'_, u64>,
    State { shard, groups, machines, group_machines }: State,
    outbox: Outbox,
    closed: Closed,
    rolled: Rolled,
) -> Inputs {
    let (samples_input, samples) = scope.new_input::<Vec<Parcel>>();
    let (controls_input, controls) = scope.new_input::<Vec<Control>>();
    machines.borrow_mut().let_sleep();
    let (watched, sliced) =
        samples.windows(controls.clone(), shard, machines.clone(), move |epoch, rows| closed(epoch, rows));
    let probe = Probe::new();
    let said = outbox.clone();
    sliced
        .rollups(controls.clone(), groups)
        .inspect_core(move |event| {
            if let Ok((stamp, rows)) = event
                && let Some(epoch) = stamp.least()
            {
                // The windows of rules are for their alerts alone.
                let rows = rows.iter().filter(|row| row.rollup & ROLLUP_OF_RULE == 0).cloned();
                let rows: Vec<RollupRow> = rows.collect();
                if !rows.is_empty() {
                    rolled(*epoch, rows);
                }
            }
        })
        .alerts_of_rows(controls.clone(), group_machines)
        .inspect_core(move |event| {
            if let Ok((stamp, transitions)) = event
                && let Some(epoch) = stamp.least()
            {
                said(*epoch, transitions);
            }
        })
        .probe_with(&probe);
    watched
        .alerts(controls, machines)
        .inspect_core(move |event| {
            if let Ok((stamp, transitions)) = event
                && let Some(epoch) = stamp.least()
            {
                outbox(*epoch, transitions);
            }
        })
        .probe_with(&probe);
    Inputs { samples: samples_input, controls: controls_input, probe }
}

/// Builds the bindings on one worker.
pub fn rules(scope: Scope<'_, u64>, limits: RollupLimits, directory: Arc<Directory>) -> Bindings {
    let mut entries_input = InputSession::new();
    let entries = entries_input.to_collection(scope);
    let mut rules_input = InputSession::new();
    let rules = rules_input.to_collection(scope);
    let bound = Rc::new(RefCell::new(Vec::new()));
    let mut rollups_input = InputSession::new();
    let rollups = rollups_input.to_collection(scope);
    let (taken, probe) = (bound.clone(), Probe::new());
    members(candidates(rollups, entries.clone()), limits, directory)
        .concat(controls(bindings(rules, entries)))
        .inspect_core(move |event| {
            if let Ok((_, controls)) = event {
                taken.borrow_mut().extend_from_slice(controls);
            }
        })
        .probe_with(&probe);
    Bindings {
        entries: entries_input,
        rules: rules_input,
        rollups: rollups_input,
        watching: HashMap::new(),
        scopes: BTreeMap::new(),
        joined: HashSet::new(),
        aside: HashMap::new(),
        bound,
        probe,
    }
}
