//! InfluxDB's paths: lines in, and the answers by which its clients decide whether to send again.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::aggregate::{series, values};
use crate::running::{Answer, PATIENCE, Running, at, until};

const WRITE: &str = "/write?db=telegraf";
const WRITE_V2: &str = "/api/v2/write?org=o&bucket=b";
const WRITE_V3: &str = "/api/v3/write_lp?db=d";

/// Posts lines, and waits until what was taken can be read.
fn write(service: &Running, path: &str, lines: &str) -> Answer {
    write_with(service, path, &[("content-type", "text/plain; charset=utf-8")], lines.as_bytes())
}

fn write_with(service: &Running, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let answer = service.request("POST", path, headers, body);
    if let Some(epoch) = answer.header("x-plantd-epoch") {
        service.json(&format!("/api/v1/metrics?limit=1&min_epoch={epoch}"));
    }
    answer
}

/// Raw samples, oldest first, as `service{tags} metric=value@seconds after noon`.
fn held(service: &Running) -> Vec<String> {
    let messages = service.json("/api/v1/metrics?limit=1000");
    let mut told = Vec::new();
    for message in messages["metrics"].as_array().expect("a list").iter().rev() {
        let tags: Vec<String> = message["tags"]
            .as_object()
            .map(|tags| tags.iter().map(|(n, v)| format!("{n}={}", v.as_str().unwrap_or_default())).collect())
            .unwrap_or_default();
        let time = message["timestamp"].as_str().expect("a time");
        let service = message["service"].as_str().expect("a service");
        for (metric, value) in message["metrics"].as_object().expect("metrics") {
            told.push(format!("{service}{{{}}} {metric}={value}@{time}", tags.join(",")));
        }
    }
    told
}

fn count_of(service: &Running, reason: &str) -> u64 {
    service.json("/api/v1/rejected")["counts"][reason].as_u64().unwrap_or(0)
}

#[test]
fn lines_are_taken_on_all_three_paths() {
    for (path, time) in [
        (WRITE.to_string(), "1704110401000000000"),
        (format!("{WRITE}&rp=autogen&u=me&p=secret&precision=ms&consistency=one"), "1704110401000"),
        (format!("{WRITE}&precision=u"), "1704110401000000"),
        (format!("{WRITE}&precision=s"), "1704110401"),
        ("/write?precision=m".into(), "28401840"),
        (WRITE_V2.into(), "1704110401000000000"),
        (format!("{WRITE_V2}&precision=us"), "1704110401000000"),
        (format!("{WRITE_V2}&precision=s"), "1704110401"),
        (WRITE_V3.into(), "1704110401"),
        (format!("{WRITE_V3}&precision=auto&accept_partial=true&no_sync=true"), "1704110401000"),
        (format!("{WRITE_V3}&precision=millisecond"), "1704110401000"),
        (format!("{WRITE_V3}&precision=nanosecond"), "1704110401000000000"),
    ] {
        let service = Running::start("storage: { type: none }");
        let lines = format!("cpu,host=a usage=1.5,busy=3i,up=t,name=\"x y\" {time}\nweather t=-2 {time}\r\n");
        let answer = write(&service, &path, &lines);
        assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{path}");
        assert!(answer.header("x-influxdb-version").is_some_and(|version| version.starts_with("1.8")));
        let time = if path == "/write?precision=m" { 0.0 } else { 1.0 };
        let expected = [
            format!("cpu{{host=a}} busy=3@{}", at(time)),
            format!("cpu{{host=a}} up=1@{}", at(time)),
            format!("cpu{{host=a}} usage=1.5@{}", at(time)),
            format!("weather{{}} t=-2@{}", at(time)),
        ];
        let mut found = held(&service);
        found.sort();
        assert_eq!(found, expected, "{path}");
        assert_eq!(count_of(&service, "text_field"), 1, "{path}");
    }
}

#[test]
fn the_tag_service_is_the_service() {
    let service = Running::start("storage: { type: none }");
    assert_eq!(write(&service, WRITE, "cpu,service=org.plantd.A,host=h usage=1").status, 204);
    assert_eq!(held(&service), [format!("org.plantd.A{{host=h,measurement=cpu}} usage=1@{}", at(0.0))]);
    assert_eq!(series(&service, "metric=usage&service=org.plantd.A&func=count").len(), 1);
}

#[test]
fn bad_lines_are_told_as_1_tells_them_and_the_others_are_taken() {
    let service = Running::start("storage: { type: none }\nwindows: { series_max: 2 }");
    let lines = "m v=1 1704110400000000000\nbad\nm,x v=1\nm v=2 1704110401000000000\nm w=1\nm x=1";
    let answer = write(&service, WRITE, lines);
    assert_eq!(answer.status, 400);
    let error = "partial write: unable to parse 'bad': missing fields\n\
                 unable to parse 'm,x v=1': missing tag value\n\
                 field x: no room for a new series: windows.series_max is reached in 'm x=1' dropped=3";
    assert_eq!(answer.json(), json!({ "error": error }));
    assert_eq!(held(&service).len(), 3);
    // Nothing but lines that are none.
    let answer = write(&service, WRITE, "bad\n");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json(), json!({ "error": "unable to parse 'bad': missing fields" }));
    assert_eq!(answer.header("x-influxdb-error"), Some("unable to parse 'bad': missing fields"));
    assert_eq!((count_of(&service, "bad_line"), count_of(&service, "series_limit")), (3, 1));
    let kept = service.json("/api/v1/rejected?limit=1");
    assert_eq!(kept["rejected"][0]["found"], "missing fields in 'bad'");
}

#[test]
fn many_bad_lines_are_counted_and_a_hundred_are_told() {
    let service = Running::start("storage: { type: none }");
    let answer = write(&service, WRITE, &format!("{}m v=1\n", "bad\n".repeat(20_000)));
    let error = answer.json()["error"].as_str().expect("a text").to_string();
    assert_eq!((answer.status, error.matches("unable to parse").count()), (400, 100));
    assert!(error.ends_with("\nand 19900 more dropped=20000"), "{error}");
    assert_eq!(count_of(&service, "bad_line"), 20_000);
    assert_eq!(held(&service).len(), 1);
}

#[test]
fn bad_lines_as_2_and_3_tell_them() {
    let service = Running::start("storage: { type: none }");
    let lines = "m v=1\nbad\n# a comment\n\nm v=x\n";
    let answer = write(&service, WRITE_V2, lines);
    assert_eq!(answer.status, 400);
    let message = "partial write: unable to parse 'bad': missing fields\n\
                   unable to parse 'm v=x': invalid boolean dropped=2";
    assert_eq!(answer.json(), json!({ "code": "invalid", "message": message }));
    let line = |number: u64, line: &str, error: &str| json!({ "original_line": line, "line_number": number, "error_message": error });
    let answer = write(&service, WRITE_V3, lines);
    assert_eq!(answer.status, 400);
    let expected = json!({
        "error": "partial write of line protocol occurred",
        "data": [line(2, "bad", "missing fields"), line(3, "m v=x", "invalid boolean")],
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(held(&service).len(), 2);
    // Nothing of a body that is to be taken whole.
    let answer = write(&service, &format!("{WRITE_V3}&accept_partial=false"), lines);
    assert_eq!(answer.status, 400);
    let expected =
        json!({ "error": "parsing failed for write_lp endpoint", "data": line(2, "bad", "missing fields") });
    assert_eq!(answer.json(), expected);
    assert_eq!(held(&service).len(), 2);
}

#[test]
fn what_a_request_may_not_say() {
    let service = Running::start("storage: { type: none }\nhttp: { body_max: 64KiB }");
    let long = "m v=1\n".repeat(20_000);
    for (path, body, status, expected) in [
        (
            format!("{WRITE}&precision=d"),
            "m v=1",
            400,
            "invalid precision: expected one of n, u, ms, s, m, h, found \"d\"",
        ),
        (format!("{WRITE}&precision=auto"), "m v=1", 400, "found \"auto\""),
        (format!("{WRITE_V2}&precision=x"), "m v=1", 400, "expected one of ns, us, ms, s, found \"x\""),
        (format!("{WRITE_V3}&precision=x"), "m v=1", 400, "expected one of auto, nanosecond"),
        (
            format!("{WRITE_V3}&accept_partial=1"),
            "m v=1",
            400,
            "accept_partial: expected true or false, found \"1\"",
        ),
        (WRITE.into(), &long, 413, "expected a body of at most 65536 bytes"),
        (WRITE_V2.into(), &long, 413, "expected a body of at most 65536 bytes"),
        (WRITE_V3.into(), &long, 413, "expected a body of at most 65536 bytes"),
    ] {
        let answer = write(&service, &path, body);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let json = answer.json();
        let text = if path.starts_with(WRITE_V2) {
            assert_eq!(json["code"], if status == 413 { "request too large" } else { "invalid" });
            json["message"].as_str()
        } else {
            json["error"].as_str()
        };
        assert!(text.is_some_and(|text| text.contains(expected)), "{path}: {json}");
    }
    let br = write_with(&service, WRITE_V2, &[("content-encoding", "br")], b"x");
    assert_eq!((br.status, &br.json()["code"]), (415, &json!("unsupported media type")));
    assert_eq!(held(&service), [""; 0]);
}

#[test]
fn packed_bodies_and_empty_ones() {
    let service = Running::start("storage: { type: none }");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"m v=1").expect("a Vec takes every byte");
    let packed = encoder.finish().expect("a Vec takes every byte");
    assert_eq!(write_with(&service, WRITE, &[("content-encoding", "gzip")], &packed).status, 204);
    assert_eq!(held(&service).len(), 1);
    for body in ["", "\n\n", "# nothing\n"] {
        assert_eq!(write(&service, WRITE, body).status, 204, "{body:?}");
    }
}

#[test]
fn what_is_sent_again_counts_once() {
    let counted = |service: &Running| values(&series(service, "metric=v&interval=10s&func=count")[0]);
    let lines = "m v=1 1704110400000000000\nm v=2 1704110401000000000";
    let without_times = "m v=1\nm v=2";
    // A line without a time is another observation each time.
    for (yaml, lines, expected) in [
        ("", lines, 2.0),
        ("ingest: { dedup: { line: false } }", lines, 6.0),
        ("", without_times, 6.0),
        ("", "m v=1 1704110400000000000\nm v=2", 6.0),
    ] {
        let service = Running::start(&format!("storage: {{ type: none }}\n{yaml}"));
        for _ in 0..3 {
            assert_eq!(write(&service, WRITE, lines).status, 204);
        }
        assert_eq!(counted(&service), [expected], "{yaml} {lines}");
    }
    // By the request's key nothing of it counts again, whatever the setting.
    let service = Running::start("storage: { type: none }\ningest: { dedup: { line: false } }");
    let headers = [("idempotency-key", "a")];
    let told: Vec<Value> = (0..3)
        .map(|_| {
            write_with(&service, WRITE, &headers, format!("{lines}\nbad").as_bytes()).json()["error"].take()
        })
        .collect();
    assert_eq!(told[0], "partial write: unable to parse 'bad': missing fields dropped=1");
    assert_eq!(told[1], "partial write: 1 were told the first time dropped=1");
    assert_eq!(told[2], told[1]);
    assert_eq!(counted(&service), [2.0]);
}

#[test]
fn a_full_door_is_told_as_each_version_tells_it() {
    let service = Running::start("storage: { type: none }\nperformance: { buffer_size: 1 }");
    let lines: String = (0..3000).map(|n| format!("m,n={n} v=1\n")).collect();
    for path in [WRITE, WRITE_V2, WRITE_V3] {
        let end = std::time::Instant::now() + PATIENCE;
        let refused = std::thread::scope(|scope| {
            let posting = || {
                while std::time::Instant::now() < end {
                    let answer = service.request("POST", path, &[], lines.as_bytes());
                    if answer.status == 503 {
                        return Some(answer);
                    }
                    assert_eq!(answer.status, 204, "{}", answer.text());
                }
                None
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(posting)).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("nobody panics")).next()
        });
        let refused = refused.expect("one of them meets the full door");
        assert_eq!(refused.header("retry-after"), Some("1"), "{}", refused.head);
        match path {
            WRITE_V2 => assert_eq!(refused.json()["code"], "unavailable"),
            _ => assert_eq!(refused.json()["error"], "too many samples in flight"),
        }
    }
    until("it takes lines again", || (write(&service, WRITE, "m v=1").status == 204).then_some(()));
}

#[test]
fn what_clients_ask_beside() {
    let service = Running::start("storage: { type: none }");
    for method in ["GET", "HEAD"] {
        let answer = service.request(method, "/ping", &[], b"");
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert!(answer.header("x-influxdb-version").is_some_and(|version| version.starts_with("1.8")));
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let created = json!({ "results": [{ "statement_id": 0 }] });
    // Telegraf's form, and Python's address.
    let answer = service.request("POST", "/query", &form, b"q=CREATE+DATABASE+%22telegraf%22");
    assert_eq!((answer.status, answer.json()), (200, created.clone()));
    let answer = service.request("POST", "/query?q=create%20database%20%22a%3Bb%22%3B&db=x", &[], b"");
    assert_eq!(
        (answer.status, answer.json()),
        (400, answer.json()),
        "one statement, which this does not look like"
    );
    let answer = service.request("POST", "/query?q=create%20database%20ab%3B", &[], b"");
    assert_eq!((answer.status, answer.json()), (200, created));
    for (path, body) in [
        ("/query?q=SHOW%20DATABASES", ""),
        ("/query?q=CREATE%20DATABASE%20a%3B%20DROP%20DATABASE%20a", ""),
        ("/query", ""),
        ("/query", "p=1"),
    ] {
        let answer = service.request("POST", path, &form, body.as_bytes());
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.json()["error"].is_string());
    }
    assert_eq!(service.request("GET", "/write", &[], b"").status, 405);
}
