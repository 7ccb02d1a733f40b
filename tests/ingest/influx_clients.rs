//! The libraries `influxdb` (1.x) and `influxdb-client` (2.x).

use std::process::Command;

use serde_json::{Value, json};

use crate::running::{Running, at};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ingest/influx_clients.py");

/// What the clients said, by what they did.
fn run(service: &Running) -> Vec<Value> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output =
        Command::new(&python).arg(SCRIPT).arg(service.http.to_string()).output().expect("Python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "needs the modules of scripts/requirements.txt: {errors}");
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn influxdbs_own_clients_write_to_us() {
    let service = Running::start("storage: { type: none }");
    let said = run(&service);
    let of = |what: &str| {
        said.iter().find(|said| said["what"] == what).unwrap_or_else(|| panic!("no {what}: {said:?}"))
    };
    for what in ["v1", "v1 gzip", "v1 line"] {
        assert_eq!(of(what)["said"], true);
    }
    assert!(of("v1 ping")["said"].as_str().is_some_and(|version| version.starts_with("1.8")));
    assert_eq!(of("v2 ping")["said"], true);
    assert_eq!(of("v2 ping")["version"], of("v1 ping")["said"]);
    assert_eq!(of("v1 bad")["code"], 400);
    let error = "partial write: unable to parse 'line v=x 1': invalid boolean dropped=1";
    assert_eq!(of("v1 bad")["said"], error);
    assert_eq!(of("v2 bad")["code"], 400);
    assert_eq!(of("v2 bad")["said"], json!({ "code": "invalid", "message": error }));
    assert_eq!(
        of("v2 batch")["errors"],
        json!([400]),
        "the body with the bad line, and it is not sent again"
    );

    let held = |client: &str| {
        service.json(&format!("/api/v1/metrics?limit=1000&tag.client={client}"))["metrics"].clone()
    };
    for client in ["v1", "v1%20gzip", "v2", "v2%20gzip"] {
        let messages = held(client);
        let messages = messages.as_array().expect("a list");
        assert_eq!(messages.len(), 3, "{client}: {messages:?}");
        for (second, message) in messages.iter().rev().enumerate() {
            let metrics = &message["metrics"];
            assert_eq!(message["service"], "a measurement, odd=yes");
            assert_eq!(message["timestamp"], at(second as f64));
            assert_eq!(message["tags"]["host name"], "h,1=\"x\"");
            assert_eq!(metrics["float"], second as f64 + 0.1);
            assert_eq!((metrics["int"].as_f64(), metrics["up"].as_f64()), (Some(second as f64), Some(1.0)));
            assert!(metrics.get("te,xt").is_none(), "text is no sample");
            if client.starts_with("v1") {
                assert_eq!((&metrics["odd key"], &message["tags"]["zone"]), (&json!(-1e-7), &json!("é")));
            }
        }
    }
    for (client, count) in [("v1%20line", 1), ("v1%20bad", 1), ("v2%20bad", 1), ("v2%20batch", 250)] {
        assert_eq!(held(client).as_array().map(Vec::len), Some(count), "{client}");
    }
    let counts = service.json("/api/v1/rejected")["counts"].clone();
    assert_eq!((&counts["text_field"], &counts["not_a_number"]), (&json!(4 * 3), &json!(3)), "{counts}");
}
