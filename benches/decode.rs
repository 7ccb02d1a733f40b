//! Bytes -> samples: documented messages of known shapes, and the batch object. Throughput is in samples.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::{SECOND, TimeNs};
use plantd_metric::codec::Codec;
use plantd_metric::codec::decoder::{Decoder, Limits};
use plantd_metric::codec::json::Json;

const NOW_NS: TimeNs = 1_704_110_401 * SECOND;
const FIELDS: [&str; 10] = [
    "cpu_usage_percent",
    "memory_usage_bytes",
    "memory_usage_percent",
    "disk_usage_bytes",
    "disk_usage_percent",
    "network_rx_bytes",
    "network_tx_bytes",
    "load_average_1m",
    "load_average_5m",
    "load_average_15m",
];

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message");
    for metrics in [3, 7, 10] {
        for sensors in [1_000, 10_000] {
            let bodies: Vec<String> = (0..sensors)
                .map(|sensor| message(sensor, metrics, Some("2024-01-01T12:00:00.123456Z")))
                .collect();
            let mut decoder = decoder();
            let mut next = 0;
            group.throughput(Throughput::Elements(metrics as u64));
            group.bench_function(format!("{metrics} metrics of {sensors} sensors"), |bencher| {
                bencher.iter(|| {
                    decode(&mut decoder, &bodies[next]);
                    next = (next + 1) % bodies.len();
                });
            });
        }
    }
    group.finish();
}

/// A batch as the HTTP comparison posts it: 100 hosts of 10 metrics, no times.
fn batch(criterion: &mut Criterion) {
    let rows: Vec<String> = (0..100).map(|sensor| message(sensor, FIELDS.len(), None)).collect();
    let body = format!("{{\"metrics\": [{}]}}", rows.join(", "));
    let mut decoder = decoder();
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(100 * FIELDS.len() as u64));
    group
        .bench_function("100 messages of 10 metrics", |bencher| bencher.iter(|| decode(&mut decoder, &body)));
    group.finish();
}

fn decoder() -> Decoder {
    Decoder::new(Arc::new(Catalog::new(CatalogLimits::default())), Limits::default())
}

fn decode(decoder: &mut Decoder, body: &str) {
    decoder.begin(NOW_NS);
    Json.decode(black_box(body.as_bytes()), decoder).expect("the body is well-formed");
    assert!(!decoder.samples.is_empty() && decoder.rejects.is_empty());
    black_box(&decoder.samples);
}

fn message(sensor: usize, metrics: usize, time: Option<&str>) -> String {
    let value = |place: usize| ((sensor * 7919 + place * 104_729) % 9_999_991) as f64 / 1000.0;
    let values: Vec<String> = FIELDS[..metrics]
        .iter()
        .enumerate()
        .map(|(at, name)| format!("\"{name}\":{:.3}", value(at)))
        .collect();
    let time = time.map(|time| format!("\"timestamp\":\"{time}\",")).unwrap_or_default();
    format!(
        "{{{time}\"service\":\"system\",\"metrics\":{{{}}},\"tags\":{{\"host\":\"server-{sensor:05}\",\
         \"environment\":\"production\",\"location\":\"rack-{}\"}}}}",
        values.join(","),
        sensor % 40,
    )
}

criterion_group!(benches, messages, batch);
criterion_main!(benches);
