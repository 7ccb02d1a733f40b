//! The documented JSON: one message, an array of them, or the batch object; and the two flat shapes of
//! plantd's own code.
//!
//! | shape | becomes |
//! |---|---|
//! | `{"timestamp", "service", "metrics": {..}, "tags": {..}}` | one sample a metric |
//! | `[message, ..]`, `{"metrics": [message, ..]}` | the same, message by message |
//! | `{"timestamp", "value": "1", "units", "tags": ["a"]}` | metric `value` of the topic's service, tags `units` and `a="true"` |
//! | `{"time", "device", "channel", "value": 1.5}` | metric `channel` of service `device` |
//!
//! Numbers are read from their text with correct rounding; a value that is not a finite number costs only itself.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use super::decoder::shapes::{Kind, Spelling};
use super::decoder::{Decoder, ShapeId};
use super::reject::{Malformed, Reason, excerpt};
use super::{Codec, time};
use operators::sample::TimeNs;

mod body;
mod known;
pub(super) mod scan;

/// See the module.
pub struct Json;

impl Codec for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn decode(&self, body: &[u8], decoder: &mut Decoder) -> Result<(), Malformed> {
        if body::decode(body, decoder) {
            return Ok(());
        }
        let text = std::str::from_utf8(body)
            .map_err(|e| Malformed { byte: e.valid_up_to(), detail: "expected UTF-8".into() })?;
        decode_fully(text, decoder)
    }
}

/// Decodes any body, known or not: the tier below the others.
fn decode_fully(text: &str, decoder: &mut Decoder) -> Result<(), Malformed> {
    match text.trim_start().as_bytes().first() {
        Some(b'[') => each(text, 0, text, decoder),
        Some(b'{') => object(text, decoder),
        Some(_) => Err(Malformed {
            byte: 0,
            detail: format!("expected a JSON object or array, found {}", excerpt(text.as_bytes())),
        }),
        None => Err(Malformed { byte: 0, detail: "expected a JSON object or array, found nothing".into() }),
    }
}

/// A message, or the batch object, whose `metrics` is an array.
fn object(text: &str, decoder: &mut Decoder) -> Result<(), Malformed> {
    let wire: Wire = serde_json::from_str(text).map_err(|e| malformed(text, 0, text, &e))?;
    match wire.metrics {
        Some(metrics) if metrics.get().starts_with('[') => {
            each(metrics.get(), offset(text, metrics.get()), text, decoder)
        }
        _ => {
            message(&wire, decoder);
            Ok(())
        }
    }
}

/// Every message of an array, up to the first syntax error.
fn each(array: &str, at: usize, whole: &str, decoder: &mut Decoder) -> Result<(), Malformed> {
    let mut deserializer = serde_json::Deserializer::from_str(array);
    let visited = deserializer.deserialize_seq(Elements(decoder)).and_then(|()| deserializer.end());
    visited.map_err(|e| malformed(whole, at, array, &e))
}

struct Elements<'d>(&'d mut Decoder);

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&RawValue>()? {
            self::element(element.get(), self.0);
        }
        Ok(())
    }
}

/// One element of an array.
fn element(text: &str, decoder: &mut Decoder) {
    match serde_json::from_str::<Wire>(text) {
        Ok(wire) => message(&wire, decoder),
        Err(_) => {
            decoder.messages += 1;
            decoder.reject(None, Reason::Malformed, excerpt(text.as_bytes()));
        }
    }
}

/// Fields of all shapes; each is looked at only as far as its shape needs.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    service: Option<&'a RawValue>,
    #[serde(borrow)]
    metrics: Option<&'a RawValue>,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    units: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    device: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
}

fn message(wire: &Wire, decoder: &mut Decoder) {
    decoder.messages += 1;
    let time = wire.timestamp.or(wire.time).map(RawValue::get).filter(|text| *text != "null");
    let time_ns = match time.map_or(Some(decoder.arrival_ns), event_time) {
        Some(time_ns) => time_ns,
        None => {
            return decoder.reject(None, Reason::BadTimestamp, excerpt(time.unwrap_or_default().as_bytes()));
        }
    };
    if !decoder.accept_time(time_ns) {
        return;
    }
    match (wire.metrics, wire.value, wire.device, wire.channel) {
        (Some(metrics), ..) => documented(wire, metrics, time_ns, decoder),
        (None, Some(value), Some(device), Some(channel)) => {
            channel_value(device, channel, value, time_ns, decoder)
        }
        (None, Some(value), ..) => single_value(wire, value, time_ns, decoder),
        _ => decoder.reject(None, Reason::NoMetrics, ""),
    }
}

fn event_time(text: &str) -> Option<TimeNs> {
    if text.starts_with('"') { time::parse_text(&string(text)?) } else { time::parse_number(text) }
}

fn documented(wire: &Wire, metrics: &RawValue, time_ns: TimeNs, decoder: &mut Decoder) {
    let default_service = std::mem::take(&mut decoder.default_service);
    let service = wire.service.map_or("", RawValue::get);
    let tags = wire.tags.map_or("", RawValue::get);
    let spelling = spelling(service, &default_service, tags);
    let shape = match decoder.shapes.find(spelling) {
        Some(shape) => Ok(shape),
        None => learn(service, &default_service, tags, spelling, decoder),
    };
    match shape {
        Ok(shape) => {
            decoder.shapes.came(shape);
            let values = Values { decoder, shape, time_ns };
            if serde_json::Deserializer::from_str(metrics.get()).deserialize_map(values).is_err() {
                decoder.reject(None, Reason::NoMetrics, excerpt(metrics.get().as_bytes()));
            }
        }
        Err((reason, found)) => decoder.reject(None, reason, found),
    }
    decoder.default_service = default_service;
}

/// The spelling of a documented message; without a service, its topic names it.
fn spelling<'a>(service: &'a str, default_service: &'a str, tags: &'a str) -> Spelling<'a> {
    let (kind, service) =
        if service.is_empty() { (Kind::Topic, default_service) } else { (Kind::Body, service) };
    Spelling { kind, service: service.as_bytes(), tags: tags.as_bytes() }
}

fn learn(
    service: &str,
    default_service: &str,
    tags: &str,
    spelling: Spelling,
    decoder: &mut Decoder,
) -> Result<ShapeId, (Reason, String)> {
    let name = if service.is_empty() { Some(Cow::Borrowed(default_service)) } else { string(service) };
    let name = name.ok_or_else(|| (Reason::BadService, excerpt(service.as_bytes())))?;
    let pairs = if tags.is_empty() || tags == "null" {
        Some(Pairs(Vec::new()))
    } else {
        serde_json::from_str(tags).ok()
    };
    let Pairs(pairs) = pairs.ok_or_else(|| (Reason::BadTags, excerpt(tags.as_bytes())))?;
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
    decoder.learn_spelling(spelling, &name, &pairs)
}

/// `{"timestamp", "value": "1", "units": "count", "tags": ["weather"]}`, as plantd's metric module sends it.
fn single_value(wire: &Wire, value: &RawValue, time_ns: TimeNs, decoder: &mut Decoder) {
    let quoted = string(value.get());
    let Ok(number) = quoted.as_deref().unwrap_or(value.get()).parse::<f64>() else {
        return decoder.reject(Some("value"), Reason::NotANumber, excerpt(value.get().as_bytes()));
    };
    let units = wire.units.and_then(|units| string(units.get()));
    let words: Option<Vec<Text>> =
        wire.tags.map_or(Some(Vec::new()), |tags| serde_json::from_str(tags.get()).ok());
    let Some(words) = words else {
        return decoder.reject(
            None,
            Reason::BadTags,
            excerpt(wire.tags.map_or("", RawValue::get).as_bytes()),
        );
    };
    let mut pairs: Vec<(&str, &str)> = words.iter().map(|Text(word)| (word.as_ref(), "true")).collect();
    pairs.extend(units.as_deref().map(|units| ("units", units)));
    let service = wire.service.and_then(|service| string(service.get()));
    let default_service = decoder.default_service.clone();
    let name = service.as_deref().unwrap_or(&default_service);
    let spelling =
        format!("{}\n{}", wire.tags.map_or("", RawValue::get), units.as_deref().unwrap_or_default());
    flat(name, &spelling, &pairs, "value", time_ns, number, decoder);
}

/// `{"time", "device", "channel", "value": 1.5}`, as plantd's logger sends it.
fn channel_value(
    device: &RawValue,
    channel: &RawValue,
    value: &RawValue,
    time_ns: TimeNs,
    decoder: &mut Decoder,
) {
    let (Some(device), Some(channel)) = (string(device.get()), string(channel.get())) else {
        return decoder.reject(None, Reason::BadService, "a device or channel that is no string");
    };
    match value.get().parse::<f64>() {
        Ok(number) => flat(&device, "", &[], &channel, time_ns, number, decoder),
        Err(_) => decoder.reject(Some(&channel), Reason::NotANumber, excerpt(value.get().as_bytes())),
    }
}

fn flat(
    service: &str,
    spelling: &str,
    pairs: &[(&str, &str)],
    metric: &str,
    time_ns: TimeNs,
    value: f64,
    decoder: &mut Decoder,
) {
    let spelling = Spelling { kind: Kind::Flat, service: service.as_bytes(), tags: spelling.as_bytes() };
    let shape = match decoder.shapes.find(spelling) {
        Some(shape) => Ok(shape),
        None => decoder.learn_spelling(spelling, service, pairs),
    };
    match shape {
        Ok(shape) => decoder.push(shape, 0, metric, time_ns, value),
        Err((reason, found)) => decoder.reject(None, reason, found),
    }
}

/// The metrics of a message, pushed as they are read.
struct Values<'d> {
    decoder: &'d mut Decoder,
    shape: ShapeId,
    time_ns: TimeNs,
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut place = 0;
        while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            let text = value.get();
            match text.as_bytes().first() {
                Some(b'-' | b'0'..=b'9') => {
                    // JSON's numbers are a part of what the standard library reads.
                    let number = text.parse().unwrap_or(f64::NAN);
                    self.decoder.push(self.shape, place, &name, self.time_ns, number);
                }
                _ => self.decoder.reject(Some(&name), Reason::NotANumber, excerpt(text.as_bytes())),
            }
            place += 1;
        }
        if place == 0 {
            self.decoder.reject(None, Reason::NoMetrics, "{}");
        }
        Ok(())
    }
}

/// A string, borrowed from the input unless it has escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.into())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Tags: an object of strings; other scalars are not tags, `null` is none.
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// The string that `json` spells, if it is one.
fn string(json: &str) -> Option<Cow<'_, str>> {
    match json.strip_prefix('"')?.strip_suffix('"')? {
        plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str(json).ok().map(Cow::Owned),
    }
}

fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// A syntax error with its byte in the whole body.
fn malformed(whole: &str, at: usize, part: &str, error: &serde_json::Error) -> Malformed {
    let before: usize = part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let byte = (at + before + error.column().saturating_sub(1)).min(whole.len());
    let text = error.to_string();
    let detail = text.split(" at line ").next().unwrap_or_default().to_string();
    Malformed { byte, detail }
}

/// Whether `text` is well-formed JSON; for tests of the codecs against each other.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
