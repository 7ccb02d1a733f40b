//! Bodies in, whatever their format: read within their limits, unpacked, decoded by the codec of their path, handed
//! to the door. What the sender is told is the path's affair.

use std::io::Read;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use dataflows::epoch::Request as KeyedRequest;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::App;
use super::error::ApiError;
use crate::codec::Codec;
use crate::codec::decoder::Decoder;
use crate::codec::reject::{Malformed, Reason, Reject};
use crate::intake::Taken;
use crate::requests::key_hash;

/// What became of a body.
#[derive(Debug)]
pub struct Received {
    /// Samples accepted.
    pub accepted: usize,
    /// Samples or messages turned away.
    pub rejected: usize,
    /// The first of them, in the body's order; none if the body came before. A syntax error stands for all that follows it.
    pub rejects: Vec<Reject>,
    /// Why more was turned away than `rejects` has, and why something was passed over.
    pub untold: Vec<Reason>,
    /// The epoch that carries the samples, if there are any.
    pub epoch: Option<u64>,
    /// Whether a request with the same idempotency key came before: then this is what was said to it.
    pub repeated: bool,
}

/// Longest idempotency key, in bytes.
const IDEMPOTENCY_KEY_LEN_MAX: usize = 255;

/// Bytes of a body that is decoded aside, and of one that is unpacked there.
const LONG_LEN: usize = 256 << 10;
const LONG_PACKED_LEN: usize = 32 << 10;

/// Does what takes long while other requests go on elsewhere.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        // There is nobody else to go on.
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

/// Takes a body in and waits until the journal can keep what the answer promises.
///
/// # Errors
/// If the body can't be read (counted), there is no room, or the journal can't be written in time.
pub async fn receive(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    codec: &dyn Codec,
) -> Result<Received, ApiError> {
    let announced = app.intake.announce();
    let body = match read_body(app, headers, body).await {
        Ok(body) => body,
        Err(error) => {
            count_body(app, &error);
            return Err(error);
        }
    };
    if !app.intake.is_open() {
        return Err(ApiError::unavailable("stopping"));
    }
    let key = idempotency_key(headers)?;
    let mut decoder = app.decoders.take(codec.name());
    let mut decode = || decode_and_submit(app, &body, key, codec, &mut decoder);
    let received = if body.len() > LONG_LEN { aside(decode) } else { decode() };
    app.decoders.put(codec.name(), decoder);
    drop(announced);
    let received = received?;
    // The answer is a promise: it goes out when the journal can keep it.
    if let Some(epoch) = received.epoch
        && !app.intake.is_safe(epoch).await
    {
        let why = app.intake.trouble().unwrap_or_else(|| "the disk is slow".into());
        return Err(ApiError::unavailable(format!("not written to the journal in time: {why}")));
    }
    Ok(received)
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
    codec: &dyn Codec,
    decoder: &mut Decoder,
) -> Result<Received, ApiError> {
    decoder.begin(app.intake.now_ns());
    decoder.default_service.clear();
    if let Err(malformed) = codec.decode(body, decoder) {
        reject_rest(decoder, malformed);
    }
    // The next body is likely to be as long; growing a vector step by step costs copies and fresh pages.
    let next = Vec::with_capacity(decoder.samples.len());
    let samples = std::mem::replace(&mut decoder.samples, next);
    let (accepted, newest_ns) = (samples.len(), samples.iter().map(|s| s.time_ns).max());
    let rejected = decoder.rejected();
    let request = key.map(|key| KeyedRequest { key, accepted: accepted as u32, rejected: rejected as u32 });
    let epoch = match app.intake.submit_once(samples, request) {
        Ok(Taken::New(epoch)) => epoch,
        Ok(Taken::Before(epoch, said)) => {
            let (accepted, rejected) = (said.accepted as usize, said.rejected as usize);
            let (rejects, untold) = (Vec::new(), Vec::new());
            return Ok(Received { accepted, rejected, rejects, untold, epoch: Some(epoch), repeated: true });
        }
        Err(_) => {
            let why = app.intake.trouble().map(|why| format!("the journal can't be written: {why}"));
            return Err(ApiError::unavailable(why.unwrap_or_else(|| "too many samples in flight".into())));
        }
    };
    app.telemetry.http_messages.fetch_add(decoder.messages, Ordering::Relaxed);
    app.telemetry.accepted(accepted, newest_ns);
    app.rejects.add("http", decoder.arrival_ns, &decoder.rejects);
    app.rejects.count(&decoder.untold);
    let (rejects, untold) = (std::mem::take(&mut decoder.rejects), std::mem::take(&mut decoder.untold));
    let epoch = (accepted > 0).then_some(epoch);
    Ok(Received { accepted, rejected, rejects, untold, epoch, repeated: false })
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

/// Reads a body within its limit, unpacked if it is gzip or snappy.
pub(super) async fn read_body(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
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
    let unpack: fn(&[u8], usize) -> Result<Bytes, ApiError> = match coding.as_deref() {
        None | Some(b"identity") => return Ok(packed),
        Some(b"snappy") => super::snappy::unpack,
        Some(b"gzip" | b"x-gzip") => gunzip,
        Some(other) => {
            return Err(ApiError {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                error: "unsupported_encoding",
                detail: format!(
                    "expected content-encoding gzip, snappy or identity, found {}",
                    String::from_utf8_lossy(other)
                ),
            });
        }
    };
    let unpack = || unpack(&packed, max);
    if packed.len() > LONG_PACKED_LEN { aside(unpack) } else { unpack() }
}

fn gunzip(packed: &[u8], max: usize) -> Result<Bytes, ApiError> {
    let mut plain = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(packed).take(max as u64 + 1);
    reader.read_to_end(&mut plain).map_err(|e| ApiError::bad_request(format!("body is no gzip: {e}")))?;
    if plain.len() > max {
        return Err(ApiError::too_large(format!("expected a body of at most {max} bytes")));
    }
    Ok(Bytes::from(plain))
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
