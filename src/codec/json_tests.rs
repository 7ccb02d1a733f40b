//! Tests of the JSON codec: shapes, rejects, hostile input.

use super::*;
use crate::codec::decoder::Limits;
use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::SECOND;
use proptest::prelude::*;
use std::sync::Arc;

/// Samples as text, rejects (index, metric, reason), and the byte of a syntax error.
type Decoded = (Vec<String>, Vec<(usize, Option<String>, &'static str)>, Option<usize>);
type Told<'a> = (usize, Option<&'a str>, &'a str);

const NOON: TimeNs = 1_704_110_400 * SECOND;

fn decoder() -> Decoder {
    let mut decoder = Decoder::new(Arc::new(Catalog::new(CatalogLimits::default())), Limits::default());
    decoder.begin(NOON + SECOND);
    decoder
}

/// Decodes twice, cold and with known shapes; both must say the same. `service{tags} metric=value@s`, then rejects.
fn decode(body: &str) -> Decoded {
    let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
    let mut decoder = Decoder::new(catalog.clone(), Limits::default());
    let mut seen = Vec::new();
    for _ in 0..2 {
        decoder.begin(NOON + SECOND);
        decoder.default_service = "org.plantd.Metric".into();
        let error = Json.decode(body.as_bytes(), &mut decoder).err().map(|e| e.byte);
        let samples: Vec<String> = decoder
            .samples
            .iter()
            .map(|s| {
                let key = catalog.key(s.series).unwrap();
                let tags: Vec<String> = key.target.tags.iter().map(|(n, v)| format!("{n}={v}")).collect();
                let at = (s.time_ns - NOON) as f64 / SECOND as f64;
                format!("{}{{{}}} {}={}@{at}", key.target.service, tags.join(","), key.metric, s.value)
            })
            .collect();
        let rejects: Vec<_> =
            decoder.rejects.iter().map(|r| (r.index, r.metric.clone(), r.reason.word())).collect();
        seen.push((samples, rejects, error));
    }
    assert_eq!(seen[0], seen[1], "cold and warm differ: {body}");
    seen.remove(0)
}

#[test]
fn the_documented_shapes() {
    let cases: &[(&str, &[&str])] = &[
        (
            r#"{"timestamp":"2024-01-01T12:00:00Z","service":"system","metrics":{"cpu":45.2,"mem":1073741824},"tags":{"b":"2","a":"1"}}"#,
            &["system{a=1,b=2} cpu=45.2@0", "system{a=1,b=2} mem=1073741824@0"],
        ),
        (r#"{"service":"s","metrics":{"x":1}}"#, &["s{} x=1@1"]),
        (r#"{"service":"s","timestamp":null,"metrics":{"x":1},"tags":null}"#, &["s{} x=1@1"]),
        (r#"{"metrics":{"x":1}}"#, &["org.plantd.Metric{} x=1@1"]),
        (
            r#" [{"service":"s","metrics":{"x":-1e-3}},{"service":"t","metrics":{"y":2}}]"#,
            &["s{} x=-0.001@1", "t{} y=2@1"],
        ),
        (
            r#"{"metrics":[{"service":"s","timestamp":1704110400.5,"metrics":{"x":1}},{"service":"s","timestamp":1704110400250,"metrics":{"x":2}}]}"#,
            &["s{} x=1@0.5", "s{} x=2@0.25"],
        ),
        (r#"{"service":"s\u00e9","metrics":{"a\"b":1},"unknown":{"deep":[[]]}}"#, &["sé{} a\"b=1@1"]),
        (
            r#"{"timestamp":"2024-01-01 12:00:00.5 +0000 UTC m=+1.2","value":"1","units":"count","tags":["weather"]}"#,
            &["org.plantd.Metric{units=count,weather=true} value=1@0.5"],
        ),
        (r#"{"time":"2024-01-01T12:00:00Z","device":"d","channel":"c","value":1.5}"#, &["d{} c=1.5@0"]),
        (r#"{"service":"s","metrics":{"x":1},"tags":{"empty":""}}"#, &["s{} x=1@1"]),
    ];
    for (body, expected) in cases {
        let (samples, rejects, error) = decode(body);
        assert_eq!(
            (samples, rejects.len(), error),
            (expected.iter().map(|s| s.to_string()).collect(), 0, None),
            "{body}"
        );
    }
}

#[test]
fn bad_samples_cost_only_themselves() {
    let long = "x".repeat(300);
    let cases: &[(&str, usize, &[Told])] = &[
        (
            r#"{"service":"s","metrics":{"a":1,"b":"2","c":null,"d":[1],"e":1e999,"":5,"f":6}}"#,
            2,
            &[
                (0, Some("b"), "not_a_number"),
                (0, Some("c"), "not_a_number"),
                (0, Some("d"), "not_a_number"),
                (0, Some("e"), "not_finite"),
                (0, Some(""), "empty_name"),
            ],
        ),
        (
            r#"[{"service":"s","metrics":{"a":1}},7,{"service":3,"metrics":{"a":1}},{"service":"s","metrics":{"a":2}}]"#,
            2,
            &[(1, None, "malformed"), (2, None, "bad_service")],
        ),
        (
            r#"[{"service":"s","timestamp":"soon","metrics":{"a":1}},{"service":"s","timestamp":"2024-01-01T13:00:00Z","metrics":{"a":1}}]"#,
            0,
            &[(0, None, "bad_timestamp"), (1, None, "too_far_ahead")],
        ),
        (
            r#"[{"service":"","metrics":{"a":1}},{"service":"s","metrics":{}},{"service":"s","metrics":[1]},{"service":"s"},{"service":"s","metrics":{"a":1},"tags":["x"]}]"#,
            0,
            &[
                (0, None, "bad_service"),
                (1, None, "no_metrics"),
                (2, None, "no_metrics"),
                (3, None, "no_metrics"),
                (4, None, "bad_tags"),
            ],
        ),
        (
            &format!(
                r#"[{{"service":"s","metrics":{{"{long}":1,"b":1}}}},{{"service":"s","metrics":{{"b":1}},"tags":{{"t":"{long}"}}}}]"#
            ),
            1,
            &[(0, Some(&long[..80]), "name_too_long"), (1, None, "tag_too_long")],
        ),
    ];
    for (body, accepted, expected) in cases {
        let (samples, rejects, error) = decode(body);
        let rejects: Vec<_> =
            rejects.iter().map(|(i, m, w)| (*i, m.as_deref().map(|m| m.trim_end_matches('.')), *w)).collect();
        assert_eq!((samples.len(), rejects, error), (*accepted, expected.to_vec(), None), "{body}");
    }
}

#[test]
fn too_many_tags_turn_a_message_away() {
    let tags: Vec<String> = (0..40).map(|i| format!(r#""t{i}":"v""#)).collect();
    let (samples, rejects, _) =
        decode(&format!(r#"{{"service":"s","metrics":{{"a":1}},"tags":{{{}}}}}"#, tags.join(",")));
    assert_eq!((samples.len(), rejects[0].2), (0, "too_many_tags"));
}

#[test]
fn what_is_no_json_is_an_error_that_says_where() {
    for (body, accepted, byte) in [
        (r#"[{"service":"s","metrics":{"a":1}},{"service":"s","metri"#, 1, 55),
        (r#"{"service":"s","metrics":{"a":1}"#, 0, 32),
        ("", 0, 0),
        ("hello", 0, 0),
        (r#"{"metrics":[{"service":"s","metrics":{"a":1}}, x]}"#, 0, 47),
    ] {
        let (samples, _, error) = decode(body);
        assert_eq!(samples.len(), accepted, "{body}");
        let error = error.expect(body);
        assert!(error.abs_diff(byte) <= 1, "{body}: byte {error}, expected {byte}");
    }
}

#[test]
fn deep_nesting_neither_passes_nor_overflows_the_stack() {
    let deep =
        format!(r#"{{"service":"s","metrics":{{"a":{}1{}}}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    let mut decoder = decoder();
    let _ = Json.decode(deep.as_bytes(), &mut decoder);
    assert!(decoder.samples.is_empty());
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = decoder();
        let _ = Json.decode(&bytes, &mut decoder);
    }

    #[test]
    fn damaged_messages_are_survived(at in 0usize..120, byte in any::<u8>()) {
        let mut body = br#"[{"timestamp":"2024-01-01T12:00:00Z","service":"system","metrics":{"cpu":45.2,"m":1e3},"tags":{"b":"2","a":"1"}},{}]"#.to_vec();
        let at = at % body.len();
        body[at] = byte;
        let mut decoder = decoder();
        let _ = Json.decode(&body, &mut decoder);
        prop_assert!(decoder.samples.iter().all(|s| s.value.is_finite()));
    }

    #[test]
    fn numbers_round_correctly(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let mut decoder = decoder();
        let body = format!(r#"{{"service":"s","metrics":{{"a":{}}}}}"#, serde_json::to_string(&value).unwrap());
        Json.decode(body.as_bytes(), &mut decoder).unwrap();
        prop_assert_eq!(decoder.samples[0].value.to_bits(), value.to_bits());
    }
}
