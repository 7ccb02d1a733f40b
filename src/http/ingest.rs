//! `POST /api/v1/metrics` and `/api/v1/metrics/batch`: bodies in, verdicts out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::App;
use super::receive::{Received, receive};
use crate::codec::json::Json as JsonCodec;
use crate::codec::reject::Reject;

/// What became of a body.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Samples accepted.
    accepted: usize,
    /// What was turned away.
    rejected: Vec<RejectedEntry>,
    /// The epoch that carries the samples: pass it as `min_epoch` to read them back.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    /// Whether a request with the same idempotency key came before: this is what was said then, and nothing was
    /// counted again. What was rejected is not listed again.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeated: Option<bool>,
}

#[derive(Debug, Serialize)]
struct RejectedEntry {
    index: usize,
    metric: Option<String>,
    reason: &'static str,
    detail: String,
}

/// The handler of both paths: a message, an array of messages or the batch object.
pub async fn post(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match receive(&app, &parts.headers, body, &JsonCodec).await {
        Ok(received) => {
            let status = status_of(received.accepted, received.rejected);
            (status, Json(verdict(received))).into_response()
        }
        Err(error) => error.into_response(),
    }
}

fn verdict(received: Received) -> Verdict {
    let Received { accepted, rejects, epoch, repeated, .. } = received;
    let rejected = rejects.into_iter().map(entry).collect();
    Verdict { accepted, rejected, epoch, repeated: repeated.then_some(true) }
}

fn status_of(accepted: usize, rejected: usize) -> StatusCode {
    match (accepted, rejected) {
        (_, 0) => StatusCode::OK,
        (0, _) => StatusCode::BAD_REQUEST,
        _ => StatusCode::MULTI_STATUS,
    }
}

fn entry(reject: Reject) -> RejectedEntry {
    let detail = reject.to_string();
    RejectedEntry { index: reject.index, metric: reject.metric, reason: reject.reason.word(), detail }
}
