//! The alert machines of a worker as bytes, and how they find their rules again.
//!
//! ```text
//! varint  number of rules, then 16 bytes each: its identity
//! signed  arrival time
//! varint  samples that ever came behind their machine (0 but in the first part)
//! a series: varint number less the one before less 1, u8 (1: samples came), varint number of alerts
//! signed  newest event time and last arrival, each less the arrival time, with 1
//! an alert: varint rule x 16 + 8 (a timer is set) + 0 inactive, 1 pending, 2 firing, 3 keeping
//! signed  its timer less the arrival time, with 8
//! signed  start and newest sample of its breach less the arrival time; value; when firing or keeping, start less when it fired; when keeping, its end for the newest sample, and u8 no data
//! an alert whose last transition had another value: 7 for its state; after its timer u8 its state and that value
//! ```

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::{Alert, Machines, Watched};
use crate::alert::Machine;
use crate::packed::{Reader, Unreadable, put_f64, put_signed, put_varint};
use crate::rule::Rule;
use crate::sample::{SeriesId, TimeNs};

const ARMED: u64 = 8;
const STATE_MASK: u64 = 7;
/// Stands for the state where the value of the last transition is not that of the machine.
const SAID: u64 = 7;
/// The least bytes a series takes, and an alert.
const ALERT_BYTES_MIN: usize = 1;

/// What stands at the head of saved machines, and what all of a worker share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedAlerts {
    /// Identities of the rules, by their numbers then.
    pub rules: Vec<u128>,
    /// Arrival time of the epoch.
    pub arrival_ns: TimeNs,
    /// Samples that had come behind their machine.
    pub late: u64,
}

/// The machines of one series, as they were saved.
pub struct SavedMachines(Watched);

impl SavedMachines {
    /// Number of machines.
    pub fn len(&self) -> usize {
        self.0.alerts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives each machine the number that its rule has now, and lets those go whose rule there is no more;
    /// returns how many.
    pub fn renumber(&mut self, numbers: &[Option<u32>]) -> usize {
        let before = self.0.alerts.len();
        self.0.alerts.retain_mut(|alert| {
            let number = numbers.get(alert.rule as usize).copied().flatten();
            alert.rule = number.unwrap_or(alert.rule);
            number.is_some()
        });
        before - self.0.alerts.len()
    }
}

/// For each rule there was, the number of the same rule now. Of several alike, the first is the first's.
pub fn numbers_now(rules: &[u128], now: &[Rule]) -> Vec<Option<u32>> {
    let mut places: HashMap<u128, Vec<u32>> = HashMap::new();
    for (number, rule) in now.iter().enumerate().rev() {
        places.entry(rule.identity()).or_default().push(number as u32);
    }
    rules.iter().map(|rule| places.get_mut(rule).and_then(Vec::pop)).collect()
}

impl Machines {
    /// Writes all machines as they are: calls `full` with parts of about `part_bytes`, of which each can be
    /// read on its own; at least one.
    pub fn save(&self, part_bytes: usize, mut full: impl FnMut(Vec<u8>)) {
        let mut late = self.counters.late.load(Ordering::Relaxed);
        let mut watched: Vec<(&SeriesId, &Watched)> = self.watched.iter().collect();
        watched.sort_unstable_by_key(|(series, _)| **series);
        let mut rest = &watched[..];
        loop {
            let mut out = Vec::new();
            put_varint(&mut out, self.rules.len() as u64);
            self.rules.iter().for_each(|rule| out.extend_from_slice(&rule.identity().to_le_bytes()));
            put_signed(&mut out, self.arrival_ns);
            put_varint(&mut out, std::mem::take(&mut late));
            let (enough, mut expected) = (out.len() + part_bytes, 0);
            while let Some(((series, watched), later)) = rest.split_first() {
                if out.len() >= enough {
                    break;
                }
                put_varint(&mut out, u64::from(**series) - expected);
                expected = u64::from(**series) + 1;
                watched.save(self.arrival_ns, &mut out);
                rest = later;
            }
            full(out);
            if rest.is_empty() {
                break;
            }
        }
    }

    /// Reads a part; calls `found` for each series. Numbers must be below `series_end`.
    pub fn load(
        reader: &mut Reader<'_>,
        series_end: u64,
        mut found: impl FnMut(SeriesId, SavedMachines) -> Result<(), Unreadable>,
    ) -> Result<SavedAlerts, Unreadable> {
        let mut rules = Vec::with_capacity(reader.len(size_of::<u128>())?);
        for _ in 0..rules.capacity() {
            let bytes = reader.bytes(size_of::<u128>())?.try_into();
            rules.push(u128::from_le_bytes(bytes.map_err(|_| reader.wrong("16 bytes"))?));
        }
        let arrival_ns = reader.signed()?;
        let late = reader.varint()?;
        let mut series = 0_u64;
        while reader.left() > 0 {
            series = series.saturating_add(reader.varint()?);
            let number = SeriesId::try_from(series).ok().filter(|_| series < series_end);
            let Some(number) = number else {
                return Err(reader.wrong(format!("a series below {series_end}, found {series}")));
            };
            found(number, SavedMachines(Watched::load(arrival_ns, rules.len(), reader)?))?;
            series += 1;
        }
        Ok(SavedAlerts { rules, arrival_ns, late })
    }

    /// Keeps saved machines for the rules that will be bound to their series; gives them back when the series
    /// has some.
    pub fn restore(&mut self, series: SeriesId, saved: SavedMachines) -> Result<(), SavedMachines> {
        if self.restored.contains_key(&series) {
            return Err(saved);
        }
        if !saved.is_empty() {
            self.restored.insert(series, saved.0);
        }
        Ok(())
    }

    /// What was restored and no rule was bound to yet: rule, series, machine, and the value of its last transition.
    pub fn restored(&self) -> impl Iterator<Item = (u32, SeriesId, Machine, f64)> + '_ {
        self.restored.iter().flat_map(|(series, watched)| {
            watched.alerts.iter().map(move |alert| (alert.rule, *series, alert.machine, alert.said))
        })
    }

    /// Goes on with what was restored, behind an epoch that arrived at `arrival_ns`.
    pub fn resume(&mut self, arrival_ns: TimeNs) {
        self.arrival_ns = arrival_ns;
    }
}

impl Watched {
    fn save(&self, base_ns: TimeNs, out: &mut Vec<u8>) {
        let came = self.newest_ns != TimeNs::MIN;
        out.push(u8::from(came));
        put_varint(out, self.alerts.len() as u64);
        if came {
            put_signed(out, self.newest_ns.wrapping_sub(base_ns));
            put_signed(out, self.last_arrival_ns.wrapping_sub(base_ns));
        }
        for alert in &self.alerts {
            alert.save(base_ns, out);
        }
    }

    fn load(base_ns: TimeNs, rules: usize, reader: &mut Reader<'_>) -> Result<Watched, Unreadable> {
        let came = reader.byte()? != 0;
        let len = reader.len(ALERT_BYTES_MIN)?;
        let mut time_ns = || if came { Ok(base_ns.wrapping_add(reader.signed()?)) } else { Ok(TimeNs::MIN) };
        let (newest_ns, last_arrival_ns) = (time_ns()?, time_ns()?);
        let mut alerts = Vec::with_capacity(len.min(rules));
        for _ in 0..len {
            let alert = Alert::load(base_ns, reader)?;
            if alert.rule as usize >= rules {
                return Err(reader.wrong(format!("a rule below {rules}, found {}", alert.rule)));
            }
            alerts.push(alert);
        }
        Ok(Watched { newest_ns, last_arrival_ns, alerts })
    }
}

impl Alert {
    fn save(&self, base_ns: TimeNs, out: &mut Vec<u8>) {
        let armed = if self.armed_ns == TimeNs::MAX { 0 } else { ARMED };
        let state = match self.machine {
            Machine::Inactive => 0,
            Machine::Pending { .. } => 1,
            Machine::Firing { .. } => 2,
            Machine::Keeping { .. } => 3,
        };
        let said = self.machine.value().filter(|value| value.to_bits() != self.said.to_bits());
        let shown = if said.is_some() { SAID } else { state };
        put_varint(out, u64::from(self.rule) << 4 | armed | shown);
        if armed != 0 {
            put_signed(out, self.armed_ns.wrapping_sub(base_ns));
        }
        if shown == SAID {
            out.push(state as u8);
            put_f64(out, self.said);
        }
        if let Machine::Pending { since_ns, last_ns, value }
        | Machine::Firing { since_ns, last_ns, value, .. }
        | Machine::Keeping { since_ns, cleared_ns: last_ns, value, .. } = self.machine
        {
            put_signed(out, since_ns.wrapping_sub(base_ns));
            put_signed(out, last_ns.wrapping_sub(base_ns));
            put_f64(out, value);
        }
        if let Machine::Firing { since_ns, fired_ns, .. } | Machine::Keeping { since_ns, fired_ns, .. } =
            self.machine
        {
            put_signed(out, since_ns.wrapping_sub(fired_ns));
        }
        if let Machine::Keeping { no_data, .. } = self.machine {
            out.push(u8::from(no_data));
        }
    }

    fn load(base_ns: TimeNs, reader: &mut Reader<'_>) -> Result<Alert, Unreadable> {
        let head = reader.varint()?;
        let rule = u32::try_from(head >> 4).map_err(|_| reader.wrong("the number of a rule"))?;
        let armed = if head & ARMED == 0 { None } else { Some(base_ns.wrapping_add(reader.signed()?)) };
        let mut state = head & STATE_MASK;
        let mut said = None;
        if state == SAID {
            state = u64::from(reader.byte()?);
            said = Some(reader.f64()?);
        }
        let mut machine = Machine::Inactive;
        if state > 0 {
            let since_ns = base_ns.wrapping_add(reader.signed()?);
            let last_ns = base_ns.wrapping_add(reader.signed()?);
            let value = reader.f64()?;
            machine = match state {
                1 => Machine::Pending { since_ns, last_ns, value },
                2 => {
                    let fired_ns = since_ns.wrapping_sub(reader.signed()?);
                    Machine::Firing { since_ns, last_ns, value, fired_ns }
                }
                3 => {
                    let fired_ns = since_ns.wrapping_sub(reader.signed()?);
                    let no_data = reader.byte()? != 0;
                    Machine::Keeping { since_ns, cleared_ns: last_ns, value, fired_ns, no_data }
                }
                _ => return Err(reader.wrong("inactive, pending or firing")),
            };
        }
        let said = said.or(machine.value()).unwrap_or(0.0);
        Ok(Alert { rule, machine, said, armed_ns: armed.unwrap_or(TimeNs::MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Timing;
    use crate::alerts::{AlertCounters, AlertTransition};
    use crate::rule::Level;
    use crate::sample::{SECOND, Sample};
    use crate::series::TargetMatcher;
    use crate::window::Control;

    fn rule(name: &str, threshold: f64) -> Rule {
        Rule {
            name: name.into(),
            metric: "m".into(),
            matcher: TargetMatcher::default(),
            level: Level::new(">".parse().unwrap(), threshold),
            timing: Timing::new(20 * SECOND, 90 * SECOND),
            ..Rule::default()
        }
    }

    fn bound(rules: Vec<Rule>) -> (Machines, Vec<Control>) {
        let binds = (0..rules.len() as u32).map(|rule| Control::Bind { series: 7, rule, diff: 1 }).collect();
        (Machines::new(rules.into(), 30 * SECOND, AlertCounters::default()), binds)
    }

    fn apply(machines: &mut Machines, second: i64, samples: &[(i64, f64)]) -> Vec<AlertTransition> {
        let mut said = Vec::new();
        let seal = Control::Seal { arrival_ns: second * SECOND, floor_ns: TimeNs::MIN };
        let sample =
            |(s, value): &(i64, f64)| Sample { series: 7, seq: 0, time_ns: s * SECOND, value: *value };
        let samples: Vec<Sample> = samples.iter().map(sample).collect();
        machines.apply(&[seal], vec![samples], |t| said.push(t));
        said
    }

    fn reloaded(machines: &Machines, rules: Vec<Rule>) -> Machines {
        let (mut loaded, binds) = bound(rules.clone());
        let mut parts = Vec::new();
        machines.save(1, |part| parts.push(part));
        for part in parts {
            let mut found = Vec::new();
            let saved = Machines::load(&mut Reader::new(&part), 8, |series, machines| {
                found.push((series, machines));
                Ok(())
            });
            let saved = saved.unwrap();
            for (series, mut machines) in found {
                machines.renumber(&numbers_now(&saved.rules, &rules));
                assert!(loaded.restore(series, machines).is_ok());
            }
            loaded.resume(saved.arrival_ns);
        }
        loaded.apply(&binds, Vec::new(), |t| panic!("{t:?} when it was bound"));
        loaded
    }

    /// What people see of an alert that is pending or firing is the value of its last transition.
    fn check_shown(machines: &Machines, said: &[AlertTransition]) {
        for alert in machines.watched.values().flat_map(|watched| &watched.alerts) {
            let last =
                said.iter().rfind(|moved| moved.rule == alert.rule).map(|moved| moved.transition.value);
            assert!(
                alert.machine == Machine::Inactive || last == Some(alert.said),
                "{last:?}, {}",
                alert.said
            );
        }
    }

    /// Sparse samples, so that what the clock proves in silence hangs on when the last sample arrived.
    #[test]
    fn machines_that_were_saved_say_what_the_others_say() {
        let epochs: &[(i64, &[(i64, f64)])] = &[
            (0, &[(0, 1.0)]),
            (15, &[(15, 90.0)]),
            (20, &[(20, 91.0)]),
            (40, &[]),
            (46, &[]),
            (51, &[]),
            (60, &[(58, 95.0), (59, 96.0)]),
            (61, &[(30, 1.0)]),
            (100, &[]),
            (152, &[]),
            (160, &[(160, 90.0)]),
            (170, &[(170, 1.0)]),
            (300, &[]),
        ];
        let rules = || vec![rule("low", 80.0), rule("high", 94.0)];
        let run = |cut: Option<usize>| {
            let (mut machines, binds) = bound(rules());
            machines.apply(&binds, Vec::new(), |_| {});
            let mut said = Vec::new();
            for (at, (second, samples)) in epochs.iter().enumerate() {
                if cut == Some(at) {
                    machines = reloaded(&machines, rules());
                }
                said.extend(apply(&mut machines, *second, samples));
                check_shown(&machines, &said);
            }
            said
        };
        let expected = run(None);
        assert_eq!(expected.len(), 8, "{expected:?}");
        for cut in 0..epochs.len() {
            assert_eq!(run(Some(cut)), expected, "saved before epoch {cut}");
        }
    }

    #[test]
    fn rules_are_known_by_what_they_are() {
        let tagged = |tag: &str| {
            let matcher = TargetMatcher { service: None, tags: vec![("host".into(), tag.into())] };
            Rule { matcher, ..rule("a", 1.0) }
        };
        let now = [rule("a", 1.0), rule("b", 1.0), rule("a", 2.0), tagged("x"), rule("a", 1.0)];
        let of = |rules: &[Rule]| numbers_now(&rules.iter().map(Rule::identity).collect::<Vec<_>>(), &now);
        for (rules, expected) in [
            (vec![rule("b", 1.0), rule("a", 1.0)], vec![Some(1), Some(0)]),
            (vec![rule("a", 1.0), rule("a", 1.0), rule("a", 1.0)], vec![Some(0), Some(4), None]),
            (
                vec![rule("c", 1.0), rule("a", 2.0), tagged("y"), tagged("x")],
                vec![None, Some(2), None, Some(3)],
            ),
        ] {
            assert_eq!(of(&rules), expected);
        }
    }
}
