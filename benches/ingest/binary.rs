//! The bodies of binary formats: protobuf by hand, and snappy in which times can be changed afterwards.

use serde_json::{Map, Value};

use crate::bodies::{Place, Stamp};

/// A time whose bytes, in any of its forms, stand nowhere else in a body.
const MARK_NS: i64 = 0x123_4567_89ab * 1_000_000 + 987_654;

/// One host's tags and metrics.
pub struct Host {
    tags: Vec<(String, String)>,
    metrics: Vec<(String, f64)>,
}

/// The hosts in a body of the documented JSON.
pub fn hosts(json: &[u8]) -> Vec<Host> {
    let body: Value = serde_json::from_slice(json).expect("gen_lines.py writes JSON");
    let messages = body["metrics"].as_array().expect("the batch object has an array");
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let host = |message: &Value| {
        let text = |(name, value): (String, Value)| (name, value.as_str().unwrap_or_default().to_owned());
        let number = |(name, value): (String, Value)| (name, value.as_f64().unwrap_or_default());
        let (tags, metrics): (Map<_, _>, Map<_, _>) = (object(&message["tags"]), object(&message["metrics"]));
        Host {
            tags: tags.into_iter().map(text).collect(),
            metrics: metrics.into_iter().map(number).collect(),
        }
    };
    messages.iter().map(host).collect()
}

/// A remote write 1.0 request, packed by snappy, and the places of its times. Labels are sorted.
pub fn remote_write(hosts: &[Host]) -> (Vec<u8>, Vec<Place>) {
    let plain = write_request(hosts, MARK_NS);
    let mark = Stamp::VarintMs.encode(MARK_NS);
    let packed = snap::raw::Encoder::new().compress_vec(&plain).expect("a body is not huge");
    let places = places_in_snappy(&packed, &occurrences(&plain, &mark), mark.len());
    // The places are right if another time written there is what encoding it would have given.
    let other_ns = 1_700_000_123_456_000_000;
    let mut patched = packed.clone();
    let time = Stamp::VarintMs.encode(other_ns);
    places.iter().for_each(|p| patched[p.at..p.at + p.len].copy_from_slice(&time[p.from..p.from + p.len]));
    let unpacked = snap::raw::Decoder::new().decompress_vec(&patched).expect("only literals were changed");
    assert!(unpacked == write_request(hosts, other_ns), "every time of a body should have its place");
    (packed, places)
}

/// `WriteRequest` (prometheus/prompb/remote.proto): one sample of each series.
fn write_request(hosts: &[Host], ns: i64) -> Vec<u8> {
    let time = Stamp::VarintMs.encode(ns);
    let mut request = Vec::new();
    for host in hosts {
        for (metric, value) in &host.metrics {
            let mut labels: Vec<(&str, &str)> =
                host.tags.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            labels.extend([("__name__", metric.as_str()), ("job", "system")]);
            labels.sort_unstable();
            let mut series = Vec::new();
            for (name, text) in labels {
                let label = [field(1, name.as_bytes()), field(2, text.as_bytes())].concat();
                series.extend(field(1, &label));
            }
            let sample = [&[0x09], value.to_le_bytes().as_slice(), &[0x10], &time].concat();
            series.extend(field(2, &sample));
            request.extend(field(1, &series));
        }
    }
    request
}

/// `ExportMetricsServiceRequest` (opentelemetry-proto): a resource for each host, a gauge for each metric.
pub fn otlp(hosts: &[Host]) -> (Vec<u8>, Vec<Place>) {
    let time = Stamp::FixedNs.encode(MARK_NS);
    let mut request = Vec::new();
    for host in hosts {
        let service = [("service.name", "system")].into_iter();
        let tags = host.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let attribute = |(name, value): (&str, &str)| {
            field(1, &[field(1, name.as_bytes()), field(2, &field(1, value.as_bytes()))].concat())
        };
        let resource: Vec<u8> = service.chain(tags).flat_map(attribute).collect();
        let metric = |(name, value): &(String, f64)| {
            let point = [&[0x19], time.as_slice(), &[0x21], &value.to_le_bytes()].concat();
            field(2, &[field(1, name.as_bytes()), field(5, &field(1, &point))].concat())
        };
        let scope: Vec<u8> = host.metrics.iter().flat_map(metric).collect();
        request.extend(field(1, &[field(1, &resource), field(2, &scope)].concat()));
    }
    let whole = |at| Place { at, from: 0, len: time.len() };
    let places: Vec<Place> = occurrences(&request, &time).into_iter().map(whole).collect();
    let samples: usize = hosts.iter().map(|host| host.metrics.len()).sum();
    assert_eq!(places.len(), samples, "every time of a body should have its place");
    (request, places)
}

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2], varint(content.len() as u64).as_slice(), content].concat()
}

/// Seven bits a byte, the lowest first.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn occurrences(within: &[u8], part: &[u8]) -> Vec<usize> {
    (0..within.len()).filter(|at| within[*at..].starts_with(part)).collect()
}

/// Where the bytes of times stand literally in a snappy block (google/snappy, format_description.txt): what is
/// copied from them follows by itself. `times` are positions in the plain text, `len` is that of each.
fn places_in_snappy(packed: &[u8], times: &[usize], len: usize) -> Vec<Place> {
    let mut places = Vec::new();
    // Behind the length of the plain text, a varint.
    let mut at = packed.iter().position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 1);
    let mut plain_at = 0;
    while at < packed.len() {
        let tag = usize::from(packed[at]);
        let (element_len, plain_len) = match tag & 3 {
            0 => {
                let extra = (tag >> 2).saturating_sub(59);
                let long =
                    packed[at + 1..at + 1 + extra].iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
                let literal_len = if extra == 0 { tag >> 2 } else { long } + 1;
                let literal_at = at + 1 + extra;
                for time in times.iter().filter(|t| **t < plain_at + literal_len && **t + len > plain_at) {
                    let (start, end) = ((*time).max(plain_at), (time + len).min(plain_at + literal_len));
                    places.push(Place {
                        at: literal_at + start - plain_at,
                        from: start - time,
                        len: end - start,
                    });
                }
                (1 + extra + literal_len, literal_len)
            }
            1 => (2, (tag >> 2 & 7) + 4),
            2 => (3, (tag >> 2) + 1),
            _ => (5, (tag >> 2) + 1),
        };
        at += element_len;
        plain_at += plain_len;
    }
    places
}
