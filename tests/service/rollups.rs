//! Rollups through the whole service: settings in; API, exposition and files out; and a restart.

use std::path::Path;

use serde_json::{Value, json};

use crate::running::{Running, at, until};

const YAML: &str = r#"
storage: { type: file, format: json, compression: false, store: [windows], window_functions: [count] }
rollups:
  - { name: rt, metric: response_time, by: [zone], window: 1m, functions: [avg, p95, count] }
  - { name: failing, metric: errors, tags: { zone: "*" }, window: 1m, functions: [increase], over: { metric: requests } }
  - { name: kept_to_itself, metric: errors, by: [service], window: 30s, every: 10s, functions: [max], store: false }
"#;

/// Two hosts in zone `a` and one in zone `b`, a sample each second: `from` to `till`.
fn post(service: &Running, from: u32, till: u32) -> u64 {
    let mut batch = Vec::new();
    for second in from..till {
        for (host, zone, factor) in [("a1", "a", 1), ("a2", "a", 3), ("b1", "b", 10)] {
            batch.push(json!({
                "timestamp": at(second.into()), "service": "web", "tags": {"host": host, "zone": zone},
                "metrics": {"response_time_ms": factor, "errors": second / 10, "requests": second},
            }));
        }
    }
    service.accept(&json!(batch))
}

fn series(service: &Running, query: &str) -> Vec<Value> {
    let answer = service.json(&format!("/api/v1/metrics/aggregate?start={}&{query}", at(0.0)));
    answer["series"].as_array().expect("a list").clone()
}

/// Metric, zone, and values of the points.
fn told(series: &[Value]) -> Vec<(String, Value, Vec<f64>)> {
    let of = |one: &Value| {
        let points = one["points"].as_array().expect("a list").iter();
        let values = points.map(|point| point["value"].as_f64().expect("a number")).collect();
        (one["metric"].as_str().expect("a text").to_owned(), one["tags"]["zone"].clone(), values)
    };
    series.iter().map(of).collect()
}

#[test]
fn windows_of_groups_are_told_corrected_exposed_and_kept() {
    let service = Running::start(YAML);
    service.clock_at(70.0);
    let epoch = post(&service, 0, 70);
    let all = series(&service, &format!("rollup=rt&min_epoch={epoch}"));
    let expected = [
        ("rt_avg", "a", 2.0),
        ("rt_p95", "a", 3.0),
        ("rt_count", "a", 120.0),
        ("rt_avg", "b", 10.0),
        ("rt_p95", "b", 10.0),
        ("rt_count", "b", 60.0),
    ];
    let expected = expected.map(|(metric, zone, value)| (metric.to_owned(), json!(zone), vec![value]));
    assert_eq!(told(&all), expected);
    let point = &all[0]["points"][0];
    assert_eq!(
        point,
        &json!({"start": at(0.0), "value": 2.0, "count": 120, "final": false, "revision": epoch})
    );
    assert_eq!((&all[0]["service"], &all[0]["error_bound"]), (&Value::Null, &json!(0.0)));
    // By the name of one of its values; of some groups only; a ratio of two metrics in all.
    assert_eq!(told(&series(&service, "metric=rt_p95&tag.zone=b")), expected[4..5]);
    assert_eq!(told(&series(&service, "rollup=rt&func=count&tag.zone=a")), expected[2..3]);
    let failing = told(&series(&service, "rollup=failing"));
    assert_eq!(failing, [("failing_increase".into(), Value::Null, vec![5.0 / 59.0])]);

    // A late sample corrects what was said.
    let late = json!([{"timestamp": at(30.5), "service": "web", "tags": {"host": "b1", "zone": "b"},
        "metrics": {"response_time_ms": 71}}]);
    let corrected = service.accept(&late);
    let again = &series(&service, &format!("metric=rt_avg&tag.zone=b&min_epoch={corrected}"))[0]["points"][0];
    assert_eq!(
        (&again["value"], &again["count"], &again["revision"]),
        (&json!(11.0), &json!(61), &json!(corrected))
    );
    let exposed = service.get("/metrics").text();
    for line in [
        "plantd_rt_avg{zone=\"a\"} 2\n",
        "plantd_rt_avg{zone=\"b\"} 11\n",
        "plantd_kept_to_itself_max{service=\"web\"} 5\n",
        "plantd_metric_rollup_turned_away 0\n",
        "plantd_metric_rollup_members 12\n",
    ] {
        assert!(exposed.contains(line), "{line} in {exposed}");
    }

    // In silence the arrival clock makes windows final; they outlive a restart.
    service.clock_at(160.0);
    until("the window is final", || {
        let all = series(&service, "rollup=rt&func=avg");
        all.iter().all(|one| one["points"][0]["final"] == true).then_some(())
    });
    let before = series(&service, "rollup=rt");
    let service = service.restart(YAML);
    assert_eq!(series(&service, "rollup=rt"), before);
    let stored = stored(&service.data());
    let of = |metric: &str| stored.iter().filter(|message| message["metrics"].get(metric).is_some()).count();
    // Two groups, each with a window of sixty seconds and one of the ten behind.
    assert_eq!((of("rt_avg"), of("failing_increase"), of("kept_to_itself_max")), (4, 2, 0), "{stored:?}");
    let message = stored.iter().find(|message| message["metrics"]["rt_avg"] == 11.0).expect("it is stored");
    assert_eq!(message["timestamp"], at(0.0));
    assert_eq!(
        (&message["service"], &message["tags"]),
        (&json!("rollup"), &json!({"window": "1m", "zone": "b"}))
    );

    // Another rollup begins with the panes there are; one that is not wanted any more is gone.
    let other = "rollups: [{ name: late, metric: response_time, window: 1m, functions: [sum] }]\nstorage: { type: none }";
    let service = service.restart(other);
    until("the new rollup is there", || (series(&service, "rollup=late").len() == 1).then_some(()));
    assert_eq!(told(&series(&service, "rollup=late"))[0].2, [120.0 * 2.0 + 671.0, 10.0 * 14.0]);
    let why = service.refused("/api/v1/metrics/aggregate?rollup=rt");
    assert_eq!(why, "rollup: there is late, found \"rt\"");
}

/// Every message in the files below a folder.
fn stored(folder: &Path) -> Vec<Value> {
    let mut messages = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            messages.extend(stored(&path));
        } else if path.extension().is_some_and(|ending| ending == "json") {
            let text = std::fs::read_to_string(&path).expect("a text");
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            messages.extend(lines.filter(|value| value["metrics"].is_object()));
        }
    }
    messages
}

#[test]
fn the_list_and_what_can_not_be_asked() {
    let service = Running::start(YAML);
    let list = service.json("/api/v1/rollups");
    assert_eq!(list["turned_away"], 0);
    let first = json!({
        "name": "rt", "metric": "response_time", "by": ["zone"], "window": "1m", "every": "1m",
        "functions": ["avg", "p95", "count"], "metrics": ["rt_avg", "rt_p95", "rt_count"], "min_samples": 0,
        "correct_for": "10m", "keep": "1h", "store": true, "groups": 0,
    });
    assert_eq!(list["rollups"][0], first);
    assert_eq!(
        (&list["rollups"][1]["over"], &list["rollups"][1]["tags"]),
        (&json!("requests_increase"), &json!({"zone": "*"}))
    );
    assert_eq!(service.json("/api/v1/rollups?name=rt")["rollups"].as_array().map(Vec::len), Some(1));
    for (query, why) in [
        ("rollup=none", "rollup: there is rt, failing, kept_to_itself, found \"none\""),
        ("rollup=rt&metric=m", "expected metric or rollup, found both"),
        ("rollup=rt&func=max", "func: expected one of the rollup's avg, p95, count, found \"max\""),
        (
            "rollup=rt&interval=10s",
            "interval: expected 1m, which is the width of the rollup's windows, found 10s",
        ),
        ("rollup=rt&by=zone", "by: the groups of a rollup are those it has; leave it out"),
        ("rollup=rt&start=5&end=4", "start: expected a time before end"),
    ] {
        assert_eq!(service.refused(&format!("/api/v1/metrics/aggregate?{query}")), why);
    }
}
