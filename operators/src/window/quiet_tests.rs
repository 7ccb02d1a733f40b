//! Alerts say the same, and know the same in the end, whether they sleep or see every value.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::alerts::{AlertCounters, AlertTransition, Machines, Patience};
use crate::rule::{Level, Rule, RuleChange};
use crate::sample::{DurationNs, MINUTE, SECOND};
use crate::tier::Tier;

const START_NS: TimeNs = 1_700_000_000 * SECOND;
const SERIES: u32 = 3;

/// A sample of an epoch: series, how far behind the arrival in tenths of a second, value.
type Given = (u32, i64, u32);

#[derive(Clone, Debug)]
struct Step {
    samples: Vec<Given>,
    /// Tenths of a second since the epoch before.
    after: i64,
    /// Which rule begins or ceases to watch which series.
    bind: Option<(u32, u32)>,
    /// Whether state is saved behind it.
    saves: bool,
    /// Seconds before the arrival from which on panes are given up.
    floor: Option<i64>,
}

fn step() -> impl Strategy<Value = Step> {
    let late = prop_oneof![12 => Just(0i64), 2 => -5i64..5, 1 => 0i64..100, 1 => 0i64..1000];
    let sample = (0..SERIES, late, prop_oneof![9 => 0u32..80, 1 => 80u32..100]);
    let samples = prop_oneof![
        8 => prop::collection::vec(sample.clone(), 0..8),
        1 => prop::collection::vec(sample, 0..200),
    ];
    let after = prop_oneof![6 => 1i64..20, 2 => 20i64..120, 1 => 200i64..2000];
    let bind = prop::option::weighted(0.05, (0..SERIES, 0u32..3));
    let floor = prop::option::weighted(0.03, 0i64..60);
    (samples, after, bind, prop::bool::weighted(0.1), floor)
        .prop_map(|(samples, after, bind, saves, floor)| Step { samples, after, bind, saves, floor })
}

fn rules() -> RuleChange {
    let rule = |name: &str, threshold: f64, keep_s: i64| {
        let mut rule = Rule {
            name: name.into(),
            metric: "m".into(),
            level: Level::new(">".parse().expect("an operator"), threshold),
            ..Rule::default()
        };
        rule.timing.duration_ns = 3 * SECOND;
        rule.timing.keep_ns = keep_s * SECOND;
        rule
    };
    let below = Rule { level: Level::new("<".parse().expect("an operator"), 4.0), ..rule("low", 0.0, 0) };
    let added = vec![(0, rule("high", 90.0, 0)), (1, rule("higher", 95.0, 8)), (2, below)];
    RuleChange { removed: Vec::new(), added }
}

fn plan() -> WindowPlan {
    let tiers = vec![
        Tier { width_ns: 10 * SECOND, retention_ns: 2 * MINUTE },
        Tier { width_ns: MINUTE, retention_ns: 10 * MINUTE },
    ];
    WindowPlan { tiers, ..WindowPlan::default() }
}

/// What was said, how many came too late, what was saved, and how often values were owed.
type Told = (Vec<(u64, AlertTransition)>, u64, Vec<Vec<u8>>, usize);

fn run(steps: &[Step], lateness_ns: DurationNs, sleeps: bool) -> Told {
    let plan = WindowPlan { lateness_ns, ..plan() };
    let patience = Patience { lateness_ns, idle_timeout_ns: plan.idle_timeout_ns, ..Patience::default() };
    let counters = AlertCounters::default();
    let machines = Rc::new(RefCell::new(Machines::new(patience, 1, counters.clone())));
    if sleeps {
        machines.borrow_mut().let_sleep();
    }
    let mut shard = Shard::new(Arc::new(plan), 0, 1);
    let (mut arrival_ns, mut floor_ns) = (START_NS, TimeNs::MIN);
    let (mut said, mut saved, mut owing) = (Vec::new(), Vec::new(), 0);
    let mut bound = std::collections::HashSet::new();
    for (number, step) in (1..).zip(steps) {
        arrival_ns += step.after * SECOND / 10;
        floor_ns = step.floor.map_or(floor_ns, |floor| floor_ns.max(arrival_ns - floor * SECOND));
        let mut controls = vec![Control::Seal { arrival_ns, floor_ns }];
        if number == 1 {
            controls.push(Control::Rules(Arc::new(rules())));
            for series in 0..SERIES {
                bound.insert((series, 0));
                controls.push(Control::Bind { series, rule: 0, diff: 1 });
            }
        } else if let Some((series, rule)) = step.bind {
            let diff = if bound.remove(&(series, rule)) { -1 } else { 1 };
            if diff > 0 {
                bound.insert((series, rule));
            }
            controls.push(Control::Bind { series, rule, diff });
        }
        let samples = step.samples.iter().zip(0..).map(|((series, late, value), seq)| Sample {
            series: *series,
            seq,
            time_ns: arrival_ns - late * SECOND / 10,
            value: f64::from(*value),
        });
        let samples: Vec<Sample> = samples.collect();
        let mut alerts = machines.clone();
        alerts.prepare(number, &controls, &shard);
        let mut given = Vec::new();
        shard.apply(
            number,
            &controls,
            &[samples],
            Watching { alerts: &mut alerts, give: |sample| given.push(sample) },
        );
        owing += (0..SERIES).filter(|series| shard.history(*series).is_some_and(History::owes)).count();
        machines.borrow_mut().apply(number, &controls, vec![given], |moved| said.push((number, moved)));
        if step.saves || number == steps.len() as u64 {
            shard.catch_up(&mut alerts);
            machines.borrow_mut().save(1 << 20, Some(&shard), |part| saved.push(part.to_vec()));
        }
    }
    // They come in the order of each alert.
    said.sort_by_key(|(number, moved)| (*number, moved.source, moved.rule));
    (said, counters.late.load(Ordering::Relaxed), saved, owing)
}

proptest! {
    #[test]
    fn it_makes_no_difference_whether_alerts_sleep(
        steps in prop::collection::vec(step(), 1..120),
        lateness_s in prop_oneof![Just(30i64), 0i64..60],
    ) {
        let awake = run(&steps, lateness_s * SECOND, false);
        let asleep = run(&steps, lateness_s * SECOND, true);
        prop_assert_eq!(&asleep.0, &awake.0);
        prop_assert_eq!(asleep.1, awake.1, "too late");
        prop_assert_eq!(&asleep.2, &awake.2);
        prop_assert_eq!(awake.3, 0);
    }
}

#[test]
fn quiet_values_are_not_given() {
    let quiet =
        |_| Step { samples: vec![(0, 0, 5), (1, 0, 5)], after: 10, bind: None, saves: false, floor: None };
    let mut steps: Vec<Step> = (0..200).map(quiet).collect();
    let (said, late, _, owing) = run(&steps, 30 * SECOND, true);
    // All but the first, before which nobody knew that they sleep.
    assert_eq!((said.len(), late, owing), (0, 0, 2 * 199));
    steps[150].samples[0].2 = 99;
    assert!(run(&steps, 30 * SECOND, true).3 >= 2 * 199 - 60, "one that wakes falls asleep again");
}
