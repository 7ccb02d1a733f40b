//! What an epoch looks like in a record, and its catalog entries in a record of their own.
//!
//! Integers are LEB128 varints, signed ones zigzag. An epoch: version, number, arrival and floor time; the number of
//! batches, then each batch: its length and its samples (see `samples`); entries; requests; the length of what changes of
//! the rules, and postcard's form of it; the same of the rollups. Version 3 is without rollups, version 2 without rules
//! either, version 1 wrote samples at greater length; all are still read. Whatever the bytes are, decoding neither panics
//! nor takes
//! more memory than a small multiple of them.

use std::fmt;
use std::sync::Arc;

use dataflows::epoch::{Epoch, Request};
use operators::catalog::Entry;
use operators::packed::{put_framed, put_varint, unzigzag, zigzag};
use operators::rollup::RollupChange;
use operators::rule::RuleChange;
use operators::sample::{DEDUP, Sample};
use operators::series::{SeriesKey, Target};

use super::samples::{self, Before, read_varint};

/// The kind of record that is an epoch.
pub const KIND_EPOCH: u8 = 1;
/// The kind of record that repeats an epoch's catalog entries, so that a damaged epoch costs no series its name.
pub const KIND_ENTRIES: u8 = 2;

const VERSION: u8 = 4;
/// Entries for which room is made at once.
const BLOCK: usize = 1024;

/// Bytes that are no epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Where.
    pub byte: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: expected {}", self.byte, self.expected)
    }
}

impl std::error::Error for Corrupt {}

/// Appends the encoding of `epoch`; gives how long `out` is up to its last sample. Of a sample's `seq` only [`DEDUP`] is
/// set yet, and for all of a batch or none.
pub fn encode(epoch: &Epoch, out: &mut Vec<u8>) -> usize {
    out.push(VERSION);
    put_varint(out, epoch.number);
    put_varint(out, zigzag(epoch.arrival_ns));
    put_varint(out, zigzag(epoch.floor_ns));
    put_varint(out, epoch.batches.len() as u64);
    let mut before = (0, 0);
    for batch in &epoch.batches {
        let flags = batch.first().map_or(0, |sample| sample.seq & DEDUP);
        debug_assert!(batch.iter().all(|sample| sample.seq & DEDUP == flags), "a batch is of one format");
        out.push(u8::from(flags != 0));
        put_varint(out, batch.len() as u64);
        samples::push(out, batch, &mut before);
    }
    let samples_len = out.len();
    push_entries(out, &epoch.entries);
    put_varint(out, epoch.requests.len() as u64);
    for Request { key, accepted, rejected } in &epoch.requests {
        out.extend_from_slice(&key.to_le_bytes());
        put_varint(out, u64::from(*accepted));
        put_varint(out, u64::from(*rejected));
    }
    put_change(out, epoch.rules.as_deref());
    put_change(out, Some(&epoch.rollups).filter(|change| !change.is_empty()));
    samples_len
}

/// Appends postcard's form of a change behind its length; without one, a length of 0.
fn put_change(out: &mut Vec<u8>, change: Option<&impl serde::Serialize>) {
    match change {
        Some(change) => put_framed(out, change),
        None => put_varint(out, 0),
    }
}

/// Reads an epoch back.
///
/// # Errors
/// If `bytes` are none.
pub fn decode(bytes: &[u8]) -> Result<Epoch, Corrupt> {
    let mut rest = Rest { bytes, at: 0 };
    let (version, [number, arrival_ns, floor_ns]) = rest.head()?;
    let (arrival_ns, floor_ns) = (unzigzag(arrival_ns), unzigzag(floor_ns));
    let batches = rest.batches(version)?;
    let entries = rest.entries()?;
    let count = rest.count(18)?;
    let mut requests = Vec::with_capacity(count);
    for _ in 0..count {
        let key = u128::from_le_bytes(*rest.array()?);
        requests.push(Request { key, accepted: rest.small()?, rejected: rest.small()? });
    }
    let rules = if version < 3 { None } else { rest.rules()? };
    let rollups = if version < 4 { RollupChange::default() } else { rest.rollups()? };
    rest.end()?;
    Ok(Epoch { number, arrival_ns, floor_ns, batches, entries, requests, rules, rollups })
}

/// Reads the samples of an epoch, in the batches that they came in, from its bytes up to the last of them.
///
/// # Errors
/// If `bytes` are none.
pub fn decode_batches(bytes: &[u8]) -> Result<Vec<Vec<Sample>>, Corrupt> {
    let mut rest = Rest { bytes, at: 0 };
    let (version, _) = rest.head()?;
    rest.batches(version)
}

/// Appends the encoding of catalog entries alone.
pub fn encode_entries(entries: &[Entry], out: &mut Vec<u8>) {
    out.push(VERSION);
    push_entries(out, entries);
}

/// Reads catalog entries back.
///
/// # Errors
/// If `bytes` are none.
pub fn decode_entries(bytes: &[u8]) -> Result<Vec<Entry>, Corrupt> {
    let mut rest = Rest { bytes, at: 0 };
    rest.version()?;
    let entries = rest.entries()?;
    rest.end()?;
    Ok(entries)
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Entries of one target often stand together: it is written once for them.
fn push_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    put_varint(out, entries.len() as u64);
    let mut last: Option<&Arc<Target>> = None;
    for Entry { id, key: SeriesKey { target, metric } } in entries {
        put_varint(out, u64::from(*id));
        if last == Some(target) {
            out.push(0);
        } else {
            out.push(1);
            push_text(out, &target.service);
            put_varint(out, target.tags.len() as u64);
            for (name, value) in &target.tags {
                push_text(out, name);
                push_text(out, value);
            }
        }
        last = Some(target);
        push_text(out, metric);
    }
}

/// What is not decoded yet.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn corrupt<T>(&self, expected: &'static str) -> Result<T, Corrupt> {
        Err(Corrupt { byte: self.at, expected })
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Corrupt> {
        match self.bytes[self.at..].first_chunk() {
            Some(array) => {
                self.at += N;
                Ok(array)
            }
            None => self.corrupt("more bytes"),
        }
    }

    fn byte(&mut self) -> Result<u8, Corrupt> {
        Ok(self.array::<1>()?[0])
    }

    fn flag(&mut self) -> Result<bool, Corrupt> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => {
                self.at -= 1;
                self.corrupt("0 or 1")
            }
        }
    }

    fn version(&mut self) -> Result<u8, Corrupt> {
        let version = self.byte()?;
        if !(1..=VERSION).contains(&version) {
            self.at -= 1;
            return self.corrupt("version 1, 2, 3 or 4");
        }
        Ok(version)
    }

    fn end(&self) -> Result<(), Corrupt> {
        if self.at < self.bytes.len() { self.corrupt("the end") } else { Ok(()) }
    }

    fn varint(&mut self) -> Result<u64, Corrupt> {
        match read_varint(&self.bytes[self.at..]) {
            Some((n, len)) => {
                self.at += len;
                Ok(n)
            }
            None => self.corrupt("a number of at most ten bytes"),
        }
    }

    fn small(&mut self) -> Result<u32, Corrupt> {
        match u32::try_from(self.varint()?) {
            Ok(n) => Ok(n),
            Err(_) => self.corrupt("a number below 2^32"),
        }
    }

    /// How many things follow, each of at least `bytes_min` bytes.
    fn count(&mut self, bytes_min: usize) -> Result<usize, Corrupt> {
        let count = self.varint()?;
        if count > ((self.bytes.len() - self.at) / bytes_min) as u64 {
            return self.corrupt("a count that the bytes can hold");
        }
        Ok(count as usize)
    }

    fn rules(&mut self) -> Result<Option<Arc<RuleChange>>, Corrupt> {
        Ok(self.change("a change of the rules")?.map(Arc::new))
    }

    fn rollups(&mut self) -> Result<RollupChange, Corrupt> {
        Ok(self.change("a change of the rollups")?.unwrap_or_default())
    }

    /// What stands in postcard's form behind its length, if that is not 0.
    fn change<T: serde::Deserialize<'a>>(&mut self, expected: &'static str) -> Result<Option<T>, Corrupt> {
        let len = self.count(1)?;
        if len == 0 {
            return Ok(None);
        }
        match postcard::take_from_bytes(&self.bytes[self.at..self.at + len]) {
            Ok((change, [])) => {
                self.at += len;
                Ok(Some(change))
            }
            _ => self.corrupt(expected),
        }
    }

    fn text(&mut self) -> Result<&'a str, Corrupt> {
        let len = self.count(1)?;
        match std::str::from_utf8(&self.bytes[self.at..self.at + len]) {
            Ok(text) => {
                self.at += len;
                Ok(text)
            }
            Err(_) => self.corrupt("UTF-8"),
        }
    }

    /// The version, and the numbers before the samples.
    fn head(&mut self) -> Result<(u8, [u64; 3]), Corrupt> {
        Ok((self.version()?, [self.varint()?, self.varint()?, self.varint()?]))
    }

    fn batches(&mut self, version: u8) -> Result<Vec<Vec<Sample>>, Corrupt> {
        let count = self.count(1)?;
        let mut batches = Vec::with_capacity(count);
        let mut before = (0, 0);
        for _ in 0..count {
            let seq = if self.flag()? { DEDUP } else { 0 };
            let len = self.count(if version == 1 { samples::BYTES_MIN_V1 } else { samples::BYTES_MIN })?;
            let mut batch = Vec::with_capacity(len);
            self.samples(version, len, &mut batch, &mut before)?;
            if seq != 0 {
                batch.iter_mut().for_each(|sample: &mut Sample| sample.seq = seq);
            }
            batches.push(batch);
        }
        Ok(batches)
    }

    fn samples(
        &mut self,
        version: u8,
        count: usize,
        batch: &mut Vec<Sample>,
        before: &mut Before,
    ) -> Result<(), Corrupt> {
        let mut bytes = &self.bytes[self.at..];
        for _ in 0..count {
            let Some((sample, len)) = samples::read(bytes, *before, version) else {
                self.at = self.bytes.len() - bytes.len();
                return self.corrupt("a sample");
            };
            *before = (sample.series, sample.time_ns);
            batch.push(sample);
            bytes = &bytes[len..];
        }
        self.at = self.bytes.len() - bytes.len();
        Ok(())
    }

    fn entries(&mut self) -> Result<Vec<Entry>, Corrupt> {
        let count = self.count(3)?;
        // An entry in memory is longer than its shortest encoding: the rest grows as it comes.
        let mut entries = Vec::with_capacity(count.min(BLOCK));
        let mut last: Option<Arc<Target>> = None;
        for _ in 0..count {
            let id = self.small()?;
            let target = match (self.byte()?, &last) {
                (0, Some(target)) => target.clone(),
                (1, _) => Arc::new(self.target()?),
                _ => return self.corrupt("a target"),
            };
            last = Some(target.clone());
            entries.push(Entry { id, key: SeriesKey { target, metric: self.text()?.into() } });
        }
        Ok(entries)
    }

    fn target(&mut self) -> Result<Target, Corrupt> {
        let service = self.text()?;
        let count = self.count(2)?;
        let mut tags = Vec::with_capacity(count.min(BLOCK));
        for _ in 0..count {
            tags.push((self.text()?, self.text()?));
        }
        Ok(Target::new(service, tags))
    }
}

#[cfg(test)]
#[path = "epochs_tests.rs"]
mod tests;
