//! Health, status, storage status, series; paths and methods that there are none of.

use serde_json::{Value, json};

use crate::ingest::SINGLE;
use crate::running::{Running, at, names, until};

#[test]
fn health_and_its_probes() {
    let service = Running::start("storage: { type: none }");
    for path in ["/health", "/healthz"] {
        assert_eq!(service.json(path), json!({"status": "healthy"}));
    }
    for path in ["/livez", "/readyz"] {
        let answer = service.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"), "{path}");
    }
}

#[test]
fn status_has_the_documented_fields_and_counts_messages() {
    let service = Running::start("");
    let fresh = service.json("/status");
    assert_eq!((&fresh["metrics_processed"], &fresh["last_metric"]), (&json!(0), &Value::Null));
    service.post("/api/v1/metrics", SINGLE);
    let two = json!([
        {"service": "a", "timestamp": at(-60.0), "metrics": {"one": 1, "two": 2, "bad": "x"}},
        {"service": "a", "timestamp": at(-30.0), "metrics": {"one": 1}},
    ]);
    let answer = service.post("/api/v1/metrics", two.to_string());
    let epoch = answer.json()["epoch"].as_u64().expect("an epoch");
    service.json(&format!("/api/v1/metrics/aggregate?metric=one&min_epoch={epoch}"));

    let status = service.json("/status");
    assert_eq!(status["status"], "healthy");
    assert_eq!(status["mode"], "consumer");
    let uptime = status["uptime"].as_str().expect("a text");
    assert!(uptime.ends_with('s') && uptime.starts_with(|c: char| c.is_ascii_digit()), "{uptime}");
    assert_eq!(status["metrics_processed"], 3, "messages");
    assert_eq!(status["samples_processed"], 4, "samples");
    assert_eq!(status["storage_status"], "connected");
    assert_eq!(status["last_metric"], at(0.0), "the newest event time");
    for (field, value) in [
        ("samples_accepted", json!(4)),
        ("samples_rejected", json!(1)),
        ("samples_late", json!(0)),
        ("samples_dropped_too_old", json!(0)),
        ("samples_in_flight", json!(0)),
        ("series", json!(3)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    for (object, fields) in [
        ("epoch", vec!["completed", "sealed"]),
        ("memory", vec!["panes_bytes", "panes_bytes_max", "panes_given_up", "recent_bytes"]),
        ("alerts", vec!["active", "rules"]),
    ] {
        assert_eq!(names(&status[object]), fields);
        assert!(fields.iter().all(|field| status[object][field].is_u64()), "{}", status[object]);
    }
    assert_eq!(status["workers"].as_array().expect("a list").len(), 2);
    assert!(status["arrival_to_visible_ms"]["p50"].as_f64().is_some_and(|ms| ms > 0.0), "{status}");
    assert!(status["bus"]["messages"].is_u64(), "{status}");
}

#[test]
fn the_storage_says_how_it_is() {
    let service = Running::start("storage: { retention: 30d }\nperformance: { flush_interval: 10ms }");
    service.post("/api/v1/metrics", SINGLE);
    let storage = until("the sample is stored", || {
        let storage = service.json("/storage/status");
        // What it takes on the disk is looked at after what was delivered.
        (storage["delivered"] == 1 && storage["disk_usage_bytes"] != 0).then_some(storage)
    });
    assert_eq!((&storage["type"], &storage["status"]), (&json!("file"), &json!("connected")));
    assert_eq!(storage["database"], service.data().to_str().expect("a path in UTF-8"));
    assert_eq!(storage["retention"], "30d");
    let usage = storage["disk_usage"].as_str().expect("a text");
    assert!(usage.ends_with('B') && !usage.starts_with('0'), "{usage}");
    let counted = ["failed", "dead_lettered", "missed_epochs", "retried", "lag_samples", "lag_epochs"];
    for field in ["disk_usage_bytes", "files"].into_iter().chain(counted) {
        assert!(storage[field].is_u64(), "{field}: {storage}");
    }

    let without = Running::start("storage: { type: none }");
    assert_eq!(without.json("/storage/status"), json!({"type": "none", "status": "none"}));
    assert_eq!(without.json("/status")["storage_status"], "none");
}

#[test]
fn a_storage_that_fails_stops_nothing() {
    let service = Running::start("performance: { flush_interval: 10ms }");
    service.post("/api/v1/metrics", SINGLE);
    until("it is stored", || (service.json("/storage/status")["delivered"] == 1).then_some(()));
    std::fs::remove_dir_all(service.data()).expect("the folder is ours");
    std::fs::write(service.data(), "in the way").expect("a file where the folder was");
    let epoch = until("the storage says that it can't write", || {
        let epoch = service.accept(&serde_json::from_str(&format!("[{SINGLE}]")).expect("JSON"));
        let status = service.json("/status")["storage_status"].clone();
        status.as_str().is_some_and(|text| text.starts_with("error: ")).then_some(epoch)
    });
    assert_eq!(service.json("/health")["status"], "healthy");
    let query = format!("/api/v1/metrics/aggregate?metric=custom_metric&func=count&min_epoch={epoch}");
    assert!(service.json(&query)["series"][0]["points"][0]["value"].as_f64() >= Some(2.0));
    std::fs::remove_file(service.data()).expect("our own file");
    std::fs::create_dir(service.data()).expect("so that the folder can be cleared away");
}

#[test]
fn series_are_listed_by_name_service_and_tags() {
    let service = Running::start("storage: { type: none }");
    let epoch = service.accept(&json!([
        {"service": "a", "timestamp": at(0.0), "metrics": {"cpu_usage_percent": 1, "load": 2}, "tags": {"host": "x"}},
        {"service": "a", "timestamp": at(5.0), "metrics": {"cpu_usage_percent": 3}, "tags": {"host": "x"}},
        {"service": "b", "timestamp": at(0.0), "metrics": {"cpu_usage_percent": 4}, "tags": {"host": "y"}},
    ]));
    service.json(&format!("/api/v1/metrics/aggregate?metric=load&min_epoch={epoch}"));
    let all = service.json("/api/v1/series");
    assert_eq!(names(&all), ["count", "series", "total"]);
    assert_eq!((&all["count"], &all["total"]), (&json!(3), &json!(3)));
    let one = service.json("/api/v1/series?metric=cpu_usage&service=a&tag.host=x");
    let entry = json!({
        "service": "a", "metric": "cpu_usage_percent", "tags": {"host": "x"},
        "last_time": at(5.0), "last_value": 3.0, "samples": 2, "late": 0, "dropped": 0,
    });
    assert_eq!(one["series"], json!([entry]));
    let some = service.json("/api/v1/series?limit=1");
    assert_eq!((&some["count"], &some["total"]), (&json!(1), &json!(3)));
    assert_eq!(service.json("/api/v1/series?metric=load&tag.host=y")["total"], 0);
    assert!(service.refused("/api/v1/series?name=x").starts_with("unknown parameter \"name\""));
    for limit in ["0", "100001", "18446744073709551615"] {
        let detail = service.refused(&format!("/api/v1/series?limit={limit}"));
        assert_eq!(detail, format!("limit: expected 1 to 100000, found {limit}"));
    }
}

#[test]
fn other_paths_and_methods_are_json_errors() {
    let service = Running::start("storage: { type: none }");
    for (method, path, status, word) in [
        ("GET", "/", 404, "not_found"),
        ("GET", "/api/v1/metric", 404, "not_found"),
        ("POST", "/api/v2/metrics", 404, "not_found"),
        ("GET", "/api/v1/metrics/batch", 405, "wrong_method"),
        ("POST", "/status", 405, "wrong_method"),
        ("DELETE", "/api/v1/metrics", 405, "wrong_method"),
    ] {
        let answer = service.request(method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}");
        let json = answer.json();
        assert_eq!(
            (names(&json), &json["error"]),
            (vec!["detail", "error"], &json!(word)),
            "{method} {path}"
        );
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}: {}", answer.head);
    }
}
