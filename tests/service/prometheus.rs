//! What Prometheus sends: remote write 1.0 and 2.0 on `/api/v1/write`, text on `/api/v1/import/prometheus`.

use std::sync::Arc;
use std::time::Instant;

use operators::series::Target;
use plantd_metric::message::Message;
use plantd_metric::sinks::Sink;
use plantd_metric::sinks::prometheus::{PromConfig, PromSink, Protocol};
use serde_json::json;

use crate::running::{Answer, NOON_NS, PATIENCE, Running, at};

const NOON_MS: i64 = NOON_NS / 1_000_000;
const QUIET: &str = "storage: { type: none }";
const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
const STALE: u64 = 0x7ff0_0000_0000_0002;

type Series<'a> = (&'a [(&'a str, &'a str)], &'a [(f64, i64)]);

fn number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn field(key: u8, inner: &[u8], out: &mut Vec<u8>) {
    out.push(key);
    number(inner.len() as u64, out);
    out.extend_from_slice(inner);
}

fn samples(of: &[(f64, i64)], out: &mut Vec<u8>) {
    for (value, time_ms) in of {
        let mut sample = vec![9];
        sample.extend(value.to_le_bytes());
        sample.push(16);
        number(*time_ms as u64, &mut sample);
        field(0x12, &sample, out);
    }
}

fn version_1(all: &[Series]) -> Vec<u8> {
    let mut body = Vec::new();
    for (labels, values) in all {
        let mut series = Vec::new();
        for (name, value) in *labels {
            let mut label = Vec::new();
            field(0x0a, name.as_bytes(), &mut label);
            field(0x12, value.as_bytes(), &mut label);
            field(0x0a, &label, &mut series);
        }
        samples(values, &mut series);
        field(0x0a, &series, &mut body);
    }
    body
}

/// Each text is a symbol of its own, however often it comes.
fn version_2(all: &[Series]) -> Vec<u8> {
    let (mut body, mut rest, mut next) = (vec![0x22, 0], Vec::new(), 1);
    for (labels, values) in all {
        let (mut refs, mut series) = (Vec::new(), Vec::new());
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            field(0x22, text.as_bytes(), &mut body);
            number(next, &mut refs);
            next += 1;
        }
        field(0x0a, &refs, &mut series);
        samples(values, &mut series);
        field(0x2a, &series, &mut rest);
    }
    body.extend(rest);
    body
}

fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).expect("a short body")
}

fn write(service: &Running, content_type: &str, body: &[u8]) -> Answer {
    let headers = [("content-type", content_type), ("content-encoding", "snappy")];
    service.request("POST", "/api/v1/write", &headers, body)
}

fn written(answer: &Answer) -> [Option<&str>; 3] {
    ["samples", "histograms", "exemplars"]
        .map(|what| answer.header(&format!("x-prometheus-remote-write-{what}-written")))
}

/// Value of `count` and `sum` in the window at noon.
fn window(service: &Running, query: &str) -> (f64, f64) {
    let path = format!(
        "/api/v1/metrics/aggregate?{query}&func=count,sum&interval=10s&start={}&end={}",
        at(0.0),
        at(10.0)
    );
    let json = service.json(&path);
    let of = |name: &str| {
        let all = json["series"].as_array().expect("a list");
        let found = all.iter().find(|series| series["func"] == name);
        found
            .and_then(|series| series["points"][0]["value"].as_f64())
            .unwrap_or_else(|| panic!("no {name} in {json}"))
    };
    (of("count"), of("sum"))
}

/// Waits until everything accepted is in the windows.
fn settle(service: &Running, accepted: f64) {
    crate::running::until("the windows have it", || {
        let text = service.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix("plantd_metric_samples_total "))?;
        (line.parse::<f64>().ok()? >= accepted).then_some(())
    });
}

fn counter(service: &Running, name: &str) -> f64 {
    let text = service.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("plantd_metric_{name} ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

const UP: &[(&str, &str)] = &[("__name__", "up"), ("instance", "h:1"), ("job", "node")];
const HITS: &[(&str, &str)] = &[("__name__", "hits_total"), ("instance", "h:1"), ("job", "node")];

#[test]
fn remote_write_of_both_versions_is_taken_once() {
    let service = Running::start(QUIET);
    let all: &[Series] = &[(UP, &[(1.0, NOON_MS)]), (HITS, &[(5.0, NOON_MS), (7.0, NOON_MS + 1000)])];
    let first = write(&service, V1, &snappy(&version_1(all)));
    assert_eq!((first.status, first.text().as_str()), (204, ""), "{}", first.head);
    assert_eq!(written(&first), [None; 3], "version 1.0 has no such headers");
    assert!(
        first.header("x-plantd-epoch").is_some_and(|epoch| epoch.parse::<u64>().is_ok()),
        "{}",
        first.head
    );
    settle(&service, 3.0);
    assert_eq!(window(&service, "metric=up&service=node&tag.instance=h:1"), (1.0, 1.0));
    assert_eq!(window(&service, "metric=hits_total&service=node"), (2.0, 12.0));
    // The same samples in the other version are the same samples.
    let again = write(&service, V2, &snappy(&version_2(all)));
    assert_eq!((again.status, written(&again)), (204, [Some("3"), Some("0"), Some("0")]));
    let more: &[Series] = &[(UP, &[(0.0, NOON_MS + 2000)])];
    assert_eq!(write(&service, V2, &snappy(&version_2(more))).status, 204);
    settle(&service, 4.0);
    assert_eq!(window(&service, "metric=up&service=node"), (2.0, 1.0));
    assert_eq!(window(&service, "metric=hits_total&service=node"), (2.0, 12.0));
    assert_eq!(counter(&service, "samples_duplicate_total"), 3.0);
}

#[test]
fn dedup_can_be_switched_off_and_on() {
    let text = format!("up 1 {NOON_MS}\n");
    let body = snappy(&version_1(&[(UP, &[(1.0, NOON_MS)])]));
    for (yaml, write_count, text_count) in [
        (QUIET.to_string(), 1.0, 2.0),
        (format!("{QUIET}\ningest: {{ dedup: {{ remote_write: false, prometheus_text: true }} }}"), 2.0, 1.0),
    ] {
        let service = Running::start(&yaml);
        for _ in 0..2 {
            assert_eq!(write(&service, V1, &body).status, 204);
            assert_eq!(
                service.request("POST", "/api/v1/import/prometheus", &[], text.as_bytes()).status,
                204
            );
        }
        settle(&service, 3.0);
        assert_eq!(window(&service, "metric=up&service=node").0, write_count);
        assert_eq!(window(&service, "metric=up&service=prometheus").0, text_count);
    }
}

#[test]
fn the_content_type_says_the_version() {
    let service = Running::start(QUIET);
    let all: &[Series] = &[(UP, &[(1.0, NOON_MS)])];
    let (one, two) = (snappy(&version_1(all)), snappy(&version_2(all)));
    for (content_type, body, status) in [
        ("application/x-protobuf", &one, 204),
        ("application/x-protobuf;proto=prometheus.WriteRequest", &one, 204),
        ("Application/X-Protobuf; proto=\"prometheus.WriteRequest\"", &one, 204),
        ("application/x-protobuf; proto=io.prometheus.write.v2.Request", &two, 204),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", &two, 415),
        ("application/json", &one, 415),
        ("text/plain", &one, 415),
    ] {
        let answer = write(&service, content_type, body);
        assert_eq!(answer.status, status, "{content_type}: {}", answer.text());
    }
    // Senders of old say neither.
    assert_eq!(service.request("POST", "/api/v1/write", &[], &one).status, 204);
    for (encoding, body, status) in
        [("identity", version_1(all), 204), ("zstd", vec![0x28, 0xb5], 415), ("snappy", version_1(all), 400)]
    {
        let headers = [("content-type", V1), ("content-encoding", encoding)];
        let answer = service.request("POST", "/api/v1/write", &headers, &body);
        assert_eq!(answer.status, status, "{encoding}: {}", answer.text());
    }
    assert_eq!(service.get("/api/v1/write").status, 405);
}

#[test]
fn bad_series_are_told_and_the_good_are_kept() {
    let service = Running::start(QUIET);
    let twice: &[(&str, &str)] = &[("__name__", "m"), ("a", "1"), ("a", "2")];
    let all: &[Series] = &[
        (UP, &[(1.0, NOON_MS)]),
        (twice, &[(1.0, NOON_MS)]),
        (&[("job", "x")], &[(1.0, NOON_MS)]),
        (HITS, &[(5.0, NOON_MS + 86_400_000), (7.0, NOON_MS)]),
    ];
    for (content_type, body) in [(V1, version_1(all)), (V2, version_2(all))] {
        let answer = write(&service, content_type, &snappy(&body));
        assert_eq!(answer.status, 400);
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        let told = "3 turned away, the first of m: expected each tag once: a; 2 samples accepted\n";
        assert_eq!(answer.text(), told);
        let samples = (content_type == V2).then_some("2");
        assert_eq!(written(&answer)[0], samples);
    }
    settle(&service, 2.0);
    assert_eq!(window(&service, "metric=hits_total&service=node"), (1.0, 7.0));
    let counts = service.json("/api/v1/rejected")["counts"].clone();
    for (reason, count) in [("tag_twice", 2), ("empty_name", 2), ("too_far_ahead", 2)] {
        assert_eq!(counts[reason], count, "{counts}");
    }
    // A body that breaks off.
    let body = version_1(&[(UP, &[(1.0, NOON_MS + 1)]), (HITS, &[(1.0, NOON_MS + 1)])]);
    let answer = write(&service, V1, &snappy(&body[..body.len() - 1]));
    assert_eq!(answer.status, 400);
    assert!(answer.text().ends_with("; 1 samples accepted\n"), "{}", answer.text());
}

#[test]
fn stale_markers_and_values_that_are_no_numbers_are_nobodys_mistake() {
    let service = Running::start(QUIET);
    let nan = f64::from_bits(0x7ff8_0000_0000_0001);
    let all: &[Series] = &[
        (UP, &[(1.0, NOON_MS), (f64::from_bits(STALE), NOON_MS + 1)]),
        (HITS, &[(nan, NOON_MS), (2.0, NOON_MS)]),
    ];
    let answer = write(&service, V2, &snappy(&version_2(all)));
    // A stale marker did what it is for; a NaN has no place here.
    assert_eq!((answer.status, written(&answer)[0]), (204, Some("3")), "{}", answer.text());
    assert_eq!(write(&service, V1, &snappy(&version_1(all))).status, 204);
    settle(&service, 2.0);
    assert_eq!(window(&service, "metric=up&service=node"), (1.0, 1.0));
    assert_eq!(counter(&service, "samples_rejected_total{reason=\"stale_marker\"}"), 2.0);
    assert_eq!(service.json("/api/v1/rejected")["counts"]["not_finite"], 2);
}

#[test]
fn bodies_have_a_limit_before_they_are_unpacked() {
    let service = Running::start("storage: { type: none }\nhttp: { body_max: 64KiB }");
    let mut bomb = vec![0xff, 0xff, 0xff, 0xff, 0x09];
    bomb.resize(47, 0);
    let packed = snappy(&vec![0; 80_000]);
    for (what, body, status) in [
        ("47 bytes that claim 2.5 GB", bomb.as_slice(), 413),
        ("80 kB in little", &packed, 413),
        ("too much as it is", &[0; 70_000], 413),
        ("no block", b"\xff\xff\xff\xff\xff\xff", 400),
        ("nothing", b"", 400),
    ] {
        let answer = write(&service, V1, body);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(
            answer.text().starts_with("expected a body of") || answer.text().starts_with("body is no"),
            "{what}"
        );
    }
    assert_eq!(service.json("/health")["status"], "healthy");
}

#[test]
fn full_is_503_and_to_be_tried_again() {
    let service = Running::start("storage: { type: none }\nperformance: { buffer_size: 1 }");
    // A hundred samples may be in flight: a body of more than that passes alone, and what comes beside it does not.
    let samples: Vec<(f64, i64)> = (0..3000).map(|n| (1.0, NOON_MS + n)).collect();
    let body = snappy(&version_2(&[(UP, &samples)]));
    let end = Instant::now() + PATIENCE;
    let posting = || {
        while Instant::now() < end {
            let answer = write(&service, V2, &body);
            if answer.status != 204 {
                return Some(answer);
            }
        }
        None
    };
    let refused = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(posting)).collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("nobody panics")).next()
    });
    let answer = refused.expect("one of them meets the full door");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(written(&answer)[0], Some("0"));
}

#[test]
fn text_is_taken_and_its_bad_lines_are_told() {
    let service = Running::start(QUIET);
    let import = |content_type: &str, text: &str| {
        let headers = [("content-type", content_type)];
        service.request("POST", "/api/v1/import/prometheus", &headers, text.as_bytes())
    };
    let text =
        format!("# TYPE up gauge\nup{{job=\"node\"}} 1 {NOON_MS}\nup{{job=\"node\"}} 3\nquantile NaN\n");
    let answer = import("text/plain; version=0.0.4", &text);
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    let open = "hits_total{service=\"s\"} 4 1704110401.5\n# EOF\n";
    assert_eq!(import("application/openmetrics-text; version=1.0.0; charset=utf-8", open).status, 204);
    settle(&service, 3.0);
    assert_eq!(window(&service, "metric=up&service=node"), (2.0, 4.0));
    assert_eq!(window(&service, "metric=hits_total&service=s"), (1.0, 4.0));
    let answer = import("text/plain", "up 1\nup x\nup 2\n");
    assert_eq!(answer.status, 400);
    let told = "1 turned away, the first: not a message of a known shape: line 2: byte 4: expected a number, \
        found \"x\"; 2 samples accepted\n";
    assert_eq!(answer.text(), told);
}

/// Messages of a service: tags and metrics by time.
fn told(service: &Running) -> Vec<serde_json::Value> {
    service.json("/api/v1/metrics?service=org.plantd.Test&limit=100")["metrics"]
        .as_array()
        .expect("a list")
        .clone()
}

#[test]
fn what_our_own_storage_writes_is_the_same_series_again() {
    let service = Running::start(QUIET);
    let url = format!("http://{}", service.http);
    let mut sink = PromSink::open(&url, PromConfig::default()).expect("an address");
    let message = |seconds: i64, tags: &[(&str, &str)], metrics: &[(&str, f64)]| Message {
        time_ns: NOON_NS + seconds * 1_000_000_000,
        target: Arc::new(Target::new("org.plantd.Test", tags.iter().copied())),
        metrics: metrics.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
    };
    let messages = [
        message(0, &[("host", "a")], &[("cpu_usage", 1.5), ("cpu.usage", 2.5)]),
        message(1, &[("a.b", "1"), ("a_b", "2"), ("job", "mine"), ("service", "x")], &[("9 \u{fc}", -0.25)]),
        message(2, &[], &[("m", 1e300)]),
    ];
    sink.write(&messages).expect("all of it is taken");
    assert_eq!(sink.speaks(), Some(Protocol::V2), "the headers of 2.0 are there");
    settle(&service, 4.0);
    let expected = [
        json!({"service": "org.plantd.Test", "timestamp": at(2.0), "metrics": {"m": 1e300}}),
        json!({"service": "org.plantd.Test", "timestamp": at(1.0), "metrics": {"9 \u{fc}": -0.25},
            "tags": {"a.b": "1", "a_b": "2", "job": "mine", "service": "x"}}),
        json!({"service": "org.plantd.Test", "timestamp": at(0.0), "tags": {"host": "a"},
            "metrics": {"cpu_usage": 1.5, "cpu.usage": 2.5}}),
    ];
    assert_eq!(told(&service), expected);
    assert_eq!(service.json("/status")["series"], 4);
}
