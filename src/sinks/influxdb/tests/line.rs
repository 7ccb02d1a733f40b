//! Lines as they are written, and read again by a parser that knows nothing of the encoder.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{NOON, message};
use crate::message::Message;
use crate::sinks::influxdb::line::Encoder;
use crate::sinks::influxdb::{InfluxConfig, Precision, names};

fn lines(config: InfluxConfig, message: &Message) -> String {
    let mut out = Vec::new();
    let count = Encoder::new(&config).unwrap().push(message, &mut out);
    assert_eq!(count, out.iter().filter(|byte| **byte == b'\n').count());
    String::from_utf8(out).unwrap()
}

#[test]
fn the_documented_message_as_a_line() {
    let message = message(
        NOON,
        "system",
        &[("host", "server-01"), ("environment", "production")],
        &[("cpu_usage_percent", 45.2), ("memory_usage_bytes", 1_073_741_824.0)],
    );
    let line = "system_metrics,environment=production,host=server-01 \
                cpu_usage_percent=45.2,memory_usage_bytes=1073741824 1704110400123\n";
    assert_eq!(lines(InfluxConfig::default(), &message), line);
}

#[test]
fn what_has_a_meaning_is_escaped_or_replaced() {
    for (service, tags, metrics, expect) in [
        ("a b,c=d", vec![], vec![("x y,=\"", 1.0)], "a\\ b\\,c=d_metrics x\\ y\\,\\=\"=1"),
        ("s", vec![("k ,=", "v ,=\"")], vec![("x", -0.0)], "s_metrics,k\\ \\,\\==v\\ \\,\\=\" x=-0.0"),
        ("s", vec![("dir", "C:\\"), ("l", "1\n2")], vec![("x", 0.5)], "s_metrics,dir=C:⧵,l=1␊2 x=0.5"),
        ("#s", vec![("e", "")], vec![("time", 1.5)], "＃s_metrics time_=1.5"),
        ("s", vec![("x", "t"), ("time", "t")], vec![("x", 1.0)], "s_metrics,time_=t,x=t x_=1"),
        ("s", vec![], vec![("n", f64::NAN), ("x", 1e300), ("i", f64::INFINITY)], "s_metrics x=1e+300"),
        (
            "s",
            vec![],
            vec![("x", 5e-324), ("y", 1e15), ("z", 1e16)],
            "s_metrics x=5e-324,y=1000000000000000,z=1e+16",
        ),
    ] {
        let written = lines(InfluxConfig::default(), &message(NOON, service, &tags, &metrics));
        assert_eq!(written, format!("{expect} 1704110400123\n"));
    }
    assert_eq!(lines(InfluxConfig::default(), &message(NOON, "s", &[], &[("n", f64::NAN)])), "");
    assert_eq!(lines(InfluxConfig::default(), &message(NOON, "s", &[], &[])), "");
}

#[test]
fn times_are_rounded_down_to_the_unit() {
    for (precision, time_ns, expect) in [
        (Precision::Nanoseconds, NOON, "1704110400123456789"),
        (Precision::Microseconds, NOON, "1704110400123456"),
        (Precision::Milliseconds, NOON, "1704110400123"),
        (Precision::Seconds, NOON, "1704110400"),
        (Precision::Seconds, -1, "-1"),
    ] {
        let config = InfluxConfig { precision, ..InfluxConfig::default() };
        let line = lines(config, &message(time_ns, "s", &[], &[("x", 1.0)]));
        assert_eq!(line, format!("s_metrics x=1 {expect}\n"));
    }
}

#[test]
fn a_measurement_for_each_metric_and_tags_for_every_line() {
    let config = InfluxConfig {
        measurement: "{metric}".into(),
        precision: Precision::Seconds,
        tags: vec![("site".into(), "north 1".into()), ("host".into(), "default".into())],
        ..InfluxConfig::default()
    };
    let message = message(NOON, "s", &[("host", "h"), ("value", "v")], &[("a", 1.0), ("b", 2.0)]);
    let expect = "a,host=h,site=north\\ 1,value=v value_=1 1704110400\n\
                  b,host=h,site=north\\ 1,value=v value_=2 1704110400\n";
    assert_eq!(lines(config, &message), expect);
}

/// Tells texts of line protocol that are hard to write.
fn odd_text() -> impl Strategy<Value = String> {
    // Not a stand-in, which would come back as what it stands for.
    let text = prop_oneof!["[a-z=, \\\\\"#\n\té_]{1,8}", "\\PC{1,6}"];
    text.prop_filter("stands for another", |text| names::restored(text) == text.as_str())
}

/// A line taken apart as the reference says, knowing nothing of the encoder.
#[derive(Debug, Default)]
struct Parsed {
    measurement: String,
    tags: Vec<(String, String)>,
    fields: Vec<(String, u64)>,
    time: i64,
}

/// Text up to an unescaped one of `ends`, which is taken too.
fn up_to(rest: &mut std::str::Chars<'_>, ends: &[char]) -> (String, Option<char>) {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        if ends.contains(&c) {
            return (text, Some(c));
        }
        let next = rest.clone().next();
        match (c, next) {
            ('\\', Some(special @ (',' | '=' | ' '))) => {
                rest.next();
                text.push(special);
            }
            _ => text.push(c),
        }
    }
    (text, None)
}

fn parsed(line: &str) -> Parsed {
    let mut rest = line.chars();
    let (measurement, mut end) = up_to(&mut rest, &[',', ' ']);
    let mut parsed = Parsed { measurement, ..Parsed::default() };
    while end == Some(',') {
        let (key, equals) = up_to(&mut rest, &['=', ',', ' ']);
        assert_eq!(equals, Some('='), "{line}");
        let (value, next) = up_to(&mut rest, &['=', ',', ' ']);
        assert_ne!(next, Some('='), "{line}");
        parsed.tags.push((key, value));
        end = next;
    }
    end = Some(',');
    while end == Some(',') {
        let (key, equals) = up_to(&mut rest, &['=', ',', ' ']);
        assert_eq!(equals, Some('='), "{line}");
        let (value, next) = up_to(&mut rest, &[',', ' ']);
        parsed.fields.push((key, value.parse::<f64>().unwrap().to_bits()));
        end = next;
    }
    parsed.time = rest.as_str().parse().unwrap();
    parsed
}

proptest! {
    #[test]
    fn a_line_reads_back_exactly(
        service in odd_text(),
        tags in prop::collection::btree_map(odd_text(), odd_text(), 0..4),
        metrics in prop::collection::btree_map(odd_text(), any::<f64>(), 1..5),
        time_ns: i64,
    ) {
        let tags: Vec<_> = tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let metrics: Vec<_> = metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let message = message(time_ns, &service, &tags, &metrics);
        let written = lines(InfluxConfig { precision: Precision::Nanoseconds, ..InfluxConfig::default() }, &message);
        let finite = metrics.iter().filter(|(_, value)| value.is_finite());
        let expect: BTreeMap<_, _> = finite.map(|(name, value)| (name.to_string(), value.to_bits())).collect();
        prop_assert_eq!(written.lines().count(), usize::from(!expect.is_empty()));
        prop_assert!(!written.starts_with([' ', '#', ',']), "{}", written);
        for line in written.lines() {
            let parsed = parsed(line);
            prop_assert_eq!(parsed.time, time_ns);
            prop_assert_eq!(names::restored(&parsed.measurement), format!("{service}_metrics"));
            prop_assert!(parsed.tags.is_sorted());
            let keys: Vec<&str> = parsed.tags.iter().map(|(key, _)| key.as_str()).collect();
            let name = |key: &str| names::metric_name(key, &keys);
            let fields: BTreeMap<_, _> = parsed.fields.iter().map(|(key, bits)| (name(key), *bits)).collect();
            prop_assert_eq!(&fields, &expect);
            let back = |(key, value): &(String, String)| (names::tag_name(key), names::restored(value).into());
            let read: BTreeMap<String, String> = parsed.tags.iter().map(back).collect();
            let given = tags.iter().map(|(name, value)| (name.to_string(), value.to_string()));
            prop_assert_eq!(read, given.collect());
        }
    }
}
