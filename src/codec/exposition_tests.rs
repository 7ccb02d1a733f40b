//! Tests of the exposition parser: both formats, bad lines, any bytes.

use super::*;
use proptest::prelude::*;

/// Samples as `name label=value .. value [time_ns]`, then the outcome's counts and errors.
fn check(format: TextFormat, text: &str, samples: &[&str], not_finite: u64, errors: &[(usize, &str)]) {
    let mut seen = Vec::new();
    let outcome = read(text.as_bytes(), format, |sample| {
        let mut line = sample.name.to_string();
        sample.labels.iter().for_each(|(n, v)| line.push_str(&format!(" {n}={v}")));
        line.push_str(&format!(" {:?}", sample.value));
        sample.time_ns.into_iter().for_each(|t| line.push_str(&format!(" @{t}")));
        seen.push(line);
    });
    assert_eq!(seen, samples, "{text}");
    assert_eq!((outcome.samples, outcome.not_finite), (samples.len() as u64, not_finite), "{text}");
    let found: Vec<_> = outcome.errors.iter().map(|e| (e.line, e.reason.as_str())).collect();
    assert_eq!(found, errors, "{text}");
    assert_eq!(outcome.rejected, errors.len() as u64);
}

#[test]
fn reads_prometheus_text() {
    let text = r#"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400",}    3 1395066363000

msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum	53423
	spaced { a = "1" , b="ü" } -0x
rpc:count NaN
"#;
    check(
        TextFormat::Prometheus,
        text,
        &[
            "http_requests_total method=post code=200 1027.0 @1395066363000000000",
            "http_requests_total method=post code=400 3.0 @1395066363000000000",
            "msdos_file_access_time_seconds path=C:\\DIR\\FILE.TXT error=Cannot find file:\n\"FILE.TXT\" 1458255915.0",
            "metric_without_timestamp_and_labels 12.47",
            "http_request_duration_seconds_bucket le=+Inf 144320.0",
            "http_request_duration_seconds_sum 53423.0",
        ],
        2,
        &[(12, "byte 30: expected a number, found \"-0x\"")],
    );
}

#[test]
fn reads_openmetrics() {
    let text = "# TYPE acme counter\n# UNIT acme seconds\nacme_total{a=\"b # {\"} 17 1520879607.789 # {trace_id=\"x\"} 0.67 1520879607.7\n\
                    acme_created 1520430000.123\nb_bucket{le=\"0.1\"} 8 # {} 0.054\nc 1 1704110400.123456789\nd 1 1e3\n# EOF\n";
    let samples = [
        "acme_total a=b # { 17.0 @1520879607789000000",
        "acme_created 1520430000.123",
        "b_bucket le=0.1 8.0",
        "c 1.0 @1704110400123456789",
        "d 1.0 @1000000000000",
    ];
    check(TextFormat::OpenMetrics, text, &samples, 0, &[]);
    let cut = [(1, "expected '# EOF' at the end, found the text cut short")];
    check(TextFormat::OpenMetrics, "a 1\n", &["a 1.0"], 0, &cut);
    check(TextFormat::OpenMetrics, "# EOF\na 1\n", &[], 0, &[(2, "expected nothing after '# EOF'")]);
}

#[test]
fn a_bad_line_leaves_its_neighbours() {
    for (bad, reason) in [
        ("9a 1", "byte 1: expected a metric name, found '9'"),
        ("a", "byte 2: expected a number, found the end of the line"),
        ("a b", "byte 3: expected a number, found \"b\""),
        ("a{ 1", "byte 4: expected a label name or '}', found '1'"),
        ("a{b} 1", "byte 4: expected '=', found '}'"),
        ("a{b=c} 1", "byte 5: expected '\"', found 'c'"),
        ("a{b=\"c} 1", "byte 10: expected '\"', found the end of the line"),
        ("a{b=\"c\\", "byte 8: expected '\"', found the end of the line"),
        ("a{b=\"c\" d=\"e\"} 1", "byte 9: expected ',' or '}', found 'd'"),
        ("a{b=\"1\",b=\"2\"} 1", "expected each label once, found 'b' twice"),
        ("a 1 x", "byte 5: expected a time in milliseconds, found \"x\""),
        ("a 1 9223372036854775807", "byte 5: expected a time in milliseconds, found \"9223372036854775807\""),
        ("a 1 2 3", "byte 7: expected the end of the line, found '3'"),
        ("a 1 # {} 2", "byte 5: expected the end of the line, found '#'"),
        ("{b=\"1\"} 1", "byte 8: expected a metric name, found ' '"),
        ("ü 1", "byte 1: expected a metric name, found 'ü'"),
    ] {
        let text = format!("first 1\n{bad}\nlast 2\n");
        check(TextFormat::Prometheus, &text, &["first 1.0", "last 2.0"], 0, &[(2, reason)]);
    }
    let mut names = Vec::new();
    let outcome = read(b"a 1\n\xff 2\nb 3", TextFormat::Prometheus, |s| names.push(s.name.into_owned()));
    assert_eq!(names, ["a", "b"]);
    assert_eq!(outcome.errors[0].reason, "expected UTF-8, found another byte at byte 1");
}

#[test]
fn reads_quoted_names() {
    let text = "{\"my.metric\", \"a b\"=\"c\"} 1\n{\"m\"} 2";
    check(TextFormat::Prometheus, text, &["my.metric a b=c 1.0", "m 2.0"], 0, &[]);
}

#[test]
fn formats_are_recognised() {
    let om = Some("application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(TextFormat::of_content_type(om), TextFormat::OpenMetrics);
    assert_eq!(TextFormat::of_content_type(Some("text/plain; version=0.0.4")), TextFormat::Prometheus);
    assert_eq!(TextFormat::of_content_type(None), TextFormat::Prometheus);
    assert_eq!(TextFormat::of_text(b"a 1\n# EOF\n"), TextFormat::OpenMetrics);
    assert_eq!(TextFormat::of_text(b"a 1\n"), TextFormat::Prometheus);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
            read(&bytes, format, |sample| assert!(sample.value.is_finite()));
        }
    }

    #[test]
    fn no_likely_text_makes_it_panic(text in "([a-z{}=\",\\\\ #0-9.ü\t\n+-]|NaN|EOF|\\{a=\"){0,80}") {
        for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
            let lines = text.lines().count() as u64;
            let outcome = read(text.as_bytes(), format, |sample| assert!(sample.value.is_finite()));
            prop_assert!(outcome.samples + outcome.not_finite + outcome.rejected <= lines + 1);
        }
    }

    #[test]
    fn what_is_written_is_read(
        value in any::<f64>().prop_filter("finite", |v| v.is_finite()),
        labels in prop::collection::btree_map("[a-z_][a-z0-9_]{0,8}", any::<String>(), 0..5),
        ms in any::<i32>(),
    ) {
        let escape = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let written: Vec<_> = labels.iter().map(|(n, v)| format!("{n}=\"{}\"", escape(v))).collect();
        let text = format!("m:x{{{}}} {value:?} {ms}", written.join(","));
        let mut seen = Vec::new();
        let outcome = read(text.as_bytes(), TextFormat::Prometheus, |s| {
            let labels: Vec<_> = s.labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            seen.push((labels, s.value.to_bits(), s.time_ns));
        });
        let expect = (labels.into_iter().collect::<Vec<_>>(), value.to_bits(), Some(i64::from(ms) * 1_000_000));
        prop_assert_eq!(seen, vec![expect], "{:?}", outcome);
    }
}
