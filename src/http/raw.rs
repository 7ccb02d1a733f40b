//! `GET /api/v1/metrics`: raw samples, newest first, in the documented message shape.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use operators::family;
use operators::sample::TimeNs;

use super::App;
use super::aggregate::wait_for_epoch;
use super::error::ApiError;
use super::params::Params;
use crate::raw::{self, RawQuery};
use crate::sinks;

const KNOWN: &[&str] = &["service", "metric", "tag.NAME", "start", "end", "limit", "min_epoch"];
const LIMIT_DEFAULT: usize = 100;

/// The handler.
pub async fn metrics(
    State(app): State<Arc<App>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let params = Params::new(pairs, KNOWN)?;
    let limit = params.limit(LIMIT_DEFAULT, app.config.results_max)?;
    wait_for_epoch(&app, params.number("min_epoch")?).await?;
    let matcher = params.matcher();
    let start_ns = params.time("start")?.unwrap_or(TimeNs::MIN);
    let end_ns = params.time("end")?.unwrap_or(TimeNs::MAX);
    let resolved = params.get("metric").map(|metric| {
        let names = family::resolve(metric, |name| app.catalog.has_metric(name));
        // A metric that only the storage knows: every name that it can be short for.
        let names = if names.is_empty() { family::candidates(metric).collect() } else { names };
        names.into_iter().map(|name| name.into_owned()).collect::<Vec<String>>()
    });
    let names: Option<Vec<&str>> = resolved.as_ref().map(|names| names.iter().map(String::as_str).collect());
    let query = RawQuery {
        series: app.catalog.find(names.as_deref(), &matcher).into_iter().collect(),
        stored: sinks::Query {
            service: matcher.service,
            metrics: resolved.unwrap_or_default(),
            tags: matcher.tags,
            start_ns,
            end_ns,
            limit,
        },
    };
    let found = tokio::task::spawn_blocking({
        let app = app.clone();
        move || raw::newest(app.intake.recent(), &app.catalog, app.reader.as_ref(), &query)
    });
    let messages = found.await.map_err(|_| ApiError::internal("the query was cut short"))?;
    let messages = messages.map_err(ApiError::internal)?;
    let mut body = b"{\"metrics\":[".to_vec();
    for (at, message) in messages.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        message.write_json(&mut body);
    }
    body.extend_from_slice(format!("],\"count\":{}}}", messages.len()).as_bytes());
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
