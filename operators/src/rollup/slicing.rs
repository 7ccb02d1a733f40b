//! Slices out of a shard's panes: at the end of an epoch, what of its series' panes the rollups have not seen.
//!
//! A slice is *complete* when the clock of its series has passed its end. It is given at the end of the first epoch
//! at which it is complete, and again at the end of each epoch in which a sample came for it, or for one before it if
//! that sample became the last before it and a function looks at that one. Panes that move to a coarser tier within
//! an epoch are looked at before they move.
//!
//! What has been given follows from a series' history and the arrival clock alone, so nothing of it is saved. What is
//! given while a checkpoint is being written is noted: it must come again, epoch by epoch, from series that were saved
//! later than those epochs.
//!
//! A series without rollups costs nothing here, and a sample of one with rollups two comparisons, unless it is the
//! first in a pane, or late.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::mem;
use std::sync::Arc;

use super::look::{Binding, Look, Told, newest_ns, told_now};
use super::{RollupChange, RollupRow, Scheme, each};
use crate::closing::Now;
use crate::exchange::Owners;
use crate::history::{History, Placed};
use crate::rollup::saved::Notes;
use crate::rollup::update::{MemberUpdate, Membership, Sliced};
use crate::sample::{SeriesId, TimeNs};
use crate::tier::{WindowPlan, floor_to};

/// Timers held beside two a member before those that count no more are dropped.
const TIMERS_SPARE_MAX: usize = 64;

/// Sums over what a shard gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlicingCounts {
    /// Slices and rows of which part had moved to coarser panes, or was gone.
    pub missed: u64,
}

/// The members of rollups among the series of a shard.
pub(crate) struct Slicing {
    index: usize,
    owners: Owners,
    /// Arrival time of the epoch before.
    arrival_ns: TimeNs,
    schemes: BTreeMap<u32, Arc<Scheme>>,
    members: Vec<Member>,
    free: Vec<u32>,
    /// Places to look at when the epoch ends.
    queue: Vec<u32>,
    /// When, by the arrival clock, a silent member may have something to say. An entry that is not its member's
    /// `armed_ns` any more is passed over.
    timers: BinaryHeap<Reverse<(TimeNs, u32)>>,
    updates: BTreeMap<(u32, SeriesId, u8), MemberUpdate>,
    rows: BTreeMap<(u32, SeriesId, TimeNs), RollupRow>,
    counts: SlicingCounts,
    /// Rollups of a snapshot, until their members are bound again.
    resumed: HashSet<u32>,
    /// Only while a checkpoint is being written.
    notes: Option<Notes>,
    /// What was noted, by epoch, while the shard catches up.
    past: BTreeMap<u64, Vec<Sliced>>,
}

struct Member {
    slot: usize,
    bindings: Vec<Binding>,
    told: Option<Told>,
    /// What was told before the epoch began, where it was looked at early.
    began: Option<Option<Told>>,
    /// Samples outside of `[from_ns, due_ns)` are noted. At first, all.
    from_ns: TimeNs,
    due_ns: TimeNs,
    is_queued: bool,
    /// Samples that came for what was given.
    touched: Vec<TimeNs>,
    /// The timer that counts; the greatest time there is for none.
    armed_ns: TimeNs,
    /// Its history is ahead, up to the end of this epoch: until then what was noted speaks for it.
    ahead_till: Option<u64>,
}

impl Slicing {
    pub(crate) fn new(index: usize, owners: Owners) -> Slicing {
        Slicing {
            index,
            owners,
            arrival_ns: TimeNs::MIN,
            schemes: BTreeMap::new(),
            members: Vec::new(),
            free: Vec::new(),
            queue: Vec::new(),
            timers: BinaryHeap::new(),
            updates: BTreeMap::new(),
            rows: BTreeMap::new(),
            counts: SlicingCounts::default(),
            resumed: HashSet::new(),
            notes: None,
            past: BTreeMap::new(),
        }
    }

    pub(crate) fn counts(&self) -> SlicingCounts {
        self.counts
    }

    /// Takes rollups in and lets others go.
    pub(crate) fn change(&mut self, change: &RollupChange) {
        for number in &change.removed {
            self.schemes.remove(number);
        }
        for (number, rollup) in &change.added {
            // Who let it in has checked it; one that can't be computed has no members here.
            if let Ok(scheme) = Scheme::new(rollup.clone()) {
                self.schemes.insert(*number, Arc::new(scheme));
            }
        }
    }

    /// Goes on with the rollups of a snapshot, and what was noted while it was written.
    pub(crate) fn resume(
        &mut self,
        arrival_ns: TimeNs,
        rollups: &RollupChange,
        noted: BTreeMap<u64, Vec<Sliced>>,
    ) {
        self.change(rollups);
        self.arrival_ns = arrival_ns;
        self.resumed = rollups.added.iter().map(|(number, _)| *number).collect();
        self.past = noted;
    }

    /// Notes what is given from now on, or no more.
    pub(crate) fn note_given(&mut self, noted: bool) {
        self.notes = noted.then(Notes::default);
    }

    pub(crate) fn notes(&self) -> Option<&Notes> {
        self.notes.as_ref()
    }

    /// A series becomes a member. If its history is ahead, it is so up to the end of `ahead_till`. `now` is what the
    /// shard is at.
    pub(crate) fn bind(
        &mut self,
        plan: &WindowPlan,
        history: &mut History,
        binding: Membership,
        ahead_till: Option<u64>,
        now: Now,
    ) {
        if !self.schemes.contains_key(&binding.rollup) {
            return;
        }
        let since = told_now(
            plan,
            history,
            Now { arrival_ns: self.arrival_ns.max(history.last_arrival_ns()), ..now },
        );
        let place = self.place(history, self.owners.slot(binding.series) as usize);
        let member = &mut self.members[place as usize];
        let resumes = ahead_till.is_some() || self.resumed.contains(&binding.rollup);
        member.bindings.push(Binding {
            rollup: binding.rollup,
            part: binding.part,
            group: binding.group,
            is_new: !resumes,
            since_ns: since.map(|told| told.clock_ns),
            sent: None,
        });
        member.ahead_till = member.ahead_till.max(ahead_till);
        if resumes && ahead_till.is_none() {
            self.settle(plan, history, place, now);
        }
        self.queue(place);
    }

    /// A series is a member no more.
    pub(crate) fn unbind(&mut self, history: &mut History, binding: Membership) {
        let Some(place) = history.member.checked_sub(1) else { return };
        let member = &mut self.members[place as usize];
        let is_it = |held: &Binding| (held.rollup, held.part) == (binding.rollup, binding.part);
        member.bindings.retain(|held| !is_it(held));
        if member.bindings.is_empty() {
            history.member = 0;
            let slot = usize::MAX;
            *member = Member { slot, is_queued: member.is_queued, ..Member::new(slot) };
            self.free.push(place);
        }
    }

    fn place(&mut self, history: &mut History, slot: usize) -> u32 {
        if let Some(place) = history.member.checked_sub(1) {
            return place;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.members.push(Member::new(slot));
            (self.members.len() - 1) as u32
        });
        let is_queued = self.members[place as usize].is_queued;
        self.members[place as usize] = Member { is_queued, ..Member::new(slot) };
        history.member = place + 1;
        place
    }

    fn queue(&mut self, place: u32) {
        let member = &mut self.members[place as usize];
        if !mem::replace(&mut member.is_queued, true) {
            self.queue.push(place);
        }
    }

    /// Notes that a sample came for a member.
    #[inline]
    pub(crate) fn note(&mut self, plan: &WindowPlan, history: &History, time_ns: TimeNs, placed: Placed) {
        let place = history.member.wrapping_sub(1);
        let Some(member) = self.members.get(place as usize) else { return };
        if (member.from_ns..member.due_ns).contains(&time_ns) {
            return;
        }
        if placed == Placed::Dropped {
            // It changes no pane, but its series is not silent any more.
            self.queue(place);
        } else {
            self.note_touched(plan, place, time_ns);
        }
    }

    #[cold]
    fn note_touched(&mut self, plan: &WindowPlan, place: u32, time_ns: TimeNs) {
        self.queue(place);
        let member = &mut self.members[place as usize];
        // What is not given yet needs no second look.
        let told = member.told_before(self.arrival_ns, plan);
        if told.is_none_or(|told| time_ns >= told.clock_ns) {
            return;
        }
        let pane = |time_ns| floor_to(time_ns, plan.tiers[0].width_ns);
        match member.touched.last_mut() {
            // Only the last sample of a pane can be the last before another.
            Some(last_ns) if pane(*last_ns) == pane(time_ns) => *last_ns = time_ns.max(*last_ns),
            _ => member.touched.push(time_ns),
        }
    }

    /// Gives what a sample at `time_ns`, which is not taken in yet, may move to a coarser tier.
    #[cold]
    pub(crate) fn before_roll(&mut self, plan: &WindowPlan, history: &History, time_ns: TimeNs, now: Now) {
        let Some(newest) = history.newest() else { return };
        let clock_ns = floor_to(time_ns.max(newest.time_ns), plan.tiers[0].width_ns);
        self.look_early(plan, history, Told { clock_ns, is_silent: false }, now);
    }

    /// Gives what a series has that is about to be forgotten.
    #[cold]
    pub(crate) fn before_forgetting(&mut self, plan: &WindowPlan, history: &History, now: Now) {
        if let Some(told) = told_now(plan, history, now) {
            self.look_early(plan, history, told, now);
        }
    }

    /// Looks at a member before the epoch ends: then it is looked at again, and at all samples until then.
    fn look_early(&mut self, plan: &WindowPlan, history: &History, told: Told, now: Now) {
        let place = history.member - 1;
        let member = &mut self.members[place as usize];
        let before = member.told_before(self.arrival_ns, plan);
        member.began.get_or_insert(before);
        self.look(plan, history, place, told, now);
        let member = &mut self.members[place as usize];
        (member.from_ns, member.due_ns) = (TimeNs::MAX, TimeNs::MIN);
        self.queue(place);
    }

    /// Ends the epoch: what there is to tell, in order of rollup and series.
    pub(crate) fn end_epoch(&mut self, plan: &WindowPlan, series: &[History], now: Now) -> Vec<Sliced> {
        for place in mem::take(&mut self.queue) {
            self.members[place as usize].is_queued = false;
            self.look_again(plan, series, place, now);
        }
        self.run_timers(plan, series, now);
        self.finish_rows(plan, series);
        self.resumed.clear();
        self.arrival_ns = now.arrival_ns;
        let mut given: Vec<Sliced> = Vec::new();
        while let Some(entry) = self.past.first_entry().filter(|entry| *entry.key() <= now.epoch) {
            given.extend(entry.remove());
        }
        given.extend(mem::take(&mut self.updates).into_values().map(Sliced::Member));
        given.extend(mem::take(&mut self.rows).into_values().map(Sliced::Row));
        if let Some(notes) = &mut self.notes {
            notes.note(now.epoch, &given);
        }
        given
    }

    /// What was said early goes by the clock at the end.
    fn finish_rows(&mut self, plan: &WindowPlan, series: &[History]) {
        for ((_, number, end_ns), row) in &mut self.rows {
            let history = series.get(self.owners.slot(*number) as usize);
            let place = history.map_or(0, |history| history.member).wrapping_sub(1);
            if let Some(told) = self.members.get(place as usize).and_then(|member| member.told) {
                row.is_final = Scheme::is_final(*end_ns, told.clock_ns, plan.lateness_ns);
            }
        }
    }

    fn look_again(&mut self, plan: &WindowPlan, series: &[History], place: u32, now: Now) {
        let member = &mut self.members[place as usize];
        let Some(history) = series.get(member.slot) else { return };
        match member.ahead_till {
            Some(epoch) if now.epoch < epoch => self.queue(place),
            Some(_) => {
                member.ahead_till = None;
                self.settle(plan, history, place, now);
                if self.members[place as usize].bindings.iter().any(|binding| binding.is_new) {
                    self.look_now(plan, history, place, now);
                }
            }
            None => self.look_now(plan, history, place, now),
        }
    }

    fn look_now(&mut self, plan: &WindowPlan, history: &History, place: u32, now: Now) {
        if let Some(told) = told_now(plan, history, now) {
            self.look(plan, history, place, told, now);
            self.members[place as usize].began = None;
            self.watch(plan, history, place, now);
        }
    }

    /// Takes what the history says for told already.
    fn settle(&mut self, plan: &WindowPlan, history: &History, place: u32, now: Now) {
        let member = &mut self.members[place as usize];
        member.told = told_now(plan, history, now);
        member.touched.clear();
        for binding in member.bindings.iter_mut().filter(|binding| !binding.is_new) {
            let told = member.told.zip(self.schemes.get(&binding.rollup));
            binding.sent = told.map(|(told, scheme)| binding.clock(scheme, plan, history, told));
        }
        self.watch(plan, history, place, now);
    }

    fn run_timers(&mut self, plan: &WindowPlan, series: &[History], now: Now) {
        if self.timers.len() > TIMERS_SPARE_MAX + 2 * self.members.len() {
            let members = &self.members;
            self.timers.retain(|Reverse((wake_ns, place))| members[*place as usize].armed_ns == *wake_ns);
        }
        while let Some(&Reverse((wake_ns, place))) = self.timers.peek() {
            if wake_ns > now.arrival_ns {
                break;
            }
            self.timers.pop();
            if self.members[place as usize].armed_ns == wake_ns {
                self.members[place as usize].armed_ns = TimeNs::MAX;
                self.look_again(plan, series, place, now);
            }
        }
    }

    /// Tells every rollup of a member what is new to it.
    fn look(&mut self, plan: &WindowPlan, history: &History, place: u32, told: Told, now: Now) {
        let member = &mut self.members[place as usize];
        let series = self.owners.series(member.slot, self.index);
        let touched = mem::take(&mut member.touched);
        let before = member.told_before(self.arrival_ns, plan);
        member.told = Some(told);
        let began = member.began.unwrap_or(before);
        for binding in &mut member.bindings {
            let Some(scheme) = self.schemes.get(&binding.rollup) else { continue };
            let is_new = mem::replace(&mut binding.is_new, false);
            let steps = |told: Told| Told { clock_ns: scheme.step(told.clock_ns, plan), ..told };
            let (before, began) = (before.filter(|_| !is_new).map(steps), began.map(steps));
            let clock_ns = scheme.step(told.clock_ns, plan);
            let look = Look { plan, history, epoch: now.epoch, floor_ns: now.floor_ns, clock_ns };
            let missed = &mut self.counts.missed;
            if scheme.is_each() {
                let since_ns = binding.since_ns.map(|ns| ns.saturating_sub(scheme.rollup.correct_ns));
                let since_ns = since_ns.unwrap_or(TimeNs::MIN);
                let corrects = |told: Told| told.clock_ns.saturating_sub(scheme.rollup.correct_ns);
                let before = each::Before {
                    clock_ns: before.map_or(since_ns, |told| told.clock_ns),
                    horizon_ns: began.filter(|_| !is_new).map_or(since_ns, corrects),
                    is_new: before.is_none(),
                };
                let rows = each::rows(scheme, binding.rollup, series, before, &look, &touched, missed);
                self.rows.extend(rows.into_iter().map(|row| ((row.rollup, series, row.end_ns), row)));
                continue;
            }
            let (held_ns, slices) = look.news(scheme, binding, before, &touched, missed);
            let sent = binding.clock(scheme, plan, history, told);
            if binding.sent.replace(sent) == Some(sent) && !is_new && slices.is_empty() {
                continue;
            }
            let update = MemberUpdate {
                rollup: binding.rollup,
                group: binding.group,
                part: binding.part,
                series,
                clock_ns: sent.clock_ns,
                is_silent: sent.is_silent,
                held_ns,
                slices,
            };
            let key = (binding.rollup, series, binding.part);
            match self.updates.get_mut(&key) {
                Some(earlier) => earlier.replace(update),
                None => drop(self.updates.insert(key, update)),
            }
        }
    }

    /// Sets which samples are noted next, and the timer.
    fn watch(&mut self, plan: &WindowPlan, history: &History, place: u32, now: Now) {
        let member = &mut self.members[place as usize];
        let Some(told) = member.told else { return };
        let wake_ns = if told.is_silent {
            (member.from_ns, member.due_ns) = (TimeNs::MAX, TimeNs::MIN);
            let wakes = member.bindings.iter().filter_map(|binding| {
                let scheme = self.schemes.get(&binding.rollup)?;
                if scheme.is_each() {
                    let clock_ns = scheme.step(told.clock_ns, plan);
                    let look = Look { plan, history, epoch: now.epoch, floor_ns: now.floor_ns, clock_ns };
                    return each::next_wake_ns(scheme, &look);
                }
                let open_ns = floor_to(newest_ns(plan, history), scheme.slice_ns);
                Some(open_ns.saturating_add(scheme.slice_ns)).filter(|end_ns| *end_ns > told.clock_ns)
            });
            wakes.min()
        } else {
            member.from_ns = told.clock_ns;
            let schemes = member.bindings.iter().filter_map(|binding| self.schemes.get(&binding.rollup));
            let due = schemes.map(|scheme| scheme.next_step(told.clock_ns, plan)).min();
            member.due_ns = due.unwrap_or(TimeNs::MAX);
            Some(history.last_arrival_ns().saturating_add(plan.idle_timeout_ns))
        };
        let Some(wake_ns) = wake_ns else { return };
        let wake_ns = wake_ns.max(now.arrival_ns.saturating_add(1));
        if wake_ns < member.armed_ns {
            member.armed_ns = wake_ns;
            self.timers.push(Reverse((wake_ns, place)));
        }
    }
}

impl Member {
    fn new(slot: usize) -> Member {
        Member {
            slot,
            bindings: Vec::new(),
            told: None,
            began: None,
            from_ns: TimeNs::MAX,
            due_ns: TimeNs::MIN,
            is_queued: false,
            touched: Vec::new(),
            armed_ns: TimeNs::MAX,
            ahead_till: None,
        }
    }
}

impl Member {
    /// What had been told by the end of the epoch before, or within this one if that is more: a clock that has gone
    /// back and forth within an epoch has not moved.
    fn told_before(&self, arrival_ns: TimeNs, plan: &WindowPlan) -> Option<Told> {
        let told = self.told?.until(arrival_ns, plan);
        let began_ns = self.began.flatten().map_or(told.clock_ns, |began| began.clock_ns);
        Some(Told { clock_ns: told.clock_ns.max(began_ns), ..told })
    }
}
