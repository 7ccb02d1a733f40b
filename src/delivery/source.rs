//! Where a delivery reads from: a log of epochs, seen as messages.

use std::io;

use operators::sample::TimeNs;

use crate::message::Message;
use crate::sinks::Position;

/// Whole epochs of a log, in order, as messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stretch {
    /// Their messages; none where the epochs were heartbeats.
    pub messages: Vec<Message>,
    /// Number of the last epoch in it.
    pub upto: Position,
    /// Samples in it.
    pub samples: u64,
    /// Arrival time of its first epoch.
    pub arrival_ns: TimeNs,
    /// Epochs that should have been in it and are gone from the log: damaged, or given up for its size cap.
    pub missed_epochs: u64,
}

/// What a log holds behind a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Epochs.
    pub epochs: u64,
    /// Bytes of log.
    pub bytes: u64,
    /// Arrival time of the first epoch behind the position, where there is one.
    pub since_ns: Option<TimeNs>,
}

/// A log of epochs, read from any position on.
pub trait Source: Send {
    /// The stretch behind `after`: whole epochs, at least one, and no more once there are `samples_max` samples.
    /// `None` when nothing durable follows yet. Does not wait for anything but the disk.
    ///
    /// # Errors
    /// The log can't be read now; to be tried again.
    fn next(&mut self, after: Position, samples_max: u64) -> io::Result<Option<Stretch>>;

    /// What lies behind `after`.
    fn lag(&self, after: Position) -> Lag;
}
