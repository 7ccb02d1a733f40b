//! The same messages in JSON: lowerCamelCase keys, enums as numbers, 64-bit integers as texts or numbers, bytes in
//! base64 (OTLP specification, "JSON Protobuf Encoding"). Unknown keys are passed over, `null` is absent.
//!
//! A body that is no JSON is turned away whole; a message in it of another shape costs only itself.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::attributes::{Any, Attributes, DEPTH_MAX, Form, NoTags, check_len, from_base64};
use super::buckets::BUCKETS_LEN_MAX;
use super::points::{Kind, Point, Points, found};
use crate::codec::Codec;
use crate::codec::decoder::Decoder;
use crate::codec::reject::{Malformed, Reason};

/// See the module.
pub struct OtlpJson;

impl Codec for OtlpJson {
    fn name(&self) -> &'static str {
        "otlp_json"
    }

    fn decode(&self, body: &[u8], decoder: &mut Decoder) -> Result<(), Malformed> {
        let text = std::str::from_utf8(body)
            .map_err(|e| Malformed { byte: e.valid_up_to(), detail: "expected UTF-8".into() })?;
        let request: RequestText = serde_json::from_str(text).map_err(|e| malformed(text, &e))?;
        let mut points = Points::into(decoder, Form::Json);
        each(request.resource_metrics, &mut points, resource_metrics);
        points.end();
        Ok(())
    }
}

fn malformed(text: &str, error: &serde_json::Error) -> Malformed {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let byte = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
    let told = error.to_string();
    let detail = told.split(" at line ").next().unwrap_or_default().to_string();
    Malformed { byte: byte.min(text.len()), detail }
}

type Raw<'a> = Option<&'a RawValue>;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestText<'a> {
    #[serde(borrow)]
    resource_metrics: Raw<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetricsText<'a> {
    #[serde(borrow)]
    resource: Option<ResourceText<'a>>,
    #[serde(borrow)]
    scope_metrics: Raw<'a>,
}

#[derive(serde::Deserialize)]
struct ResourceText<'a> {
    #[serde(borrow)]
    attributes: Raw<'a>,
}

#[derive(serde::Deserialize)]
struct ScopeMetricsText<'a> {
    #[serde(borrow)]
    metrics: Raw<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricText<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    gauge: Option<DataText<'a>>,
    #[serde(borrow)]
    sum: Option<DataText<'a>>,
    #[serde(borrow)]
    histogram: Option<DataText<'a>>,
    #[serde(borrow)]
    exponential_histogram: Option<DataText<'a>>,
    #[serde(borrow)]
    summary: Option<DataText<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataText<'a> {
    #[serde(borrow)]
    data_points: Raw<'a>,
}

/// Calls `take` with every element of an array; what is none, or becomes no `T`, is turned away as one.
fn each<'a, T: Deserialize<'a>>(
    array: Raw<'a>,
    points: &mut Points<'_>,
    take: impl FnMut(T, &mut Points<'_>),
) {
    struct Elements<'p, 'd, T, F>(&'p mut Points<'d>, F, PhantomData<T>);

    impl<'a, T: Deserialize<'a>, F: FnMut(T, &mut Points<'_>)> Visitor<'a> for Elements<'_, '_, T, F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'a>>(mut self, mut elements: A) -> Result<(), A::Error> {
            while let Some(element) = elements.next_element::<&RawValue>()? {
                match serde_json::from_str(element.get()) {
                    Ok(element) => (self.1)(element, self.0),
                    Err(error) => self.0.refuse_whole(told(&error)),
                }
            }
            Ok(())
        }
    }

    let Some(array) = array else { return };
    let elements = Elements(&mut *points, take, PhantomData);
    // The whole body is known to be JSON.
    if serde_json::Deserializer::from_str(array.get()).deserialize_seq(elements).is_err() {
        points.refuse_whole(format!("expected an array, found {}", found(array.get().as_bytes())));
    }
}

fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    found(text.split(" at line ").next().unwrap_or_default().as_bytes())
}

fn resource_metrics(message: ResourceMetricsText<'_>, points: &mut Points<'_>) {
    let attributes = points.begin_resource();
    set(attributes, message.resource.and_then(|resource| resource.attributes));
    points.end_resource();
    each(message.scope_metrics, points, |scope: ScopeMetricsText<'_>, points| {
        each(scope.metrics, points, metric);
    });
}

fn set(attributes: &mut Attributes, array: Raw<'_>) {
    if let Some(array) = array {
        attributes.set_json(array.get());
    }
}

fn metric(message: MetricText<'_>, points: &mut Points<'_>) {
    points.begin_metric(message.name.as_deref().unwrap_or_default());
    for (kind, data) in [
        (Kind::Number, message.gauge),
        (Kind::Number, message.sum),
        (Kind::Histogram, message.histogram),
        (Kind::ExponentialHistogram, message.exponential_histogram),
        (Kind::Summary, message.summary),
    ] {
        let array = data.and_then(|data| data.data_points);
        each(array, points, |text: Raw<'_>, points| point(text, kind, points));
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct PointText<'a> {
    #[serde(borrow)]
    attributes: Raw<'a>,
    time_unix_nano: Option<Integer<u64>>,
    flags: Option<Integer<u64>>,
    as_int: Option<Integer<i64>>,
    as_double: Option<Double>,
    count: Option<Integer<u64>>,
    sum: Option<Double>,
    min: Option<Double>,
    max: Option<Double>,
    bucket_counts: Option<First<Integer<u64>>>,
    explicit_bounds: Option<First<Double>>,
    scale: Option<Integer<i32>>,
    zero_count: Option<Integer<u64>>,
    zero_threshold: Option<Double>,
    positive: Option<BucketsText>,
    negative: Option<BucketsText>,
    quantile_values: Option<First<QuantileText>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct BucketsText {
    offset: Option<Integer<i32>>,
    bucket_counts: Option<First<Integer<u64>>>,
}

#[derive(serde::Deserialize)]
struct QuantileText {
    quantile: Option<Double>,
    value: Option<Double>,
}

fn point(text: Raw<'_>, kind: Kind, points: &mut Points<'_>) {
    let (into, attributes) = points.begin_point();
    match serde_json::from_str::<PointText>(text.map_or("{}", RawValue::get)) {
        Ok(text) => {
            set(attributes, text.attributes);
            fill(into, kind, text);
            points.take(kind);
        }
        Err(error) => points.refuse(told(&error)),
    }
}

fn fill(into: &mut Point, kind: Kind, text: PointText<'_>) {
    let integer = |number: Option<Integer<u64>>| number.map_or(0, |number| number.0);
    let double = |number: Option<Double>| number.map(|number| number.0);
    into.time_ns = integer(text.time_unix_nano);
    into.flags = integer(text.flags);
    into.number = text.as_int.map(|number| number.0 as f64).or(double(text.as_double));
    into.count = integer(text.count);
    into.sum = double(text.sum);
    if kind != Kind::Summary {
        into.min = double(text.min);
        into.max = double(text.max);
    }
    into.scale = text.scale.map_or(0, |scale| scale.0);
    into.zero_count = integer(text.zero_count);
    into.zero_threshold = double(text.zero_threshold).unwrap_or(0.0);
    let counts = |list: Option<First<Integer<u64>>>| list.map_or(Vec::new(), |list| list.0).into_iter();
    if kind == Kind::Histogram {
        counts(text.bucket_counts).for_each(|count| into.counts.push(count.0));
    }
    if let Some(buckets) = text.positive.filter(|_| kind == Kind::ExponentialHistogram) {
        into.offset = buckets.offset.map_or(0, |offset| offset.0);
        counts(buckets.bucket_counts).for_each(|count| into.counts.push(count.0));
    }
    if let Some(buckets) = text.negative {
        into.negative_offset = buckets.offset.map_or(0, |offset| offset.0);
        counts(buckets.bucket_counts).for_each(|count| into.negative_counts.push(count.0));
    }
    let bounds = text.explicit_bounds.map_or(Vec::new(), |list| list.0);
    bounds.into_iter().for_each(|bound| into.bounds.push(bound.0));
    let quantiles = text.quantile_values.map_or(Vec::new(), |list| list.0);
    for QuantileText { quantile, value } in quantiles {
        into.quantiles.push((double(quantile).unwrap_or(0.0), double(value).unwrap_or(0.0)));
    }
}

/// An integer: a number, or a text of one.
struct Integer<T>(T);

impl<'de, T: TryFrom<i128> + std::str::FromStr> Deserialize<'de> for Integer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(NumberVisitor)? {
            Number::Integer(number) => T::try_from(number).map(Integer).ok(),
            // A number with a fraction of nothing is an integer, too.
            Number::Double(number) if number.fract() == 0.0 && number.abs() < 1e30 => {
                T::try_from(number as i128).map(Integer).ok()
            }
            Number::Double(_) => None,
        }
        .ok_or_else(|| de::Error::custom("expected an integer within its bounds"))
    }
}

/// A number, or a text of one, or `NaN`, `Infinity`, `-Infinity`.
struct Double(f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Double(match deserializer.deserialize_any(NumberVisitor)? {
            Number::Integer(number) => number as f64,
            Number::Double(number) => number,
        }))
    }
}

enum Number {
    Integer(i128),
    Double(f64),
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number, or a text of one")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
        Ok(Number::Integer(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
        Ok(Number::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
        Ok(Number::Double(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
        if let Ok(number) = text.parse() {
            return Ok(Number::Integer(number));
        }
        let number = text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
        Ok(Number::Double(number))
    }
}

/// The elements of an array, one more than a histogram may have buckets at most; the others are passed over.
struct First<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FirstVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for FirstVisitor<T> {
            type Value = First<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<First<T>, A::Error> {
                let mut first = Vec::new();
                while let Some(element) = elements.next_element()? {
                    first.push(element);
                    if first.len() > BUCKETS_LEN_MAX {
                        while elements.next_element::<IgnoredAny>()?.is_some() {}
                    }
                }
                Ok(First(first))
            }
        }

        deserializer.deserialize_seq(FirstVisitor(PhantomData))
    }
}

#[derive(serde::Deserialize)]
struct KeyValueText<'a> {
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<AnyText<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyText<'a> {
    #[serde(borrow)]
    string_value: Option<Cow<'a, str>>,
    bool_value: Option<bool>,
    int_value: Option<Integer<i64>>,
    double_value: Option<Double>,
    #[serde(borrow)]
    bytes_value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    array_value: Option<ValuesText<'a>>,
    #[serde(borrow)]
    kvlist_value: Option<ValuesText<'a>>,
}

/// A list, or the entries of a map.
#[derive(serde::Deserialize)]
struct ValuesText<'a> {
    #[serde(borrow)]
    values: Option<Vec<&'a RawValue>>,
}

/// Names and texts of a JSON array of attributes, as [`Attributes::pairs`] gives them.
pub(super) fn pairs(array: &[u8], len_max: usize) -> Result<Vec<(String, String)>, NoTags> {
    let text = std::str::from_utf8(array).unwrap_or_default();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| (Reason::BadTags, told(&e)))?;
    check_len(elements.len(), len_max)?;
    let mut pairs = Vec::with_capacity(elements.len());
    for element in elements {
        let (name, value) = key_value(element, DEPTH_MAX)?;
        pairs.push((name.into_owned(), value.into_text()));
    }
    Ok(pairs)
}

fn key_value(element: &RawValue, depth: usize) -> Result<(Cow<'_, str>, Any<'_>), NoTags> {
    let text: KeyValueText = parse(element)?;
    let value = text.value.map_or(Ok(Any::Nothing), |value| any(value, depth))?;
    Ok((text.key.unwrap_or_default(), value))
}

fn parse<'a, T: Deserialize<'a>>(element: &'a RawValue) -> Result<T, NoTags> {
    serde_json::from_str(element.get()).map_err(|error| (Reason::BadTags, told(&error)))
}

fn any(value: AnyText<'_>, depth: usize) -> Result<Any<'_>, NoTags> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err((Reason::BadTags, format!("expected at most {DEPTH_MAX} values within each other")));
    };
    if let Some(text) = value.string_value {
        return Ok(Any::Text(text));
    }
    if let Some(text) = value.bytes_value {
        let bytes = from_base64(&text).ok_or_else(|| (Reason::BadTags, "expected base64".into()))?;
        return Ok(Any::Bytes(bytes.into()));
    }
    if let Some(list) = value.array_value {
        let values = list.values.unwrap_or_default().into_iter();
        return values.map(|value| any(parse(value)?, depth)).collect::<Result<_, _>>().map(Any::List);
    }
    if let Some(map) = value.kvlist_value {
        let entries = map.values.unwrap_or_default().into_iter();
        return entries.map(|entry| key_value(entry, depth)).collect::<Result<_, _>>().map(Any::Map);
    }
    Ok(match (value.bool_value, value.int_value, value.double_value) {
        (Some(value), ..) => Any::Bool(value),
        (None, Some(number), _) => Any::Int(number.0),
        (None, None, Some(number)) => Any::Double(number.0),
        (None, None, None) => Any::Nothing,
    })
}
