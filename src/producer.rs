//! The producer: asks collectors at their interval and hands what they measured to whoever publishes it.
//!
//! ```text
//! tick ──► a thread for each collector ──► messages ──► documented JSON ──► Publish
//! ```
//! Ticks stand at whole multiples of the interval since the epoch, so that all hosts measure together
//! and nothing drifts; the first is taken at once. A collector that is still busy at its tick is left
//! alone, and the tick is counted as skipped. The producer knows no bus.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use operators::sample::TimeNs;
use tokio::sync::mpsc;

use crate::collectors::{CollectError, Collector};
use crate::message::Message;

/// Where messages go. Must not block: what it cannot take, it drops and counts.
pub trait Publish: Send {
    /// Takes one message: its topic, and its documented JSON.
    fn publish(&mut self, topic: &str, payload: &[u8]);
}

impl<F: FnMut(&str, &[u8]) + Send> Publish for F {
    fn publish(&mut self, topic: &str, payload: &[u8]) {
        self(topic, payload)
    }
}

/// How to produce.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// Time between two measures, for collectors without an interval of their own; at least a millisecond.
    pub interval: Duration,
    /// Time after which a collector that has not answered is logged and counted. What it measures
    /// is published when it does answer; its ticks until then are skipped.
    pub collect_timeout: Duration,
    /// What stands before the service in a topic.
    pub topic_prefix: String,
    /// Metrics in one published message, at most; a longer one goes in parts.
    pub metrics_max: usize,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        ProducerConfig {
            interval: Duration::from_secs(10),
            collect_timeout: Duration::from_secs(10),
            topic_prefix: "metrics.".into(),
            metrics_max: 100,
        }
    }
}

/// What the producer has done so far.
#[derive(Debug, Default)]
pub struct ProducerCounters {
    /// Measures asked for.
    pub ticks: AtomicU64,
    /// Measures not asked for, because the collector was busy or the process did not run.
    pub ticks_skipped: AtomicU64,
    /// Measures that took longer than the time-out.
    pub timeouts: AtomicU64,
    /// Measures that ended with an error, whatever they had gathered.
    pub failures: AtomicU64,
    /// Messages handed over.
    pub messages: AtomicU64,
    /// Samples in them.
    pub samples: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Collectors, ready to run.
pub struct Producer {
    config: ProducerConfig,
    seats: Vec<Seat>,
    answers: mpsc::Receiver<Answer>,
    counters: Arc<ProducerCounters>,
}

impl Producer {
    /// Gives each collector its thread.
    ///
    /// # Errors
    /// An interval under a millisecond, or a thread that the system does not grant.
    pub fn new(config: ProducerConfig, collectors: Vec<Box<dyn Collector>>) -> Result<Self, CollectError> {
        // One answer at most is on its way from each.
        let (answer, answers) = mpsc::channel(collectors.len().max(1));
        let mut seats = Vec::with_capacity(collectors.len());
        for (index, collector) in collectors.into_iter().enumerate() {
            let interval = collector.interval().unwrap_or(config.interval);
            let name = collector.name().to_string();
            let interval_ns = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
            if interval_ns < 1_000_000 {
                let reason = format!("{name}: expected an interval of at least 1 ms, found {interval:?}");
                return Err(CollectError::new(reason));
            }
            let ask = spawn(index, collector, answer.clone())?;
            let schedule = Schedule { interval_ns, next_ns: None };
            seats.push(Seat { name, ask, schedule, busy: None });
        }
        Ok(Producer { config, seats, answers, counters: Arc::default() })
    }

    /// What it has done so far; counts on while it runs.
    pub fn counters(&self) -> Arc<ProducerCounters> {
        Arc::clone(&self.counters)
    }

    /// Runs until `stop` is ready; what has been measured by then is still published. A collector that
    /// is busy then is not waited for; its thread ends when it does.
    pub async fn run(mut self, mut publish: impl Publish, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut payload = Vec::new();
        loop {
            let now_ns = clock_ns();
            self.ask_who_is_due(now_ns);
            let wait = self.next_wait(clock_ns());
            tokio::select! {
                () = &mut stop => break,
                Some(answer) = self.answers.recv() => self.take(answer, &mut publish, &mut payload),
                () = tokio::time::sleep(wait) => {}
            }
        }
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer, &mut publish, &mut payload);
        }
    }

    fn ask_who_is_due(&mut self, now_ns: TimeNs) {
        let timeout_ns = i64::try_from(self.config.collect_timeout.as_nanos()).unwrap_or(i64::MAX);
        for seat in &mut self.seats {
            if let Some(busy) = seat.busy.as_mut()
                && !busy.is_late
                && now_ns.saturating_sub(busy.since_ns) >= timeout_ns
            {
                busy.is_late = true;
                add(&self.counters.timeouts, 1);
                tracing::warn!(collector = seat.name, timeout = ?self.config.collect_timeout, "collector is late");
            }
            let Some(tick) = seat.schedule.due(now_ns) else { continue };
            add(&self.counters.ticks_skipped, tick.missed);
            // A seat that is not busy waits for its next question, so there is room for one.
            if seat.busy.is_none() && seat.ask.try_send(tick.time_ns).is_ok() {
                seat.busy = Some(Busy { since_ns: now_ns, is_late: false });
                add(&self.counters.ticks, 1);
            } else {
                add(&self.counters.ticks_skipped, 1);
            }
        }
    }

    /// Until the next tick or time-out; at most a second, so that a clock that is set is noticed.
    fn next_wait(&self, now_ns: TimeNs) -> Duration {
        let ticks = self.seats.iter().map(|seat| seat.schedule.next_ns.unwrap_or(now_ns));
        let timeout_ns = i64::try_from(self.config.collect_timeout.as_nanos()).unwrap_or(i64::MAX);
        let busy = self.seats.iter().filter_map(|seat| seat.busy.as_ref()).filter(|busy| !busy.is_late);
        let timeouts = busy.map(|busy| busy.since_ns.saturating_add(timeout_ns));
        let wait_ns = ticks.chain(timeouts).min().map_or(i64::MAX, |at_ns| at_ns.saturating_sub(now_ns));
        Duration::from_nanos(wait_ns.clamp(0, 1_000_000_000) as u64)
    }

    fn take(&mut self, answer: Answer, publish: &mut impl Publish, payload: &mut Vec<u8>) {
        let seat = &mut self.seats[answer.index];
        seat.busy = None;
        let messages = answer.result.unwrap_or_else(|error| {
            add(&self.counters.failures, 1);
            tracing::warn!(collector = seat.name, "{error}");
            error.gathered
        });
        for message in messages {
            let topic = format!("{}{}", self.config.topic_prefix, message.target.service);
            for metrics in message.metrics.chunks(self.config.metrics_max.max(1)) {
                let samples = metrics.iter().filter(|(_, value)| value.is_finite()).count();
                if samples == 0 {
                    continue;
                }
                payload.clear();
                let part = Message { metrics: metrics.to_vec(), target: message.target.clone(), ..message };
                part.write_json(payload);
                publish.publish(&topic, payload);
                add(&self.counters.messages, 1);
                add(&self.counters.samples, samples as u64);
            }
        }
    }
}

/// A collector's place: how to ask its thread, and when.
struct Seat {
    name: String,
    ask: SyncSender<TimeNs>,
    schedule: Schedule,
    busy: Option<Busy>,
}

struct Busy {
    since_ns: TimeNs,
    is_late: bool,
}

struct Answer {
    index: usize,
    result: Result<Vec<Message>, CollectError>,
}

/// The thread of one collector. It is not waited for at the end, since a collector may hang for ever.
fn spawn(
    index: usize,
    mut collector: Box<dyn Collector>,
    answer: mpsc::Sender<Answer>,
) -> Result<SyncSender<TimeNs>, CollectError> {
    let (ask, asked): (SyncSender<TimeNs>, Receiver<TimeNs>) = sync_channel(1);
    let name = collector.name().to_string();
    let work = move || {
        while let Ok(time_ns) = asked.recv() {
            let result = collector.collect(time_ns);
            if answer.blocking_send(Answer { index, result }).is_err() {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new().name(format!("collect-{index}")).spawn(work);
    spawned.map_err(|e| CollectError::new(format!("{name}: expected a thread to collect on: {e}")))?;
    Ok(ask)
}

/// The wall clock, as event times use it.
fn clock_ns() -> TimeNs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// When a collector is due: at once, then at each multiple of the interval since the epoch.
#[derive(Debug)]
struct Schedule {
    interval_ns: i64,
    next_ns: Option<TimeNs>,
}

/// A tick that has come.
#[derive(Debug, PartialEq)]
struct Tick {
    /// Event time for the samples: the tick's own, or the clock's (to the millisecond) when the tick
    /// is served more than a tenth of the interval late.
    time_ns: TimeNs,
    /// Ticks before it that nobody served.
    missed: u64,
}

impl Schedule {
    /// The tick that is due at `now_ns`, if any; the next one is set. A clock that was set back by
    /// more than an interval begins the count anew.
    fn due(&mut self, now_ns: TimeNs) -> Option<Tick> {
        let tick_ns = now_ns - now_ns.rem_euclid(self.interval_ns);
        let following_ns = tick_ns.saturating_add(self.interval_ns);
        let to_the_ms_ns = now_ns - now_ns.rem_euclid(1_000_000);
        let expected_ns = match self.next_ns {
            Some(next_ns) if next_ns.saturating_sub(now_ns) > self.interval_ns.saturating_mul(2) => None,
            Some(next_ns) if now_ns < next_ns => return None,
            other => other,
        };
        self.next_ns = Some(following_ns);
        let Some(expected_ns) = expected_ns else {
            return Some(Tick { time_ns: to_the_ms_ns, missed: 0 });
        };
        let on_time = now_ns - tick_ns <= self.interval_ns / 10;
        let missed = ((tick_ns - expected_ns) / self.interval_ns) as u64;
        Some(Tick { time_ns: if on_time { tick_ns } else { to_the_ms_ns }, missed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::sample::{MS, SECOND};

    #[test]
    fn ticks_stand_at_multiples_and_do_not_drift() {
        let mut schedule = Schedule { interval_ns: 10 * SECOND, next_ns: None };
        let tick = |time_ns, missed| Some(Tick { time_ns, missed });
        for (now_ns, expect) in [
            (1003 * SECOND + 1, tick(1003 * SECOND, 0)), // at once
            (1009 * SECOND, None),                       // not before its time
            (1010 * SECOND + 3 * MS, tick(1010 * SECOND, 0)),
            (1010 * SECOND + 4 * MS, None),              // once only
            (1021 * SECOND, tick(1020 * SECOND, 0)),     // a tenth late
            (1031 * SECOND + 1, tick(1031 * SECOND, 0)), // later: the clock's own time
            (1070 * SECOND, tick(1070 * SECOND, 3)),     // 1040, 1050, 1060 missed
            (1069 * SECOND, None),                       // set back a little
            (500 * SECOND, tick(500 * SECOND, 0)),       // set back a lot: anew
            (510 * SECOND, tick(510 * SECOND, 0)),
            (-5 * SECOND, tick(-5 * SECOND, 0)),
        ] {
            assert_eq!(schedule.due(now_ns), expect, "{now_ns}");
        }
    }
}
