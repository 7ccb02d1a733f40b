//! The rules that watch a source: how their alerts come and go.

use super::super::judge::Judge;
use super::super::life::Life;
use super::super::prepare::Prepared;
use super::super::{Rules, front::Front};
use super::{Alert, KEPT_LEN_MAX, Said, Watched, plainly};
use crate::anomaly::{self, Detector, Method};
use crate::rule::{Rule, Signal};
use crate::sample::TimeNs;

impl Watched {
    /// A rule begins to watch it. `prepared` is what is held of it, and what that makes of the alert.
    pub(in crate::alerts) fn bind(
        &mut self,
        rules: &Rules,
        number: u32,
        prepared: Option<&Prepared>,
        out: &mut impl FnMut(Said),
    ) {
        let (Some(at), Some(rule)) =
            (self.alerts.binary_search_by_key(&number, |alert| alert.rule).err(), rules.get(number))
        else {
            return;
        };
        let mut life = Life::new(rule);
        if let Some(prepared) = prepared {
            self.begin_with(rules, prepared);
            if let Some((_, based)) = prepared.lives.iter().find(|(of, _)| *of == number) {
                life = based.clone();
            }
            // Where more values came than are kept, the first of those prepared are in front of them.
            let first_ns = self.front.kept.first().map_or(TimeNs::MAX, |(time_ns, _)| *time_ns);
            let earlier = prepared.values.partition_point(|(time_ns, _)| *time_ns < first_ns);
            if !rule.signal.is_judged() {
                life.rebase(rule, &prepared.values[..earlier], self.base_ns);
            }
        }
        if let Signal::Anomaly { method } = rule.signal {
            self.add_judge(method, prepared);
        } else {
            let (settled, clock_ns) = (self.settled(), self.front.clock_ns);
            life.begin(rule, &self.front.kept[..settled], clock_ns, &mut plainly(number, out));
        }
        self.alerts.insert(at, Alert { rule: number, life: Some(Box::new(life)) });
        self.set_quiet(rule);
        self.bury();
    }

    /// Takes what is held of the source where nothing came yet, and lets go of what is older where something did: so
    /// its alerts and a new one have the same base.
    fn begin_with(&mut self, rules: &Rules, prepared: &Prepared) {
        if self.newest_ns() == TimeNs::MIN {
            let Some((newest_ns, _)) = prepared.values.last() else { return };
            let from = prepared.values.len().saturating_sub(KEPT_LEN_MAX / 2);
            let kept = prepared.values[from..].to_vec();
            self.base_ns = if from == 0 { prepared.from_ns } else { kept[0].0 };
            self.unsettled = 0;
            self.front.kept = kept;
            self.front.clock_ns = *newest_ns;
            self.front.last_arrival_ns = prepared.last_arrival_ns;
        } else {
            let gone = self.front.kept.partition_point(|(time_ns, _)| *time_ns < prepared.from_ns);
            self.base_ns = self.base_ns.max(prepared.from_ns);
            self.let_go(rules, gone.min(self.settled()), prepared.from_ns);
        }
    }

    /// Has a detector judge values from now on, unless one does: it has learned those before.
    fn add_judge(&mut self, method: Method, prepared: Option<&Prepared>) {
        if self.judges.iter().any(|judge| judge.method == method) {
            return;
        }
        let learned = prepared.and_then(|prepared| prepared.judges.iter().find(|(of, _)| *of == method));
        let new = || Detector::new(&anomaly::Settings { method });
        let detector = Box::new(learned.map_or_else(new, |(_, detector)| detector.clone()));
        let mut judge = Judge { method, detector };
        judge.observe(&self.front.kept[..self.settled()]);
        self.judges.push(judge);
    }

    /// Narrows where nothing begins.
    fn set_quiet(&mut self, rule: &Rule) {
        let (from, till) = match rule.signal {
            Signal::Sample | Signal::Window(_) => rule.level.operator.quiet(rule.level.bounds),
            // Their alerts are always awake.
            Signal::Absent { .. } | Signal::Stale { .. } | Signal::Anomaly { .. } => return,
        };
        self.front.narrow(from, till);
    }

    /// A rule watches it no longer: what it said is taken back.
    pub(in crate::alerts) fn unbind(&mut self, rules: &Rules, number: u32, out: &mut impl FnMut(Said)) {
        let Ok(at) = self.alerts.binary_search_by_key(&number, |alert| alert.rule) else { return };
        let gone = self.alerts.remove(at);
        if let Some(life) = gone.life {
            life.retract(self.front.clock_ns, &mut plainly(number, out));
        }
        let methods = self.alerts.iter().filter_map(|alert| rules.get(alert.rule)?.signal.method());
        let methods: Vec<Method> = methods.collect();
        self.judges.retain(|judge| methods.contains(&judge.method));
        self.front.quiet = Front::default().quiet;
        for at in 0..self.alerts.len() {
            if let Some(rule) = rules.get(self.alerts[at].rule) {
                self.set_quiet(rule);
            }
        }
        self.bury();
    }
}
