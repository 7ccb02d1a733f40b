//! Processor: the share of time that this host's processors did not idle.

use std::sync::Arc;
use std::time::Instant;

use operators::sample::TimeNs;
use operators::series::Target;
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, System};

use super::{CollectError, Collector, Host, message};
use crate::message::Message;

/// What it gives: percent of all processors together, 0 to 100, since the previous measure.
pub const METRICS: &[&str] = &["cpu_usage_percent"];

/// Opens the collector and takes its first reading: usage is a difference of two.
///
/// # Errors
/// Where `sysinfo` knows no such system.
pub fn open(host: &Host) -> Result<Box<dyn Collector>, CollectError> {
    let mut system = System::new().map_err(|e| CollectError::new(format!("cpu_usage: {e}")))?;
    system.refresh_cpu_usage();
    Ok(Box::new(Cpu { system, read_at: Instant::now(), target: Arc::clone(&host.target) }))
}

struct Cpu {
    system: System,
    read_at: Instant,
    target: Arc<Target>,
}

impl Collector for Cpu {
    fn name(&self) -> &str {
        "cpu_usage"
    }

    /// Waits up to 200 ms when the previous reading is too fresh to tell a difference.
    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        std::thread::sleep(MINIMUM_CPU_UPDATE_INTERVAL.saturating_sub(self.read_at.elapsed()));
        self.system.refresh_cpu_usage();
        self.read_at = Instant::now();
        let percent = f64::from(self.system.global_cpu_usage()).clamp(0.0, 100.0);
        Ok(vec![message(&self.target, now_ns, [("cpu_usage_percent", percent)])])
    }
}
