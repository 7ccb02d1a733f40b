//! A log of epochs in memory, for deliveries whose log need not outlive the process.
//!
//! It is bounded: what comes when it is full is turned away, and who appends is told how much.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use operators::sample::TimeNs;
use parking_lot::Mutex;

use super::source::{Lag, Source, Stretch};
use crate::message::Message;
use crate::sinks::Position;

/// The log; readers share it.
pub struct MemoryLog {
    samples_max: u64,
    held: Mutex<Held>,
}

struct Held {
    epochs: VecDeque<Epoch>,
    /// Number of the newest.
    last: Position,
    samples: u64,
}

struct Epoch {
    arrival_ns: TimeNs,
    messages: Vec<Message>,
    samples: u64,
    bytes: u64,
}

impl MemoryLog {
    /// A log of at most `samples_max` samples, whose first epoch follows `after`.
    pub fn new(samples_max: u64, after: Position) -> Arc<MemoryLog> {
        let held = Held { epochs: VecDeque::new(), last: after, samples: 0 };
        Arc::new(MemoryLog { samples_max, held: Mutex::new(held) })
    }

    /// Appends an epoch; says how many samples found no room: none, or all of it.
    pub fn append(&self, arrival_ns: TimeNs, messages: Vec<Message>) -> u64 {
        let samples = messages.iter().map(|message| message.metrics.len() as u64).sum();
        let bytes = messages.iter().map(bytes_of).sum();
        let mut held = self.held.lock();
        if held.samples + samples > self.samples_max {
            return samples;
        }
        held.last += 1;
        held.samples += samples;
        held.epochs.push_back(Epoch { arrival_ns, messages, samples, bytes });
        0
    }

    /// Forgets the epochs up to `upto`.
    pub fn release(&self, upto: Position) {
        let mut held = self.held.lock();
        for _ in held.first()..=upto.min(held.last) {
            let epoch = held.epochs.pop_front();
            held.samples -= epoch.map_or(0, |epoch| epoch.samples);
        }
    }
}

impl Held {
    /// Number of the oldest epoch, or of the next where there is none.
    fn first(&self) -> Position {
        self.last + 1 - self.epochs.len() as u64
    }
}

/// A message's size in memory, taking its target for its own.
fn bytes_of(message: &Message) -> u64 {
    let tags = message.target.tags.iter().map(|(name, value)| name.len() + value.len() + 32);
    let target = message.target.service.len() + tags.sum::<usize>();
    (size_of::<Message>() + target + 24 * message.metrics.len()) as u64
}

impl Source for Arc<MemoryLog> {
    fn next(&mut self, after: Position, samples_max: u64) -> io::Result<Option<Stretch>> {
        let held = self.held.lock();
        let first = held.first().max(after + 1);
        let mut behind =
            held.epochs.range((first - held.first()).min(held.epochs.len() as u64) as usize..).peekable();
        let Some(oldest) = behind.peek() else { return Ok(None) };
        let mut stretch =
            Stretch { arrival_ns: oldest.arrival_ns, missed_epochs: first - after - 1, ..Stretch::default() };
        stretch.upto = first - 1;
        for epoch in behind {
            stretch.messages.extend_from_slice(&epoch.messages);
            stretch.samples += epoch.samples;
            stretch.upto += 1;
            if stretch.samples >= samples_max {
                break;
            }
        }
        Ok(Some(stretch))
    }

    fn lag(&self, after: Position) -> Lag {
        let held = self.held.lock();
        let behind = held.last.saturating_sub(after).min(held.epochs.len() as u64);
        let behind = held.epochs.range(held.epochs.len() - behind as usize..);
        Lag {
            epochs: behind.len() as u64,
            since_ns: behind.clone().next().map(|epoch| epoch.arrival_ns),
            bytes: behind.map(|epoch| epoch.bytes).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::series::Target;

    fn messages(samples: usize) -> Vec<Message> {
        let target = Arc::new(Target::new("s", []));
        vec![Message { time_ns: 0, target, metrics: vec![("m".into(), 1.0)] }; samples]
    }

    #[test]
    fn stretches_are_whole_epochs_until_there_is_enough() {
        let mut log = MemoryLog::new(100, 10);
        for (at, samples) in [4, 0, 4, 30].into_iter().enumerate() {
            assert_eq!(log.append(at as i64, messages(samples)), 0);
        }
        assert_eq!([log.append(9, messages(63)), log.append(9, messages(62))], [63, 0]);
        let mut next = |after, max| {
            let found = log.next(after, max).unwrap();
            found.map(|s| (s.upto, s.samples, s.messages.len(), s.arrival_ns, s.missed_epochs))
        };
        assert_eq!(next(10, 8), Some((13, 8, 8, 0, 0)));
        assert_eq!(next(10, 9), Some((14, 38, 38, 0, 0)));
        assert_eq!(next(11, 1), Some((13, 4, 4, 1, 0)));
        assert_eq!(next(7, 1), Some((11, 4, 4, 0, 3)));
        assert_eq!((next(15, 1), next(99, 1)), (None, None));
        assert_eq!((log.lag(12).epochs, log.lag(12).since_ns, log.lag(15)), (3, Some(2), Lag::default()));
        log.release(13);
        log.release(12);
        assert_eq!(log.append(9, messages(8)), 0);
        let found = log.next(10, 1).unwrap().map(|s| (s.upto, s.missed_epochs));
        assert_eq!((found, log.lag(0).epochs), (Some((14, 3)), 3));
        assert_eq!(log.lag(13).bytes, messages(100).iter().map(bytes_of).sum::<u64>());
        log.release(u64::MAX - 1);
        assert_eq!((log.lag(0), log.append(9, messages(100))), (Lag::default(), 0));
    }
}
