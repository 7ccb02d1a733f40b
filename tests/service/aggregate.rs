//! `GET /api/v1/metrics/aggregate`: every function, grouping, aliases, and what can't be asked.

use serde_json::{Value, json};

use crate::running::{NOON_NS, Running, at, names};

const PATH: &str = "/api/v1/metrics/aggregate";

/// Services `web` and `shop`, zones `a` and `b`, one sample a second: values 0, 1, 2, ... and for `b` ten times that.
fn posted(seconds: usize) -> (Running, u64) {
    let service = Running::start("storage: { type: none }");
    service.clock_at(seconds as f64);
    let mut batch = Vec::new();
    for n in 0..seconds {
        for (name, zone, factor) in [("web", "a", 1), ("web", "b", 10), ("shop", "a", 100)] {
            batch.push(json!({
                "timestamp": at(n as f64), "service": name, "tags": {"zone": zone, "host": format!("{name}-{zone}")},
                "metrics": {"response_time_ms": n * factor, "cpu_usage_percent": factor},
            }));
        }
    }
    let epoch = service.accept(&json!(batch));
    (service, epoch)
}

/// The series of an answer.
pub fn series(service: &Running, query: &str) -> Vec<Value> {
    service.json(&format!("{PATH}?{query}"))["series"].as_array().expect("a list").clone()
}

/// The values of the points of a series.
pub fn values(series: &Value) -> Vec<f64> {
    let points = series["points"].as_array().expect("a list");
    points.iter().map(|point| point["value"].as_f64().expect("a number")).collect()
}

#[test]
fn the_documented_answer_field_by_field() {
    let (service, epoch) = posted(25);
    let query =
        format!("metric=response_time_ms&service=web&tag.zone=a&interval=10s&func=sum&min_epoch={epoch}");
    let answer = service.json(&format!("{PATH}?{query}"));
    assert_eq!(names(&answer), ["as_of", "interval", "metric", "series"]);
    assert_eq!(answer["metric"], "response_time_ms");
    assert_eq!(answer["interval"], "10s");
    assert!(answer["as_of"].as_u64().expect("an epoch") >= epoch, "it reads what was written");
    let list = answer["series"].as_array().expect("a list");
    assert_eq!(list.len(), 1);
    let told = ["clock", "dropped", "error_bound", "func", "late", "metric", "points", "service", "tags"];
    assert_eq!(names(&list[0]), told);
    assert_eq!(list[0]["service"], "web");
    assert_eq!(list[0]["tags"], json!({"host": "web-a", "zone": "a"}));
    assert_eq!((&list[0]["func"], &list[0]["metric"]), (&json!("sum"), &json!("response_time_ms")));
    assert_eq!(list[0]["clock"], at(24.0));
    assert_eq!((&list[0]["late"], &list[0]["dropped"]), (&json!(0), &json!(0)));
    assert_eq!(list[0]["error_bound"], 0.0);
    // The third window is open: it is told with what it has.
    for (point, (start, sum, count)) in
        list[0]["points"].as_array().expect("a list").iter().zip([(0, 45, 10), (10, 145, 10), (20, 110, 5)])
    {
        assert_eq!(names(point), ["count", "final", "revision", "start", "value"]);
        assert_eq!(point["start"], at(f64::from(start)));
        assert_eq!((&point["value"], &point["count"]), (&json!(f64::from(sum)), &json!(count)));
        assert_eq!((&point["final"], &point["revision"]), (&json!(false), &json!(epoch)));
    }
    assert_eq!(list[0]["points"].as_array().expect("a list").len(), 3);
}

#[test]
fn every_function() {
    let (service, epoch) = posted(20);
    let variance = 8.25_f64;
    let expected = [
        ("count", [10.0, 10.0]),
        ("sum", [45.0, 145.0]),
        ("avg", [4.5, 14.5]),
        ("min", [0.0, 10.0]),
        ("max", [9.0, 19.0]),
        ("first", [0.0, 10.0]),
        ("last", [9.0, 19.0]),
        ("stddev", [variance.sqrt(); 2]),
        ("increase", [9.0, 10.0]),
        ("rate", [1.0, 1.0]),
        ("median", [4.5, 14.5]),
        ("p50", [4.5, 14.5]),
        ("p95", [8.55, 18.55]),
        ("p99.9", [8.991, 18.991]),
        ("p0", [0.0, 10.0]),
        ("p100", [9.0, 19.0]),
    ];
    let list = expected.map(|(name, _)| name).join(",");
    let query = format!("metric=response_time_ms&tag.host=web-a&func={list}&min_epoch={epoch}");
    let told = series(&service, &query);
    assert_eq!(told.len(), expected.len(), "one entry for each function");
    for (entry, (name, values)) in told.iter().zip(expected) {
        assert_eq!(entry["func"], name);
        let found = self::values(entry);
        let close = found.len() == 2 && found.iter().zip(values).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close, "{name}: {found:?}, expected {values:?}");
    }
    let default = &series(&service, "metric=response_time_ms&tag.host=web-a")[0];
    assert_eq!((&default["func"], values(default)), (&json!("avg"), vec![4.5, 14.5]));
}

#[test]
fn counters_may_be_reset() {
    let service = Running::start("storage: { type: none }");
    service.clock_at(30.0);
    let batch: Vec<Value> = [100, 110, 3, 5, 20, 1]
        .iter()
        .enumerate()
        .map(|(n, v)| json!({"timestamp": at(n as f64 * 5.0), "service": "c", "metrics": {"message_count": v}}))
        .collect();
    let epoch = service.accept(&json!(batch));
    let told = series(&service, &format!("metric=message_count&func=increase,rate&min_epoch={epoch}"));
    // 100 -> 110 | -> 3 (reset), 5 | -> 20, -> 1 (reset)
    assert_eq!(values(&told[0]), [10.0, 5.0, 16.0]);
    assert_eq!(values(&told[1]), [2.0, 0.5, 1.6]);
}

#[test]
fn series_are_pooled_by_tags() {
    let (service, epoch) = posted(10);
    let of = |by: &str| {
        let query = format!("metric=response_time_ms&func=sum,p100&by={by}&min_epoch={epoch}");
        let told = series(&service, &query);
        told.iter()
            .filter(|entry| entry["func"] == "sum")
            .map(|entry| {
                (
                    entry["service"].clone(),
                    entry["tags"].clone(),
                    values(entry),
                    entry["points"][0]["count"].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    let expected = [
        (Value::Null, json!({"zone": "a"}), vec![4545.0], json!(20)),
        (json!("web"), json!({"zone": "b"}), vec![450.0], json!(10)),
    ];
    assert_eq!(of("zone"), expected);
    assert_eq!(
        of("service"),
        [
            (json!("shop"), json!({}), vec![4500.0], json!(10)),
            (json!("web"), json!({}), vec![495.0], json!(20)),
        ]
    );
    assert_eq!(of("service,zone").len(), 3);
    assert_eq!(of(""), [(Value::Null, json!({}), vec![4995.0], json!(30))], "all in one");
    assert_eq!(of("nothing"), [(Value::Null, json!({}), vec![4995.0], json!(30))]);
}

#[test]
fn family_names_stand_for_their_metrics() {
    let (service, epoch) = posted(10);
    for (alias, name) in [("cpu_usage", "cpu_usage_percent"), ("response_time", "response_time_ms")] {
        let query = format!("metric={alias}&service=shop&interval=5m&func=avg&min_epoch={epoch}");
        let told = series(&service, &query);
        assert_eq!((told.len(), &told[0]["metric"]), (1, &json!(name)), "{alias}");
    }
    assert_eq!(series(&service, "metric=nothing"), [Value::Null; 0]);
    assert_eq!(series(&service, "metric=cpu_usage&service=nobody"), [Value::Null; 0]);
}

#[test]
fn ranges_touch_whole_windows() {
    let (service, epoch) = posted(60);
    let starts = |range: &str| {
        let query = format!("metric=response_time_ms&tag.host=web-a&func=count&min_epoch={epoch}&{range}");
        let told = series(&service, &query);
        let points = told.first().map(|entry| entry["points"].as_array().expect("a list").clone());
        points
            .unwrap_or_default()
            .iter()
            .map(|p| p["start"].as_str().expect("a time").to_string())
            .collect::<Vec<_>>()
    };
    let of = |seconds: &[i32]| seconds.iter().map(|s| at(f64::from(*s))).collect::<Vec<_>>();
    assert_eq!(starts("interval=20s"), of(&[0, 20, 40]));
    assert_eq!(starts("start=2024-01-01T12:00:15Z&end=2024-01-01T12:00:30Z"), of(&[10, 20]), "half-open");
    assert_eq!(starts("start=2024-01-01T13:00:15+01:00&end=2024-01-01T13:00:31+01:00"), of(&[10, 20, 30]));
    assert_eq!(starts("start=2024-01-01T07:00:50-05:00"), of(&[50]));
    assert_eq!(starts("start=1704110450"), of(&[50]));
    assert_eq!(starts("start=2024-01-01T12:02:00Z&end=2024-01-01T12:03:00Z"), of(&[]));
}

#[test]
fn what_can_not_be_asked_is_told_with_what_can() {
    let (service, _) = posted(10);
    for (query, part) in [
        ("", "metric: expected a name, found none"),
        (
            "metric=response_time&interval=15s",
            "interval: expected a multiple of the pane width 10s, found 15s",
        ),
        ("metric=response_time&interval=1s", "interval: expected a multiple of the pane width 10s, found 1s"),
        (
            "metric=response_time&interval=fast",
            "interval: expected a duration such as 10s, 5m or 1h, found \"fast\"",
        ),
        (
            "metric=response_time&interval=0s",
            "interval: expected a duration such as 10s, 5m or 1h, found \"0s\"",
        ),
        (
            "metric=response_time&fun=avg",
            "unknown parameter \"fun\", expected one of metric, service, tag.NAME, by, interval, func, start, end, min_epoch",
        ),
        ("metric=response_time&min_epoch=999999999", "min_epoch: expected at most "),
        ("metric=response_time&min_epoch=now", "min_epoch: expected a whole number, found \"now\""),
        (
            "metric=response_time&start=2024-01-01T12:00:10Z&end=2024-01-01T12:00:10Z",
            "start: expected a time before end",
        ),
        (
            "metric=response_time&end=tomorrow",
            "end: expected an RFC 3339 time or a Unix number, found \"tomorrow\"",
        ),
    ] {
        let detail = service.refused(&format!("{PATH}?{query}"));
        assert!(detail.starts_with(part), "{query}: {detail}");
    }
    let detail = service.refused(&format!("{PATH}?metric=response_time&func=avg,mode"));
    let all = [
        "avg", "count", "first", "increase", "last", "max", "min", "rate", "stddev", "sum", "median", "p99.9",
    ];
    assert!(all.iter().all(|name| detail.contains(name)) && detail.contains("\"mode\""), "{detail}");
}

#[test]
fn ranges_beyond_retention_are_refused_with_what_is_held() {
    let service = Running::start("storage: { type: none }\nwindows: { tiers: [10s for 5m, 1m for 10m] }");
    let batch: Vec<Value> = (0..1200)
        .step_by(5)
        .map(|n| json!({"timestamp": at(f64::from(n) - 1200.0), "service": "s", "metrics": {"m": n}}))
        .collect();
    let epoch = service.accept(&json!(batch));
    let query = format!("{PATH}?metric=m&func=count&min_epoch={epoch}");
    // 10 s panes for 5 minutes, 1 min panes before that, nothing before 11:50.
    let fine = service.json(&format!("{query}&interval=10s&start=2024-01-01T11:56:00Z"));
    assert!(values(&fine["series"][0]).iter().all(|count| *count == 2.0), "{fine}");
    let coarse = service.json(&format!("{query}&interval=1m&start=2024-01-01T11:51:00Z"));
    assert_eq!(values(&coarse["series"][0]), [12.0; 9]);
    let detail = service.refused(&format!("{query}&interval=10s&start=2024-01-01T11:51:00Z"));
    assert!(detail.contains("held in panes of 1m"), "{detail}");
    let detail = service.refused(&format!("{query}&interval=1m&start=2024-01-01T11:40:00Z"));
    assert!(
        detail.contains("windows are held since 2024-01-01T11:49:00Z") && detail.contains("/api/v1/metrics"),
        "{detail}"
    );
    // Who names no start gets what there is.
    let all = service.json(&format!("{query}&interval=1m"));
    assert_eq!(values(&all["series"][0]).len(), 11, "{all}");
}

#[test]
fn windows_held_in_part_are_left_out() {
    let service = Running::start("storage: { type: none }\nwindows: { tiers: [10s for 5m, 1m for 10m] }");
    let mut batch: Vec<Value> = (0..1200)
        .step_by(5)
        .map(|n| json!({"timestamp": at(f64::from(n) - 1200.0), "service": "s", "metrics": {"m": n}}))
        .collect();
    let silent = (0..3).map(
        |n| json!({"timestamp": at(f64::from(n) * 60.0 - 600.0), "service": "silent", "metrics": {"m": n}}),
    );
    batch.extend(silent);
    let epoch = service.accept(&json!(batch));
    let query = format!("{PATH}?metric=m&func=count&min_epoch={epoch}");
    // Of s, 11:49 is the first minute that is held: of the window that begins at 11:45, too little is.
    for (asked, expected) in [
        ("interval=5m", vec![60.0, 60.0]),
        ("interval=5m&start=2024-01-01T11:49:30Z", vec![60.0, 60.0]),
        ("interval=10m", vec![120.0]),
    ] {
        let answer = service.json(&format!("{query}&service=s&{asked}"));
        assert_eq!(values(&answer["series"][0]), expected, "{asked}: {answer}");
    }
    let detail = service.refused(&format!("{query}&interval=20m"));
    assert_eq!(detail, "interval: expected at most 10m, which is how long windows are held, found 20m");
    // The silent series is held since 11:42. Alone it can be asked from there on, pooled with the other it can't.
    let start = "interval=1m&start=2024-01-01T11:43:00Z";
    let apart = service.json(&format!("{query}&{start}"));
    let lens = [0, 1].map(|at| values(&apart["series"][at]).len());
    assert_eq!(lens, [11, 3], "{apart}");
    let detail = service.refused(&format!("{query}&{start}&by="));
    assert!(detail.contains("windows are held since 2024-01-01T11:49:00Z"), "{detail}");
}

#[test]
fn the_ends_of_time_are_no_accident() {
    let (service, _) = posted(10);
    for range in [
        "start=1700-01-01T00:00:00Z&end=2261-01-01T00:00:00Z",
        "start=-9223372036854775808&end=9223372036854775807",
        "start=9223372036854775806",
        "end=-9223372036854775807",
        "interval=106751d",
        "interval=106751d&end=2262-01-01T00:00:00Z",
    ] {
        let answer = service.get(&format!("{PATH}?metric=response_time&func=p99&{range}"));
        assert!([200, 400].contains(&answer.status), "{range}: {} {}", answer.status, answer.text());
        answer.json();
    }
    assert_eq!(NOON_NS % 86_400_000_000_000, 43_200_000_000_000);
}
