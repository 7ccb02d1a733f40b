//! Scenarios in virtual time: every `scenarios/*.scenario`, run with 1, 2 and 4 workers.
//!
//! A scenario is read from top to bottom; `#` begins a comment. What it says:
//!
//! | line | meaning |
//! |---|---|
//! | `origin D` | times are written from here, nanoseconds since the epoch plus `D`; 0 unless said |
//! | `plan W/R [W/R] lateness D horizon D idle D` | tiers as width/retention, then the other durations |
//! | `rule NAME METRIC OP X for D [stale D] [service S] [tag N=V]` | an alert rule |
//! | `series NAME SERVICE METRIC [N=V ...]` | a name for a series; the catalog learns it with its first sample |
//! | `epoch T [floor T]` | an epoch at arrival time `T`, followed by its samples |
//! | `  NAME T X [xN]` | one sample, or `N` copies of it |
//! | `  NAME T..T/D X [+X]` | a sample every `D`, the end excluded, each by `+X` more than the one before |
//! | `heartbeats T..T/D` | epochs without samples, the end excluded |
//! | `windows NAME[,NAME] D [T..T]` | the windows of a series, or a group, of width `D` are these and no others: |
//! | `  T F=X ... final\|open [rev=N]` | start, functions (`none` for no value, `F~X` to within 1e-9), epoch of the last change |
//! | `  sums [late=N] [dropped=N] [clock=T]` | what the answer says of its members |
//! | `refused NAME D T..T D` | such windows can't be had; the width that could |
//! | `alerts` | since the last such line these changes were said, and no others: |
//! | `  RULE NAME KIND T [since=T] [decided=T] [X]` | what, on which series, at which event time, with which value |
//!
//! Times and durations are `1h2m3s4ms5us6ns` with any parts left out, `-` before them, or `min` and `max`,
//! the ends of what can be said, with a duration behind: `max-1ns`.

#[path = "scenarios/script.rs"]
mod script;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::view::{self, GroupAnswer, Unanswerable, WindowQuery};
use operators::alert::Kind;
use operators::alerts::AlertTransition;
use operators::catalog::Entry;
use operators::function::Function;
use operators::sample::{SeriesId, TimeNs};
use script::{Scenario, Step, WindowRow};

#[test]
fn every_scenario_goes_as_it_says_with_any_number_of_workers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "scenario"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 13, "found {} scenarios", paths.len());
    let mut failures = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let scenario = match Scenario::parse(&std::fs::read_to_string(&path).unwrap()) {
            Ok(scenario) => scenario,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        for workers in [1, 2, 4] {
            failures.extend(
                run(&scenario, workers).into_iter().map(|f| format!("{name}, {workers} workers, {f}")),
            );
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// A mistake in a scenario is found, not passed over: the runner is tested by changing what is expected.
#[test]
fn a_scenario_that_goes_otherwise_fails() {
    let text = "rule hot m > 5 for 0s\nseries a s m\nepoch 1s\n  a 1s 9\nwindows a 10s\n  0s count=1 open rev=1\n  \
                sums late=0 clock=1s\nrefused a 7s 0s..70s 10s\nalerts\n  hot a firing 1s 9\n";
    let found = |text: &str| run(&Scenario::parse(text).unwrap(), 1);
    assert_eq!(found(text), Vec::<String>::new());
    for (right, wrong) in [
        ("count=1", "count=2"),
        ("  0s count=1 open rev=1\n", ""),
        ("open", "final"),
        ("rev=1", "rev=2"),
        ("late=0", "late=1"),
        ("clock=1s", "clock=2s"),
        ("70s 10s", "70s 1m"),
        ("firing 1s", "firing 2s"),
        ("1s 9\n", "1s 8\n"),
        ("alerts\n  hot a firing 1s 9\n", ""),
        ("  hot a firing 1s 9\n", ""),
    ] {
        assert!(text.contains(right));
        assert_eq!(found(&text.replacen(right, wrong, 1)).len(), 1, "{right:?} as {wrong:?}");
    }
    for (wrong, line) in [("epoch", 1), ("series a s m\nb 1s 1", 2), ("windows a 10s", 1), ("epoch 1x", 1)] {
        let error = Scenario::parse(wrong).map(|_| ()).unwrap_err();
        assert!(error.starts_with(&format!("line {line}: expected")), "{error}");
    }
}

/// Runs a scenario; gives what went otherwise than it says.
fn run(scenario: &Scenario, workers: usize) -> Vec<String> {
    let transitions: Arc<Mutex<Vec<AlertTransition>>> = Arc::default();
    let outbox = transitions.clone();
    let callbacks = Callbacks {
        outbox: Arc::new(move |_, some| outbox.lock().unwrap().extend_from_slice(some)),
        ..Callbacks::default()
    };
    let plan =
        Plan { workers, windows: scenario.plan.clone(), rules: scenario.rules.clone(), ..Plan::default() };
    let engine = match Engine::start(plan, callbacks) {
        Ok(engine) => engine,
        Err(error) => return vec![error],
    };
    let mut run =
        Run { scenario, engine, transitions, known: HashSet::new(), number: 0, floor_ns: TimeNs::MIN };
    let mut failures: Vec<String> = Vec::new();
    for (line, step) in &scenario.steps {
        failures.extend(run.step(step).err().map(|f| format!("line {line}: {f}")));
    }
    failures.extend(run.alerts(&[]).err().map(|f| format!("at the end: {f}")));
    run.engine.stop();
    failures
}

struct Run<'a> {
    scenario: &'a Scenario,
    engine: Engine,
    transitions: Arc<Mutex<Vec<AlertTransition>>>,
    known: HashSet<SeriesId>,
    number: u64,
    floor_ns: TimeNs,
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Epoch { arrival_ns, floor_ns, samples } => {
                self.number += 1;
                self.floor_ns = floor_ns.unwrap_or(self.floor_ns);
                let new = samples.iter().map(|s| s.series).filter(|id| self.known.insert(*id));
                let entries = new.map(|id| Entry { id, key: self.scenario.series[id as usize].1.clone() });
                self.engine.submit(Arc::new(Epoch {
                    number: self.number,
                    arrival_ns: *arrival_ns,
                    floor_ns: self.floor_ns,
                    entries: entries.collect(),
                    // Several batches, so that workers' shares begin inside of one.
                    batches: samples.chunks(3).map(<[_]>::to_vec).collect(),
                    ..Epoch::default()
                }));
                Ok(())
            }
            Step::Windows { members, query, rows, sums } => {
                let answer = self.ask(members, query).map_err(|refusal| format!("{refusal:?}"))?;
                self.windows(&answer, rows)?;
                self.sums(&answer, sums)
            }
            Step::Refused { members, query, possible_ns } => match self.ask(members, query) {
                Ok(_) => Err("expected a refusal, found an answer".into()),
                Err(
                    Unanswerable::NotAMultiple { pane_ns: ns } | Unanswerable::TooFine { coarsest_ns: ns },
                ) => expect(&script::show(*possible_ns), &script::show(ns)),
            },
            Step::Alerts(rows) => self.alerts(rows),
        }
    }

    fn ask(&self, members: &[SeriesId], query: &WindowQuery) -> Result<GroupAnswer, Unanswerable> {
        self.engine.wait_for(self.number);
        let (_, mut answers) = view::windows(&self.engine, &[members.to_vec()], query)?;
        Ok(answers.remove(0))
    }

    fn windows(&self, answer: &GroupAnswer, rows: &[WindowRow]) -> Result<(), String> {
        let found: Vec<String> = answer
            .windows
            .iter()
            .enumerate()
            .map(|(at, window)| {
                let mut text = self.scenario.show_time(window.start_ns);
                // Of a window that nobody expects only the count is shown.
                let fallback = [("count".to_string(), None, false)];
                let values = rows.get(at).map_or(&fallback[..], |row| &row.values);
                for (name, expected, near) in values {
                    let value = Function::parse(name).and_then(|f| f.finish(&window.aggregate));
                    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
                    let value = match (value, *expected) {
                        (Some(a), Some(b)) if *near && close(a, b) => Some(b),
                        (value, _) => value,
                    };
                    text += &script::show_value(name, value);
                }
                text += if window.is_final { " final" } else { " open" };
                if rows.get(at).is_some_and(|row| row.revision.is_some()) {
                    text += &format!(" rev={}", window.aggregate.revision);
                }
                text
            })
            .collect();
        let expected: Vec<String> = rows.iter().map(|row| row.show(self.scenario)).collect();
        expect(&expected.join("\n  "), &found.join("\n  "))
    }

    fn sums(&self, answer: &GroupAnswer, sums: &[(String, i64)]) -> Result<(), String> {
        for (name, expected) in sums {
            let found = match name.as_str() {
                "late" => answer.late as i64,
                "dropped" => answer.dropped as i64,
                _ => answer.clock_ns,
            };
            expect(&format!("{name}={expected}"), &format!("{name}={found}"))?;
        }
        Ok(())
    }

    fn alerts(&self, rows: &[script::AlertRow]) -> Result<(), String> {
        self.engine.wait_for(self.number);
        let mut said = std::mem::take(&mut *self.transitions.lock().unwrap());
        // Those of one alert are in order; alerts of different workers interleave.
        said.sort_by_key(|t| (t.rule, t.source));
        let mut rows: Vec<_> = rows.iter().collect();
        rows.sort_by_key(|row| (row.rule, row.series));
        let show = |at: usize, t: &AlertTransition| {
            let s = self.scenario;
            let kind = match t.transition.kind {
                Kind::Pending => "pending",
                Kind::Cancelled => "cancelled",
                Kind::Firing => "firing",
                Kind::Resolved { no_data: false } => "resolved",
                Kind::Resolved { no_data: true } => "no_data",
                Kind::Retracted => "retracted",
            };
            let (rule, series) =
                (&s.rules[t.rule as usize].name, &s.series[t.source.series().unwrap() as usize].0);
            let mut text = format!("{rule} {series} {kind} {}", s.show_time(t.transition.at_ns));
            let row = rows.get(at);
            if row.is_some_and(|row| row.since_ns.is_some()) {
                text += &format!(" since={}", s.show_time(t.transition.since_ns));
            }
            if row.is_some_and(|row| row.decided_ns.is_some()) {
                text += &format!(" decided={}", s.show_time(t.transition.decided_by_ns));
            }
            if row.is_some_and(|row| row.value.is_some()) {
                text += &format!(" {}", t.transition.value);
            }
            text
        };
        let found: Vec<String> = said.iter().enumerate().map(|(at, t)| show(at, t)).collect();
        let expected: Vec<String> = rows.iter().map(|row| row.show(self.scenario)).collect();
        expect(&expected.join("\n  "), &found.join("\n  "))
    }
}

fn expect(expected: &str, found: &str) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("expected\n  {expected}\nfound\n  {found}")) }
}
