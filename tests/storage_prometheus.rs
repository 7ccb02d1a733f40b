//! Storage `prometheus` against Prometheus and VictoriaMetrics: what is read back is what was written.
//!
//! Needs: real servers

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use operators::sample::MS;
use operators::series::Target;
use plantd_metric::message::Message;
use plantd_metric::sinks::prometheus::scrape::{ScrapeConfig, scrape_configs};
use plantd_metric::sinks::prometheus::{PromConfig, PromSink, Protocol};
use plantd_metric::sinks::{Query, Sink, SinkError};
use serde_json::Value;

#[path = "storage/promlike.rs"]
mod promlike;

use promlike::{Server, get, promtool};

/// Samples by labels, as text and bits: what a server must have.
type Stored = BTreeMap<BTreeMap<String, String>, Vec<(i64, u64)>>;

/// Metric names, and what Prometheus calls them.
const METRICS: [(&str, &str); 5] = [
    ("cpu_usage_percent", "cpu_usage_percent"),
    ("cpu.usage", "cpu_usage"),
    ("cpu_usage", "cpu_usage"),
    ("9:lives", "_9:lives"),
    ("größe \"m\"", "gr__e__m_"),
];

/// Service and tags, then the labels they become and the changed names among them.
type Odd = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
    &'static str,
);

const TARGETS: [Odd; 10] = [
    ("system", &[("host", "server-01")], &[("service", "system"), ("host", "server-01")], ""),
    ("system", &[("host", "server-02"), ("gone", "")], &[("service", "system"), ("host", "server-02")], ""),
    ("org.plantd.Broker", &[], &[("service", "org.plantd.Broker")], ""),
    ("system", &[("a.b", "1")], &[("service", "system"), ("a_b", "1")], r#""a_b":"a.b""#),
    ("system", &[("a-b", "1")], &[("service", "system"), ("a_b", "1")], r#""a_b":"a-b""#),
    ("system", &[("a_b", "1")], &[("service", "system"), ("a_b", "1")], ""),
    (
        "system",
        &[("a.b", "1"), ("a_b", "1")],
        &[("service", "system"), ("a_b", "1"), ("a_b_", "1")],
        r#""a_b_":"a.b""#,
    ),
    (
        "s",
        &[("job", "mine"), ("service", "x"), ("__name__", "n")],
        &[("service", "s"), ("job_", "mine"), ("service_", "x"), ("_name__", "n")],
        r#""_name__":"__name__","job_":"job","service_":"service""#,
    ),
    ("é\"}\\ {\n", &[("7", "ü\t\"")], &[("service", "é\"}\\ {\n"), ("_7", "ü\t\"")], r#""_7":"7""#),
    ("s", &[("host", "} or up{a=\"")], &[("service", "s"), ("host", "} or up{a=\"")], ""),
];

const TIMES: i64 = 400;

fn value(series: i64, at: i64) -> f64 {
    match (series + at) % 8 {
        0 => -0.0,
        1 => 5e-324,
        2 => f64::MAX,
        3 => 1.0 / (at + 3) as f64,
        4 => -(at as f64),
        5 => 9_007_199_254_740_993.0,
        6 => 0.1 + series as f64,
        _ => f64::from_bits(0x4009_21fb_5444_2d18 + (series * 1000 + at) as u64),
    }
}

/// What VictoriaMetrics can tell exactly: it keeps decimal digits, with one exponent for neighbours.
fn plain_value(series: i64, at: i64) -> f64 {
    (series * 1000 - at * 7) as f64 / 1000.0
}

/// 20,000 samples of 50 series, from `begin_ms` on, in order; and what is stored of them.
fn samples(begin_ms: i64, value: fn(i64, i64) -> f64) -> (Vec<Message>, Stored) {
    let (mut messages, mut stored) = (Vec::new(), Stored::new());
    for at in 0..TIMES {
        for (which, (service, tags, labels, changed)) in TARGETS.iter().enumerate() {
            let time_ms = begin_ms + at * 4_001 + which as i64;
            let target = Arc::new(Target::new(service, tags.iter().copied()));
            let mut metrics = Vec::new();
            for (number, (metric, name)) in METRICS.iter().enumerate() {
                let value = value((which * METRICS.len() + number) as i64, at);
                metrics.push(((*metric).into(), value));
                let of = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
                let mut key: BTreeMap<String, String> = labels.iter().map(of).collect();
                key.insert("__name__".into(), name.to_string());
                key.insert("job".into(), "plantd".into());
                let metric_changed =
                    (metric != name).then(|| format!(r#""__name__":"{}""#, metric.replace('"', "\\\"")));
                let mut changes: Vec<&str> = metric_changed.as_deref().into_iter().collect();
                changes.extend(changed.split_inclusive("\",").map(|c| c.trim_end_matches(',')));
                changes.sort_unstable();
                if !changes.is_empty() {
                    key.insert("original_names".into(), format!("{{{}}}", changes.join(",")));
                }
                stored.entry(key).or_default().push((time_ms, value.to_bits()));
            }
            messages.push(Message { time_ns: time_ms * MS, target, metrics });
        }
    }
    assert_eq!(stored.len(), 50, "names that become the same stay apart");
    assert_eq!(stored.values().map(Vec::len).sum::<usize>(), 20_000);
    (messages, stored)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn open(server: &Server) -> PromSink {
    let url = server.url();
    PromSink::open(&url, PromConfig { url: Some(url.clone()), ..PromConfig::default() }).unwrap()
}

fn labels(of: &Value) -> BTreeMap<String, String> {
    let text = |v: &Value| v.as_str().unwrap().to_string();
    of.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// What Prometheus has of the job, by its query API: times as seconds, values as text.
fn in_prometheus(server: &Server, end_ms: i64) -> Stored {
    let time = format!("{}.{:03}", end_ms / 1000, end_ms % 1000);
    // {job="plantd"}[2h]
    let path = format!("/api/v1/query?query=%7Bjob%3D%22plantd%22%7D%5B2h%5D&time={time}");
    let answer: Value = serde_json::from_str(&get(server, &path)).unwrap();
    assert_eq!(answer["status"], "success", "{answer}");
    let sample = |pair: &Value| {
        let time_ms = (pair[0].as_f64().unwrap() * 1000.0).round() as i64;
        (time_ms, pair[1].as_str().unwrap().parse::<f64>().unwrap().to_bits())
    };
    let series = answer["data"]["result"].as_array().unwrap().iter();
    series
        .map(|s| (labels(&s["metric"]), s["values"].as_array().unwrap().iter().map(sample).collect()))
        .collect()
}

/// What VictoriaMetrics has of the job, by its export API: one JSON object a line.
fn in_victoria(server: &Server) -> Stored {
    get(server, "/internal/force_flush");
    let text = get(server, "/api/v1/export?match%5B%5D=%7Bjob%3D%22plantd%22%7D");
    let mut stored = Stored::new();
    for line in text.lines() {
        let series: Value = serde_json::from_str(line).unwrap();
        let times = series["timestamps"].as_array().unwrap().iter().map(|t| t.as_i64().unwrap());
        let values = series["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap().to_bits());
        stored.entry(labels(&series["metric"])).or_default().extend(times.zip(values));
    }
    stored
}

#[track_caller]
fn expect_same(found: &Stored, expected: &Stored) {
    let names = |stored: &Stored| stored.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (series, samples) in expected {
        assert_eq!(&found[series], samples, "{series:?}");
    }
}

/// Everything that was written comes back through the sink's own reader, newest first; and parts of it.
fn read_back(sink: &PromSink, messages: &[Message]) {
    let reader = sink.reader().expect("the address says where to read");
    let without_empty = |message: &Message| {
        let tags = message.target.tags.iter().filter(|(_, value)| !value.is_empty());
        let target = Target::new(&message.target.service, tags.map(|(n, v)| (n.as_ref(), v.as_ref())));
        let mut metrics: Vec<(String, u64)> =
            message.metrics.iter().map(|(name, value)| (name.to_string(), value.to_bits())).collect();
        metrics.sort();
        (message.time_ns, target, metrics)
    };
    let check = |query: &Query| {
        let wanted = |message: &&Message| {
            query.service.as_deref().is_none_or(|service| *service == *message.target.service)
                && query.tags.iter().all(|(n, v)| message.target.tag(n).unwrap_or_default() == v)
                && (query.start_ns..query.end_ns).contains(&message.time_ns)
        };
        let mut expected: Vec<Message> = messages.iter().rev().filter(wanted).cloned().collect();
        for message in &mut expected {
            message
                .metrics
                .retain(|(n, _)| query.metrics.is_empty() || query.metrics.iter().any(|m| **m == **n));
        }
        expected.truncate(query.limit);
        assert!(!expected.is_empty(), "{query:?}");
        let found = reader.read(query).unwrap();
        let (found, expected): (Vec<_>, Vec<_>) =
            (found.iter().map(without_empty).collect(), expected.iter().map(without_empty).collect());
        assert!(found == expected, "{query:?}: found {} of {}", found.len(), expected.len());
    };
    let all = Query { limit: 10_000, ..Query::default() };
    check(&all);
    check(&Query { limit: 7, ..Query::default() });
    let (first, last) = (messages[0].time_ns, messages[messages.len() - 1].time_ns);
    check(&Query { start_ns: first + 1, end_ns: last, ..all.clone() });
    check(&Query { start_ns: first, end_ns: first + 1, ..all.clone() });
    for (service, tags, ..) in &TARGETS {
        let tags: Vec<_> = tags.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        check(&Query { service: Some(service.to_string()), tags: tags.clone(), ..all.clone() });
        check(&Query { tags, metrics: vec!["cpu.usage".into(), "9:lives".into()], ..all.clone() });
    }
    for (metric, _) in METRICS {
        check(&Query { metrics: vec![metric.into()], ..all.clone() });
    }
}

#[test]
fn prometheus_has_what_was_written_and_tells_it() {
    let server = Server::prometheus("2h");
    let (messages, expected) = samples(now_ms() - 30 * 60_000, value);
    let mut sink = open(&server);
    let begun = Instant::now();
    for stretch in messages.chunks(500) {
        sink.write(stretch).unwrap();
    }
    let took = begun.elapsed();
    println!("20,000 samples of 50 series in {took:?}, {} requests", sink.counts().requests);
    assert_eq!(sink.speaks(), Some(Protocol::V1), "2.42 takes a request of 2.0 and stores nothing");
    assert_eq!(sink.counts().requests, TIMES as u64, "one sample of each series in a request");
    let end_ms = now_ms();
    expect_same(&in_prometheus(&server, end_ms), &expected);
    read_back(&sink, &messages);
    // All of it again, by a sink that remembers nothing.
    let mut again = open(&server);
    for stretch in messages.chunks(777) {
        again.write(stretch).unwrap();
    }
    expect_same(&in_prometheus(&server, end_ms), &expected);
    read_back(&again, &messages);
    assert_eq!(again.status().status, "connected");
}

#[test]
fn a_receiver_that_wants_order_is_asked_what_it_has() {
    let server = Server::prometheus("");
    let (messages, mut expected) = samples(now_ms() - 30 * 60_000, value);
    let (messages, end_ms) = (&messages[..400], now_ms());
    expected.values_mut().for_each(|samples| samples.truncate(40));
    // Of one target nothing arrived.
    let others: Vec<Message> = messages.iter().filter(|m| m.target.tag("a-b").is_none()).cloned().collect();
    open(&server).write(&others).unwrap();
    let mut again = open(&server);
    again.write(messages).unwrap();
    assert_eq!(again.counts().stored_before, 39 * 45, "the newest of each series is taken again");
    expect_same(&in_prometheus(&server, end_ms), &expected);
}

/// Offers messages as the delivery does: what is refused, in halves. The messages that are refused alone.
fn halve<'a>(sink: &mut PromSink, messages: &'a [Message], refused: &mut Vec<&'a Message>) {
    match (sink.write(messages), messages) {
        (Ok(()), _) => {}
        (Err(SinkError::Poison { why }), [one]) => {
            assert!(why.contains("too old") || why.contains("out of bounds"), "{why}");
            refused.push(one);
        }
        (Err(SinkError::Poison { .. }), several) => {
            let (first, second) = several.split_at(several.len() / 2);
            halve(sink, first, refused);
            halve(sink, second, refused);
        }
        (Err(error), _) => panic!("{error}"),
    }
}

#[test]
fn one_that_is_too_old_does_not_stop_the_others() {
    // Prometheus 2.42 calls it a bad request, or with a window an error of its own that would never pass.
    for window in ["", "1h"] {
        let server = Server::prometheus(window);
        let (messages, expected) = samples(now_ms() - 30 * 60_000, value);
        let mut messages = messages[..1_000].to_vec();
        let poison = Message { time_ns: (now_ms() - 2 * 86_400_000) * MS, ..messages[0].clone() };
        messages.insert(617, poison.clone());
        let mut sink = open(&server);
        // What is too old depends on the newest that is there.
        sink.write(&messages[..10]).unwrap();
        let mut refused = Vec::new();
        halve(&mut sink, &messages, &mut refused);
        assert_eq!(refused, [&poison], "window {window:?}");
        let expected: Stored = expected.into_iter().map(|(s, v)| (s, v[..100].to_vec())).collect();
        expect_same(&in_prometheus(&server, now_ms()), &expected);
    }
}

#[test]
fn victoria_metrics_has_what_was_written_and_tells_it() {
    let server = Server::victoria_metrics();
    let (messages, expected) = samples(now_ms() - 30 * 60_000, plain_value);
    for stretch in [500, 777] {
        let mut sink = open(&server);
        for stretch in messages.chunks(stretch) {
            sink.write(stretch).unwrap();
        }
        assert_eq!(sink.speaks(), Some(Protocol::V1));
        expect_same(&in_victoria(&server), &expected);
        read_back(&sink, &messages);
    }
}

#[test]
fn many_series_go_in_few_requests() {
    let server = Server::prometheus("");
    let begin_ms = now_ms() - 60_000;
    let targets: Vec<Arc<Target>> =
        (0..1_000).map(|n| Arc::new(Target::new("many", [("host", format!("h-{n}").as_str())]))).collect();
    let names: Vec<Arc<str>> = (0..10).map(|n| format!("metric_{n}").into()).collect();
    let mut sink = open(&server);
    let begun = Instant::now();
    for at in 0..5 {
        let metrics: Vec<_> = names.iter().map(|name| (name.clone(), at as f64)).collect();
        let message = |target: &Arc<Target>| Message {
            time_ns: (begin_ms + at * 1_000) * MS,
            target: target.clone(),
            metrics: metrics.clone(),
        };
        sink.write(&targets.iter().map(message).collect::<Vec<_>>()).unwrap();
    }
    println!("50,000 samples of 10,000 series in {:?}", begun.elapsed());
    assert_eq!(sink.counts().requests, 5 * 10_000 / 2_000);
    let stored = in_prometheus(&server, now_ms());
    assert_eq!(stored.len(), 10_000);
    let expected: Vec<(i64, u64)> = (0..5).map(|at| (begin_ms + at * 1_000, (at as f64).to_bits())).collect();
    assert!(stored.values().all(|samples| *samples == expected));
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let server = Server::prometheus("");
    let mut sink = open(&server);
    let (messages, _) = samples(now_ms() - 30 * 60_000, value);
    sink.write(&messages[..10]).unwrap();
    let url = server.url();
    let server = server.stop();
    let error = sink.write(&messages[10..20]).unwrap_err();
    assert!(matches!(error, SinkError::Retry { .. }), "{error}");
    assert!(sink.status().status.starts_with("error: POST http://127.0.0.1"), "{:?}", sink.status().status);
    let server = server.start();
    assert_eq!(server.url(), url);
    sink.write(&messages[10..20]).unwrap();
    let found = in_prometheus(&server, now_ms());
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), 100);
    assert_eq!(sink.status().status, "connected");
}

#[test]
fn promtool_takes_the_scrape_configuration() {
    let dir = tempfile::tempdir().unwrap();
    for (job_name, seconds) in [("plantd", 15.0), ("a: \"b\" # {%}", 0.25), ("é", 86_400.0)] {
        let text = scrape_configs(&ScrapeConfig {
            job_name: job_name.into(),
            scrape_interval: Duration::from_secs_f64(seconds),
            metrics_path: "/metrics".into(),
            target: "127.0.0.1:8080".into(),
        });
        let path = dir.path().join("prometheus.yml");
        std::fs::write(&path, &text).unwrap();
        let out = Command::new(promtool()).args(["check", "config"]).arg(&path).output().unwrap();
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    }
}
