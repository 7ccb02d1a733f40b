//! The sink against a server that answers by script.

use std::sync::Arc;
use std::time::Duration;

use operators::sample::MS;
use operators::series::Target as Series;
use parking_lot::Mutex;

use super::decode::{Decoded, decode_v1, decode_v2};
use super::names::Labels;
use super::*;
use crate::sinks::Query;
use crate::sinks::target::fake::{FakeServer, Reply, Request};

fn open(server: &FakeServer, config: PromConfig) -> PromSink {
    let config = PromConfig { url: Some(server.url()), ..config };
    PromSink::open(&server.url(), config).unwrap()
}

fn v1() -> PromConfig {
    PromConfig { protocol: Protocol::V1, ..PromConfig::default() }
}

fn message(time_ms: i64, metrics: &[(&str, f64)]) -> Message {
    let metrics = metrics.iter().map(|(name, value)| ((*name).into(), *value)).collect();
    Message { time_ns: time_ms * MS, target: Arc::new(Series::new("s", [])), metrics }
}

fn unpacked(request: &Request) -> Vec<u8> {
    snap::raw::Decoder::new().decompress_vec(&request.body).unwrap()
}

fn is_v2(request: &Request) -> bool {
    request.header("content-type").unwrap().contains("v2.Request")
}

fn decoded(request: &Request) -> Decoded {
    if is_v2(request) { decode_v2(&unpacked(request)) } else { decode_v1(&unpacked(request)) }
}

/// Metric names and times of a request, in its order.
fn said(request: &Request) -> Vec<(String, i64)> {
    let name = |labels: &Labels| labels.iter().find(|(name, _)| &**name == NAME).unwrap().1.to_string();
    decoded(request)
        .iter()
        .flat_map(|(labels, samples)| samples.iter().map(|s| (name(labels), s.0)))
        .collect()
}

fn written(count: usize) -> Reply {
    Reply::status("204 No Content").and("X-Prometheus-Remote-Write-Samples-Written", &count.to_string())
}

#[test]
fn a_request_is_as_the_specifications_want_it() {
    for (protocol, content_type, version) in [
        (Protocol::V1, "application/x-protobuf", "0.1.0"),
        (Protocol::V2, "application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    ] {
        let server = FakeServer::start(|_| written(2));
        let auth = Auth::Bearer("secret".into());
        let headers = vec![("X-Scope-OrgID".to_string(), "t".to_string())];
        let mut sink = open(&server, PromConfig { protocol, auth, headers, ..PromConfig::default() });
        sink.write(&[message(7, &[("b.c", 1.5), ("a", -0.0)])]).unwrap();
        let request = server.request();
        assert_eq!(request.line, "POST /api/v1/write HTTP/1.1");
        for (name, value) in [
            ("content-encoding", "snappy"),
            ("content-type", content_type),
            ("x-prometheus-remote-write-version", version),
            ("authorization", "Bearer secret"),
            ("x-scope-orgid", "t"),
        ] {
            assert_eq!(request.header(name), Some(value), "{name}");
        }
        assert!(request.header("user-agent").unwrap().starts_with("plantd-metric/"));
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect()
        };
        let original = r#"{"__name__":"b.c"}"#;
        let first =
            labels(&[(NAME, "b_c"), ("job", "plantd"), ("original_names", original), ("service", "s")]);
        let second = labels(&[(NAME, "a"), ("job", "plantd"), ("service", "s")]);
        let expected = vec![(first, vec![(7, 1.5_f64.to_bits())]), (second, vec![(7, (-0.0_f64).to_bits())])];
        assert_eq!(decoded(&request), expected);
        assert_eq!(sink.counts(), PromCounts { requests: 1, ..PromCounts::default() });
    }
}

#[test]
fn addresses_are_completed() {
    for (url, write, base) in [
        ("http://h:9090", "http://h:9090/api/v1/write", Some("http://h:9090")),
        ("http://h:9090/", "http://h:9090/api/v1/write", Some("http://h:9090")),
        ("http://h?x=y", "http://h/api/v1/write?x=y", Some("http://h")),
        ("http://h/prom/api/v1/write", "http://h/prom/api/v1/write", Some("http://h/prom")),
        ("http://h/api/v1/push?x=/api/v1/write", "http://h/api/v1/push?x=/api/v1/write", None),
    ] {
        assert_eq!((write_url(url).as_str(), base_of(&write_url(url)).as_deref()), (write, base), "{url}");
    }
}

#[test]
fn what_can_not_be_right_is_said_at_the_start() {
    for (config, expected) in [
        (
            PromConfig { url: Some("localhost:9090".into()), ..PromConfig::default() },
            "storage.url: expected an address such as",
        ),
        (
            PromConfig { url: Some("http://h".into()), prefix: "a.b".into(), ..PromConfig::default() },
            "storage.prefix: expected letters, digits, '_' and ':', found \"a.b\"",
        ),
    ] {
        let error = super::open(config).err().unwrap();
        assert!(matches!(error, SinkError::Unusable { .. }));
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

/// Each receiver's answers to 2.0 and to 1.0, what is spoken after the first request, and how many requests that took.
#[test]
fn the_version_is_found_out_once() {
    type Answers = fn(bool) -> Reply;
    let cases: [(&str, Answers, Option<Protocol>, usize); 6] = [
        ("speaks both", |_| written(1), Some(Protocol::V2), 1),
        (
            "says 415",
            |v2| Reply::status(if v2 { "415 Unsupported Media Type" } else { "204 No Content" }),
            Some(Protocol::V1),
            2,
        ),
        ("stores nothing of 2.0 and says 204", |_| Reply::status("204 No Content"), Some(Protocol::V1), 2),
        (
            "calls it bad",
            |v2| Reply::status(if v2 { "400 Bad Request" } else { "200 OK" }),
            Some(Protocol::V1),
            2,
        ),
        ("is ill", |_| Reply::status("503 Service Unavailable"), None, 1),
        ("calls everything bad", |_| Reply::status("400 Bad Request"), None, 2),
    ];
    for (receiver, answers, speaks, requests) in cases {
        let server = FakeServer::start(move |request| answers(is_v2(request)));
        let mut sink = open(&server, PromConfig::default());
        let sent = sink.write(&[message(1, &[("a", 1.0)])]);
        assert_eq!(sent.is_ok(), speaks.is_some(), "{receiver}: {sent:?}");
        assert_eq!((sink.speaks(), server.requests().len()), (speaks, requests), "{receiver}");
        if speaks.is_some() {
            sink.write(&[message(2, &[("a", 1.0)])]).unwrap();
            let all = server.requests();
            assert_eq!(all.len(), requests + 1, "{receiver}");
            assert_eq!(is_v2(&all[requests]), speaks == Some(Protocol::V2), "{receiver}");
        }
    }
}

#[test]
fn a_receiver_that_no_longer_speaks_2_gets_1() {
    let mut first = true;
    let server = FakeServer::start(move |request| {
        if std::mem::take(&mut first) {
            return written(1);
        }
        Reply::status(if is_v2(request) { "415 Unsupported Media Type" } else { "204 No Content" })
    });
    let mut sink = open(&server, PromConfig::default());
    for time_ms in 1..=3 {
        sink.write(&[message(time_ms, &[("a", 1.0)])]).unwrap();
    }
    let versions: Vec<bool> = server.requests().iter().map(is_v2).collect();
    assert_eq!((versions, sink.speaks()), (vec![true, true, false, false], Some(Protocol::V1)));
}

#[test]
fn answers_mean_what_the_specifications_say() {
    let poison = |error: &SinkError| matches!(error, SinkError::Poison { .. });
    for (protocol, reply, is_poison, after_s, text) in [
        (Protocol::V1, Reply::text("400 Bad Request", "bad label"), true, None, "bad label"),
        (
            Protocol::V1,
            Reply::text("500 Internal Server Error", "too old sample\n"),
            true,
            None,
            "too old sample",
        ),
        (Protocol::V1, Reply::text("409 Conflict", "out of order sample"), true, None, "409"),
        (Protocol::V1, Reply::text("500 Internal Server Error", "disk full"), false, None, "disk full"),
        (Protocol::V1, Reply::status("429 Too Many Requests").and("retry-after", "7"), false, Some(7), "429"),
        (
            Protocol::V1,
            Reply::status("503 Service Unavailable").and("retry-after", "3"),
            false,
            Some(3),
            "503",
        ),
        (Protocol::V1, Reply::text("404 Not Found", "remote write receiver"), false, None, "404"),
        (Protocol::V2, Reply::status("204 No Content"), false, None, "set storage.protocol to auto or 1.0"),
        (Protocol::V2, written(0), true, None, "only 0 of 1 samples were written"),
        (Protocol::V2, Reply::text("400 Bad Request", "x"), true, None, "400: x"),
    ] {
        let shown = format!("{reply:?}");
        let server = FakeServer::start(move |_| reply.clone());
        // Nothing is read back, so that every request is a write.
        let config = PromConfig { protocol, ..PromConfig::default() };
        let url = format!("{}/push", server.url());
        let mut sink = PromSink::open(&url, config).unwrap();
        let error = sink.write(&[message(1, &[("a", 1.0)])]).unwrap_err();
        assert_eq!(poison(&error), is_poison, "{shown}: {error}");
        assert!(error.to_string().contains(text), "{shown}: {error}");
        if let SinkError::Retry { after, .. } = error {
            assert_eq!(after, after_s.map(Duration::from_secs), "{shown}");
        }
        assert_eq!(sink.status().status.starts_with("error: "), !is_poison, "{shown}");
        assert!(sink.reader().is_none(), "no address to read from is known");
    }
}

#[test]
fn a_write_that_failed_goes_on_where_it_failed() {
    let mut answers = 0;
    let server = FakeServer::start(move |_| {
        answers += 1;
        Reply::status(if answers == 3 { "503 Service Unavailable" } else { "204 No Content" })
    });
    let mut sink = open(&server, v1());
    let messages: Vec<Message> = (1..=4).map(|time_ms| message(time_ms, &[("a", time_ms as f64)])).collect();
    assert!(sink.write(&messages).is_err());
    assert!(sink.status().status.starts_with("error: "));
    sink.write(&messages).unwrap();
    assert_eq!(sink.status().status, "connected");
    let times: Vec<i64> = server.requests().iter().map(|request| said(request)[0].1).collect();
    assert_eq!(times, [1, 2, 3, 3, 4], "nothing older than the newest is sent");
}

/// Times in milliseconds and values.
type Stored = Vec<(i64, f64)>;

/// A receiver that takes nothing older than what it has, stores all of a request or none, and answers queries:
/// Prometheus without an out-of-order window.
fn in_order_receiver(stored: Stored) -> (FakeServer, Arc<Mutex<Stored>>) {
    let stored = Arc::new(Mutex::new(stored));
    let shared = Arc::clone(&stored);
    let server = FakeServer::start(move |request| {
        let mut stored = shared.lock();
        if request.path() == "/api/v1/query" {
            let values: Vec<String> =
                stored.iter().map(|(t, v)| format!("[{}.{:03},\"{v}\"]", t / 1000, t % 1000)).collect();
            let labels = r#"{"__name__":"a","job":"plantd","service":"s"}"#;
            let series = format!(r#"{{"metric":{labels},"values":[{}]}}"#, values.join(","));
            let data = format!(r#"{{"resultType":"matrix","result":[{series}]}}"#);
            return Reply::text("200 OK", &format!(r#"{{"status":"success","data":{data}}}"#));
        }
        let (time_ms, bits) = decoded(request)[0].1[0];
        let newest = stored.last().copied().unwrap_or((0, 0.0));
        if time_ms < newest.0 || (time_ms == newest.0 && bits != newest.1.to_bits()) {
            return Reply::text("400 Bad Request", "out of order sample\n");
        }
        if time_ms > newest.0 {
            stored.push((time_ms, f64::from_bits(bits)));
        }
        Reply::status("204 No Content")
    });
    (server, stored)
}

#[test]
fn what_is_stored_already_is_not_refused() {
    let (server, stored) = in_order_receiver(vec![]);
    let messages: Vec<Message> =
        (1..=5).map(|time_ms| message(time_ms, &[("a", time_ms as f64 / 3.0)])).collect();
    open(&server, v1()).write(&messages[..4]).unwrap();
    // After a crash: a sink that remembers nothing is given the same again, and one more.
    let mut sink = open(&server, v1());
    sink.write(&messages).unwrap();
    let expected: Vec<(i64, f64)> = (1..=5).map(|t| (t, t as f64 / 3.0)).collect();
    assert_eq!(*stored.lock(), expected);
    assert_eq!(sink.counts().stored_before, 3, "the newest is taken again without a word");
}

#[test]
fn what_is_refused_and_not_stored_is_poison() {
    let (server, stored) = in_order_receiver(vec![(10, 1.0), (20, 2.0)]);
    let mut sink = open(&server, v1());
    for (time_ms, value) in [(5, 1.0), (10, 1.5), (20, 2.5)] {
        let error = sink.write(&[message(time_ms, &[("a", value)])]).unwrap_err();
        assert!(
            matches!(&error, SinkError::Poison { why } if why.contains("out of order sample")),
            "{error}"
        );
    }
    assert_eq!((stored.lock().len(), sink.counts().stored_before), (2, 0));
    assert_eq!(sink.status().status, "connected", "the receiver is not ill");
}

/// The delivery halves what is refused, until it has the sample.
#[test]
fn halving_finds_the_poison_and_the_others_are_stored() {
    let (server, stored) = in_order_receiver(vec![(100, 0.0)]);
    let mut sink = open(&server, v1());
    let messages: Vec<Message> =
        (0..16).map(|n| message(if n == 9 { 50 } else { 101 + n }, &[("a", n as f64)])).collect();
    let mut refused = Vec::new();
    let mut rest = vec![messages.as_slice()];
    while let Some(part) = rest.pop() {
        match (sink.write(part), part) {
            (Ok(()), _) => {}
            (Err(SinkError::Poison { .. }), [one]) => refused.push(one.metrics[0].1),
            (Err(SinkError::Poison { .. }), several) => {
                let (first, second) = several.split_at(several.len() / 2);
                rest.extend([second, first]);
            }
            (Err(error), _) => panic!("{error}"),
        }
    }
    assert_eq!(refused, [9.0]);
    assert_eq!(stored.lock().len(), 1 + 15);
}

#[test]
fn readers_get_messages_newest_first_and_only_what_they_asked_for() {
    let server = FakeServer::start(|request| {
        let text = request.text();
        let result = if text.contains("last_over_time") {
            r#"{"metric":{},"value":[1,"5"]}"#.to_string()
        } else {
            let series = |labels: &str, values: &str| format!(r#"{{"metric":{labels},"values":[{values}]}}"#);
            [
                series(
                    r#"{"__name__":"b_c","job":"plantd","original_names":"{\"__name__\":\"b.c\"}","service":"s"}"#,
                    r#"[0.001,"1.5"],[0.002,"-0"],[0.003,"NaN"],[9,"1"]"#,
                ),
                series(r#"{"__name__":"b_c","job":"plantd","service":"s"}"#, r#"[0.002,"7"],[0.002,"7"]"#),
                series(r#"{"__name__":"x","job":"other","service":"s"}"#, r#"[0.002,"8"]"#),
                series(r#"{"__name__":"x","job":"plantd","service":"t"}"#, r#"[0.002,"9"]"#),
            ]
            .join(",")
        };
        let data = format!(r#"{{"resultType":"matrix","result":[{result}]}}"#);
        Reply::text("200 OK", &format!(r#"{{"status":"success","data":{data}}}"#))
    });
    let reader = open(&server, v1()).reader().unwrap();
    let query = Query { service: Some("s".into()), start_ns: 0, end_ns: 5 * MS, ..Query::default() };
    let expected = vec![message(2, &[("b.c", -0.0), ("b_c", 7.0)]), message(1, &[("b.c", 1.5)])];
    assert_eq!(reader.read(&query).unwrap(), expected);
    let asked = server.requests()[1].text();
    assert!(asked.contains("service%3D%22s%22") && asked.ends_with("%5B5ms%5D&time=0.004"), "{asked}");
    let newest = reader.read(&Query { limit: 1, ..query.clone() }).unwrap();
    assert_eq!(newest, expected[..1]);
    let named = reader.read(&Query { metrics: vec!["b.c".into()], limit: 1, ..query }).unwrap();
    assert_eq!(named, [message(2, &[("b.c", -0.0)])]);
}

/// A server with two samples a millisecond that answers for so many milliseconds at most, or with so many bytes.
#[test]
fn stretches_are_as_short_as_the_server_wants_them() {
    for too_long in [
        Reply::text("422 Unprocessable Entity", "too many samples"),
        Reply::text("200 OK", &"x".repeat(17 << 20)),
    ] {
        let server = FakeServer::start(move |request| {
            let text = request.text();
            let answer = |result: String| {
                Reply::text("200 OK", &format!(r#"{{"status":"success","data":{{"result":[{result}]}}}}"#))
            };
            if text.contains("last_over_time") {
                return answer(r#"{"metric":{},"value":[1,"2"]}"#.into());
            }
            // ...%5B5000ms%5D&time=12.345
            let (_, range) = text.split_once("%5B").unwrap();
            let (span_ms, end) = range.split_once("ms%5D&time=").unwrap();
            let (span_ms, end_s) = (span_ms.parse::<i64>().unwrap(), end.parse::<f64>().unwrap());
            if span_ms > 700 {
                return too_long.clone();
            }
            let end_ms = (end_s * 1000.0).round() as i64;
            let times = (end_ms - span_ms)..=end_ms;
            let values: Vec<String> = times
                .filter(|t| *t >= 0)
                .map(|t| format!("[{}.{:03},\"{t}\"]", t / 1000, t % 1000))
                .collect();
            let series = |name: &str| {
                let labels = format!(r#"{{"__name__":"{name}","job":"plantd","service":"s"}}"#);
                format!(r#"{{"metric":{labels},"values":[{}]}}"#, values.join(","))
            };
            answer([series("a"), series("b")].join(","))
        });
        let reader = open(&server, v1()).reader().unwrap();
        let query = Query { start_ns: 0, end_ns: 3_000 * MS, limit: 10_000, ..Query::default() };
        let expected: Vec<Message> =
            (0..3_000).rev().map(|t| message(t, &[("a", t as f64), ("b", t as f64)])).collect();
        assert!(reader.read(&query).unwrap() == expected);
        assert!(server.requests().len() < 40, "{} requests", server.requests().len());
    }
}

/// A server that has no query API, or that is away.
#[test]
fn what_can_not_be_read_is_an_error() {
    for (status, again) in [("404 Not Found", false), ("503 Service Unavailable", true), ("200 OK", true)] {
        let server = FakeServer::start(move |request| match request.path() {
            "/api/v1/write" => Reply::text("400 Bad Request", "out of order sample"),
            _ => Reply::status(status),
        });
        let mut sink = open(&server, v1());
        assert!(sink.reader().unwrap().read(&Query::default()).is_err());
        // Whether a refused sample is stored can't be asked: now, or ever.
        let error = sink.write(&[message(1, &[("a", 1.0)])]).unwrap_err();
        assert_eq!(matches!(error, SinkError::Retry { .. }), again, "{status}: {error}");
    }
}
