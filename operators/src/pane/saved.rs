//! Panes as bytes: what a pane has in common with the one before it is left out.
//!
//! ```text
//! u8      1: something is folded · 2: the pane does not follow the one before it · 4 x number of raw observations, at most 63
//! signed  number of panes left out before it         only with 2
//! varint  number of raw observations - 63            only where 63 stands above
//! signed  revision - revision before - the same difference of the pane before
//! folded: varint count, 7 numbers, 2 signed times less the pane's start, varint behind, varint length, sketch, times
//! times: varint 0 for none, else their number + 1; u8 1 if not all are known, then signed the time from which on
//!        they are, less the pane's start; signed first time less that start; varint each less the one before
//! a raw observation: its value (see `packed`), whose extra says whether follows
//! signed  time - time before - the same difference of the observation before, in units of time
//! ```
//! So a pane of one sample of a series that is observed steadily takes the bytes of its value and three.

use super::run::Run;
use super::times::{TIMES_LEN_MAX, Times};
use super::{Folded, Moments, Obs, Pane, RAW_LEN_MAX};
use crate::packed::{Reader, Unreadable, put_f64, put_signed, put_value, put_varint};
use crate::sample::{DurationNs, TimeNs};
use crate::sketch::Sketch;

const FOLDED: u8 = 1;
const GAP: u8 = 2;
const LEN_SHIFT: u8 = 2;
const LEN_INLINE_MAX: usize = 63;
/// The least bytes a pane takes: head, revision, and one observation.
const PANE_BYTES_MIN: usize = 3;

/// Units that times can be whole multiples of.
pub(crate) const UNITS_NS: [TimeNs; 4] = [1, 1_000, 1_000_000, 1_000_000_000];

/// What was written or read last: the next pane is told by how it differs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    unit_ns: TimeNs,
    width_ns: DurationNs,
    /// Start of the pane before, in widths.
    place: i64,
    revision: u64,
    revision_step: u64,
    /// In units, as are steps.
    time: i64,
    time_step: i64,
    value: f64,
}

impl Cursor {
    /// Before the first pane of a series of which something is known already.
    pub(crate) fn new(unit_ns: TimeNs, newest: Obs, revision: u64) -> Cursor {
        Cursor {
            unit_ns,
            width_ns: 1,
            place: 0,
            revision,
            revision_step: 0,
            time: newest.time_ns / unit_ns,
            time_step: 0,
            value: newest.value,
        }
    }

    /// Before the pane that begins at `start_ns`, of which nothing else is known.
    fn before(unit_ns: TimeNs, start_ns: TimeNs) -> Cursor {
        Cursor::new(unit_ns, Obs { time_ns: start_ns, value: 0.0 }, 0)
    }

    /// Goes to the first pane of a tier of `width_ns`.
    pub(crate) fn enter(&mut self, width_ns: DurationNs) {
        self.width_ns = width_ns;
        self.place = (self.time.wrapping_mul(self.unit_ns)) / width_ns;
    }

    /// Appends the panes of a tier.
    pub(crate) fn save_all(&mut self, panes: &Run, out: &mut Vec<u8>) {
        put_varint(out, panes.len() as u64);
        panes.visit(self.width_ns, Run::EVERYTHING, |pane| self.save(pane, out));
    }

    fn save(&mut self, pane: &Pane, out: &mut Vec<u8>) {
        let place = pane.start_ns / self.width_ns;
        let gap = place.wrapping_sub(self.place).wrapping_sub(1);
        self.place = place;
        self.put(pane, gap, out);
    }

    fn put(&mut self, pane: &Pane, gap: i64, out: &mut Vec<u8>) {
        let len = pane.raw.len();
        let folded = if pane.folded.is_some() { FOLDED } else { 0 };
        let head = folded | if gap == 0 { 0 } else { GAP } | (len.min(LEN_INLINE_MAX) as u8) << LEN_SHIFT;
        out.push(head);
        if gap != 0 {
            put_signed(out, gap);
        }
        if len >= LEN_INLINE_MAX {
            put_varint(out, (len - LEN_INLINE_MAX) as u64);
        }
        let step = pane.revision.wrapping_sub(self.revision);
        put_signed(out, step.wrapping_sub(self.revision_step) as i64);
        (self.revision, self.revision_step) = (pane.revision, step);
        if let Some(folded) = &pane.folded {
            folded.save(pane.start_ns, out);
        }
        for obs in &pane.raw {
            let time = obs.time_ns / self.unit_ns;
            let step = time.wrapping_sub(self.time);
            let off = step.wrapping_sub(self.time_step);
            put_value(out, obs.value, self.value, u8::from(off != 0));
            if off != 0 {
                put_signed(out, off);
            }
            (self.time, self.time_step, self.value) = (time, step, obs.value);
        }
    }

    /// Reads the panes of a tier.
    pub(crate) fn load_all(&mut self, reader: &mut Reader<'_>) -> Result<Run, Unreadable> {
        let mut panes = Run::default();
        for _ in 0..reader.len(PANE_BYTES_MIN)? {
            let pane = self.load(reader)?;
            if panes.newest_start().is_some_and(|before_ns| before_ns >= pane.start_ns) {
                return Err(reader.wrong("panes in time order"));
            }
            panes.push(self.width_ns, pane);
        }
        Ok(panes)
    }

    fn load(&mut self, reader: &mut Reader<'_>) -> Result<Pane, Unreadable> {
        let head = reader.byte()?;
        let gap = if head & GAP == 0 { 0 } else { reader.signed()? };
        self.place = self.place.wrapping_add(gap).wrapping_add(1);
        let Some(start_ns) = self.place.checked_mul(self.width_ns) else {
            return Err(reader.wrong("a pane within 64 bits of nanoseconds"));
        };
        self.take(start_ns, head, reader, Vec::new())
    }

    /// Reads a pane of which head and place are known, with `raw`, which is empty, as the room for its observations.
    #[inline]
    fn take(
        &mut self,
        start_ns: TimeNs,
        head: u8,
        reader: &mut Reader<'_>,
        mut raw: Vec<Obs>,
    ) -> Result<Pane, Unreadable> {
        let mut len = usize::from(head >> LEN_SHIFT);
        if len == LEN_INLINE_MAX {
            len = len.saturating_add(reader.len(1)?);
        }
        if len > RAW_LEN_MAX || (len == 0 && head & FOLDED == 0) {
            return Err(reader.wrong(format!("1 to {RAW_LEN_MAX} observations, found {len}")));
        }
        self.revision_step = self.revision_step.wrapping_add(reader.signed()? as u64);
        self.revision = self.revision.wrapping_add(self.revision_step);
        let folded = if head & FOLDED == 0 { None } else { Some(Box::new(Folded::load(start_ns, reader)?)) };
        raw.reserve_exact(len);
        for _ in 0..len {
            raw.push(self.load_obs(reader)?);
        }
        Ok(Pane { start_ns, revision: self.revision, folded, raw })
    }

    #[inline]
    fn load_obs(&mut self, reader: &mut Reader<'_>) -> Result<Obs, Unreadable> {
        let (value, extra) = reader.value(self.value)?;
        if extra != 0 {
            self.time_step = self.time_step.wrapping_add(reader.signed()?);
        }
        self.time = self.time.wrapping_add(self.time_step);
        self.value = value;
        let Some(time_ns) = self.time.checked_mul(self.unit_ns) else {
            return Err(reader.wrong("a time within 64 bits of nanoseconds"));
        };
        Ok(Obs { time_ns, value })
    }
}

impl Pane {
    /// Appends the pane's bytes: the place of its unit in [`UNITS_NS`], then as above, as if it were the first of a
    /// tier. Its start is not in them.
    pub(super) fn pack(&self, out: &mut Vec<u8>) {
        let unit = self.raw.iter().fold(UNITS_NS.len() - 1, |unit, obs| coarsest_unit(unit, obs.time_ns));
        out.push(unit as u8);
        Cursor::before(UNITS_NS[unit], self.start_ns).put(self, 0, out);
    }

    /// Reads what [`Self::pack`] wrote of the pane that begins at `start_ns`; `raw`, which is empty, becomes its room.
    #[inline]
    pub(super) fn unpack(
        start_ns: TimeNs,
        reader: &mut Reader<'_>,
        raw: Vec<Obs>,
    ) -> Result<Pane, Unreadable> {
        let unit = usize::from(reader.byte()?);
        let Some(unit_ns) = UNITS_NS.get(unit) else { return Err(reader.wrong("a unit of time before")) };
        let head = reader.byte()?;
        Cursor::before(*unit_ns, start_ns).take(start_ns, head, reader, raw)
    }
}

/// The place in [`UNITS_NS`] of the greatest unit, `unit` at most, that `time_ns` is a whole multiple of.
#[inline]
pub(crate) fn coarsest_unit(mut unit: usize, time_ns: TimeNs) -> usize {
    while time_ns % UNITS_NS[unit] != 0 {
        unit -= 1;
    }
    unit
}

impl Folded {
    fn save(&self, start_ns: TimeNs, out: &mut Vec<u8>) {
        self.moments.save(start_ns, out);
        put_varint(out, self.behind);
        let sketch = if self.waiting.is_empty() {
            self.sketch.to_compact()
        } else {
            let mut all = self.sketch.clone();
            all.insert_all(&self.waiting);
            all.to_compact()
        };
        put_varint(out, sketch.len() as u64);
        out.extend_from_slice(&sketch);
        match &self.times {
            None => out.push(0),
            Some(times) => times.save(start_ns, out),
        }
    }

    fn load(start_ns: TimeNs, reader: &mut Reader<'_>) -> Result<Folded, Unreadable> {
        let moments = Moments::load(start_ns, reader)?;
        let behind = reader.varint()?;
        let len = reader.len(1)?;
        let sketch = Sketch::from_compact(reader.bytes(len)?);
        let sketch = sketch.map_err(|error| reader.wrong(format!("a sketch before, found {error}")))?;
        let times = Times::load(start_ns, reader)?.map(Box::new);
        Ok(Folded { moments, sketch, waiting: Vec::new(), behind, times })
    }
}

impl Times {
    fn save(&self, start_ns: TimeNs, out: &mut Vec<u8>) {
        put_varint(out, self.sorted.len() as u64 + 1);
        let all = self.known_ns == TimeNs::MIN;
        out.push(u8::from(!all));
        if !all {
            put_signed(out, self.known_ns.wrapping_sub(start_ns));
        }
        let mut before_ns = start_ns;
        for (at, time_ns) in self.sorted.iter().enumerate() {
            let step_ns = time_ns.wrapping_sub(before_ns);
            if at == 0 {
                put_signed(out, step_ns)
            } else {
                put_varint(out, step_ns as u64)
            }
            before_ns = *time_ns;
        }
    }

    fn load(start_ns: TimeNs, reader: &mut Reader<'_>) -> Result<Option<Times>, Unreadable> {
        let Some(len) = reader.varint()?.checked_sub(1) else { return Ok(None) };
        let fits = usize::try_from(len).ok().filter(|len| *len <= TIMES_LEN_MAX.min(reader.left()));
        let Some(len) = fits else {
            return Err(reader.wrong(format!("at most {TIMES_LEN_MAX} times, found {len}")));
        };
        let known_ns = match reader.byte()? {
            0 => TimeNs::MIN,
            _ => start_ns.wrapping_add(reader.signed()?),
        };
        let mut sorted: Vec<TimeNs> = Vec::with_capacity(len);
        for _ in 0..len {
            let time_ns = match sorted.last() {
                None => Some(start_ns.wrapping_add(reader.signed()?)),
                Some(before_ns) => before_ns.checked_add_unsigned(reader.varint()?),
            };
            sorted.push(time_ns.ok_or_else(|| reader.wrong("a time within 64 bits of nanoseconds"))?);
        }
        Ok(Some(Times { known_ns, sorted }))
    }
}

impl Moments {
    fn save(&self, start_ns: TimeNs, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        for value in [self.sum, self.compensation, self.m2, self.min, self.max, self.increase] {
            put_f64(out, value);
        }
        for obs in [self.first, self.last] {
            put_signed(out, obs.time_ns.wrapping_sub(start_ns));
            put_f64(out, obs.value);
        }
    }

    fn load(start_ns: TimeNs, reader: &mut Reader<'_>) -> Result<Moments, Unreadable> {
        let count = reader.varint()?;
        let mut values = [0.0; 6];
        for value in &mut values {
            *value = reader.f64()?;
        }
        let mut obs = || -> Result<Obs, Unreadable> {
            let time_ns = start_ns.wrapping_add(reader.signed()?);
            Ok(Obs { time_ns, value: reader.f64()? })
        };
        let (first, last) = (obs()?, obs()?);
        let [sum, compensation, m2, min, max, increase] = values;
        Ok(Moments { count, sum, compensation, m2, min, max, first, last, increase })
    }
}
