//! The fast tier against the full parser: the same samples, rejects and errors on every input, known or new.

use std::sync::Arc;

use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::SECOND;
use proptest::prelude::*;

use crate::codec::Codec;
use crate::codec::decoder::{Decoder, Limits};
use crate::codec::json::{Json, decode_fully};

/// Everything that a body comes to: samples, rejects, messages, the error's byte, series of the catalog.
type Outcome = (Vec<(u32, i64, u64)>, Vec<String>, u64, Option<usize>, usize);

const KNOWN: &str = r#"[{"service":"s","metrics":{"a":1,"b":2,"c":3},"tags":{"h":"1","é":"ü"}},{"service":"s","metrics":{"a":1}},{"metrics":{"a":1}}]"#;

struct Tiers {
    both: Decoder,
    full: Decoder,
    catalogs: [Arc<Catalog>; 2],
}

impl Tiers {
    /// Two decoders, each with a catalog of its own, that know what `KNOWN` spells.
    fn new() -> Tiers {
        let catalogs = [(); 2].map(|()| Arc::new(Catalog::new(CatalogLimits::default())));
        let [both, full] = catalogs.clone().map(|catalog| Decoder::new(catalog, Limits::default()));
        let mut tiers = Tiers { both, full, catalogs };
        tiers.agree(KNOWN);
        tiers
    }

    /// Decodes by both, compares, and tells whether the fast tier did all of it.
    fn agree(&mut self, body: &str) -> bool {
        let outcome = |decoder: &mut Decoder, catalog: &Catalog, fast: bool| -> Outcome {
            decoder.begin(1_704_110_400 * SECOND);
            decoder.default_service = "topic".into();
            let result =
                if fast { Json.decode(body.as_bytes(), decoder) } else { decode_fully(body, decoder) };
            let samples = decoder.samples.iter().map(|s| (s.series, s.time_ns, s.value.to_bits()));
            let rejects = decoder.rejects.iter().map(|r| format!("{r:?}"));
            let error = result.err().map(|e| e.byte);
            (samples.collect(), rejects.collect(), decoder.messages, error, catalog.len())
        };
        let both = outcome(&mut self.both, &self.catalogs[0], true);
        let full = outcome(&mut self.full, &self.catalogs[1], false);
        assert_eq!(both, full, "{body}");
        self.both.begin(1_704_110_400 * SECOND);
        super::body(body, &mut self.both)
    }
}

#[test]
fn known_messages_take_the_fast_tier_and_others_do_not() {
    let mut tiers = Tiers::new();
    for (body, fast) in [
        (
            r#"{"timestamp":"2024-01-01T12:00:00Z","service":"s","metrics":{"a":1.5,"b":-0},"tags":{"h":"1","é":"ü"}}"#,
            true,
        ),
        (
            r#" { "tags" : {"h":"1","é":"ü"} , "metrics" : { "c" : 1 } , "service" : "s" , "timestamp" : 1704110400.5 } "#,
            true,
        ),
        (r#"{"metrics":{"a":1e3}}"#, true),
        (r#"{"metrics":{"a":1e999}}"#, true),
        (r#"{"metrics":{"a":1},"timestamp":1904110400}"#, true),
        (r#"{"metrics":[{"metrics":{"a":1}}, {"service":"s","metrics":{"a":2}}]}"#, true),
        (r#"[{"metrics":{"a":1}}, 7, {"service":"new","metrics":{"a":2}}]"#, true),
        (r#"{"metrics":[{"metrics":{"a":1}}, {"service":3}]}"#, true),
        ("[]", true),
        (r#"{"metrics":[]}"#, true),
        (r#"{"metrics":[{"metrics":{"a":1}}, {"service":"unseen","metrics":{"a":2}}, x]}"#, false),
        (r#"{"metrics":[{"metrics":{"a":1}}],"more":1}"#, false),
        (r#"{"metrics":{"a":1,"new":"text"}}"#, false),
        (r#"{"metrics":{"a":null}}"#, false),
        (r#"{"metrics":{}}"#, false),
        (r#"{"metrics":{"a":01}}"#, false),
        (r#"{"metrics":{"a":1},"metrics":{"a":1}}"#, false),
        (r#"{"metrics":{"\u0061":1}}"#, false),
        (r#"{"service":"s","metrics":{"a":1},"tags":{"h":"1","é":"ü"}x}"#, false),
        (r#"{"service":"s","metrics":{"a":1},"tags":{"h":"}"}}"#, false),
        (r#"{"metrics":{"a":1}} x"#, false),
        (r#"{"metrics":{"a":1.}}"#, false),
        (r#"{"metrics":{"a":1},"timestamp":"soon"}"#, false),
        ("", false),
    ] {
        assert_eq!(tiers.agree(body), fast, "{body}");
    }
}

/// Parts that messages are made of, well-formed, odd and broken.
fn part() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<f64>().prop_map(|v| format!("{v}")),
        any::<f64>().prop_map(|v| format!("{v:e}")),
        "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?",
        "[-+0-9.eE]{1,6}",
    ];
    let value = prop_oneof![8 => number, 1 => Just("null".to_string()), 1 => Just("\"1\"".to_string())];
    let name = prop_oneof![8 => "[abc]", 1 => "[a-e]{0,2}", 1 => Just("\\u0061".to_string())];
    let metric = (name, value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let metrics =
        prop::collection::vec(metric, 0..5).prop_map(|all| format!("\"metrics\":{{{}}}", all.join(",")));
    let tags = prop_oneof![
        4 => Just(r#"{"h":"1","é":"ü"}"#.to_string()),
        1 => Just(r#"{"h":"1", "é":"ü"}"#.to_string()),
        1 => Just("null".to_string()),
        1 => "\\{\"h\":[\"}1]{0,4}\\}",
    ];
    let time = prop_oneof![
        "1704110[0-9]{3}(\\.[0-9]{1,9})?",
        "\"2024-01-01T1[0-9]:[0-9]{2}:00(\\.[0-9]{1,9})?(Z|\\+01:00)?\"",
        Just("null".to_string()),
    ];
    prop_oneof![
        6 => metrics,
        3 => prop_oneof![4 => Just("\"s\""), 1 => Just("\"other\""), 1 => Just("3")].prop_map(|s| format!("\"service\":{s}")),
        3 => tags.prop_map(|tags| format!("\"tags\":{tags}")),
        3 => time.prop_map(|time| format!("\"timestamp\": {time}")),
        1 => Just("\"x\":[{}]".to_string()),
    ]
}

fn message() -> impl Strategy<Value = String> {
    prop::collection::vec(part(), 0..5).prop_map(|parts| format!("{{{}}}", parts.join(", ")))
}

fn body() -> impl Strategy<Value = String> {
    let list = || prop::collection::vec(message(), 0..5).prop_map(|all| format!("[{}]", all.join(",")));
    prop_oneof![message(), list(), list().prop_map(|list| format!("{{\"metrics\": {list}}}"))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn both_tiers_agree_on_messages(bodies in prop::collection::vec(body(), 1..4)) {
        let mut tiers = Tiers::new();
        for body in bodies {
            tiers.agree(&body);
        }
    }

    #[test]
    fn both_tiers_agree_on_damaged_messages(
        body in body(), at in any::<prop::sample::Index>(), byte in prop_oneof!["[\\[\\]{}\",:0-9a\\\\ \u{1}]", ".?"], cut in any::<bool>(),
    ) {
        let places: Vec<usize> = body.char_indices().map(|(at, _)| at).chain([body.len()]).collect();
        let at = places[at.index(places.len())];
        let end = if cut { body.len() } else { body[at..].chars().next().map_or(at, |c| at + c.len_utf8()) };
        Tiers::new().agree(&format!("{}{byte}{}", &body[..at], &body[end..]));
    }

    #[test]
    fn numbers_are_correctly_rounded(digits in 1u64..2_000_000_000_000_000_000, cut in 0u32..19, point in 0usize..19) {
        let digits = (digits / 10u64.pow(cut)).to_string();
        let (whole, fraction) = digits.split_at(point.min(digits.len() - 1));
        let text = if whole.is_empty() { format!("-0.{fraction}") } else { format!("{}.{fraction}", whole) };
        let mut tiers = Tiers::new();
        let took_fast_tier = tiers.agree(&format!("{{\"metrics\":{{\"a\":{text}}}}}"));
        prop_assert!(took_fast_tier);
        prop_assert_eq!(tiers.both.samples[0].value.to_bits(), text.parse::<f64>().unwrap().to_bits());
    }
}
