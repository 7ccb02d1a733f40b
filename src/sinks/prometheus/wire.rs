//! The bodies of remote write requests: Protocol Buffers, compressed as one snappy block.
//!
//! A request is written by hand: four messages with nine fields in all, of which nothing is ever read here.
//! Sources: the Prometheus remote write 1.0 specification (`prometheus.WriteRequest`) and the 2.0 specification
//! (`io.prometheus.write.v2.Request`); Protocol Buffers, "Encoding"; snappy's `format_description.txt`.

use std::collections::HashMap;

use super::names::Labels;
use crate::sinks::SinkError;

/// One sample of a request, with the labels of its series.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Labels of the series.
    pub labels: &'a Labels,
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// The value.
    pub value: f64,
}

/// Wire types of the fields that are used here.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;

/// The body of version 1.0: `WriteRequest { timeseries = 1 }`, uncompressed.
pub fn write_request(rows: &[Row]) -> Vec<u8> {
    let (mut out, mut series, mut inner) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        series.clear();
        for (name, value) in row.labels {
            // Label { name = 1, value = 2 }
            inner.clear();
            bytes_field(1, name.as_bytes(), &mut inner);
            bytes_field(2, value.as_bytes(), &mut inner);
            bytes_field(1, &inner, &mut series);
        }
        sample_field(row, &mut inner, &mut series);
        bytes_field(1, &series, &mut out);
    }
    out
}

/// The body of version 2.0: `Request { symbols = 4, timeseries = 5 }`, uncompressed. The first symbol is empty.
pub fn request_v2(rows: &[Row]) -> Vec<u8> {
    let (mut symbols, mut rest) = (Vec::new(), Vec::new());
    let (mut series, mut inner) = (Vec::new(), Vec::new());
    let mut numbers: HashMap<&str, u64> = HashMap::from([("", 0)]);
    bytes_field(4, b"", &mut symbols);
    for row in rows {
        inner.clear();
        for text in row.labels.iter().flat_map(|(name, value)| [name.as_ref(), value.as_ref()]) {
            let next = numbers.len() as u64;
            let number = *numbers.entry(text).or_insert_with(|| {
                bytes_field(4, text.as_bytes(), &mut symbols);
                next
            });
            varint(number, &mut inner);
        }
        // TimeSeries { labels_refs = 1, packed; samples = 2 }
        series.clear();
        bytes_field(1, &inner, &mut series);
        sample_field(row, &mut inner, &mut series);
        bytes_field(5, &series, &mut rest);
    }
    symbols.append(&mut rest);
    symbols
}

/// One snappy block.
///
/// # Errors
/// [`SinkError::Poison`]: more bytes than the format can say.
pub fn compress(body: &[u8]) -> Result<Vec<u8>, SinkError> {
    snap::raw::Encoder::new()
        .compress_vec(body)
        .map_err(|error| SinkError::Poison { why: format!("a request can't be compressed: {error}") })
}

/// `Sample { value = 1, timestamp = 2 }`, which both versions have as field 2 of a series.
fn sample_field(row: &Row, scratch: &mut Vec<u8>, series: &mut Vec<u8>) {
    scratch.clear();
    scratch.push(1 << 3 | FIXED64);
    scratch.extend_from_slice(&row.value.to_le_bytes());
    scratch.push(2 << 3 | VARINT);
    // An int64 goes in two's complement: a time before 1970 takes ten bytes.
    varint(row.time_ms as u64, scratch);
    bytes_field(2, scratch, series);
}

fn bytes_field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | BYTES);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::super::decode::{decode_v1, decode_v2};
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    /// Bytes as `protoc --encode` gives them for the published `.proto` files; made by hand from the encoding's rules.
    #[test]
    fn bytes_of_one_sample() {
        let labels = labels(&[("__name__", "up"), ("job", "p")]);
        let row = Row { labels: &labels, time_ms: 1, value: 1.5 };
        let name = b"\x0a\x0e\x0a\x08__name__\x12\x02up";
        let job = b"\x0a\x08\x0a\x03job\x12\x01p";
        let sample = b"\x12\x0b\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\x01";
        let mut expected = vec![0x0a, (name.len() + job.len() + sample.len()) as u8];
        expected.extend([name.as_slice(), job, sample].concat());
        assert_eq!(write_request(&[row]), expected);

        let symbols = b"\x22\x00\x22\x08__name__\x22\x02up\x22\x03job\x22\x01p";
        let series = b"\x2a\x13\x0a\x04\x01\x02\x03\x04\x12\x0b\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\x01";
        assert_eq!(request_v2(&[row]), [symbols.as_slice(), series].concat());
    }

    #[test]
    fn what_is_compressed_is_snappy() {
        let body = b"plantd plantd plantd plantd plantd".repeat(100);
        let packed = compress(&body).unwrap();
        assert!(packed.len() < body.len() / 10);
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&packed).unwrap(), body);
    }

    proptest! {
        #[test]
        fn both_versions_say_the_same(
            rows in prop::collection::vec((prop::collection::vec(("\\PC{1,200}", "\\PC{0,9}"), 1..4), any::<i64>(), any::<u64>()), 0..9),
        ) {
            let rows: Vec<(Labels, i64, f64)> = rows.into_iter().map(|(labels, time_ms, bits)| {
                let labels = labels.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
                (labels, time_ms, f64::from_bits(bits))
            }).collect();
            let given: Vec<Row> =
                rows.iter().map(|(labels, time_ms, value)| Row { labels, time_ms: *time_ms, value: *value }).collect();
            let expected: Vec<_> =
                rows.iter().map(|(l, t, v)| (l.clone(), vec![(*t, v.to_bits())])).collect();
            prop_assert_eq!(decode_v1(&write_request(&given)), expected.clone());
            prop_assert_eq!(decode_v2(&request_v2(&given)), expected);
        }
    }
}
