//! Bytes -> samples of what Prometheus sends: remote write 1.0 and 2.0, unpacked and as one snappy block, and text.
//! 10,000 series of some 110 bytes of labels, 1,000 samples a body. Throughput is in samples.

use std::collections::HashMap;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::{SECOND, TimeNs};
use plantd_metric::codec::Codec;
use plantd_metric::codec::decoder::{Decoder, Limits};
use plantd_metric::codec::prometheus_text::PROMETHEUS;
use plantd_metric::codec::remote_write::{V1, V2};
use plantd_metric::http::snappy::unpack;

const NOW_NS: TimeNs = 1_704_110_401 * SECOND;
const SERIES_PER_BODY: usize = 1_000;
const BODIES: usize = 10;

fn labels(series: usize) -> Vec<(&'static str, String)> {
    vec![
        ("__name__", format!("node_metric_{}_bytes", series % 25)),
        ("instance", format!("10.0.{}.{}:9100", series / 25 / 200, series / 25 % 200)),
        ("job", "node".into()),
        ("mode", ["idle", "user", "system"][series % 3].into()),
        ("zone", format!("eu-west-{}", series / 25 % 3)),
    ]
}

fn value(series: usize) -> f64 {
    (series * 7919 % 9_999_991) as f64 / 1000.0
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn field(key: u8, inner: &[u8], out: &mut Vec<u8>) {
    out.push(key);
    varint(inner.len() as u64, out);
    out.extend_from_slice(inner);
}

fn sample(series: usize, out: &mut Vec<u8>) {
    let mut sample = vec![9];
    sample.extend(value(series).to_le_bytes());
    sample.push(16);
    varint((NOW_NS / 1_000_000) as u64, &mut sample);
    field(0x12, &sample, out);
}

fn version_1(all: std::ops::Range<usize>) -> Vec<u8> {
    let mut body = Vec::new();
    for number in all {
        let mut series = Vec::new();
        for (name, value) in labels(number) {
            let mut label = Vec::new();
            field(0x0a, name.as_bytes(), &mut label);
            field(0x12, value.as_bytes(), &mut label);
            field(0x0a, &label, &mut series);
        }
        sample(number, &mut series);
        field(0x0a, &series, &mut body);
    }
    body
}

fn version_2(all: std::ops::Range<usize>) -> Vec<u8> {
    let (mut body, mut rest) = (vec![0x22, 0], Vec::new());
    let mut places: HashMap<String, u64> = HashMap::from([(String::new(), 0)]);
    for number in all {
        let (mut refs, mut series) = (Vec::new(), Vec::new());
        for text in labels(number).into_iter().flat_map(|(name, value)| [name.to_string(), value]) {
            let next = places.len() as u64;
            let place = *places.entry(text).or_insert_with_key(|text| {
                field(0x22, text.as_bytes(), &mut body);
                next
            });
            varint(place, &mut refs);
        }
        field(0x0a, &refs, &mut series);
        sample(number, &mut series);
        field(0x2a, &series, &mut rest);
    }
    body.extend(rest);
    body
}

fn text(all: std::ops::Range<usize>) -> Vec<u8> {
    let mut text = String::new();
    for number in all {
        let labels = labels(number);
        let each: Vec<String> =
            labels[1..].iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        writeln!(text, "{}{{{}}} {}", labels[0].1, each.join(","), value(number)).expect("a text takes it");
    }
    text.into_bytes()
}

fn formats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prometheus");
    group.throughput(Throughput::Elements(SERIES_PER_BODY as u64));
    for (name, codec, encode) in [
        ("remote write 1.0", &V1 as &dyn Codec, version_1 as fn(std::ops::Range<usize>) -> Vec<u8>),
        ("remote write 2.0", &V2, version_2),
        ("text", &PROMETHEUS, text),
    ] {
        let bodies = (0..BODIES).map(|n| encode(n * SERIES_PER_BODY..(n + 1) * SERIES_PER_BODY));
        let bodies: Vec<Vec<u8>> = bodies.collect();
        let bytes = bodies[0].len() / SERIES_PER_BODY;
        let mut decoder = Decoder::new(Arc::new(Catalog::new(CatalogLimits::default())), Limits::default());
        let mut decode = |body: &[u8]| {
            decoder.begin(NOW_NS);
            codec.decode(black_box(body), &mut decoder).expect("the body is well-formed");
            assert_eq!((decoder.samples.len(), decoder.rejects.len()), (SERIES_PER_BODY, 0));
            black_box(&decoder.samples);
        };
        let mut next = (0..BODIES).cycle();
        group.bench_function(format!("{name}, {bytes} bytes a sample"), |bencher| {
            bencher.iter(|| decode(&bodies[next.next().expect("a cycle")]));
        });
        if name == "text" {
            continue;
        }
        let packed: Vec<Vec<u8>> = bodies
            .iter()
            .map(|body| snap::raw::Encoder::new().compress_vec(body).expect("a short body"))
            .collect();
        let bytes = packed[0].len() / SERIES_PER_BODY;
        group.bench_function(format!("{name} in snappy, {bytes} bytes a sample"), |bencher| {
            bencher.iter(|| {
                let body = unpack(&packed[next.next().expect("a cycle")], 16 << 20).expect("a block");
                decode(&body);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, formats);
criterion_main!(benches);
