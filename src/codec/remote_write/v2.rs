//! Version 2.0: `Request { symbols = 4, timeseries = 5 }`, `TimeSeries { labels_refs = 1, samples = 2,
//! histograms = 3, exemplars = 4, metadata = 5 }`.
//!
//! Labels are numbers of symbols, pairs of name and value. They are spelled out as version 1.0 has them, because the
//! next request may number its symbols in another way.

use operators::packed::put_varint;

use super::wire::{Fields, Value};
use super::{
    LABELS, LABELS_BYTES_MAX, LABELS_KEY, Numbers, guessed, malformed, refuse, take_guessed, take_series,
};
use crate::codec::Codec;
use crate::codec::decoder::Decoder;
use crate::codec::reject::{Malformed, Reason};

/// Remote write 2.0, unpacked.
pub struct V2;

/// Keys, as bytes: of a series, of a label's name and value.
const SERIES_KEY: u8 = 5 << 3 | 2;
const NAME_KEY: u8 = 1 << 3 | 2;
const VALUE_KEY: u8 = 2 << 3 | 2;
const NUMBERS: Numbers = Numbers { histograms: 3, exemplars: 4, metadata: 5 };

/// Symbols of a request: more of them nobody needs.
const SYMBOLS_LEN_MAX: usize = 1 << 20;
/// Bytes that all labels may be when they are spelled out, as a multiple of the body: a symbol may be long and named
/// by every series.
const SPELLED_PER_BYTE_MAX: usize = 64;

impl Codec for V2 {
    fn name(&self) -> &'static str {
        "remote_write_2"
    }

    fn decode(&self, body: &[u8], decoder: &mut Decoder) -> Result<(), Malformed> {
        let left = LABELS_BYTES_MAX + body.len().saturating_mul(SPELLED_PER_BYTE_MAX);
        let mut labels = Labels { symbols: symbols(body)?, spelled: Vec::new(), left };
        let mut fields = Fields::new(body);
        loop {
            while let Some(series) = fields.short_bytes(SERIES_KEY) {
                decoder.messages += 1;
                labels.take(decoder, series);
            }
            let at = fields.at();
            match fields.field().map_err(malformed)? {
                Some((5, Value::Bytes(series))) => {
                    decoder.messages += 1;
                    labels.take(decoder, series);
                }
                Some((5, _)) => {
                    return Err(Malformed { byte: at, detail: "expected a series of its wire type".into() });
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}

/// All symbols up to where the body stops making sense, if it does.
fn symbols(body: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut symbols = Vec::new();
    let mut fields = Fields::new(body);
    loop {
        let at = fields.at();
        match fields.field() {
            Ok(Some((4, Value::Bytes(_)))) if symbols.len() == SYMBOLS_LEN_MAX => {
                let detail = format!("expected at most {SYMBOLS_LEN_MAX} symbols, found more");
                return Err(Malformed { byte: at, detail });
            }
            Ok(Some((4, Value::Bytes(symbol)))) => symbols.push(symbol),
            Ok(Some((4, _))) => {
                return Err(Malformed { byte: at, detail: "expected a symbol of its wire type".into() });
            }
            Ok(Some(_)) => {}
            // Series before the fault are read.
            Ok(None) | Err(_) => return Ok(symbols),
        }
    }
}

/// The symbols of a request, and the labels of one series spelled out.
struct Labels<'a> {
    symbols: Vec<&'a [u8]>,
    spelled: Vec<u8>,
    /// Bytes that may still be spelled.
    left: usize,
}

impl Labels<'_> {
    #[inline]
    fn take(&mut self, decoder: &mut Decoder, series: &[u8]) {
        let mut fields = Fields::new(series);
        if let Some(refs) = fields.short_bytes(LABELS_KEY)
            && self.are_spelled(refs, guessed(decoder))
            && take_guessed(decoder, &series[fields.at()..])
        {
            return;
        }
        self.take_any(decoder, series);
    }

    /// Whether the references spell `labels`, all of them in their short form.
    #[inline]
    fn are_spelled(&self, refs: &[u8], labels: &[u8]) -> bool {
        let mut numbers = Fields::new(refs);
        let mut rest = labels;
        while numbers.at() < refs.len() {
            let (Some(name), Some(value)) =
                (self.known_symbol(&mut numbers), self.known_symbol(&mut numbers))
            else {
                return false;
            };
            let [LABELS_KEY, ..0x80, NAME_KEY, name_len @ ..0x80, behind @ ..] = rest else { return false };
            let Some((found, behind)) = behind.split_at_checked(usize::from(*name_len)) else { return false };
            let [VALUE_KEY, value_len @ ..0x80, behind @ ..] = behind else { return false };
            if found != name || usize::from(*value_len) != value.len() {
                return false;
            }
            let Some(behind) = behind.strip_prefix(value) else { return false };
            rest = behind;
        }
        !labels.is_empty() && rest.is_empty()
    }

    #[inline]
    fn known_symbol(&self, numbers: &mut Fields<'_>) -> Option<&[u8]> {
        let number = numbers.varint().ok()?;
        self.symbols.get(usize::try_from(number).ok()?).copied()
    }

    #[inline]
    fn take_any(&mut self, decoder: &mut Decoder, series: &[u8]) {
        let mut fields = Fields::new(series);
        let first = if series.first() == Some(&LABELS_KEY) { fields.field() } else { Ok(None) };
        let spelled = match first {
            Ok(Some((_, Value::Bytes(refs)))) => self.spell(refs),
            // What is wrong with it is found where the rest is read.
            _ => self.spell(b""),
        };
        match spelled {
            Err(why) => refuse(decoder, b"", Reason::Malformed, why),
            Ok(()) => {
                let rest = &series[fields.at()..];
                if take_series(decoder, &self.spelled, rest, &NUMBERS, false).is_err() {
                    self.take_late(decoder, series);
                }
            }
        }
    }

    /// References that are split, not packed, or behind other fields.
    #[cold]
    fn take_late(&mut self, decoder: &mut Decoder, series: &[u8]) {
        let mut refs = Vec::new();
        let mut fields = Fields::new(series);
        while let Ok(Some((number, value))) = fields.field() {
            match value {
                Value::Bytes(packed) if number == LABELS => refs.extend_from_slice(packed),
                Value::Varint(one) if number == LABELS => put_varint(&mut refs, one),
                _ => {}
            }
        }
        match self.spell(&refs) {
            Err(why) => refuse(decoder, b"", Reason::Malformed, why),
            Ok(()) => {
                // With leave to have labels, none are late.
                let _ = take_series(decoder, &self.spelled, series, &NUMBERS, true);
            }
        }
    }

    /// Spells labels out as `TimeSeries { labels = 1 }`, `Label { name = 1, value = 2 }`.
    #[inline]
    fn spell(&mut self, refs: &[u8]) -> Result<(), String> {
        self.spelled.clear();
        let mut numbers = Fields::new(refs);
        while numbers.at() < refs.len() {
            let name = self.symbol(&mut numbers)?;
            if numbers.at() == refs.len() {
                return Err("expected label references in pairs, found an odd count".into());
            }
            let value = self.symbol(&mut numbers)?;
            let len = name.len() + value.len();
            if self.spelled.len() + len > LABELS_BYTES_MAX || len > self.left {
                return Err(format!("expected labels of at most {LABELS_BYTES_MAX} bytes, found more"));
            }
            self.left -= len;
            let inner = 2 + len_of_len(name.len()) + name.len() + len_of_len(value.len()) + value.len();
            self.spelled.push(LABELS_KEY);
            put_varint(&mut self.spelled, inner as u64);
            for (key, text) in [(NAME_KEY, name), (VALUE_KEY, value)] {
                self.spelled.push(key);
                put_varint(&mut self.spelled, text.len() as u64);
                self.spelled.extend_from_slice(text);
            }
        }
        Ok(())
    }
}

impl<'a> Labels<'a> {
    #[inline]
    fn symbol(&self, numbers: &mut Fields<'_>) -> Result<&'a [u8], String> {
        let number = numbers.varint().map_err(|fault| format!("label references, {fault}"))?;
        let symbol = usize::try_from(number).ok().and_then(|number| self.symbols.get(number));
        symbol
            .copied()
            .ok_or_else(|| format!("expected label references below {}, found {number}", self.symbols.len()))
    }
}

/// Bytes that a length takes as a varint.
fn len_of_len(len: usize) -> usize {
    (usize::BITS - (len | 1).leading_zeros()).div_ceil(7) as usize
}
