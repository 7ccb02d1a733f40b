//! All that a delivery does, but for the waiting: steps that are given the time.
//!
//! Each step is one read, one write, one dead letter or one flush. A flush comes only between loads, so
//! that what it makes durable is whole epochs: a sink that keeps the cursor inside its own data never has
//! half an epoch that it would get again. So a load of which the sink has taken some is never flushed,
//! and one of which it has taken nothing is not in the way.
//!
//! Spans of time begin with the step after the one that asked for them: a write that hung for a minute is
//! followed by a pause all the same.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::load::{Left, Load};
use super::source::Source;
use super::{CursorStore, DeadLetters, DeliveryConfig, Moment, Shared, Stored};
use crate::sinks::{Position, Sink, SinkError};

/// Moves epochs from the log into the sink.
pub(super) struct Courier {
    sink: Box<dyn Sink>,
    source: Box<dyn Source>,
    cursor: CursorStore,
    letters: DeadLetters,
    config: DeliveryConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) load: Load,
    /// Every sample up to this epoch was taken or dead-lettered.
    position: Position,
    /// Samples taken and not yet durable.
    written: u64,
    /// No epoch is known to have been read before the next: what is missing there was never ours.
    first_read: bool,
    /// The log's end was not seen since there was something new.
    more: bool,
    /// Unset: to be counted from the next step on.
    next_flush: Option<Instant>,
    next_read: Wait,
    next_look: Option<Instant>,
    pause: Option<Pause>,
    backoff: Backoff,
    /// What failed last and has not succeeded since, and why.
    trouble: Option<(Deed, String)>,
    refused_in_row: u64,
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
    /// Nothing: it has ended.
    Never,
}

enum Wait {
    No,
    /// To be counted from the next step on.
    Begin,
    Until(Instant),
}

/// Nothing is tried before it is over.
struct Pause {
    lasts: Duration,
    until: Option<Instant>,
    /// The target asked for it, or is in doubt: the end does not cut it short.
    firm: bool,
}

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Read,
    Write,
    Letter,
    Flush,
}

/// While stopping, pauses are no longer than this.
const LAST_TRIES_EVERY: Duration = Duration::from_millis(50);

/// The lag is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A flush that is always due would leave no time for anything else.
const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(1);

impl Courier {
    pub(super) fn new(
        sink: Box<dyn Sink>,
        source: Box<dyn Source>,
        cursor: CursorStore,
        letters: DeadLetters,
        config: DeliveryConfig,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let (position, first_read) = match sink.cursor() {
            Some(position) => (position, false),
            None => match cursor.load()? {
                Stored::At(position) => (position, false),
                Stored::Nothing => (config.start_after, true),
                Stored::Damaged(why) => {
                    tracing::warn!(delivery = %shared.name, why, "cursor is damaged; starting from the oldest epoch");
                    shared.counters.damaged_cursors.fetch_add(1, Relaxed);
                    (0, true)
                }
            },
        };
        shared.durable.store(position, Release);
        let mut courier = Courier {
            backoff: Backoff::new(&config),
            sink,
            source,
            cursor,
            letters,
            config,
            shared,
            load: Load::default(),
            position,
            written: 0,
            first_read,
            more: true,
            next_flush: None,
            next_read: Wait::No,
            next_look: None,
            pause: None,
            trouble: None,
            refused_in_row: 0,
            ending: false,
        };
        courier.look();
        Ok(courier)
    }

    /// Does the next thing.
    pub(super) fn step(&mut self, now: Moment) -> Next {
        let deadline = *self.shared.deadline.lock();
        if deadline.is_some() && !std::mem::replace(&mut self.ending, true) {
            self.pause.take_if(|pause| !pause.firm);
            (self.more, self.next_read) = (true, Wait::No);
        }
        let interval = self.config.flush_interval.max(FLUSH_INTERVAL_MIN);
        let next_flush = *self.next_flush.get_or_insert(now.at + interval);
        if now.at >= *self.next_look.get_or_insert(now.at + LOOK_EVERY) {
            self.look();
        }
        let paused = self.pause.as_mut().map(|pause| *pause.until.get_or_insert(now.at + pause.lasts));
        let too_late = |deadline| now.at >= deadline || paused.is_some_and(|until| until >= deadline);
        if deadline.is_some_and(too_late) {
            return self.end();
        }
        if let Some(until) = paused.filter(|until| now.at < *until) {
            return Next::At(until.min(self.next_look.unwrap_or(until)));
        }
        self.pause = None;
        self.work(now, now.at >= next_flush).unwrap_or_else(|| self.rest(next_flush))
    }

    /// The next thing to do, in the order of its weight; none when there is nothing.
    fn work(&mut self, now: Moment, due: bool) -> Option<Next> {
        let idle = self.load.samples() == 0;
        if due
            && !self.load.begun()
            && (idle || self.trouble.as_ref().is_some_and(|(deed, _)| *deed != Deed::Read))
        {
            self.flush();
        } else if self.load.on_its_way() {
            self.deliver(now);
        } else if due || self.load.samples() >= self.config.batch_samples {
            self.load.cut(self.config.batch_samples);
        } else if self.reads(now) {
            self.read();
        } else if self.ending && !idle {
            self.load.cut(self.config.batch_samples);
        } else if self.ending {
            // Everything was read and written.
            if self.flush() {
                self.shared.complete.store(true, Release);
                return Some(Next::Never);
            }
        } else {
            return None;
        }
        Some(Next::Now)
    }

    /// There is nothing to do until the flush, or until the log is looked at again.
    fn rest(&mut self, next_flush: Instant) -> Next {
        let next_read = match self.next_read {
            Wait::Until(at) => Some(at),
            _ => None,
        };
        let soonest = [next_read, self.next_look].into_iter().flatten().min();
        Next::At(soonest.map_or(next_flush, |at| at.min(next_flush)))
    }

    /// The deadline is over: one last try for what the sink has already.
    fn end(&mut self) -> Next {
        if !self.load.begun() && self.position > self.shared.durable.load(Relaxed) {
            self.flush();
        }
        self.look();
        Next::Never
    }

    /// Whether to look into the log now.
    fn reads(&mut self, now: Moment) -> bool {
        if let Wait::Begin = self.next_read {
            self.next_read = Wait::Until(now.at + self.config.gather);
        }
        if let Wait::Until(at) = self.next_read {
            if now.at < at {
                return false;
            }
            self.next_read = Wait::No;
        }
        self.more |= self.shared.fresh.swap(false, AcqRel);
        self.more
    }

    fn read(&mut self) {
        let after = self.position.max(self.load.upto());
        // Less than is wanted is still to be gathered: that was asked before.
        let wanted = self.config.batch_samples.saturating_sub(self.load.samples()).max(1);
        match self.source.next(after, wanted) {
            Ok(Some(stretch)) => {
                let counters = &self.shared.counters;
                if !std::mem::take(&mut self.first_read) && stretch.missed_epochs > 0 {
                    let (delivery, epochs) = (&self.shared.name, stretch.missed_epochs);
                    tracing::warn!(%delivery, epochs, after, "the log lost epochs before they were delivered");
                    counters.missed_epochs.fetch_add(stretch.missed_epochs, Relaxed);
                }
                let before = self.load.samples();
                self.shared.shown.lock().lag.since_ns.get_or_insert(stretch.arrival_ns);
                self.load.gather(stretch);
                counters.read.fetch_add(self.load.samples() - before, Relaxed);
                if self.load.samples() == 0 {
                    self.finish();
                }
                self.succeeded(Deed::Read);
            }
            Ok(None) => {
                self.more = false;
                // At the end nothing more is waited for.
                self.next_read = if self.ending { Wait::No } else { Wait::Begin };
                self.succeeded(Deed::Read);
            }
            // What was read before goes first.
            Err(_) if self.load.samples() > 0 => self.load.cut(self.config.batch_samples),
            Err(error) => self.failed(Deed::Read, &format!("log: {error}"), None),
        }
    }

    /// One write, or one dead letter.
    fn deliver(&mut self, now: Moment) {
        let counters = &self.shared.counters;
        match self.load.left() {
            Some(Left::Write(messages, samples)) => match self.sink.write(&messages) {
                Ok(()) => {
                    counters.written.fetch_add(samples, Relaxed);
                    self.written += samples;
                    self.load.taken();
                    self.refused_in_row = 0;
                    self.succeeded(Deed::Write);
                }
                Err(SinkError::Poison { why }) => self.refused(why, samples),
                Err(SinkError::Retry { why, after }) => self.failed(Deed::Write, &why, after),
                Err(SinkError::Unusable { why }) => self.failed(Deed::Write, &why, None),
            },
            Some(Left::Letter(sample, answer)) => {
                match self.letters.append(&self.shared.name, now.wall_ns, &sample, answer) {
                    Ok(()) => {
                        counters.dead_lettered.fetch_add(1, Relaxed);
                        counters.forgotten.store(self.letters.forgotten(), Relaxed);
                        self.load.lettered();
                        self.succeeded(Deed::Letter);
                    }
                    Err(error) => self.failed(Deed::Letter, &error.to_string(), None),
                }
            }
            None => {}
        }
        if self.load.done() {
            self.finish();
        }
    }

    /// The target refused `samples` for their content.
    fn refused(&mut self, answer: String, samples: u64) {
        self.shared.counters.refused_writes.fetch_add(1, Relaxed);
        if samples > 1 {
            return self.load.refused(answer);
        }
        if self.refused_in_row < self.config.refusals_max {
            if self.refused_in_row == 0 {
                tracing::warn!(delivery = %self.shared.name, answer, "sample refused for its content");
            }
            self.refused_in_row += 1;
            return self.load.refused(answer);
        }
        let max = std::mem::take(&mut self.refused_in_row);
        let why = format!(
            "{max} samples refused one after another and none taken, the next is offered again: {answer}"
        );
        self.wait(Deed::Write, &why, None, true);
    }

    /// Nothing of the load is left to be done.
    fn finish(&mut self) {
        self.position = self.load.upto();
        self.load = Load::default();
    }

    /// Makes the position durable; says whether it succeeded.
    fn flush(&mut self) -> bool {
        match self.try_flush() {
            Ok(()) => {
                self.shared.durable.store(self.position, Release);
                self.next_flush = None;
                // Should nobody have said that there is something new.
                self.more = true;
                self.look();
                self.succeeded(Deed::Flush);
                true
            }
            Err((why, after)) => {
                self.failed(Deed::Flush, &why, after);
                false
            }
        }
    }

    /// Dead letters, samples, cursor: in this order, so that whatever the cursor has passed is somewhere.
    fn try_flush(&mut self) -> Result<(), (String, Option<Duration>)> {
        self.letters.sync().map_err(|error| (error.to_string(), None))?;
        self.sink.flush(self.position).map_err(|error| match error {
            SinkError::Retry { why, after } => (why, after),
            other => (other.to_string(), None),
        })?;
        self.shared.counters.delivered.fetch_add(std::mem::take(&mut self.written), Relaxed);
        if self.position != self.shared.durable.load(Relaxed) {
            self.cursor.store(self.position).map_err(|error| (error.to_string(), None))?;
        }
        Ok(())
    }

    fn succeeded(&mut self, deed: Deed) {
        if self.trouble.take_if(|(failed, _)| *failed == deed).is_some() {
            self.backoff.reset();
            tracing::info!(delivery = %self.shared.name, "sink works again");
        }
        self.show();
    }

    fn failed(&mut self, deed: Deed, why: &str, after: Option<Duration>) {
        self.wait(deed, why, after, after.is_some());
    }

    fn wait(&mut self, deed: Deed, why: &str, after: Option<Duration>, firm: bool) {
        let lasts = self.backoff.pause(after);
        let lasts = if self.ending && !firm { lasts.min(LAST_TRIES_EVERY) } else { lasts };
        if self.trouble.replace((deed, why.into())).is_none() {
            tracing::warn!(delivery = %self.shared.name, error = why, "sink does not take samples; trying again");
        }
        self.shared.counters.retried.fetch_add(1, Relaxed);
        self.pause = Some(Pause { lasts, until: None, firm });
        self.show();
    }

    /// Puts the state of the sink where everybody can see it.
    fn show(&self) {
        let mut status = self.sink.status();
        if let Some((_, why)) = &self.trouble {
            status.error(why);
        }
        let mut shown = self.shared.shown.lock();
        shown.status = status;
        shown.lag_samples = self.written + self.load.samples();
    }

    /// Looks how far it is behind.
    fn look(&mut self) {
        self.next_look = None;
        let lag = self.source.lag(self.shared.durable.load(Relaxed));
        let dead_letter_bytes = self.letters.bytes();
        let mut shown = self.shared.shown.lock();
        (shown.lag, shown.dead_letter_bytes) = (lag, dead_letter_bytes);
    }
}
