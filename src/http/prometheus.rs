//! What Prometheus sends: `POST /api/v1/write`, remote write 1.0 and 2.0; and its text, pushed:
//! `POST /api/v1/import/prometheus`.
//!
//! Answers are plain text, as senders log them. 204: all of it; 400: some or all of it was turned away, and the rest
//! is kept: nothing that gets a 4xx is sent again. 503 with `Retry-After` when full. Values that are no finite
//! numbers are nobody's mistake (an idle summary has NaN as its quantiles): they are counted as `not_finite`, and the
//! answer is still 204.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::ApiError;
use super::receive::{Received, receive};
use crate::codec::Codec;
use crate::codec::exposition::TextFormat;
use crate::codec::prometheus_text::{OPEN_METRICS, PROMETHEUS};
use crate::codec::reject::Reason;
use crate::codec::remote_write::{V1, V2};

/// Names of the two versions' messages in the `Content-Type`.
const PROTO_V1: &str = "prometheus.WriteRequest";
const PROTO_V2: &str = "io.prometheus.write.v2.Request";

/// `POST /api/v1/write`.
pub async fn write(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let is_v2 = match is_version_2(&parts.headers) {
        Ok(is_v2) => is_v2,
        Err(error) => return told(error),
    };
    // Senders of old say nothing, and mean what the specification wants.
    parts.headers.entry(header::CONTENT_ENCODING).or_insert(HeaderValue::from_static("snappy"));
    let codec: &dyn Codec = if is_v2 { &V2 } else { &V1 };
    let received = receive(&app, &parts.headers, body, codec).await;
    let counts = received.as_ref().map(written).unwrap_or_default();
    let mut response = received.map_or_else(told, |received| verdict(&received));
    if is_v2 {
        for (name, count) in WRITTEN.into_iter().zip(counts) {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(count));
        }
    }
    response
}

/// `POST /api/v1/import/prometheus`: OpenMetrics if the `Content-Type` says so, else Prometheus text.
pub async fn import(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let codec = match TextFormat::of_content_type(content_type) {
        TextFormat::Prometheus => &PROMETHEUS,
        TextFormat::OpenMetrics => &OPEN_METRICS,
    };
    let received = receive(&app, &parts.headers, body, codec).await;
    received.map_or_else(told, |received| verdict(&received))
}

/// Whether a request is of version 2.0, by its `Content-Type`.
fn is_version_2(headers: &HeaderMap) -> Result<bool, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(false) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let proto = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"').to_string())
    });
    match (media.eq_ignore_ascii_case("application/x-protobuf"), proto.as_deref()) {
        (true, None | Some(PROTO_V1)) => Ok(false),
        (true, Some(PROTO_V2)) => Ok(true),
        _ => Err(ApiError {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            error: "unsupported_media_type",
            detail: format!(
                "expected content-type application/x-protobuf with proto={PROTO_V1} or {PROTO_V2}, found {text}"
            ),
        }),
    }
}

/// The headers of version 2.0.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// How many samples, histograms and exemplars have their place here. A stale marker has done what it is for.
fn written(received: &Received) -> [u64; 3] {
    let stale = received.untold.iter().filter(|reason| **reason == Reason::StaleMarker).count();
    [(received.accepted + stale) as u64, 0, 0]
}

/// An error as plain text.
fn told(error: ApiError) -> Response {
    let detail = error.detail.clone();
    let mut response = error.into_response();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = format!("{detail}\n").into();
    response
}

/// What is said of a body that was read, with the epoch that carries its samples, for `min_epoch`.
fn verdict(received: &Received) -> Response {
    let mut response = judged(received);
    if let Some(epoch) = received.epoch {
        response.headers_mut().insert(HeaderName::from_static("x-plantd-epoch"), HeaderValue::from(epoch));
    }
    response
}

fn judged(received: &Received) -> Response {
    let told_no_number = received.rejects.iter().filter(|reject| reject.reason == Reason::NotFinite).count();
    let untold_no_number = received.untold.iter().filter(|reason| **reason == Reason::NotFinite).count();
    let mistakes = received.rejected - told_no_number - untold_no_number;
    // Of a body that came before, only the counts are known; what was said of it is not worth a failure now.
    if received.repeated || mistakes == 0 {
        return StatusCode::NO_CONTENT.into_response();
    }
    let first = received.rejects.iter().find(|reject| reject.reason != Reason::NotFinite);
    let first = first.map_or_else(String::new, |first| {
        let metric = first.metric.as_ref().map(|metric| format!(" of {metric}")).unwrap_or_default();
        format!(", the first{metric}: {first}")
    });
    let accepted = received.accepted;
    told(ApiError::bad_request(format!("{mistakes} turned away{first}; {accepted} samples accepted")))
}
