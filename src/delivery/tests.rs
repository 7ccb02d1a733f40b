//! Deliveries against sinks that fail by script, in virtual time.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::sinks::{Position, SinkError};
use operators::series::Target;

/// A sink whose answers are written down beforehand; without one it takes everything.
#[derive(Default)]
struct Scripted {
    answers: VecDeque<Result<(), SinkError>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn answer(&mut self, did: String) -> Result<(), SinkError> {
        let answer = self.answers.pop_front().unwrap_or(Ok(()));
        let sign = if answer.is_ok() { "" } else { "!" };
        self.log.lock().push(format!("{did}{sign}"));
        answer
    }
}

impl Sink for Scripted {
    fn write(&mut self, messages: &[Message]) -> Result<(), SinkError> {
        self.answer(format!("write {}", messages.len()))
    }

    fn flush(&mut self, _upto: Position) -> Result<(), SinkError> {
        self.answer("flush".into())
    }

    fn status(&self) -> SinkStatus {
        SinkStatus::connected("scripted")
    }

    fn reader(&self) -> Option<Arc<dyn Reader>> {
        None
    }
}

const MS: Duration = Duration::from_millis(1);

fn config() -> DeliveryConfig {
    DeliveryConfig {
        queue_samples_max: 100,
        queue_bytes_max: 1 << 20,
        batch_samples: 10,
        flush_interval: 1_000 * MS,
        retry_min: 100 * MS,
        retry_max: 350 * MS,
    }
}

fn messages(samples: usize) -> Vec<Message> {
    let target = Arc::new(Target::new("s", []));
    vec![Message { time_ns: 0, target, metrics: vec![("m".into(), 1.0)] }; samples]
}

struct Stage {
    courier: Courier,
    shared: Arc<Shared>,
    log: Arc<Mutex<Vec<String>>>,
    begin: Instant,
}

impl Stage {
    fn new(config: DeliveryConfig, answers: Vec<Result<(), SinkError>>) -> Self {
        let sink = Scripted { answers: answers.into(), ..Scripted::default() };
        let log = sink.log.clone();
        let begin = Instant::now();
        let shared = Arc::new(Shared {
            config,
            queue: Mutex::default(),
            changed: Condvar::new(),
            counters: Counters::default(),
            status: Mutex::new(sink.status()),
        });
        let courier = Courier::new(Box::new(sink), shared.clone(), begin);
        Stage { courier, shared, log, begin }
    }

    fn offer(&self, samples: usize) -> u64 {
        self.shared.offer(messages(samples), self.begin)
    }

    /// Moves on at `ms` until there is nothing to do, and compares what the sink was asked.
    #[track_caller]
    fn at(&mut self, ms: u32, expected: &str) -> Next {
        let next = loop {
            match self.courier.step(self.begin + ms * MS) {
                Next::Now => {}
                next => break next,
            }
        };
        assert_eq!(std::mem::take(&mut *self.log.lock()).join(", "), expected, "at {ms} ms");
        next
    }

    fn end_at(&self, ms: u32) {
        self.shared.queue.lock().deadline = Some(self.begin + ms * MS);
    }

    fn open(&self) -> u64 {
        self.shared.open_samples()
    }

    fn count(&self, counter: fn(&Counters) -> &AtomicU64) -> u64 {
        counter(&self.shared.counters).load(Relaxed)
    }
}

fn later() -> Result<(), SinkError> {
    Err(SinkError::retry("disk full"))
}

#[test]
fn batches_are_joined_and_flushed_at_the_interval() {
    let mut stage = Stage::new(config(), vec![]);
    for samples in [4, 4, 4, 30, 1] {
        assert_eq!(stage.offer(samples), 0);
    }
    let next = stage.at(0, "write 8, write 4, write 30, write 1");
    assert_eq!(next, Next::At(stage.begin + 1_000 * MS));
    assert_eq!((stage.open(), stage.count(|c| &c.delivered)), (43, 0));
    stage.at(1_000, "flush");
    assert_eq!((stage.open(), stage.count(|c| &c.delivered)), (0, 43));
    stage.at(1_999, "");
    stage.at(2_000, "flush");
}

#[test]
fn a_full_queue_turns_the_newest_away_and_counts_its_samples() {
    let mut stage = Stage::new(config(), vec![later()]);
    assert_eq!([stage.offer(60), stage.offer(40), stage.offer(1)], [0, 0, 1]);
    stage.at(0, "write 60!");
    // What is held counts as waiting.
    assert_eq!(stage.offer(1), 1);
    assert_eq!(stage.count(|c| &c.dropped), 2);
    stage.at(100, "write 60, write 40");
    assert_eq!(stage.offer(100), 0);

    let bytes = bytes_of(&messages(1)[0]);
    let stage = Stage::new(DeliveryConfig { queue_bytes_max: 2 * bytes, ..config() }, vec![]);
    assert_eq!([stage.offer(2), stage.offer(1)], [0, 1]);
    assert_eq!(stage.shared.status(stage.begin).lag_bytes, 2 * bytes);
}

#[test]
fn pauses_double_up_to_the_longest_and_end_with_success() {
    let mut stage = Stage::new(config(), vec![later(), later(), later(), later(), Ok(()), later()]);
    stage.offer(1);
    for (ms, next_ms) in [(0, 100), (100, 300), (300, 650), (650, 1_000)] {
        let next = stage.at(ms, "write 1!");
        assert_eq!(next, Next::NotBefore(stage.begin + next_ms * MS), "at {ms}");
        assert_eq!(stage.at(ms + 1, ""), Next::NotBefore(stage.begin + next_ms * MS));
        assert_eq!(stage.shared.status(stage.begin).status, "error: disk full");
    }
    // The flush is due first, and succeeds; then the write fails with the shortest pause.
    assert_eq!(stage.at(1_000, "flush, write 1!"), Next::NotBefore(stage.begin + 1_100 * MS));
    stage.at(1_100, "write 1");
    assert_eq!(stage.shared.status(stage.begin).status, "connected");
    assert_eq!(stage.count(|c| &c.retried), 5);
}

#[test]
fn the_target_says_how_long_to_wait() {
    let busy = SinkError::Retry { why: "busy".into(), after: Some(Duration::from_secs(7)) };
    let mut stage = Stage::new(config(), vec![Err(busy)]);
    stage.offer(1);
    assert_eq!(stage.at(0, "write 1!"), Next::NotBefore(stage.begin + 7_000 * MS));
}

#[test]
fn a_flush_that_fails_is_repeated_before_anything_is_written() {
    let mut stage = Stage::new(config(), vec![Ok(()), later()]);
    stage.offer(5);
    stage.at(0, "write 5");
    stage.at(1_000, "flush!");
    stage.offer(5);
    stage.at(1_099, "");
    assert_eq!(stage.count(|c| &c.delivered), 0);
    stage.at(1_100, "flush, write 5");
    assert_eq!(stage.count(|c| &c.delivered), 5);
}

#[test]
fn a_refused_batch_is_given_up_and_counted() {
    let refused = Err(SinkError::Poison { why: "no such field".into() });
    let mut stage = Stage::new(config(), vec![refused]);
    stage.offer(9);
    stage.offer(9);
    stage.at(0, "write 9!, write 9");
    stage.at(1_000, "flush");
    let counted =
        [stage.count(|c| &c.failed), stage.count(|c| &c.poison_batches), stage.count(|c| &c.delivered)];
    assert_eq!((counted, stage.open()), ([9, 1, 9], 0));
}

#[test]
fn the_end_writes_and_flushes_what_is_there() {
    let mut stage = Stage::new(config(), vec![]);
    stage.offer(20);
    stage.end_at(500);
    assert_eq!(stage.offer(1), 1, "closed");
    assert_eq!(stage.at(10, "write 20, flush"), Next::Never);
    assert_eq!(stage.open(), 0);
}

#[test]
fn the_end_cuts_pauses_short_and_gives_up_at_its_deadline() {
    let mut stage = Stage::new(config(), (0..9).map(|_| later()).collect());
    stage.offer(20);
    stage.at(0, "write 20!");
    stage.end_at(120);
    assert_eq!(stage.at(10, "write 20!"), Next::NotBefore(stage.begin + 60 * MS));
    assert_eq!(stage.at(60, "write 20!"), Next::NotBefore(stage.begin + 110 * MS));
    assert_eq!(stage.at(110, "write 20!"), Next::NotBefore(stage.begin + 120 * MS));
    assert_eq!(stage.at(120, ""), Next::Never);
    assert_eq!(stage.open(), 20);
}

#[test]
fn a_real_thread_delivers_and_ends() {
    let sink = Scripted { answers: vec![Ok(()), later()].into(), ..Scripted::default() };
    let delivery = Delivery::start(Box::new(sink), config()).unwrap();
    assert_eq!(delivery.offer(messages(7)) + delivery.offer(messages(7)), 0);
    assert_eq!(delivery.offer(messages(101)), 101);
    assert_eq!(delivery.stop(Duration::from_secs(20)), Drained { complete: true, lost_samples: 0 });
}
