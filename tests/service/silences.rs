//! Silences by the API, and receivers across restarts: who is told, of what, and from where on.

use serde_json::{Value, json};

use crate::alerts::Receiver;
use crate::running::{Running, at, names, until};

fn settings(alerts: &str) -> String {
    format!(
        "storage: {{ type: none }}\nalerts:\n  stale: 1d\n{alerts}\n  rules:\n    \
         - {{ name: hot, metric: temperature, operator: \">\", threshold: 50 }}\n    \
         - {{ name: humid, metric: humidity, operator: \">\", threshold: 50, severity: critical }}\n"
    )
}

fn webhook(name: &str, receiver: &Receiver, more: &str) -> String {
    format!("    - {{ name: {name}, type: webhook, url: \"http://{}/{name}\"{more} }}\n", receiver.address)
}

fn sample(t: f64, host: &str, metric: &str, value: f64) -> Value {
    json!([{"timestamp": at(t), "service": "rack", "metrics": {metric: value}, "tags": {"host": host}}])
}

/// Name, host and status of what came.
fn told(receiver: &Receiver) -> Vec<[String; 3]> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let alerts = receiver.wait(0);
    alerts
        .iter()
        .map(|alert| [text(&alert["name"]), text(&alert["tags"]["host"]), text(&alert["status"])])
        .collect()
}

fn told_of(receiver: &Receiver, count: usize) -> Vec<[String; 3]> {
    receiver.wait(count);
    told(receiver)
}

fn figure(service: &Running, receiver: &str, figure: &str) -> u64 {
    service.json("/status")["receivers"][receiver][figure].as_u64().expect("a figure")
}

#[test]
fn a_silence_is_given_listed_and_taken_away() {
    let receiver = Receiver::start();
    let service = Running::start(&settings(&format!("  receivers:\n{}", webhook("pager", &receiver, ""))));
    assert_eq!(service.json("/api/v1/silences"), json!({"count": 0, "silences": [], "maintenance": []}));
    let body = json!({
        "match": {"rule": "h*", "tags": {"host": "db-*"}}, "ends_at": at(600.0), "created_by": "me", "comment": "why",
    });
    let answer = service.post("/api/v1/silences", body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.json()["id"].as_str().expect("an id").to_string();
    let expected = json!({
        "id": id, "match": {"rule": ["h*"], "tags": {"host": "db-*"}}, "starts_at": at(0.0), "ends_at": at(600.0),
        "created_by": "me", "comment": "why", "active": true,
    });
    assert_eq!(service.json("/api/v1/silences")["silences"], json!([expected]));
    assert_eq!(service.json(&format!("/api/v1/silences/{id}")), expected);

    service.accept(&sample(0.0, "db-1", "temperature", 90.0));
    service.accept(&sample(0.0, "web-1", "temperature", 90.0));
    assert_eq!(told_of(&receiver, 1), [["hot", "web-1", "firing"]]);
    until("one is held back", || (figure(&service, "pager", "held") == 1).then_some(()));
    let alerts = service.json("/api/v1/alerts");
    let silenced = |host: &str| {
        let of_host = alerts["alerts"].as_array().expect("a list").iter().find(|a| a["tags"]["host"] == host);
        of_host.expect("it is listed")["silenced_by"].clone()
    };
    assert_eq!((silenced("db-1"), silenced("web-1")), (json!([id]), Value::Null));
    let metrics = service.get("/metrics").text();
    for line in [
        "plantd_metric_notify_silenced_total{receiver=\"pager\"} 1\n",
        "plantd_metric_notify_delivered_total{receiver=\"pager\"} 1\n",
        "plantd_metric_notify_held{receiver=\"pager\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    // It ends: what still fires is told.
    assert_eq!(service.request("DELETE", &format!("/api/v1/silences/{id}"), &[], b"").status, 200);
    assert_eq!(told_of(&receiver, 2)[1], ["hot", "db-1", "firing"]);
    assert_eq!(service.request("DELETE", &format!("/api/v1/silences?id={id}"), &[], b"").status, 404);
    assert_eq!(service.get(&format!("/api/v1/silences/{id}")).status, 404);
}

#[test]
fn silences_that_are_none_are_refused() {
    let service = Running::start(&settings(
        "  silences_max: 1\n  silences:\n    - { match: { rule: x }, ends_at: \"2030-01-01T00:00:00Z\" }",
    ));
    for (body, expected) in [
        (json!({"match": {"rule": "r"}}), "missing field `ends_at`"),
        (
            json!({"match": {"rule": "r"}, "ends_at": "soon"}),
            "ends_at: expected an RFC 3339 time, found \"soon\"",
        ),
        (json!({"match": {"rule": "r"}, "ends_at": at(-1.0)}), "ends_at: expected a time after"),
        (
            json!({"match": {"rule": "r"}, "starts_at": at(9.0), "ends_at": at(9.0)}),
            "ends_at: expected a time after",
        ),
        (json!({"match": {}, "ends_at": at(9.0)}), "match: expected at least one key"),
        (json!({"match": {"hosts": "a"}, "ends_at": at(9.0)}), "unknown field `hosts`"),
        (json!({"match": {"rule": 7}, "ends_at": at(9.0)}), "expected a text or a list of texts"),
        (json!([]), "expected a silence"),
    ] {
        let answer = service.post("/api/v1/silences", body.to_string());
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let detail = answer.json()["detail"].as_str().expect("a detail").to_string();
        assert!(detail.contains(expected), "{body}: {detail}");
    }
    let good = json!({"matchers": {"rule": "r"}, "ends_at": at(9.0)}).to_string();
    assert_eq!(service.post("/api/v1/silences", &good).status, 200);
    let full = service.post("/api/v1/silences", &good);
    assert_eq!((full.status, full.json()["error"].as_str()), (503, Some("unavailable")));
    assert_eq!(service.post("/api/v1/silences", vec![b' '; 70_000]).status, 413);
    let configured = service.request("DELETE", "/api/v1/silences/silence-1", &[], b"");
    assert_eq!(configured.status, 400, "{}", configured.text());
    assert_eq!(service.request("PUT", "/api/v1/silences", &[], b"").status, 405);
    assert_eq!(names(&service.json("/api/v1/silences")), ["count", "maintenance", "silences"]);
}

#[test]
fn silences_and_what_they_hold_back_outlive_a_restart() {
    let receiver = Receiver::start();
    let yaml = settings(&format!("  receivers:\n{}", webhook("pager", &receiver, "")));
    let service = Running::start(&yaml);
    let body = json!({"match": {"service": "rack"}, "ends_at": at(600.0)}).to_string();
    let id = service.post("/api/v1/silences", &body).json()["id"].as_str().expect("an id").to_string();
    for host in ["a", "b"] {
        service.accept(&sample(0.0, host, "temperature", 90.0));
    }
    until("both are held back", || (figure(&service, "pager", "held") == 2).then_some(()));
    let service = service.restart(&yaml);
    assert_eq!(figure(&service, "pager", "held"), 2);
    assert_eq!(service.json("/api/v1/silences")["silences"][0]["id"], id);
    // One ends in silence, of the other is told when that is over.
    service.accept(&sample(10.0, "a", "temperature", 10.0));
    until("one is left", || (figure(&service, "pager", "held") == 1).then_some(()));
    service.clock_at(600.0);
    assert_eq!(told_of(&receiver, 1), [["hot", "b", "firing"]]);
    let service = service.restart(&yaml);
    service.accept(&sample(20.0, "b", "temperature", 10.0));
    assert_eq!(told_of(&receiver, 2)[1], ["hot", "b", "resolved"]);
    assert_eq!(told(&receiver).len(), 2);
}

#[test]
fn each_receiver_goes_on_where_it_was() {
    let (first, second) = (Receiver::start(), Receiver::start());
    let critical = webhook("critical", &first, ", match: { severity: critical }");
    let yaml = settings(&format!("  receivers:\n{critical}"));
    let service = Running::start(&yaml);
    service.accept(&sample(0.0, "a", "humidity", 90.0));
    service.accept(&sample(0.0, "a", "temperature", 90.0));
    assert_eq!(told_of(&first, 1), [["humid", "a", "firing"]]);
    until("the other is not for it", || (figure(&service, "critical", "unwanted") == 1).then_some(()));
    // One that is added starts at the present: it hears of ends, not of what began before its time.
    let all = webhook("all", &second, ", send_resolved: true");
    let both = settings(&format!("  receivers:\n{critical}{all}"));
    let service = service.restart(&both);
    service.accept(&sample(10.0, "a", "humidity", 10.0));
    service.accept(&sample(10.0, "b", "temperature", 90.0));
    assert_eq!(told_of(&first, 2)[1], ["humid", "a", "resolved"]);
    let mut heard = told_of(&second, 2);
    heard.sort();
    assert_eq!(heard, [["hot", "b", "firing"], ["humid", "a", "resolved"]]);
    // One that is taken away holds nothing back, and comes back at the present.
    let service = service.restart(&settings(&format!("  receivers:\n{all}")));
    service.accept(&sample(20.0, "b", "humidity", 90.0));
    assert_eq!(told_of(&second, 3)[2], ["humid", "b", "firing"]);
    let service = service.restart(&both);
    service.accept(&sample(30.0, "b", "humidity", 10.0));
    assert_eq!(told_of(&first, 3)[2], ["humid", "b", "resolved"]);
    assert_eq!(told_of(&second, 4)[3], ["humid", "b", "resolved"]);
    until("its answer is read", || (figure(&service, "critical", "waiting") == 0).then_some(()));
    let counted = ["notified", "delivered"].map(|name| figure(&service, "critical", name));
    assert_eq!(counted, [1, 1], "nothing of what happened while it was not there");
}
