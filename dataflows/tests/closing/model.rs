//! The definition of closed windows, told slowly: all samples that count, and a look at every pane of every
//! series at the end of every epoch.

use std::collections::{BTreeMap, BTreeSet};

use dataflows::epoch::Epoch;
use operators::sample::{SeriesId, TimeNs};
use operators::tier::WindowPlan;

/// A row: epoch, series, start; count, and the bits of sum, increase and last.
pub type Row = (u64, SeriesId, TimeNs, u64, [u64; 3]);

/// What the epochs give.
#[derive(Default)]
pub struct Model {
    pub rows: Vec<Row>,
    pub missed: u64,
    pub series: BTreeMap<SeriesId, Series>,
}

/// What counts of one series.
pub struct Series {
    plan: WindowPlan,
    /// Time, order of arrival, value.
    held: Vec<(TimeNs, u64, f64)>,
    taken: u64,
    newest_ns: TimeNs,
    last_arrival_ns: TimeNs,
    /// Every pane that ends here or before is closed.
    closed_ns: TimeNs,
    forgotten_ns: TimeNs,
    floor_ns: TimeNs,
    /// Closed panes that this epoch changed.
    changed: BTreeSet<TimeNs>,
    rows: Vec<(TimeNs, u64, [u64; 3])>,
    missed: u64,
}

impl Model {
    pub fn of(plan: &WindowPlan, epochs: &[std::sync::Arc<Epoch>]) -> Model {
        let mut model = Model::default();
        let mut order = 0;
        for epoch in epochs {
            for sample in epoch.batches.iter().flatten() {
                order += 1;
                let series = model.series.entry(sample.series).or_insert_with(|| Series::new(plan));
                series.floor_ns = epoch.floor_ns;
                series.take((sample.time_ns, order, sample.value), epoch.arrival_ns);
            }
            for (number, series) in &mut model.series {
                series.floor_ns = epoch.floor_ns;
                series.end_epoch(epoch.arrival_ns);
                let rows = std::mem::take(&mut series.rows);
                model.rows.extend(
                    rows.into_iter().map(|(start, count, bits)| (epoch.number, *number, start, count, bits)),
                );
                model.missed += std::mem::take(&mut series.missed);
            }
        }
        model.rows.sort_unstable();
        model
    }
}

impl Series {
    /// Panes that begin before it were forgotten when the series was gone.
    pub fn forgotten_ns(&self) -> TimeNs {
        self.forgotten_ns
    }

    fn new(plan: &WindowPlan) -> Series {
        Series {
            plan: plan.clone(),
            held: Vec::new(),
            taken: 0,
            newest_ns: 0,
            last_arrival_ns: 0,
            closed_ns: TimeNs::MIN,
            forgotten_ns: TimeNs::MIN,
            floor_ns: TimeNs::MIN,
            changed: BTreeSet::new(),
            rows: Vec::new(),
            missed: 0,
        }
    }

    fn width_ns(&self) -> i64 {
        self.plan.tiers[0].width_ns
    }

    fn start_ns(&self, time_ns: TimeNs) -> TimeNs {
        time_ns.div_euclid(self.width_ns()) * self.width_ns()
    }

    /// Start of the pane that holds `time_ns` now; none where it is too old.
    fn pane_ns(&self, time_ns: TimeNs) -> Option<TimeNs> {
        let tiers = &self.plan.tiers;
        let at = (0..tiers.len()).find(|at| time_ns >= self.plan.cutoff_ns(*at, self.newest_ns))?;
        Some(time_ns.div_euclid(tiers[at].width_ns) * tiers[at].width_ns)
    }

    fn is_fine(&self, time_ns: TimeNs) -> bool {
        time_ns >= self.plan.cutoff_ns(0, self.newest_ns)
    }

    fn is_shown(&self, time_ns: TimeNs) -> bool {
        self.pane_ns(time_ns).is_some_and(|start_ns| start_ns >= self.floor_ns)
    }

    /// Starts of the finest panes.
    fn fine(&self) -> BTreeSet<TimeNs> {
        self.held.iter().filter(|s| self.is_fine(s.0)).map(|s| self.start_ns(s.0)).collect()
    }

    fn take(&mut self, sample: (TimeNs, u64, f64), arrival_ns: TimeNs) {
        let time_ns = sample.0;
        if self.taken > 0 && arrival_ns - self.last_arrival_ns > self.plan.retention_ns() {
            self.end_epoch(arrival_ns);
        }
        self.last_arrival_ns = arrival_ns;
        let newest_ns = if self.taken == 0 { time_ns } else { time_ns.max(self.newest_ns) };
        let roll_ns = self.plan.cutoff_ns(0, newest_ns);
        if self.taken > 0 {
            for start_ns in self.fine().range(..roll_ns) {
                if *start_ns >= self.closed_ns || self.changed.remove(start_ns) {
                    self.give(*start_ns);
                }
            }
            self.closed_ns = self.closed_ns.max(roll_ns);
        }
        self.newest_ns = newest_ns;
        let oldest_ns = self.plan.cutoff_ns(self.plan.tiers.len() - 1, newest_ns);
        self.held.retain(|s| s.0 >= oldest_ns);
        if newest_ns - time_ns > self.plan.correction_horizon_ns || !self.is_shown(time_ns) {
            return;
        }
        self.taken += 1;
        if self.taken == 1 {
            self.closed_ns = roll_ns;
        }
        self.held.push(sample);
        self.held.sort_by_key(|s| (s.0, s.1));
        if time_ns < self.closed_ns {
            self.change(time_ns);
        }
    }

    /// A late sample.
    fn change(&mut self, time_ns: TimeNs) {
        let start_ns = self.start_ns(time_ns);
        if self.is_fine(time_ns) && start_ns >= self.forgotten_ns {
            self.changed.insert(start_ns);
        } else {
            self.missed += 1;
        }
        let next = self.fine().range(start_ns + 1..).next().copied();
        if let Some(next) = next.filter(|next| (self.forgotten_ns..self.closed_ns).contains(next))
            && self.before(next).is_some_and(|before| before.0 == time_ns)
        {
            self.changed.insert(next);
        }
    }

    fn end_epoch(&mut self, arrival_ns: TimeNs) {
        if self.taken == 0 {
            return;
        }
        let silent = arrival_ns - self.last_arrival_ns >= self.plan.idle_timeout_ns;
        let clock_ns = if silent { self.newest_ns.max(arrival_ns) } else { self.newest_ns };
        let mut closed_ns = self.closed_ns.max(self.start_ns(self.newest_ns - self.plan.lateness_ns));
        for start_ns in self.fine() {
            let end_ns = start_ns + self.width_ns();
            if start_ns >= self.closed_ns && end_ns <= clock_ns - self.plan.lateness_ns {
                self.give(start_ns);
                closed_ns = closed_ns.max(end_ns);
            }
        }
        self.closed_ns = closed_ns;
        for start_ns in std::mem::take(&mut self.changed) {
            self.give(start_ns);
        }
        if arrival_ns - self.last_arrival_ns > self.plan.retention_ns() {
            self.missed += self.fine().range(self.closed_ns..).count() as u64;
            self.closed_ns = self.closed_ns.max(self.start_ns(self.newest_ns) + self.width_ns());
            self.forgotten_ns = self.newest_ns + 1;
            self.held.clear();
        }
    }

    /// The last sample before `time_ns`.
    pub fn before(&self, time_ns: TimeNs) -> Option<(TimeNs, f64)> {
        self.held.iter().rfind(|s| s.0 < time_ns && self.is_shown(s.0)).map(|s| (s.0, s.2))
    }

    fn give(&mut self, start_ns: TimeNs) {
        if start_ns < self.floor_ns {
            self.missed += 1;
            return;
        }
        let range = start_ns..start_ns + self.width_ns();
        let values: Vec<f64> = self.held.iter().filter(|s| range.contains(&s.0)).map(|s| s.2).collect();
        let before = self.before(start_ns).map(|before| before.1);
        let chain: Vec<f64> = before.into_iter().chain(values.iter().copied()).collect();
        let steps = chain.windows(2).map(|w| if w[1] >= w[0] { w[1] - w[0] } else { w[1] });
        let increase = if chain.len() > 1 { steps.sum() } else { f64::NAN };
        let sum: f64 = values.iter().sum();
        let bits = [sum, increase, values[values.len() - 1]].map(f64::to_bits);
        self.rows.push((start_ns, values.len() as u64, bits));
    }
}
