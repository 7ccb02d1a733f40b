//! InfluxDB's paths for those who write lines: `/write` as 1.x has it, `/api/v2/write`, `/api/v3/write_lp`, and what
//! their clients ask beside that. Databases, buckets, organisations, users and tokens are taken and mean nothing.
//!
//! What a request is told has the form that its path has in InfluxDB, by which clients decide whether to send again:
//! 204 where all lines are taken, 400 with the lines that are not, 413, 503 with `Retry-After`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::App;
use super::error::ApiError;
use super::receive::{Received, receive};
use crate::codec::line::{LineProtocol, Precision, found_and_line};
use crate::codec::reject::Reject;

/// The paths.
pub const ROUTES: &[&str] = &["/write", "/api/v2/write", "/api/v3/write_lp", "/ping", "/query"];

/// Routes of these paths.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/write", post(|app, request| write(Dialect::V1, app, request)))
        .route("/api/v2/write", post(|app, request| write(Dialect::V2, app, request)))
        .route("/api/v3/write_lp", post(|app, request| write(Dialect::V3, app, request)))
        .route("/ping", get(ping))
        .route("/query", get(query).post(query))
}

/// What clients of 1.x take for the server's version.
const VERSION: &str = concat!("1.8.10-plantd-metric-", env!("CARGO_PKG_VERSION"));

const VERSION_HEADER: HeaderName = HeaderName::from_static("x-influxdb-version");
const ERROR_HEADER: HeaderName = HeaderName::from_static("x-influxdb-error");
/// The epoch that carries the samples, for `min_epoch`: InfluxDB's answers have no place for it.
const EPOCH_HEADER: HeaderName = HeaderName::from_static("x-plantd-epoch");

/// Bad lines that an answer tells one by one.
const LINES_TOLD_MAX: usize = 100;

/// Bytes of a query.
const QUERY_BYTES_MAX: usize = 32 << 10;

/// Whose forms a path has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V1,
    V2,
    V3,
}

async fn write(dialect: Dialect, State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let protocol = match dialect.protocol(&parts.uri) {
        Ok(protocol) => protocol,
        Err(error) => return dialect.refusal(error),
    };
    match receive(&app, &parts.headers, body, &protocol).await {
        Ok(received) => dialect.verdict(&received, &protocol),
        Err(error) => dialect.refusal(error),
    }
}

impl Dialect {
    /// Lines as the request's parameters say. Others than those that say it are none of our affair.
    fn protocol(self, uri: &Uri) -> Result<LineProtocol, ApiError> {
        let parameters = parameters(uri)?;
        let word = value_of(&parameters, "precision").filter(|word| !word.is_empty());
        let precision = word.map_or(Some(self.usual_precision()), Precision::of_word);
        let precision = precision.filter(|precision| self == Dialect::V3 || *precision != Precision::Auto);
        let precision = precision.ok_or_else(|| {
            let expected = self.precisions();
            ApiError::bad_request(format!(
                "invalid precision: expected one of {expected}, found {:?}",
                word.unwrap_or_default()
            ))
        })?;
        let is_whole = self == Dialect::V3
            && match value_of(&parameters, "accept_partial") {
                None | Some("true") => false,
                Some("false") => true,
                Some(other) => {
                    return Err(ApiError::bad_request(format!(
                        "accept_partial: expected true or false, found {other:?}"
                    )));
                }
            };
        Ok(LineProtocol { precision, is_whole })
    }

    fn usual_precision(self) -> Precision {
        match self {
            Dialect::V1 | Dialect::V2 => Precision::NANOSECOND,
            Dialect::V3 => Precision::Auto,
        }
    }

    fn precisions(self) -> &'static str {
        match self {
            Dialect::V1 => "n, u, ms, s, m, h",
            Dialect::V2 => "ns, us, ms, s",
            Dialect::V3 => "auto, nanosecond, microsecond, millisecond, second",
        }
    }

    /// What became of the lines.
    fn verdict(self, received: &Received, protocol: &LineProtocol) -> Response {
        let mut response = match received.rejected {
            0 => StatusCode::NO_CONTENT.into_response(),
            _ => self.error(StatusCode::BAD_REQUEST, self.partial(received, protocol)),
        };
        let headers = response.headers_mut();
        headers.insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
        if let Some(epoch) = received.epoch {
            headers.insert(EPOCH_HEADER, epoch.into());
        }
        response
    }

    /// The answer's body where lines were turned away.
    fn partial(self, received: &Received, protocol: &LineProtocol) -> Value {
        let lines = || received.rejects.iter().take(LINES_TOLD_MAX);
        match self {
            Dialect::V1 => json!({ "error": partial_write(received) }),
            Dialect::V2 => json!({ "code": "invalid", "message": partial_write(received) }),
            Dialect::V3 if protocol.is_whole => {
                let first = lines().next().map(line_error);
                json!({ "error": "parsing failed for write_lp endpoint", "data": first })
            }
            Dialect::V3 => {
                let data: Vec<Value> = lines().map(line_error).collect();
                json!({ "error": "partial write of line protocol occurred", "data": data })
            }
        }
    }

    /// Nothing was taken: what is wrong with the request, or with us.
    fn refusal(self, error: ApiError) -> Response {
        let status = error.status;
        let body = match self {
            Dialect::V1 | Dialect::V3 => json!({ "error": error.detail }),
            Dialect::V2 => json!({ "code": code(status), "message": error.detail }),
        };
        self.error(status, body)
    }

    fn error(self, status: StatusCode, body: Value) -> Response {
        // As 1.x has it; a text that is no header's value is in the body all the same.
        let told = body["error"].as_str().and_then(|text| HeaderValue::from_str(text).ok());
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(told) = told.filter(|told| self == Dialect::V1 && told.len() <= 1024) {
            headers.insert(ERROR_HEADER, told);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The word that 2.x has for a status.
fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported media type",
        StatusCode::INTERNAL_SERVER_ERROR => "internal error",
        _ => "invalid",
    }
}

/// As 1.x says it: a client that reads `partial write` or `unable to parse` does not send the same again.
fn partial_write(received: &Received) -> String {
    let mut lines: Vec<String> = received.rejects.iter().take(LINES_TOLD_MAX).map(told).collect();
    match received.rejected - lines.len() {
        0 => {}
        more if received.repeated => lines.push(format!("{more} were told the first time")),
        more => lines.push(format!("and {more} more")),
    }
    let lines = lines.join("\n");
    let is_parsed = received.repeated || received.rejects.iter().any(|reject| !reject.reason.is_of_syntax());
    if received.accepted == 0 && !is_parsed {
        return lines;
    }
    format!("partial write: {lines} dropped={}", received.rejected)
}

fn told(reject: &Reject) -> String {
    let (_, line) = found_and_line(&reject.found);
    let why = why(reject);
    if reject.reason.is_of_syntax() {
        format!("unable to parse '{line}': {why}")
    } else {
        format!("{why} in '{line}'")
    }
}

fn why(reject: &Reject) -> String {
    let (found, _) = found_and_line(&reject.found);
    let metric = reject.metric.as_ref().map(|metric| format!("field {metric}: ")).unwrap_or_default();
    match (reject.reason.is_of_syntax(), found) {
        (true, found) => format!("{metric}{found}"),
        (false, "") => format!("{metric}{}", reject.reason.text()),
        (false, found) => format!("{metric}{}: {found}", reject.reason.text()),
    }
}

/// As 3 says it.
fn line_error(reject: &Reject) -> Value {
    let (_, line) = found_and_line(&reject.found);
    json!({ "original_line": line, "line_number": reject.index + 1, "error_message": why(reject) })
}

/// `GET` or `HEAD`: we are there.
async fn ping() -> Response {
    let headers = [(VERSION_HEADER, VERSION), (HeaderName::from_static("x-influxdb-build"), "OSS")];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// The one query that those who write ask: `CREATE DATABASE`, which there is no need for.
async fn query(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match statement(&parts.uri, &parts.headers, body).await {
        Ok(text) if is_create_database(&text) => {
            ([(VERSION_HEADER, VERSION)], Json(json!({ "results": [{ "statement_id": 0 }] }))).into_response()
        }
        Ok(text) => Dialect::V1.refusal(ApiError::bad_request(format!(
            "error parsing query: expected CREATE DATABASE, found {:?}; GET /api/v1/metrics answers queries",
            crate::codec::reject::excerpt(text.as_bytes())
        ))),
        Err(error) => Dialect::V1.refusal(error),
    }
}

/// The parameter `q`, of the address or of the form.
async fn statement(uri: &Uri, headers: &HeaderMap, body: Body) -> Result<String, ApiError> {
    if let Some(text) = value_of(&parameters(uri)?, "q") {
        return Ok(text.to_string());
    }
    let too_large = |_| ApiError::too_large(format!("expected a query of at most {QUERY_BYTES_MAX} bytes"));
    let body = axum::body::to_bytes(body, QUERY_BYTES_MAX).await.map_err(too_large)?;
    let missing = || ApiError::bad_request("missing required parameter \"q\"");
    let is_form = headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes().to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded")
    });
    let form = std::str::from_utf8(&body).ok().filter(|_| is_form).ok_or_else(missing)?;
    // A form is written as an address's query is.
    let form = format!("/?{form}").parse().map_err(|_| missing())?;
    value_of(&parameters(&form)?, "q").map(str::to_string).ok_or_else(missing)
}

fn is_create_database(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let mut next_is = |word: &str| words.next().is_some_and(|found| found.eq_ignore_ascii_case(word));
    next_is("create") && next_is("database") && !text.trim().trim_end_matches(';').contains(';')
}

fn parameters(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    let read = Query::<Vec<(String, String)>>::try_from_uri(uri);
    read.map(|Query(pairs)| pairs).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn value_of<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}
