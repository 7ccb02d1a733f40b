//! A log and a target for deliveries in virtual time: what they hold outlives the courier between them, as disks
//! outlive a process.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::path::PathBuf;

use operators::series::Target as Tags;

use super::super::source::Stretch;
use super::super::*;
use crate::message::Message;
use crate::sinks::SinkError;

pub const MS: Duration = Duration::from_millis(1);

pub fn config() -> DeliveryConfig {
    DeliveryConfig {
        batch_samples: 10,
        flush_interval: 1_000 * MS,
        gather: 100 * MS,
        retry_min: 100 * MS,
        retry_max: 350 * MS,
        ..DeliveryConfig::default()
    }
}

pub fn later() -> SinkError {
    SinkError::retry("disk full")
}

/// What is there beside the courier. Sample number n of the log has the value n.
#[derive(Default)]
pub struct World {
    /// Samples before each epoch, and after the last.
    pub starts: Vec<u64>,
    /// Samples of a message.
    pub per_message: u64,
    /// The last epoch that may be read.
    pub durable: Position,
    /// Epochs up to this are gone.
    pub lost: Position,
    /// Of reads.
    pub read_errors: VecDeque<io::Error>,

    /// The sink keeps the cursor beside its samples; otherwise a sample is stored with its write.
    pub own_cursor: bool,
    /// What the sink keeps, in the order it came, and its own cursor.
    pub stored: Vec<Range<u64>>,
    pub stored_upto: Option<Position>,
    /// Answers to the next writes and flushes, whether or not it is down; what is poison is never taken.
    pub answers: VecDeque<Result<(), SinkError>>,
    pub down: Option<SinkError>,
    pub poison: HashSet<u64>,
    /// What the sink was asked since it was last looked at.
    pub log: Vec<String>,
    pub writes: u64,
    pub flushes: u64,
}

pub type Shared = Arc<Mutex<World>>;

impl World {
    pub fn new(lens: &[u64]) -> World {
        let mut world = World { starts: vec![0], per_message: 1, ..World::default() };
        lens.iter().for_each(|len| world.append(*len));
        world
    }

    pub fn append(&mut self, samples: u64) {
        self.starts.push(self.samples() + samples);
        self.durable += 1;
    }

    /// All that is in the log.
    pub fn samples(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Arrival time of an epoch: its number, in milliseconds.
    fn arrival_ns(epoch: Position) -> TimeNs {
        epoch as TimeNs * 1_000_000
    }

    fn answer(&mut self, did: String, refuses: Option<u64>) -> Result<(), SinkError> {
        let answer = match (self.answers.pop_front(), &self.down, refuses) {
            (Some(Err(error)), _, _) => Err(error),
            (None, Some(down), _) => Err(down.clone()),
            (_, _, Some(poison)) => Err(SinkError::Poison { why: format!("no {poison}") }),
            (_, _, None) => Ok(()),
        };
        let sign = if answer.is_ok() { "" } else { "!" };
        self.log.push(format!("{did}{sign}"));
        answer
    }
}

/// Appends to ranges in order, joining what follows.
pub fn push(ranges: &mut Vec<Range<u64>>, value: u64) {
    match ranges.last_mut().filter(|last| last.end == value) {
        Some(last) => last.end += 1,
        None => ranges.push(value..value + 1),
    }
}

/// The log's side.
pub struct Log(pub Shared);

impl Source for Log {
    fn next(&mut self, after: Position, samples_max: u64) -> io::Result<Option<Stretch>> {
        let mut world = self.0.lock();
        if let Some(error) = world.read_errors.pop_front() {
            return Err(error);
        }
        let first = after.max(world.lost) + 1;
        if first > world.durable {
            return Ok(None);
        }
        let begin = world.starts[first as usize - 1];
        let mut upto = first;
        while upto < world.durable && world.starts[upto as usize] - begin < samples_max {
            upto += 1;
        }
        let tags = Arc::new(Tags::new("s", []));
        let name: Arc<str> = "m".into();
        let mut messages = Vec::new();
        for epoch in first..=upto {
            let samples = world.starts[epoch as usize - 1]..world.starts[epoch as usize];
            let mut at = samples.start;
            while at < samples.end {
                let till = samples.end.min(at + world.per_message);
                let metrics = (at..till).map(|value| (name.clone(), value as f64)).collect();
                messages.push(Message { time_ns: 0, target: tags.clone(), metrics });
                at = till;
            }
        }
        Ok(Some(Stretch {
            messages,
            upto,
            samples: world.starts[upto as usize] - begin,
            arrival_ns: World::arrival_ns(first),
            missed_epochs: first - after - 1,
        }))
    }

    fn lag(&self, after: Position) -> Lag {
        let world = self.0.lock();
        let after = after.max(world.lost);
        let epochs = world.durable.saturating_sub(after);
        Lag { epochs, bytes: 10 * epochs, since_ns: (epochs > 0).then(|| World::arrival_ns(after + 1)) }
    }
}

/// The target's side; what it was given and has not flushed goes with it.
pub struct Target(pub Shared, pub Vec<Range<u64>>);

impl Sink for Target {
    fn write(&mut self, messages: &[Message]) -> Result<(), SinkError> {
        let mut world = self.0.lock();
        let values = || messages.iter().flat_map(|m| m.metrics.iter().map(|(_, value)| *value as u64));
        let refuses = values().find(|value| world.poison.contains(value));
        world.writes += 1;
        world.answer(format!("write {}", values().count()), refuses)?;
        let World { own_cursor, stored, .. } = &mut *world;
        let to = if *own_cursor { &mut self.1 } else { stored };
        values().for_each(|value| push(to, value));
        Ok(())
    }

    fn flush(&mut self, upto: Position) -> Result<(), SinkError> {
        let mut world = self.0.lock();
        world.flushes += 1;
        world.answer(format!("flush {upto}"), None)?;
        if world.own_cursor {
            world.stored_upto = Some(upto);
            self.1.drain(..).flatten().for_each(|value| push(&mut world.stored, value));
        }
        Ok(())
    }

    fn cursor(&self) -> Option<Position> {
        self.0.lock().stored_upto
    }

    fn status(&self) -> SinkStatus {
        SinkStatus::connected("scripted")
    }

    fn reader(&self) -> Option<Arc<dyn Reader>> {
        None
    }
}

/// A courier between the log and the target of a world, and a clock.
pub struct Stage {
    pub world: Shared,
    pub courier: Courier,
    pub shared: Arc<super::super::Shared>,
    pub config: DeliveryConfig,
    pub begin: Instant,
    pub now_ms: u64,
    pub dir: tempfile::TempDir,
}

impl Stage {
    pub fn new(world: World, config: DeliveryConfig) -> Stage {
        let (world, dir) = (Arc::new(Mutex::new(world)), tempfile::tempdir().unwrap());
        let (courier, shared) = courier(&world, &config, dir.path());
        Stage { world, courier, shared, config, begin: Instant::now(), now_ms: 0, dir }
    }

    /// The process dies here and is started again: only the world and the files are left.
    pub fn crash(&mut self) {
        (self.courier, self.shared) = courier(&self.world, &self.config, self.dir.path());
    }

    pub fn step(&mut self) -> Next {
        let wall_ns = self.now_ms as TimeNs * 1_000_000;
        self.courier.step(Moment { at: self.begin + self.now_ms as u32 * MS, wall_ns })
    }

    /// Does so many steps without looking at what it wants next.
    pub fn steps(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    /// Moves on at `ms` until there is nothing to do, and compares what the sink was asked. Says when it wants
    /// to go on, in milliseconds; `None` when it has ended.
    #[track_caller]
    pub fn at(&mut self, ms: u64, expected: &str) -> Option<u64> {
        self.now_ms = ms;
        let next = self.settle();
        assert_eq!(std::mem::take(&mut self.world.lock().log).join(", "), expected, "at {ms} ms");
        next
    }

    /// Moves on until there is nothing to do now.
    pub fn settle(&mut self) -> Option<u64> {
        self.shared.fresh.store(true, Release);
        for _ in 0..10_000_000 {
            match self.step() {
                Next::Now => {}
                Next::At(at) => return Some((at - self.begin).as_nanos().div_ceil(1_000_000) as u64),
                Next::Never => return None,
            }
        }
        panic!("goes on for ever");
    }

    /// Lets the time pass until `ms`.
    pub fn until(&mut self, ms: u64) {
        while let Some(next) = self.settle()
            && next <= ms
        {
            self.now_ms = next.max(self.now_ms);
        }
        self.now_ms = ms;
    }

    /// Lets the time pass until everything is durable.
    pub fn until_delivered(&mut self) {
        let durable = self.world.lock().durable;
        for _ in 0..1_000_000 {
            if self.shared.durable.load(Relaxed) == durable {
                return;
            }
            let Some(next) = self.settle() else { panic!("ended") };
            self.now_ms = next.max(self.now_ms);
        }
        panic!("does not come to an end: {:?}", self.status());
    }

    pub fn end_at(&self, ms: u64) {
        *self.shared.deadline.lock() = Some(self.begin + ms as u32 * MS);
    }

    pub fn count(&self, counter: fn(&Counters) -> &AtomicU64) -> u64 {
        counter(&self.shared.counters).load(Relaxed)
    }

    pub fn status(&self) -> SinkStatus {
        self.shared.status(self.now_ms as TimeNs * 1_000_000)
    }

    pub fn letters(&self) -> PathBuf {
        self.dir.path().join("letters/d.jsonl")
    }

    /// The values of the dead letters.
    pub fn lettered(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.letters()).unwrap_or_default();
        let value = |line: &str| {
            let letter: serde_json::Value = serde_json::from_str(line).unwrap();
            let value = letter["sample"]["value"].as_u64().unwrap();
            assert!(letter["answer"].as_str().unwrap().starts_with("no"), "{line}");
            value
        };
        text.lines().map(value).collect()
    }
}

fn courier(world: &Shared, config: &DeliveryConfig, dir: &Path) -> (Courier, Arc<super::super::Shared>) {
    let sink = Box::new(Target(world.clone(), Vec::new()));
    let shared = Arc::new(super::super::Shared::new("d", sink.status()));
    let source = Box::new(Log(world.clone()));
    let cursor = CursorStore::at(dir.join("cursors/d.json"));
    let letters =
        DeadLetters::at(DeadLettersConfig { path: dir.join("letters/d.jsonl"), bytes_max: 16 << 20 });
    let courier = Courier::new(sink, source, cursor, letters, config.clone(), shared.clone()).unwrap();
    (courier, shared)
}
