//! Bytes -> samples: documented messages, bodies of the line protocol and of the batch object, all of known shapes.
//! Throughput is in samples.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::{SECOND, TimeNs};
use plantd_metric::codec::Codec;
use plantd_metric::codec::decoder::{Decoder, Limits};
use plantd_metric::codec::json::Json;
use plantd_metric::codec::line::USUAL;

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
        for sensors in [1_000, 10_000, 100_000] {
            let bodies: Vec<String> = (0..sensors)
                .map(|sensor| message(sensor, metrics, Some("2024-01-01T12:00:00.123456Z")))
                .collect();
            let mut decoder = decoder();
            bodies.iter().chain(&bodies).for_each(|body| decode(&Json, &mut decoder, body));
            let mut next = 0;
            group.throughput(Throughput::Elements(metrics as u64));
            group.bench_function(format!("{metrics} metrics of {sensors} sensors"), |bencher| {
                bencher.iter(|| {
                    decode(&Json, &mut decoder, &bodies[next]);
                    next = (next + 1) % bodies.len();
                });
            });
        }
    }
    group.finish();
}

/// Bodies as the HTTP comparison posts them, 100 hosts of 10 fields each: 10,000, 100,000 and 1,000,000 series.
fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("body");
    group.sample_size(20);
    for (form, codec) in [("line", &USUAL as &dyn Codec), ("seed", &Json)] {
        for hosts in [1_000, 10_000, 100_000] {
            let row = if form == "line" { line } else { spaced };
            let rows = |from| (from..from + 100).map(row).collect::<Vec<_>>();
            let bodies = (0..hosts).step_by(100).map(rows).map(|rows| match form {
                "line" => rows.join("\n") + "\n",
                _ => format!("{{\"metrics\": [{}]}}", rows.join(", ")),
            });
            let bodies: Vec<String> = bodies.collect();
            let mut decoder = decoder();
            // What is to be known is known from the second time on.
            for body in bodies.iter().chain(&bodies) {
                decode(codec, &mut decoder, body);
            }
            group.throughput(Throughput::Elements(1000 * bodies.len() as u64));
            group.bench_function(format!("{form}, {hosts} hosts"), |bencher| {
                bencher.iter(|| bodies.iter().for_each(|body| decode(codec, &mut decoder, body)));
            });
        }
    }
    group.finish();
}

fn decoder() -> Decoder {
    let limits = CatalogLimits { series_max: 2_000_000, series_per_service_max: 2_000_000 };
    Decoder::new(Arc::new(Catalog::new(limits)), Limits::default())
}

fn decode(codec: &dyn Codec, decoder: &mut Decoder, body: &str) {
    decoder.begin(NOW_NS);
    codec.decode(black_box(body.as_bytes()), decoder).expect("the body is well-formed");
    assert!(!decoder.samples.is_empty() && decoder.rejects.is_empty());
    black_box(&decoder.samples);
}

/// Values of different lengths, as rounded ones are.
fn value(sensor: usize, place: usize) -> f64 {
    ((sensor * 7919 + place * 104_729) % 9_999_991 % 10usize.pow(2 + (sensor + place * 7) as u32 % 5)) as f64
        / 1000.0
}

fn line(host: usize) -> String {
    let fields = FIELDS.iter().enumerate().map(|(at, name)| format!("{name}={:?}", value(host, at)));
    let fields: Vec<String> = fields.collect();
    let rack = host % 40;
    format!("system,host=server-{host:04},environment=production,location=rack-{rack} {}", fields.join(","))
}

/// The documented message as Python's `json.dumps` writes it, without a time.
fn spaced(host: usize) -> String {
    let metrics = FIELDS.iter().enumerate().map(|(at, name)| format!("\"{name}\": {:?}", value(host, at)));
    let metrics: Vec<String> = metrics.collect();
    format!(
        "{{\"service\": \"system\", \"metrics\": {{{}}}, \"tags\": {{\"host\": \"server-{host:04}\", \
         \"environment\": \"production\", \"location\": \"rack-{}\"}}}}",
        metrics.join(", "),
        host % 40,
    )
}

fn message(sensor: usize, metrics: usize, time: Option<&str>) -> String {
    let values: Vec<String> = FIELDS[..metrics]
        .iter()
        .enumerate()
        .map(|(at, name)| format!("\"{name}\":{:?}", value(sensor, at)))
        .collect();
    let time = time.map(|time| format!("\"timestamp\":\"{time}\",")).unwrap_or_default();
    format!(
        "{{{time}\"service\":\"system\",\"metrics\":{{{}}},\"tags\":{{\"host\":\"server-{sensor:05}\",\
         \"environment\":\"production\",\"location\":\"rack-{}\"}}}}",
        values.join(","),
        sensor % 40,
    )
}

criterion_group!(benches, messages, bodies);
criterion_main!(benches);
