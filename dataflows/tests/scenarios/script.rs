//! Scenario files as text: read into steps, and steps shown again. The format stands in `scenarios.rs`.

use std::ops::Range;
use std::sync::Arc;

use dataflows::view::WindowQuery;
use operators::alert::Timing;
use operators::rule::{Level, Rule};
use operators::sample::{DurationNs, HOUR, MINUTE, MS, SECOND, Sample, SeriesId, TimeNs};
use operators::series::{SeriesKey, Target, TargetMatcher};
use operators::tier::{Tier, WindowPlan};

/// A scenario as written.
#[derive(Default)]
pub struct Scenario {
    origin_ns: TimeNs,
    pub plan: WindowPlan,
    pub rules: Vec<Rule>,
    /// Names of series; their places are their numbers.
    pub series: Vec<(String, SeriesKey)>,
    /// With the lines they stand in.
    pub steps: Vec<(usize, Step)>,
}

pub enum Step {
    Epoch { arrival_ns: TimeNs, floor_ns: Option<TimeNs>, samples: Vec<Sample> },
    Windows { members: Vec<SeriesId>, query: WindowQuery, rows: Vec<WindowRow>, sums: Vec<(String, i64)> },
    Refused { members: Vec<SeriesId>, query: WindowQuery, possible_ns: DurationNs },
    Alerts(Vec<AlertRow>),
}

pub struct WindowRow {
    start_ns: TimeNs,
    /// Function, value, and whether it need only be near.
    pub values: Vec<(String, Option<f64>, bool)>,
    is_final: bool,
    pub revision: Option<u64>,
}

pub struct AlertRow {
    pub rule: u32,
    pub series: SeriesId,
    kind: String,
    at_ns: TimeNs,
    pub since_ns: Option<TimeNs>,
    pub decided_ns: Option<TimeNs>,
    pub value: Option<f64>,
}

type Read<T> = Result<T, String>;

impl Scenario {
    pub fn parse(text: &str) -> Read<Scenario> {
        let mut scenario = Scenario::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if let Some((word, rest)) = words.split_first() {
                scenario.line(at + 1, word, rest).map_err(|error| format!("line {}: {error}", at + 1))?;
            }
        }
        Ok(scenario)
    }

    fn line(&mut self, line: usize, word: &str, rest: &[&str]) -> Read<()> {
        let step = match (word, rest) {
            ("origin", [origin]) => {
                self.origin_ns = duration(origin)?;
                return Ok(());
            }
            ("plan", rest) => return self.plan(rest),
            ("rule", [name, metric, symbol, threshold, "for", length, rest @ ..]) => {
                return self.rule(name, metric, symbol, threshold, duration(length)?, rest);
            }
            ("series", [name, service, metric, tags @ ..]) => {
                let pairs: Vec<_> = tags.iter().filter_map(|tag| tag.split_once('=')).collect();
                let target = Arc::new(Target::new(service, pairs));
                self.series.push((name.to_string(), SeriesKey { target, metric: (*metric).into() }));
                return Ok(());
            }
            ("heartbeats", [range]) => {
                let (range, step_ns) = self.stepped(range)?;
                for arrival_ns in range.step_by(step_ns as usize) {
                    self.steps.push((line, Step::Epoch { arrival_ns, floor_ns: None, samples: Vec::new() }));
                }
                return Ok(());
            }
            ("epoch", [at, rest @ ..]) => {
                let floor_ns = match rest {
                    [] => None,
                    ["floor", floor] => Some(self.time(floor)?),
                    other => return Err(format!("expected floor and a time, found {other:?}")),
                };
                Step::Epoch { arrival_ns: self.time(at)?, floor_ns, samples: Vec::new() }
            }
            ("windows", [members, width, rest @ ..]) => {
                let (members, query) = self.query(members, width, rest.first().copied())?;
                Step::Windows { members, query, rows: Vec::new(), sums: Vec::new() }
            }
            ("refused", [members, width, range, possible]) => {
                let (members, query) = self.query(members, width, Some(range))?;
                Step::Refused { members, query, possible_ns: duration(possible)? }
            }
            ("alerts", []) => Step::Alerts(Vec::new()),
            _ => return self.row(word, rest),
        };
        self.steps.push((line, step));
        Ok(())
    }

    fn plan(&mut self, rest: &[&str]) -> Read<()> {
        let tiers = rest.iter().map_while(|word| word.split_once('/'));
        let tiers: Read<Vec<Tier>> = tiers
            .map(|(width, held)| Ok(Tier { width_ns: duration(width)?, retention_ns: duration(held)? }))
            .collect();
        self.plan.tiers = tiers?;
        for pair in rest[self.plan.tiers.len()..].chunks(2) {
            let value = duration(pair.get(1).copied().unwrap_or_default())?;
            match pair[0] {
                "lateness" => self.plan.lateness_ns = value,
                "horizon" => self.plan.correction_horizon_ns = value,
                "idle" => self.plan.idle_timeout_ns = value,
                other => return Err(format!("expected lateness, horizon or idle, found {other:?}")),
            }
        }
        Ok(())
    }

    fn rule(
        &mut self,
        name: &str,
        metric: &str,
        symbol: &str,
        threshold: &str,
        duration_ns: DurationNs,
        rest: &[&str],
    ) -> Read<()> {
        let (mut matcher, mut stale_ns) = (TargetMatcher::default(), 5 * MINUTE);
        for pair in rest.chunks(2) {
            match pair {
                ["stale", value] => stale_ns = duration(value)?,
                ["service", value] => matcher.service = Some(value.to_string()),
                ["tag", value] => {
                    let (name, value) = value.split_once('=').ok_or("expected tag NAME=VALUE")?;
                    matcher.tags.push((name.into(), value.into()));
                }
                other => return Err(format!("expected stale, service or tag, found {other:?}")),
            }
        }
        self.rules.push(Rule {
            name: name.into(),
            metric: metric.into(),
            matcher,
            level: Level::new(symbol.parse().map_err(|error| format!("{error}"))?, number(threshold)?),
            timing: Timing::new(duration_ns, stale_ns),
            ..Rule::default()
        });
        Ok(())
    }

    /// A row below an `epoch`, `windows` or `alerts`.
    fn row(&mut self, word: &str, rest: &[&str]) -> Read<()> {
        let unknown = || format!("expected a line of the format or a row below one, found {word:?}");
        let mut step = self.steps.pop().ok_or_else(unknown)?;
        let read = match (&mut step.1, rest) {
            (Step::Epoch { samples, .. }, [when, value, rest @ ..]) => {
                self.samples(word, when, value, rest, samples)
            }
            (Step::Windows { sums, .. }, rest) if word == "sums" => self.sums(rest, sums),
            (Step::Windows { rows, .. }, rest) => self.window_row(word, rest).map(|row| rows.push(row)),
            (Step::Alerts(rows), [series, kind, at, rest @ ..]) => {
                self.alert_row(word, series, kind, at, rest).map(|row| rows.push(row))
            }
            _ => Err(unknown()),
        };
        self.steps.push(step);
        read
    }

    fn samples(&self, name: &str, when: &str, value: &str, rest: &[&str], out: &mut Vec<Sample>) -> Read<()> {
        let (series, mut value) = (self.number_of(name)?, number(value)?);
        let sample = |time_ns, value| Sample { series, seq: 0, time_ns, value };
        if when.contains("..") {
            let grows = rest.first().map_or(Ok(0.0), |text| number(text))?;
            let (range, step_ns) = self.stepped(when)?;
            for time_ns in range.step_by(step_ns as usize) {
                out.push(sample(time_ns, value));
                value += grows;
            }
            return Ok(());
        }
        let copies = match rest.first().map(|text| text.strip_prefix('x').unwrap_or(text).parse()) {
            None => 1,
            Some(Ok(copies)) => copies,
            Some(Err(error)) => return Err(format!("expected x and a number of copies: {error}")),
        };
        out.extend(std::iter::repeat_n(sample(self.time(when)?, value), copies));
        Ok(())
    }

    fn window_row(&self, start: &str, rest: &[&str]) -> Read<WindowRow> {
        let mut row =
            WindowRow { start_ns: self.time(start)?, values: Vec::new(), is_final: false, revision: None };
        let mut said = false;
        for word in rest {
            if let Some(revision) = word.strip_prefix("rev=") {
                row.revision =
                    Some(revision.parse().map_err(|_| format!("expected rev=EPOCH, found {word:?}"))?);
            } else if matches!(*word, "final" | "open") {
                (row.is_final, said) = (*word == "final", true);
            } else {
                let (name, value) =
                    word.split_once(['=', '~']).ok_or_else(|| format!("expected F=X, found {word:?}"))?;
                let value = if value == "none" { None } else { Some(number(value)?) };
                row.values.push((name.into(), value, word.contains('~')));
            }
        }
        if said { Ok(row) } else { Err("expected final or open in the row of a window".into()) }
    }

    fn sums(&self, rest: &[&str], out: &mut Vec<(String, i64)>) -> Read<()> {
        for word in rest {
            let value = match word.split_once('=') {
                Some(("late" | "dropped", value)) => {
                    value.parse().map_err(|_| "expected a number".to_string())?
                }
                Some(("clock", value)) => self.time(value)?,
                _ => return Err(format!("expected late=N, dropped=N or clock=T, found {word:?}")),
            };
            out.push((word.split('=').next().unwrap_or_default().into(), value));
        }
        Ok(())
    }

    fn alert_row(&self, rule: &str, series: &str, kind: &str, at: &str, rest: &[&str]) -> Read<AlertRow> {
        let place = self.rules.iter().position(|held| *held.name == *rule);
        let rule = place.ok_or_else(|| format!("expected the name of a rule, found {rule:?}"))? as u32;
        let (mut since_ns, mut decided_ns, mut value) = (None, None, None);
        for word in rest {
            match word.split_once('=') {
                Some(("since", time)) => since_ns = Some(self.time(time)?),
                Some(("decided", time)) => decided_ns = Some(self.time(time)?),
                _ => value = Some(number(word)?),
            }
        }
        let (series, at_ns) = (self.number_of(series)?, self.time(at)?);
        Ok(AlertRow { rule, series, kind: kind.into(), at_ns, since_ns, decided_ns, value })
    }

    fn query(&self, members: &str, width: &str, range: Option<&str>) -> Read<(Vec<SeriesId>, WindowQuery)> {
        let members: Read<Vec<SeriesId>> = members.split(',').map(|name| self.number_of(name)).collect();
        let range_ns = match range.map(|range| range.split_once("..")) {
            None => TimeNs::MIN..TimeNs::MAX,
            Some(Some((from, till))) => self.time(from)?..self.time(till)?,
            Some(None) => return Err("expected a range T..T".into()),
        };
        Ok((members?, WindowQuery { range_ns, window_ns: duration(width)?, with_values: true }))
    }

    fn number_of(&self, name: &str) -> Read<SeriesId> {
        let place = self.series.iter().position(|(held, _)| held == name);
        place.map(|at| at as SeriesId).ok_or_else(|| format!("expected the name of a series, found {name:?}"))
    }

    fn stepped(&self, text: &str) -> Read<(Range<TimeNs>, DurationNs)> {
        let parts = text.split_once("..").and_then(|(from, rest)| Some((from, rest.split_once('/')?)));
        let (from, (till, step)) = parts.ok_or_else(|| format!("expected T..T/D, found {text:?}"))?;
        Ok((self.time(from)?..self.time(till)?, duration(step)?.max(1)))
    }

    fn time(&self, text: &str) -> Read<TimeNs> {
        let (base_ns, rest) = match (text.strip_prefix("min"), text.strip_prefix("max")) {
            (Some(rest), _) => (TimeNs::MIN, rest.trim_start_matches('+')),
            (_, Some(rest)) => (TimeNs::MAX, rest),
            _ => (self.origin_ns, text),
        };
        if rest.is_empty() && base_ns != self.origin_ns {
            return Ok(base_ns);
        }
        base_ns
            .checked_add(duration(rest)?)
            .ok_or_else(|| format!("expected a time within range, found {text:?}"))
    }

    /// A time as scenarios write it.
    pub fn show_time(&self, time_ns: TimeNs) -> String {
        match (time_ns.checked_sub(self.origin_ns), time_ns < 0) {
            (Some(offset_ns), _) if offset_ns.abs_diff(0) < TimeNs::MAX as u64 / 2 => show(offset_ns),
            (_, true) => format!("min+{}", show(time_ns - TimeNs::MIN)),
            (_, false) => format!("max{}", show(time_ns - TimeNs::MAX)),
        }
    }
}

impl WindowRow {
    pub fn show(&self, scenario: &Scenario) -> String {
        let mut text = scenario.show_time(self.start_ns);
        for (name, value, _) in &self.values {
            text += &show_value(name, *value);
        }
        text += if self.is_final { " final" } else { " open" };
        text + &self.revision.map_or(String::new(), |revision| format!(" rev={revision}"))
    }
}

impl AlertRow {
    pub fn show(&self, s: &Scenario) -> String {
        let (rule, series) = (&s.rules[self.rule as usize].name, &s.series[self.series as usize].0);
        let mut text = format!("{rule} {series} {} {}", self.kind, s.show_time(self.at_ns));
        text += &self.since_ns.map_or(String::new(), |time_ns| format!(" since={}", s.show_time(time_ns)));
        text +=
            &self.decided_ns.map_or(String::new(), |time_ns| format!(" decided={}", s.show_time(time_ns)));
        text + &self.value.map_or(String::new(), |value| format!(" {value}"))
    }
}

/// The value of a function as a row writes it.
pub fn show_value(name: &str, value: Option<f64>) -> String {
    value.map_or_else(|| format!(" {name}=none"), |value| format!(" {name}={value}"))
}

const UNITS: [(&str, DurationNs); 6] =
    [("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", MS), ("us", 1000), ("ns", 1)];

/// A duration as scenarios write it.
pub fn show(duration_ns: DurationNs) -> String {
    let mut text = String::from(if duration_ns < 0 { "-" } else { "" });
    let mut rest = duration_ns.unsigned_abs();
    for (unit, unit_ns) in UNITS {
        let count = rest / unit_ns as u64;
        rest %= unit_ns as u64;
        if count > 0 || (unit == "ns" && duration_ns == 0) {
            text += &format!("{count}{unit}");
        }
    }
    text
}

fn duration(text: &str) -> Read<DurationNs> {
    let wrong = || format!("expected a duration such as 1m30s, found {text:?}");
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut total: DurationNs = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let count: DurationNs = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, unit_ns) = UNITS.iter().find(|(unit, _)| *unit == &rest[..end]).ok_or_else(wrong)?;
        rest = &rest[end..];
        total = count.checked_mul(*unit_ns).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(sign * total) }
}

fn number(text: &str) -> Read<f64> {
    text.parse().map_err(|_| format!("expected a number, found {text:?}"))
}
