//! Version 1.0: `WriteRequest { timeseries = 1, metadata = 3 }`, `TimeSeries { labels = 1, samples = 2,
//! exemplars = 3, histograms = 4 }`.

use super::wire::{Fields, Value};
use super::{LABELS, LABELS_KEY, Numbers, guessed, malformed, take_guessed, take_series};
use crate::codec::Codec;
use crate::codec::decoder::Decoder;
use crate::codec::reject::{Malformed, Reason};

/// Remote write 1.0, unpacked.
pub struct V1;

const SERIES_KEY: u8 = 1 << 3 | 2;
const NUMBERS: Numbers = Numbers { histograms: 4, exemplars: 3, metadata: 0 };

impl Codec for V1 {
    fn name(&self) -> &'static str {
        "remote_write"
    }

    fn decode(&self, body: &[u8], decoder: &mut Decoder) -> Result<(), Malformed> {
        let mut fields = Fields::new(body);
        loop {
            while let Some(series) = fields.short_bytes(SERIES_KEY) {
                decoder.messages += 1;
                take(decoder, series);
            }
            let at = fields.at();
            match fields.field().map_err(malformed)? {
                Some((1, Value::Bytes(series))) => {
                    decoder.messages += 1;
                    take(decoder, series);
                }
                Some((1, _)) => {
                    return Err(Malformed { byte: at, detail: "expected a series of its wire type".into() });
                }
                Some((3, _)) => decoder.pass_over(Reason::Metadata),
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}

#[inline]
fn take(decoder: &mut Decoder, series: &[u8]) {
    let guess = guessed(decoder);
    if let Some(rest) = series.strip_prefix(guess)
        && !guess.is_empty()
        && take_guessed(decoder, rest)
    {
        return;
    }
    let (labels, rest) = series.split_at(labels_len(series));
    if take_series(decoder, labels, rest, &NUMBERS, false).is_err() {
        take_late(decoder, series);
    }
}

/// Bytes of the labels that a series begins with.
#[inline]
fn labels_len(series: &[u8]) -> usize {
    let mut fields = Fields::new(series);
    let mut len = 0;
    while series.get(len) == Some(&LABELS_KEY) {
        match fields.field() {
            Ok(Some(_)) => len = fields.at(),
            // The rest is found to be wrong where it is read.
            _ => break,
        }
    }
    len
}

/// A series whose labels do not all stand before its samples.
#[cold]
fn take_late(decoder: &mut Decoder, series: &[u8]) {
    let mut labels = Vec::new();
    let mut fields = Fields::new(series);
    let mut at = 0;
    while let Ok(Some((number, _))) = fields.field() {
        if number == LABELS {
            labels.extend_from_slice(&series[at..fields.at()]);
        }
        at = fields.at();
    }
    // With leave to have labels, none are late.
    let _ = take_series(decoder, &labels, series, &NUMBERS, true);
}
