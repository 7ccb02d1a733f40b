//! Rules that come, change and go while samples flow.

use serde_json::{Value, json};

use crate::running::{Running, at, until};

fn rule(name: &str, threshold: f64, seconds: u32) -> String {
    format!(
        "  - {{ name: {name}, metric: cpu_usage_percent, operator: \">\", threshold: {threshold}, \
         duration: {seconds}s }}\n"
    )
}

fn cpu(t: f64, value: f64) -> Value {
    json!({"timestamp": at(t), "service": "s", "metrics": {"cpu_usage_percent": value}})
}

/// Name, status, start and threshold of the alerts there are.
fn alerts(service: &Running) -> Vec<(String, String, String, f64)> {
    let answer = service.json("/api/v1/alerts");
    let text = |alert: &Value, field: &str| alert[field].as_str().expect("a text").to_string();
    let alerts = answer["alerts"].as_array().expect("a list").iter();
    let mut all: Vec<_> = alerts
        .map(|alert| {
            let threshold = alert["threshold"].as_f64().expect("a number");
            (text(alert, "name"), text(alert, "status"), text(alert, "started_at"), threshold)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn rules_are_read_again_and_start_from_what_is_there() {
    let dir = tempfile::tempdir().expect("a folder for rules");
    let write = |file: &str, rules: &[String]| {
        std::fs::write(dir.path().join(file), format!("rules:\n{}", rules.concat())).expect("it is written");
    };
    write("a.yaml", &[rule("one", 90.0, 0)]);
    let yaml = format!(
        "storage: {{ type: none }}\nalerts:\n  reload_interval: 50ms\n  rules_dir: {:?}\n",
        dir.path().display().to_string()
    );
    let service = Running::start(&yaml);
    service.clock_at(100.0);
    service.accept(&json!([cpu(0.0, 10.0), cpu(10.0, 85.0), cpu(20.0, 86.0), cpu(95.0, 87.0)]));
    assert_eq!(alerts(&service), []);

    // A new rule fires at once, since its condition held for long enough before it came.
    write("a.yaml", &[rule("one", 90.0, 0), rule("two", 80.0, 60), rule("three", 80.0, 600)]);
    let done = service.post("/-/reload", "").json();
    assert_eq!((&done["data"]["rules"], &done["data"]["added"]), (&json!(3), &json!(2)), "{done}");
    let alert = |name: &str, status: &str, threshold| (name.into(), status.into(), at(10.0), threshold);
    until("new rules begin", || {
        (alerts(&service) == [alert("three", "pending", 80.0), alert("two", "firing", 80.0)]).then_some(())
    });

    // What is wrong anywhere changes nothing.
    write("b.yaml", &["  - { name: four, metric: m, operator: \"=>\", threshold: 1 }\n".into()]);
    let refused = service.post("/-/reload", "");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("b.yaml:2:40"), "{}", refused.text());
    let status = service.json("/status");
    assert_eq!(status["alerts"]["rules"], 3);
    assert!(status["reload"]["error"].as_str().is_some_and(|error| error.contains("b.yaml")));
    assert_eq!(alerts(&service).len(), 2);

    // A file that changes is read without being asked: a changed rule is another, a removed one takes back its alert.
    std::fs::remove_file(dir.path().join("b.yaml")).expect("it was there");
    write("a.yaml", &[rule("one", 90.0, 0), rule("two", 84.0, 70)]);
    until("the file is read", || (alerts(&service) == [alert("two", "firing", 84.0)]).then_some(()));
    let metrics = service.get("/metrics").text();
    let retracted = metrics.lines().find(|line| line.contains("retracted")).expect("a counter");
    assert!(retracted.ends_with(" 1"), "{retracted}");
}
