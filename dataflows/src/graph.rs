//! The whole graph on one screen.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use differential_dataflow::input::InputSession;
use operators::alerts::{AlertTransition, Alerts};
use operators::binding::{RuleScope, bindings, controls};
use operators::sample::Sample;
use operators::series::SeriesKey;
use operators::window::{Control, Shard, Windows};
use parking_lot::RwLock;
use timely::dataflow::operators::probe::Handle as Probe;
use timely::dataflow::operators::{Concatenate, Input, Inspect, Probe as _};
use timely::dataflow::{InputHandleVec, Scope};

use crate::plan::Plan;

/// The inputs of one worker, all at the same epoch, and a probe at the far end.
pub struct Inputs {
    pub(crate) samples: InputHandleVec<u64, Sample>,
    pub(crate) controls: InputHandleVec<u64, Control>,
    pub(crate) entries: InputSession<u64, (u32, SeriesKey), isize>,
    pub(crate) rules: InputSession<u64, RuleScope, isize>,
    /// Epochs up to which everything has happened.
    pub probe: Probe<u64>,
}

/// Receives alert transitions, in the order of each alert, on the worker's thread; must not block.
pub type Outbox = Arc<dyn Fn(&[AlertTransition]) + Send + Sync>;

/// Builds the graph of one worker.
pub fn build(
    scope: Scope<'_, u64>,
    plan: &Plan,
    shard: Arc<RwLock<Shard>>,
    outbox: Outbox,
    late: Arc<AtomicU64>,
) -> Inputs {
    let (samples_input, samples) = scope.new_input::<Vec<Sample>>();
    let (controls_input, seals) = scope.new_input::<Vec<Control>>();
    let mut entries_input = InputSession::new();
    let entries = entries_input.to_collection(scope);
    let mut rules_input = InputSession::new();
    let rules = rules_input.to_collection(scope);

    let bound = controls(bindings(rules, entries));
    let controls = scope.concatenate([seals, bound]);
    let watched = samples.windows(controls.clone(), shard);
    let probe = Probe::new();
    watched
        .alerts(controls, plan.rules.clone().into(), plan.windows.idle_timeout_ns, late)
        .inspect_core(move |event| {
            if let Ok((_, transitions)) = event {
                outbox(transitions);
            }
        })
        .probe_with(&probe);

    Inputs {
        samples: samples_input,
        controls: controls_input,
        entries: entries_input,
        rules: rules_input,
        probe,
    }
}
