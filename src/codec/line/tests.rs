//! Tests of the line protocol: lines, rejects, hostile input.

use super::*;
use crate::codec::decoder::{Limits, REJECTS_TOLD_MAX};
use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::{SECOND, TimeNs};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Arrival clock.
const NOW: TimeNs = 1_704_110_400 * SECOND;

fn decoder() -> (Decoder, Arc<Catalog>) {
    let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
    let limits = Limits { future_max_ns: i64::MAX, ..Limits::default() };
    (Decoder::new(catalog.clone(), limits), catalog)
}

/// Samples as `service{tags} metric=value@time`, then rejects as `!index reason: found`, then what was passed over.
fn told(decoder: &Decoder, catalog: &Catalog) -> Vec<String> {
    let samples = decoder.samples.iter().map(|s| {
        let key = catalog.key(s.series).unwrap();
        let tags: Vec<String> = key.target.tags.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let at = if s.time_ns == NOW { "now".to_string() } else { s.time_ns.to_string() };
        format!("{}{{{}}} {}={}@{at}", key.target.service, tags.join(","), key.metric, s.value)
    });
    let rejects = decoder.rejects.iter().map(|r| {
        let metric = r.metric.as_deref().map(|name| format!("{name} ")).unwrap_or_default();
        format!("!{} {metric}{}: {}", r.index, r.reason.word(), found_and_line(&r.found).0)
    });
    let untold = decoder.untold.iter().map(|reason| format!("~{}", reason.word()));
    samples.chain(rejects).chain(untold).collect()
}

fn decode_as(protocol: &LineProtocol, body: &[u8]) -> Vec<String> {
    let (mut decoder, catalog) = decoder();
    let mut seen = Vec::new();
    // Cold, and with known shapes: both must say the same.
    for _ in 0..2 {
        decoder.begin(NOW);
        protocol.decode(body, &mut decoder).unwrap();
        seen.push(told(&decoder, &catalog));
    }
    assert_eq!(seen[0], seen[1], "cold and warm differ: {}", String::from_utf8_lossy(body));
    seen.remove(0)
}

fn decode(body: &str) -> Vec<String> {
    decode_as(&USUAL, body.as_bytes())
}

#[test]
fn lines_become_samples() {
    let cases: &[(&str, &[&str])] = &[
        ("m v=1 1", &["m{} v=1@1"]),
        ("m v=1", &["m{} v=1@now"]),
        (
            "m,b=2,a=1 v=1.5,w=-3i,x=7u 17",
            &["m{a=1,b=2} v=1.5@17", "m{a=1,b=2} w=-3@17", "m{a=1,b=2} x=7@17"],
        ),
        ("m v=1 -1\nn w=2 2", &["m{} v=1@-1", "n{} w=2@2"]),
        ("m v=1 1\r\nn v=2\r\n\r\n", &["m{} v=1@1", "n{} v=2@now"]),
        ("\n# a comment, x=\"\n  # another\n \t m  v=1  1  \n\n", &["m{} v=1@1"]),
        ("cpu,service=a,host=h usage=1 1", &["a{host=h,measurement=cpu} usage=1@1"]),
        ("a,service=a,host=h usage=1 1", &["a{host=h} usage=1@1"]),
        ("cpu,service=a,measurement=x usage=1 1", &["a{measurement=x} usage=1@1"]),
        ("cpu,measurement=x usage=1 1", &["cpu{measurement=x} usage=1@1"]),
        (
            "m a=t,b=T,c=true,d=True,e=TRUE 1",
            &["m{} a=1@1", "m{} b=1@1", "m{} c=1@1", "m{} d=1@1", "m{} e=1@1"],
        ),
        (
            "m a=f,b=F,c=false,d=False,e=FALSE 1",
            &["m{} a=0@1", "m{} b=0@1", "m{} c=0@1", "m{} d=0@1", "m{} e=0@1"],
        ),
        ("m a=\"text\",b=2 1", &["m{} b=2@1", "~text_field"]),
        ("m a=\"only\" 1", &["~text_field"]),
        ("m v=1,v=2 1", &["m{} v=2@1"]),
        ("m b=1,a=2,b=3,c=4,a=5 1", &["m{} b=3@1", "m{} c=4@1", "m{} a=5@1"]),
        ("m b=1 1\nm a=2,b=3 2", &["m{} b=1@1", "m{} a=2@2", "m{} b=3@2"]),
        ("m time=1 1", &["m{} time=1@1"]),
        ("=a v=1 1", &["=a{} v=1@1"]),
        ("m=a#,t=#b #=1 1", &["m=a#{t=#b} #=1@1"]),
        ("\"m\",a=\"b\" \"v\"=1 1", &["\"m\"{a=\"b\"} \"v\"=1@1"]),
        ("é,ü=ö ß=1 1", &["é{ü=ö} ß=1@1"]),
        (
            "m v=.5,w=1.,x=-.5,y=01,z=00i 1",
            &["m{} v=0.5@1", "m{} w=1@1", "m{} x=-0.5@1", "m{} y=1@1", "m{} z=0@1"],
        ),
        (
            "m v=1e5,w=1E5,x=1e+5,y=1e-5 1",
            &["m{} v=100000@1", "m{} w=100000@1", "m{} x=100000@1", "m{} y=0.00001@1"],
        ),
        (
            "m v=9223372036854775807i,w=-9223372036854775808i 1",
            &["m{} v=9223372036854776000@1", "m{} w=-9223372036854776000@1"],
        ),
        ("m v=18446744073709551615u,w=1e-400 1", &["m{} v=18446744073709552000@1", "m{} w=0@1"]),
        (
            "m v=1 9223372036854775806\nm v=1 -9223372036854775806",
            &["m{} v=1@9223372036854775806", "m{} v=1@-9223372036854775806"],
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(decode(body), *expected, "{body}");
    }
}

#[test]
fn escapes_and_texts() {
    let cases: &[(&str, &[&str])] = &[
        (r"m\,x\ y\=z,a\,b\ c\=d=e\,f\ g\=h i\,j\ k\=l\m=1 1", &[r"m,x y=z{a,b c=d=e,f g=h} i,j k=l\m=1@1"]),
        (r"\ m \,v=1,\ w=2,\=x=3 1", &[" m{} ,v=1@1", " m{}  w=2@1", " m{} =x=3@1"]),
        (r#"m v\"=1 1"#, &[r#"m{} v"=1@1"#]),
        (r"m,a=b\n v=1 1", &[r"m{a=b\n} v=1@1"]),
        (r"m\\,a=b v=1 1", &[r"m\,a=b{} v=1@1"]),
        (r#"m a="b c,d=e\"f\\",v=1 1"#, &["m{} v=1@1", "~text_field"]),
        ("m a=\"b\nn v=1 2\n\",v=1 1\nm v=3 3", &["m{} v=1@1", "m{} v=3@3", "~text_field"]),
        ("m a=\"\",v=1 1", &["m{} v=1@1", "~text_field"]),
        (r#"m a="x\\\",v=2" 1"#, &["~text_field"]),
        (r"m,a=b\ v=1 1", &["!0 bad_line: invalid tag format"]),
        (r"m v=1\ 1", &["!0 not_a_number: invalid number"]),
        ("m a=\"b\"c 1", &["!0 bad_line: invalid field format"]),
        // A text that is never closed costs its line alone.
        ("m v=1 1\nm a=\"b 2\nm v=3 3", &["m{} v=1@1", "m{} v=3@3", "!1 bad_line: unbalanced quotes"]),
        // Which quote lacks its partner can't be told: one is closed by the next there is.
        ("m a=\"b 1\nm v=1,c=\"d\" 2", &["!0 bad_line: invalid field format"]),
    ];
    for (body, expected) in cases {
        assert_eq!(decode(body), *expected, "{body}");
    }
}

#[test]
fn bad_lines_are_told_and_their_neighbours_pass() {
    for (line, expected) in [
        (",a=1 v=1 1", "bad_line: missing measurement"),
        ("m", "bad_line: missing fields"),
        ("m,a=1", "bad_line: missing fields"),
        ("m ", "bad_line: invalid field format"),
        ("m, v=1 1", "bad_line: missing tag key"),
        ("m,=1 v=1 1", "bad_line: missing tag key"),
        ("m,a=1, v=1 1", "bad_line: missing tag key"),
        ("m,a=1,,b=2 v=1 1", "bad_line: missing tag key"),
        ("m,a v=1 1", "bad_line: missing tag value"),
        ("m,a= v=1 1", "bad_line: missing tag value"),
        (r"m,a\=b v=1 1", "bad_line: missing tag value"),
        ("m,a=b=c v=1 1", "bad_line: invalid tag format"),
        ("m,a=1,a=1 v=1 1", "bad_line: duplicate tags"),
        ("m,a=1,b=2,a=3 v=1 1", "bad_line: duplicate tags"),
        ("m v 1", "bad_line: invalid field format"),
        ("m v=1,w 1", "bad_line: invalid field format"),
        ("m v=1, 1", "bad_line: invalid field format"),
        ("m v=1,,w=2 1", "bad_line: invalid field format"),
        ("m =1 1", "bad_line: missing field key"),
        ("m v=1,=2 1", "bad_line: missing field key"),
        ("m v= 1", "bad_line: missing field value"),
        ("m v=1,w=,x=2 1", "bad_line: missing field value"),
        ("m v=1 1 2", "bad_line: point is invalid"),
        ("m v=1 1 x", "bad_line: point is invalid"),
        ("m v=tRUE 1", "not_a_number: invalid boolean"),
        ("m v=NaN 1", "not_a_number: invalid boolean"),
        ("m v=Inf 1", "not_a_number: invalid boolean"),
        ("m v=-inf 1", "not_a_number: invalid number"),
        ("m v=+1 1", "not_a_number: invalid boolean"),
        ("m v=- 1", "not_a_number: invalid number"),
        ("m v=. 1", "not_a_number: invalid number"),
        ("m v=1.i 1", "not_a_number: invalid number"),
        ("m v=1e 1", "not_a_number: invalid number"),
        ("m v=1e5i 1", "not_a_number: invalid number"),
        ("m v=1i1 1", "not_a_number: invalid number"),
        ("m v=0x10 1", "not_a_number: invalid number"),
        ("m v=1-1 1", "not_a_number: invalid number"),
        ("m v=--1 1", "not_a_number: invalid number"),
        ("m v=9223372036854775808i 1", "not_a_number: integer out of range"),
        ("m v=-9223372036854775809i 1", "not_a_number: integer out of range"),
        ("m v=18446744073709551616u 1", "not_a_number: unsigned integer out of range"),
        ("m v=-1u 1", "not_a_number: unsigned integer out of range"),
        ("m good=1,v=1e400 1", "not_finite: invalid float"),
        ("m v=1 +1", "bad_timestamp: bad timestamp"),
        ("m v=1 1.5", "bad_timestamp: bad timestamp"),
        ("m v=1 -", "bad_timestamp: bad timestamp"),
        ("m v=1 1\t", "bad_timestamp: bad timestamp"),
        ("m v=1 9223372036854775807", "bad_timestamp: time out of range"),
        ("m v=1 -9223372036854775807", "bad_timestamp: time out of range"),
        ("m v=1 9223372036854775808", "bad_timestamp: time out of range"),
        ("m\tx v=1 1", "control_character: m\u{fffd}x"),
        ("m,a=\x01 v=1 1", "control_character: in tag a"),
    ] {
        let body = format!("a v=1 1\n{line}\nb v=2 2\n");
        assert_eq!(decode(&body), ["a{} v=1@1", "b{} v=2@2", &format!("!1 {expected}")], "{line}");
    }
    assert_eq!(
        decode_as(&USUAL, b"a v=1 1\nm,a=\xff v=1 1\nb v=2 2"),
        ["a{} v=1@1", "b{} v=2@2", "!1 bad_line: expected UTF-8"]
    );
}

/// A line without a time is an observation of its own, and all of a body are of one kind.
#[test]
fn what_carries_a_time_is_known_when_it_is_sent_again() {
    let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
    for (dedup, body, expected) in [
        (true, "m v=1 1\nm v=1 2", [true, true]),
        (true, "m v=1 1\nm v=1", [false, false]),
        (true, "m v=1\nbad\nm v=2", [false, false]),
        (true, "m v=1 1\nm v=bad\nm v=2 2", [true, true]),
        (false, "m v=1 1\nm v=1 2", [false, false]),
    ] {
        let mut decoder = Decoder::new(catalog.clone(), Limits { dedup, ..Limits::default() });
        decoder.begin(NOW);
        USUAL.decode(body.as_bytes(), &mut decoder).unwrap();
        let marked: Vec<bool> = decoder.samples.iter().map(Sample::is_dedup).collect();
        assert_eq!(marked, expected, "{body}");
    }
}

#[test]
fn a_bad_line_leaves_no_series_behind() {
    let (mut decoder, catalog) = decoder();
    for body in ["m good=1,bad=x 1", "m,a=1,a=2 v=1 1", "m v=1 soon", "m v=1,w=\"text\"x 1"] {
        decoder.begin(NOW);
        USUAL.decode(body.as_bytes(), &mut decoder).unwrap();
        assert_eq!((decoder.samples.len(), decoder.rejected(), catalog.len()), (0, 1, 0), "{body}");
    }
}

#[test]
fn limits_of_ours() {
    let catalog = Arc::new(Catalog::new(CatalogLimits { series_max: 3, ..CatalogLimits::default() }));
    let limits = Limits { tags_len_max: 2, name_len_max: 5, tag_len_max: 4, ..Limits::default() };
    let mut decoder = Decoder::new(catalog.clone(), limits);
    decoder.begin(NOW);
    let body = "m a=1,b=2,c=3,d=4 1\nm,a=1,b=2,c=3 v=1 1\nm,a=toolong v=1 1\nmeasurement v=1 1\n\
                m toolong=1,a=5 1\nm a=6 1904110400000000000\n";
    USUAL.decode(body.as_bytes(), &mut decoder).unwrap();
    let expected = [
        "m{} a=1@1",
        "m{} b=2@1",
        "m{} c=3@1",
        "m{} a=5@1",
        "!0 d series_limit: ",
        "!1 too_many_tags: 3 tags",
        "!2 tag_too_long: 7 bytes in tag a",
        "!3 name_too_long: 11 bytes",
        "!4 toolong name_too_long: 7 bytes",
        "!5 too_far_ahead: 200000000 s ahead",
    ];
    assert_eq!(told(&decoder, &catalog), expected);
    let lines: Vec<&str> = decoder.rejects.iter().map(|reject| found_and_line(&reject.found).1).collect();
    assert_eq!(lines[..3], ["m a=1,b=2,c=3,d=4 1", "m,a=1,b=2,c=3 v=1 1", "m,a=toolong v=1 1"]);
}

#[test]
fn precisions() {
    for (word, time, expected) in [
        ("ns", "1704110400000000001", Some("1704110400000000001")),
        ("n", "5", Some("5")),
        ("us", "5", Some("5000")),
        ("u", "-5", Some("-5000")),
        ("ms", "5", Some("5000000")),
        ("s", "5", Some("5000000000")),
        ("m", "5", Some("300000000000")),
        ("h", "5", Some("18000000000000")),
        ("second", "9223372036", Some("9223372036000000000")),
        ("second", "9223372037", None),
        ("s", "-9223372037", None),
        ("h", "2562048", None),
        ("auto", "1704110400", Some("now")),
        ("auto", "1704110400000", Some("now")),
        ("auto", "1704110400000000", Some("now")),
        ("auto", "1704110400000000000", Some("now")),
        ("auto", "-1", Some("-1000000000")),
        ("nanosecond", "7", Some("7")),
        ("microsecond", "7", Some("7000")),
        ("millisecond", "7", Some("7000000")),
    ] {
        let precision = Precision::of_word(word).unwrap();
        let protocol = LineProtocol { precision, is_whole: false };
        let expected = match expected {
            Some(time) => format!("m{{}} v=1@{time}"),
            None => "!0 bad_timestamp: time out of range".into(),
        };
        assert_eq!(decode_as(&protocol, format!("m v=1 {time}").as_bytes()), [expected], "{word} {time}");
    }
    assert_eq!(["", "S", "d", "min"].map(Precision::of_word), [None; 4]);
}

#[test]
fn all_or_nothing_where_it_is_asked_for() {
    let protocol = LineProtocol { precision: Precision::NANOSECOND, is_whole: true };
    assert_eq!(decode_as(&protocol, b"m v=1 1\nm a=\"text\" 2"), ["m{} v=1@1", "~text_field"]);
    assert_eq!(decode_as(&protocol, b"m v=1 1\nbad\nm v=2 2"), ["!1 bad_line: missing fields"]);
}

#[test]
fn many_fields_are_found_in_any_order() {
    let fields: Vec<String> = (0..100).map(|at| format!("f{at}={at}")).collect();
    let reversed: Vec<&str> = fields.iter().rev().map(String::as_str).collect();
    let mut told = decode(&format!("m {} 1\nm {} 1", fields.join(","), reversed.join(",")));
    let second = told.split_off(100);
    assert!(told.iter().eq(second.iter().rev()) && told[42] == "m{} f42=42@1", "{told:?}");
}

/// A text that a line can hold: not empty, no line break, no backslash at its end or before a character that it would escape.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-c]{1,2}", 2 => "[a-c,= \"'éü#]{1,6}", 1 => "[a-z]{0,3}(\\\\[a-z]){1,2}"]
        .prop_filter("a comment or a leading blank", |name| !name.starts_with(['#', ' ']))
}

fn escaped(text: &str, special: &str) -> String {
    text.chars().flat_map(|c| special.contains(c).then_some('\\').into_iter().chain([c])).collect()
}

#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    Text(String),
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(Value::Float),
        2 => any::<i64>().prop_map(Value::Integer),
        1 => any::<u64>().prop_map(Value::Unsigned),
        1 => any::<bool>().prop_map(Value::Boolean),
        2 => "[a\"\\\\,= \n=é]{0,8}".prop_map(Value::Text),
    ]
}

impl Value {
    fn spelled(&self) -> String {
        match self {
            Value::Float(v) => format!("{v}"),
            Value::Integer(v) => format!("{v}i"),
            Value::Unsigned(v) => format!("{v}u"),
            Value::Boolean(v) => format!("{v}"),
            Value::Text(v) => format!("\"{}\"", escaped(v, "\"\\")),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Value::Float(v) => Some(*v),
            Value::Integer(v) => Some(*v as f64),
            Value::Unsigned(v) => Some(*v as f64),
            Value::Boolean(v) => Some(f64::from(u8::from(*v))),
            Value::Text(_) => None,
        }
    }
}

type Point = (String, BTreeMap<String, String>, Vec<(String, Value)>, i64);

fn point() -> impl Strategy<Value = Point> {
    let tags = prop::collection::btree_map(name(), name(), 0..4);
    let fields = prop::collection::vec((name(), value()), 1..6);
    (name(), tags, fields, -1_000_000i64..1_000_000)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(points in prop::collection::vec(point(), 1..6), crlf: bool) {
        let mut body = String::new();
        let mut expected = Vec::new();
        for (measurement, tags, fields, time) in &points {
            body.push_str(&escaped(measurement, ", ="));
            // Backwards: the order of tags must not matter.
            for (key, value) in tags.iter().rev() {
                body.push_str(&format!(",{}={}", escaped(key, ",= "), escaped(value, ",= ")));
            }
            let spelled: Vec<String> =
                fields.iter().map(|(key, value)| format!("{}={}", escaped(key, ",= \""), value.spelled())).collect();
            body.push_str(&format!(" {} {time}{}", spelled.join(","), if crlf { "\r\n" } else { "\n" }));
            let numbers: Vec<(&str, f64)> =
                fields.iter().filter_map(|(key, value)| Some((key.as_str(), value.number()?))).collect();
            for (at, (key, value)) in numbers.iter().enumerate() {
                if numbers[at + 1..].iter().all(|(later, _)| later != key) {
                    let tags: Vec<(String, String)> =
                        tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                    expected.push((measurement.clone(), tags, key.to_string(), value.to_bits(), *time));
                }
            }
        }
        let (mut decoder, catalog) = decoder();
        for _ in 0..2 {
            decoder.begin(NOW);
            USUAL.decode(body.as_bytes(), &mut decoder).unwrap();
            prop_assert_eq!(decoder.rejected(), 0, "{}: {:?}", body, decoder.rejects);
            prop_assert_eq!(decoder.messages as usize, points.len());
            let read: Vec<_> = decoder.samples.iter().map(|s| {
                let key = catalog.key(s.series).unwrap();
                let tags = key.target.tags.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
                (key.target.service.to_string(), tags, key.metric.to_string(), s.value.to_bits(), s.time_ns)
            }).collect();
            prop_assert_eq!(&read, &expected, "{}", body);
        }
    }

    #[test]
    fn nothing_panics_and_every_line_is_counted(body in "([mv,= \"\\\\#\n\r\t1.e+iu-]|é){0,80}", bytes: Vec<u8>) {
        for body in [body.as_bytes(), &bytes] {
            let (mut decoder, _) = decoder();
            decoder.begin(NOW);
            USUAL.decode(body, &mut decoder).unwrap();
            let told = decoder.samples.len() + decoder.rejects.len() + decoder.untold.len();
            prop_assert!(told >= decoder.messages as usize, "a line without a trace");
        }
    }
}

/// Bodies that would take hours if something in them were looked for again and again.
#[test]
fn hostile_bodies_take_linear_time() {
    const LEN: usize = 1 << 20;
    let repeated = |start: &str, part: &str, end: &str| {
        format!("{start}{}{end}", part.repeat(LEN / part.len())).into_bytes()
    };
    let numbered = |start: &str, part: &dyn Fn(usize) -> String, end: &str| {
        let parts: String = (0..LEN / 10).map(part).collect();
        format!("{start}{parts}{end}").into_bytes()
    };
    let bodies = [
        ("backslashes", repeated("m", "\\", " v=1 1")),
        ("one text without end", repeated("m v=\"", "a\n", "")),
        ("texts without end", repeated("", "m v=\"\n", "")),
        ("texts that go on", repeated("m a=\"", "\" a=\"\n", "")),
        ("texts that may go on", repeated("m a=\"", "x y=\",k=\"\n", "")),
        ("quotes", repeated("", "\"", "")),
        ("quotes in lines", repeated("", "m v=\"\"\"\n", "")),
        ("short lines", repeated("", "m\n", "")),
        ("empty lines", repeated("", "\n", "")),
        ("blanks", repeated("m", " ", "")),
        ("comments", repeated("", "#\"\n", "")),
        ("one name", repeated("", "m", " v=1")),
        ("one number", repeated("m v=", "9", " 1")),
        ("one time", repeated("m v=1 ", "9", "")),
        ("one tag", repeated("m,a=", "b", " v=1")),
        ("tags", numbered("m", &|at| format!(",a{at}=b"), " v=1")),
        ("fields", numbered("m a=1", &|at| format!(",a{at}=1"), " 1")),
        ("the same field", repeated("m a=1", ",a=1", " 1")),
        ("lines of many fields", {
            let line =
                format!("m {} 1\n", (0..60_000).map(|at| format!("f{at}=1")).collect::<Vec<_>>().join(","));
            line.repeat(8).into_bytes()
        }),
        ("binary", (0..=255).cycle().take(LEN).collect()),
    ];
    for (what, body) in bodies {
        let (mut decoder, _) = decoder();
        decoder.begin(NOW);
        let began = Instant::now();
        USUAL.decode(&body, &mut decoder).unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", began.elapsed());
        assert!(decoder.rejects.len() <= REJECTS_TOLD_MAX, "{what}");
    }
}

#[test]
fn many_rejects_are_counted_and_some_are_told() {
    let (mut decoder, _) = decoder();
    decoder.begin(NOW);
    USUAL.decode("bad\n".repeat(REJECTS_TOLD_MAX + 5).as_bytes(), &mut decoder).unwrap();
    assert_eq!((decoder.rejects.len(), decoder.rejected()), (REJECTS_TOLD_MAX, REJECTS_TOLD_MAX + 5));
}

/// Figures: `cargo test --release --lib codec::line -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
fn nanoseconds_per_sample() {
    let line = |host: usize| {
        let fields: Vec<String> = (0..10)
            .map(|at| format!("a_metric_of_host_{at}={}.{:03}", host % 97 + at, host * 7 % 1000))
            .collect();
        format!(
            "system,host=server-{host:04},environment=production,location=rack-{} {}\n",
            host % 40,
            fields.join(",")
        )
    };
    let body: String = (0..100).map(line).collect();
    let (mut decoder, _) = decoder();
    let began = Instant::now();
    let rounds = 5_000;
    for _ in 0..rounds {
        decoder.begin(NOW);
        USUAL.decode(body.as_bytes(), &mut decoder).unwrap();
        assert_eq!(decoder.samples.len(), 1_000);
    }
    println!("{:.1} ns a sample", began.elapsed().as_nanos() as f64 / f64::from(rounds) / 1_000.0);
}
