//! `GET /metrics`, read by the crate's own reader of both formats.

use std::collections::BTreeMap;
use std::io::Read;

use plantd_metric::codec::exposition::{TextFormat, read};
use serde_json::json;

use crate::running::{Answer, Running, at};

/// Every value by its name and labels, after a strict reading.
fn values(answer: &Answer, format: TextFormat) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    let outcome = read(&answer.body, format, |sample| {
        let labels: Vec<String> =
            sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let key = format!("{}{{{}}}", sample.name, labels.join(","));
        assert!(values.insert(key.clone(), sample.value).is_none(), "{key} twice");
    });
    assert_eq!((outcome.rejected, outcome.not_finite), (0, 0), "{:?}", outcome.errors);
    values
}

/// Families stand together, each with HELP and TYPE before its lines.
fn check_families(text: &str, format: TextFormat) {
    let mut seen = Vec::new();
    let (mut family, mut kind) = (String::new(), String::new());
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().expect("a name").to_string();
            assert!(!seen.contains(&family), "{family} twice");
            seen.push(family.clone());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.strip_prefix(&format!("{family} ")).expect("TYPE behind its HELP").to_string();
            assert!(["gauge", "counter", "summary"].contains(&kind.as_str()), "{line}");
        } else {
            let name = line.split(['{', ' ']).next().expect("a name");
            let rest = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} below {family}"));
            let suffixes: &[&str] = match (kind.as_str(), format) {
                ("counter", TextFormat::OpenMetrics) => &["_total"],
                ("summary", _) => &["", "_count", "_sum"],
                _ => &[""],
            };
            assert!(suffixes.contains(&rest), "{line}");
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
}

fn posted() -> Running {
    let service = Running::start("storage: { type: none }");
    let tags = json!({"host": "server-01"});
    let epoch = service.accept(&json!([
        {"service": "system", "timestamp": at(0.0), "tags": tags, "metrics": {"cpu_usage_percent": 12, "memory_usage_bytes": 1_073_741_824}},
        {"service": "system", "timestamp": at(10.0), "tags": tags, "metrics": {"cpu_usage_percent": 45.2}},
        {"service": "org.plantd.Broker", "timestamp": at(0.0), "metrics": {"message_count": 1250}},
        {"service": "a", "timestamp": at(0.0), "metrics": {"m": 1}},
        {"service": "odd \"one\"\\", "timestamp": at(0.0), "metrics": {"9 lives": 9, "both": 1, "both_total": 2},
         "tags": {"a.b": "1", "a-b": "2", "service": "x"}},
    ]));
    service.json(&format!("/api/v1/metrics/aggregate?metric=m&min_epoch={epoch}"));
    service
}

#[test]
fn prometheus_text_as_documented() {
    let service = posted();
    let answer = service.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for line in [
        "# HELP plantd_cpu_usage_percent CPU usage percentage\n# TYPE plantd_cpu_usage_percent gauge\n",
        "plantd_cpu_usage_percent{service=\"system\",host=\"server-01\"} 45.2\n",
        "# HELP plantd_memory_usage_bytes Memory usage in bytes\n# TYPE plantd_memory_usage_bytes gauge\n",
        "plantd_memory_usage_bytes{service=\"system\",host=\"server-01\"} 1073741824\n",
        "# HELP plantd_message_count_total Total number of messages processed\n# TYPE plantd_message_count_total counter\n",
        "plantd_message_count_total{service=\"org.plantd.Broker\"} 1250\n",
    ] {
        assert!(text.contains(line), "{line} not in:\n{text}");
    }
    check_families(&text, TextFormat::Prometheus);
    let values = values(&answer, TextFormat::Prometheus);
    assert_eq!(values["plantd__9_lives{service=odd \"one\"\\,a_b=2,a_b_=1,service_=x}"], 9.0);
    assert_eq!(values["plantd_both{service=odd \"one\"\\,a_b=2,a_b_=1,service_=x}"], 1.0);
    assert_eq!(values["plantd_both_total{service=odd \"one\"\\,a_b=2,a_b_=1,service_=x}"], 2.0);
}

#[test]
fn open_metrics_by_accept() {
    let service = posted();
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let answer = service.request("GET", "/metrics", &[("accept", accept)], b"");
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(content_type));
    assert!(answer.text().ends_with("# EOF\n"));
    check_families(&answer.text(), TextFormat::OpenMetrics);
    let open = values(&answer, TextFormat::OpenMetrics);
    assert_eq!(open["plantd_cpu_usage_percent{service=system,host=server-01}"], 45.2);
    assert_eq!(open["plantd_message_count_total{service=org.plantd.Broker}"], 1250.0);
}

#[test]
fn long_answers_are_packed_where_that_is_configured_and_accepted() {
    for (compression, accept, packed) in
        [(true, "gzip", true), (true, "identity", false), (false, "gzip", false)]
    {
        let service = Running::start(&format!(
            "storage: {{ type: none }}\nperformance: {{ compression: {compression} }}"
        ));
        let answer = service.request("GET", "/metrics", &[("accept-encoding", accept)], b"");
        assert_eq!(answer.header("content-encoding"), packed.then_some("gzip"), "{accept}");
        let mut text = String::new();
        if packed {
            flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).expect("gzip");
        } else {
            text = answer.text();
        }
        assert!(text.contains("\nplantd_metric_series 0\n"), "{text}");
        let short = service.request("GET", "/health", &[("accept-encoding", accept)], b"");
        assert_eq!(short.json()["status"], "healthy");
    }
}

#[test]
fn our_own_telemetry_is_there() {
    let service = posted();
    service.post("/api/v1/metrics", "{");
    let values = values(&service.get("/metrics"), TextFormat::Prometheus);
    for (name, value) in [
        ("plantd_metric_messages_total{source=http}", 6.0),
        ("plantd_metric_messages_total{source=bus}", 0.0),
        ("plantd_metric_samples_total{}", 8.0),
        ("plantd_metric_samples_rejected_total{reason=malformed}", 1.0),
        ("plantd_metric_samples_rejected_total{reason=not_finite}", 0.0),
        ("plantd_metric_series{}", 7.0),
        ("plantd_metric_samples_in_flight{}", 0.0),
        ("plantd_metric_intake_full_total{}", 0.0),
        ("plantd_metric_connections_refused_total{}", 0.0),
        ("plantd_metric_alert_transitions_total{kind=firing}", 0.0),
    ] {
        assert_eq!(values.get(name), Some(&value), "{name}");
    }
    for name in [
        "plantd_metric_epochs_total{}",
        "plantd_metric_panes_bytes{}",
        "plantd_metric_recent_bytes{}",
        "plantd_metric_worker_busy_seconds_total{worker=0}",
        "plantd_metric_worker_busy_seconds_total{worker=1}",
        "plantd_metric_arrival_to_visible_seconds{quantile=0.99}",
    ] {
        assert!(values.get(name).is_some_and(|value| *value > 0.0), "{name}: {:?}", values.get(name));
    }
    assert!(values.contains_key("plantd_metric_bus_messages_total{}"), "{values:?}");
    assert!(values.contains_key("plantd_metric_bus_connections_open{}"), "it goes down, too: {values:?}");
}
