//! The whole service behind its embedded bus, with a publisher of libzmq that recomputes what it is told.
//!
//! Needs: real servers
//!
//! More messages than in this run: `PLANTD_TEST_MESSAGES=200000 cargo test --test service_bus`.

use std::process::{Command, Output};

use serde_json::json;

#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "service/running.rs"]
mod running;

use running::{Running, resident_bytes, until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/publish.py");

/// Runs the script; `None` where pyzmq is missing and nobody insists.
fn publish(arguments: &[&str]) -> Option<Output> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_zmq = Command::new(&python).args(["-c", "import zmq"]).output();
    if !has_zmq.is_ok_and(|output| output.status.success()) {
        let advice = "these tests need pyzmq: install python3-zmq (Debian) or `pip install pyzmq`";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{advice}");
        eprintln!("SKIPPED: {advice}");
        return None;
    }
    let output = Command::new(&python).arg(SCRIPT).args(arguments).output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output)
}

fn check(service: &Running, count: usize) -> Option<Output> {
    let (frontend, api) = (format!("tcp://{}", service.frontend), format!("http://{}", service.http));
    publish(&["check", &frontend, &api, &count.to_string()])
}

#[test]
fn every_message_counts_and_every_window_agrees_with_python() {
    let service = Running::start_live("storage: { type: none }");
    let count =
        std::env::var("PLANTD_TEST_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let Some(output) = check(&service, count) else { return };
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let status = service.json("/status");
    assert_eq!(status["metrics_processed"], count);
    assert_eq!(status["samples_processed"], count * 7);
    assert_eq!(status["samples_rejected"], 0);
    assert_eq!(status["bus"]["messages"], count);
    assert_eq!(status["bus"]["embedded_dropped"], 0, "{status}");
    assert_eq!(status["series"], 7000);
}

#[test]
fn what_nobody_should_send_is_counted_and_the_service_goes_on() {
    let service = Running::start_live("storage: { type: none }");
    let Some(_) = check(&service, 2000) else { return };
    let before = resident_bytes();
    let output =
        publish(&["hostile", &format!("tcp://{}", service.frontend)]).expect("pyzmq was there just now");
    let payloads: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    until("each payload is turned away", || {
        let rejected = service.json("/api/v1/rejected");
        (rejected["total"].as_u64() >= Some(payloads)).then_some(())
    });
    until("three peers with 100 MB are closed", || {
        let bus = service.json("/status")["bus"].clone();
        (bus["embedded_oversize_closes"].as_u64() >= Some(3)).then_some(())
    });
    let last = service.json("/api/v1/rejected?limit=1");
    assert_eq!(last["rejected"][0]["source"], "bus");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes");
    check(&service, 2000);
    assert_eq!(service.json("/health"), json!({"status": "healthy"}));
    let exposed = service.get("/metrics").text();
    assert!(exposed.contains("plantd_metric_bus_embedded_oversize_closes_total 3\n"), "{exposed}");
}
