//! Bindings: which rule watches which series, as a differential join of rules with the series catalog.
//!
//! Both sides are collections, so a new series binds to the rules there are, a new rule to the series there
//! are, and a removed one lets go, each at the cost of what it matches.

use differential_dataflow::VecCollection;
use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange as ExchangePact;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Map;

use crate::family;
use crate::sample::SeriesId;
use crate::series::{SeriesKey, TargetMatcher};
use crate::stable_hash::StableHash;
use crate::window::Control;

/// The part of a rule that decides what it watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleScope {
    /// The rule's number.
    pub rule: u32,
    /// Metric as the rule names it: a full name or a family.
    pub metric: String,
    /// Targets meant.
    pub matcher: TargetMatcher,
}

impl RuleScope {
    /// Whether the rule watches this series.
    pub fn matches(&self, key: &SeriesKey) -> bool {
        family::rank(&self.metric, &key.metric).is_some() && self.matcher.matches(&key.target)
    }
}

/// Joins rules with catalog entries on the metric family.
pub fn bindings<'scope>(
    rules: VecCollection<'scope, u64, RuleScope, isize>,
    entries: VecCollection<'scope, u64, (SeriesId, SeriesKey), isize>,
) -> VecCollection<'scope, u64, (SeriesId, u32), isize> {
    // A hash of the family is enough: what it takes for the same is compared.
    let rules = rules.map(|rule| (join_key(&rule.metric), rule));
    let entries = entries.map(|(id, key)| (join_key(&key.metric), (id, key)));
    rules
        .join_map(entries, |_family, rule, (id, key)| (rule.matches(key), (*id, rule.rule)))
        .flat_map(|(matches, binding)| matches.then_some(binding))
}

/// By what rules and series are joined: a series that has the key of no rule need not come here at all.
pub fn join_key(metric: &str) -> u64 {
    StableHash::new().text(family::key(metric)).finish() as u64
}

/// Bindings as controls, each at the worker that owns its series.
pub fn controls<'scope>(
    bindings: VecCollection<'scope, u64, (SeriesId, u32), isize>,
) -> StreamVec<'scope, u64, Control> {
    let by_series = ExchangePact::new(|control: &Control| match control {
        Control::Bind { series, .. } => u64::from(*series),
        _ => 0,
    });
    bindings
        .inner
        .map(|((series, rule), _epoch, diff)| Control::Bind { series, rule, diff: diff as i32 })
        .unary(by_series, "Route bindings", |_capability, _info| {
            |input, output| {
                input
                    .for_each_stamp(|capability, chunks| output.session(&capability).give_containers(chunks));
            }
        })
}
