//! Alertmanager's API v2: alerts as `POST /api/v2/alerts` takes them (its `api/v2/openapi.yaml`).
//!
//! - Labels are an alert's identity: `alertname` (the rule), `service`, `severity`, `metric`, and the tags. What
//!   changes from one transition to the next (value, message) stands in the annotations.
//! - `startsAt` is when the alert fired, as Prometheus has it (`FiredAt` in its `rules/alerting.go`), not when its breach
//!   began; that is the annotation `started_at`.
//! - `endsAt` of one that fires is four times the resend delay ahead, so that an Alertmanager that hears nothing more
//!   lets it go; of one that has ended it is the end. A retracted one ends now, and says so in an annotation.
//!
//! Times here are the wall clock's to Alertmanager, which takes an end that is ahead for none: event times ahead of it
//! are told as now.

use operators::sample::{DurationNs, TimeNs};
use serde_json::{Map, Value, json};

use super::Status;
use super::desk::Entry;
use crate::message::{write_json_f64, write_rfc3339};

/// How long Alertmanager is to believe that an alert fires, in resend delays.
const VALID_FOR: i64 = 4;

/// What a payload needs to know beside the alerts.
#[derive(Clone, Debug)]
pub struct Style {
    /// How often what fires is told again.
    pub resend_ns: DurationNs,
    /// Where others reach our API; `None`: no links.
    pub external_url: Option<String>,
}

/// What stands before the path of Alertmanager's alerts, if this is one.
pub fn base_of(path: &str) -> Option<&str> {
    let path = path.trim_end_matches('/');
    ["/api/v1/alerts", "/api/v2/alerts"].iter().find_map(|end| path.strip_suffix(end))
}

/// The body of a post: an array of alerts. `now_ns` is the wall clock.
pub fn payload(entries: &[Entry], now_ns: TimeNs, style: &Style) -> Vec<u8> {
    let alerts: Vec<Value> = entries.iter().map(|entry| alert(entry, now_ns, style)).collect();
    // Numbers that are not finite do not occur: values stand as texts.
    serde_json::to_vec(&alerts).unwrap_or_default()
}

fn alert(entry: &Entry, now_ns: TimeNs, style: &Style) -> Value {
    let alert = &entry.notification;
    let starts_ns = entry.fired_ns.unwrap_or(alert.started_ns).min(now_ns);
    let ends_ns = match alert.status {
        Status::Firing => now_ns.saturating_add(style.resend_ns.saturating_mul(VALID_FOR)),
        Status::Resolved => alert.time_ns.min(now_ns).max(starts_ns),
        Status::Retracted => entry.ended_ns.unwrap_or(now_ns).max(starts_ns),
    };
    let mut annotations = Map::from_iter([
        ("message".to_string(), json!(&*alert.message)),
        ("summary".to_string(), json!(&*alert.message)),
        ("value".to_string(), json!(number(alert.value))),
        ("threshold".to_string(), json!(number(alert.threshold))),
        ("started_at".to_string(), json!(rfc3339(alert.started_ns))),
    ]);
    if let Some(expected) = &alert.expected {
        annotations.insert("expected".into(), json!(format!("{} to {}", expected.lower, expected.upper)));
        annotations.insert("anomaly_score".into(), json!(number(expected.score)));
        annotations.insert("reason".into(), json!(expected.reason.text()));
    }
    annotations.extend(alert.annotations.iter().map(|(name, text)| (label_name(name), json!(text))));
    if alert.status == Status::Retracted {
        annotations.insert("retracted".into(), json!("true"));
    }
    let mut told = json!({
        "labels": labels(entry),
        "annotations": annotations,
        "startsAt": rfc3339(starts_ns),
        "endsAt": rfc3339(ends_ns),
    });
    if let Some(base) = &style.external_url {
        told["generatorURL"] = json!(link(base, &alert.metric, &alert.target.service));
    }
    told
}

/// Labels with names that every Alertmanager takes: `[a-zA-Z_][a-zA-Z0-9_]*`. Tags whose names become one, or one of
/// our own, are kept apart by `_` behind the later one. An empty value is none, as Alertmanager has it.
fn labels(entry: &Entry) -> Map<String, Value> {
    let alert = &entry.notification;
    let own: [(&str, &str); 4] = [
        ("alertname", &alert.rule),
        ("service", &alert.target.service),
        ("severity", &alert.severity),
        ("metric", &alert.metric),
    ];
    let mut labels: Map<String, Value> =
        own.into_iter().map(|(name, value)| (name.into(), json!(value))).collect();
    // Those of the rule stand above tags of the same name, as Prometheus has it.
    let of_rule: Map<String, Value> =
        alert.labels.iter().map(|(name, text)| (label_name(name), json!(text))).collect();
    labels.extend(of_rule.clone());
    for (name, value) in alert.target.tags.iter().filter(|(name, _)| !of_rule.contains_key(&label_name(name)))
    {
        let mut name = label_name(name);
        while labels.contains_key(&name) {
            name.push('_');
        }
        labels.insert(name, json!(&**value));
    }
    labels.retain(|_, value| value != "");
    labels
}

fn label_name(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if clean.is_empty() || clean.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{clean}")
    } else {
        clean
    }
}

/// Where the windows of the series are.
fn link(base: &str, metric: &str, service: &str) -> String {
    let mut link = format!("{}/api/v1/metrics/aggregate?metric=", base.trim_end_matches('/'));
    percent_encode(metric, &mut link);
    link.push_str("&service=");
    percent_encode(service, &mut link);
    link
}

/// Appends `text` with every byte that is not unreserved (RFC 3986, 2.3) as `%XX`.
fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn number(value: f64) -> String {
    let mut text = Vec::new();
    write_json_f64(value, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn rfc3339(time_ns: TimeNs) -> String {
    let mut text = Vec::new();
    write_rfc3339(time_ns, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use operators::sample::SECOND;
    use operators::series::Target;

    use super::*;
    use crate::notify::Notification;
    use crate::notify::tests::{NOON_NS, notification};

    const STYLE: Style = Style { resend_ns: 60 * SECOND, external_url: None };

    fn told(notification: Notification, fired_ns: Option<TimeNs>, style: &Style) -> Value {
        let body = payload(&[Entry::new(notification, fired_ns)], NOON_NS + 90 * SECOND, style);
        serde_json::from_slice::<Value>(&body).unwrap()[0].clone()
    }

    #[test]
    fn one_that_fires() {
        let style = Style { external_url: Some("https://metrics.example/m/".into()), ..STYLE };
        let alert = told(notification(7), Some(NOON_NS), &style);
        let expected = json!({
            "labels": {
                "alertname": "high_cpu_usage", "service": "org.plantd.Broker", "severity": "warning",
                "metric": "cpu_usage_percent", "environment": "production", "host": "broker-01",
            },
            "annotations": {
                "message": "CPU usage is above 80% for 5 minutes", "summary": "CPU usage is above 80% for 5 minutes",
                "value": "85.2", "threshold": "80", "started_at": "2024-01-01T11:55:00Z",
            },
            "startsAt": "2024-01-01T12:00:00Z",
            "endsAt": "2024-01-01T12:05:30Z",
            "generatorURL": "https://metrics.example/m/api/v1/metrics/aggregate?metric=cpu_usage_percent&service=org.plantd.Broker",
        });
        assert_eq!(alert, expected);
    }

    #[test]
    fn times_keep_their_order_whatever_the_clocks_say() {
        let at = |status, time_s: i64, fired_s: Option<i64>| {
            let time_ns = NOON_NS + time_s * SECOND;
            let alert = Notification { status, time_ns, ..notification(7) };
            let told = told(alert, fired_s.map(|s| NOON_NS + s * SECOND), &STYLE);
            let of = |key: &str| told[key].as_str().unwrap()[11..19].to_string();
            (of("startsAt"), of("endsAt"), told["annotations"]["retracted"] == "true")
        };
        for (status, time_s, fired_s, starts, ends, retracted) in [
            (Status::Firing, 0, Some(0), "12:00:00", "12:05:30", false),
            (Status::Firing, 600, Some(600), "12:01:30", "12:05:30", false),
            (Status::Resolved, 30, Some(0), "12:00:00", "12:00:30", false),
            (Status::Resolved, 30, None, "11:55:00", "12:00:30", false),
            (Status::Resolved, 700, Some(600), "12:01:30", "12:01:30", false),
            (Status::Retracted, 30, Some(0), "12:00:00", "12:01:30", true),
        ] {
            assert_eq!(
                at(status, time_s, fired_s),
                (starts.into(), ends.into(), retracted),
                "{status:?} {time_s}"
            );
        }
    }

    #[test]
    fn label_names_are_what_alertmanager_takes() {
        let tags = [("a.b", "1"), ("a-b", "2"), ("severity", "3"), ("9", "4"), ("größe", "5"), ("gone", "")];
        let target = Arc::new(Target::new("", tags));
        let alert = told(Notification { target, ..notification(7) }, None, &STYLE);
        let expected = json!({
            "alertname": "high_cpu_usage", "severity": "warning", "metric": "cpu_usage_percent",
            "a_b": "2", "a_b_": "1", "severity_": "3", "_9": "4", "gr__e": "5",
        });
        assert_eq!(alert["labels"], expected);
    }

    #[test]
    fn its_paths_are_recognised() {
        for (path, base) in [
            ("/api/v1/alerts", Some("")),
            ("/api/v2/alerts/", Some("")),
            ("/am/api/v2/alerts", Some("/am")),
            ("/api/v1/alert", None),
            ("/", None),
        ] {
            assert_eq!(base_of(path), base, "{path}");
        }
    }
}
