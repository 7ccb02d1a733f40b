//! `GET /api/v1/metrics/aggregate` and `GET /api/v1/series`: answered from the maintained windows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use dataflows::view::{self, GroupAnswer, Unanswerable, WindowQuery};
use operators::family;
use operators::function::{self, Function};
use operators::sample::{DurationNs, HOUR, SECOND, SeriesId, TimeNs};
use operators::tier::floor_to;
use serde::Serialize;

use super::App;
use super::error::ApiError;
use super::params::{Params, rfc3339};
use super::rollups;

const KNOWN: &[&str] =
    &["metric", "service", "tag.NAME", "by", "interval", "func", "start", "end", "min_epoch", "rollup"];
/// How long a request waits for the epoch that it asked for.
const EPOCH_WAIT: Duration = Duration::from_secs(5);
/// Panes that a question may touch at most to be answered where it came in: some 100 us.
const PANES_AT_ONCE_MAX: u128 = 1_000;
/// How long such a question waits for a worker before it waits elsewhere.
const LOCK_WAIT: Duration = Duration::from_millis(2);

/// The documented answer.
#[derive(Serialize)]
pub struct Answer {
    metric: String,
    interval: String,
    as_of: u64,
    series: Vec<SeriesAnswer>,
}

#[derive(Serialize)]
struct SeriesAnswer {
    service: Option<String>,
    tags: BTreeMap<String, String>,
    metric: String,
    func: String,
    points: Vec<Point>,
    clock: Option<String>,
    late: u64,
    dropped: u64,
    error_bound: f64,
}

/// A window's value.
#[derive(Serialize)]
pub(super) struct Point {
    pub(super) start: String,
    pub(super) value: f64,
    pub(super) count: u64,
    pub(super) r#final: bool,
    pub(super) revision: u64,
}

/// A question, read from its parameters.
struct Question {
    metric: String,
    window_ns: DurationNs,
    range_ns: Range<TimeNs>,
    /// The `start` as asked, if it was.
    start_ns: Option<TimeNs>,
    functions: Vec<(String, Function)>,
    by: Option<Vec<String>>,
}

/// The members of one group and what they have in common.
struct Group {
    service: Option<String>,
    tags: BTreeMap<String, String>,
    metric: String,
    members: Vec<SeriesId>,
}

/// The handler.
pub async fn aggregate(
    State(app): State<Arc<App>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let params = Params::new(pairs, KNOWN)?;
    if let Some((rollup, places)) = rollups::meant(&app, &params)? {
        wait_for_epoch(&app, params.number("min_epoch")?).await?;
        let began = Instant::now();
        // It waits for the worker that keeps the groups, as windows do below.
        let asked = app.clone();
        let answer = tokio::task::spawn_blocking(move || rollups::answer(&asked, &params, &rollup, &places))
            .await
            .map_err(|_| ApiError::internal("the query was cut short"))??;
        app.telemetry.aggregate_query.record(began.elapsed());
        return Ok(Json(answer).into_response());
    }
    let question = question(&app, &params)?;
    wait_for_epoch(&app, params.number("min_epoch")?).await?;
    let began = Instant::now();
    let groups = groups(&app, &params, &question);
    let with_values = question.functions.iter().any(|(_, f)| f.needs_values());
    // Wider than 64 bits tell: the range may span all times that there are.
    let range_ns = i128::from(question.range_ns.end) - i128::from(question.range_ns.start);
    let windows_max = range_ns.unsigned_abs() / u128::from(question.window_ns.unsigned_abs());
    let results = groups.len() as u128 * windows_max * question.functions.len() as u128;
    if results > app.config.results_max as u128 * 10 {
        return Err(too_many(&app, results));
    }
    let query =
        WindowQuery { range_ns: question.range_ns.clone(), window_ns: question.window_ns, with_values };
    let series: usize = groups.iter().map(|group| group.members.len()).sum();
    let panes_max =
        range_ns.unsigned_abs() / app.engine.plan().windows.tiers[0].width_ns.unsigned_abs() as u128;
    let asked = Asked { question, groups, query };
    // What takes less than to wake somebody for it is done here, unless the series' workers are at work for longer.
    let at_once = if series as u128 * panes_max <= PANES_AT_ONCE_MAX {
        asked.answer(&app, Some(LOCK_WAIT))
    } else {
        None
    };
    let answer = match at_once {
        Some(answer) => answer,
        None => {
            let app = app.clone();
            let wholly = move || asked.answer(&app, None);
            let answered = tokio::task::spawn_blocking(wholly).await;
            answered.ok().flatten().ok_or_else(|| ApiError::internal("the query was cut short"))?
        }
    };
    app.telemetry.aggregate_query.record(began.elapsed());
    answer
}

/// What was asked of which series.
struct Asked {
    question: Question,
    groups: Vec<Group>,
    query: WindowQuery,
}

impl Asked {
    /// Asks, and writes the answer. `None` if a worker does not let it look within `wait`.
    fn answer(&self, app: &App, wait: Option<Duration>) -> Option<Result<Response, ApiError>> {
        let Asked { question, groups, query } = self;
        let members: Vec<&[SeriesId]> = groups.iter().map(|group| &group.members[..]).collect();
        let answered = view::windows_within(&app.engine, &members, query, wait)?;
        Some(answered.map_err(|why| unanswerable(why, question.window_ns)).and_then(|(as_of, answers)| {
            check_held(&answers, question)?;
            let results: usize = answers.iter().map(|a| a.windows.len() * question.functions.len()).sum();
            if results > app.config.results_max {
                return Err(too_many(app, results as u128));
            }
            let series = groups
                .iter()
                .zip(&answers)
                .flat_map(|(group, answer)| render(group, answer, &question.functions));
            let answer = Answer {
                metric: question.metric.clone(),
                interval: duration_text(question.window_ns),
                as_of,
                series: series.collect(),
            };
            Ok(Json(answer).into_response())
        }))
    }
}

/// Waits until `min_epoch`, if there is one, is visible.
pub(super) async fn wait_for_epoch(app: &App, min_epoch: Option<u64>) -> Result<(), ApiError> {
    let Some(min_epoch) = min_epoch else { return Ok(()) };
    let newest = app.intake.sealed() + 1;
    if min_epoch > newest {
        return Err(ApiError::bad_request(format!(
            "min_epoch: expected at most {newest}, found {min_epoch}"
        )));
    }
    tokio::time::timeout(EPOCH_WAIT, app.intake.visible(min_epoch))
        .await
        .map_err(|_| ApiError::unavailable(format!("epoch {min_epoch} is not complete yet")))
}

fn question(app: &App, params: &Params) -> Result<Question, ApiError> {
    let metric =
        params.get("metric").ok_or_else(|| ApiError::bad_request("metric: expected a name, found none"))?;
    let pane_ns = app.engine.plan().windows.tiers[0].width_ns;
    let window_ns = params.duration("interval")?.unwrap_or(pane_ns);
    if window_ns % pane_ns != 0 {
        return Err(unanswerable(Unanswerable::NotAMultiple { pane_ns }, window_ns));
    }
    let held_ns = app.engine.plan().windows.retention_ns();
    if window_ns > held_ns {
        return Err(ApiError::bad_request(format!(
            "interval: expected at most {}, which is how long windows are held, found {}",
            duration_text(held_ns),
            duration_text(window_ns)
        )));
    }
    let names = params.list("func");
    let names = if names.is_empty() { vec!["avg"] } else { names };
    let functions = names.iter().map(|name| {
        let function = Function::parse(name).ok_or_else(|| {
            ApiError::bad_request(format!("func: expected {}, found {name:?}", function::names()))
        });
        Ok((name.to_string(), function?))
    });
    let Range { start: start_ns, end: end_ns } = range(app, params, window_ns)?;
    // Windows are aligned to the epoch of Unix time; those that the range touches are answered whole.
    let (start_ns, last_ns) = (floor_to(start_ns, window_ns), floor_to(end_ns - 1, window_ns));
    Ok(Question {
        metric: metric.into(),
        window_ns,
        range_ns: start_ns..last_ns.saturating_add(window_ns),
        start_ns: params.time("start")?,
        functions: functions.collect::<Result<_, ApiError>>()?,
        by: params.get("by").map(|_| params.list("by").into_iter().map(String::from).collect()),
    })
}

/// The times asked for. Without `end` that is up to one window from now; without `start` an hour, or one window.
///
/// # Errors
/// If one is no time, or there is nothing between them.
pub(super) fn range(app: &App, params: &Params, width_ns: DurationNs) -> Result<Range<TimeNs>, ApiError> {
    let end_ns = params.time("end")?.unwrap_or_else(|| app.intake.now_ns().saturating_add(width_ns));
    let start_ns = params.time("start")?.unwrap_or_else(|| end_ns.saturating_sub(HOUR.max(width_ns)));
    if start_ns >= end_ns {
        return Err(ApiError::bad_request("start: expected a time before end"));
    }
    Ok(start_ns..end_ns)
}

/// A range that begins before what any of the groups can hold is refused. Who names no start gets what there is.
fn check_held(answers: &[GroupAnswer], question: &Question) -> Result<(), ApiError> {
    let held_ns = answers.iter().map(|answer| answer.held_ns).filter(|held_ns| *held_ns > TimeNs::MIN).min();
    match question.start_ns.zip(held_ns) {
        Some((start_ns, held_ns)) if start_ns < held_ns => Err(ApiError::bad_request(format!(
            "start: windows are held since {}, found {}; older samples are at /api/v1/metrics",
            rfc3339(held_ns),
            rfc3339(start_ns)
        ))),
        _ => Ok(()),
    }
}

/// The series asked for, each alone, or pooled by the values of the `by` tags.
fn groups(app: &App, params: &Params, question: &Question) -> Vec<Group> {
    let names = family::resolve(&question.metric, |name| app.catalog.has_metric(name));
    let names: Vec<&str> = names.iter().map(|name| name.as_ref()).collect();
    let found = app.catalog.find(Some(&names), &params.matcher());
    app.catalog.with_keys(|keys| match &question.by {
        None => found
            .into_iter()
            .map(|id| {
                let key = &keys[id as usize];
                Group {
                    service: Some(key.target.service.to_string()),
                    tags: key.target.tags.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
                    metric: key.metric.to_string(),
                    members: vec![id],
                }
            })
            .collect(),
        Some(by) => {
            let mut pooled: BTreeMap<(String, Vec<String>), Group> = BTreeMap::new();
            for id in found {
                let key = &keys[id as usize];
                let value = |tag: &String| match tag.as_str() {
                    "service" => key.target.service.to_string(),
                    tag => key.target.tag(tag).unwrap_or_default().to_string(),
                };
                let values: Vec<String> = by.iter().map(value).collect();
                let tags =
                    by.iter().cloned().zip(values.clone()).filter(|(n, v)| n != "service" && !v.is_empty());
                let group = pooled.entry((key.metric.to_string(), values)).or_insert_with(|| Group {
                    service: Some(key.target.service.to_string()),
                    tags: tags.collect(),
                    metric: key.metric.to_string(),
                    members: Vec::new(),
                });
                group.service = group.service.take().filter(|service| **service == *key.target.service);
                group.members.push(id);
            }
            pooled.into_values().collect()
        }
    })
}

/// One entry per function of a group that has samples. A window of which the beginning is held no more would say too
/// little: it is left out.
fn render(group: &Group, answer: &GroupAnswer, functions: &[(String, Function)]) -> Vec<SeriesAnswer> {
    let windows = &answer.windows[answer.windows.partition_point(|w| w.start_ns < answer.held_ns)..];
    if windows.is_empty() {
        return Vec::new();
    }
    let entries = functions.iter().map(|(name, function)| {
        let mut error_bound: f64 = 0.0;
        let points = windows.iter().filter_map(|window| {
            if function.needs_values() {
                error_bound = error_bound.max(window.aggregate.error_bound());
            }
            Some(Point {
                start: rfc3339(window.start_ns),
                value: function.finish(&window.aggregate).filter(|value| value.is_finite())?,
                count: window.aggregate.count(),
                r#final: window.is_final,
                revision: window.aggregate.revision,
            })
        });
        SeriesAnswer {
            service: group.service.clone(),
            tags: group.tags.clone(),
            metric: group.metric.clone(),
            func: name.clone(),
            points: points.collect(),
            clock: Some(rfc3339(answer.clock_ns)),
            late: answer.late,
            dropped: answer.dropped,
            error_bound,
        }
    });
    entries.collect()
}

fn unanswerable(why: Unanswerable, window_ns: DurationNs) -> ApiError {
    ApiError::bad_request(match why {
        Unanswerable::NotAMultiple { pane_ns } => format!(
            "interval: expected a multiple of the pane width {}, found {}",
            duration_text(pane_ns),
            duration_text(window_ns)
        ),
        Unanswerable::TooFine { coarsest_ns } => format!(
            "interval: part of the range is held in panes of {}; expected a multiple of that, or a later start, found {}",
            duration_text(coarsest_ns),
            duration_text(window_ns)
        ),
    })
}

fn too_many(app: &App, results: u128) -> ApiError {
    let max = app.config.results_max;
    ApiError::bad_request(format!(
        "expected at most {max} points, found up to {results}: narrow the range, widen the interval, or use by"
    ))
}

pub(super) fn duration_text(ns: DurationNs) -> String {
    let duration = Duration::new((ns / SECOND) as u64, (ns % SECOND) as u32);
    crate::settings::units::show_duration(duration)
}

/// A series in the list.
#[derive(Serialize)]
pub struct SeriesEntry {
    service: String,
    metric: String,
    tags: BTreeMap<String, String>,
    last_time: Option<String>,
    last_value: Option<f64>,
    samples: u64,
    late: u64,
    dropped: u64,
}

/// The list of series.
#[derive(Serialize)]
pub struct SeriesList {
    series: Vec<SeriesEntry>,
    count: usize,
    total: usize,
}

/// `GET /api/v1/series`: what is known, by `metric`, `service` and tags; at most `limit` (default 1,000).
pub async fn series(
    State(app): State<Arc<App>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<SeriesList>, ApiError> {
    let params = Params::new(pairs, &["metric", "service", "tag.NAME", "limit"])?;
    let limit = params.limit(1000, app.config.results_max)?;
    let names =
        params.get("metric").map(|metric| family::resolve(metric, |name| app.catalog.has_metric(name)));
    let names: Option<Vec<&str>> = names.as_ref().map(|names| names.iter().map(|n| n.as_ref()).collect());
    let found = app.catalog.find(names.as_deref(), &params.matcher());
    let entries = found.iter().take(limit).filter_map(|id| {
        let key = app.catalog.key(*id)?;
        let seen = view::with_history(&app.engine, *id, |_, history| (history.newest(), history.counts()));
        let (newest, (samples, late, dropped)) = seen.unwrap_or((None, (0, 0, 0)));
        Some(SeriesEntry {
            service: key.target.service.to_string(),
            metric: key.metric.to_string(),
            tags: key.target.tags.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
            last_time: newest.map(|obs| rfc3339(obs.time_ns)),
            last_value: newest.map(|obs| obs.value),
            samples,
            late,
            dropped,
        })
    });
    let series: Vec<SeriesEntry> = entries.collect();
    Ok(Json(SeriesList { count: series.len(), total: found.len(), series }))
}
