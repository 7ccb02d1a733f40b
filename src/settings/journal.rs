//! Section `journal`: the log from which everything is restored.

use std::time::Duration;

use super::kinds::{TEXT, choice as word, duration, size};
use super::section::section;
use super::words::choice;

choice! {
    /// When samples count as taken in.
    pub enum Durability {
        /// When the disk has them: a power failure costs nothing that was acknowledged.
        "fsync" => Fsync,
        /// When the operating system has them: a crash of the process costs nothing, one of the machine may.
        "os" => Os,
        /// When this process has them, in memory: a restart begins empty.
        "memory" => Memory,
    }
}

choice! {
    /// What happens when the journal is full, because a storage lags so far behind.
    pub enum WhenFull {
        /// The oldest goes, and is counted for the storage that lags. Intake, queries and alerts go on.
        "drop_oldest" => DropOldest,
        /// Intake is refused until there is room: HTTP 503 with Retry-After, and the bus is not read.
        "refuse" => Refuse,
    }
}

/// Section `journal`. A producer has none.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalSettings {
    /// Directory of segments, checkpoints, outbox, cursors and dead letters. Default `journal` below `storage.path`.
    pub path: String,
    /// Default fsync.
    pub durability: Durability,
    /// Time between two group commits, at least. Default 5 ms.
    pub fsync_interval: Duration,
    /// `segment_size`: bytes of one segment file. Default 64 MiB, or an eighth of `size_max`.
    pub segment_bytes: u64,
    /// `size_max`: bytes of all segments. Default 8 GiB.
    pub bytes_max: u64,
    /// Default drop_oldest.
    pub when_full: WhenFull,
    /// Longest time between two checkpoints. Default 1 min.
    pub checkpoint_interval: Duration,
    /// `checkpoint_size`: bytes of journal after which there is a checkpoint in any case. Default 256 MiB, or a quarter
    /// of `size_max`.
    pub checkpoint_bytes: u64,
    /// `free_space_min`: with less free space than this on its disk, intake is refused, so that a checkpoint, which
    /// makes room, can still be written. Default 64 MiB; 0: there is no such reserve.
    pub free_bytes_min: u64,
}

impl Default for JournalSettings {
    fn default() -> Self {
        JournalSettings {
            path: "./data/journal".into(),
            durability: Durability::Fsync,
            fsync_interval: Duration::from_millis(5),
            segment_bytes: 64 << 20,
            bytes_max: 8 << 30,
            when_full: WhenFull::DropOldest,
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_bytes: 256 << 20,
            free_bytes_min: 64 << 20,
        }
    }
}

section! { JournalSettings requires [] {
    "path" => path: TEXT,
    "durability" => durability: word(),
    "fsync_interval" => fsync_interval: duration("0s", "10s"),
    "segment_size" => segment_bytes: size(64 << 10, 1 << 32),
    "size_max" => bytes_max: size(1 << 20, 1 << 50),
    "when_full" => when_full: word(),
    "checkpoint_interval" => checkpoint_interval: duration("1s", "1d"),
    "checkpoint_size" => checkpoint_bytes: size(64 << 10, 1 << 50),
    "free_space_min" => free_bytes_min: size(0, 1 << 50),
} }
