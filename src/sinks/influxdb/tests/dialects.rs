//! Requests of each dialect as they come over the wire.

use operators::sample::HOUR;
use serde_json::{Value, json};

use super::{NOON, asked, message, one_x, plain, sink, statement, unpacked};
use crate::sinks::influxdb::{Api, InfluxConfig, InfluxSink, Precision};
use crate::sinks::target::Auth;
use crate::sinks::target::fake::{FakeServer, Reply};
use crate::sinks::{Sink, SinkError};

const SHOWN: &str = r#"{"results":[{"series":[{"columns":["name","duration","shardGroupDuration","replicaN","default"],
    "values":[["autogen","0s","168h0m0s",1,false],["plantd","OURS","24h0m0s",1,true]]}]}]}"#;

/// What a 1.x server is asked before the first write, when it shows these policies.
fn statements_of_1(retention_ns: Option<i64>, shown: &'static str) -> (Vec<String>, String) {
    let server = FakeServer::start(move |request| match request.path() {
        "/ping" => Reply::status("204 No Content").and("X-Influxdb-Version", "1.6.7"),
        path if !path.starts_with("/query") => Reply::status("204 No Content"),
        _ if statement(request).starts_with("SHOW") => Reply::text("200 OK", shown),
        _ => Reply::text("200 OK", r#"{"results":[{"statement_id":0}]}"#),
    });
    let mut sink = sink(&server, |config| {
        config.database = "a\"b".into();
        config.retention_ns = retention_ns;
    });
    sink.write(&[plain(1.0)]).unwrap();
    sink.write(&[plain(1.0)]).unwrap();
    let mut requests = asked(&server);
    let write = requests.pop().unwrap();
    assert_eq!(requests.pop().unwrap().line, write.line, "asked once");
    (requests.iter().map(statement).collect(), write.line)
}

#[test]
fn one_x_is_asked_for_the_database_first() {
    const MAKE: &str = "CREATE DATABASE \"a\\\"b\"";
    const SHOW: &str = "SHOW RETENTION POLICIES ON \"a\\\"b\"";
    const NONE: &str = r#"{"results":[{"series":[{"columns":["name","duration","default"],"values":[["autogen","0s",true]]}]}]}"#;
    const OTHER: &str = r#"{"results":[{"series":[{"columns":["name","duration","default"],"values":[["plantd","1h0m0s",true]]}]}]}"#;
    const NOT_DEFAULT: &str = r#"{"results":[{"series":[{"columns":["name","duration","default"],"values":[["plantd","720h0m0s",false]]}]}]}"#;
    let month = Some(30 * 24 * HOUR);
    let same: &'static str = SHOWN.replace("OURS", "720h0m0s").leak();
    let set = |verb: &str, tail: &str| {
        format!("{verb} RETENTION POLICY \"plantd\" ON \"a\\\"b\" DURATION {tail} DEFAULT")
    };
    for (retention_ns, shown, expect, policy) in [
        (None, NONE, None, ""),
        (None, same, None, "&rp=plantd"),
        (month, same, None, "&rp=plantd"),
        (month, NONE, Some(set("CREATE", "2592000s REPLICATION 1 SHARD DURATION 24h")), "&rp=plantd"),
        (month, OTHER, Some(set("ALTER", "2592000s SHARD DURATION 24h")), "&rp=plantd"),
        (month, NOT_DEFAULT, Some(set("ALTER", "2592000s SHARD DURATION 24h")), "&rp=plantd"),
        (Some(1), NONE, Some(set("CREATE", "3600s REPLICATION 1 SHARD DURATION 1h")), "&rp=plantd"),
    ] {
        let (statements, write) = statements_of_1(retention_ns, shown);
        let expect: Vec<String> = [MAKE.into(), SHOW.into()].into_iter().chain(expect).collect();
        assert_eq!(statements, expect, "{retention_ns:?} {shown}");
        assert_eq!(write, format!("POST /write?db=a%22b&precision=ms{policy} HTTP/1.1"));
    }
}

#[test]
fn one_x_gets_lines_packed_or_plain() {
    let line = "system_metrics,host=h cpu=45.2 1704110400123456\n";
    for gzip in [false, true] {
        let server = one_x(|_| Reply::status("204 No Content"));
        let mut sink = sink(&server, |config| {
            config.gzip = gzip;
            config.precision = Precision::Microseconds;
            config.auth = Auth::Basic { username: "plantd".into(), password: "password".into() };
        });
        sink.write(&[plain(45.2), plain(45.2)]).unwrap();
        let write = asked(&server).pop().unwrap();
        assert_eq!(write.line, "POST /write?db=plantd_metrics&precision=u HTTP/1.1");
        assert_eq!(write.header("authorization"), Some("Basic cGxhbnRkOnBhc3N3b3Jk"));
        assert_eq!(write.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(write.header("content-encoding"), gzip.then_some("gzip"));
        let text = if gzip { unpacked(&write.body) } else { write.text() };
        assert_eq!(text, line.repeat(2));
    }
}

/// The write is the one that crate influxdb2 0.5.2 sends of the same sample to the same bucket, recorded.
#[test]
fn two_x_gets_what_the_client_of_others_sends() {
    let server = FakeServer::start(|request| match request.path() {
        path if path.starts_with("/api/v2/write") => Reply::status("204 No Content"),
        _ => Reply::text(
            "200 OK",
            r#"{"buckets": [{"id": "1", "name": "plantd_metrics", "retentionRules": []}]}"#,
        ),
    });
    let mut sink = sink(&server, |config| {
        config.api = Api::V2;
        config.org = Some("plantd org".into());
        config.auth = Auth::Token("tok:en".into());
    });
    let sample = [("cpu_usage_percent", 45.2), ("memory usage,b=", 1_073_741_824.0)];
    sink.write(&[message(NOON, "system", &[("zone", "eu"), ("host", "server 01,=\"x")], &sample)]).unwrap();
    let write = asked(&server).pop().unwrap();
    // There a blank of a query is a plus.
    let path = "/api/v2/write?bucket=plantd_metrics&precision=ms&org=plantd%20org";
    assert_eq!(write.line, format!("POST {path} HTTP/1.1"));
    assert_eq!(write.header("authorization"), Some("Token tok:en"));
    let recorded = "system_metrics,host=server\\ 01\\,\\=\"x,zone=eu \
                    cpu_usage_percent=45.2,memory\\ usage\\,b\\==1073741824 1704110400123\n";
    assert_eq!(write.text(), recorded);
}

/// Requests after which the first write of 2.x comes, with their bodies.
fn setup_of_2(listed: Reply, made: Reply) -> Vec<(String, Value)> {
    let server = FakeServer::start(move |request| match request.line.split(['?', ' ']).nth(1) {
        Some("/ping") => Reply::status("204 No Content").and("X-Influxdb-Version", "v2.7.1"),
        Some("/api/v2/write") => Reply::status("204 No Content"),
        Some("/api/v2/orgs") => Reply::text("200 OK", r#"{"orgs": [{"id": "0a", "name": "o"}]}"#),
        _ if request.line.starts_with("GET") => listed.clone(),
        _ => made.clone(),
    });
    let mut sink = sink(&server, |config| {
        config.org = Some("o".into());
        config.bucket = Some("b".into());
        config.retention_ns = Some(48 * HOUR);
    });
    sink.write(&[plain(1.0)]).unwrap();
    let requests = asked(&server).into_iter();
    let said = |body: &[u8]| serde_json::from_slice(body).unwrap_or(Value::Null);
    requests.map(|request| (request.line.replace(" HTTP/1.1", ""), said(&request.body))).collect()
}

#[test]
fn two_x_is_asked_for_the_bucket_first() {
    let list = ("GET /api/v2/buckets?name=b&org=o".to_string(), Value::Null);
    let orgs = ("GET /api/v2/orgs?org=o".to_string(), Value::Null);
    let write = ("POST /api/v2/write?bucket=b&precision=ms&org=o".to_string(), Value::Null);
    let rules = json!([{"type": "expire", "everySeconds": 172_800}]);
    let make =
        ("POST /api/v2/buckets".to_string(), json!({"orgID": "0a", "name": "b", "retentionRules": rules}));
    let change = ("PATCH /api/v2/buckets/7f".to_string(), json!({"retentionRules": rules}));
    let ok = || Reply::text("200 OK", r#"{"id": "7f", "name": "b"}"#);
    let listed = |rules: &str| {
        let bucket = format!(r#"{{"buckets": [{{"id": "7f", "name": "b", "retentionRules": [{rules}]}}]}}"#);
        Reply::text("200 OK", &bucket)
    };
    let kept = r#"{"type": "expire", "everySeconds": 172800}"#;
    let none = || Reply::text("200 OK", r#"{"buckets": []}"#);
    let denied = || Reply::text("403 Forbidden", r#"{"code": "forbidden", "message": "no"}"#);
    let not_found =
        || Reply::text("404 Not Found", r#"{"code": "not found", "message": "bucket \"b\" not found"}"#);
    for (reply, made, expect) in [
        (listed(kept), ok(), vec![&list, &write]),
        (listed(""), ok(), vec![&list, &change, &write]),
        (listed(""), denied(), vec![&list, &change, &write]),
        (none(), ok(), vec![&list, &orgs, &make, &write]),
        (not_found(), denied(), vec![&list, &orgs, &make, &write]),
    ] {
        let requests = setup_of_2(reply, made);
        assert_eq!(requests.iter().collect::<Vec<_>>(), expect);
    }
}

#[test]
fn three_gets_the_database_with_its_retention() {
    for made in [Reply::status("200 OK"), Reply::status("409 Conflict"), Reply::status("403 Forbidden")] {
        let server = FakeServer::start(move |request| match request.path() {
            "/ping" => Reply::text("200 OK", r#"{"version": "3.4.1", "revision": "x"}"#),
            "/api/v3/configure/database" => made.clone(),
            _ => Reply::status("204 No Content"),
        });
        let mut sink = sink(&server, |config| {
            config.auth = Auth::Token("t".into());
            config.retention_ns = Some(36 * HOUR + 1);
        });
        sink.write(&[plain(1.0)]).unwrap();
        let requests = asked(&server);
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].text(), r#"{"db":"plantd_metrics","retention_period":"37h"}"#);
        assert_eq!(requests[1].line, "POST /api/v2/write?bucket=plantd_metrics&precision=ms HTTP/1.1");
        assert_eq!(sink.status().database.as_deref(), Some("plantd_metrics"));
    }
}

#[test]
fn the_dialect_is_what_the_server_says_or_else_what_the_settings_look_like() {
    let none = || Reply::status("204 No Content");
    let version = |version: &str| none().and("X-Influxdb-Version", version);
    let org = |config: &mut InfluxConfig| config.org = Some("o".into());
    let token = |config: &mut InfluxConfig| config.auth = Auth::Bearer("t".into());
    let plain_config = |_: &mut InfluxConfig| {};
    for (ping, change, path) in [
        (version("1.8.10"), &org as &dyn Fn(&mut InfluxConfig), "/write"),
        (version("v2.7.11"), &org, "/api/v2/write"),
        (version("3.1.0"), &plain_config, "/api/v2/write"),
        (Reply::status("401 Unauthorized"), &token, "/api/v2/write"),
        (Reply::status("404 Not Found"), &org, "/api/v2/write"),
        (none(), &plain_config, "/write"),
    ] {
        let server = FakeServer::start(move |request| match request.path() {
            "/ping" => ping.clone(),
            path if path.contains("write") => Reply::status("204 No Content"),
            _ => Reply::text("200 OK", "{}"),
        });
        let mut sink = sink(&server, change);
        sink.write(&[plain(1.0)]).unwrap();
        let write = asked(&server).pop().unwrap();
        assert!(write.path().starts_with(&format!("{path}?")), "{}", write.line);
    }
    let server = FakeServer::start(|_| Reply::status("204 No Content").and("X-Influxdb-Version", "2.0"));
    let error = sink(&server, |_| {}).write(&[plain(1.0)]).unwrap_err();
    assert!(matches!(&error, SinkError::Retry { why, .. } if why.starts_with("storage.org: ")), "{error}");
}

#[test]
fn settings_that_cannot_be_right() {
    for (change, expect) in [
        ((|c| c.url = "influx:8086".into()) as fn(&mut InfluxConfig), "storage.url: "),
        (|c| c.measurement = "{host}".into(), "storage.measurement: "),
        (|c| c.database = String::new(), "storage.database: "),
        (|c| c.bucket = Some(String::new()), "storage.bucket: "),
        (|c| c.api = Api::V2, "storage.org: "),
        (|c| c.ca_file = Some("/none".into()), "storage.ca_file: "),
    ] {
        let mut config = InfluxConfig::default();
        change(&mut config);
        let error = InfluxSink::open(config).err().unwrap();
        assert!(matches!(&error, SinkError::Unusable { why } if why.starts_with(expect)), "{error}");
    }
}
