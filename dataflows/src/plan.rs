//! What the engine runs, validated.

use operators::alerts::{Patience, Slack};
use operators::closing::ClosingPlan;
use operators::rollup::binding::RollupLimits;
use operators::rule::{Rule, RuleChange};
use operators::sample::DurationNs;
use operators::tier::WindowPlan;

/// Everything that the graph is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Worker threads, at least one.
    pub workers: usize,
    /// Panes, tiers, lateness.
    pub windows: WindowPlan,
    /// What closed windows say; none leave where this is absent, and then they cost nothing.
    pub closing: Option<ClosingPlan>,
    /// Alert rules to begin with, where there is no snapshot; a rule's number is its place here. Later ones come with
    /// epochs.
    pub rules: Vec<Rule>,
    /// How long evaluations of alerts wait for stragglers.
    pub slack: Slack,
    /// Limits on the groups of rollups.
    pub rollups: RollupLimits,
    /// Epochs that may wait before a worker; the submitter waits when there are more.
    pub epochs_queued_max: usize,
    /// A part of a checkpoint is finished when it is as long.
    pub part_bytes: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            workers: 1,
            windows: WindowPlan::default(),
            closing: None,
            rules: Vec::new(),
            slack: Slack::default(),
            rollups: RollupLimits::default(),
            epochs_queued_max: 16,
            part_bytes: 1 << 20,
        }
    }
}

impl Plan {
    /// How alerts treat what comes late.
    pub fn patience(&self) -> Patience {
        let WindowPlan { lateness_ns, idle_timeout_ns, .. } = self.windows;
        Patience { slack: self.slack, lateness_ns, idle_timeout_ns }
    }

    /// The same of alerts that go by the windows of groups. Those wait for their members themselves, and go on in silence.
    pub fn patience_with_groups(&self) -> Patience {
        Patience { slack: Slack::Fixed(0), idle_timeout_ns: DurationNs::MAX, ..self.patience() }
    }

    /// The rules to begin with.
    pub fn initial_rules(&self) -> RuleChange {
        RuleChange { removed: Vec::new(), added: (0..).zip(self.rules.iter().cloned()).collect() }
    }

    /// Checks the plan; the error says what was expected.
    pub fn check(&self) -> Result<(), String> {
        if self.workers == 0 || self.workers > 1024 {
            return Err(format!("expected 1 to 1024 workers, found {}", self.workers));
        }
        if self.epochs_queued_max == 0 {
            return Err("expected room for at least one queued epoch".into());
        }
        self.windows.check()?;
        self.closing.as_ref().map_or(Ok(()), |closing| closing.check(&self.windows))
    }
}
