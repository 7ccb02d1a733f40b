//! The engine handle: start, submit epochs, wait for them, stop.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::Thread;

use operators::window::Shard;
use parking_lot::{Condvar, Mutex, RwLock};
use timely::communication::WorkerGuards;

use crate::command::Command;
use crate::epoch::SharedEpoch;
use crate::graph::Outbox;
use crate::plan::Plan;
use crate::recent::Recent;
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
    fn new(workers: usize, listener: Box<dyn Fn(u64) + Send + Sync>) -> Progress {
        let done = Mutex::new(Done { workers: vec![0; workers], everywhere: 0 });
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

/// What the engine calls back, on worker threads. Neither may block.
pub struct Callbacks {
    /// An epoch is complete on all workers: visible to queries.
    pub progress: Box<dyn Fn(u64) + Send + Sync>,
    /// Alert transitions.
    pub outbox: Outbox,
}

impl Default for Callbacks {
    fn default() -> Self {
        Callbacks { progress: Box::new(|_| {}), outbox: Arc::new(|_| {}) }
    }
}

/// The running engine. Dropping it without [`Engine::stop`] stops it too.
pub struct Engine {
    plan: Plan,
    senders: Vec<SyncSender<Command>>,
    threads: Vec<Thread>,
    shards: Arc<[Arc<RwLock<Shard>>]>,
    loads: Vec<Arc<Load>>,
    progress: Arc<Progress>,
    recent: Recent,
    guards: Mutex<Option<WorkerGuards<()>>>,
}

impl Engine {
    /// Starts the workers.
    ///
    /// # Errors
    /// If the plan is not sound or threads can't be started.
    pub fn start(plan: Plan, callbacks: Callbacks) -> Result<Engine, String> {
        plan.check()?;
        let windows = Arc::new(plan.windows.clone());
        let shards: Arc<[_]> = (0..plan.workers)
            .map(|_| Arc::new(RwLock::new(Shard::new(windows.clone(), plan.workers))))
            .collect();
        let progress = Arc::new(Progress::new(plan.workers, callbacks.progress));
        let loads: Vec<Arc<Load>> = (0..plan.workers).map(|_| Arc::default()).collect();
        let mut senders = Vec::new();
        let seats: Vec<Mutex<Option<Seat>>> = (0..plan.workers)
            .map(|index| {
                let (sender, commands) = sync_channel(plan.epochs_queued_max);
                senders.push(sender);
                let shard = shards[index].clone();
                let (outbox, progress, load) =
                    (callbacks.outbox.clone(), progress.clone(), loads[index].clone());
                Mutex::new(Some(Seat { commands, shard, outbox, progress, load }))
            })
            .collect();
        let (greeting, greetings) = sync_channel(plan.workers);
        let worker_plan = plan.clone();
        let guards = timely::execute(timely::Config::process(plan.workers), move |worker| {
            let index = worker.index();
            // The receiver lives until all workers have said who they are.
            let _ = greeting.send((index, std::thread::current()));
            if let Some(seat) = seats[index].lock().take() {
                worker::run(worker, &worker_plan, seat);
            }
        })?;
        let mut threads: Vec<(usize, Thread)> = greetings.iter().take(plan.workers).collect();
        threads.sort_by_key(|(index, _)| *index);
        let threads = threads.into_iter().map(|(_, thread)| thread).collect();
        let recent = Recent::new(plan.recent_bytes);
        Ok(Engine {
            plan,
            senders,
            threads,
            shards,
            loads,
            progress,
            recent,
            guards: Mutex::new(Some(guards)),
        })
    }

    /// Hands an epoch to all workers. Epochs must be numbered 1, 2, 3, ... and come from one thread.
    /// Waits while a worker's queue is full: the caller is the one place that can hold input back.
    pub fn submit(&self, epoch: SharedEpoch) {
        self.recent.push(epoch.clone());
        for (sender, thread) in self.senders.iter().zip(&self.threads) {
            if let Err(TrySendError::Full(command)) = sender.try_send(Command::Epoch(epoch.clone())) {
                thread.unpark();
                // A worker that is gone took the process with it, or the engine is being stopped.
                let _ = sender.send(command);
            }
            thread.unpark();
        }
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

    /// Load figures, one per worker.
    pub fn loads(&self) -> &[Arc<Load>] {
        &self.loads
    }

    /// Raw samples in memory.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// What it runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Finishes every epoch submitted and ends the workers.
    pub fn stop(&self) {
        let guards = self.guards.lock().take();
        if let Some(guards) = guards {
            for (sender, thread) in self.senders.iter().zip(&self.threads) {
                let _ = sender.send(Command::Stop);
                thread.unpark();
            }
            drop(guards);
        }
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
