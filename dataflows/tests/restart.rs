//! Restarts: engines that crash or stop at any epoch and go on from a checkpoint and the log, with any number of
//! workers, against one that was never interrupted.
//!
//! Everything must be the same, bit for bit: panes, clocks, sums, machines and their timers, the alert
//! transitions of every epoch, the rows of its rollups, and its closed windows. Of these none come again of a series in
//! the epochs that it had when it was saved.
//!
//! A long run: `ORACLE_CASES=2000 nice cargo test -p dataflows --test restart`.

#[path = "restart/rollups.rs"]
mod rollups;
mod workload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataflows::checkpoint::{Part, PartSink, Refused, queue};
use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::restore::Snapshot;
use dataflows::view::{self, WindowQuery};
use operators::alerts::AlertTransition;
use operators::catalog::Entry;
use operators::closing::{ClosedWindow, ClosingPlan};
use operators::function::Function;
use operators::rollup::RollupRow;
use operators::rule::{Level, Rule, RuleChange};
use operators::sample::{DEDUP, MINUTE, SECOND, Sample, SeriesId, TimeNs};
use proptest::prelude::*;
use workload::{epochs, key, rules, script, window_plan};

/// Transitions by epoch, each epoch's in an order of its own.
type Transitions = BTreeMap<u64, Vec<(u32, SeriesId, String)>>;

/// Stands among transitions for the number of a rule, where the text is a closed window.
const ROW: u32 = u32::MAX;
/// The same for a row of a rollup.
const ROLLED: u32 = u32::MAX - 1;

/// What an engine does before it goes: it feeds so many epochs beyond the log's end, begins a checkpoint at one of
/// them, and lets so many parts go in each epoch; then it crashes, or is stopped with a checkpoint.
#[derive(Clone, Debug)]
struct Life {
    workers: usize,
    epochs: u64,
    checkpoint_at: u64,
    parts_each: usize,
    is_stopped: bool,
}

fn life() -> impl Strategy<Value = Life> {
    (prop::sample::select(vec![1, 2, 4]), 0u64..25, 0u64..25, 0usize..4, prop::bool::weighted(0.15)).prop_map(
        |(workers, epochs, checkpoint_at, parts_each, is_stopped)| Life {
            workers,
            epochs,
            checkpoint_at,
            parts_each,
            is_stopped,
        },
    )
}

/// What outlives a crash: the log, and the newest checkpoint that was finished.
#[derive(Default)]
struct Disk {
    log_end: u64,
    checkpoint: Option<(u64, Vec<Part>)>,
}

/// Plans differ in the order of their rules; `turned` tells which.
fn plan(workers: usize, turned: bool) -> Plan {
    let mut rules = rules();
    if turned {
        rules.reverse();
    }
    // A part a series, so that a checkpoint can be drawn out.
    let closing = ClosingPlan::parse(["sum", "increase", "p90"]).ok();
    Plan { workers, windows: window_plan(), closing, rules, part_bytes: 1, ..Plan::default() }
}

/// An engine that goes on from what is on disk.
fn start(disk: &Disk, mut plan: Plan, epochs: &[Arc<Epoch>], said: &Arc<Mutex<Transitions>>) -> Engine {
    if disk.checkpoint.is_none() {
        // Only a snapshot can know the rules by other numbers than the plan.
        plan.rules = rules();
    }
    let upto = disk.checkpoint.as_ref().map_or(0, |(epoch, _)| *epoch);
    let entries = epochs[..upto as usize].iter().flat_map(|epoch| epoch.entries.clone());
    let planned = plan.initial_rules();
    let mut snapshot = Snapshot::new(plan, entries.collect()).unwrap();
    for part in disk.checkpoint.iter().flat_map(|(_, parts)| parts.iter().rev()) {
        snapshot.add(&part.bytes).unwrap();
    }
    assert_eq!(snapshot.epoch(), upto);
    // A snapshot brings its rules with their numbers, whatever the plan has.
    let rules_now = if disk.checkpoint.is_some() { snapshot.rules().to_vec() } else { planned.added };
    let names: HashMap<u32, String> =
        rules_now.into_iter().map(|(number, rule)| (number, rule.name.to_string())).collect();
    let (said, rows, rolled) = (said.clone(), said.clone(), said.clone());
    let rolled = move |epoch: u64, some: Vec<RollupRow>| {
        let mut rolled = rolled.lock().unwrap();
        rolled.entry(epoch).or_default().extend(some.iter().map(|row| (ROLLED, 0, format!("{row:?}"))));
    };
    let closed = move |epoch: u64, some: Vec<ClosedWindow>| {
        let mut rows = rows.lock().unwrap();
        rows.entry(epoch).or_default().extend(some.iter().map(|row| (ROW, row.series, format!("{row:?}"))));
    };
    let outbox = move |epoch: u64, some: &[AlertTransition]| {
        let mut said = said.lock().unwrap();
        for t in some {
            let number = rules().iter().position(|rule| *rule.name == *names[&t.rule]).unwrap();
            let series = t.source.series().unwrap();
            said.entry(epoch).or_default().push((number as u32, series, format!("{:?}", t.transition)));
        }
    };
    let callbacks = Callbacks {
        outbox: Arc::new(outbox),
        closed: Arc::new(closed),
        rolled: Arc::new(rolled),
        ..Callbacks::default()
    };
    Engine::start_from(snapshot, callbacks, disk.log_end).unwrap()
}

/// A sink that takes as many parts as it was allowed.
fn sluggish() -> (PartSink, Receiver<Part>, Arc<AtomicUsize>) {
    let (sink, parts) = queue(1000);
    let allowed = Arc::new(AtomicUsize::new(0));
    let left = allowed.clone();
    let ask =
        move |part: Part| match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) {
            Ok(_) => sink(part),
            Err(_) => Err(Refused::Full(part)),
        };
    (Arc::new(ask), parts, allowed)
}

fn is_whole(parts: &[Part], workers: usize) -> bool {
    parts.iter().filter(|part| part.end_epoch.is_some()).count() == workers
}

/// Lives through one life; says what it said up to its end.
fn live(disk: &mut Disk, life: &Life, turned: bool, epochs: &[Arc<Epoch>]) -> Transitions {
    let said = Arc::new(Mutex::new(Transitions::new()));
    let engine = start(disk, plan(life.workers, turned), epochs, &said);
    let first = disk.checkpoint.as_ref().map_or(0, |(epoch, _)| *epoch);
    let last = (disk.log_end + life.epochs).min(epochs.len() as u64);
    let mut begun: Option<(u64, Receiver<Part>, Arc<AtomicUsize>)> = None;
    let mut parts = Vec::new();
    for number in first..=last {
        if number > first {
            engine.submit(epochs[number as usize - 1].clone());
        }
        if begun.is_none() && number >= first + life.checkpoint_at {
            let (sink, queue, allowed) = sluggish();
            begun = engine.checkpoint(sink).map(|epoch| (epoch, queue, allowed));
            assert_eq!(begun.as_ref().map(|b| b.0), (number >= engine.exact_from()).then_some(number));
        }
        if let Some((_, queue, allowed)) = &begun {
            // The checkpoint is drawn out over the epochs: each is complete before parts of it go.
            engine.wait_for(number);
            allowed.fetch_add(life.parts_each, Ordering::SeqCst);
            let deadline = Instant::now() + Duration::from_millis(if life.parts_each > 0 { 6 } else { 0 });
            while Instant::now() < deadline && allowed.load(Ordering::SeqCst) > 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
            parts.extend(queue.try_iter());
        }
    }
    disk.log_end = last;
    if life.is_stopped && engine.exact_from() <= last {
        let (sink, queue) = queue(1000);
        assert_eq!(engine.stop_with_checkpoint(sink), Some(last));
        disk.checkpoint = Some((last, queue.iter().collect()));
    } else {
        engine.stop();
        if let Some((epoch, ..)) = begun.filter(|_| is_whole(&parts, life.workers)) {
            disk.checkpoint = Some((epoch, parts));
        }
    }
    let mut said = std::mem::take(&mut *said.lock().unwrap());
    // Those of one alert come in order; alerts of different workers interleave.
    let order =
        |t: &(u32, SeriesId, String)| (t.0, t.1, if t.0 == ROLLED { t.2.clone() } else { String::new() });
    said.values_mut().for_each(|of_epoch| of_epoch.sort_by_key(order));
    said
}

/// The whole state of an engine, as one worker would write it.
fn state(engine: Engine, epochs: &[Arc<Epoch>]) -> Vec<Part> {
    let last = epochs.len() as u64;
    let (sink, parts) = queue(10_000);
    assert_eq!(engine.stop_with_checkpoint(sink), Some(last));
    let disk = Disk { log_end: last, checkpoint: Some((last, parts.iter().collect())) };
    let engine = start(&disk, plan(1, false), epochs, &Arc::default());
    let (sink, parts) = queue(10_000);
    assert_eq!(engine.stop_with_checkpoint(sink), Some(last));
    parts.iter().collect()
}

/// What queries see at the end, as bits.
fn answers(engine: &Engine, epochs: &[Arc<Epoch>]) -> Vec<String> {
    engine.wait_for(epochs.len() as u64);
    let end_ns = epochs[epochs.len() - 1].arrival_ns / MINUTE * MINUTE + 2 * MINUTE;
    let query = WindowQuery { range_ns: end_ns - 30 * MINUTE..end_ns, window_ns: MINUTE, with_values: true };
    let groups: Vec<Vec<SeriesId>> = (0..7).map(|series| vec![series]).collect();
    let (as_of, groups) = view::windows(engine, &groups, &query).unwrap();
    assert_eq!(as_of, epochs.len() as u64);
    let functions = ["count", "sum", "first", "last", "increase", "rate", "stddev", "p90"];
    let show = |group: view::GroupAnswer| {
        let windows: Vec<_> = group
            .windows
            .iter()
            .map(|window| {
                let results = functions
                    .map(|f| Function::parse(f).unwrap().finish(&window.aggregate).map(f64::to_bits));
                (window.start_ns, window.is_final, window.aggregate.revision, results)
            })
            .collect();
        format!("{windows:?} {} {} {}", group.clock_ns, group.late, group.dropped)
    };
    groups.into_iter().map(show).collect()
}

fn cases() -> u32 {
    std::env::var("ORACLE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(16)
}

/// Lets panes be given up as time goes by, and series fall silent for some epochs each.
fn with_floor_and_silence(
    mut epochs: Vec<Arc<Epoch>>,
    behind_ns: TimeNs,
    silence: &[(u64, u64)],
) -> Vec<Arc<Epoch>> {
    for epoch in epochs.iter_mut().filter_map(Arc::get_mut) {
        epoch.floor_ns = epoch.arrival_ns.saturating_sub(behind_ns);
        let speaks = |sample: &Sample| {
            let (from, len) = silence[sample.series as usize];
            !(from..from + len).contains(&epoch.number)
        };
        epoch.batches.iter_mut().for_each(|batch| batch.retain(speaks));
    }
    epochs
}

/// Samples of three series, two of them watched, may not be two of one time.
fn with_dedup(mut epochs: Vec<Arc<Epoch>>) -> Vec<Arc<Epoch>> {
    let samples = epochs.iter_mut().filter_map(Arc::get_mut).flat_map(|epoch| &mut epoch.batches).flatten();
    samples.filter(|sample| sample.series < 3).for_each(|sample| sample.seq = DEDUP);
    epochs
}

/// Whether all that should be was said; up to `exact_from`, closed windows may have been said before.
fn is_said(said: &Transitions, expected: &Transitions, exact_from: u64) -> bool {
    let numbers: BTreeSet<u64> = said.keys().chain(expected.keys()).copied().collect();
    let none = Vec::new();
    numbers.into_iter().all(|number| {
        let of = |all: &Transitions| all.get(&number).unwrap_or(&none).clone();
        let (said, mut expected) = (of(said), of(expected));
        expected.retain(|t| t.0 != ROW || number > exact_from || said.contains(t));
        said == expected
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn engines_that_crash_end_as_one_that_did_not(
        script in script(),
        step_s in 1i64..60,
        floor_min in prop::sample::select(vec![i64::MAX / MINUTE, 12]),
        silence in prop::collection::vec((0u64..60, prop::sample::select(vec![0u64, 10, 60])), 7),
        lives in prop::collection::vec(life(), 1..4),
        workers in prop::sample::select(vec![1, 2, 4]),
    ) {
        let epochs = with_floor_and_silence(epochs(&script, step_s, 0.1), floor_min * MINUTE, &silence);
        let epochs = rollups::with_rollups(with_dedup(epochs));
        let last = epochs.len() as u64;
        let forever = Life { workers: 2, epochs: last, checkpoint_at: last + 1, parts_each: 0, is_stopped: false };
        let expected = live(&mut Disk::default(), &forever, false, &epochs);

        let mut disk = Disk::default();
        for (at, life) in lives.iter().enumerate() {
            let from = disk.checkpoint.as_ref().map_or(0, |(epoch, _)| *epoch);
            let parts = disk.checkpoint.iter().flat_map(|(_, parts)| parts);
            let exact_from = parts.filter_map(|part| part.end_epoch).max().unwrap_or(0);
            let said = live(&mut disk, life, at % 2 == 1, &epochs);
            let lived = |number: &u64| (from + 1..=disk.log_end).contains(number);
            let expected: Transitions =
                expected.iter().filter(|(n, _)| lived(n)).map(|(n, t)| (*n, t.clone())).collect();
            prop_assert!(is_said(&said, &expected, exact_from), "life {at}: {said:?}, expected {expected:?}");
        }
        let engine = start(&disk, plan(workers, lives.len() % 2 == 1), &epochs, &Arc::default());
        let reference = start(&Disk::default(), plan(1, false), &epochs, &Arc::default());
        let from = disk.checkpoint.as_ref().map_or(0, |(epoch, _)| *epoch);
        epochs[from as usize..].iter().for_each(|epoch| engine.submit(epoch.clone()));
        epochs.iter().for_each(|epoch| reference.submit(epoch.clone()));
        prop_assert_eq!(answers(&engine, &epochs), answers(&reference, &epochs));
        prop_assert!(engine.shards().iter().all(|shard| !shard.read().is_catching_up()));
        let (found, expected) = (state(engine, &epochs), state(reference, &epochs));
        // The state, and not only its appearance.
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn parts_that_were_cut_or_changed_are_errors(
        at in any::<prop::sample::Index>(), part in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>(),
        resealed in any::<bool>(),
    ) {
        let parts = some_parts();
        let part = part.index(parts.len());
        let mut bytes = parts[part].bytes.clone();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit };
        let mut snapshot = Snapshot::new(plan(2, false), entries()).unwrap();
        prop_assert!(snapshot.add(&bytes).is_err());
        // With a checksum that fits the decoders are on their own: whatever they say, they say it.
        if resealed && bytes.len() > 8 {
            let content = bytes.len() - 8;
            let sum = operators::packed::checksum(&bytes[..content]).to_le_bytes();
            bytes[content..].copy_from_slice(&sum);
            let mut snapshot = Snapshot::new(plan(2, false), entries()).unwrap();
            if snapshot.add(&bytes).is_ok() {
                let _ = snapshot.end_epoch();
            }
        }
    }
}

fn entries() -> Vec<Entry> {
    (0..7).map(|id| Entry { id, key: key(id) }).collect()
}

/// The parts of a small engine that has something of everything: folded panes, machines in every state.
fn some_parts() -> &'static [Part] {
    static PARTS: std::sync::OnceLock<Vec<Part>> = std::sync::OnceLock::new();
    PARTS.get_or_init(|| {
        let engine = Engine::start(plan(2, false), Callbacks::default()).unwrap();
        for number in 1..=4u64 {
            let now_ns = number as i64 * 15 * SECOND;
            let sample = |at: i64| Sample {
                series: at as u32 % 7,
                seq: if at % 7 < 3 { DEDUP } else { 0 },
                time_ns: now_ns + at * SECOND / 100,
                value: (at % 100) as f64,
            };
            engine.submit(Arc::new(Epoch {
                number,
                arrival_ns: now_ns,
                floor_ns: TimeNs::MIN,
                batches: vec![(0..700).map(sample).collect()],
                entries: if number == 1 { entries() } else { Vec::new() },
                ..Epoch::default()
            }));
        }
        let (sink, parts) = queue(1000);
        engine.stop_with_checkpoint(sink);
        parts.iter().collect()
    })
}

fn add_all<'a>(snapshot: &mut Snapshot, parts: impl IntoIterator<Item = &'a Part>) -> Result<u64, String> {
    for part in parts {
        snapshot.add(&part.bytes).map_err(|error| error.to_string())?;
    }
    snapshot.end_epoch().map_err(|error| error.to_string())
}

#[test]
fn a_snapshot_says_what_is_missing_or_does_not_belong() {
    let parts = some_parts();
    let new = || Snapshot::new(plan(2, false), entries()).unwrap();
    let all = parts.len();
    let end = parts.iter().position(|part| part.end_epoch.is_some()).unwrap();
    for (found, expected) in [
        (add_all(&mut new(), parts), Ok(4)),
        (add_all(&mut new(), parts.iter().chain(&parts[..1])), Err("a part that was not read yet")),
        (add_all(&mut new(), &parts[1..]), Err("parts, found")),
        (add_all(&mut new(), parts[..end].iter().chain(&parts[end + 1..all])), Err("expected the last part")),
        (add_all(&mut Snapshot::new(plan(2, false), Vec::new()).unwrap(), parts), Ok(4)),
    ] {
        match expected {
            Ok(epoch) => assert_eq!(found, Ok(epoch)),
            Err(text) => assert!(found.as_ref().is_err_and(|error| error.contains(text)), "{found:?}"),
        }
    }
    let mut other = plan(2, false);
    other.windows.tiers[0].width_ns = 5 * SECOND;
    let error = add_all(&mut Snapshot::new(other, entries()).unwrap(), parts).unwrap_err();
    assert!(
        error.contains("expected panes [5000000000, 60000000000] ns wide, found [10000000000"),
        "{error}"
    );
}

#[test]
fn a_log_that_ends_before_the_snapshot_does_is_refused() {
    let engine = Engine::start(plan(1, false), Callbacks::default()).unwrap();
    let epoch = |number: u64| {
        let sample = |series| Sample { series, seq: 0, time_ns: number as i64 * SECOND, value: 1.0 };
        Arc::new(Epoch { number, batches: vec![(0..7).map(sample).collect()], ..Epoch::default() })
    };
    engine.submit(epoch(1));
    let (sink, queue, allowed) = sluggish();
    assert_eq!(engine.checkpoint(sink), Some(1));
    engine.submit(epoch(2));
    engine.wait_for(2);
    allowed.store(1000, Ordering::SeqCst);
    let parts: Vec<Part> = queue.iter().collect();
    assert_eq!(parts.last().map(|part| part.end_epoch), Some(Some(2)));
    let restart = |log_end| {
        let mut snapshot = Snapshot::new(plan(1, false), entries()).unwrap();
        assert_eq!(add_all(&mut snapshot, &parts), Ok(2));
        Engine::start_from(snapshot, Callbacks::default(), log_end)
    };
    let error = restart(1).err().unwrap();
    assert_eq!(error, "expected a log up to epoch 2, found its end at 1");
    let engine = restart(2).unwrap();
    assert_eq!((engine.exact_from(), engine.completed()), (2, 1));
    let (sink, _queue) = queue_of_one();
    assert_eq!(engine.checkpoint(sink.clone()), None, "what is not whole is not written");
    assert_eq!(engine.stop_with_checkpoint(sink), None);
}

fn queue_of_one() -> (PartSink, Receiver<Part>) {
    queue(1)
}

#[test]
fn a_checkpoint_that_nobody_takes_or_that_another_replaces_is_given_up() {
    let engine = Engine::start(plan(2, false), Callbacks::default()).unwrap();
    let sample = |series| Sample { series, seq: 0, time_ns: 0, value: 1.0 };
    engine.submit(Arc::new(Epoch {
        number: 1,
        batches: vec![(0..7).map(sample).collect()],
        ..Epoch::default()
    }));
    let (sink, gone) = queue_of_one();
    drop(gone);
    assert_eq!(engine.checkpoint(sink), Some(1));
    let (never, waits, _) = sluggish();
    assert_eq!(engine.checkpoint(never), Some(1));
    let (sink, parts) = queue_of_one();
    assert_eq!(engine.checkpoint(sink), Some(1));
    let whole: Vec<Part> = parts.iter().collect();
    assert!(is_whole(&whole, 2), "a queue of one part is enough");
    assert_eq!(waits.iter().count(), 0, "it ended without its last parts");
    let (never, waits, _) = sluggish();
    engine.checkpoint(never);
    engine.stop();
    assert_eq!(waits.iter().count(), 0, "the engine stops all the same");
    let (sink, _parts) = queue_of_one();
    assert_eq!(engine.stop_with_checkpoint(sink), None, "stopped before");
}

#[test]
fn rules_come_with_the_snapshot_and_change_with_epochs() {
    let parts = some_parts();
    let rule = |name: &str, threshold: f64| {
        let level = Level { bounds: threshold.into(), ..rules()[0].level };
        Rule { name: name.into(), level, ..rules().remove(0) }
    };
    // Series 0, 3 and 6 are watched by rules for m0, 1 and 4 by those for m1.
    for (removed, added, watching) in [
        (vec![], vec![], 5),
        (vec![0], vec![], 2),
        (vec![0, 1], vec![], 0),
        (vec![], vec![(2, rule("new", 50.0))], 8),
        (vec![0], vec![(2, rule("other", 50.0)), (3, rule("third", 1.0))], 8),
        (vec![], vec![(0, rules().remove(0))], 5),
        (vec![], vec![(0, Rule { metric: "m1".into(), ..rules().remove(0) })], 4),
    ] {
        let mut snapshot = Snapshot::new(Plan { rules: Vec::new(), ..plan(4, false) }, entries()).unwrap();
        assert_eq!(add_all(&mut snapshot, parts), Ok(4));
        assert_eq!((snapshot.restored().alerts, snapshot.rules().len()), (5, 2));
        let engine = Engine::start_from(snapshot, Callbacks::default(), 4).unwrap();
        let change = RuleChange { removed, added };
        engine.submit(Arc::new(Epoch {
            number: 5,
            rules: Some(Arc::new(change.clone())),
            ..Epoch::default()
        }));
        engine.wait_for(5);
        let bound: u64 = engine.loads().iter().map(|load| load.alerts_bound.load(Ordering::SeqCst)).sum();
        assert_eq!(bound, watching, "{change:?}");
        let (sink, parts) = queue(1000);
        engine.stop_with_checkpoint(sink);
        let mut again = Snapshot::new(plan(1, false), entries()).unwrap();
        add_all(&mut again, &parts.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(again.restored().alerts, watching, "{change:?}");
        let rules_after =
            2 - change.removed.len() + change.added.iter().filter(|(number, _)| *number > 1).count();
        assert_eq!(again.rules().len(), rules_after, "{change:?}");
    }
}
