//! `POST /v1/metrics`: OTLP over HTTP, answered as its specification says, in the content type of the request.
//!
//! 200 is an `ExportMetricsServiceResponse`, with a `partial_success` if points were turned away: the client is not to
//! send them again. Errors are a `google.rpc.Status`; only 503 says that the request may come again, and when.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use super::error::ApiError;
use super::receive::{Received, receive};
use crate::codec::Codec;
use crate::codec::otlp::protobuf::{put_bytes, put_number};
use crate::codec::otlp::{OtlpJson, OtlpProtobuf};
use crate::codec::reject::{Reason, Reject};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// Codes of `google.rpc.Code`.
const INVALID_ARGUMENT: u64 = 3;
const INTERNAL: u64 = 13;
const UNAVAILABLE: u64 = 14;

/// Reasons that a partial success tells of, at most.
const TOLD_MAX: usize = 5;

/// The path.
pub async fn post(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(form) = Form::of(&parts.headers) else {
        let found =
            parts.headers.get(header::CONTENT_TYPE).map_or("none".into(), |value| format!("{value:?}"));
        let detail = format!("expected content-type {PROTOBUF} or {JSON}, found {found}");
        return Form::Json.error(StatusCode::UNSUPPORTED_MEDIA_TYPE, &detail);
    };
    match receive(&app, &parts.headers, body, form.codec()).await {
        Ok(received) => form.answer(&received),
        Err(error) => form.api_error(error),
    }
}

/// The two content types.
#[derive(Clone, Copy)]
enum Form {
    Protobuf,
    Json,
}

impl Form {
    fn of(headers: &HeaderMap) -> Option<Form> {
        let media = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
        let is = |known: &str| media.eq_ignore_ascii_case(known);
        match media {
            _ if is(PROTOBUF) => Some(Form::Protobuf),
            _ if is(JSON) => Some(Form::Json),
            _ => None,
        }
    }

    fn codec(self) -> &'static dyn Codec {
        match self {
            Form::Protobuf => &OtlpProtobuf,
            Form::Json => &OtlpJson,
        }
    }

    fn answer(self, received: &Received) -> Response {
        let told = received.rejects.last().filter(|reject| reject.reason == Reason::Malformed);
        if told.is_some() || received.untold.contains(&Reason::Malformed) {
            let detail = told.map_or(Reason::Malformed.text().into(), Reject::to_string);
            let detail = match received.accepted {
                0 => detail,
                taken => format!("{detail}; {taken} samples before it were taken"),
            };
            return self.error(StatusCode::BAD_REQUEST, &detail);
        }
        // Of a repeated request, and of what is not told one by one, only the number of samples is known.
        let untold = received.rejected.saturating_sub(received.rejects.len());
        self.success((points(&received.rejects) + untold) as u64, &message(&received.rejects))
    }

    fn success(self, rejected: u64, message: &str) -> Response {
        let body = match self {
            Form::Protobuf if rejected == 0 => Vec::new(),
            Form::Protobuf => {
                let mut partial = Vec::new();
                put_number(&mut partial, 1, rejected);
                put_bytes(&mut partial, 2, message.as_bytes());
                let mut body = Vec::new();
                put_bytes(&mut body, 1, &partial);
                body
            }
            Form::Json if rejected == 0 => b"{}".to_vec(),
            Form::Json => {
                let partial = json!({"rejectedDataPoints": rejected.to_string(), "errorMessage": message});
                json!({ "partialSuccess": partial }).to_string().into_bytes()
            }
        };
        self.response(StatusCode::OK, body)
    }

    fn api_error(self, error: ApiError) -> Response {
        let (status, detail) = (error.status, error.detail.clone());
        let mut response = self.error(status, &detail);
        // The time after which it may come again is told as everywhere.
        if let Some(after) = error.into_response().headers().get(header::RETRY_AFTER) {
            response.headers_mut().insert(header::RETRY_AFTER, after.clone());
        }
        response
    }

    fn error(self, status: StatusCode, detail: &str) -> Response {
        let code = match status {
            StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE,
            status if status.is_server_error() => INTERNAL,
            _ => INVALID_ARGUMENT,
        };
        let body = match self {
            Form::Protobuf => {
                let mut body = Vec::new();
                put_number(&mut body, 1, code);
                put_bytes(&mut body, 2, detail.as_bytes());
                body
            }
            Form::Json => json!({"code": code, "message": detail}).to_string().into_bytes(),
        };
        self.response(status, body)
    }

    fn response(self, status: StatusCode, body: Vec<u8>) -> Response {
        let media = match self {
            Form::Protobuf => PROTOBUF,
            Form::Json => JSON,
        };
        (status, [(header::CONTENT_TYPE, media)], body).into_response()
    }
}

/// How many points they are of: a histogram may have several.
fn points(rejects: &[Reject]) -> usize {
    let mut last = None;
    rejects.iter().filter(|reject| last.replace(reject.index) != Some(reject.index)).count()
}

/// The first of them for people, each reason once.
fn message(rejects: &[Reject]) -> String {
    let mut told: Vec<(Reason, String)> = Vec::new();
    for reject in rejects {
        if told.len() < TOLD_MAX && told.iter().all(|(reason, _)| *reason != reject.reason) {
            let metric = reject.metric.as_ref().map_or(String::new(), |metric| format!("{metric}: "));
            told.push((reject.reason, format!("{metric}{reject}")));
        }
    }
    told.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ")
}
