//! A worker: one loop, one match.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use operators::alerts::Machines;
use operators::binding::{RuleScope, join_key};
use operators::catalog::Entry;
use operators::exchange::{Owners, Sorter};
use operators::rollup::binding::{Directory, RollupScope};
use operators::rollup::{Groups, Rollup, RollupChange};
use operators::rule::RuleChange;
use operators::sample::{DEDUP, Sample};
use operators::series::SeriesKey;
use operators::window::saved::Origin;
use operators::window::{Control, Shard};
use parking_lot::RwLock;
use timely::worker::Worker;

use crate::checkpoint::{PartSink, Saving, Turn};
use crate::command::Command;
use crate::engine::Progress;
use crate::epoch::Epoch;
use crate::graph::{self, Bindings, Closed, Inputs, Outbox, Rolled, State};
use crate::plan::Plan;

/// How long an idle worker sleeps unless it is woken, and one that waits for room for its checkpoint.
const PARK_IDLE: Duration = Duration::from_millis(20);
const PARK_FULL: Duration = Duration::from_millis(1);
/// Epochs inside the graph at a time; more only cost memory.
const EPOCHS_INSIDE_MAX: u64 = 4;

/// What a worker did, for telemetry.
#[derive(Debug, Default)]
pub struct Load {
    /// Nanoseconds spent stepping and feeding.
    pub busy_ns: AtomicU64,
    /// Samples fed into the exchange by this worker.
    pub fed: AtomicU64,
    /// Samples that came too late for the alerts of their series, and did not change them.
    pub alerts_late: Arc<AtomicU64>,
    /// Pairs of a rule and a series that it watches.
    pub alerts_bound: Arc<AtomicU64>,
}

/// Everything a worker is given.
pub struct Seat {
    /// Where commands come from.
    pub commands: Receiver<Command>,
    /// The shard it owns.
    pub shard: Arc<RwLock<Shard>>,
    /// Its groups.
    pub groups: Arc<RwLock<Groups>>,
    /// What groups are called.
    pub directory: Arc<Directory>,
    /// Its alerts.
    pub machines: Machines,
    /// Alerts of its groups.
    pub group_machines: Machines,
    /// Rules there are already; its alerts know them.
    pub rules: Arc<RuleChange>,
    /// Series there are already.
    pub entries: Arc<[Entry]>,
    /// The epoch behind which it goes on.
    pub epoch: u64,
    /// Where its alerts go.
    pub outbox: Outbox,
    /// Where its closed windows go.
    pub closed: Closed,
    /// Where the rows of its groups go.
    pub rolled: Rolled,
    /// Where it says how far it is.
    pub progress: Arc<Progress>,
    /// Its load figures.
    pub load: Arc<Load>,
}

/// Runs until told to stop or until nobody can tell it anything any more. Says who it is to `begun` as soon as all that
/// there was already is bound.
pub fn run(worker: &mut Worker, plan: &Plan, seat: Seat, begun: &SyncSender<(usize, Thread)>) {
    let (index, peers) = (worker.index(), worker.peers());
    let Seat { commands, shard, groups, directory, machines, group_machines, rules, .. } = seat;
    let Seat { entries, epoch, outbox, closed, rolled, progress, load, .. } = seat;
    let machines = Rc::new(RefCell::new(machines));
    let group_machines = Rc::new(RefCell::new(group_machines));
    let mut inputs = worker.dataflow::<u64, _, _>(|scope| {
        let state = State {
            shard: shard.clone(),
            groups: groups.clone(),
            machines: machines.clone(),
            group_machines: group_machines.clone(),
        };
        graph::samples(scope, state, outbox, closed, rolled)
    });
    let mut bindings = worker.dataflow::<u64, _, _>(|scope| graph::rules(scope, plan.rollups, directory));
    // Whatever is there already is bound behind `epoch`, and its machines know before the next.
    inputs.advance_to(epoch);
    let rollups = inputs.begin_rollups(&groups.read(), &rules, plan);
    inputs.bind(bindings.begin(worker, &rules, rollups, &entries, epoch));
    inputs.advance_to(epoch + 1);
    drop(entries);
    // The receiver lives until it has heard of all workers.
    let _ = begun.send((index, std::thread::current()));
    let mut desk = Desk {
        shard,
        groups,
        machines,
        group_machines,
        index,
        peers,
        part_bytes: plan.part_bytes,
        due: None,
        saving: None,
    };
    let mut sorter = Sorter::new(Owners::new(peers));
    let (mut fed, mut done, mut stopping) = (epoch, epoch, false);
    loop {
        let began = Instant::now();
        let mut idle = true;
        while !stopping && desk.due.is_none() && fed - done < EPOCHS_INSIDE_MAX {
            match commands.try_recv() {
                Ok(Command::Epoch(epoch)) => {
                    fed = epoch.number;
                    inputs.advance_to(fed);
                    if epoch.rules.is_some() {
                        desk.give_up();
                    }
                    let rollups = bindings.rollups_of(&epoch, plan);
                    inputs.change_rollups(&rollups);
                    inputs.bind(bindings.resolve(worker, &epoch, &rollups));
                    load.fed.fetch_add(inputs.feed(&epoch, index, &mut sorter), Ordering::Relaxed);
                    idle = false;
                }
                Ok(Command::Checkpoint(sink)) => desk.due = Some(sink),
                Ok(Command::Stop(sink)) => (desk.due, desk.saving, stopping) = (sink, None, true),
                Err(TryRecvError::Disconnected) => (desk.saving, stopping) = (None, true),
                Err(TryRecvError::Empty) => break,
            }
        }
        worker.step();
        let completed = inputs.completed(fed);
        let advanced = completed > done;
        if advanced {
            done = completed;
            progress.completed(index, done);
            idle = false;
        }
        if completed == fed {
            desk.begin(fed);
        }
        // Not in every turn of this loop: an epoch takes several, and would wait for as many pieces.
        let turn = if advanced || completed == fed { desk.turn(stopping) } else { Turn::Over };
        load.busy_ns.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        if stopping && desk.is_clear() && done == fed {
            break;
        }
        if idle && turn != Turn::Busy {
            worker.step_or_park(Some(if turn == Turn::Full { PARK_FULL } else { PARK_IDLE }));
        }
    }
    inputs.close();
    bindings.close();
    while worker.has_dataflows() {
        worker.step_or_park(Some(Duration::from_millis(1)));
    }
}

/// Where a worker writes its checkpoints.
struct Desk {
    shard: Arc<RwLock<Shard>>,
    groups: Arc<RwLock<Groups>>,
    machines: Rc<RefCell<Machines>>,
    group_machines: Rc<RefCell<Machines>>,
    index: usize,
    peers: usize,
    part_bytes: usize,
    /// Wanted behind the epochs taken in. No other is taken in before it has begun.
    due: Option<PartSink>,
    saving: Option<Saving>,
}

impl Desk {
    /// Begins the checkpoint that is due: everything up to `epoch` has happened, and nothing else.
    fn begin(&mut self, epoch: u64) {
        if let Some(sink) = self.due.take() {
            let origin = Origin { worker: self.index as u32, workers: self.peers as u32, epoch };
            let mut shard = self.shard.write();
            shard.catch_up(&mut self.machines);
            shard.note_repeats(true);
            shard.note_sliced(true);
            self.groups.write().settle();
            let groups = self.groups.read();
            let (mut of_series, mut of_groups) =
                (self.machines.borrow_mut(), self.group_machines.borrow_mut());
            let machines = [&mut *of_series, &mut *of_groups];
            self.saving = Some(Saving::begin(sink, origin, self.part_bytes, &shard, &groups, machines));
        }
    }

    /// Gives up what is being written: who goes on from it must find each series as it is when rules begin to watch it.
    fn give_up(&mut self) {
        if self.saving.take().is_some() {
            self.shard.write().note_repeats(false);
        }
    }

    fn is_clear(&self) -> bool {
        self.due.is_none() && self.saving.is_none()
    }

    /// Writes a piece of the checkpoint that is under way.
    fn turn(&mut self, stopping: bool) -> Turn {
        let turn = self.saving.as_mut().map_or(Turn::Over, |saving| saving.turn(&self.shard, stopping));
        if turn == Turn::Over && self.saving.take().is_some() {
            let mut shard = self.shard.write();
            shard.note_repeats(false);
            shard.note_sliced(false);
        }
        turn
    }
}

impl Inputs {
    /// Epoch up to which everything has happened, given that `fed` is the last one taken in.
    fn completed(&self, fed: u64) -> u64 {
        // The frontier holds the first time that may still see something: one more than what is complete.
        self.probe.with_frontier(|frontier| frontier.first().map_or(fed, |next| next.saturating_sub(1)))
    }

    /// Puts in which rollups come and go, at the epoch that the inputs are at.
    fn change_rollups(&mut self, change: &RollupChange) {
        if !change.is_empty() {
            self.controls.send(Control::Rollups(change.clone()));
        }
    }

    /// Puts in the windows of the rules to begin with, where there was no snapshot; gives all rollups there are then.
    fn begin_rollups(&mut self, groups: &Groups, rules: &RuleChange, plan: &Plan) -> Vec<(u32, Arc<Rollup>)> {
        let mut rollups: Vec<(u32, Arc<Rollup>)> =
            groups.rollups().map(|(number, rollup)| (number, rollup.clone())).collect();
        let mut first = rules.rollups(plan.windows.lateness_ns);
        first.added.retain(|(number, _)| rollups.iter().all(|(known, _)| known != number));
        self.change_rollups(&first);
        rollups.extend(first.added);
        rollups
    }

    /// Puts in what was bound, at the epoch that the inputs are at.
    fn bind(&mut self, mut bound: Vec<Control>) {
        if !bound.is_empty() {
            self.controls.send_batch(&mut bound);
        }
    }

    /// Takes in this worker's share of the epoch that the inputs are at, and closes it. Returns the number of samples.
    fn feed(&mut self, epoch: &Epoch, index: usize, sorter: &mut Sorter) -> u64 {
        self.controls.send(Control::Seal { arrival_ns: epoch.arrival_ns, floor_ns: epoch.floor_ns });
        let share = epoch.share(index, sorter.workers());
        let len = share.len() as u64;
        let mut send = |parcel| self.samples.send(parcel);
        epoch.slices(share, |at, slice| {
            for (sample, position) in slice.iter().zip(at as u32..) {
                let seq = position | (sample.seq & DEDUP);
                sorter.push(Sample { seq, ..*sample }, &mut send);
            }
        });
        sorter.finish(&mut send);
        self.advance_to(epoch.number + 1);
        len
    }

    fn advance_to(&mut self, epoch: u64) {
        self.samples.advance_to(epoch);
        self.controls.advance_to(epoch);
    }

    fn close(self) {
        self.samples.close();
        self.controls.close();
    }
}

impl Bindings {
    /// Puts in the rules and the series there are, behind `epoch`, and gives what that binds.
    fn begin(
        &mut self,
        worker: &mut Worker,
        rules: &RuleChange,
        rollups: Vec<(u32, Arc<Rollup>)>,
        entries: &[Entry],
        epoch: u64,
    ) -> Vec<Control> {
        self.advance_to(epoch);
        self.change_rules(worker, rules);
        self.change(worker, &RollupChange { removed: Vec::new(), added: rollups });
        self.insert(worker, entries);
        self.finish(worker, epoch)
    }

    /// The rollups that come and go with an epoch: its own, and the windows of its rules.
    fn rollups_of(&self, epoch: &Epoch, plan: &Plan) -> RollupChange {
        let mut change = epoch.rollups.clone();
        if let Some(rules) = &epoch.rules {
            let is_there = |number: &u32| self.scopes.contains_key(number);
            let of_rules = rules.rollups(plan.windows.lateness_ns);
            change.removed.extend(of_rules.removed.into_iter().filter(is_there));
            // A rule that only has other texts keeps its windows as they are.
            change.added.extend(of_rules.added.into_iter().filter(|(number, _)| !is_there(number)));
        }
        change
    }

    /// Gives what an epoch binds: nothing, at no cost, unless it brings entries, rules or rollups, which all workers see
    /// alike.
    fn resolve(&mut self, worker: &mut Worker, epoch: &Epoch, rollups: &RollupChange) -> Vec<Control> {
        if epoch.entries.is_empty() && epoch.rules.is_none() && rollups.is_empty() {
            return Vec::new();
        }
        self.advance_to(epoch.number);
        let mut controls = Vec::new();
        if let Some(rules) = &epoch.rules {
            self.change_rules(worker, rules);
            controls.push(Control::Rules(rules.clone()));
        }
        self.change(worker, rollups);
        self.insert(worker, &epoch.entries);
        controls.append(&mut self.finish(worker, epoch.number));
        controls
    }

    /// Takes rules out and puts others in. A rule that only has other texts stays.
    fn change_rules(&mut self, worker: &Worker, rules: &RuleChange) {
        let first = worker.index() == 0;
        for gone in rules.removed.iter().filter_map(|number| self.watching.remove(number)) {
            if first {
                self.rules.remove(gone);
            }
        }
        // What goes by windows is bound by its rollup.
        for (number, rule) in rules.added.iter().filter(|(_, rule)| !rule.signal.is_window()) {
            let scope =
                RuleScope { rule: *number, metric: rule.metric.clone(), matcher: rule.matcher.clone() };
            self.join(join_key(&rule.metric));
            let before = self.watching.insert(*number, scope.clone());
            if first && before.as_ref() != Some(&scope) {
                before.into_iter().for_each(|before| self.rules.remove(before));
                self.rules.insert(scope);
            }
        }
    }

    /// Has entries of a key come in, those that none was interested in before among them.
    fn join(&mut self, key: u64) {
        self.joined.insert(key);
        for (metric, entries) in self.aside.remove(&key).into_iter().flatten() {
            for (id, target) in entries {
                self.entries.insert((id, SeriesKey { target, metric: metric.clone() }));
            }
        }
    }

    /// Takes rollups out and puts others in.
    fn change(&mut self, worker: &Worker, change: &RollupChange) {
        for scope in change.removed.iter().filter_map(|number| self.scopes.remove(number)).flatten() {
            if worker.index() == 0 {
                self.rollups.remove(scope);
            }
        }
        for (number, rollup) in &change.added {
            let scopes = RollupScope::of(*number, rollup);
            for scope in &scopes {
                self.join(join_key(&scope.metric));
                if worker.index() == 0 {
                    self.rollups.insert(scope.clone());
                }
            }
            self.scopes.insert(*number, scopes);
        }
    }

    /// Puts in what this worker's share of `entries` has for any rule or rollup. In the join, the rest would only take
    /// memory.
    fn insert(&mut self, worker: &Worker, entries: &[Entry]) {
        for entry in entries.iter().skip(worker.index()).step_by(worker.peers()) {
            let SeriesKey { target, metric } = &entry.key;
            let key = join_key(metric);
            if self.joined.contains(&key) {
                self.entries.insert((entry.id, entry.key.clone()));
            } else {
                let of_key = self.aside.entry(key).or_default();
                of_key.entry(metric.clone()).or_default().push((entry.id, target.clone()));
            }
        }
    }

    /// Waits until all workers have put in theirs of `epoch`. None can wait for another epoch meanwhile: they take
    /// epochs in the same order, and a step moves the samples of earlier ones too.
    fn finish(&mut self, worker: &mut Worker, epoch: u64) -> Vec<Control> {
        self.advance_to(epoch + 1);
        while self.probe.less_than(&(epoch + 1)) {
            worker.step_or_park(Some(PARK_FULL));
        }
        self.bound.take()
    }

    fn advance_to(&mut self, epoch: u64) {
        self.entries.advance_to(epoch);
        self.entries.flush();
        self.rules.advance_to(epoch);
        self.rules.flush();
        self.rollups.advance_to(epoch);
        self.rollups.flush();
    }

    fn close(self) {
        self.entries.close();
        self.rules.close();
        self.rollups.close();
    }
}
