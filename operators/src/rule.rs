//! Alert rules as the engine knows them: what they watch, what they compare, and for how long it must hold.
//!
//! A rule is data: it enters with an epoch, as a [`RuleChange`], and so is part of the log like the samples it
//! judges. Its number is given at the edge and never used again for another rule.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::alert::{Timing, Verdict};
use crate::anomaly::Method;
use crate::condition::{Bounds, Operator};
use crate::rollup::{Rollup, RollupChange};
use crate::sample::DurationNs;
use crate::series::{Target, TargetMatcher};
use crate::stable_hash::StableHash;

/// An alert rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name, unique among the rules.
    pub name: Arc<str>,
    /// Metric name or family.
    pub metric: String,
    /// Targets meant.
    pub matcher: TargetMatcher,
    /// What of their samples is compared.
    pub signal: Signal,
    /// With what.
    pub level: Level,
    /// For how long that must hold, and how long a value does.
    pub timing: Timing,
    /// What people are told.
    pub texts: Texts,
}

/// What of the samples of a series, or a group of them, is compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Signal {
    /// The value of each sample, from its event time on.
    #[default]
    Sample,
    /// A window function, at every multiple of a hop.
    Window(WindowSignal),
    /// Seconds without a sample in event time, once they are more than this. The level does not matter.
    Absent {
        /// Longest time between two samples that is no absence.
        for_ns: DurationNs,
    },
    /// Seconds by which the newest event time is behind the arrival clock, once they are more than this. The level
    /// does not matter.
    Stale {
        /// Greatest age that is not stale.
        for_ns: DurationNs,
    },
    /// How strange each sample is to a detector, from 0 to 1.
    Anomaly {
        /// The detector.
        method: Method,
    },
}

impl Signal {
    /// Whether the windows of a rollup are judged, not samples.
    pub fn is_window(&self) -> bool {
        matches!(self, Signal::Window(_))
    }

    /// The detector that judges the values, if one does.
    pub fn method(&self) -> Option<Method> {
        match self {
            Signal::Anomaly { method } => Some(*method),
            _ => None,
        }
    }

    /// Whether a detector judges the values, once and for all.
    pub fn is_judged(&self) -> bool {
        self.method().is_some()
    }
}

/// A window function as a signal. At every multiple `t` of `hop_ns` its value is that of the samples in
/// `[t - window_ns, t)`, and it holds until the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowSignal {
    /// Name of the function, as [`Function::parse`](crate::function::Function::parse) reads it.
    pub function: String,
    /// Width: a multiple of the finest panes'.
    pub window_ns: DurationNs,
    /// Distance between two values: a multiple of the finest panes' width.
    pub hop_ns: DurationNs,
    /// Whose samples come together.
    pub grouping: Grouping,
    /// What the function's value is divided by: that of another metric, over the same window and grouping.
    pub over: Option<Over>,
    /// With fewer samples in the window there is no value.
    pub samples_min: u64,
}

/// The lower half of a ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Over {
    /// Metric name or family.
    pub metric: String,
    /// Targets meant.
    pub matcher: TargetMatcher,
    /// Name of the function.
    pub function: String,
}

/// Which series are taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grouping {
    /// Each on its own.
    #[default]
    Series,
    /// Those that agree in these tags; `service` stands for the service.
    By(Vec<String>),
    /// Those that agree in all but these.
    Without(Vec<String>),
}

/// The name of the service among tags to group by.
pub const SERVICE: &str = "service";

impl Grouping {
    /// What the members of `target`'s group share: its service and the tags that are grouped by, the service empty
    /// where that is not among them.
    pub fn group_of(&self, target: &Target) -> Target {
        let kept = |name: &str| match self {
            Grouping::Series => true,
            Grouping::By(names) => names.iter().any(|by| by == name),
            Grouping::Without(names) => names.iter().all(|without| without != name),
        };
        let tags = target.tags.iter().filter(|(name, _)| kept(name));
        let service = if kept(SERVICE) { &*target.service } else { "" };
        Target::new(service, tags.map(|(name, value)| (&**name, &**value)))
    }
}

/// What a value is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// How.
    pub operator: Operator,
    /// The threshold or range: beyond it a value breaches.
    pub bounds: Bounds,
    /// Beyond this one an alert that fires goes on (hysteresis). `None`: the same.
    pub resolve: Option<Bounds>,
}

impl Level {
    /// A comparison without hysteresis.
    pub fn new(operator: Operator, bounds: impl Into<Bounds>) -> Level {
        Level { operator, bounds: bounds.into(), resolve: None }
    }

    /// Whether a value breaches.
    #[inline]
    pub fn breaches(&self, value: f64) -> bool {
        // No value does, whatever it is compared with.
        !value.is_nan() && self.operator.holds(value, self.bounds)
    }

    /// What it says of a value. One that does not breach, but has not passed the second threshold, keeps an alert.
    #[inline]
    pub fn verdict(&self, value: f64) -> Verdict {
        if value.is_nan() {
            // A window without a value.
            Verdict::Nothing
        } else if self.breaches(value) {
            Verdict::Breach
        } else if self.resolve.is_some_and(|resolve| self.operator.holds(value, resolve)) {
            Verdict::Keep
        } else {
            Verdict::Quiet
        }
    }
}

/// What people are told of a rule's alerts. Nothing depends on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Texts {
    /// Severity.
    pub severity: Arc<str>,
    /// Message, with places for values such as `{{value}}`.
    pub message: Arc<str>,
    /// Further labels, whose values may have places too.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// Further texts.
    pub annotations: Vec<(Arc<str>, Arc<str>)>,
}

/// Of the number of the rollup that is the window of a rule; the rest of it is the rule's number. Others are below.
pub const ROLLUP_OF_RULE: u32 = 1 << 31;

/// Rules that come and go with an epoch: first those that go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleChange {
    /// Numbers of rules that are gone.
    pub removed: Vec<u32>,
    /// New rules, or other texts of rules that stay, with their numbers.
    pub added: Vec<(u32, Rule)>,
}

impl RuleChange {
    /// The rollups that come and go with the rules: the windows that they compare. Their rows are corrected for as long as
    /// alerts are.
    pub fn rollups(&self, lateness_ns: DurationNs) -> RollupChange {
        let number = |rule: u32| ROLLUP_OF_RULE | rule;
        let added = self.added.iter().filter_map(|(rule, definition)| {
            let Signal::Window(signal) = &definition.signal else { return None };
            let Rule { name, metric, matcher, .. } = definition;
            // Its name says nothing: rules that only have other texts keep their rollup as it is.
            let rollup =
                Rollup::of_signal(name.clone(), metric.clone(), matcher.clone(), signal, lateness_ns);
            Some((number(*rule), Arc::new(rollup)))
        });
        let removed = self.removed.iter().map(|rule| number(*rule));
        RollupChange { removed: removed.collect(), added: added.collect() }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

impl Rule {
    /// What the rule is but for its texts, by which it is known again: the same for the same definition under the
    /// same name, in every process.
    pub fn identity(&self) -> u128 {
        // Postcard's form of a definition is stable, and holds every field.
        let Rule { name, metric, matcher, signal, level, timing, texts: _ } = self;
        let bytes = postcard::to_allocvec(&(name, metric, matcher, signal, level, timing));
        StableHash::new().text("rule 2").bytes(&bytes.unwrap_or_default()).finish()
    }
}

impl Default for Rule {
    /// Matches nothing, and would fire at once above zero.
    fn default() -> Rule {
        Rule {
            name: "".into(),
            metric: String::new(),
            matcher: TargetMatcher::default(),
            signal: Signal::Sample,
            level: Level { operator: Operator::default(), bounds: 0.0.into(), resolve: None },
            timing: Timing::default(),
            texts: Texts::default(),
        }
    }
}
