//! Section `performance`.

use std::time::Duration;

use super::kinds::{BOOL, count, duration};
use super::machine;
use super::section::section;

/// Section `performance`.
#[derive(Clone, Debug, PartialEq)]
pub struct PerformanceSettings {
    /// Messages in one write to the storage, at most. Default 1,000.
    pub batch_size: usize,
    /// Longest time that a message waits for a fuller batch. Default 1 s.
    pub flush_interval: Duration,
    /// Workers of the dataflow. Default: one for each core.
    pub worker_count: usize,
    /// Threads that receive, decode and answer. Default: one for every two cores.
    pub io_threads: usize,
    /// Messages that wait between bus or HTTP and the dataflow. Default 10,000.
    pub buffer_size: usize,
    /// Compress answers to HTTP clients that accept it. Default off.
    pub compression: bool,
}

impl Default for PerformanceSettings {
    fn default() -> Self {
        PerformanceSettings {
            batch_size: 1000,
            flush_interval: Duration::from_secs(1),
            worker_count: machine::cores(),
            io_threads: machine::cores().div_ceil(2),
            buffer_size: 10_000,
            compression: false,
        }
    }
}

section! { PerformanceSettings requires [] {
    "batch_size" => batch_size: count(1, 1_000_000),
    "flush_interval" => flush_interval: duration("1ms", "1h"),
    "worker_count" => worker_count: count(1, 256),
    "io_threads" => io_threads: count(1, 256),
    "buffer_size" => buffer_size: count(1, 100_000_000),
    "compression" => compression: BOOL,
} }
