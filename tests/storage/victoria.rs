//! VictoriaMetrics, which takes line protocol by the requests of 1.x and of 2.x, and gives it back by its export.

use std::collections::BTreeMap;
use std::sync::Arc;

use operators::sample::{MS, SECOND};
use operators::series::Target;
use plantd_metric::message::Message;
use plantd_metric::sinks::influxdb::{Api, InfluxConfig, InfluxSink};
use plantd_metric::sinks::target::Auth;
use plantd_metric::sinks::{Query, Sink};
use serde_json::Value;

use crate::http::{FORM, ask, form};
use crate::odd::recent;
use crate::server::{Program, Server, until};

const VICTORIA: Program = Program { name: "victoria-metrics", package: "victoria-metrics" };

/// Labels without `db`, and values by time in milliseconds.
type Exported = BTreeMap<BTreeMap<String, String>, BTreeMap<i64, f64>>;

fn exported(server: &Server) -> Exported {
    let port = server.port();
    assert_eq!(ask(port, "GET", "/internal/force_flush", &[], &[]).0, 200);
    let (status, lines) =
        ask(port, "POST", "/api/v1/export", &[FORM], &form(&[("match[]", "{__name__!=\"\"}")]));
    assert_eq!(status, 200, "{lines}");
    let mut found = Exported::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let labels = line["metric"].as_object().unwrap().iter().filter(|(name, _)| *name != "db");
        let labels =
            labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_string())).collect();
        let times = line["timestamps"].as_array().unwrap().iter().map(|time| time.as_i64().unwrap());
        let values = line["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
        found.entry(labels).or_default().extend(times.zip(values));
    }
    found
}

#[test]
fn both_dialects_store_the_same() {
    for (api, auth) in [
        (Api::V1, Auth::None),
        (Api::V2, Auth::Token("any".into())),
        (Api::V3, Auth::Bearer("any".into())),
        (Api::Auto, Auth::None),
    ] {
        let server = Server::start(VICTORIA, 1, |directory, ports| {
            vec![
                format!("-storageDataPath={}", directory.join("data").display()),
                format!("-httpListenAddr=127.0.0.1:{}", ports[0]),
                "-retentionPeriod=1y".into(),
            ]
        });
        let (messages, expect) = regular();
        let mut sink = InfluxSink::open(InfluxConfig {
            url: server.url(),
            api,
            auth,
            org: (api == Api::V2).then(|| "plantd".into()),
            retention_ns: Some(30 * 86_400 * SECOND),
            ..InfluxConfig::default()
        })
        .unwrap();
        for part in messages.chunks(900) {
            sink.write(part).unwrap();
        }
        sink.flush(1).unwrap();
        assert_eq!(sink.status().status, "connected", "{api:?}");
        let found = until("everything is stored", || {
            let found = exported(&server);
            let count = |all: &Exported| all.values().map(BTreeMap::len).sum::<usize>();
            (count(&found) == count(&expect)).then_some(found)
        });
        assert!(found == expect, "{api:?}");
        // It answers no InfluxQL, and is not taken for an empty database.
        if api == Api::V1 {
            let query = Query { service: Some("system".into()), ..Query::default() };
            let error = sink.reader().unwrap().read(&query).unwrap_err().to_string();
            assert!(error.contains("no InfluxQL is spoken here"), "{error}");
        }
    }
}

/// 20,000 samples of 50 series, whose values VictoriaMetrics' decimal format keeps exactly.
fn regular() -> (Vec<Message>, Exported) {
    let begin_ns = recent();
    let mut messages = Vec::new();
    let mut expect = Exported::new();
    for at in 0..400_i64 {
        for number in 0..10 {
            let host = format!("server {number:02},\"ü=");
            let target = Arc::new(Target::new("system", [("host", host.as_str())]));
            let time_ns = begin_ns + at * SECOND + number * MS;
            let mut message = Message { time_ns, target, metrics: Vec::new() };
            for metric in 0..5_i64 {
                let value = (at * 7 + number * 1_000 + metric) as f64 * 0.25;
                message.metrics.push((format!("m{metric}").into(), value));
                let labels = [("__name__", format!("system_metrics_m{metric}")), ("host", host.clone())];
                let labels = labels.map(|(name, value)| (name.to_string(), value)).into();
                expect.entry(labels).or_default().insert(time_ns / MS, value);
            }
            messages.push(message);
        }
    }
    (messages, expect)
}
