//! What StatsD's lines come to: a table of what is counted, and samples out of it at the end of each interval.
//!
//! | type | becomes |
//! |---|---|
//! | counter | metric NAME: the sum of all steps since the series began, each divided by its rate; at the end of every interval until it is forgotten. `increase` and `rate` are what StatsD calls count and rate |
//! | gauge | NAME: the last value, at the end of the intervals in which it was sent; one with a time is a sample of that time at once |
//! | timer, histogram, distribution | NAME: each value, with its arrival's time, at once; and NAME_count, a counter of the observations, each divided by its rate |
//! | set | NAME: how many different values came within the interval |
//!
//! The service is the tag `service`, else the configured one. A tag without a value has the value `true`. The order of
//! tags does not matter. What ends an interval has a time of a millisecond before its end, so that it belongs to the
//! windows in which it was counted. A counter begins with a sample of 0, so that its first steps are an increase, too.
//! A series that is silent for longer than `expire_after` is forgotten: its counter begins at 0 again, which is a reset
//! like that of a restart. Events and service checks are counted. The table reads no clock.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use operators::sample::{DurationNs, MS, SECOND, Sample, TimeNs};

use super::{Kind, Line, NoLine, number, parse};
use crate::codec::decoder::{Decoder, ShapeId};
use crate::codec::reject::{Reason, Reject};

/// Limits of the table.
#[derive(Clone, Debug)]
pub struct TableConfig {
    /// Service of lines without the tag `service`.
    pub service: String,
    /// Series that are counted at a time.
    pub series_max: usize,
    /// Different values of all sets together, within an interval.
    pub set_values_max: usize,
    /// Silence after which a series is forgotten.
    pub expire_after_ns: DurationNs,
}

/// What one series comes to so far.
enum State {
    /// Since it began.
    Counter(f64),
    /// Its last value.
    Gauge(f64),
    /// Hashes of the values within the interval.
    Set(HashSet<u64, rapidhash::fast::RandomState>),
}

struct Entry {
    state: State,
    last_ns: TimeNs,
    /// Whether something came within the interval.
    is_touched: bool,
}

/// The table.
pub struct Table {
    config: TableConfig,
    decoder: Decoder,
    hasher: rapidhash::fast::RandomState,
    /// By type and spelling: `cNAME|TAGS`, tags sorted.
    entries: HashMap<Box<[u8]>, Entry, rapidhash::fast::RandomState>,
    set_values: usize,
    /// Of the last samples that ended an interval; before the first, when the table was made.
    stamp_ns: TimeNs,
    /// Scratch: the spelling of a line, places of its tags, a name with its suffix.
    key: Vec<u8>,
    places: Vec<(usize, usize)>,
    name: String,
    /// Events and service checks.
    pub skipped: u64,
    /// Lines, good and bad.
    pub lines: u64,
}

impl Table {
    /// An empty one, made at `now_ns`.
    pub fn new(config: TableConfig, decoder: Decoder, now_ns: TimeNs) -> Table {
        Table {
            config,
            decoder,
            hasher: rapidhash::fast::RandomState::new(),
            entries: HashMap::default(),
            set_values: 0,
            stamp_ns: now_ns,
            key: Vec::new(),
            places: Vec::new(),
            name: String::new(),
            skipped: 0,
            lines: 0,
        }
    }

    /// Series that are counted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Begins a batch of datagrams that arrived at `now_ns`: what was left of the last one is forgotten.
    pub fn begin(&mut self, now_ns: TimeNs) {
        self.decoder.begin(now_ns);
    }

    /// Samples and rejects since the batch began.
    pub fn pending(&self) -> usize {
        self.decoder.samples.len() + self.decoder.rejected()
    }

    /// Samples since the batch began.
    pub fn take_samples(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.decoder.samples)
    }

    /// Rejects since the batch began.
    pub fn rejects(&self) -> &[Reject] {
        &self.decoder.rejects
    }

    /// Reasons of those that are no longer told one by one.
    pub fn untold(&self) -> &[Reason] {
        &self.decoder.untold
    }

    /// Takes a datagram: lines. A bad one costs only itself.
    pub fn datagram(&mut self, bytes: &[u8]) {
        for line in bytes.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            self.lines += 1;
            self.decoder.messages += 1;
            let (name, (reason, found)) = match parse(line) {
                Ok(None) => {
                    self.skipped += 1;
                    continue;
                }
                Ok(Some(line)) => match self.line(&line) {
                    Ok(()) => continue,
                    Err(why) => (Some(line.name), why),
                },
                Err(why) => (None, why),
            };
            self.decoder.reject(name, reason, found);
        }
    }

    /// Turns a datagram that is not read away.
    pub fn refuse(&mut self, reason: Reason, found: String) {
        self.decoder.messages += 1;
        self.decoder.reject(None, reason, found);
    }

    /// Ends an interval: samples of what was counted, with the time `stamp_ns`.
    pub fn end_interval(&mut self, stamp_ns: TimeNs) {
        self.stamp_ns = stamp_ns;
        self.set_values = 0;
        let Table { entries, decoder, config, name: scratch, .. } = self;
        entries.retain(|key, entry| {
            let value = match &mut entry.state {
                State::Counter(total) => Some(*total),
                State::Gauge(value) => entry.is_touched.then_some(*value),
                State::Set(values) => entry.is_touched.then(|| {
                    let count = values.len() as f64;
                    // A set that was large once is not likely to be so again.
                    values.clear();
                    values.shrink_to(64);
                    count
                }),
            };
            entry.is_touched = false;
            if let Some(value) = value {
                push(decoder, config, scratch, key, stamp_ns, value);
            }
            stamp_ns.saturating_sub(entry.last_ns) <= config.expire_after_ns
        });
    }

    fn line(&mut self, line: &Line<'_>) -> Result<(), NoLine> {
        if line.name.is_empty() {
            return Err((Reason::EmptyName, String::new()));
        }
        // All values are read before one is taken: a bad one does not leave half a line.
        match line.kind {
            Kind::Counter => {
                let mut sum = 0.0;
                for value in line.values.split(':') {
                    sum += step(value)? / line.rate;
                }
                self.spell(b'c', line);
                self.count(sum)
            }
            Kind::Gauge => {
                line.values.split(':').try_for_each(|value| number(value).map(drop))?;
                match line.time_s {
                    Some(time_s) => self.timed(line, time_s),
                    None => line.values.split(':').try_for_each(|value| self.gauge(line, value)),
                }
            }
            Kind::Timer => {
                line.values.split(':').try_for_each(|value| number(value).map(drop))?;
                self.timer(line)
            }
            Kind::Set => self.set(line),
        }
    }

    /// Each value is a sample, and counts.
    fn timer(&mut self, line: &Line<'_>) -> Result<(), NoLine> {
        self.spell(b't', line);
        let shape = self.shape()?;
        let turned_away = self.decoder.rejected();
        let mut count = 0.0;
        for value in line.values.split(':') {
            let value = number(value)?;
            self.decoder.push(shape, 0, line.name, self.decoder.arrival_ns, value);
            count += 1.0 / line.rate;
        }
        if self.decoder.rejected() > turned_away { Ok(()) } else { self.count(count) }
    }

    /// A gauge with a time of its own.
    fn timed(&mut self, line: &Line<'_>, time_s: i64) -> Result<(), NoLine> {
        self.spell(b'g', line);
        let shape = self.shape()?;
        let time_ns = time_s.saturating_mul(SECOND);
        if self.decoder.accept_time(time_ns) {
            for value in line.values.split(':') {
                let value = number(value)?;
                self.decoder.push(shape, 0, line.name, time_ns, value);
            }
        }
        Ok(())
    }

    fn count(&mut self, sum: f64) -> Result<(), NoLine> {
        let now_ns = self.decoder.arrival_ns;
        if let Some(entry) = self.entries.get_mut(&*self.key) {
            (entry.last_ns, entry.is_touched) = (now_ns, true);
            if let State::Counter(total) = &mut entry.state {
                *total += sum;
            }
            return Ok(());
        }
        self.add(State::Counter(sum))
    }

    fn gauge(&mut self, line: &Line<'_>, text: &str) -> Result<(), NoLine> {
        let value = number(text)?;
        let is_step = text.starts_with(['+', '-']);
        self.spell(b'g', line);
        let now_ns = self.decoder.arrival_ns;
        let Some(entry) = self.entries.get_mut(&*self.key) else {
            return self.add(State::Gauge(value));
        };
        (entry.last_ns, entry.is_touched) = (now_ns, true);
        if let State::Gauge(last) = &mut entry.state {
            *last = if is_step { *last + value } else { value };
        }
        Ok(())
    }

    fn set(&mut self, line: &Line<'_>) -> Result<(), NoLine> {
        self.spell(b's', line);
        if !self.entries.contains_key(&*self.key) {
            self.add(State::Set(HashSet::default()))?;
        }
        let hash = self.hasher.hash_one(line.values);
        let has_room = self.set_values < self.config.set_values_max;
        let now_ns = self.decoder.arrival_ns;
        let Some(entry) = self.entries.get_mut(&*self.key) else { return Ok(()) };
        (entry.last_ns, entry.is_touched) = (now_ns, true);
        if let State::Set(values) = &mut entry.state {
            if !has_room && !values.contains(&hash) {
                return Err((Reason::StatsdLimit, "statsd.set_values_max".into()));
            }
            self.set_values += usize::from(values.insert(hash));
        }
        Ok(())
    }

    /// A new entry under the key, if it is acceptable and there is room; a counter with its sample of 0.
    fn add(&mut self, state: State) -> Result<(), NoLine> {
        if self.entries.len() >= self.config.series_max {
            return Err((Reason::StatsdLimit, "statsd.series_max".into()));
        }
        let shape = self.shape()?;
        // Told here, and not at the end of every interval.
        let place = named(&self.key, &mut self.name);
        self.decoder.admit(shape, place, &self.name)?;
        if matches!(state, State::Counter(_)) {
            self.decoder.push(shape, place, &self.name, self.stamp_ns, 0.0);
        }
        let entry = Entry { state, last_ns: self.decoder.arrival_ns, is_touched: true };
        self.entries.insert(self.key.as_slice().into(), entry);
        Ok(())
    }

    /// The shape of the key.
    fn shape(&mut self) -> Result<ShapeId, NoLine> {
        shape(&mut self.decoder, &self.config, &self.key)
    }

    /// Spells type, name and sorted tags into the key.
    fn spell(&mut self, kind: u8, line: &Line<'_>) {
        self.key.clear();
        self.key.push(kind);
        self.key.extend_from_slice(line.name.as_bytes());
        self.key.push(b'|');
        let tags = line.tags.as_bytes();
        self.places.clear();
        let mut at = 0;
        for tag in tags.split(|byte| *byte == b',') {
            if !tag.is_empty() {
                self.places.push((at, at + tag.len()));
            }
            at += tag.len() + 1;
        }
        let tag = |(from, to): (usize, usize)| &tags[from..to];
        if !self.places.is_sorted_by(|a, b| tag(*a) < tag(*b)) {
            self.places.sort_unstable_by(|a, b| tag(*a).cmp(tag(*b)));
            self.places.dedup_by(|a, b| tag(*a) == tag(*b));
        }
        for place in &self.places {
            self.key.extend_from_slice(tag(*place));
            self.key.push(b',');
        }
    }
}

/// A counter's step.
fn step(text: &str) -> Result<f64, NoLine> {
    match number(text)? {
        step if step < 0.0 => Err((Reason::NegativeStep, text.into())),
        step => Ok(step),
    }
}

/// Adds a sample of what the key counts.
fn push(
    decoder: &mut Decoder,
    config: &TableConfig,
    scratch: &mut String,
    key: &[u8],
    time_ns: TimeNs,
    value: f64,
) {
    let Ok(shape) = shape(decoder, config, key) else { return };
    let place = named(key, scratch);
    decoder.push(shape, place, scratch, time_ns, value);
}

/// Writes the metric that a key counts into `name`, and gives its place among those of its shape.
fn named(key: &[u8], name: &mut String) -> usize {
    let (kind, text, _) = parts(key).unwrap_or((0, "", ""));
    name.clear();
    name.push_str(text);
    let is_timer = kind == b't';
    if is_timer {
        name.push_str("_count");
    }
    usize::from(is_timer)
}

/// Type, name and tags of a key.
fn parts(key: &[u8]) -> Option<(u8, &str, &str)> {
    let (kind, rest) = key.split_first()?;
    let (name, tags) = std::str::from_utf8(rest).ok()?.split_once('|')?;
    Some((*kind, name, tags))
}

fn shape(decoder: &mut Decoder, config: &TableConfig, key: &[u8]) -> Result<ShapeId, NoLine> {
    // Without the type: a timer and its count are of one target.
    let spelled = &key[1..];
    if let Some(shape) = decoder.known_shape(b"", spelled) {
        return Ok(shape);
    }
    let (_, _, tags) = parts(key).unwrap_or((0, "", ""));
    let mut service = config.service.as_str();
    let mut pairs = Vec::new();
    for tag in tags.split(',').filter(|tag| !tag.is_empty()) {
        match tag.split_once(':').unwrap_or((tag, "true")) {
            ("service", value) if !value.is_empty() => service = value,
            pair => pairs.push(pair),
        }
    }
    decoder.learn_shape(b"", spelled, service, &pairs)
}

/// The time of samples that end an interval at `end_ns`.
pub fn stamp_of(end_ns: TimeNs) -> TimeNs {
    end_ns.saturating_sub(MS)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
