//! Rules: `GET /api/v1/rules` in the shape of Prometheus, `POST`, `PUT` and `DELETE` where they may be written, and
//! `POST /api/v1/rules/preview`, when one would have fired on what is held.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use operators::sample::TimeNs;
use serde_json::{Value, json};

use super::App;
use super::alerts::prometheus as shown_alert;
use super::error::ApiError;
use super::params::rfc3339;
use super::receive::read_body;
use crate::alerts::Active;
use crate::codec::time;
use crate::rules::alerts::Breach;
use crate::rules::preview::{self, Preview};
use crate::rules::store::{RulesApplied, Unchanged};
use crate::service::wiring;
use crate::settings::units::parse_duration;
use crate::settings::{RuleSettings, rule_of_json};

/// Which rules are asked for, as Prometheus understands it: a filter may be given several times.
#[derive(Default)]
struct Filters {
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    without_alerts: bool,
    /// There are no recording rules.
    none: bool,
}

impl Filters {
    fn new(pairs: Vec<(String, String)>) -> Result<Filters, ApiError> {
        let mut filters = Filters::default();
        for (name, value) in pairs {
            match name.trim_end_matches("[]") {
                "rule_name" => filters.names.push(value),
                "rule_group" => filters.groups.push(value),
                "file" => filters.files.push(value),
                "exclude_alerts" => filters.without_alerts = matches!(value.as_str(), "true" | "1"),
                // All groups come at once.
                "group_limit" | "group_next_token" => {}
                "type" => match value.as_str() {
                    "alert" => {}
                    "record" => filters.none = true,
                    _ => {
                        let text = format!("type: expected alert or record, found {value:?}");
                        return Err(ApiError::bad_request(text));
                    }
                },
                _ => {
                    let known = "type, rule_name[], rule_group[], file[], exclude_alerts";
                    let text = format!("unknown parameter {name:?}, expected one of {known}");
                    return Err(ApiError::bad_request(text));
                }
            }
        }
        Ok(filters)
    }

    fn wants(&self, rule: &RuleSettings) -> bool {
        let is_in = |some: &[String], text: &str| some.is_empty() || some.iter().any(|one| one == text);
        let RuleSettings { name, source, .. } = rule;
        !self.none
            && is_in(&self.names, name)
            && is_in(&self.groups, &source.group)
            && is_in(&self.files, &source.file)
    }
}

/// `GET /api/v1/rules`.
pub async fn list(
    State(app): State<Arc<App>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let filters = Filters::new(pairs)?;
    let mut active: HashMap<Arc<str>, Vec<Active>> = HashMap::new();
    for alert in app.board.active() {
        active.entry(alert.rule.texts.name.clone()).or_default().push(alert);
    }
    let evaluated = rfc3339(app.intake.now_ns());
    // In the order of the rules; a group's rules stand together.
    let mut groups: Vec<(Arc<str>, Arc<str>, Vec<Value>)> = Vec::new();
    for rule in app.rules.rules().iter().filter(|rule| filters.wants(rule)) {
        let alerts = active.get(rule.name.as_str()).map_or(&[][..], Vec::as_slice);
        let shown = shown_rule(rule, alerts, &evaluated, filters.without_alerts);
        let (file, group) = (&rule.source.file, &rule.source.group);
        match groups.iter_mut().find(|(f, g, _)| f == file && g == group) {
            Some((.., rules)) => rules.push(shown),
            None => groups.push((file.clone(), group.clone(), vec![shown])),
        }
    }
    let groups = groups.into_iter().map(|(file, name, rules)| {
        json!({
            "name": &*name, "file": &*file, "rules": rules, "interval": 0, "limit": 0,
            "lastEvaluation": evaluated, "evaluationTime": 0,
        })
    });
    Ok(Json(json!({ "status": "success", "data": { "groups": groups.collect::<Vec<_>>() } })))
}

/// A rule as Prometheus shows it. Rules are not evaluated at intervals: every sample is, when it comes.
fn shown_rule(rule: &RuleSettings, alerts: &[Active], evaluated: &str, without_alerts: bool) -> Value {
    let mut labels: BTreeMap<&str, &str> =
        rule.labels.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    labels.insert("severity", &rule.severity);
    let mut annotations: BTreeMap<&str, &str> =
        rule.annotations.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    annotations.entry("message").or_insert(&rule.message);
    let state = match alerts {
        [] => "inactive",
        some if some.iter().any(|alert| alert.firing) => "firing",
        _ => "pending",
    };
    let mut shown = json!({
        "type": "alerting",
        "name": rule.name,
        "query": rule.expression(),
        "duration": rule.duration.as_secs_f64(),
        "keepFiringFor": rule.keep_firing_for.as_secs_f64(),
        "labels": labels,
        "annotations": annotations,
        "state": state,
        "health": "ok",
        "lastError": "",
        "lastEvaluation": evaluated,
        "evaluationTime": 0,
        "enabled": rule.enabled,
    });
    if !without_alerts {
        shown["alerts"] = alerts.iter().map(shown_alert).collect();
    }
    shown
}

/// The JSON object in the body of a request.
async fn object(app: &App, request: Request) -> Result<Value, ApiError> {
    let (parts, body) = request.into_parts();
    let body = read_body(app, &parts.headers, body).await?;
    serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("body: expected JSON: {error}")))
}

/// The rule in a body.
fn rule_of(app: &App, body: &Value) -> Result<RuleSettings, ApiError> {
    rule_of_json(body, &app.rules.settings().windows)
        .map_err(|errors| ApiError::bad_request(errors.to_string()))
}

/// `POST /api/v1/rules`: a new rule.
pub async fn add(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    allowed(&app)?;
    let rule = rule_of(&app, &object(&app, request).await?)?;
    let name = rule.name.clone();
    let applied = changing(&app, move |app| app.rules.put(rule, false)).await?;
    Ok((StatusCode::CREATED, Json(answer(&name, applied))))
}

/// `PUT /api/v1/rules/NAME`: a new rule, or another in its place.
pub async fn replace(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    allowed(&app)?;
    let mut body = object(&app, request).await?;
    if let Some(object) = body.as_object_mut() {
        object.entry("name").or_insert_with(|| json!(name));
    }
    let rule = rule_of(&app, &body)?;
    if rule.name != name {
        let text = format!("rule.name: expected {name:?}, as the path says, found {:?}", rule.name);
        return Err(ApiError::bad_request(text));
    }
    let applied = changing(&app, move |app| app.rules.put(rule, true)).await?;
    Ok(Json(answer(&name, applied)))
}

/// `DELETE /api/v1/rules/NAME`.
pub async fn delete(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    allowed(&app)?;
    let applied = changing(&app, {
        let name = name.clone();
        move |app| app.rules.delete(&name)
    });
    Ok(Json(answer(&name, applied.await?)))
}

/// Before a body is looked at.
fn allowed(app: &App) -> Result<(), ApiError> {
    if app.rules.settings().alerts.api_rules { Ok(()) } else { Err(refusal(Unchanged::NotAllowed)) }
}

/// Files are written: not on a thread that answers others.
async fn changing(
    app: &Arc<App>,
    change: impl FnOnce(&App) -> Result<RulesApplied, Unchanged> + Send + 'static,
) -> Result<RulesApplied, ApiError> {
    let app = app.clone();
    let changed = tokio::task::spawn_blocking(move || change(&app)).await;
    changed.map_err(|_| ApiError::internal("the change was cut short"))?.map_err(refusal)
}

fn answer(name: &str, applied: RulesApplied) -> Value {
    let RulesApplied { added, changed, removed } = applied;
    json!({ "status": "success", "rule": name, "added": added, "changed": changed, "removed": removed })
}

fn refusal(why: Unchanged) -> ApiError {
    let of = |status, error, detail: String| ApiError { status, error, detail };
    match why {
        Unchanged::NotAllowed => {
            let text = "rules may not be written here: alerts.api_rules is false";
            of(StatusCode::FORBIDDEN, "forbidden", text.into())
        }
        Unchanged::NoDirectory => {
            let text = "expected alerts.rules_dir to write rules to, found none";
            of(StatusCode::CONFLICT, "conflict", text.into())
        }
        Unchanged::NotFound(name) => {
            of(StatusCode::NOT_FOUND, "not_found", format!("there is no rule {name:?}"))
        }
        Unchanged::Conflict(text) => of(StatusCode::CONFLICT, "conflict", text),
        Unchanged::Wrong(errors) => ApiError::bad_request(errors.to_string()),
        Unchanged::Failed(why) => ApiError::internal(why),
    }
}

/// `POST /api/v1/rules/preview`: `{"rule": {...}, "since": "24h"}`, when the rule would have fired on what is held.
pub async fn preview(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, ApiError> {
    let body = object(&app, request).await?;
    let known = ["rule", "since", "limit"];
    if let Some(key) = body.as_object().and_then(|o| o.keys().find(|key| !known.contains(&key.as_str()))) {
        return Err(ApiError::bad_request(format!("body: expected rule, since and limit, found {key:?}")));
    }
    let written = rule_of(&app, &body["rule"])?;
    let now_ns = app.intake.now_ns();
    let since_ns = since(&body["since"], now_ns)?;
    let limit = match &body["limit"] {
        Value::Null => 1000,
        value => value.as_u64().filter(|limit| *limit > 0).ok_or_else(|| {
            ApiError::bad_request(format!("limit: expected a whole number above 0, found {value}"))
        })? as usize,
    };
    let rule = wiring::rule_in(&written, &app.rules.settings());
    let played = tokio::task::spawn_blocking({
        let app = app.clone();
        move || preview::preview(&app.engine, &app.catalog, &rule, since_ns, now_ns, SAMPLES_MAX)
    });
    let played = played.await.map_err(|_| ApiError::internal("the preview was cut short"))?;
    Ok(Json(shown_preview(&written, &played.map_err(ApiError::bad_request)?, limit)))
}

/// Observations that a preview plays, at most.
const SAMPLES_MAX: usize = 5_000_000;

/// A duration before now, a time, or nothing: everything that is held.
fn since(value: &Value, now_ns: TimeNs) -> Result<TimeNs, ApiError> {
    let found = match value {
        Value::Null => Some(TimeNs::MIN),
        Value::String(text) => match parse_duration(text) {
            Some(ago) => Some(now_ns.saturating_sub(TimeNs::try_from(ago.as_nanos()).unwrap_or(TimeNs::MAX))),
            None => time::parse_text(text),
        },
        Value::Number(number) => time::parse_number(&number.to_string()),
        _ => None,
    };
    let text = || {
        format!("since: expected a duration such as 24h, an RFC 3339 time or a Unix number, found {value}")
    };
    found.ok_or_else(|| ApiError::bad_request(text()))
}

fn shown_preview(rule: &RuleSettings, preview: &Preview, limit: usize) -> Value {
    let Preview { breaches, from_ns, until_ns, exact_from_ns, series, samples } = preview;
    let fired: Vec<&Breach> = breaches.iter().filter(|breach| breach.fired_ns.is_some()).collect();
    let shown = fired.iter().take(limit).map(|breach| {
        let Breach { key, since_ns, fired_ns, ended_ns, no_data, .. } = breach;
        let tags: BTreeMap<&str, &str> = key.target.tags.iter().map(|(n, v)| (&**n, &**v)).collect();
        json!({
            "service": key.target.service, "metric": &*key.metric, "tags": tags,
            "started_at": rfc3339(*since_ns), "fired_at": fired_ns.map(rfc3339), "ended_at": ended_ns.map(rfc3339),
            "no_data": no_data, "value": breach.value(TimeNs::MAX),
            "exact": since_ns >= exact_from_ns,
        })
    });
    let is_exact = *exact_from_ns == TimeNs::MIN || exact_from_ns <= from_ns;
    json!({
        "rule": rule.name,
        "query": rule.expression(),
        "since": (*from_ns != TimeNs::MIN).then(|| rfc3339(*from_ns)),
        "until": rfc3339(*until_ns),
        "exact": is_exact,
        "exact_from": (!is_exact).then(|| rfc3339(*exact_from_ns)),
        "series": series,
        "samples": samples,
        "count": fired.len(),
        "not_fired": breaches.len() - fired.len(),
        "alerts": shown.collect::<Vec<_>>(),
    })
}
