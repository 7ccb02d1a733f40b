//! Alerts end to end: rules from YAML, samples over HTTP in event times of the past, a webhook that records.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use crate::running::{Running, at, names, until};

/// A receiver on a port of its own that takes everything; it ends with the process.
pub struct Receiver {
    pub address: SocketAddr,
    alerts: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    pub fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let alerts = Arc::new(Mutex::new(Vec::new()));
        let record = alerts.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let Some(body) = read_body(&mut stream) else { continue };
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                assert_eq!(names(&body), ["alerts"]);
                record
                    .lock()
                    .expect("nobody panics")
                    .extend(body["alerts"].as_array().expect("a list").clone());
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            }
        });
        Receiver { address, alerts }
    }

    /// The first `count` alerts, once they have come.
    pub fn wait(&self, count: usize) -> Vec<Value> {
        until("alerts arrive", || {
            let alerts = self.alerts.lock().expect("nobody panics");
            (alerts.len() >= count).then(|| alerts.clone())
        })
    }
}

fn read_body(stream: &mut std::net::TcpStream) -> Option<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

fn settings(webhook: &str) -> String {
    format!(
        r#"
storage: {{ type: none }}
alerts:
  webhook_url: "http://{webhook}/api/v1/alerts"
  rules:
    - name: "high_cpu_usage"
      metric: "cpu_usage"
      threshold: 80
      operator: ">"
      duration: "30s"
      severity: "warning"
      message: "CPU usage is above 80%"
      service: "org.plantd.*"
      tags: {{ environment: "production" }}
    - name: "service_down"
      metric: "uptime_seconds"
      threshold: 60
      operator: "<"
      duration: "30s"
      severity: "critical"
      message: "Service appears to be down"
"#
    )
}

fn message(t: f64, service: &str, environment: &str, cpu: f64) -> Value {
    let tags = json!({"environment": environment, "host": "broker-01"});
    json!({"timestamp": at(t), "service": service, "metrics": {"cpu_usage_percent": cpu}, "tags": tags})
}

#[test]
fn a_rule_fires_at_the_start_of_its_breach_and_its_duration() {
    let receiver = Receiver::start();
    let service = Running::start(&settings(&receiver.address.to_string()));
    // Ten minutes of a day ago within milliseconds. The breach begins at 7.123 s, at first one that does not last.
    let mut batch = vec![message(-600.0, "org.plantd.Broker", "production", 95.0)];
    batch.push(message(-580.0, "org.plantd.Broker", "production", 20.0));
    for (t, cpu) in [(7.123, 85.2), (20.0, 90.0), (37.122, 91.5), (41.0, 99.0), (60.5, 80.0), (70.0, 10.0)] {
        batch.push(message(t, "org.plantd.Broker", "production", cpu));
        batch.push(message(t, "org.plantd.Broker", "test", cpu));
        batch.push(message(t, "elsewhere", "production", cpu));
    }
    let began = Instant::now();
    service.clock_at(80.0);
    service.accept(&json!(batch));
    let alerts = receiver.wait(2);
    assert!(began.elapsed().as_secs() < 20, "a replay does not wait for the wall clock");
    let fields = [
        "id",
        "message",
        "metric",
        "name",
        "service",
        "severity",
        "started_at",
        "status",
        "tags",
        "threshold",
        "timestamp",
        "value",
    ];
    for (alert, (status, timestamp, value)) in
        alerts.iter().zip([("firing", 37.123, 91.5), ("resolved", 60.5, 99.0)])
    {
        assert_eq!(names(alert), fields);
        assert_eq!(alert["name"], "high_cpu_usage");
        assert_eq!(alert["service"], "org.plantd.Broker");
        assert_eq!(alert["severity"], "warning");
        assert_eq!(alert["message"], "CPU usage is above 80%");
        assert_eq!(alert["threshold"], 80);
        assert_eq!(alert["tags"], json!({"environment": "production", "host": "broker-01"}));
        assert_eq!(alert["metric"], "cpu_usage_percent");
        assert_eq!(alert["status"], status);
        assert_eq!(alert["started_at"], at(7.123));
        assert_eq!(alert["timestamp"], at(timestamp), "to the millisecond");
        assert_eq!(alert["value"], value);
        assert_eq!(alert["id"], alerts[0]["id"]);
    }
    // The others never matched, and the first breach ended in time.
    let metrics = service.get("/metrics").text();
    for (kind, count) in [("pending", 2), ("cancelled", 1), ("firing", 1), ("resolved", 1)] {
        let line = format!("plantd_metric_alert_transitions_total{{kind=\"{kind}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} not in {metrics}");
    }
    let none = json!({"count": 0, "alerts": [], "status": "success", "data": {"alerts": []}});
    assert_eq!(service.json("/api/v1/alerts"), none);
    assert_eq!(receiver.wait(2).len(), 2);
}

#[test]
fn pending_and_firing_alerts_are_listed() {
    let receiver = Receiver::start();
    let service = Running::start(&settings(&receiver.address.to_string()));
    let up = |t: f64, seconds: f64| json!({"timestamp": at(t), "service": "s", "metrics": {"uptime_seconds": seconds}});
    service.accept(&json!([up(0.0, 1.0), up(10.0, 11.0)]));
    let listed = |status: &str| {
        until(status, || {
            let list = service.json("/api/v1/alerts");
            (list["count"] == 1 && list["alerts"][0]["status"] == status).then(|| list["alerts"][0].clone())
        })
    };
    let pending = listed("pending");
    assert_eq!((&pending["started_at"], &pending["timestamp"]), (&json!(at(0.0)), &json!(at(0.0))));
    service.accept(&json!([up(31.0, 32.0)]));
    let firing = listed("firing");
    let expected = json!({
        "id": pending["id"], "name": "service_down", "service": "s", "metric": "uptime_seconds",
        "status": "firing", "severity": "critical", "message": "Service appears to be down", "value": 11.0,
        "operator": "<", "threshold": 60.0, "started_at": at(0.0), "timestamp": at(30.0), "tags": {},
    });
    assert_eq!(firing, expected);
    assert_eq!(service.json("/status")["alerts"], json!({"active": 1, "rules": 2}));
    service.accept(&json!([up(40.0, 61.0)]));
    until("it is resolved", || (service.json("/api/v1/alerts")["count"] == 0).then_some(()));
    assert_eq!(receiver.wait(2)[1]["timestamp"], at(40.0));
}

#[test]
fn a_receiver_that_is_down_slows_nothing() {
    // Bound and never accepting: connections hang until they time out.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let yaml = settings(&deaf.local_addr().expect("it is bound").to_string());
    let service = Running::start(&yaml);
    let began = Instant::now();
    let mut epoch = 0;
    for n in 0..200 {
        let t = f64::from(n) * 2.0;
        let batch: Vec<Value> = (0..50)
            .map(|host| {
                let mut message =
                    message(t, "org.plantd.Broker", "production", if n % 40 < 20 { 90.0 } else { 1.0 });
                message["tags"]["host"] = json!(format!("h{host}"));
                message
            })
            .collect();
        epoch = service.accept(&json!(batch));
    }
    let query =
        format!("/api/v1/metrics/aggregate?metric=cpu_usage&func=count&by=&interval=10m&min_epoch={epoch}");
    assert_eq!(service.json(&query)["series"][0]["points"][0]["value"], 10_000.0);
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    let metrics = service.get("/metrics").text();
    assert!(metrics.contains("plantd_metric_alert_transitions_total{kind=\"firing\"} 250\n"), "{metrics}");
}
