//! `/api/v1/silences`: of which alerts nobody is told for some time.
//!
//! A silence is `{"match": {"rule", "severity", "service", "tags"}, "starts_at", "ends_at", "created_by", "comment"}`,
//! the matcher as in the configuration, times in RFC 3339. It is kept when the answer comes.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::error::ApiError;
use super::params::{Params, rfc3339};
use crate::codec::time;
use crate::notify::matcher::AlertMatcher;
use crate::notify::silence::{Maintenance, NotTaken, Silence};
use crate::settings::Day;

/// Bytes of a silence, and of its texts, at most.
const BODY_BYTES_MAX: usize = 64 << 10;
const TEXT_BYTES_MAX: usize = 4096;

/// What is posted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "match", alias = "matchers")]
    wanted: AlertMatcher,
    starts_at: Option<String>,
    ends_at: String,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    comment: String,
}

/// `GET`: those that have not ended, and the maintenance windows.
pub async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let now_ns = (app.clock)();
    let silences: Vec<Value> =
        app.silences.list(now_ns).iter().map(|silence| shown(silence, now_ns)).collect();
    let windows: Vec<Value> =
        app.silences.maintenance().iter().map(|window| window_shown(window, now_ns)).collect();
    Json(json!({ "count": silences.len(), "silences": silences, "maintenance": windows }))
}

/// `GET` of one by its id.
pub async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let now_ns = (app.clock)();
    let found = app.silences.list(now_ns).into_iter().find(|silence| silence.id == id);
    found.map(|silence| Json(shown(&silence, now_ns))).ok_or_else(|| unknown(&id))
}

/// `POST`: 200 with its `id`; 503 when there are too many.
pub async fn give(State(app): State<Arc<App>>, body: Bytes) -> Result<Json<Value>, ApiError> {
    if body.len() > BODY_BYTES_MAX {
        let found = body.len();
        return Err(ApiError::too_large(format!("expected at most {BODY_BYTES_MAX} bytes, found {found}")));
    }
    let now_ns = (app.clock)();
    let silence = read(&body, now_ns).map_err(ApiError::bad_request)?;
    let given = tokio::task::spawn_blocking(move || app.silences.give(silence, now_ns));
    let id = given.await.map_err(|_| ApiError::internal("the silence was not kept"))?.map_err(not_taken)?;
    Ok(Json(json!({ "id": id })))
}

/// `DELETE` with the parameter `id`.
pub async fn take_away(
    State(app): State<Arc<App>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let params = Params::new(pairs, &["id"])?;
    let id = params
        .get("id")
        .ok_or_else(|| ApiError::bad_request("id: expected the id of a silence, found none"))?;
    end(app, id.to_string()).await
}

/// `DELETE` of one by its path.
pub async fn take_one_away(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    end(app, id).await
}

async fn end(app: Arc<App>, id: String) -> Result<Json<Value>, ApiError> {
    let now_ns = (app.clock)();
    let configured =
        app.silences.list(now_ns).into_iter().any(|silence| silence.id == id && silence.is_configured);
    if configured {
        return Err(ApiError::bad_request(format!("{id} stands in the configuration, and ends there")));
    }
    let ended = tokio::task::spawn_blocking({
        let id = id.clone();
        move || app.silences.take_away(&id, now_ns)
    });
    let was_there =
        ended.await.map_err(|_| ApiError::internal("the silence was not ended"))?.map_err(not_taken)?;
    if was_there { Ok(Json(json!({ "id": id }))) } else { Err(unknown(&id)) }
}

fn read(body: &[u8], now_ns: i64) -> Result<Silence, String> {
    let written: Written =
        serde_json::from_slice(body).map_err(|error| format!("expected a silence: {error}"))?;
    let at = |key: &str, text: &str| {
        time::parse_text(text).ok_or_else(|| format!("{key}: expected an RFC 3339 time, found {text:?}"))
    };
    let starts_ns = written.starts_at.as_deref().map_or(Ok(now_ns), |text| at("starts_at", text))?;
    let ends_ns = at("ends_at", &written.ends_at)?;
    if ends_ns <= starts_ns || ends_ns <= now_ns {
        let after = rfc3339(starts_ns.max(now_ns));
        return Err(format!("ends_at: expected a time after {after}, found {}", written.ends_at));
    }
    if written.wanted.is_open() {
        return Err(
            "match: expected at least one key, found none; for all alerts there is rule: \"*\"".into()
        );
    }
    for (key, text) in [("created_by", &written.created_by), ("comment", &written.comment)] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("{key}: expected at most {TEXT_BYTES_MAX} bytes, found {}", text.len()));
        }
    }
    let Written { wanted, created_by, comment, .. } = written;
    Ok(Silence { id: String::new(), wanted, starts_ns, ends_ns, created_by, comment, is_configured: false })
}

fn not_taken(why: NotTaken) -> ApiError {
    match why {
        NotTaken::Full(len_max) => ApiError::unavailable(format!(
            "there are {len_max} silences already, as many as alerts.silences_max says"
        )),
        NotTaken::Unkept(error) => ApiError::internal(format!("silences can't be kept: {error}")),
    }
}

fn unknown(id: &str) -> ApiError {
    let detail = format!("expected the id of a silence that has not ended, found {id:?}");
    ApiError { status: StatusCode::NOT_FOUND, error: "not_found", detail }
}

fn shown(silence: &Silence, now_ns: i64) -> Value {
    json!({
        "id": silence.id,
        "match": silence.wanted,
        "starts_at": (silence.starts_ns != i64::MIN).then(|| rfc3339(silence.starts_ns)),
        "ends_at": rfc3339(silence.ends_ns),
        "created_by": silence.created_by,
        "comment": silence.comment,
        "active": silence.starts_ns <= now_ns,
    })
}

fn window_shown(window: &Maintenance, now_ns: i64) -> Value {
    let days: Vec<&str> =
        Day::WORDS.iter().zip(window.days).filter(|(_, on)| *on).map(|(word, _)| *word).collect();
    let clock = |seconds: u32| format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    json!({
        "id": window.id,
        "match": window.wanted,
        "days": days,
        "from": clock(window.from_s),
        "to": clock(window.to_s),
        "utc_offset_seconds": window.offset_s,
        "comment": window.comment,
        "active": window.holds(now_ns),
    })
}
