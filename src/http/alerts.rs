//! Alerts: `GET /api/v1/alerts`, those that are, and `GET /api/v1/alerts/history`, what became of them lately.
//!
//! The first answers in two shapes at once: our own, and below `data` that of Prometheus, so that whatever reads that
//! can list them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use operators::alert::{Kind, alert_id};
use operators::alerts::Expected;
use operators::sample::TimeNs;
use operators::series::{SeriesKey, TargetMatcher};
use serde_json::{Map, Value, json};

use super::App;
use super::error::ApiError;
use super::params::{Params, rfc3339};
use crate::alert_history::Past;
use crate::alerts::{Active, RuleTexts};
use crate::notify::matcher::Subject;

fn tags(key: &SeriesKey) -> Map<String, Value> {
    key.target.tags.iter().map(|(name, value)| (name.to_string(), json!(value))).collect()
}

fn texts(texts: &[(Arc<str>, String)]) -> Map<String, Value> {
    texts.iter().map(|(name, text)| (name.to_string(), json!(text))).collect()
}

/// An alert as Prometheus shows it.
pub(super) fn prometheus(alert: &Active) -> Value {
    let Active { rule, key, told, .. } = alert;
    let mut labels = rule.texts.labels(key, told);
    labels.insert("alertname".into(), rule.texts.name.to_string());
    let mut annotations = texts(&told.annotations);
    annotations.entry("message").or_insert_with(|| json!(told.message));
    json!({
        "labels": labels,
        "annotations": annotations,
        "state": if alert.firing { "firing" } else { "pending" },
        "activeAt": rfc3339(alert.since_ns),
        "value": scientific(alert.value),
    })
}

/// A number as Prometheus writes it in alerts: `8.5e+01`.
fn scientific(value: f64) -> String {
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// What a detector expected, as receivers are told it.
fn band(expected: &Expected) -> Value {
    let Expected { score, lower, upper, reason } = expected;
    json!({ "lower": lower, "upper": upper, "anomaly_score": score, "reason": reason.text() })
}

fn ours(app: &App, alert: &Active) -> Value {
    let Active { id, rule, key, firing, since_ns, fired_ns, value, told, .. } = alert;
    let rule = &rule.texts;
    let subject = Subject { rule: &rule.name, severity: &rule.severity, target: &key.target };
    let silenced_by = app.silences.covering(&subject, (app.clock)());
    let mut shown = json!({
        "id": format!("{id:032x}"),
        "name": &*rule.name,
        "service": key.target.service,
        "metric": &*key.metric,
        "status": if *firing { "firing" } else { "pending" },
        "severity": &*rule.severity,
        "message": told.message,
        "value": value,
        "operator": rule.operator,
        "threshold": rule.threshold(*value),
        "started_at": rfc3339(*since_ns),
        "timestamp": rfc3339(fired_ns.unwrap_or(*since_ns)),
        "tags": tags(key),
    });
    if let Some(expected) = &alert.expected {
        shown["expected"] = band(expected);
    }
    if !silenced_by.is_empty() {
        shown["silenced_by"] = json!(silenced_by);
    }
    shown
}

/// Which alerts are asked for.
struct Wanted {
    rule: Option<String>,
    state: Option<String>,
    severity: Option<String>,
    matcher: TargetMatcher,
}

impl Wanted {
    fn new(params: &Params, states: &[&str]) -> Result<Wanted, ApiError> {
        let of = |name: &str| params.get(name).map(String::from);
        if let Some(state) = params.get("state").filter(|state| !states.contains(state)) {
            let states = states.join(", ");
            return Err(ApiError::bad_request(format!("state: expected one of {states}, found {state:?}")));
        }
        Ok(Wanted {
            rule: of("rule"),
            state: of("state"),
            severity: of("severity"),
            matcher: params.matcher(),
        })
    }

    fn is_meant(&self, name: &str, rule: Option<&RuleTexts>, state: &str) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| *wanted == found);
        let severity = rule.map_or("", |rule| &rule.severity);
        is(&self.rule, name) && is(&self.state, state) && is(&self.severity, severity)
    }
}

/// `GET /api/v1/alerts`: pending and firing.
pub async fn active(
    State(app): State<Arc<App>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let params = Params::new(pairs, &["limit", "rule", "state", "severity", "service", "tag.NAME"])?;
    let wanted = Wanted::new(&params, &["pending", "firing"])?;
    let limit = params.limit(usize::MAX, app.config.results_max)?;
    let mut alerts = app.board.active();
    alerts.retain(|alert| {
        let state = if alert.firing { "firing" } else { "pending" };
        wanted.is_meant(&alert.rule.texts.name, Some(&alert.rule.texts), state)
            && wanted.matcher.matches(&alert.key.target)
    });
    let total = alerts.len();
    alerts.truncate(limit);
    let mut answer = json!({
        "count": alerts.len(),
        "alerts": alerts.iter().map(|alert| ours(&app, alert)).collect::<Vec<_>>(),
        "status": "success",
        "data": { "alerts": alerts.iter().map(prometheus).collect::<Vec<_>>() },
    });
    if total > alerts.len() {
        answer["total"] = json!(total);
    }
    Ok(Json(answer))
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Pending => "pending",
        Kind::Cancelled => "cancelled",
        Kind::Firing => "firing",
        Kind::Resolved { .. } => "resolved",
        Kind::Retracted => "retracted",
    }
}

/// `GET /api/v1/alerts/history`: transitions, the newest first. `since` and `until` are event times.
pub async fn history(
    State(app): State<Arc<App>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let known = ["since", "until", "limit", "rule", "state", "severity", "service", "tag.NAME"];
    let params = Params::new(pairs, &known)?;
    let wanted = Wanted::new(&params, &["pending", "cancelled", "firing", "resolved", "retracted"])?;
    let since_ns = params.time("since")?.unwrap_or(TimeNs::MIN);
    let until_ns = params.time("until")?.unwrap_or(TimeNs::MAX);
    let limit = params.limit(100, app.config.results_max)?;
    let any_target = wanted.matcher == TargetMatcher::default();
    let is_meant = |past: &Past| {
        let transition = &past.moved.transition;
        (since_ns..until_ns).contains(&transition.at_ns)
            && wanted.is_meant(&past.name, past.rule.as_ref().map(|rule| &rule.texts), word(transition.kind))
            && (any_target
                || app.board.key(past.moved.source).is_some_and(|key| wanted.matcher.matches(&key.target)))
    };
    let (found, forgotten) = app.board.history.newest(limit, is_meant);
    let shown: Vec<Value> = found.iter().filter_map(|past| shown(&app, past)).collect();
    Ok(Json(json!({ "count": shown.len(), "history": shown, "older_forgotten": forgotten })))
}

fn shown(app: &App, past: &Past) -> Option<Value> {
    let (key, transition) = (app.board.key(past.moved.source)?, past.moved.transition);
    let mut shown = json!({
        "id": format!("{:032x}", alert_id(&past.name, &key)),
        "name": &*past.name,
        "service": key.target.service,
        "metric": &*key.metric,
        "tags": tags(&key),
        "state": word(transition.kind),
        "value": transition.value,
        "started_at": rfc3339(transition.since_ns),
        "timestamp": rfc3339(transition.at_ns),
        "epoch": past.epoch,
    });
    if let Kind::Resolved { no_data } = transition.kind {
        shown["no_data"] = json!(no_data);
    }
    if let Some(expected) = &past.moved.expected {
        shown["expected"] = band(expected);
    }
    if let Some(rule) = &past.rule {
        let told = app.board.told(&rule.texts, &key, &past.moved);
        shown["severity"] = json!(&*rule.texts.severity);
        shown["message"] = json!(told.message);
        shown["labels"] = json!(rule.texts.labels(&key, &told));
        shown["annotations"] = Value::Object(texts(&told.annotations));
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::scientific;

    #[test]
    fn numbers_as_prometheus_writes_them() {
        for (value, expected) in
            [(85.0, "8.5e+01"), (0.0, "0e+00"), (-0.001, "-1e-03"), (1e300, "1e+300"), (1.0, "1e+00")]
        {
            assert_eq!(scientific(value), expected);
        }
    }
}
