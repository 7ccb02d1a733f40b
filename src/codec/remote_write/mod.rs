//! Prometheus remote write: a series is a set of labels and its samples, in Protocol Buffers.
//!
//! Sources: the Prometheus remote write 1.0 specification (`prometheus.WriteRequest`) and the 2.0 specification
//! (`io.prometheus.write.v2.Request`). A series is recognised by the bytes that spell its labels, so that of one
//! seen before only times and values are read. What its labels make it, says [`super::labels`].
//!
//! A series that makes no sense costs itself; only where the length of a series is wrong, nothing after it can be
//! read. Stale markers, native histograms, exemplars and metadata are counted and passed over.
//!
//! # Layout
//! - [`wire`]: fields of Protocol Buffers; [`v1`], [`v2`]: the two versions' messages

pub mod v1;
pub mod v2;
pub mod wire;

use std::borrow::Cow;

use operators::sample::{MS, SeriesId};

use super::decoder::{Decoder, REJECTS_TOLD_MAX, ShapeId};
use super::labels::{Called, called};
use super::reject::{Malformed, Reason, excerpt};
use wire::{Fault, Fields, Value, varint_of_six};

pub use v1::V1;
pub use v2::V2;

/// The value that ends a series: a NaN of its own.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Numbers of the fields of a series that stand behind its labels, where the versions differ.
struct Numbers {
    histograms: u64,
    exemplars: u64,
    /// 0 where a series has none.
    metadata: u64,
}

/// Field of the labels, or of their references.
const LABELS: u64 = 1;
/// Field of the samples.
const SAMPLES: u64 = 2;
/// Keys, as bytes: of the fields [`LABELS`] and [`SAMPLES`], of a sample's value and time.
const LABELS_KEY: u8 = 1 << 3 | 2;
const SAMPLES_KEY: u8 = 2 << 3 | 2;
const VALUE_KEY: u8 = 1 << 3 | 1;
const TIME_KEY: u8 = 2 << 3;

/// What a series' labels say.
enum Whose {
    /// It was seen before.
    Known(SeriesId),
    /// The catalog is to be asked for it.
    New(ShapeId, String),
}

/// Labels that come after other fields: allowed, but nobody writes them so.
struct LabelsLate;

/// Takes in the samples of a series whose labels are spelled by `labels`, entries as of version 1.0. `rest` is what
/// stands behind them; if it may not have labels, nothing of it is taken should it have some.
fn take_series(
    decoder: &mut Decoder,
    labels: &[u8],
    rest: &[u8],
    numbers: &Numbers,
    labels_pass: bool,
) -> Result<(), LabelsLate> {
    let whose = match known(decoder, labels) {
        Some(series) => Whose::Known(series),
        // Labels that go on later may be wrong so far.
        None if !labels_pass && has_labels(rest) => return Err(LabelsLate),
        None => match learn(decoder, labels) {
            Ok(whose) => whose,
            Err((reason, found)) => {
                refuse(decoder, labels, reason, found);
                return Ok(());
            }
        },
    };
    let mark = decoder.mark();
    let mut fields = Fields::new(rest);
    loop {
        match fields.field() {
            Ok(Some((SAMPLES, Value::Bytes(sample)))) => take_sample(decoder, &whose, labels, sample),
            Ok(Some((LABELS, _))) if labels_pass => {}
            Ok(Some((LABELS, _))) => {
                decoder.roll_back(mark);
                return Err(LabelsLate);
            }
            Ok(Some((number, _))) if number == numbers.histograms => {
                decoder.pass_over(Reason::NativeHistogram)
            }
            Ok(Some((number, _))) if number == numbers.exemplars => decoder.pass_over(Reason::Exemplar),
            Ok(Some((number, _))) if number == numbers.metadata => decoder.pass_over(Reason::Metadata),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(fault) => {
                refuse(decoder, labels, Reason::Malformed, format!("a series, {fault}"));
                return Ok(());
            }
        }
    }
}

/// The series spelled so, if it was seen before. Senders keep an order, so it is probably the one that came next last time.
#[inline]
fn known(decoder: &mut Decoder, labels: &[u8]) -> Option<SeriesId> {
    let guess = decoder.shapes.guess().filter(|shape| decoder.shapes.spelling(*shape).tags == labels);
    let shape = guess.or_else(|| decoder.known_shape(b"", labels))?;
    decoder.shapes.came(shape);
    decoder.only_series(shape)
}

/// The labels that probably come next; empty if there are none.
#[inline]
fn guessed(decoder: &Decoder) -> &[u8] {
    decoder.shapes.guess().map_or(&[], |shape| decoder.shapes.spelling(shape).tags)
}

/// Takes in a series that has the labels guessed, if it has one sample and nothing else: most have. False, and nothing
/// was taken, if not.
#[inline]
fn take_guessed(decoder: &mut Decoder, rest: &[u8]) -> bool {
    let [SAMPLES_KEY, len, sample @ ..] = rest else { return false };
    if usize::from(*len) != sample.len() || sample.len() >= 0x80 {
        return false;
    }
    let Some((shape, series)) = decoder.shapes.guess().and_then(|at| Some((at, decoder.only_series(at)?)))
    else {
        return false;
    };
    decoder.shapes.came(shape);
    let usual = read_usual(sample);
    if !usual.is_some_and(|(value, time_ms)| decoder.push_good(series, time_ms * MS, value)) {
        take_unusual(decoder, shape, series, sample);
    }
    true
}

#[cold]
fn take_unusual(decoder: &mut Decoder, shape: ShapeId, series: SeriesId, sample: &[u8]) {
    let labels = decoder.shapes.spelling(shape).tags.to_vec();
    take_sample(decoder, &Whose::Known(series), &labels, sample);
}

fn has_labels(rest: &[u8]) -> bool {
    let mut fields = Fields::new(rest);
    while let Ok(Some((number, _))) = fields.field() {
        if number == LABELS {
            return true;
        }
    }
    false
}

/// `Sample { value = 1, timestamp = 2 }`, the same in both versions; what is zero may be absent.
#[inline]
fn take_sample(decoder: &mut Decoder, whose: &Whose, labels: &[u8], sample: &[u8]) {
    let (bits, time_ms) = match read_sample(sample) {
        Ok(read) => read,
        Err(fault) => return refuse(decoder, labels, Reason::Malformed, format!("a sample, {fault}")),
    };
    let value = f64::from_bits(bits);
    let time_ns = time_ms.checked_mul(MS);
    match (whose, time_ns) {
        (Whose::Known(series), Some(time_ns)) if decoder.push_good(*series, time_ns, value) => {}
        _ => take_odd(decoder, whose, labels, bits, time_ms),
    }
}

/// One that is new, no number, or at no time.
#[cold]
fn take_odd(decoder: &mut Decoder, whose: &Whose, labels: &[u8], bits: u64, time_ms: i64) {
    let value = f64::from_bits(bits);
    if bits == STALE_BITS {
        return decoder.pass_over(Reason::StaleMarker);
    }
    if !value.is_finite() {
        return refuse(decoder, labels, Reason::NotFinite, value.to_string());
    }
    match (time_ms.checked_mul(MS), whose) {
        (None, _) => refuse(decoder, labels, Reason::BadTimestamp, format!("{time_ms} ms")),
        (Some(time_ns), _) if !decoder.accept_time(time_ns) => {}
        (Some(time_ns), Whose::New(shape, metric)) => decoder.push(*shape, 0, metric, time_ns, value),
        // A known one with a finite value in time is good.
        (Some(_), Whose::Known(_)) => {}
    }
}

/// Bits of the value, and milliseconds.
#[inline]
fn read_sample(sample: &[u8]) -> Result<(u64, i64), Fault> {
    if let Some((value, time_ms)) = read_usual(sample) {
        return Ok((value.to_bits(), time_ms));
    }
    let (mut bits, mut time_ms) = (0, 0);
    let mut fields = Fields::new(sample);
    while let Some(field) = fields.field()? {
        match field {
            (1, Value::Fixed64(value)) => bits = value,
            (2, Value::Varint(time)) => time_ms = time as i64,
            (1 | 2, _) => {
                return Err(Fault {
                    at: fields.at(),
                    what: "expected a value and a time of their wire types",
                });
            }
            _ => {}
        }
    }
    Ok((bits, time_ms))
}

/// A sample of the usual form: a value, unless it is zero, and milliseconds of some time in these thousand years.
#[inline]
fn read_usual(sample: &[u8]) -> Option<(f64, i64)> {
    let (value, time) = match sample {
        [VALUE_KEY, rest @ ..] => {
            let (bytes, rest) = rest.split_first_chunk::<8>()?;
            (f64::from_le_bytes(*bytes), rest)
        }
        _ => (0.0, sample),
    };
    let [TIME_KEY, time @ ..] = time else { return None };
    Some((value, varint_of_six(time.try_into().ok()?)? as i64))
}

/// Learns a series' labels; the catalog is asked with its first sample.
#[cold]
fn learn(decoder: &mut Decoder, labels: &[u8]) -> Result<Whose, (Reason, String)> {
    if labels.len() > LABELS_BYTES_MAX {
        return Err((Reason::TagTooLong, format!("{} bytes of labels", labels.len())));
    }
    let pairs = read_labels(labels)?;
    let Called { service, metric, tags } = called(&pairs)?;
    let shape = match decoder.known_shape(b"", labels) {
        Some(shape) => shape,
        None => {
            let tags: Vec<(&str, &str)> = tags.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
            let shape = decoder.learn_shape(b"", labels, service, &tags)?;
            decoder.shapes.came(shape);
            shape
        }
    };
    Ok(Whose::New(shape, metric.into_owned()))
}

/// Most labels of a series, and bytes of them, that are looked at. As tags there may be as many as the limits say.
const LABELS_LEN_MAX: usize = 2048;
const LABELS_BYTES_MAX: usize = 64 << 10;

/// Entries `Label { name = 1, value = 2 }`, each in field 1.
fn read_labels(labels: &[u8]) -> Result<Vec<(&str, &str)>, (Reason, String)> {
    let malformed = |fault: Fault| (Reason::Malformed, format!("labels, {fault}"));
    let mut pairs = Vec::new();
    let mut entries = Fields::new(labels);
    while let Some(entry) = entries.field().map_err(malformed)? {
        let (LABELS, Value::Bytes(entry)) = entry else {
            let fault = Fault { at: entries.at(), what: "expected a label of its wire type" };
            return Err(malformed(fault));
        };
        let (mut name, mut value) = ("", "");
        let mut fields = Fields::new(entry);
        while let Some(field) = fields.field().map_err(malformed)? {
            match field {
                (1, Value::Bytes(bytes)) => name = text(bytes)?,
                (2, Value::Bytes(bytes)) => value = text(bytes)?,
                (1 | 2, _) => {
                    let fault = Fault { at: fields.at(), what: "expected a label of two texts" };
                    return Err(malformed(fault));
                }
                _ => {}
            }
        }
        if pairs.len() == LABELS_LEN_MAX {
            return Err((Reason::TooManyTags, format!("more than {LABELS_LEN_MAX} labels")));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

fn text(bytes: &[u8]) -> Result<&str, (Reason, String)> {
    std::str::from_utf8(bytes)
        .map_err(|_| (Reason::Malformed, format!("expected labels in UTF-8, found {}", excerpt(bytes))))
}

/// Turns a series or a sample of it away.
#[cold]
fn refuse(decoder: &mut Decoder, labels: &[u8], reason: Reason, found: String) {
    if decoder.rejects.len() >= REJECTS_TOLD_MAX {
        // The name would not be told.
        return decoder.reject(None, reason, "");
    }
    let pairs = read_labels(labels).unwrap_or_default();
    let metric = match called(&pairs) {
        Ok(called) => Some(called.metric),
        Err(_) => {
            pairs.iter().find(|(name, _)| *name == super::labels::NAME).map(|(_, name)| Cow::Borrowed(*name))
        }
    };
    decoder.reject(metric.as_deref(), reason, found);
}

/// Where a request stops making sense.
fn malformed(fault: Fault) -> Malformed {
    Malformed { byte: fault.at, detail: fault.what.into() }
}

#[cfg(test)]
mod tests;
