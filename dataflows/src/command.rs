//! What a worker is told.

use crate::epoch::SharedEpoch;

/// A closed set: the worker's loop matches on it and on nothing else.
#[derive(Clone, Debug)]
pub enum Command {
    /// Take in an epoch.
    Epoch(SharedEpoch),
    /// Finish what was taken in, then end.
    Stop,
}
