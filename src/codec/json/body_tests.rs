//! The tiers of the JSON codec against each other: the same samples, rejects and errors on every input, known or new.
//!
//! For longer runs: `PROPTEST_CASES=1000000 cargo test --release --lib codec::json`.

use std::sync::Arc;

use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::SECOND;
use proptest::prelude::*;
use proptest::sample::select;

use crate::codec::Codec;
use crate::codec::decoder::{Decoder, Limits};
use crate::codec::json::{Json, decode_fully};

/// Everything that a body comes to: samples, rejects, messages, the error's byte, series of the catalog.
type Outcome = (Vec<(u32, i64, u64)>, Vec<String>, u64, Option<usize>, usize);

const KNOWN: &str = r#"[{"service":"s","metrics":{"a":1,"b":2,"c":3},"tags":{"h":"1","é":"ü"}},{"service":"s","metrics":{"a":1}},{"metrics":{"a":1}}]"#;

/// Decoders of the same bodies, each with a catalog of its own.
struct Tiers {
    /// All tiers.
    all: Decoder,
    /// The scanner and the full parser.
    scan: Decoder,
    /// The full parser.
    full: Decoder,
    catalogs: [Arc<Catalog>; 3],
}

impl Tiers {
    /// Decoders that know what `KNOWN` spells.
    fn new() -> Tiers {
        let catalogs = [(); 3].map(|()| Arc::new(Catalog::new(CatalogLimits::default())));
        let [all, scan, full] = catalogs.clone().map(|catalog| Decoder::new(catalog, Limits::default()));
        let mut tiers = Tiers { all, scan, full, catalogs };
        tiers.agree(KNOWN.as_bytes());
        tiers
    }

    /// Decodes by all, compares, and names the lowest tier that the next such body needs.
    fn agree(&mut self, body: &[u8]) -> &'static str {
        let outcome = |decoder: &mut Decoder, catalog: &Catalog, full: bool| -> Outcome {
            decoder.begin(1_704_110_400 * SECOND);
            decoder.default_service = "topic".into();
            let result = match std::str::from_utf8(body) {
                Ok(text) if full => decode_fully(text, decoder),
                _ => Json.decode(body, decoder),
            };
            let samples = decoder.samples.iter().map(|s| (s.series, s.time_ns, s.value.to_bits()));
            let rejects = decoder.rejects.iter().map(|r| format!("{r:?}"));
            let error = result.err().map(|e| e.byte);
            (samples.collect(), rejects.collect(), decoder.messages, error, catalog.len())
        };
        self.all.layouts.give_credit();
        self.scan.layouts = Default::default();
        self.scan.layouts.take_scanned();
        let all = outcome(&mut self.all, &self.catalogs[0], false);
        let scan = outcome(&mut self.scan, &self.catalogs[1], false);
        let full = outcome(&mut self.full, &self.catalogs[2], true);
        let text = String::from_utf8_lossy(body);
        assert_eq!(all, full, "all tiers: {text}");
        assert_eq!(scan, full, "the scanner: {text}");
        self.all.begin(1_704_110_400 * SECOND);
        self.all.layouts.take_scanned();
        match super::decode(body, &mut self.all) {
            true if self.all.layouts.take_scanned() == 0 => "known",
            true => "scan",
            false => "full",
        }
    }
}

#[test]
fn each_body_takes_the_fastest_tier_that_can_read_it() {
    let mut tiers = Tiers::new();
    for (body, tier) in [
        (
            r#"{"timestamp":"2024-01-01T12:00:00Z","service":"s","metrics":{"a":1.5,"b":-0},"tags":{"h":"1","é":"ü"}}"#,
            "known",
        ),
        (
            r#" { "tags" : {"h":"1","é":"ü"} , "metrics" : { "c" : 1 } , "service" : "s" , "timestamp" : 1704110400.5 } "#,
            "known",
        ),
        (r#"{"metrics":{"a":1e3}}"#, "known"),
        (r#"{"metrics":{"a":1e999}}"#, "scan"),
        (r#"{"metrics":{"a":1},"timestamp":1904110400}"#, "known"),
        (r#"{"metrics":[{"metrics":{"a":1}}, {"service":"s","metrics":{"a":2}}]}"#, "known"),
        (r#"[{"metrics":{"a":1}}, 7, {"service":"new","metrics":{"a":2}}]"#, "known"),
        (r#"{"metrics":[{"metrics":{"a":1}}, {"service":3}]}"#, "known"),
        ("[]", "known"),
        (r#"{"metrics":[]}"#, "known"),
        (r#"{"metrics":[{"metrics":{"a":1}}, {"service":"unseen","metrics":{"a":2}}, x]}"#, "full"),
        (r#"{"metrics":[{"metrics":{"a":1}}],"more":1}"#, "full"),
        (r#"{"metrics":{"a":1,"new":"text"}}"#, "full"),
        (r#"{"metrics":{"a":null}}"#, "full"),
        (r#"{"metrics":{}}"#, "full"),
        (r#"{"metrics":{"a":01}}"#, "full"),
        (r#"{"metrics":{"a":1},"metrics":{"a":1}}"#, "full"),
        (r#"{"metrics":{"\u0061":1}}"#, "full"),
        (r#"{"service":"s","metrics":{"a":1},"tags":{"h":"1","é":"ü"}x}"#, "full"),
        (r#"{"service":"s","metrics":{"a":1},"tags":{"h":"}"}}"#, "full"),
        (r#"{"metrics":{"a":1}} x"#, "full"),
        (r#"{"metrics":{"a":1.}}"#, "full"),
        (r#"{"metrics":{"a":1},"timestamp":"soon"}"#, "full"),
        ("", "full"),
    ] {
        assert_eq!(tiers.agree(body.as_bytes()), tier, "{body}");
    }
}

#[test]
fn what_a_message_looks_like_is_learned_from_the_first_and_holds_for_other_targets() {
    let mut tiers = Tiers::new();
    let message = |host: &str, values: [&str; 2]| {
        let [a, b] = values;
        format!(
            r#"{{ "service": "s", "metrics": {{"a": {a},"b":{b} }}, "tags": {{"host": "{host}"}}, "timestamp": "2024-01-01T12:00:00Z"}}"#
        )
    };
    for host in ["1", "2", "3"] {
        tiers.agree(message(host, ["1", "2"]).as_bytes());
    }
    // One message teaches what all of them look like.
    tiers.all.layouts = Default::default();
    tiers.agree(message("1", ["1", "2"]).as_bytes());
    for host in ["3", "1", "2", "2", "3"] {
        let body = message(host, ["-0.5", "1e3"]);
        assert!(super::decode(body.as_bytes(), &mut tiers.all));
        assert_eq!(tiers.all.layouts.take_scanned(), 0, "{host}");
    }
}

#[test]
fn what_messages_look_like_is_forgotten_with_their_targets() {
    let mut tiers = Tiers::new();
    let message =
        |names: [&str; 2]| format!(r#"{{"service":"s","metrics":{{"{}":1,"{}":2}}}}"#, names[0], names[1]);
    for round in 0..2 {
        for names in [["a", "b"], ["b", "a"], ["c", "a"]] {
            tiers.agree(message(names).as_bytes());
            assert_eq!(tiers.agree(message(names).as_bytes()), "known", "{round} {names:?}");
        }
        // Numbers of names and of their lists mean something else when they are given in another order.
        tiers.all.shapes.bytes_max = 0;
        tiers.agree(message(["b", "c"]).as_bytes());
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

/// Bodies of messages that look like one another, but for what stands in them.
fn alike() -> impl Strategy<Value = String> {
    let number = || {
        prop_oneof![
            6 => "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,9})?",
            1 => "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?",
        ]
    };
    let time = prop_oneof![
        8 => "\"2024-01-01T12:0[0-2]:[0-6][0-9](\\.[0-9]{1,9})?(Z|\\+01:00)\"",
        4 => "17041104[0-9]{2}(\\.[0-9]{1,3})?",
        1 => select(vec!["\"2024-01-02T12:00:00Z\"", "\"soon\"", "null", "1e300"]).prop_map(String::from),
    ];
    let long = "a_name_that_is_longer_than_thirty_two_bytes_1 a_name_that_is_longer_than_thirty_two_bytes_2";
    let names = select(vec!["a b c", "a b", "b a", "c", "a a", "a b c d", "d", long, &long[46..]]);
    let target = (
        select(vec!["\"s\"", "\"s\"", "\"t\"", "\"u\"", ""]),
        select(vec![r#"{"h":"1","é":"ü"}"#, r#"{"h":"2"}"#, r#"{"h": "2"}"#, r#"{"h":"3","i":""}"#, ""]),
    );
    let looks = (select(vec!["smt", "tsm", "mst", "ism"]), select(vec!["", " "]), names);
    let message = (looks, target, time, prop::collection::vec(number(), 4));
    let message = message.prop_map(|((order, space, names), (service, tags), time, numbers)| {
        let metrics =
            names.split(' ').zip(numbers).map(|(name, number)| format!("\"{name}\":{space}{number}"));
        let metrics: Vec<String> = metrics.collect();
        let field = |name: &str, text: &str| (!text.is_empty()).then(|| format!("\"{name}\":{space}{text}"));
        let metrics = format!("{{{}}}", metrics.join(&format!(",{space}")));
        let parts = order.chars().filter_map(|part| match part {
            's' => field("service", service),
            'm' => field("metrics", &metrics),
            't' => field("tags", tags),
            _ => field("timestamp", &time),
        });
        format!("{{{}}}", parts.collect::<Vec<_>>().join(&format!(",{space}")))
    });
    prop::collection::vec(message, 1..5).prop_map(|messages| match messages.as_slice() {
        [message] => message.clone(),
        _ => format!("[{}]", messages.join(", ")),
    })
}

proptest! {
    #![proptest_config(crate::codec::cases(500))]

    #[test]
    fn all_tiers_agree_on_messages(bodies in prop::collection::vec(body(), 1..4)) {
        let mut tiers = Tiers::new();
        for body in bodies {
            tiers.agree(body.as_bytes());
        }
    }

    #[test]
    fn all_tiers_agree_on_messages_that_look_alike(
        bodies in prop::collection::vec(alike(), 1..8), hashes in select(vec![u64::MAX, 2]), bytes_max in select(vec![usize::MAX, 1000]),
    ) {
        let mut tiers = Tiers::new();
        for decoder in [&mut tiers.all, &mut tiers.scan, &mut tiers.full] {
            decoder.shapes.hashes = hashes;
        }
        for body in bodies {
            tiers.all.shapes.bytes_max = bytes_max;
            tiers.agree(body.as_bytes());
        }
    }

    #[test]
    fn all_tiers_agree_on_damaged_messages(
        before in prop::collection::vec(alike(), 1..4), body in prop_oneof![alike(), body()], at in any::<prop::sample::Index>(),
        byte in prop_oneof!["[\\[\\]{}\",:0-9a\\\\ \u{1}]".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..3)],
        taken in select(vec![0, 1, 2, 1000]),
    ) {
        let mut tiers = Tiers::new();
        for body in before.iter().chain([&body]) {
            tiers.agree(body.as_bytes());
        }
        let at = at.index(body.len() + 1);
        let end = (at + taken).min(body.len());
        tiers.agree(&[&body.as_bytes()[..at], &byte, &body.as_bytes()[end..]].concat());
    }

    #[test]
    fn numbers_are_correctly_rounded(digits in 1u64..2_000_000_000_000_000_000, cut in 0u32..19, point in 0usize..19) {
        let digits = (digits / 10u64.pow(cut)).to_string();
        let (whole, fraction) = digits.split_at(point.min(digits.len() - 1));
        let text = if whole.is_empty() { format!("-0.{fraction}") } else { format!("{}.{fraction}", whole) };
        let mut tiers = Tiers::new();
        tiers.agree(format!("{{\"metrics\":{{\"a\":{text}}}}}").as_bytes());
        prop_assert_eq!(tiers.all.samples[0].value.to_bits(), text.parse::<f64>().unwrap().to_bits());
    }
}
