//! Tests of both versions: golden bytes, and an encoder that knows nothing of the reader.

mod hostile;
mod random;

use std::sync::Arc;

use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::{DEDUP, SECOND};

use super::*;
use crate::codec::Codec;
use crate::codec::decoder::Limits;

const NOW_NS: i64 = 1_704_110_400 * SECOND;
const NOW_MS: i64 = NOW_NS / MS;

struct World {
    catalog: Arc<Catalog>,
    decoder: Decoder,
}

/// What came of a body: samples as `service metric tags value @ms`, rejects as `index metric reason: found`.
struct Read {
    samples: Vec<String>,
    rejects: Vec<String>,
    passed_over: Vec<Reason>,
    malformed: Option<Malformed>,
}

impl World {
    fn new() -> World {
        let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
        World { decoder: Decoder::new(catalog.clone(), Limits::default()), catalog }
    }

    fn read(&mut self, codec: &dyn Codec, body: &[u8]) -> Read {
        let decoder = &mut self.decoder;
        decoder.begin(NOW_NS);
        let malformed = codec.decode(body, decoder).err();
        let shown = |sample: &operators::sample::Sample| {
            let key = self.catalog.key(sample.series).expect("a series of the catalog");
            let tags = key.target.tags.iter().map(|(name, value)| format!(" {name}={value}"));
            let tags: String = tags.collect();
            let at = sample.time_ns / MS;
            format!("{} {}{tags} {:?} @{at}", key.target.service, key.metric, sample.value)
        };
        let samples = decoder.samples.iter().map(shown).collect();
        let rejects = decoder.rejects.iter().map(|r| {
            format!("{} {} {}: {}", r.index, r.metric.as_deref().unwrap_or("-"), r.reason.word(), r.found)
        });
        let passed_over = decoder.untold.iter().copied().filter(|reason| !reason.is_error()).collect();
        Read { samples, rejects: rejects.collect(), passed_over, malformed }
    }
}

/// A series as it is sent.
#[derive(Clone, Debug)]
struct Sent {
    labels: Vec<(String, String)>,
    samples: Vec<(f64, i64)>,
}

fn sent(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> Sent {
    let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Sent { labels, samples: samples.to_vec() }
}

// The encoder, by the rules of the encoding.

fn number(number: u64) -> Vec<u8> {
    let low = (number & 0x7f) as u8;
    match number >> 7 {
        0 => vec![low],
        high => [vec![low | 0x80], self::number(high)].concat(),
    }
}

fn message(field: u64, inner: &[u8]) -> Vec<u8> {
    [number(field << 3 | 2), number(inner.len() as u64), inner.to_vec()].concat()
}

fn sample(value: f64, time_ms: i64) -> Vec<u8> {
    // As senders in Go do: what is zero is left out.
    let value = if value.to_bits() == 0 { vec![] } else { [vec![9], value.to_le_bytes().to_vec()].concat() };
    let time = if time_ms == 0 { vec![] } else { [vec![16], number(time_ms as u64)].concat() };
    [value, time].concat()
}

fn samples(of: &Sent) -> Vec<u8> {
    of.samples.iter().flat_map(|(value, at)| message(2, &sample(*value, *at))).collect()
}

fn label(name: &str, value: &str) -> Vec<u8> {
    message(1, &[message(1, name.as_bytes()), message(2, value.as_bytes())].concat())
}

fn labels_v1(of: &Sent) -> Vec<u8> {
    of.labels.iter().flat_map(|(name, value)| label(name, value)).collect()
}

fn request_v1(all: &[Sent]) -> Vec<u8> {
    all.iter().flat_map(|of| message(1, &[labels_v1(of), samples(of)].concat())).collect()
}

/// The texts in the order of their numbers, and the references of each series.
fn symbols_of(all: &[Sent]) -> (Vec<String>, Vec<Vec<u64>>) {
    let mut symbols = vec![String::new()];
    let mut place = |text: &str| {
        let found = symbols.iter().position(|symbol| symbol == text);
        found.unwrap_or_else(|| {
            symbols.push(text.into());
            symbols.len() - 1
        }) as u64
    };
    let refs = all.iter().map(|of| of.labels.iter().flat_map(|(n, v)| [place(n), place(v)]).collect());
    let refs = refs.collect();
    (symbols, refs)
}

fn packed(refs: &[u64]) -> Vec<u8> {
    refs.iter().flat_map(|one| number(*one)).collect()
}

fn request_v2(all: &[Sent]) -> Vec<u8> {
    let (symbols, refs) = symbols_of(all);
    let series = all.iter().zip(refs);
    let series =
        series.flat_map(|(of, refs)| message(5, &[message(1, &packed(&refs)), samples(of)].concat()));
    symbols.iter().flat_map(|symbol| message(4, symbol.as_bytes())).chain(series).collect()
}

fn three() -> Vec<Sent> {
    vec![
        sent(&[("__name__", "up"), ("instance", "h:1"), ("job", "node")], &[(1.0, NOW_MS)]),
        sent(&[("__name__", "x_total"), ("service", "s")], &[(0.0, NOW_MS - 1), (2.5, NOW_MS), (-0.0, 0)]),
        sent(&[("Zone", "a"), ("__name__", "up"), ("job", "node"), ("ü", "é\"\n")], &[(7e300, -1)]),
    ]
}

const THREE: [&str; 4] = [
    "node up instance=h:1 1.0 @1704110400000",
    "s x_total 0.0 @1704110399999",
    "s x_total 2.5 @1704110400000",
    "s x_total -0.0 @0",
];

/// Bytes as `protoc --encode` gives them for the published `.proto` files; made by hand from the encoding's rules.
#[test]
fn bytes_of_one_sample() {
    let v1 = b"\x0a\x27\x0a\x0e\x0a\x08__name__\x12\x02up\x0a\x08\x0a\x03job\x12\x01p\
        \x12\x0b\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\x01";
    let v2 = b"\x22\x00\x22\x08__name__\x22\x02up\x22\x03job\x22\x01p\
        \x2a\x13\x0a\x04\x01\x02\x03\x04\x12\x0b\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\x01";
    let one = [sent(&[("__name__", "up"), ("job", "p")], &[(1.5, 1)])];
    assert_eq!(request_v1(&one), v1);
    assert_eq!(request_v2(&one), v2);
    for (codec, body) in [(&V1 as &dyn Codec, &v1[..]), (&V2, v2)] {
        let read = World::new().read(codec, body);
        assert_eq!((read.samples, read.rejects, read.malformed), (vec!["p up 1.5 @1".into()], vec![], None));
    }
}

#[test]
fn both_versions_say_the_same_twice() {
    let all = three();
    let mut series: Vec<_> = all.clone();
    series[2].labels[3].1 = "é\"".into();
    for (codec, body) in [(&V1 as &dyn Codec, request_v1(&series)), (&V2, request_v2(&series))] {
        let mut world = World::new();
        for turn in ["learnt", "known"] {
            let read = world.read(codec, &body);
            assert_eq!(read.malformed, None, "{turn}");
            assert_eq!(read.samples[..4], THREE, "{turn}");
            assert_eq!(read.samples[4..], ["node up Zone=a ü=é\" 7e300 @-1"], "{turn}");
            assert_eq!((read.rejects.len(), read.passed_over), (0, vec![]), "{turn}");
            assert_eq!(world.decoder.messages, 3);
        }
        assert_eq!(world.catalog.len(), 3);
        // A label with a control character is none of ours.
        let body = if codec.name() == "remote_write" { request_v1(&all) } else { request_v2(&all) };
        let read = world.read(codec, &body);
        assert_eq!(read.samples, THREE);
        assert_eq!(read.rejects, ["2 up control_character: in tag ü"]);
    }
}

#[test]
fn one_bad_series_costs_itself() {
    let nan = f64::from_bits(0x7ff8_0000_0000_0001);
    let stale = f64::from_bits(STALE_BITS);
    let many: Vec<_> = (0..33).map(|n| (format!("l{n}"), "x".to_string())).collect();
    let many =
        Sent { labels: [vec![("__name__".into(), "m".into())], many].concat(), samples: vec![(1.0, 0)] };
    let long = "x".repeat(257);
    let far_ms = NOW_MS + 601_000;
    for (bad, rejects) in [
        (sent(&[("a", "b")], &[(1.0, 0)]), &["1 - empty_name: no label __name__"][..]),
        (sent(&[("__name__", "")], &[(1.0, 0)]), &["1  empty_name: no label __name__"]),
        (sent(&[("__name__", "m"), ("", "x")], &[(1.0, 0)]), &["1 m empty_name: label with the value x"]),
        (sent(&[("__name__", "m"), ("a", "x"), ("a", "y")], &[(1.0, 0)]), &["1 m tag_twice: a"]),
        (sent(&[("__name__", "m"), ("a", &long)], &[(1.0, 0)]), &["1 m tag_too_long: 257 bytes in tag a"]),
        (sent(&[("__name__", &long)], &[(1.0, 0)]), &["name_too_long: 257 bytes"]),
        (many, &["1 m too_many_tags: 33 tags"]),
        (sent(&[("__name__", "m")], &[(nan, 0)]), &["1 m not_finite: NaN"]),
        (
            sent(&[("__name__", "m")], &[(f64::INFINITY, 0), (f64::NEG_INFINITY, 0)]),
            &["1 m not_finite: inf", "1 m not_finite: -inf"],
        ),
        (sent(&[("__name__", "m")], &[(1.0, far_ms)]), &["1 - too_far_ahead: 601 s ahead"]),
        (sent(&[("__name__", "m")], &[(1.0, i64::MAX)]), &["1 m bad_timestamp: 9223372036854775807 ms"]),
        (sent(&[("__name__", "m")], &[(1.0, i64::MIN)]), &["1 m bad_timestamp: -9223372036854775808 ms"]),
        (sent(&[("__name__", "m")], &[(stale, 0)]), &[]),
        (sent(&[("__name__", "m")], &[]), &[]),
    ] {
        let all = [three()[0].clone(), bad, three()[1].clone()];
        for (codec, body) in [(&V1 as &dyn Codec, request_v1(&all)), (&V2, request_v2(&all))] {
            let mut world = World::new();
            for _ in 0..2 {
                let read = world.read(codec, &body);
                assert_eq!(read.samples, THREE, "{:?}", all[1]);
                assert_eq!(read.rejects.len(), rejects.len(), "{:?}", read.rejects);
                for (found, expected) in read.rejects.iter().zip(rejects) {
                    assert!(found.ends_with(expected), "found {found}, expected {expected}");
                }
                let stale = all[1].samples.iter().filter(|(value, _)| value.to_bits() == STALE_BITS).count();
                assert_eq!(read.passed_over, vec![Reason::StaleMarker; stale]);
                assert_eq!(read.malformed, None);
            }
            assert_eq!(world.catalog.len(), 2, "a series without a sample is none");
        }
    }
}

#[test]
fn of_a_series_the_good_samples_pass() {
    let values = [(1.0, 1), (f64::NAN, 2), (f64::from_bits(STALE_BITS), 3), (4.0, i64::MAX), (5.0, 5)];
    let all = [sent(&[("__name__", "m")], &values)];
    let mut world = World::new();
    for _ in 0..2 {
        let read = world.read(&V1, &request_v1(&all));
        assert_eq!(read.samples, ["prometheus m 1.0 @1", "prometheus m 5.0 @5"]);
        assert_eq!((read.rejects.len(), read.passed_over), (2, vec![Reason::StaleMarker]));
    }
}

#[test]
fn unsorted_labels_are_the_same_series() {
    let labels = [("__name__", "m"), ("a", "1"), ("b", "2"), ("service", "s")];
    let turned: Vec<_> = labels.into_iter().rev().collect();
    let all = [sent(&labels, &[(1.0, 0)]), sent(&turned, &[(2.0, 0)])];
    for (codec, body) in [(&V1 as &dyn Codec, request_v1(&all)), (&V2, request_v2(&all))] {
        let mut world = World::new();
        assert_eq!(world.read(codec, &body).samples, ["s m a=1 b=2 1.0 @0", "s m a=1 b=2 2.0 @0"]);
        assert_eq!(world.catalog.len(), 1);
    }
}

#[test]
fn dedup_is_as_the_limits_say() {
    for dedup in [true, false] {
        let limits = Limits { dedup, ..Limits::default() };
        let mut decoder = Decoder::new(World::new().catalog, limits);
        for _ in 0..2 {
            decoder.begin(NOW_NS);
            V1.decode(&request_v1(&three()[..2]), &mut decoder).expect("a good body");
            assert_eq!(decoder.samples.len(), 4);
            assert!(decoder.samples.iter().all(|sample| (sample.seq == DEDUP) == dedup));
        }
    }
}

/// Fields may come in any order, be unknown, and be split: Protocol Buffers says so.
#[test]
fn fields_in_another_order() {
    let of = &three()[0];
    let (labels, samples) = (labels_v1(of), samples(of));
    let unknown = [message(77, b"x"), vec![0xa0, 0x06, 0x05], vec![0xa5, 0x06, 1, 2, 3, 4]].concat();
    let label = |at: usize| label(&of.labels[at].0, &of.labels[at].1);
    for series in [
        [samples.clone(), labels.clone()].concat(),
        [label(0), samples.clone(), label(1), label(2)].concat(),
        [unknown.clone(), labels.clone(), unknown.clone(), samples.clone(), unknown.clone()].concat(),
    ] {
        let mut world = World::new();
        for _ in 0..2 {
            let body = [unknown.clone(), message(1, &series), unknown.clone()].concat();
            let read = world.read(&V1, &body);
            assert_eq!((read.samples, read.rejects, read.malformed), (vec![THREE[0].into()], vec![], None));
        }
        assert_eq!(world.catalog.len(), 1);
    }
    // What was learnt of the first labels does not catch those that go on.
    let mut world = World::new();
    let short = sent(&[("__name__", "up")], &[(1.0, 1)]);
    let late = message(1, &[labels_v1(&short), self::samples(&short), label(2)].concat());
    let body = [request_v1(std::slice::from_ref(&short)), late].concat();
    assert_eq!(world.read(&V1, &body).samples, ["prometheus up 1.0 @1", "node up 1.0 @1"]);
    assert_eq!(world.read(&V1, &body).samples, ["prometheus up 1.0 @1", "node up 1.0 @1"]);

    let symbols: Vec<u8> =
        ["", "__name__", "up", "job", "node"].iter().flat_map(|s| message(4, s.as_bytes())).collect();
    let (one, two) = (message(1, &[1, 2]), message(1, &[3, 4]));
    let single = vec![8, 1, 8, 2, 8, 3, 8, 4];
    for series in [
        [one.clone(), two.clone(), self::samples(&short)].concat(),
        [self::samples(&short), one, two].concat(),
        [single, self::samples(&short)].concat(),
    ] {
        // Symbols may stand behind.
        let body = [message(5, &series), symbols.clone()].concat();
        assert_eq!(world.read(&V2, &body).samples, ["node up 1.0 @1"]);
    }
}

#[test]
fn what_is_no_sample_is_counted() {
    let of = &three()[0];
    let (histogram, exemplar, metadata) = (message(4, b"\x08\x01"), message(3, b""), message(3, b"\x08\x01"));
    let series = message(1, &[labels_v1(of), samples(of), exemplar, histogram.clone(), histogram].concat());
    let read = World::new().read(&V1, &[metadata.clone(), series, metadata].concat());
    assert_eq!((read.samples, read.rejects.len()), (vec![THREE[0].to_string()], 0));
    use Reason::{Exemplar, Metadata, NativeHistogram};
    assert_eq!(read.passed_over, [Metadata, Exemplar, NativeHistogram, NativeHistogram, Metadata]);

    let (symbols, refs) = symbols_of(std::slice::from_ref(of));
    let (histogram, exemplar, metadata) = (message(3, b"\x08\x01"), message(4, b""), message(5, b"\x08\x01"));
    let refs = message(1, &packed(&refs[0]));
    let series = message(5, &[refs, samples(of), histogram, exemplar, metadata].concat());
    let symbols: Vec<u8> = symbols.iter().flat_map(|symbol| message(4, symbol.as_bytes())).collect();
    let read = World::new().read(&V2, &[symbols, series].concat());
    assert_eq!((read.samples, read.rejects.len()), (vec![THREE[0].to_string()], 0));
    assert_eq!(read.passed_over, [NativeHistogram, Exemplar, Metadata]);
}
