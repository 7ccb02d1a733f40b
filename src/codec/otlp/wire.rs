//! The messages of an `ExportMetricsServiceRequest` in protobuf, read where they lie.
//!
//! Field numbers: opentelemetry-proto, `collector/metrics/v1/metrics_service.proto`, `metrics/v1/metrics.proto`,
//! `resource/v1/resource.proto`. Fields may come in any order and unknown ones are passed over, as are known ones of
//! another wire type. A message that makes no sense costs itself, and its neighbours pass.

use super::attributes::{Attributes, Form};
use super::points::{Kind, Point, Points, found};
use super::protobuf::{Broken, Fields, Value, each_fixed64, each_varint, zigzag32};
use crate::codec::Codec;
use crate::codec::decoder::Decoder;
use crate::codec::reject::Malformed;

/// See the module.
pub struct OtlpProtobuf;

impl Codec for OtlpProtobuf {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn decode(&self, body: &[u8], decoder: &mut Decoder) -> Result<(), Malformed> {
        let mut request = Request { body, points: Points::into(decoder, Form::Protobuf) };
        let result = request.read();
        request.points.end();
        result.map_err(|broken| Malformed {
            byte: broken.byte(body),
            detail: format!("expected {}", broken.expected),
        })
    }
}

struct Request<'b, 'd> {
    body: &'b [u8],
    points: Points<'d>,
}

impl<'b> Request<'b, '_> {
    fn read(&mut self) -> Result<(), Broken<'b>> {
        each_message(self.body, 1, |message| {
            if let Err(broken) = self.resource_metrics(message) {
                self.refuse_rest(broken);
            }
        })
    }

    /// One reject stands for what is left of a message.
    fn refuse_rest(&mut self, broken: Broken<'_>) {
        let text = told(self.body, broken);
        self.points.refuse_whole(text);
    }

    fn resource_metrics(&mut self, message: &'b [u8]) -> Result<(), Broken<'b>> {
        let attributes = self.points.begin_resource();
        let mut result = Ok(());
        each_message(message, 1, |resource| {
            let read = each_message(resource, 1, |attribute| attributes.push_message(attribute));
            result = result.and(read);
        })?;
        result?;
        self.points.end_resource();
        each_message(message, 2, |scope| {
            let read = each_message(scope, 2, |metric| {
                if let Err(broken) = self.metric(metric) {
                    self.refuse_rest(broken);
                }
            });
            if let Err(broken) = read {
                self.refuse_rest(broken);
            }
        })
    }

    fn metric(&mut self, message: &'b [u8]) -> Result<(), Broken<'b>> {
        let mut name: &[u8] = b"";
        each_message(message, 1, |bytes| name = bytes)?;
        let Ok(name) = std::str::from_utf8(name) else {
            self.points.refuse_whole(format!("a name that is no UTF-8: {}", found(name)));
            return Ok(());
        };
        self.points.begin_metric(name);
        let mut fields = Fields::of(message);
        while let Some(field) = fields.next_field()? {
            let (kind, data) = match field {
                (5 | 7, Value::Bytes(data)) => (Kind::Number, data),
                (9, Value::Bytes(data)) => (Kind::Histogram, data),
                (10, Value::Bytes(data)) => (Kind::ExponentialHistogram, data),
                (11, Value::Bytes(data)) => (Kind::Summary, data),
                _ => continue,
            };
            each_message(data, 1, |message| {
                let (point, attributes) = self.points.begin_point();
                match self::point(message, kind, point, attributes) {
                    Ok(()) => self.points.take(kind),
                    Err(broken) => {
                        let text = told(self.body, broken);
                        self.points.refuse(text);
                    }
                }
            })?;
        }
        Ok(())
    }
}

fn told(body: &[u8], broken: Broken<'_>) -> String {
    format!("byte {}: expected {}", broken.byte(body), broken.expected)
}

/// Calls `take` with every message (or text) of the field `number`.
fn each_message<'a>(
    message: &'a [u8],
    number: u64,
    mut take: impl FnMut(&'a [u8]),
) -> Result<(), Broken<'a>> {
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next_field()? {
        if let (at, Value::Bytes(bytes)) = field
            && at == number
        {
            take(bytes);
        }
    }
    Ok(())
}

fn point<'a>(
    message: &'a [u8],
    kind: Kind,
    into: &mut Point,
    attributes: &mut Attributes,
) -> Result<(), Broken<'a>> {
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next_field()? {
        // Times have the same place in all kinds.
        if let (3, Value::Fixed64(time_ns)) = (number, value) {
            into.time_ns = time_ns;
            continue;
        }
        match kind {
            Kind::Number => self::number(number, value, into, attributes),
            Kind::Histogram => histogram(number, value, into, attributes)?,
            Kind::ExponentialHistogram => exponential(number, value, into, attributes)?,
            Kind::Summary => summary(number, value, into, attributes)?,
        }
    }
    Ok(())
}

fn number(field: u64, value: Value<'_>, into: &mut Point, attributes: &mut Attributes) {
    match (field, value) {
        (4, Value::Fixed64(bits)) => into.number = Some(f64::from_bits(bits)),
        (6, Value::Fixed64(bits)) => into.number = Some(bits as i64 as f64),
        (7, Value::Bytes(attribute)) => attributes.push_message(attribute),
        (8, Value::Varint(flags)) => into.flags = flags,
        _ => {}
    }
}

fn histogram<'a>(
    field: u64,
    value: Value<'a>,
    into: &mut Point,
    attributes: &mut Attributes,
) -> Result<(), Broken<'a>> {
    match (field, value) {
        (4, Value::Fixed64(count)) => into.count = count,
        (5, Value::Fixed64(bits)) => into.sum = Some(f64::from_bits(bits)),
        (6, value) => each_fixed64(value, |count| into.counts.push(count))?,
        (7, value) => each_fixed64(value, |bits| into.bounds.push(f64::from_bits(bits)))?,
        (9, Value::Bytes(attribute)) => attributes.push_message(attribute),
        (10, Value::Varint(flags)) => into.flags = flags,
        (11, Value::Fixed64(bits)) => into.min = Some(f64::from_bits(bits)),
        (12, Value::Fixed64(bits)) => into.max = Some(f64::from_bits(bits)),
        _ => {}
    }
    Ok(())
}

fn exponential<'a>(
    field: u64,
    value: Value<'a>,
    into: &mut Point,
    attributes: &mut Attributes,
) -> Result<(), Broken<'a>> {
    match (field, value) {
        (1, Value::Bytes(attribute)) => attributes.push_message(attribute),
        (4, Value::Fixed64(count)) => into.count = count,
        (5, Value::Fixed64(bits)) => into.sum = Some(f64::from_bits(bits)),
        (6, Value::Varint(number)) => into.scale = zigzag32(number),
        (7, Value::Fixed64(count)) => into.zero_count = count,
        (8, Value::Bytes(buckets)) => {
            each_bucket(buckets, &mut into.offset, |count| into.counts.push(count))?;
        }
        (9, Value::Bytes(buckets)) => {
            each_bucket(buckets, &mut into.negative_offset, |count| into.negative_counts.push(count))?;
        }
        (10, Value::Varint(flags)) => into.flags = flags,
        (12, Value::Fixed64(bits)) => into.min = Some(f64::from_bits(bits)),
        (13, Value::Fixed64(bits)) => into.max = Some(f64::from_bits(bits)),
        (14, Value::Fixed64(bits)) => into.zero_threshold = f64::from_bits(bits),
        _ => {}
    }
    Ok(())
}

fn each_bucket<'a>(message: &'a [u8], offset: &mut i32, mut take: impl FnMut(u64)) -> Result<(), Broken<'a>> {
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next_field()? {
        match field {
            (1, Value::Varint(number)) => *offset = zigzag32(number),
            (2, value) => each_varint(value, &mut take)?,
            _ => {}
        }
    }
    Ok(())
}

fn summary<'a>(
    field: u64,
    value: Value<'a>,
    into: &mut Point,
    attributes: &mut Attributes,
) -> Result<(), Broken<'a>> {
    match (field, value) {
        (4, Value::Fixed64(count)) => into.count = count,
        (5, Value::Fixed64(bits)) => into.sum = Some(f64::from_bits(bits)),
        (6, Value::Bytes(message)) => {
            let (mut quantile, mut at) = (0.0, 0.0);
            let mut fields = Fields::of(message);
            while let Some(field) = fields.next_field()? {
                match field {
                    (1, Value::Fixed64(bits)) => quantile = f64::from_bits(bits),
                    (2, Value::Fixed64(bits)) => at = f64::from_bits(bits),
                    _ => {}
                }
            }
            into.quantiles.push((quantile, at));
        }
        (7, Value::Bytes(attribute)) => attributes.push_message(attribute),
        (8, Value::Varint(flags)) => into.flags = flags,
        _ => {}
    }
    Ok(())
}
