//! `POST /v1/metrics`: OTLP in both content types, and the answers that its specification gives.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::running::{Answer, NOON_NS, Running};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// A request of one cumulative sum and one gauge, ten seconds apart.
fn request(values: &[(&str, f64)]) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let points: Vec<Value> = values
        .iter()
        .enumerate()
        .map(|(at, (pod, value))| {
            let time = NOON_NS + at as i64 * 10_000_000_000;
            json!({"timeUnixNano": time.to_string(), "asDouble": value, "attributes": [text("pod", pod)]})
        })
        .collect();
    let metric = json!({"name": "requests", "sum": {"dataPoints": points, "aggregationTemporality": 2,
        "isMonotonic": true}});
    let resource = json!({"attributes": [text("service.name", "shop"), text("host.name", "a")]});
    json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]})
}

/// A gauge `m` of nobody in protobuf: one point of value 1 without a time.
fn point_in_protobuf() -> Vec<u8> {
    let field = |number: u8, bytes: Vec<u8>| [vec![number << 3 | 2, bytes.len() as u8], bytes].concat();
    let point = [vec![0x31], 1i64.to_le_bytes().to_vec()].concat();
    let metric = [field(1, b"m".to_vec()), field(5, field(1, point))].concat();
    field(1, field(2, field(2, metric)))
}

fn send(service: &Running, media: &str, body: &[u8]) -> Answer {
    service.request("POST", "/v1/metrics", &[("content-type", media)], body)
}

/// Waits until everything taken in can be read.
fn settle(service: &Running) {
    service.accept(&json!({"service": "other", "metrics": {"x": 1}}));
}

#[test]
fn what_is_sent_in_json_can_be_asked_for() {
    let service = Running::start("storage: { type: none }");
    let body = request(&[("p", 5.0), ("p", 8.0), ("p", 2.0)]).to_string();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(body.as_bytes()).expect("a Vec takes every byte");
    let packed = packed.finish().expect("a Vec takes every byte");
    let headers = [("content-type", "Application/JSON; charset=utf-8"), ("content-encoding", "gzip")];
    let answer = service.request("POST", "/v1/metrics", &headers, &packed);
    assert_eq!((answer.status, answer.json()), (200, json!({})), "{}", answer.text());
    // An exporter that got no answer sends it again: nothing counts twice.
    let again = send(&service, JSON, body.as_bytes());
    assert_eq!((again.status, again.json()), (200, json!({})));
    settle(&service);
    let path = "/api/v1/metrics/aggregate?metric=requests&service=shop&tag.host.name=a&tag.pod=p&interval=1m\
        &func=count,increase&start=2024-01-01T12:00:00Z&end=2024-01-01T12:01:00Z";
    let found = service.json(path);
    let values: Vec<(&Value, &Value)> = found["series"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|series| (&series["func"], &series["points"][0]["value"]))
        .collect();
    assert_eq!(values, [(&json!("count"), &json!(3.0)), (&json!("increase"), &json!(5.0))], "{found}");
}

#[test]
fn protobuf_is_answered_in_protobuf() {
    let service = Running::start("storage: { type: none }");
    let answer = send(&service, PROTOBUF, &point_in_protobuf());
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-type"), Some(PROTOBUF));
    settle(&service);
    let found = service.json("/api/v1/metrics?service=unknown_service");
    assert_eq!(found["metrics"][0]["metrics"], json!({"m": 1}), "{found}");

    // Status: code 3, message.
    let answer = send(&service, PROTOBUF, &point_in_protobuf()[..9]);
    assert_eq!((answer.status, answer.header("content-type")), (400, Some(PROTOBUF)));
    assert_eq!(&answer.body[..3], &[0x08, 3, 0x12], "{:?}", answer.body);
    assert!(answer.text().contains("byte 1: expected a length within its message"), "{}", answer.text());

    // Partial success: field 1 of the answer, with 1 point and a text.
    let mut bad = point_in_protobuf();
    bad[8] = b'\t';
    let answer = send(&service, PROTOBUF, &bad);
    assert_eq!((answer.status, answer.body[0], &answer.body[2..5]), (200, 0x0a, &[0x08, 1, 0x12][..]));
    assert!(answer.text().contains("control character in a name or tag"), "{}", answer.text());
}

#[test]
fn points_that_are_turned_away_are_told_as_partial_success() {
    let service = Running::start("storage: { type: none }");
    let mut body = request(&[("p", 1.0), ("p", 2.0), ("p", 3.0), ("p", 4.0)]);
    let points = &mut body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["sum"]["dataPoints"];
    points[1]["asDouble"] = json!("Infinity");
    points[2]["attributes"][0]["value"]["stringValue"] = json!("x".repeat(300));
    // A point that says that it has no value is no mistake.
    points[3]["flags"] = json!(1);
    let answer = send(&service, JSON, body.to_string().as_bytes());
    assert_eq!(answer.status, 200);
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedDataPoints"], "2");
    let told = partial["errorMessage"].as_str().expect("a text");
    assert_eq!(
        told,
        "requests: expected a finite value: inf; requests: tag value longer than ingest.tag_len_max: 300 bytes in \
         tag pod"
    );
    let counts = &service.json("/api/v1/rejected")["counts"];
    assert_eq!(
        (&counts["not_finite"], &counts["tag_too_long"], &counts["no_value"]),
        (&json!(1), &json!(1), &json!(1))
    );
}

#[test]
fn what_cannot_be_taken_is_a_status() {
    let service = Running::start("storage: { type: none }\nhttp: { body_max: 1KiB }");
    let long = request(&[("p", 1.0); 50]).to_string();
    for (media, body, status, message) in [
        (JSON, "{\"resourceMetrics\":", 400, "not a message of a known shape"),
        (JSON, long.as_str(), 413, "expected a body of at most 1024 bytes"),
        ("text/plain", "{}", 415, "expected content-type application/x-protobuf or application/json"),
    ] {
        let answer = send(&service, media, body.as_bytes());
        assert_eq!(answer.status, status, "{}", answer.text());
        let json = answer.json();
        assert_eq!(json["code"], 3);
        assert!(json["message"].as_str().is_some_and(|text| text.contains(message)), "{json}");
    }
    let headers = [("content-type", JSON), ("content-encoding", "zstd")];
    let answer = service.request("POST", "/v1/metrics", &headers, b"{}");
    assert_eq!((answer.status, &answer.json()["code"]), (415, &json!(3)));
    assert_eq!(service.get("/v1/metrics").status, 405);
}

#[test]
fn what_finds_no_room_is_a_503_that_may_come_again() {
    // More free space on the disk than there is: nothing is taken in.
    let yaml = "storage: { type: file }\njournal: { free_space_min: 1125899906842624 }\n\
                ingest: { ack_timeout: 100ms }\nservice: { stop_timeout: 1s }";
    let service = Running::start(yaml);
    let answer = send(&service, JSON, request(&[("p", 1.0)]).to_string().as_bytes());
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    assert_eq!(answer.json()["code"], 14);
    let answer = send(&service, PROTOBUF, &point_in_protobuf());
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!((answer.header("content-type"), &answer.body[..3]), (Some(PROTOBUF), &[0x08, 14, 0x12][..]));
}
