//! The whole graph on one screen: what every sample passes, and beside it what decides which rule watches which series.
//!
//! They are two dataflows, since they move at different paces: the first has an epoch every few milliseconds, the
//! second stands still until an epoch brings a series or a rule.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::input::InputSession;
use operators::alerts::{AlertTransition, Alerts, Machines};
use operators::binding::{RuleScope, bindings, controls};
use operators::catalog::Entry;
use operators::closing::ClosedWindow;
use operators::exchange::Parcel;
use operators::series::SeriesKey;
use operators::window::{Control, Shard, Windows};
use parking_lot::RwLock;
use timely::dataflow::operators::probe::Handle as Probe;
use timely::dataflow::operators::{Input, Inspect, Probe as _};
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
    /// Join keys that some rule has or had.
    pub(crate) joined: HashSet<u64>,
    /// This worker's share of the series whose join key no rule had yet.
    pub(crate) apart: Vec<Entry>,
    /// What rules there are.
    pub(crate) scopes: HashMap<u32, RuleScope>,
    /// What was bound and is not taken out yet.
    pub(crate) bound: Rc<RefCell<Vec<Control>>>,
    /// Epochs up to which everything is in `bound`.
    pub probe: Probe<u64>,
}

/// Receives the epoch and alert transitions that it made, in the order of each alert, on the worker's thread;
/// must not block. An epoch may come in several calls, and from every worker. Epochs taken in again after a
/// restart bring theirs again.
pub type Outbox = Arc<dyn Fn(u64, &[AlertTransition]) + Send + Sync>;

/// Receives the closed windows of an epoch, on the thread of the worker whose series they are, before that
/// worker says that the epoch is complete; must not block. Called only where there are any.
pub type Closed = Arc<dyn Fn(u64, Vec<ClosedWindow>) + Send + Sync>;

/// Builds the way of samples on one worker.
pub fn samples(
    scope: Scope<'_, u64>,
    shard: Arc<RwLock<Shard>>,
    machines: Rc<RefCell<Machines>>,
    outbox: Outbox,
    closed: Closed,
) -> Inputs {
    let (samples_input, samples) = scope.new_input::<Vec<Parcel>>();
    let (controls_input, controls) = scope.new_input::<Vec<Control>>();
    let preparing = machines.clone();
    let prepare = move |epoch, controls: &[Control], shard: &Shard| {
        // Rules that are restored with their alerts are bound behind no sealed epoch, and start from those.
        if controls.iter().any(|control| matches!(control, Control::Seal { .. })) {
            let look = |series, from_ns| shard.backlog(series, from_ns);
            preparing.borrow_mut().prepare(epoch, controls, look);
        }
    };
    let watched = samples.windows(controls.clone(), shard, prepare, move |epoch, rows| closed(epoch, rows));
    let probe = Probe::new();
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
pub fn rules(scope: Scope<'_, u64>) -> Bindings {
    let mut entries_input = InputSession::new();
    let entries = entries_input.to_collection(scope);
    let mut rules_input = InputSession::new();
    let rules = rules_input.to_collection(scope);
    let bound = Rc::new(RefCell::new(Vec::new()));
    let (taken, probe) = (bound.clone(), Probe::new());
    controls(bindings(rules, entries))
        .inspect_core(move |event| {
            if let Ok((_, controls)) = event {
                taken.borrow_mut().extend_from_slice(controls);
            }
        })
        .probe_with(&probe);
    Bindings {
        entries: entries_input,
        rules: rules_input,
        joined: HashSet::new(),
        apart: Vec::new(),
        scopes: HashMap::new(),
        bound,
        probe,
    }
}
