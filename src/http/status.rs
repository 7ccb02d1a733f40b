//! Health, status, storage status and rejects.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::App;
use super::error::ApiError;
use super::params::{Params, rfc3339};
use crate::settings::units::show_duration;

/// `GET /livez`: the workers keep up with the epochs that are sealed.
pub async fn live(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    if app.is_stuck() { (StatusCode::SERVICE_UNAVAILABLE, "stuck\n") } else { (StatusCode::OK, "ok\n") }
}

/// `GET /readyz`: started and not stopping. A storage that is down does not make us unready.
pub async fn ready(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match app.intake.is_open() && !app.is_stuck() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

/// `GET /health`.
pub async fn health(State(app): State<Arc<App>>) -> (StatusCode, Json<Value>) {
    let status = app.health();
    let code = if status == "healthy" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": status })))
}

/// `GET /status`: the documented fields, and more beside them.
pub async fn status(State(app): State<Arc<App>>) -> Json<Value> {
    let telemetry = &app.telemetry;
    let last_ns = telemetry.last_metric_ns.load(Ordering::Relaxed);
    let visible = telemetry.arrival_to_visible.summary();
    let counts = app.shard_counts();
    let uptime = Duration::from_secs(telemetry.started.elapsed().as_secs());
    let load = |l: &Arc<dataflows::worker::Load>| json!({ "busy_seconds": l.busy_ns.load(Ordering::Relaxed) as f64 / 1e9, "samples_fed": l.fed.load(Ordering::Relaxed) });
    Json(json!({
        "status": app.health(),
        "mode": app.mode,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": show_duration(uptime),
        "uptime_seconds": uptime.as_secs(),
        "metrics_processed": telemetry.messages(),
        "samples_processed": counts.samples,
        "samples_accepted": telemetry.samples.load(Ordering::Relaxed),
        "samples_rejected": app.rejects.total(),
        "samples_late": counts.late,
        "samples_dropped_too_old": counts.dropped,
        "samples_duplicate": counts.duplicates,
        "samples_in_flight": app.intake.in_flight(),
        "storage_status": app.storage_status().status,
        "last_metric": (last_ns != 0).then(|| rfc3339(last_ns)),
        "series": app.catalog.len(),
        "epoch": { "sealed": app.intake.sealed(), "completed": app.engine.completed() },
        "memory": {
            "panes_bytes": counts.bytes, "panes_bytes_max": app.memory_budget_bytes,
            "panes_given_up": counts.panes_given_up, "recent_bytes": app.intake.recent().bytes(),
        },
        "workers": app.engine.loads().iter().map(load).collect::<Vec<_>>(),
        "arrival_to_visible_ms": visible.quantiles_s.iter().map(|(q, s)| (format!("p{}", q * 100.0), s * 1e3)).collect::<std::collections::BTreeMap<_, _>>(),
        "journal": (app.journal)(),
        "bus": app.bus_counters().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "statsd": (app.statsd)().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "alerts": { "active": app.board.active_len(), "rules": app.board.rules().len() },
        "reload": app.reloader.as_ref().map(|reloader| reloader.last()),
        "receivers": app.receivers.report(),
    }))
}

/// `POST /-/reload`: reads the configuration again and brings its rules into force; 400 with every mistake in it.
pub async fn reload(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let Some(reloader) = app.reloader.clone() else {
        return Err(ApiError::bad_request("expected alerts to be enabled"));
    };
    let reloaded = tokio::task::spawn_blocking(move || reloader.reload()).await;
    match reloaded.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(done) => Ok(Json(json!({ "status": "success", "data": done }))),
        Err(why) => Err(ApiError::bad_request(why)),
    }
}

/// `GET /storage/status`: the documented fields, and more beside them.
pub async fn storage(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.storage_status().json)
}

/// `GET /api/v1/rejected`: counts by reason and the last rejects, newest first.
pub async fn rejected(
    State(app): State<Arc<App>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let params = Params::new(pairs, &["limit"])?;
    let limit = params.number("limit")?.unwrap_or(100) as usize;
    let counts: serde_json::Map<String, Value> = app
        .rejects
        .counts()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.word().to_string(), json!(count)))
        .collect();
    let last: Vec<Value> = app
        .rejects
        .last(limit)
        .into_iter()
        .map(|kept| {
            json!({
                "arrived": rfc3339(kept.arrival_ns), "source": kept.source, "index": kept.reject.index,
                "metric": kept.reject.metric, "reason": kept.reject.reason.word(),
                "detail": kept.reject.reason.text(), "found": kept.reject.found,
            })
        })
        .collect();
    Ok(Json(json!({ "total": app.rejects.total(), "counts": counts, "rejected": last })))
}
