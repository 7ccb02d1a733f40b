//! The table in virtual time: what intervals come to, what is forgotten, what is turned away.

use std::sync::Arc;

use operators::catalog::{Catalog, CatalogLimits};
use proptest::prelude::*;

use super::*;
use crate::codec::decoder::Limits;

const START_NS: TimeNs = 1_704_110_400 * SECOND;

struct Rig {
    catalog: Arc<Catalog>,
    table: Table,
}

/// `service{tags} metric`, milliseconds after the start, value.
type Found = (String, i64, f64);

impl Rig {
    fn new() -> Rig {
        Rig::limited(1000, 1000)
    }

    fn limited(series_max: usize, set_values_max: usize) -> Rig {
        let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
        let decoder = Decoder::new(catalog.clone(), Limits::default());
        let config = TableConfig {
            service: "statsd".into(),
            series_max,
            set_values_max,
            expire_after_ns: 60 * SECOND,
        };
        Rig { catalog, table: Table::new(config, decoder, START_NS) }
    }

    /// Samples and words of rejects of a datagram that comes so many seconds after the start.
    fn send(&mut self, at_s: i64, datagram: &str) -> (Vec<Found>, Vec<&'static str>) {
        self.table.begin(START_NS + at_s * SECOND);
        self.table.datagram(datagram.as_bytes());
        self.found()
    }

    fn end(&mut self, at_s: i64) -> Vec<Found> {
        let end_ns = START_NS + at_s * SECOND;
        self.table.begin(end_ns);
        self.table.end_interval(stamp_of(end_ns));
        self.found().0
    }

    fn found(&mut self) -> (Vec<Found>, Vec<&'static str>) {
        let words = self.table.rejects().iter().map(|reject| reject.reason.word()).collect();
        let name = |series| {
            let key = self.catalog.key(series).expect("a series of the catalog");
            let tags: Vec<String> = key.target.tags.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{}{{{}}} {}", key.target.service, tags.join(","), key.metric)
        };
        let samples = self.table.take_samples();
        let mut found: Vec<Found> =
            samples.iter().map(|s| (name(s.series), (s.time_ns - START_NS) / MS, s.value)).collect();
        found.sort_by(|a, b| a.partial_cmp(b).expect("finite"));
        (found, words)
    }
}

fn all(samples: &[(&str, i64, f64)]) -> Vec<Found> {
    samples.iter().map(|(name, at_ms, value)| (name.to_string(), *at_ms, *value)).collect()
}

#[test]
fn counters_add_up_and_begin_at_zero() {
    let mut rig = Rig::new();
    assert_eq!(rig.send(3, "hits:1|c\nhits:2:3|c|@0.5\r\n\n"), (all(&[("statsd{} hits", 0, 0.0)]), vec![]));
    assert_eq!(rig.send(4, "hits:1|c|T1"), (vec![], vec![]), "a counter's own time says nothing");
    assert_eq!(rig.end(10), all(&[("statsd{} hits", 9_999, 12.0)]));
    assert_eq!(rig.end(20), all(&[("statsd{} hits", 19_999, 12.0)]), "it goes on while it is silent");
    assert_eq!(
        rig.send(21, "new:1|c").0,
        all(&[("statsd{} new", 19_999, 0.0)]),
        "from the last interval's end"
    );
    rig.send(22, "hits:1|c");
    assert_eq!(rig.end(30), all(&[("statsd{} hits", 29_999, 13.0), ("statsd{} new", 29_999, 1.0)]));
    // Forgotten after a minute of silence, and a new start from zero then.
    assert_eq!(rig.end(90).len(), 2);
    assert_eq!(rig.table.len(), 0);
    assert_eq!(rig.send(91, "hits:5|c").0, all(&[("statsd{} hits", 89_999, 0.0)]));
    assert_eq!(rig.end(100), all(&[("statsd{} hits", 99_999, 5.0)]));
}

#[test]
fn gauges_are_set_and_stepped() {
    let mut rig = Rig::new();
    assert_eq!(rig.send(1, "g:10|g\ng:+5|g\ng:-2:-2|g\nn:-3|g"), (vec![], vec![]));
    assert_eq!(rig.end(10), all(&[("statsd{} g", 9_999, 11.0), ("statsd{} n", 9_999, -3.0)]));
    assert_eq!(rig.end(20), [], "a silent one says nothing");
    rig.send(21, "g:+1|g");
    assert_eq!(rig.end(30), all(&[("statsd{} g", 29_999, 12.0)]), "but it is known what it was");
    let at = START_NS / SECOND + 25;
    assert_eq!(rig.send(31, &format!("t:7|g|T{at}")), (all(&[("statsd{} t", 25_000, 7.0)]), vec![]));
    assert_eq!(rig.send(31, &format!("t:7|g|T{}", at + 86_400)).1, ["too_far_ahead"]);
}

#[test]
fn timers_are_samples_and_are_counted() {
    let mut rig = Rig::new();
    let (found, rejects) = rig.send(2, "t:320:50|ms|@0.1\nt:1.5|h\nu:9|d|#a:b");
    let expected = [
        ("statsd{a=b} u", 2_000, 9.0),
        ("statsd{a=b} u_count", 0, 0.0),
        ("statsd{} t", 2_000, 1.5),
        ("statsd{} t", 2_000, 50.0),
        ("statsd{} t", 2_000, 320.0),
        ("statsd{} t_count", 0, 0.0),
    ];
    assert_eq!((found, rejects), (all(&expected), vec![]));
    assert_eq!(rig.end(10), all(&[("statsd{a=b} u_count", 9_999, 1.0), ("statsd{} t_count", 9_999, 21.0)]));
}

#[test]
fn sets_count_what_differs_within_an_interval() {
    let mut rig = Rig::limited(10, 3);
    assert_eq!(rig.send(1, "u:a|s\nu:b|s\nu:a|s\nv:1:2|s").1, Vec::<&str>::new());
    assert_eq!(rig.send(2, "u:c|s\nu:b|s").1, ["statsd_limit"]);
    assert_eq!(rig.end(10), all(&[("statsd{} u", 9_999, 2.0), ("statsd{} v", 9_999, 1.0)]));
    assert_eq!(rig.send(11, "u:b|s\nu:c|s\nu:d|s").1, Vec::<&str>::new());
    assert_eq!(rig.end(20), all(&[("statsd{} u", 19_999, 3.0)]));
}

#[test]
fn tags_in_any_order_are_one_series() {
    let mut rig = Rig::new();
    rig.send(1, "c:1|c|#b:2,a:1\nc:1|c|#a:1,b:2\nc:1|c|#a:1,,b:2,a:1,\nc:1|c|#service:shop,canary,x:y:z");
    let found = rig.end(10);
    let expected = [("shop{canary=true,x=y:z} c", 9_999, 1.0), ("statsd{a=1,b=2} c", 9_999, 3.0)];
    assert_eq!(found, all(&expected));
}

#[test]
fn a_bad_line_costs_itself() {
    let mut rig = Rig::limited(3, 10);
    let long = "x".repeat(300);
    for (datagram, words) in [
        ("a:1|c\nnonsense\nb:1|c", &["malformed"][..]),
        ("a:x|c\na:1:x|c\na:1:x|ms\ng:1:x|g", &["not_a_number"; 4]),
        ("a:-1|c", &["negative_step"]),
        ("a:1e999|c\na:+inf|g", &["not_finite", "not_finite"]),
        ("a:1|q", &["unknown_type"]),
        ("a:1|c|@2", &["bad_sample_rate"]),
        (":1|c", &["empty_name"]),
        (&format!("a:1|c|#a:{long}"), &["tag_too_long"]),
        (&format!("{long}:1|ms\n{long}:1|c\n{long}:1|g\n{long}:1|s"), &["name_too_long"; 4]),
        ("a:1|g|#\u{7}:x", &["control_character"]),
        ("c:1|c\nd:1|g\ne:1|s\nf:1|ms", &["statsd_limit"; 3]),
        ("_e{1,1}:a|b\n_sc|a|0", &[]),
    ] {
        assert_eq!(rig.send(1, datagram).1, words, "{datagram}");
    }
    assert_eq!(rig.table.skipped, 2);
    let names = ["statsd{} a", "statsd{} b", "statsd{} c"];
    assert_eq!(rig.end(10), all(&names.map(|name| (name, 9_999, 1.0))));
}

/// A line, and what it adds: name, tags, counter or gauge or timer, value.
fn lines() -> impl Strategy<Value = Vec<(u8, u8, u8, i32, u8)>> {
    prop::collection::vec((0u8..3, 0u8..3, 0u8..3, 0i32..100, 1u8..5), 0..60)
}

proptest! {
    #[test]
    fn intervals_agree_with_a_plain_recount(batches in prop::collection::vec(lines(), 1..5)) {
        let mut rig = Rig::new();
        let mut totals = std::collections::BTreeMap::<String, f64>::new();
        for (round, lines) in batches.iter().enumerate() {
            let mut gauges = std::collections::BTreeMap::new();
            let (mut text, mut timed) = (String::new(), 0);
            for (kind, name, tag, value, rate) in lines {
                let suffix = if *tag == 0 { String::new() } else { format!("t={tag}") };
                let tags = if *tag == 0 { String::new() } else { format!("|#t:{tag}") };
                let (metric, part) = (format!("m{kind}{name}"), 1.0 / f64::from(*rate));
                match kind {
                    0 => {
                        text += &format!("{metric}:{value}|c|@{part}{tags}\n");
                        *totals.entry(format!("statsd{{{suffix}}} {metric}")).or_default() += f64::from(*value) / part;
                    }
                    1 => {
                        text += &format!("{metric}:{value}|g{tags}\n");
                        gauges.insert(format!("statsd{{{suffix}}} {metric}"), f64::from(*value));
                    }
                    _ => {
                        text += &format!("{metric}:{value}|ms{tags}\n");
                        timed += 1;
                        *totals.entry(format!("statsd{{{suffix}}} {metric}_count")).or_default() += 1.0;
                    }
                }
            }
            let at_s = 10 * round as i64;
            let (sent, rejects) = rig.send(at_s + 5, &text);
            prop_assert!(rejects.is_empty());
            prop_assert_eq!(sent.iter().filter(|(_, at_ms, _)| *at_ms == (at_s + 5) * 1000).count(), timed);
            let mut expected: Vec<Found> = totals.iter().chain(&gauges)
                .map(|(name, value)| (name.clone(), (at_s + 10) * 1000 - 1, *value)).collect();
            expected.sort_by(|a, b| a.partial_cmp(b).expect("finite"));
            prop_assert_eq!(rig.end(at_s + 10), expected);
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b":|#@,\ncgmsT1+-".to_vec())], 0..200)) {
        let mut rig = Rig::limited(5, 5);
        rig.table.begin(START_NS);
        rig.table.datagram(&bytes);
        rig.table.end_interval(START_NS + SECOND);
        prop_assert!(rig.table.len() <= 5);
        prop_assert!(rig.table.take_samples().iter().all(|sample| sample.value.is_finite()));
    }
}
