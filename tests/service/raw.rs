//! `GET /api/v1/metrics`: from memory, and after a restart from storage.

use serde_json::{Value, json};

use crate::ingest::{BATCH, SINGLE};
use crate::running::{Running, at, names};

/// Messages a second apart: services `a` and `b` in turn, two zones.
fn messages(count: usize) -> Vec<Value> {
    let message = |n: usize| {
        json!({
            "timestamp": at(n as f64),
            "service": if n.is_multiple_of(2) { "a" } else { "b" },
            "metrics": {"cpu_usage_percent": n as f64 + 0.5, "queue_depth": n},
            "tags": {"zone": if n.is_multiple_of(4) { "north" } else { "south" }},
        })
    };
    (0..count).map(message).collect()
}

fn found(service: &Running, query: &str) -> Vec<Value> {
    let answer = service.json(&format!("/api/v1/metrics?{query}"));
    assert_eq!(names(&answer), ["count", "metrics"]);
    let list = answer["metrics"].as_array().expect("a list").clone();
    assert_eq!(answer["count"], list.len());
    list
}

/// Seconds after noon of each.
fn seconds(found: &[Value]) -> Vec<f64> {
    let second = |message: &Value| {
        let time: jiff::Timestamp = message["timestamp"].as_str().expect("a time").parse().expect("RFC 3339");
        (time.as_nanosecond() - i128::from(crate::running::NOON_NS)) as f64 / 1e9
    };
    found.iter().map(second).collect()
}

fn check_filters(service: &Running) {
    let of = |query: &str| seconds(&found(service, query));
    assert_eq!(of("limit=3"), [7.0, 6.0, 5.0]);
    assert_eq!(of("service=a&limit=100"), [6.0, 4.0, 2.0, 0.0]);
    assert_eq!(of("service=b&tag.zone=north"), [0.0; 0]);
    assert_eq!(of("tag.zone=north"), [4.0, 0.0]);
    assert_eq!(of("start=2024-01-01T12:00:02Z&end=2024-01-01T12:00:05Z"), [4.0, 3.0, 2.0]);
    assert_eq!(of("start=2024-01-01T13:00:06%2B01:00"), [7.0, 6.0]);
    assert_eq!(of("start=2024-01-01T13:00:06+01:00"), [7.0, 6.0], "a plus that was not escaped");
    assert_eq!(of("start=1704110406&end=1704110407000"), [6.0]);
    assert_eq!(of("service=nobody"), [0.0; 0]);
    let one = found(service, "metric=cpu_usage&service=b&limit=1");
    assert_eq!(one[0]["metrics"], json!({"cpu_usage_percent": 7.5}), "the family's name, that metric alone");
    assert_eq!(of("metric=nothing"), [0.0; 0]);
}

#[test]
fn filters_range_and_limit_from_memory_and_from_storage() {
    let service = Running::start("");
    let sent = messages(8);
    service.accept(&json!(sent));
    check_filters(&service);
    let mut newest_first = sent.clone();
    newest_first.reverse();
    assert_eq!(found(&service, ""), newest_first, "the documented shape, as it was sent");

    let service = service.restart("");
    check_filters(&service);
    assert_eq!(found(&service, ""), newest_first, "the same from storage");

    // Both: what is stored stands behind what came since.
    service.accept(&json!([{"timestamp": at(9.0), "service": "a", "metrics": {"queue_depth": 9}}]));
    assert_eq!(seconds(&found(&service, "limit=2")), [9.0, 7.0]);
}

#[test]
fn an_answer_can_be_posted_back() {
    let service = Running::start("storage: { type: none }");
    service.accept_text(SINGLE);
    service.accept_text(BATCH);
    let numbers = [0.1, 1e-300, -2.5e20, 1.0 / 3.0, 9_007_199_254_740_993.0, 0.0];
    let odd = "quotes \" and \\ and \u{e9}\u{1f600}";
    for (n, number) in numbers.iter().enumerate() {
        let time = format!("2024-01-01T11:59:59.{:09}Z", n * 1_234_567 + 1);
        service.accept(
            &json!([{"timestamp": time, "service": odd, "metrics": {"m": number}, "tags": {odd: odd}}]),
        );
    }
    let answer = service.get("/api/v1/metrics");
    assert_eq!(answer.json()["count"], 3 + numbers.len());

    let other = Running::start("storage: { type: none }");
    other.accept_text(&answer.text());
    // Of one event time, what came later stands first: the order of those turns round.
    let sorted = |answer: Value| {
        let mut list = answer["metrics"].as_array().expect("a list").clone();
        list.sort_by_key(Value::to_string);
        list
    };
    assert_eq!(sorted(other.json("/api/v1/metrics")), sorted(answer.json()));
}

#[test]
fn every_sample_is_told_once_while_it_is_in_memory_and_in_storage() {
    let service = Running::start("performance: { flush_interval: 10ms }");
    // One target and time in two requests: two rows of the storage.
    for metric in ["one", "two"] {
        service.accept(&json!([{"timestamp": at(0.0), "service": "s", "metrics": {metric: 1}}]));
    }
    crate::running::until("both are stored", || {
        (service.json("/storage/status")["delivered"] == 2).then_some(())
    });
    let told: Vec<Value> = found(&service, "service=s");
    let told: usize = told.iter().map(|m| m["metrics"].as_object().expect("an object").len()).sum();
    assert_eq!(told, 2);
}

#[test]
fn what_can_not_be_asked_is_told() {
    let service = Running::start("storage: { type: none }\nhttp: { results_max: 50 }");
    for (query, part) in [
        ("limit=0", "limit: expected 1 to 50, found 0"),
        ("limit=51", "limit: expected 1 to 50, found 51"),
        ("limit=many", "limit: expected a whole number, found \"many\""),
        ("start=soon", "start: expected an RFC 3339 time or a Unix number, found \"soon\""),
        (
            "services=a",
            "unknown parameter \"services\", expected one of service, metric, tag.NAME, start, end, limit, min_epoch",
        ),
        ("service=a&service=b", "parameter \"service\" given twice"),
        ("tag.=a", "unknown parameter \"tag.\""),
    ] {
        let detail = service.refused(&format!("/api/v1/metrics?{query}"));
        assert!(detail.starts_with(part), "{query}: {detail}");
    }
}
