//! OTLP's JSON -> its protobuf, after the schema alone: shares nothing with the codec.

use serde_json::Value;

/// How a field is written: its JSON key, number and type.
type Schema = &'static [(&'static str, u8, Type)];

#[derive(Clone, Copy)]
enum Type {
    Message(Schema),
    Messages(Schema),
    Any,
    Text,
    Bool,
    /// int64, uint32, enum
    Varint,
    /// sint32
    Zigzag,
    Fixed64,
    Sfixed64,
    Double,
    PackedFixed64,
    PackedDouble,
    PackedVarint,
}
use Type::*;

const KEY_VALUE: Schema = &[("key", 1, Text), ("value", 2, Any)];
const RESOURCE: Schema = &[("attributes", 1, Messages(KEY_VALUE)), ("droppedAttributesCount", 2, Varint)];
const NUMBER: Schema = &[
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("asDouble", 4, Double),
    ("asInt", 6, Sfixed64),
    ("attributes", 7, Messages(KEY_VALUE)),
    ("flags", 8, Varint),
];
const HISTOGRAM: Schema = &[
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("count", 4, Fixed64),
    ("sum", 5, Double),
    ("bucketCounts", 6, PackedFixed64),
    ("explicitBounds", 7, PackedDouble),
    ("attributes", 9, Messages(KEY_VALUE)),
    ("flags", 10, Varint),
    ("min", 11, Double),
    ("max", 12, Double),
];
const BUCKETS: Schema = &[("offset", 1, Zigzag), ("bucketCounts", 2, PackedVarint)];
const EXPONENTIAL: Schema = &[
    ("attributes", 1, Messages(KEY_VALUE)),
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("count", 4, Fixed64),
    ("sum", 5, Double),
    ("scale", 6, Zigzag),
    ("zeroCount", 7, Fixed64),
    ("positive", 8, Message(BUCKETS)),
    ("negative", 9, Message(BUCKETS)),
    ("flags", 10, Varint),
    ("min", 12, Double),
    ("max", 13, Double),
    ("zeroThreshold", 14, Double),
];
const SUMMARY: Schema = &[
    ("timeUnixNano", 3, Fixed64),
    ("count", 4, Fixed64),
    ("sum", 5, Double),
    ("quantileValues", 6, Messages(&[("quantile", 1, Double), ("value", 2, Double)])),
    ("attributes", 7, Messages(KEY_VALUE)),
    ("flags", 8, Varint),
];
const METRIC: Schema = &[
    ("name", 1, Text),
    ("description", 2, Text),
    ("unit", 3, Text),
    ("gauge", 5, Message(&[("dataPoints", 1, Messages(NUMBER))])),
    (
        "sum",
        7,
        Message(&[
            ("dataPoints", 1, Messages(NUMBER)),
            ("aggregationTemporality", 2, Varint),
            ("isMonotonic", 3, Bool),
        ]),
    ),
    (
        "histogram",
        9,
        Message(&[("dataPoints", 1, Messages(HISTOGRAM)), ("aggregationTemporality", 2, Varint)]),
    ),
    (
        "exponentialHistogram",
        10,
        Message(&[("dataPoints", 1, Messages(EXPONENTIAL)), ("aggregationTemporality", 2, Varint)]),
    ),
    ("summary", 11, Message(&[("dataPoints", 1, Messages(SUMMARY))])),
];
const SCOPE_METRICS: Schema = &[
    ("scope", 1, Message(&[("name", 1, Text), ("version", 2, Text)])),
    ("metrics", 2, Messages(METRIC)),
    ("schemaUrl", 3, Text),
];
const RESOURCE_METRICS: Schema =
    &[("resource", 1, Message(RESOURCE)), ("scopeMetrics", 2, Messages(SCOPE_METRICS))];
const REQUEST: Schema = &[("resourceMetrics", 1, Messages(RESOURCE_METRICS))];

/// The request that `body` is. Keys that the schema does not have become a field that no schema has.
pub fn request(body: &Value) -> Vec<u8> {
    message(body, REQUEST)
}

/// A message of a field and length.
pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend(bytes);
    out
}

fn message(value: &Value, schema: Schema) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in value.as_object().expect("an object") {
        match schema.iter().find(|(known, ..)| known == key) {
            Some((_, number, kind)) => out.extend(encoded(value, *number, *kind)),
            None => out.extend(field(100, b"unknown")),
        }
    }
    out
}

fn encoded(value: &Value, number: u8, kind: Type) -> Vec<u8> {
    let list = || value.as_array().expect("a list").iter();
    let tagged =
        |wire: u8, bytes: Vec<u8>| [varint(u64::from(number) << 3 | u64::from(wire)), bytes].concat();
    match kind {
        Message(schema) => field(number, &message(value, schema)),
        Messages(schema) => list().flat_map(|value| field(number, &message(value, schema))).collect(),
        Any => field(number, &any(value)),
        Text => field(number, value.as_str().expect("a text").as_bytes()),
        Bool => tagged(0, varint(u64::from(value.as_bool().expect("a truth")))),
        Varint => tagged(0, varint(integer(value) as u64)),
        Zigzag => tagged(0, varint(zigzag(integer(value)))),
        Fixed64 | Sfixed64 => tagged(1, (integer(value) as u64).to_le_bytes().to_vec()),
        Double => tagged(1, double(value).to_le_bytes().to_vec()),
        PackedFixed64 => {
            field(number, &list().flat_map(|v| (integer(v) as u64).to_le_bytes()).collect::<Vec<_>>())
        }
        PackedDouble => field(number, &list().flat_map(|v| double(v).to_le_bytes()).collect::<Vec<_>>()),
        PackedVarint => field(number, &list().flat_map(|v| varint(integer(v) as u64)).collect::<Vec<_>>()),
    }
}

fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in value.as_object().expect("an object") {
        let each = |value: &Value| value["values"].as_array().cloned().unwrap_or_default();
        out.extend(match key.as_str() {
            "stringValue" => encoded(value, 1, Text),
            "boolValue" => encoded(value, 2, Bool),
            "intValue" => encoded(value, 3, Varint),
            "doubleValue" => encoded(value, 4, Double),
            "arrayValue" => field(5, &each(value).iter().flat_map(|v| field(1, &any(v))).collect::<Vec<_>>()),
            "kvlistValue" => {
                let entries = each(value);
                field(6, &entries.iter().flat_map(|v| field(1, &message(v, KEY_VALUE))).collect::<Vec<_>>())
            }
            // The tests' only bytes.
            "bytesValue" => {
                assert_eq!(value, "AP8=");
                field(7, b"\x00\xff")
            }
            _ => field(100, b"unknown"),
        });
    }
    out
}

fn integer(value: &Value) -> i64 {
    let of_text =
        |text: &str| text.parse::<i64>().unwrap_or_else(|_| text.parse::<u64>().expect("a number") as i64);
    value.as_str().map_or_else(|| value.as_i64().expect("a number"), of_text)
}

fn double(value: &Value) -> f64 {
    value.as_str().map_or_else(|| value.as_f64().expect("a number"), |text| text.parse().expect("a number"))
}

fn zigzag(number: i64) -> u64 {
    if number < 0 { (-2 * number - 1) as u64 } else { 2 * number as u64 }
}

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let (low, rest) = (value % 128, value / 128);
        out.push(if rest > 0 { low as u8 + 128 } else { low as u8 });
        value = rest;
        if value == 0 {
            return out;
        }
    }
}
