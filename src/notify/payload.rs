//! The documented payload.

use super::Notification;
use super::desk::Entry;
use crate::message::{write_json_f64, write_json_str, write_json_tags, write_rfc3339};

/// The documented payload: `{"alerts": [{"name", "service", "severity", "message", "value",
/// "threshold", "timestamp", "tags", ..}]}`, with `metric`, `status`, `started_at` and `id` beside.
/// Times are RFC 3339 in UTC; the id is 32 hexadecimal digits.
pub fn payload<'a>(notifications: impl IntoIterator<Item = &'a Notification>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"alerts\":[");
    for (at, notification) in notifications.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_alert(notification, &mut out);
    }
    out.extend_from_slice(b"]}");
    out
}

/// The same for a batch.
pub(super) fn of_entries(entries: &[Entry]) -> Vec<u8> {
    payload(entries.iter().map(|entry| &entry.notification))
}

fn write_alert(alert: &Notification, out: &mut Vec<u8>) {
    out.push(b'{');
    let texts: [(&str, &str); 4] = [
        ("name", &alert.rule),
        ("service", &alert.target.service),
        ("severity", &alert.severity),
        ("message", &alert.message),
    ];
    for (key, text) in texts {
        write_key(key, out);
        write_json_str(text, out);
    }
    for (key, number) in [("value", alert.value), ("threshold", alert.threshold)] {
        write_key(key, out);
        write_json_f64(number, out);
    }
    write_time("timestamp", alert.time_ns, out);
    write_key("tags", out);
    write_json_tags(&alert.target.tags, out);
    write_key("metric", out);
    write_json_str(&alert.metric, out);
    write_key("status", out);
    write_json_str(alert.status.as_str(), out);
    write_time("started_at", alert.started_ns, out);
    write_key("id", out);
    write_json_str(&alert.id_text(), out);
    if let Some(expected) = &alert.expected {
        write_key("expected", out);
        out.push(b'{');
        let bounds =
            [("lower", expected.lower), ("upper", expected.upper), ("anomaly_score", expected.score)];
        for (key, number) in bounds {
            write_key(key, out);
            write_json_f64(number, out);
        }
        write_key("reason", out);
        write_json_str(expected.reason.text(), out);
        out.push(b'}');
    }
    out.push(b'}');
}

fn write_time(key: &str, time_ns: i64, out: &mut Vec<u8>) {
    write_key(key, out);
    out.push(b'"');
    write_rfc3339(time_ns, out);
    out.push(b'"');
}

fn write_key(key: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_json_str(key, out);
    out.push(b':');
}
