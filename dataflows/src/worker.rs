//! A worker: one loop, one match.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use operators::binding::RuleScope;
use operators::sample::Sample;
use operators::window::{Control, Shard};
use parking_lot::RwLock;
use timely::worker::Worker;

use crate::command::Command;
use crate::engine::Progress;
use crate::epoch::Epoch;
use crate::graph::{self, Inputs, Outbox};
use crate::plan::Plan;

/// Samples handed to the exchange at a time.
const CHUNK_LEN: usize = 1024;
/// Epochs inside the graph at a time; more only cost memory.
const EPOCHS_INSIDE_MAX: u64 = 4;

/// What a worker did, for telemetry.
#[derive(Debug, Default)]
pub struct Load {
    /// Nanoseconds spent stepping and feeding.
    pub busy_ns: AtomicU64,
    /// Samples fed into the exchange by this worker.
    pub fed: AtomicU64,
    /// Samples that came behind the alert machines of their series, and did not change them.
    pub alerts_late: Arc<AtomicU64>,
}

/// Everything a worker is given.
pub struct Seat {
    /// Where commands come from.
    pub commands: Receiver<Command>,
    /// The shard it owns.
    pub shard: Arc<RwLock<Shard>>,
    /// Where its alerts go.
    pub outbox: Outbox,
    /// Where it says how far it is.
    pub progress: Arc<Progress>,
    /// Its load figures.
    pub load: Arc<Load>,
}

/// Runs until told to stop or until nobody can tell it anything any more.
pub fn run(worker: &mut Worker, plan: &Plan, seat: Seat) {
    let (index, peers) = (worker.index(), worker.peers());
    let Seat { commands, shard, outbox, progress, load } = seat;
    let late = load.alerts_late.clone();
    let mut inputs = worker.dataflow::<u64, _, _>(|scope| graph::build(scope, plan, shard, outbox, late));
    if index == 0 {
        inputs.add_rules(plan);
    }
    let (mut fed, mut done, mut stopping) = (0, 0, false);
    loop {
        let began = Instant::now();
        let mut idle = true;
        while !stopping && fed - done < EPOCHS_INSIDE_MAX {
            match commands.try_recv() {
                Ok(Command::Epoch(epoch)) => {
                    fed = epoch.number;
                    load.fed.fetch_add(inputs.feed(&epoch, index, peers), Ordering::Relaxed);
                    idle = false;
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => stopping = true,
                Err(TryRecvError::Empty) => break,
            }
        }
        worker.step();
        if inputs.completed(fed) > done {
            done = inputs.completed(fed);
            progress.completed(index, done);
            idle = false;
        }
        load.busy_ns.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        if stopping && done == fed {
            break;
        }
        if idle {
            worker.step_or_park(Some(Duration::from_millis(20)));
        }
    }
    inputs.close();
    while worker.has_dataflows() {
        worker.step_or_park(Some(Duration::from_millis(1)));
    }
}

impl Inputs {
    /// Epoch up to which everything has happened, given that `fed` is the last one taken in.
    fn completed(&self, fed: u64) -> u64 {
        // The frontier holds the first time that may still see something: one more than what is complete.
        self.probe.with_frontier(|frontier| frontier.first().map_or(fed, |next| next.saturating_sub(1)))
    }

    fn add_rules(&mut self, plan: &Plan) {
        for (number, rule) in plan.rules.iter().enumerate() {
            let scope =
                RuleScope { rule: number as u32, metric: rule.metric.clone(), matcher: rule.matcher.clone() };
            self.rules.insert(scope);
        }
    }

    /// Takes in this worker's share of an epoch and closes it. Returns the number of samples.
    fn feed(&mut self, epoch: &Epoch, index: usize, peers: usize) -> u64 {
        // Inputs begin at epoch 0, where the rules are; the first real epoch is 1.
        self.advance_to(epoch.number);
        self.controls.send(Control::Seal { arrival_ns: epoch.arrival_ns, floor_ns: epoch.floor_ns });
        let share = epoch.share(index, peers);
        let len = share.len() as u64;
        epoch.slices(share, |at, slice| {
            let mut position = at as u32;
            for part in slice.chunks(CHUNK_LEN) {
                let mut chunk: Vec<Sample> = Vec::with_capacity(part.len());
                chunk.extend(part.iter().map(|sample| {
                    let seq = position;
                    position += 1;
                    Sample { seq, ..*sample }
                }));
                self.samples.send_batch(&mut chunk);
            }
        });
        for entry in epoch.entries.iter().skip(index).step_by(peers) {
            self.entries.insert((entry.id, entry.key.clone()));
        }
        self.advance_to(epoch.number + 1);
        len
    }

    fn advance_to(&mut self, epoch: u64) {
        self.samples.advance_to(epoch);
        self.controls.advance_to(epoch);
        self.entries.advance_to(epoch);
        self.entries.flush();
        self.rules.advance_to(epoch);
        self.rules.flush();
    }

    fn close(self) {
        self.samples.close();
        self.controls.close();
        self.entries.close();
        self.rules.close();
    }
}
