//! Memory: what applications could not have, were they to ask.

use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;
use sysinfo::System;

use super::{CollectError, Collector, Host, message};
use crate::message::Message;

/// What it gives: bytes in use, and their share of all memory in percent.
///
/// In use is `MemTotal - MemAvailable` of `/proc/meminfo`: caches that the kernel would give back
/// do not count. Swap does not count.
pub const METRICS: &[&str] = &["memory_usage_bytes", "memory_usage_percent"];

/// Opens the collector.
///
/// # Errors
/// Where `sysinfo` knows no such system.
pub fn open(host: &Host) -> Result<Box<dyn Collector>, CollectError> {
    let system = System::new().map_err(|e| CollectError::new(format!("memory_usage: {e}")))?;
    Ok(Box::new(Memory { system, target: Arc::clone(&host.target) }))
}

struct Memory {
    system: System,
    target: Arc<Target>,
}

impl Collector for Memory {
    fn name(&self) -> &str {
        "memory_usage"
    }

    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        self.system.refresh_memory();
        let total = self.system.total_memory();
        if total == 0 {
            return Err(CollectError::new("memory_usage: expected the size of the memory, found 0"));
        }
        let used = total.saturating_sub(self.system.available_memory()) as f64;
        let percent = 100.0 * used / total as f64;
        let metrics = [("memory_usage_bytes", used), ("memory_usage_percent", percent)];
        Ok(vec![message(&self.target, now_ns, metrics)])
    }
}
