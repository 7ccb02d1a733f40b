//! What the engine runs, validated.

use operators::closing::ClosingPlan;
use operators::rollup::binding::RollupLimits;
use operators::rule::Rule;
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
    /// Alert rules; a rule's number is its place here.
    pub rules: Vec<Rule>,
    /// Limits on the groups of rollups.
    pub rollups: RollupLimits,
    /// Epochs that may wait before a worker; the submitter waits when there are more.
    pub epochs_queued_max: usize,
    /// Memory for raw samples that queries can still see.
    pub recent_bytes: usize,
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
            rollups: RollupLimits::default(),
            epochs_queued_max: 16,
            recent_bytes: 64 << 20,
            part_bytes: 1 << 20,
        }
    }
}

impl Plan {
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
