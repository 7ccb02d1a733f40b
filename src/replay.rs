//! Plays a journal through an engine of its own: which alerts would have fired, which windows come out.
//!
//! State being a function of the journal, two replays of one journal with the same rules say the same, bit for bit,
//! whatever the number of workers; the digests in the summary are for comparing them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataflows::engine::Engine;
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::view::{self, WindowQuery};
use operators::alert::{Kind, alert_id};
use operators::alerts::AlertTransition;
use operators::catalog::{Catalog, CatalogLimits};
use operators::function;
use operators::sample::{SeriesId, TimeNs};
use operators::stable_hash::StableHash;
use operators::tier::floor_to;

use crate::gathered::Gathered;
use crate::journal::epochs::{self, KIND_EPOCH};
use crate::journal::files::Files;
use crate::journal::log::{Log, LogConfig};

/// Functions whose values go into the digest of the windows.
const DIGESTED: &[&str] =
    &["count", "sum", "avg", "min", "max", "first", "last", "stddev", "rate", "increase", "p50", "p99"];

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// First and last epoch.
    pub epochs: (u64, u64),
    /// Epochs between them that the journal does not hold whole.
    pub missing: u64,
    /// Samples.
    pub samples: u64,
    /// Series.
    pub series: u64,
    /// Windows held at the end.
    pub windows: u64,
    /// Hash of the windows.
    pub windows_digest: u128,
    /// Alert transitions.
    pub transitions: u64,
    /// Hash of the transitions.
    pub transitions_digest: u128,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "epochs       {} to {}, {} missing", self.epochs.0, self.epochs.1, self.missing)?;
        writeln!(f, "samples      {} of {} series", self.samples, self.series)?;
        writeln!(f, "windows      {} held at the end, digest {:032x}", self.windows, self.windows_digest)?;
        write!(f, "transitions  {}, digest {:032x}", self.transitions, self.transitions_digest)
    }
}

/// Replays the journal in `dir` through an engine of `plan`, `speed` times as fast as it was written (`None`: as
/// fast as it goes), and writes a line of JSON to `out` for each alert that fires or is resolved.
///
/// # Errors
/// The journal can't be opened or read, the engine can't start, or `out` can't be written.
pub fn replay(
    files: Arc<dyn Files>,
    dir: &Path,
    plan: Plan,
    speed: Option<f64>,
    out: &mut dyn Write,
) -> io::Result<Summary> {
    let (log, _) =
        Log::open(files, LogConfig { dir: dir.into(), ..LogConfig::default() }).map_err(io::Error::other)?;
    let gathered = Gathered::default();
    let names: Vec<Arc<str>> = plan.rules.iter().map(|rule| rule.name.clone()).collect();
    let engine = Engine::start(plan, gathered.callbacks()).map_err(io::Error::other)?;
    let catalog = Catalog::new(CatalogLimits { series_max: usize::MAX, series_per_service_max: usize::MAX });
    let mut said =
        Said { catalog: &catalog, names: &names, out, summary: Summary::default(), hash: StableHash::new() };
    let mut reader = log.reader(0);
    let mut began: Option<(Instant, TimeNs)> = None;
    // The engine counts from one, without gaps.
    let mut number = 0;
    while let Some(record) = reader.next(log.appended())? {
        if record.kind != KIND_EPOCH {
            let entries = epochs::decode_entries(record.payload).unwrap_or_default();
            catalog.restore(&entries);
            continue;
        }
        let Ok(epoch) = epochs::decode(record.payload) else {
            said.summary.missing += 1;
            continue;
        };
        if let Some(speed) = speed {
            let (since, from_ns) = *began.get_or_insert((Instant::now(), epoch.arrival_ns));
            let elapsed_ns = epoch.arrival_ns.saturating_sub(from_ns).max(0) as f64 / speed;
            let pause = Duration::from_nanos(elapsed_ns as u64).saturating_sub(since.elapsed());
            std::thread::sleep(pause);
        }
        catalog.restore(&epoch.entries);
        let summary = &mut said.summary;
        if summary.epochs.0 == 0 {
            summary.epochs.0 = epoch.number;
        } else {
            summary.missing += epoch.number - summary.epochs.1 - 1;
        }
        summary.epochs.1 = epoch.number;
        summary.samples += epoch.len() as u64;
        number += 1;
        // The rules of the plan, not those that were in force.
        engine.submit(Arc::new(Epoch { number, rules: None, ..epoch }));
        said.say(&gathered, engine.completed())?;
    }
    engine.wait_for(number);
    said.say(&gathered, number)?;
    let mut summary = said.finish();
    digest_windows(&engine, &catalog, &mut summary);
    engine.stop();
    Ok(summary)
}

/// Writes what is said, and keeps its digest.
struct Said<'a> {
    catalog: &'a Catalog,
    names: &'a [Arc<str>],
    out: &'a mut dyn Write,
    summary: Summary,
    hash: StableHash,
}

impl Said<'_> {
    /// Writes the transitions of epochs up to `complete`.
    fn say(&mut self, gathered: &Gathered, complete: u64) -> io::Result<()> {
        for mut transitions in gathered.take(complete).into_values() {
            transitions.sort_by_key(|moved| (moved.source, moved.rule));
            for moved in &transitions {
                self.say_one(moved)?;
            }
        }
        Ok(())
    }

    fn say_one(&mut self, moved: &AlertTransition) -> io::Result<()> {
        let transition = moved.transition;
        self.summary.transitions += 1;
        let bytes = postcard::to_allocvec(moved).unwrap_or_default();
        self.hash = self.hash.bytes(&bytes);
        let status = match transition.kind {
            Kind::Firing => "firing",
            Kind::Resolved { .. } => "resolved",
            Kind::Retracted => "retracted",
            Kind::Pending | Kind::Cancelled => return Ok(()),
        };
        let (Some(rule), Some(key)) = (
            self.names.get(moved.rule as usize),
            moved.source.series().and_then(|series| self.catalog.key(series)),
        ) else {
            return Ok(());
        };
        let time = |ns: TimeNs| crate::http::params::rfc3339(ns);
        let line = serde_json::json!({
            "timestamp": time(transition.at_ns), "status": status, "alert": &**rule,
            "id": format!("{:032x}", alert_id(rule, &key)), "service": key.target.service, "metric": &*key.metric,
            "tags": key.target.tags.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect::<BTreeMap<_, _>>(),
            "value": transition.value, "started_at": time(transition.since_ns),
        });
        writeln!(self.out, "{line}")
    }

    fn finish(self) -> Summary {
        Summary { transitions_digest: self.hash.finish(), ..self.summary }
    }
}

/// Every window of the coarsest width, of every series, in every function.
fn digest_windows(engine: &Engine, catalog: &Catalog, summary: &mut Summary) {
    let functions: Vec<_> = DIGESTED.iter().filter_map(|name| function::Function::parse(name)).collect();
    let plan = &engine.plan().windows;
    let width_ns = plan.tiers.last().map_or(1, |tier| tier.width_ns);
    let mut hash = StableHash::new();
    for series in 0..catalog.len() as SeriesId {
        let span = view::with_history(engine, series, |_, history| {
            Some((history.oldest_ns(plan)?, history.newest()?.time_ns))
        });
        let Some(Some((oldest_ns, newest_ns))) = span else { continue };
        summary.series += 1;
        let range_ns = floor_to(oldest_ns, width_ns)..floor_to(newest_ns, width_ns).saturating_add(width_ns);
        let query = WindowQuery { range_ns, window_ns: width_ns, with_values: true };
        let Ok((_, answers)) = view::windows(engine, &[vec![series]], &query) else { continue };
        for window in answers.iter().flat_map(|group| &group.windows) {
            summary.windows += 1;
            hash = hash.number(i64::from(series)).number(window.start_ns);
            for function in &functions {
                let value = function.finish(&window.aggregate);
                hash = hash.number(value.map_or(-1, |value| value.to_bits() as i64));
            }
        }
    }
    summary.windows_digest = hash.finish();
}
