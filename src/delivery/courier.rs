//! The sink's side of a delivery: everything but the waiting, as steps that are given the time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{Batch, Shared};
use crate::sinks::{Sink, SinkError};

/// Takes batches out of the queue and moves them into the sink.
pub(super) struct Courier {
    sink: Box<dyn Sink>,
    pub(super) shared: Arc<Shared>,
    /// Taken out of the queue and not yet by the sink.
    held: Option<Batch>,
    /// Samples written and not yet durable, and when the first of them came.
    written: u64,
    written_came: Option<Instant>,
    next_flush: Instant,
    /// Nothing is tried before this; after a failure.
    not_before: Option<Instant>,
    failures: u32,
    /// Nothing more comes; only the deadline counts.
    ending: bool,
}

/// What the courier wants next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// To be moved on at once.
    Now,
    /// To be moved on at this time, or when something came.
    At(Instant),
    /// To be moved on at this time; what comes changes nothing.
    NotBefore(Instant),
    /// Nothing: it has ended.
    Never,
}

/// While stopping, pauses are no longer than this.
const LAST_TRIES_EVERY: Duration = Duration::from_millis(50);

impl Courier {
    pub(super) fn new(sink: Box<dyn Sink>, shared: Arc<Shared>, now: Instant) -> Self {
        let next_flush = now + shared.config.flush_interval;
        Courier {
            sink,
            shared,
            held: None,
            written: 0,
            written_came: None,
            next_flush,
            not_before: None,
            failures: 0,
            ending: false,
        }
    }

    /// Does the next thing: one write or one flush.
    pub(super) fn step(&mut self, now: Instant) -> Next {
        let deadline = self.shared.queue.lock().deadline;
        if deadline.is_some() && !std::mem::replace(&mut self.ending, true) {
            self.not_before = None;
        }
        if deadline.is_some_and(|deadline| now >= deadline) {
            return self.end(now);
        }
        if let Some(at) = self.not_before.filter(|at| now < *at) {
            return Next::NotBefore(deadline.map_or(at, |deadline| at.min(deadline)));
        }
        if now < self.next_flush && self.take() {
            self.write(now);
            return Next::Now;
        }
        if now >= self.next_flush {
            self.flush(now);
            return Next::Now;
        }
        if !self.ending {
            return Next::At(self.next_flush);
        }
        // The queue is empty and takes nothing more.
        match self.flush(now) {
            true => Next::Never,
            false => Next::Now,
        }
    }

    /// The deadline is over: one last try for what the sink has already.
    fn end(&mut self, now: Instant) -> Next {
        if self.written > 0 {
            self.flush(now);
        }
        Next::Never
    }

    /// Gets hold of a batch; says whether there is one.
    fn take(&mut self) -> bool {
        if self.held.is_some() {
            return true;
        }
        let mut queue = self.shared.queue.lock();
        let Some(mut batch) = queue.batches.pop_front() else { return false };
        while let Some(more) = queue.batches.front() {
            if batch.samples + more.samples > self.shared.config.batch_samples {
                break;
            }
            let Some(mut more) = queue.batches.pop_front() else { break };
            batch.messages.append(&mut more.messages);
            batch.samples += more.samples;
            batch.bytes += more.bytes;
        }
        self.held = Some(batch);
        true
    }

    fn write(&mut self, now: Instant) {
        let Some(batch) = self.held.take() else { return };
        let counters = &self.shared.counters;
        match self.sink.write(&batch.messages) {
            Ok(()) => {
                counters.written.fetch_add(batch.samples, Relaxed);
                self.written += batch.samples;
                self.written_came.get_or_insert(batch.came);
                self.leave_queue(&batch);
                self.succeeded(now);
            }
            Err(SinkError::Retry { why, after }) => {
                self.held = Some(batch);
                self.failed(now, &why, after);
            }
            Err(error) => {
                counters.failed.fetch_add(batch.samples, Relaxed);
                counters.poison_batches.fetch_add(1, Relaxed);
                tracing::warn!(samples = batch.samples, %error, "sink refused a batch, which is given up");
                self.leave_queue(&batch);
                self.succeeded(now);
            }
        }
    }

    /// Says whether it succeeded.
    fn flush(&mut self, now: Instant) -> bool {
        match self.sink.flush(0) {
            Ok(()) => {
                self.shared.counters.delivered.fetch_add(std::mem::take(&mut self.written), Relaxed);
                self.written_came = None;
                self.next_flush = now + self.shared.config.flush_interval;
                self.succeeded(now);
                true
            }
            Err(error) => {
                let after = match &error {
                    SinkError::Retry { after, .. } => *after,
                    _ => None,
                };
                // The flush is what has to succeed first.
                self.next_flush = now;
                self.failed(now, &error.to_string(), after);
                false
            }
        }
    }

    fn leave_queue(&self, batch: &Batch) {
        let mut queue = self.shared.queue.lock();
        queue.samples -= batch.samples;
        queue.bytes -= batch.bytes;
    }

    fn succeeded(&mut self, now: Instant) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("sink works again");
        }
        self.show(now, None);
    }

    fn failed(&mut self, now: Instant, why: &str, after: Option<Duration>) {
        let config = &self.shared.config;
        let doubled = config.retry_min.saturating_mul(1 << self.failures.min(20)).min(config.retry_max);
        let pause = doubled.max(after.unwrap_or_default());
        let pause = if self.ending { pause.min(LAST_TRIES_EVERY) } else { pause };
        if self.failures == 0 {
            tracing::warn!(error = why, "sink does not take samples; trying again");
        }
        self.failures += 1;
        self.shared.counters.retried.fetch_add(1, Relaxed);
        self.show(now, Some(why));
        self.not_before = Some(now + pause);
    }

    /// Puts the state of the sink where everybody can see it.
    fn show(&self, now: Instant, wrong: Option<&str>) {
        let mut status = self.sink.status();
        if let Some(why) = wrong {
            status.error(why);
        }
        let oldest = self.written_came.or(self.held.as_ref().map(|batch| batch.came));
        status.lag_seconds = oldest.map_or(0.0, |came| now.saturating_duration_since(came).as_secs_f64());
        *self.shared.status.lock() = status;
    }
}
