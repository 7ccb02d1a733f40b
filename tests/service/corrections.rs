//! Alerts that late samples correct, and those of detectors, windows and silence, as a receiver hears of them.

use serde_json::{Value, json};

use crate::alerts::Receiver;
use crate::running::{Running, at, until};

fn settings(receiver: &Receiver, rules: &str) -> String {
    format!(
        "storage: {{ type: none }}\nalerts:\n  webhook_url: \"http://{}/hook\"\n  slack: 0s\n  rules:\n{rules}",
        receiver.address
    )
}

fn cpu(t: f64, value: f64) -> Value {
    json!({"timestamp": at(t), "service": "s", "metrics": {"cpu": value}})
}

/// What was told, without what each alert has in common with others.
fn told(receiver: &Receiver, count: usize) -> Vec<(String, String, f64)> {
    let text = |alert: &Value, field: &str| alert[field].as_str().expect("a text").to_string();
    let shown = |alert: &Value| {
        (text(alert, "status"), text(alert, "started_at"), alert["value"].as_f64().expect("a number"))
    };
    receiver.wait(count).iter().map(shown).collect()
}

#[test]
fn a_late_sample_takes_an_alert_back_and_another_gives_it_its_true_start() {
    let receiver = Receiver::start();
    let rule = "    - { name: high, metric: cpu, operator: \">\", threshold: 80, duration: 10s }\n";
    let service = Running::start(&settings(&receiver, rule));
    service.clock_at(100.0);
    for t in [0.0, 4.0, 9.0, 11.0] {
        service.accept(&json!([cpu(t, 90.0 + t)]));
    }
    let firing = |start: f64, value: f64| ("firing".to_string(), at(start), value);
    assert_eq!(told(&receiver, 1), [firing(0.0, 99.0)]);
    let first = receiver.wait(1)[0]["id"].clone();
    // It did not breach at 2: what was told had no reason.
    service.accept(&json!([cpu(2.0, 10.0)]));
    let after = told(&receiver, 2);
    assert_eq!(after[1], ("retracted".to_string(), at(0.0), 99.0));
    assert_eq!(receiver.wait(2)[1]["id"], first, "the same alert");
    // It has breached since 4.
    service.accept(&json!([cpu(15.0, 95.0)]));
    assert_eq!(told(&receiver, 3)[2], firing(4.0, 101.0));
    // And since 3, as is known now.
    service.accept(&json!([cpu(3.0, 93.0)]));
    let corrected = until("the true start is told", || {
        let all = told(&receiver, 4);
        all.iter().any(|(status, start, _)| status == "firing" && *start == at(3.0)).then_some(all)
    });
    assert!(corrected.len() <= 5, "{corrected:?}");
    let history = service.json("/api/v1/alerts/history?limit=100");
    let kinds: Vec<&str> =
        history["history"].as_array().into_iter().flatten().filter_map(|t| t["state"].as_str()).collect();
    assert!(kinds.contains(&"retracted"), "{history}");
}

#[test]
fn a_detector_says_what_it_expected() {
    let receiver = Receiver::start();
    let rule = "    - { name: odd, metric: cpu, condition: anomaly, message: \"{{value}}, expected {{lower | 0}} to {{upper | 0}}\" }\n";
    let service = Running::start(&settings(&receiver, rule));
    service.clock_at(1000.0);
    let ordinary = |n: u32| cpu(f64::from(n), 50.0 + f64::from(n * 7919 % 13));
    let samples: Vec<Value> = (0..400).map(ordinary).chain([cpu(400.0, 300.0), cpu(401.0, 55.0)]).collect();
    service.accept(&json!(samples));
    let alerts = receiver.wait(2);
    assert_eq!((&alerts[0]["status"], alerts[0]["value"].as_f64()), (&json!("firing"), Some(300.0)));
    let expected = &alerts[0]["expected"];
    assert_eq!(expected["reason"], "outside of everything seen so far", "{expected}");
    assert!(expected["anomaly_score"].as_f64().is_some_and(|score| score > 0.5), "{expected}");
    let message = alerts[0]["message"].as_str().expect("a text");
    let bounds: Vec<f64> = message
        .trim_start_matches("300, expected ")
        .split(" to ")
        .map(|number| number.parse().unwrap_or_else(|_| panic!("{message}")))
        .collect();
    assert!(bounds[0] > 20.0 && bounds[0] < 55.0 && bounds[1] > 55.0 && bounds[1] < 90.0, "{message}");
}

#[test]
fn a_rule_goes_by_the_windows_of_a_rollup_and_by_its_name() {
    let receiver = Receiver::start();
    let yaml =
        settings(&receiver, "    - { name: busy, metric: by_host_avg, operator: \">\", threshold: 80 }\n");
    let rollups =
        "rollups:\n  - { name: by_host, metric: cpu, by: [ host ], window: 20s, functions: [ avg, max ] }\n";
    let service = Running::start(&format!("{yaml}{rollups}"));
    service.clock_at(40.0);
    let of = |t: f64, value: f64| json!({"timestamp": at(t), "service": "s", "metrics": {"cpu": value}, "tags": {"host": "a"}});
    service.accept(&json!([of(0.0, 99.0), of(10.0, 71.0), of(20.0, 99.0), of(30.0, 71.5), of(40.0, 1.0)]));
    let busy = &receiver.wait(1)[0];
    assert_eq!((&busy["name"], &busy["tags"]), (&json!("busy"), &json!({"host": "a"})));
    assert_eq!((&busy["started_at"], busy["value"].as_f64()), (&json!(at(20.0)), Some(85.0)));
}

#[test]
fn windows_of_groups_and_silence_are_told_of() {
    let receiver = Receiver::start();
    let rules = "    - { name: slow, metric: cpu, func: avg, window: 20s, by: [ service ], operator: \">\", threshold: 80 }\n    \
                 - { name: gone, metric: cpu, absent_for: 30s }\n";
    let service = Running::start(&settings(&receiver, rules));
    service.clock_at(40.0);
    let of = |t: f64, host: &str, value: f64| json!({"timestamp": at(t), "service": "s", "metrics": {"cpu": value}, "tags": {"host": host}});
    for second in 0..40 {
        let t = f64::from(second);
        service.accept(&json!([of(t, "a", 70.0), of(t, "b", if second < 20 { 80.0 } else { 100.0 })]));
    }
    // The average of both is 75 up to 20 s, and 85 in [20, 40).
    service.accept(&json!([of(40.0, "a", 70.0), of(40.0, "b", 100.0)]));
    let slow = &receiver.wait(1)[0];
    assert_eq!((&slow["name"], &slow["service"], &slow["tags"]), (&json!("slow"), &json!("s"), &json!({})));
    let value = slow["value"].as_f64().expect("a number");
    assert!(value > 80.0 && value <= 85.0, "{slow}");
    service.clock_at(200.0);
    let all = until("silence is told of", || {
        let all = receiver.wait(3);
        (all.iter().filter(|alert| alert["name"] == "gone").count() == 2).then_some(all)
    });
    let gone: Vec<&Value> = all.iter().filter(|alert| alert["name"] == "gone").collect();
    assert!(
        gone.iter().all(|alert| alert["started_at"] == at(70.0) && alert["threshold"].as_f64() == Some(30.0)),
        "{gone:?}"
    );
}
