//! Rollups out: `GET /api/v1/rollups`, the aggregate query's answer from what is kept of them, and their latest values for
//! `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use operators::function::Function;
use operators::rollup::Rollup;
use operators::rule::{Grouping, SERVICE};
use operators::series::{Target, TargetMatcher, text_matches};
use serde::Serialize;

use super::App;
use super::aggregate::{Point, duration_text, range};
use super::error::ApiError;
use super::exposition::{Families, labels_of, sanitize};
use super::params::{Params, rfc3339};
use crate::rollups::{self, InForce};

/// A rollup in the list.
#[derive(Serialize)]
pub struct RollupEntry {
    name: String,
    metric: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    over: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    without: Option<Vec<String>>,
    window: String,
    every: String,
    functions: Vec<String>,
    /// The names under which its values are asked for, exposed and stored.
    metrics: Vec<String>,
    min_samples: u64,
    correct_for: String,
    keep: String,
    store: bool,
    groups: usize,
}

/// The list of rollups.
#[derive(Serialize)]
pub struct RollupList {
    rollups: Vec<RollupEntry>,
    /// Series in no group, since there were too many groups or members.
    turned_away: u64,
}

/// `GET /api/v1/rollups`: what there is, with how many groups.
pub async fn list(
    State(app): State<Arc<App>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<RollupList>, ApiError> {
    let params = Params::new(pairs, &["name"])?;
    let in_force = app.rollups.in_force();
    let wanted = |rollup: &&InForce| params.get("name").is_none_or(|name| name == &*rollup.rollup.name);
    let rollups = in_force.iter().filter(wanted).map(|rollup| entry(&app, rollup)).collect();
    Ok(Json(RollupList { rollups, turned_away: app.rollups.turned_away() }))
}

fn entry(app: &App, in_force: &InForce) -> RollupEntry {
    let rollup = &*in_force.rollup;
    let TargetMatcher { service, tags } = rollup.matcher.clone();
    let (by, without) = match &rollup.grouping {
        Grouping::By(names) => (Some(names.clone()), None),
        Grouping::Without(names) => (None, Some(names.clone())),
        Grouping::Series => (None, None),
    };
    RollupEntry {
        name: rollup.name.to_string(),
        metric: rollup.metric.clone(),
        over: rollup.over.as_ref().map(|over| format!("{}_{}", over.metric, over.function)),
        service,
        tags: tags.into_iter().collect(),
        by,
        without,
        window: duration_text(rollup.width_ns),
        every: duration_text(rollup.hop_ns),
        functions: rollup.functions.clone(),
        metrics: rollup.functions.iter().map(|function| in_force.metric(function)).collect(),
        min_samples: rollup.samples_min,
        correct_for: duration_text(rollup.correct_ns),
        keep: duration_text(rollup.keep_ns),
        store: in_force.is_stored,
        groups: app.rollups.groups(in_force.number).len(),
    }
}

/// The aggregate query's answer for a rollup.
#[derive(Serialize)]
pub struct Answer {
    rollup: String,
    metric: String,
    interval: String,
    every: String,
    as_of: u64,
    series: Vec<GroupAnswer>,
}

#[derive(Serialize)]
struct GroupAnswer {
    /// What the members share; nothing where they may have several.
    service: Option<String>,
    tags: BTreeMap<String, String>,
    metric: String,
    func: String,
    points: Vec<Point>,
    error_bound: f64,
}

/// Which rollup a request means, and which of its functions: by `rollup=NAME`, or by the metric name of one of its
/// functions where no series has that name.
///
/// # Errors
/// If there is no rollup of that name, or no such function.
pub fn meant(app: &App, params: &Params) -> Result<Option<(InForce, Vec<usize>)>, ApiError> {
    let Some(name) = params.get("rollup") else {
        let metric = params.get("metric").filter(|metric| !app.catalog.has_metric(metric));
        return Ok(metric
            .and_then(|metric| app.rollups.by_metric(metric))
            .map(|(rollup, at)| (rollup, vec![at])));
    };
    if params.get("metric").is_some() {
        return Err(ApiError::bad_request("expected metric or rollup, found both"));
    }
    let Some(rollup) = app.rollups.named(name) else {
        let known = app.rollups.in_force();
        let known: Vec<&str> = known.iter().map(|rollup| &*rollup.rollup.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(ApiError::bad_request(format!("rollup: there is {known}, found {name:?}")));
    };
    let functions = &rollup.rollup.functions;
    let asked = params.list("func");
    let place = |name: &&str| {
        functions.iter().position(|function| function == name).ok_or_else(|| {
            let known = functions.join(", ");
            ApiError::bad_request(format!("func: expected one of the rollup's {known}, found {name:?}"))
        })
    };
    let places: Vec<usize> = match asked.is_empty() {
        true => (0..functions.len()).collect(),
        false => asked.iter().map(place).collect::<Result<_, _>>()?,
    };
    Ok(Some((rollup, places)))
}

/// Answers from what is kept.
///
/// # Errors
/// If the question does not fit the rollup, or the answer is too long.
pub fn answer(app: &App, params: &Params, rollup: &InForce, places: &[usize]) -> Result<Answer, ApiError> {
    let Rollup { width_ns, hop_ns, functions, name, .. } = &*rollup.rollup;
    if let Some(asked_ns) = params.duration("interval")?.filter(|asked_ns| asked_ns != width_ns) {
        return Err(ApiError::bad_request(format!(
            "interval: expected {}, which is the width of the rollup's windows, found {}",
            duration_text(*width_ns),
            duration_text(asked_ns)
        )));
    }
    if params.get("by").is_some() {
        return Err(ApiError::bad_request("by: the groups of a rollup are those it has; leave it out"));
    }
    let starts = range(app, params, *width_ns)?;
    let matcher = params.matcher();
    let (as_of, groups) = rollups::rows(&app.engine, rollup.number, *width_ns, starts);
    let mut named: Vec<(Target, rollups::GroupRows)> = groups
        .into_iter()
        .filter_map(|rows| Some((app.rollups.group(rollup.number, rows.group)?, rows)))
        .filter(|(texts, _)| matches(&matcher, texts))
        .collect();
    named.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let points: usize = named.iter().map(|(_, rows)| rows.said.len() * places.len()).sum();
    if points > app.config.results_max {
        let max = app.config.results_max;
        return Err(ApiError::bad_request(format!(
            "expected at most {max} points, found {points}: narrow the range or name tags"
        )));
    }
    let mut series = Vec::new();
    for (texts, rows) in &named {
        for at in places {
            let function = &functions[*at];
            let group = group_answer(texts, rows, rollup, *at, function);
            series.extend(Some(group).filter(|group| !group.points.is_empty()));
        }
    }
    Ok(Answer {
        rollup: name.to_string(),
        metric: rollup.rollup.metric.clone(),
        interval: duration_text(*width_ns),
        every: duration_text(*hop_ns),
        as_of,
        series,
    })
}

fn group_answer(
    texts: &Target,
    rows: &rollups::GroupRows,
    rollup: &InForce,
    at: usize,
    function: &str,
) -> GroupAnswer {
    let is_bounded = Function::parse(function).is_some_and(|function| function.needs_values());
    let mut error_bound: f64 = 0.0;
    let points = rows.said.iter().filter_map(|(end_ns, said)| {
        let value = said.values.get(at).copied().filter(|value| value.is_finite())?;
        error_bound = error_bound.max(if is_bounded { said.error_bound } else { 0.0 });
        Some(Point {
            start: rfc3339(end_ns.saturating_sub(rollup.rollup.width_ns)),
            value,
            count: said.count,
            r#final: said.is_final,
            revision: said.revision,
        })
    });
    let points = points.collect();
    GroupAnswer {
        service: Some(texts.service.to_string()).filter(|service| !service.is_empty()),
        tags: texts.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        metric: rollup.metric(function),
        func: function.to_owned(),
        points,
        error_bound,
    }
}

/// Whether a group is meant: by what its members share, and by nothing else.
fn matches(matcher: &TargetMatcher, texts: &Target) -> bool {
    let service = matcher.service.as_deref().is_none_or(|wanted| text_matches(wanted, &texts.service));
    let tag = |name: &str| if name == SERVICE { Some(&*texts.service) } else { texts.tag(name) };
    service && matcher.tags.iter().all(|(name, wanted)| tag(name).is_some_and(|v| text_matches(wanted, v)))
}

/// Latest values, and what the rollups count.
pub fn expose(app: &App, families: &mut Families) {
    for rollup in app.rollups.in_force().iter() {
        let Rollup { functions, metric, width_ns, .. } = &*rollup.rollup;
        for (group, said) in rollups::latest(&app.engine, rollup.number) {
            let Some(texts) = app.rollups.group(rollup.number, group) else { continue };
            for (function, value) in functions.iter().zip(&said.values).filter(|(_, value)| value.is_finite())
            {
                let name = format!("plantd_{}", sanitize(&rollup.metric(function)));
                let help = format!("{function} of {metric} over {}, latest window", duration_text(*width_ns));
                families.add(&name, "gauge", &help, labels_of(&texts), *value);
            }
        }
    }
    let (mut counts, mut missed) = (operators::rollup::groups::GroupCounts::default(), 0);
    for groups in app.engine.groups() {
        let of_worker = groups.read().counts();
        counts.rows += of_worker.rows;
        missed += of_worker.missed;
        counts.groups += of_worker.groups;
        counts.members += of_worker.members;
        counts.slices += of_worker.slices;
        counts.windows += of_worker.windows;
    }
    missed += app.engine.shards().iter().map(|shard| shard.read().slicing_counts().missed).sum::<u64>();
    let figures = [
        ("rollup_rows", "counter", "Windows of rollups told, corrections included", counts.rows),
        ("rollup_missed", "counter", "Corrections that came too late for a rollup", missed),
        ("rollup_groups", "gauge", "Groups of rollups", counts.groups),
        ("rollup_members", "gauge", "Series in groups of rollups", counts.members),
        ("rollup_slices", "gauge", "Slices held for rollups", counts.slices),
        ("rollup_windows", "gauge", "Windows of rollups held", counts.windows),
        ("rollup_turned_away", "gauge", "Series in no group: too many groups", app.rollups.turned_away()),
    ];
    for (name, kind, help, value) in figures {
        families.add(&format!("plantd_metric_{name}"), kind, help, String::new(), value as f64);
    }
}
