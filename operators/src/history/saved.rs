//! A history as bytes.
//!
//! ```text
//! u8      place of its unit of time (1 ns, 1 us, 1 ms, 1 s) · 4: late or dropped · 8: windows have been sent out
//!         · 16: it was gone once · 32: event times outlast the fold
//! signed  newest event time and last arrival, each less `base_ns`
//! number  latest value
//! varint  taken; with 4 also late and dropped
//! signed  newest event time less `closed_ns`, with 8; less `forgotten_ns`, with 16
//! a tier, the coarsest first: varint number of panes, panes
//! ```
//! Not in it: who watches the series, and what was measured. When panes roll next follows from the newest
//! event time and the plan.

use super::History;
use crate::packed::{Reader, Unreadable, put_f64, put_signed, put_varint};
use crate::pane::Obs;
use crate::pane::run::Run;
use crate::pane::saved::{Cursor, UNITS_NS, coarsest_unit};
use crate::sample::TimeNs;
use crate::tier::WindowPlan;

const UNIT_MASK: u8 = 3;
const COUNTS: u8 = 4;
const CLOSED: u8 = 8;
const FORGOTTEN: u8 = 16;
const TIMES: u8 = 32;

impl History {
    /// Whether there is anything to save: whether a sample ever came.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// Appends everything that samples made of it. `base_ns` and `epoch` are near its times and revisions.
    pub(crate) fn save(&self, plan: &WindowPlan, base_ns: TimeNs, epoch: u64, out: &mut Vec<u8>) {
        let unit = self.unit(plan);
        let counts = if self.late | self.dropped != 0 { COUNTS } else { 0 };
        let closed = if self.closed_ns == TimeNs::MIN { 0 } else { CLOSED };
        let forgotten = if self.forgotten_ns == TimeNs::MIN { 0 } else { FORGOTTEN };
        let times = if self.keeps_times { TIMES } else { 0 };
        out.push(unit as u8 | counts | closed | forgotten | times);
        put_signed(out, self.newest_ns.wrapping_sub(base_ns));
        put_signed(out, self.last_arrival_ns.wrapping_sub(base_ns));
        put_f64(out, self.last_value);
        put_varint(out, self.taken);
        if counts != 0 {
            put_varint(out, self.late.into());
            put_varint(out, self.dropped.into());
        }
        if closed != 0 {
            put_signed(out, self.newest_ns.wrapping_sub(self.closed_ns));
        }
        if forgotten != 0 {
            put_signed(out, self.newest_ns.wrapping_sub(self.forgotten_ns));
        }
        let newest = Obs { time_ns: self.newest_ns, value: self.last_value };
        let mut cursor = Cursor::new(UNITS_NS[unit], newest, epoch);
        let none = Run::default();
        for (at, tier) in plan.tiers.iter().enumerate().rev() {
            cursor.enter(tier.width_ns);
            cursor.save_all(self.run(at).unwrap_or(&none), out);
        }
    }

    /// Reads what [`Self::save`] wrote, whose plan had panes of the same widths. Where they were held for
    /// other times, they move.
    pub(crate) fn load(
        plan: &WindowPlan,
        base_ns: TimeNs,
        epoch: u64,
        reader: &mut Reader<'_>,
    ) -> Result<History, Unreadable> {
        let flags = reader.byte()?;
        if flags > UNIT_MASK | COUNTS | CLOSED | FORGOTTEN | TIMES {
            return Err(reader.wrong("the head of a history before"));
        }
        let newest_ns = base_ns.wrapping_add(reader.signed()?);
        let last_arrival_ns = base_ns.wrapping_add(reader.signed()?);
        let last_value = reader.f64()?;
        let mut history = History { newest_ns, last_arrival_ns, last_value, ..History::default() };
        history.taken = reader.varint()?;
        if flags & COUNTS != 0 {
            let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            history.late = count(reader.varint()?);
            history.dropped = count(reader.varint()?);
        }
        if flags & CLOSED != 0 {
            history.closed_ns = newest_ns.wrapping_sub(reader.signed()?);
        }
        if flags & FORGOTTEN != 0 {
            history.forgotten_ns = newest_ns.wrapping_sub(reader.signed()?);
        }
        history.keeps_times = flags & TIMES != 0;
        let unit_ns = UNITS_NS[usize::from(flags & UNIT_MASK)];
        let mut cursor = Cursor::new(unit_ns, Obs { time_ns: newest_ns, value: last_value }, epoch);
        history.known = true;
        for (at, tier) in plan.tiers.iter().enumerate().rev() {
            cursor.enter(tier.width_ns);
            let panes = cursor.load_all(reader)?;
            if panes.newest_start().is_some() {
                *history.run_mut(plan, at) = panes;
            }
        }
        history.roll(plan);
        history.set_run(plan);
        Ok(history)
    }

    /// The place in `UNITS_NS` of the greatest unit that all raw times are whole multiples of.
    fn unit(&self, plan: &WindowPlan) -> usize {
        let mut unit = UNITS_NS.len() - 1;
        self.visit(plan, Run::EVERYTHING, TimeNs::MIN, |pane| {
            unit = pane.raw().iter().fold(unit, |unit, obs| coarsest_unit(unit, obs.time_ns));
        });
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{HOUR, MINUTE, MS, SECOND};
    use crate::tier::Tier;
    use proptest::prelude::*;

    fn saved(plan: &WindowPlan, history: &History) -> Vec<u8> {
        let mut out = Vec::new();
        history.save(plan, 7 * HOUR, 1000, &mut out);
        out
    }

    fn loaded(plan: &WindowPlan, bytes: &[u8]) -> Result<History, Unreadable> {
        let mut reader = Reader::new(bytes);
        let history = History::load(plan, 7 * HOUR, 1000, &mut reader)?;
        reader.end()?;
        Ok(history)
    }

    fn history(plan: &WindowPlan, samples: &[(i64, f64)], unit_ns: i64) -> History {
        let mut history = History::default();
        for (at, (time, value)) in samples.iter().enumerate() {
            let obs = Obs { time_ns: time * unit_ns, value: *value };
            history.insert(plan, obs, 900 + at as u64, at as i64 * SECOND, TimeNs::MIN);
        }
        history
    }

    #[test]
    fn a_pane_of_one_sample_takes_few_bytes() {
        let plan = WindowPlan::default();
        for (values, bytes_max) in
            [(&[5.0][..], 3.2), (&[40.0, 41.0, 43.0, 42.0], 5.5), (&[0.1, 17.3, 2.9], 11.0)]
        {
            let samples: Vec<(i64, f64)> =
                (0..300).map(|at| (at * 10, values[at as usize % values.len()])).collect();
            let history = history(&plan, &samples, SECOND);
            let bytes = saved(&plan, &history).len() as f64 / history.pane_count() as f64;
            assert!(bytes <= bytes_max, "{bytes} bytes a pane of {values:?}");
        }
    }

    #[test]
    fn a_history_of_other_retentions_moves_its_panes_and_takes_stragglers() {
        let plan = |fine_min, coarse_h| WindowPlan {
            tiers: vec![
                Tier { width_ns: 10 * SECOND, retention_ns: fine_min * MINUTE },
                Tier { width_ns: MINUTE, retention_ns: coarse_h * HOUR },
            ],
            ..WindowPlan::default()
        };
        let samples: Vec<(i64, f64)> = (0..3 * 360).map(|at| (at * 10, at as f64)).collect();
        let more: Vec<(i64, f64)> = vec![(6000, 1.0), (9001, 2.0), (10_801, 3.0), (1, 4.0), (15_000, 5.0)];
        for (before, after) in
            [((30, 2), (60, 3)), ((60, 3), (30, 2)), ((30, 3), (30, 3)), ((60, 12), (10, 1))]
        {
            let (before, after) = (plan(before.0, before.1), plan(after.0, after.1));
            let mut history = loaded(&after, &saved(&before, &history(&before, &samples, SECOND))).unwrap();
            for (s, value) in &more {
                history.insert(&after, Obs { time_ns: s * SECOND, value: *value }, 2, 0, TimeNs::MIN);
            }
            let mut end_ns = TimeNs::MIN;
            let mut count = 0;
            for (panes, width_ns) in history.tiers(&after).collect::<Vec<_>>().into_iter().rev() {
                panes.visit(width_ns, Run::EVERYTHING, |pane| {
                    assert!(pane.start_ns >= end_ns, "panes overlap");
                    end_ns = pane.start_ns + width_ns;
                    count += pane.count();
                    assert!(pane.raw().iter().all(|obs| (pane.start_ns..end_ns).contains(&obs.time_ns)));
                });
            }
            // What is young enough for a tier is there, each once; the rest was dropped or grew too old.
            let oldest_ns = after.cutoff_ns(1, history.newest_ns).max(before.cutoff_ns(1, 10_790 * SECOND));
            let held = samples.iter().filter(|(s, _)| s * SECOND >= oldest_ns).count() as u64;
            let (taken, _, dropped) = history.counts();
            assert_eq!(taken + dropped, (samples.len() + more.len()) as u64);
            let came = taken - samples.len() as u64;
            assert!((held + 1..=held + came).contains(&count), "{count} of {held} and {came}");
        }
    }

    proptest! {
        #[test]
        fn a_history_reads_back_and_goes_on_alike(
            samples in prop::collection::vec((-5_000_000i64..5_000_000, 0u32..200), 0..400),
            more in prop::collection::vec((-6_000_000i64..8_000_000, 0u32..200), 0..50),
            unit in 0usize..4, closed in prop::option::of(any::<i64>()), cut in any::<prop::sample::Index>(),
        ) {
            let plan = WindowPlan::default();
            let scale = |some: &[(i64, u32)], by: i64| -> Vec<(i64, f64)> {
                some.iter().map(|(at, value)| (at / by, f64::from(*value) * 0.1)).collect()
            };
            // Dense enough to fold where the unit is small.
            let by = [1, 1, 100, 10_000][unit];
            let mut one = history(&plan, &scale(&samples, by), [MS, MS + 1, 1000 * MS, 60 * SECOND][unit]);
            one.closed_ns = closed.unwrap_or(TimeNs::MIN);
            prop_assume!(one.is_known());
            let bytes = saved(&plan, &one);
            let mut two = loaded(&plan, &bytes).unwrap();
            prop_assert_eq!(two.roll_at_ns, one.roll_at_ns);
            prop_assert_eq!(two.closed_ns, one.closed_ns);
            for (at, value) in scale(&more, by) {
                for history in [&mut one, &mut two] {
                    history.insert(&plan, Obs { time_ns: at * MS, value }, 5000, 0, TimeNs::MIN);
                }
            }
            prop_assert_eq!(saved(&plan, &two), saved(&plan, &one));
            prop_assert!(loaded(&plan, &bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_change_of_a_byte_is_read_without_panic(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let plan = WindowPlan::default();
            let samples: Vec<(i64, f64)> = (0..3000).map(|s| (s, f64::from(s as u32 % 7))).collect();
            let mut bytes = saved(&plan, &history(&plan, &samples, 10 * MS));
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(history) = loaded(&plan, &bytes) {
                let _ = saved(&plan, &history);
            }
        }
    }
}
