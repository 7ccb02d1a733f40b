//! Provisional, final, corrected: what the answers say of themselves as time goes on.

use serde_json::{Value, json};

use crate::aggregate::{series, values};
use crate::running::{Running, at, until};

fn send(service: &Running, times: &[f64], value: f64) -> u64 {
    let message = |t: &f64| json!({"timestamp": at(*t), "service": "s", "metrics": {"m": value}});
    service.accept(&json!(times.iter().map(message).collect::<Vec<Value>>()))
}

fn one(service: &Running, epoch: u64) -> Value {
    series(service, &format!("metric=m&func=count&start=2024-01-01T11:50:00Z&min_epoch={epoch}")).remove(0)
}

fn finals(entry: &Value) -> Vec<bool> {
    entry["points"].as_array().expect("a list").iter().map(|p| p["final"] == true).collect()
}

#[test]
fn a_window_is_final_by_its_series_own_clock_and_still_corrected() {
    let service = Running::start("storage: { type: none }");
    service.clock_at(45.0);
    let first = send(&service, &[1.0, 11.0, 39.999], 1.0);
    assert_eq!(finals(&one(&service, first)), [false; 3], "the lateness of 30 s is not over");
    let second = send(&service, &[40.0], 1.0);
    let before = one(&service, second);
    assert_eq!(finals(&before), [true, false, false, false]);
    assert_eq!((values(&before), &before["late"]), (vec![1.0; 4], &json!(0)));
    assert_eq!(before["points"][0]["revision"], first);

    let third = send(&service, &[5.0], 1.0);
    let after = one(&service, third);
    assert_eq!((values(&after), &after["late"]), (vec![2.0, 1.0, 1.0, 1.0], &json!(1)));
    assert!(after["points"][0]["revision"].as_u64() > before["points"][0]["revision"].as_u64());
    assert_eq!(after["points"][0]["final"], true);
    assert_eq!(after["points"][1]["revision"], before["points"][1]["revision"]);

    // Too old for any window: counted, and nothing else changes.
    let fourth = send(&service, &[-50_000.0], 1.0);
    let last = one(&service, fourth);
    assert_eq!((values(&last), &last["dropped"]), (values(&after), &json!(1)));
    let status = service.json("/status");
    assert_eq!((&status["samples_late"], &status["samples_dropped_too_old"]), (&json!(1), &json!(1)));
}

#[test]
fn another_series_does_not_close_windows_but_silence_does() {
    let service = Running::start("storage: { type: none }");
    let epoch = send(&service, &[1.0], 1.0);
    let other = json!([{"timestamp": at(500.0), "service": "fast", "metrics": {"x": 1}}]);
    service.clock_at(20.0);
    let epoch = service.accept(&other).max(epoch);
    assert_eq!(finals(&one(&service, epoch)), [false]);
    // 30 s of silence: from then on the arrival clock counts, which is at 41 s, 10 s and 30 s behind the window's start.
    service.clock_at(41.0);
    until("the silent series' window is final", || (finals(&one(&service, epoch)) == [true]).then_some(()));
    assert_eq!(one(&service, epoch)["clock"], at(41.0));
    // The producer comes back with what it had buffered: all of it counts.
    let epoch = send(&service, &[2.0, 12.0, 22.0, 32.0], 1.0);
    assert_eq!(values(&one(&service, epoch)), [2.0, 1.0, 1.0, 1.0]);
}

#[test]
fn percentiles_are_exact_for_few_samples_and_bounded_for_many() {
    let service = Running::start("storage: { type: none }");
    let few: Vec<f64> = (0..60).map(|n| f64::from(n * n)).collect();
    let sent = few.iter().map(|v| json!({"timestamp": at(0.0), "service": "few", "metrics": {"m": v}}));
    let epoch = service.accept(&json!(sent.collect::<Vec<_>>()));
    let told = &series(&service, &format!("metric=m&func=p99&min_epoch={epoch}"))[0];
    assert_eq!((&told["error_bound"], values(told)), (&json!(0.0), vec![exact(&few, 0.99)]));

    let mut all = Vec::new();
    let mut epoch = 0;
    for round in 0..10 {
        let mut batch = Vec::new();
        for n in 0..1000_u64 {
            // Some thousand different values over nine decades, negative ones among them.
            let value = (((n + round * 1000) * 7919 % 10_007) as f64 / 1000.0).exp()
                * if n % 7 == 0 { -1.0 } else { 1.0 };
            all.push(value);
            batch.push(json!({"timestamp": at(n as f64 / 1000.0), "service": "s", "metrics": {"m": value}}));
        }
        epoch = service.accept(&json!(batch));
    }
    let many = series(&service, &format!("metric=m&service=s&func=p1,p50,p99,p99.9&min_epoch={epoch}"));
    for (entry, q) in many.iter().zip([0.01, 0.5, 0.99, 0.999]) {
        let bound = entry["error_bound"].as_f64().expect("a number");
        assert!(bound > 0.0 && bound <= 0.01, "{bound}");
        let (found, expected) = (values(entry)[0], exact(&all, q));
        assert!(
            (found - expected).abs() <= bound * expected.abs() * 1.0001,
            "p{q}: {found}, expected {expected}"
        );
    }
}

/// By linear interpolation at rank `q (n - 1)`, as numpy does.
fn exact(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = q * (sorted.len() - 1) as f64;
    let low = sorted[rank as usize];
    low + (sorted[(rank as usize + 1).min(sorted.len() - 1)] - low) * rank.fract()
}
