//! `POST /api/v1/metrics` and `/api/v1/metrics/batch`: bodies in, verdicts out.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dataflows::epoch::Request as KeyedRequest;
use serde::Serialize;

use super::App;
use super::error::ApiError;
use crate::codec::Codec;
use crate::codec::decoder::Decoder;
use crate::codec::json::Json as JsonCodec;
use crate::codec::reject::{Malformed, Reason, Reject};
use crate::intake::Taken;
use crate::requests::key_hash;

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

/// Longest idempotency key, in bytes.
const IDEMPOTENCY_KEY_LEN_MAX: usize = 255;

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
    let body = match read_body(&app, &parts.headers, body).await {
        Ok(body) => body,
        Err(error) => {
            count_body(&app, &error);
            return error.into_response();
        }
    };
    if !app.intake.is_open() {
        return ApiError::unavailable("stopping").into_response();
    }
    let key = match idempotency_key(&parts.headers) {
        Ok(key) => key,
        Err(error) => return error.into_response(),
    };
    let mut decoder = app.decoders.take();
    let answer = decode_and_submit(&app, &body, key, &mut decoder);
    app.decoders.put(decoder);
    match answer {
        Ok((status, verdict)) => {
            // The answer is a promise: it goes out when the journal can keep it.
            if let Some(epoch) = verdict.epoch
                && !app.intake.is_safe(epoch).await
            {
                let why = app.intake.trouble().unwrap_or_else(|| "the disk is slow".into());
                return ApiError::unavailable(format!("not written to the journal in time: {why}"))
                    .into_response();
            }
            (status, Json(verdict)).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// The key of a request that may be repeated (draft-ietf-httpapi-idempotency-key-header), quoted or not.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<u128>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.as_bytes().trim_ascii();
    let key = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(text);
    match key.len() {
        1..=IDEMPOTENCY_KEY_LEN_MAX => Ok(Some(key_hash(key))),
        len => Err(ApiError::bad_request(format!(
            "expected an idempotency-key of 1 to {IDEMPOTENCY_KEY_LEN_MAX} bytes, found {len}"
        ))),
    }
}

/// Decodes a body and hands its samples down. Does not wait.
fn decode_and_submit(
    app: &App,
    body: &[u8],
    key: Option<u128>,
    decoder: &mut Decoder,
) -> Result<(StatusCode, Verdict), ApiError> {
    decoder.begin(app.intake.now_ns());
    decoder.default_service.clear();
    let outcome = JsonCodec.decode(body, decoder);
    if let Err(malformed) = outcome {
        reject_rest(decoder, malformed);
    }
    let samples = std::mem::take(&mut decoder.samples);
    let (accepted, newest_ns) = (samples.len(), samples.iter().map(|s| s.time_ns).max());
    let rejected = decoder.rejects.len();
    let request = key.map(|key| KeyedRequest { key, accepted: accepted as u32, rejected: rejected as u32 });
    let epoch = match app.intake.submit_once(samples, request) {
        Ok(Taken::New(epoch)) => epoch,
        Ok(Taken::Before(epoch, said)) => {
            decoder.rejects.clear();
            let (accepted, rejected) = (said.accepted as usize, said.rejected as usize);
            let verdict =
                Verdict { accepted, rejected: Vec::new(), epoch: Some(epoch), repeated: Some(true) };
            return Ok((status_of(accepted, rejected), verdict));
        }
        Err(_) => {
            let why = app.intake.trouble().map(|why| format!("the journal can't be written: {why}"));
            return Err(ApiError::unavailable(why.unwrap_or_else(|| "too many samples in flight".into())));
        }
    };
    app.telemetry.http_messages.fetch_add(decoder.messages, Ordering::Relaxed);
    app.telemetry.accepted(accepted, newest_ns);
    app.rejects.add("http", decoder.arrival_ns, &decoder.rejects);
    let rejected: Vec<RejectedEntry> = decoder.rejects.drain(..).map(entry).collect();
    let verdict = Verdict { accepted, rejected, epoch: (accepted > 0).then_some(epoch), repeated: None };
    Ok((status_of(accepted, verdict.rejected.len()), verdict))
}

fn status_of(accepted: usize, rejected: usize) -> StatusCode {
    match (accepted, rejected) {
        (_, 0) => StatusCode::OK,
        (0, _) => StatusCode::BAD_REQUEST,
        _ => StatusCode::MULTI_STATUS,
    }
}

/// A body that could not even be read counts as one reject.
fn count_body(app: &App, error: &ApiError) {
    let reason = match error.status {
        StatusCode::PAYLOAD_TOO_LARGE => Reason::BodyTooLarge,
        _ => Reason::BodyUnreadable,
    };
    let reject = Reject { index: 0, metric: None, reason, found: error.detail.clone() };
    app.rejects.add("http", app.intake.now_ns(), &[reject]);
}

/// What follows a syntax error can't be told apart any more: one reject stands for it.
fn reject_rest(decoder: &mut Decoder, malformed: Malformed) {
    decoder.messages += 1;
    decoder.reject(None, Reason::Malformed, malformed.to_string());
}

fn entry(reject: Reject) -> RejectedEntry {
    let text = reject.reason.text();
    let detail = if reject.found.is_empty() { text.into() } else { format!("{text}: {}", reject.found) };
    RejectedEntry { index: reject.index, metric: reject.metric, reason: reject.reason.word(), detail }
}

/// Reads a body within its limit, unpacked if it is gzip.
async fn read_body(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let max = app.config.body_bytes_max;
    let too_large = || ApiError::too_large(format!("expected a body of at most {max} bytes"));
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|len| len > max) {
        return Err(too_large());
    }
    let packed = axum::body::to_bytes(body, max).await.map_err(|e| match is_limit(&e) {
        true => too_large(),
        false => ApiError::bad_request(format!("body cut off: {e}")),
    })?;
    // Codings have no case (RFC 9110, section 8.4.1).
    let coding = headers.get(header::CONTENT_ENCODING).map(|v| v.as_bytes().to_ascii_lowercase());
    match coding.as_deref() {
        None | Some(b"identity") => Ok(packed),
        Some(b"gzip" | b"x-gzip") => {
            let mut plain = Vec::new();
            let mut reader = flate2::read::MultiGzDecoder::new(packed.as_ref()).take(max as u64 + 1);
            reader
                .read_to_end(&mut plain)
                .map_err(|e| ApiError::bad_request(format!("body is no gzip: {e}")))?;
            if plain.len() > max { Err(too_large()) } else { Ok(plain.into()) }
        }
        Some(other) => Err(ApiError {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            error: "unsupported_encoding",
            detail: format!(
                "expected content-encoding gzip or identity, found {}",
                String::from_utf8_lossy(other)
            ),
        }),
    }
}

fn is_limit(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = source {
        if at.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = at.source();
    }
    false
}
