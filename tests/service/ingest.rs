//! `POST /api/v1/metrics` and `/batch`.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::running::{Running, at, names};

/// The document's single message.
pub const SINGLE: &str = r#"{
  "service": "org.plantd.MyService",
  "timestamp": "2024-01-01T12:00:00Z",
  "metrics": {
    "custom_metric": 42.5
  },
  "tags": {
    "environment": "production"
  }
}"#;

/// The document's batch.
pub const BATCH: &str = r#"{
  "metrics": [
    {
      "service": "service1",
      "timestamp": "2024-01-01T12:00:00Z",
      "metrics": {"value": 1.0}
    },
    {
      "service": "service2", 
      "timestamp": "2024-01-01T12:00:01Z",
      "metrics": {"value": 2.0}
    }
  ]
}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("a Vec takes every byte");
    encoder.finish().expect("a Vec takes every byte")
}

#[test]
fn the_documented_bodies_are_taken_on_both_paths() {
    let service = Running::start("storage: { type: none }");
    let array = format!("[{SINGLE}, {SINGLE}]");
    for path in ["/api/v1/metrics", "/api/v1/metrics/batch"] {
        for (body, accepted) in [(SINGLE, 1), (BATCH, 2), (&array, 2), (r#"{"metrics": []}"#, 0)] {
            let answer = service.post(path, body);
            assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
            let json = answer.json();
            assert_eq!(json["accepted"], accepted, "{path} {body}");
            assert_eq!(json["rejected"], json!([]));
            assert_eq!(json["epoch"].is_u64(), accepted > 0, "{json}");
        }
    }
}

#[test]
fn a_bad_sample_is_told_and_its_neighbours_pass() {
    let service = Running::start("storage: { type: none }\ningest: { tags_per_series_max: 2 }");
    let body = json!([
        {"service": "a", "timestamp": at(0.0), "metrics": {"good": 1, "bad": "x", "": 2, "also": 3}},
        {"service": "a", "timestamp": at(86_400.0), "metrics": {"good": 1}},
        {"service": "a", "timestamp": "yesterday", "metrics": {"good": 1}},
        {"service": "a", "metrics": {"good": 1}, "tags": {"a": "1", "b": "2", "c": "3"}},
        {"service": "", "metrics": {"good": 1}},
        {"service": "x".repeat(300), "metrics": {"good": 1}},
        {"service": "a", "metrics": 7},
        {"service": "b", "metrics": {"good": 5}},
    ]);
    let body = body.to_string().replace("\"also\":3", "\"also\":3,\"huge\":1e999");
    let answer = service.post("/api/v1/metrics", body);
    assert_eq!(answer.status, 207, "{}", answer.text());
    let json = answer.json();
    assert_eq!(names(&json), ["accepted", "epoch", "rejected"]);
    assert_eq!(json["accepted"], 3);
    let rejected = json["rejected"].as_array().expect("a list");
    let told: Vec<(u64, Option<&str>, &str)> = rejected
        .iter()
        .map(|entry| {
            assert_eq!(names(entry), ["detail", "index", "metric", "reason"]);
            let word = entry["reason"].as_str().expect("a word");
            (entry["index"].as_u64().expect("a number"), entry["metric"].as_str(), word)
        })
        .collect();
    let expected = [
        (0, Some(""), "empty_name"),
        (0, Some("bad"), "not_a_number"),
        (0, Some("huge"), "not_finite"),
        (1, None, "too_far_ahead"),
        (2, None, "bad_timestamp"),
        (3, None, "too_many_tags"),
        (4, None, "bad_service"),
        (5, None, "name_too_long"),
        (6, None, "no_metrics"),
    ];
    let mut told = told;
    told.sort_unstable();
    assert_eq!(told, expected);

    let kept = service.json("/api/v1/rejected?limit=2");
    assert_eq!(kept["total"], 9);
    assert_eq!(kept["counts"]["not_a_number"], 1);
    let newest = &kept["rejected"].as_array().expect("a list")[..];
    assert_eq!(newest.len(), 2);
    assert_eq!(names(&newest[0]), ["arrived", "detail", "found", "index", "metric", "reason", "source"]);
    assert_eq!((&newest[0]["reason"], &newest[0]["source"]), (&json!("no_metrics"), &json!("http")));
    assert_eq!(newest[0]["arrived"], at(0.0));
}

#[test]
fn a_body_of_bad_samples_alone_is_a_400() {
    let service = Running::start("storage: { type: none }");
    for (body, reason) in [
        (r#"{"service": "a", "metrics": {"m": null}}"#, "not_a_number"),
        (r#"{"service": "a", "metrics": {}}"#, "no_metrics"),
        (r#"{"service": "a"}"#, "no_metrics"),
        (r#"{"metrics": {"m": 1}}"#, "bad_service"),
        (r#"{"service": "a", "metrics": {"m": 1}"#, "malformed"),
        ("17", "malformed"),
        ("", "malformed"),
    ] {
        let answer = service.post("/api/v1/metrics", body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let json = answer.json();
        assert_eq!(
            (&json["accepted"], &json["rejected"][0]["reason"]),
            (&json!(0), &json!(reason)),
            "{body}"
        );
        assert!(json.get("epoch").is_none());
    }
}

#[test]
fn event_times_are_read_in_every_documented_form() {
    let service = Running::start("storage: { type: none }");
    let times = [
        json!("2024-01-01T12:00:00Z"),
        json!("2024-01-01T14:30:00+02:30"),
        json!("2024-01-01T12:00:00.000000000Z"),
        json!(1_704_110_400),
        json!(1_704_110_400.0),
        json!(1_704_110_400_000_i64),
        json!(1_704_110_400_000_000_i64),
        json!(1_704_110_400_000_000_000_i64),
        Value::Null,
    ];
    for (number, time) in times.iter().enumerate() {
        let metric = format!("m{number}");
        service.accept(&json!([{"service": "times", "timestamp": time, "metrics": {metric: 1}}]));
    }
    service.accept(&json!([{"service": "times", "metrics": {"absent": 1}}]));
    let found = service.json("/api/v1/metrics?service=times");
    let found = found["metrics"].as_array().expect("a list");
    let told: usize = found.iter().map(|m| m["metrics"].as_object().expect("an object").len()).sum();
    assert_eq!(told, times.len() + 1);
    assert!(found.iter().all(|message| message["timestamp"] == at(0.0)), "{found:?}");
}

#[test]
fn bodies_may_be_packed_and_have_a_limit() {
    let service = Running::start("storage: { type: none }\nhttp: { body_max: 64KiB }");
    let post = |encoding: &str, body: &[u8]| {
        let headers = [("content-type", "application/json"), ("content-encoding", encoding)];
        service.request("POST", "/api/v1/metrics", &headers, body)
    };
    assert_eq!(post("gzip", &gzip(SINGLE.as_bytes())).status, 200);
    assert_eq!(post("identity", SINGLE.as_bytes()).status, 200);
    assert_eq!(post("GZIP", &gzip(SINGLE.as_bytes())).status, 200, "codings have no case");
    let bomb = gzip(&vec![b' '; 4 << 20]);
    assert!(bomb.len() < 64 << 10);
    for (encoding, body, status, word) in [
        ("gzip", bomb.as_slice(), 413, "too_large"),
        ("identity", &[b' '; 70_000], 413, "too_large"),
        ("gzip", b"no gzip at all", 400, "bad_request"),
        ("gzip", &gzip(SINGLE.as_bytes())[..30], 400, "bad_request"),
        ("br", b"x", 415, "unsupported_encoding"),
    ] {
        let answer = post(encoding, body);
        assert_eq!(answer.status, status, "{encoding}: {}", answer.text());
        let json = answer.json();
        assert_eq!(names(&json), ["detail", "error"]);
        assert_eq!(json["error"], word, "{encoding}");
    }
    // Whoever does not say how long a body is meets the same limit.
    let mut stream = service.connect();
    let head =
        "POST /api/v1/metrics HTTP/1.1\r\nhost: t\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("the head is taken");
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
    while stream.write_all(&chunk).is_ok() {}
    let counts = service.json("/api/v1/rejected")["counts"].clone();
    assert_eq!(counts["body_too_large"], 3, "{counts}");
    assert_eq!(counts["body_unreadable"], 3, "{counts}");
}

#[test]
fn the_limits_of_series_turn_new_ones_away_and_keep_the_old() {
    let service =
        Running::start("storage: { type: none }\nwindows: { series_max: 3, series_per_service_max: 2 }");
    let body = json!([
        {"service": "a", "metrics": {"one": 1, "two": 2, "three": 3}},
        {"service": "b", "metrics": {"one": 1, "two": 2}},
        {"service": "a", "metrics": {"one": 4}},
    ]);
    let answer = service.post("/api/v1/metrics", body.to_string()).json();
    assert_eq!(answer["accepted"], 4, "{answer}");
    assert_eq!(answer["rejected"][0]["reason"], "service_limit");
    assert_eq!(answer["rejected"][1]["reason"], "series_limit");
    assert_eq!(service.json("/status")["series"], 3);
}
