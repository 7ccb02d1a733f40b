//! The engine handle: start, submit epochs, wait for them, stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::Thread;
use std::time::Duration;

use operators::alerts::AlertCounters;
use operators::rollup::binding::Directory;
use operators::rollup::{Groups, RollupChange};
use operators::rule::ROLLUP_OF_RULE;
use operators::sample::EPOCH_LEN_MAX;
use operators::window::Shard;
use parking_lot::{Condvar, Mutex, RwLock};
use timely::communication::WorkerGuards;

use crate::checkpoint::PartSink;
use crate::command::Command;
use crate::epoch::SharedEpoch;
use crate::graph::{Closed, Outbox, Rolled};
use crate::plan::Plan;
use crate::restore::{Restored, Snapshot};
use crate::worker::{self, Load, Seat};

/// How far the workers are, and who wants to know.
pub struct Progress {
    done: Mutex<Done>,
    changed: Condvar,
    /// Told of every new complete epoch, in order, on a worker's thread; must not block, nor ask the engine.
    listener: Box<dyn Fn(u64) + Send + Sync>,
}

/// Both under one lock: two workers that finish at the same moment must not both miss the other.
struct Done {
    /// Per worker, the last epoch complete on it.
    workers: Vec<u64>,
    /// Complete on all.
    everywhere: u64,
}

impl Progress {
    fn new(workers: usize, epoch: u64, listener: Box<dyn Fn(u64) + Send + Sync>) -> Progress {
        let done = Mutex::new(Done { workers: vec![epoch; workers], everywhere: epoch });
        Progress { done, changed: Condvar::new(), listener }
    }

    fn completed_everywhere(&self) -> u64 {
        self.done.lock().everywhere
    }

    pub(crate) fn completed(&self, index: usize, epoch: u64) {
        let mut done = self.done.lock();
        done.workers[index] = epoch;
        let everywhere = done.workers.iter().copied().min().unwrap_or(epoch);
        if everywhere > done.everywhere {
            done.everywhere = everywhere;
            self.changed.notify_all();
            (self.listener)(everywhere);
        }
    }
}

/// What the engine calls back, on worker threads. None may block.
pub struct Callbacks {
    /// An epoch is complete on all workers: visible to queries.
    pub progress: Box<dyn Fn(u64) + Send + Sync>,
    /// Alert transitions, with their epoch.
    pub outbox: Outbox,
    /// Closed windows.
    pub closed: Closed,
    /// Rows of rollups.
    pub rolled: Rolled,
}

impl Default for Callbacks {
    fn default() -> Self {
        Callbacks {
            progress: Box::new(|_| {}),
            outbox: Arc::new(|_, _| {}),
            closed: Arc::new(|_, _| {}),
            rolled: Arc::new(|_, _| {}),
        }
    }
}

/// The running engine. Dropping it without [`Engine::stop`] stops it too.
pub struct Engine {
    plan: Plan,
    senders: Vec<SyncSender<Command>>,
    threads: Vec<Thread>,
    shards: Arc<[Arc<RwLock<Shard>>]>,
    groups: Arc<[Arc<RwLock<Groups>>]>,
    directory: Arc<Directory>,
    loads: Vec<Arc<Load>>,
    progress: Arc<Progress>,
    /// The last epoch taken in.
    submitted: AtomicU64,
    /// The epoch from which on what it shows is right.
    exact_from: u64,
    restored: Restored,
    guards: Mutex<Option<WorkerGuards<()>>>,
}

impl Engine {
    /// Starts the workers, with nothing in them.
    ///
    /// # Errors
    /// If the plan is not sound or threads can't be started.
    pub fn start(plan: Plan, callbacks: Callbacks) -> Result<Engine, String> {
        Engine::start_from(Snapshot::new(plan, Vec::new())?, callbacks, 0)
    }

    /// Starts the workers with what a snapshot holds. Epochs from the one behind the snapshot's on must be
    /// submitted again, up to `log_end`, the last that the log has; what it shows is right from
    /// [`Engine::exact_from`] on.
    ///
    /// # Errors
    /// If parts are missing, the log does not reach as far as the snapshot, or threads can't be started.
    pub fn start_from(mut snapshot: Snapshot, callbacks: Callbacks, log_end: u64) -> Result<Engine, String> {
        let exact_from = snapshot.resume().map_err(|error| error.to_string())?;
        let epoch = snapshot.epoch();
        if exact_from > epoch.max(log_end) {
            return Err(format!("expected a log up to epoch {exact_from}, found its end at {log_end}"));
        }
        let Snapshot { plan, entries, shards, groups, machines, group_machines, rules, .. } = snapshot;
        let Snapshot { counters, restored, .. } = snapshot;
        let rules = Arc::new(rules);
        let shards: Arc<[_]> = shards.into_iter().map(|shard| Arc::new(RwLock::new(shard))).collect();
        let groups: Arc<[_]> = groups.into_iter().map(|groups| Arc::new(RwLock::new(groups))).collect();
        let directory = Arc::new(Directory::default());
        let progress = Arc::new(Progress::new(plan.workers, epoch, callbacks.progress));
        let load = |c: AlertCounters| Load { alerts_late: c.late, alerts_bound: c.bound, ..Load::default() };
        let loads: Vec<Arc<Load>> = counters.into_iter().map(load).map(Arc::new).collect();
        let mut senders = Vec::new();
        let seats: Vec<Mutex<Option<Seat>>> = machines
            .into_iter()
            .zip(group_machines)
            .enumerate()
            .map(|(index, (machines, group_machines))| {
                let (sender, commands) = sync_channel(plan.epochs_queued_max);
                senders.push(sender);
                let (shard, entries, rules) = (shards[index].clone(), entries.clone(), rules.clone());
                let seat = Seat {
                    commands,
                    shard,
                    groups: groups[index].clone(),
                    directory: directory.clone(),
                    machines,
                    group_machines,
                    rules,
                    entries,
                    epoch,
                    outbox: callbacks.outbox.clone(),
                    closed: callbacks.closed.clone(),
                    rolled: callbacks.rolled.clone(),
                    progress: progress.clone(),
                    load: loads[index].clone(),
                };
                Mutex::new(Some(seat))
            })
            .collect();
        drop(entries);
        let (begun, all_begun) = sync_channel(plan.workers);
        let worker_plan = plan.clone();
        let mut config = timely::Config::process(plan.workers);
        // To poll before parking pays where workers wait for each other in loops. Here each epoch has a few waits, and
        // polling through them took a tenth of the process's CPU with two workers, at 750 epochs a second.
        config.worker = config.worker.idle_spin(Duration::ZERO);
        let guards = timely::execute(config, move |worker| {
            let index = worker.index();
            if let Some(seat) = seats[index].lock().take() {
                worker::run(worker, &worker_plan, seat, &begun);
            }
        })?;
        // What it started from is bound then, and groups have their names: nobody sees it with less.
        let mut threads: Vec<(usize, Thread)> = all_begun.iter().take(plan.workers).collect();
        threads.sort_by_key(|(index, _)| *index);
        let threads = threads.into_iter().map(|(_, thread)| thread).collect();
        Ok(Engine {
            plan,
            senders,
            threads,
            shards,
            groups,
            directory,
            loads,
            progress,
            submitted: AtomicU64::new(epoch),
            exact_from,
            restored,
            guards: Mutex::new(Some(guards)),
        })
    }

    /// Hands an epoch to all workers. Epochs must be numbered upwards from 1, or from behind the snapshot's, and
    /// come from one thread; a number whose epoch was lost is left out.
    /// Waits while a worker's queue is full: the caller is the one place that can hold input back.
    ///
    /// # Panics
    /// If the epoch has more than [`EPOCH_LEN_MAX`] samples, 48 GiB of them: who seals epochs has a lower limit.
    pub fn submit(&self, epoch: SharedEpoch) {
        let len = epoch.len();
        assert!(len <= EPOCH_LEN_MAX, "expected at most {EPOCH_LEN_MAX} samples in an epoch, found {len}");
        self.submitted.store(epoch.number, Ordering::Relaxed);
        self.tell(|| Command::Epoch(epoch.clone()));
    }

    /// Has all workers write their state behind the last epoch submitted, whose number it gives, and goes on.
    /// To be called by the thread that submits. A checkpoint that is still being written is given up.
    ///
    /// `None`, and nothing is written, before [`Engine::exact_from`]: the snapshot it started from still serves.
    pub fn checkpoint(&self, sink: PartSink) -> Option<u64> {
        let epoch = self.submitted.load(Ordering::Relaxed);
        if epoch < self.exact_from {
            return None;
        }
        self.tell(|| Command::Checkpoint(sink.clone()));
        Some(epoch)
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for (sender, thread) in self.senders.iter().zip(&self.threads) {
            if let Err(TrySendError::Full(command)) = sender.try_send(command()) {
                thread.unpark();
                // A worker that is gone took the process with it, or the engine is being stopped.
                let _ = sender.send(command);
            }
            thread.unpark();
        }
    }

    /// The epoch from which on what it shows is right: that of its start, or the last as of which a part of
    /// the snapshot it started from was written.
    pub fn exact_from(&self) -> u64 {
        self.exact_from
    }

    /// What the snapshot held that it started from.
    pub fn restored(&self) -> Restored {
        self.restored
    }

    /// The last epoch complete on all workers.
    pub fn completed(&self) -> u64 {
        self.progress.completed_everywhere()
    }

    /// Waits until `epoch` is complete on all workers: for ever, if it was not submitted before [`Engine::stop`].
    pub fn wait_for(&self, epoch: u64) {
        let mut done = self.progress.done.lock();
        while done.everywhere < epoch {
            self.progress.changed.wait(&mut done);
        }
    }

    /// The shards, one per worker.
    pub fn shards(&self) -> &[Arc<RwLock<Shard>>] {
        &self.shards
    }

    /// The groups of rollups, one per worker.
    pub fn groups(&self) -> &[Arc<RwLock<Groups>>] {
        &self.groups
    }

    /// The rollups there are, as those that are added.
    pub fn rollups(&self) -> RollupChange {
        let groups = self.groups[0].read();
        let own = groups.rollups().filter(|(number, _)| number & ROLLUP_OF_RULE == 0);
        let added = own.map(|(number, rollup)| (number, rollup.clone())).collect();
        RollupChange { removed: Vec::new(), added }
    }

    /// What the groups of rollups are called.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Load figures, one per worker.
    pub fn loads(&self) -> &[Arc<Load>] {
        &self.loads
    }

    /// What it runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Finishes every epoch submitted and ends the workers.
    pub fn stop(&self) {
        self.end(None);
    }

    /// As [`Engine::stop`], but writes the state behind the last epoch, whose number it gives, before the workers
    /// end. Returns when `sink`, which must be drained meanwhile, has taken all or is gone. `None`, and nothing
    /// is written, where [`Engine::checkpoint`] would not, or when it was stopped before.
    pub fn stop_with_checkpoint(&self, sink: PartSink) -> Option<u64> {
        let epoch = self.submitted.load(Ordering::Relaxed);
        let exact = epoch >= self.exact_from;
        (self.end(Some(sink).filter(|_| exact)) && exact).then_some(epoch)
    }

    /// Whether it did not have an end already.
    fn end(&self, sink: Option<PartSink>) -> bool {
        let guards = self.guards.lock().take();
        let Some(guards) = guards else { return false };
        self.tell(|| Command::Stop(sink.clone()));
        // Else a sink that ends with its last holder would not end before the engine does.
        drop(sink);
        drop(guards);
        true
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Two workers that finish an epoch at the same moment must not both miss the other.
    #[test]
    fn the_last_worker_to_finish_an_epoch_says_so() {
        const EPOCHS: u64 = 50_000;
        let said = Arc::new(AtomicU64::new(0));
        let heard = said.clone();
        let progress = Progress::new(
            2,
            0,
            Box::new(move |epoch| {
                let before = heard.swap(epoch, Ordering::SeqCst);
                assert_eq!(before + 1, epoch, "in order, each once");
            }),
        );
        let turn: [AtomicU64; 2] = Default::default();
        std::thread::scope(|scope| {
            for index in 0..2 {
                let (progress, turn) = (&progress, &turn);
                scope.spawn(move || {
                    for epoch in 1..=EPOCHS {
                        // In step: both finish, then both look.
                        progress.completed(index, epoch);
                        turn[index].store(epoch, Ordering::SeqCst);
                        while turn[1 - index].load(Ordering::SeqCst) < epoch {
                            std::thread::yield_now();
                        }
                        assert!(progress.completed_everywhere() >= epoch, "nobody said epoch {epoch}");
                    }
                });
            }
        });
        assert_eq!(said.load(Ordering::SeqCst), EPOCHS);
    }
}
