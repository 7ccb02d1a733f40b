//! Runs against a model: a map from starts to panes, of which nothing is ever packed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::pane::RAW_LEN_MAX;

const WIDTH_NS: DurationNs = 10;

#[derive(Clone, Debug)]
enum Step {
    /// So many observations for the pane so many widths behind the newest, or before it.
    Insert(i64, usize),
    /// Moves the newest pane so many widths on.
    Advance(i64),
    Pack,
    /// Drops panes that begin so many widths or more behind the newest.
    Drop(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0i64..4, 1usize..4).prop_map(|(behind, len)| Step::Insert(behind, len)),
        2 => (0i64..90, prop_oneof![1usize..4, RAW_LEN_MAX..3 * RAW_LEN_MAX])
            .prop_map(|(behind, len)| Step::Insert(behind, len)),
        8 => prop_oneof![Just(1i64), 1i64..5, 60i64..80].prop_map(Step::Advance),
        1 => Just(Step::Pack),
        1 => (0i64..120).prop_map(Step::Drop),
    ];
    prop::collection::vec(step, 0..120)
}

/// Everything of a pane that anybody can see, as bytes.
fn shown(pane: &Pane) -> (TimeNs, Vec<u8>) {
    let mut bytes = Vec::new();
    pane.pack(&mut bytes);
    (pane.start_ns, bytes)
}

fn insert(pane: &mut Pane, len: usize, revision: u64) {
    for number in 0..len as i64 {
        let time_ns = pane.start_ns + number % WIDTH_NS;
        pane.insert(Obs { time_ns, value: (revision as f64) * 0.7 - number as f64 });
    }
    pane.revision = revision;
}

fn check(run: &Run, model: &BTreeMap<TimeNs, Pane>, newest_ns: TimeNs) {
    let mut all = Vec::new();
    run.visit(WIDTH_NS, Run::EVERYTHING, |pane| all.push(shown(pane)));
    assert_eq!(all, model.values().map(shown).collect::<Vec<_>>());
    assert_eq!(run.len(), model.len());
    assert_eq!(run.oldest_start(WIDTH_NS), model.keys().next().copied());
    assert_eq!(run.newest_start(), model.keys().next_back().copied());
    for from_ns in (newest_ns - 130 * WIDTH_NS..newest_ns + 3 * WIDTH_NS).step_by(37) {
        let till_ns = from_ns + 11 * WIDTH_NS + 3;
        assert_eq!(run.first_from(WIDTH_NS, from_ns), model.range(from_ns..).next().map(|(at, _)| *at));
        assert_eq!(run.last_below(WIDTH_NS, from_ns), model.range(..from_ns).next_back().map(|(at, _)| *at));
        assert_eq!(run.count_in(WIDTH_NS, from_ns..till_ns), model.range(from_ns..till_ns).count());
        let mut some = Vec::new();
        run.visit(WIDTH_NS, from_ns..till_ns, |pane| some.push(pane.start_ns));
        assert_eq!(some, model.range(from_ns..till_ns).map(|(at, _)| *at).collect::<Vec<_>>());
    }
}

proptest! {
    #[test]
    fn a_run_is_a_map_of_panes(steps in steps(), begins_ns in prop_oneof![Just(0i64), -5_000i64..5_000]) {
        let (mut run, mut model) = (Run::default(), BTreeMap::<TimeNs, Pane>::new());
        let mut newest_ns = begins_ns.div_euclid(WIDTH_NS) * WIDTH_NS;
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(behind, len) => {
                    let start_ns = newest_ns - behind * WIDTH_NS;
                    insert(run.pane_mut(WIDTH_NS, start_ns), len, at as u64 + 1);
                    let pane = model.entry(start_ns).or_insert_with(|| Pane::new(start_ns, 1));
                    insert(pane, len, at as u64 + 1);
                }
                Step::Advance(widths) => newest_ns += widths * WIDTH_NS,
                Step::Pack => _ = run.pack(WIDTH_NS),
                Step::Drop(behind) => {
                    let floor_ns = newest_ns - behind * WIDTH_NS;
                    let kept = model.split_off(&floor_ns);
                    prop_assert_eq!(run.drop_before(WIDTH_NS, floor_ns), model.len() as u64);
                    model = kept;
                }
            }
            check(&run, &model, newest_ns);
        }
    }
}

#[test]
fn closed_panes_take_little_memory() {
    for (len, bytes_max) in [(1, 40), (6, 90)] {
        let mut run = Run::default();
        let panes = 360;
        for place in 0..panes {
            let start_ns = place * 10_000_000_000;
            let pane = run.pane_mut(10_000_000_000, start_ns);
            for number in 0..len {
                let time_ns = start_ns + number * 1_500_000_000;
                pane.insert(Obs { time_ns, value: (place * 10 + number) as f64 * 0.37 });
            }
            pane.revision = 1_000_000 + place as u64;
        }
        run.pack(10_000_000_000);
        let bytes = run.heap_bytes() / panes as usize;
        assert!(bytes <= bytes_max, "{bytes} bytes a pane of {len}");
    }
}
