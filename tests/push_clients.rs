//! Real clients that push: the OpenTelemetry SDK for Python, and the StatsD clients `statsd` and `datadog`.
//!
//! Needs: real servers

use std::process::Command;

#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "service/running.rs"]
mod running;

use running::Running;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/push.py");

/// Runs the script; where its modules are missing and nobody insists, nothing is tested.
fn push(modules: &str, arguments: &[&str]) {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_modules = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if !has_modules.is_ok_and(|output| output.status.success()) {
        let advice = format!("this test needs the Python modules {modules}: see scripts/requirements.txt");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{advice}");
        eprintln!("SKIPPED: {advice}");
        return;
    }
    let output = Command::new(&python).arg(SCRIPT).args(arguments).output().expect("Python starts");
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn the_opentelemetry_sdk_exports_every_kind() {
    let service = Running::start_live("storage: { type: none }");
    push("opentelemetry.exporter.otlp.proto.http", &["otlp", &format!("http://{}", service.http)]);
}

#[test]
fn statsd_and_dogstatsd_clients_are_understood() {
    let yaml =
        "storage: { type: none }\nstatsd: { enabled: true, listen: '127.0.0.1:0', flush_interval: 200ms }";
    let service = Running::start_live(yaml);
    let address = service.statsd.expect("it listens").to_string();
    push("statsd, datadog", &["statsd", &format!("http://{}", service.http), &address]);
}
