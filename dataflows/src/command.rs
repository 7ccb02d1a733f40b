//! What a worker is told.

use crate::checkpoint::PartSink;
use crate::epoch::SharedEpoch;

/// A closed set: the worker's loop matches on it and on nothing else.
#[derive(Clone)]
pub enum Command {
    /// Take in an epoch.
    Epoch(SharedEpoch),
    /// Write the state behind the epochs taken in, a little at a time. One that is still being written is
    /// given up.
    Checkpoint(PartSink),
    /// Finish what was taken in, write the state if that is wanted, then end.
    Stop(Option<PartSink>),
}
