//! Processes: how many there are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use super::{CollectError, Collector, Host, message};
use crate::message::Message;

/// What it gives: processes (not threads), kernel threads included, as `/proc` lists them.
pub const METRICS: &[&str] = &["process_count"];

/// Opens the collector.
///
/// # Errors
/// Where `sysinfo` knows no such system.
pub fn open(host: &Host) -> Result<Box<dyn Collector>, CollectError> {
    let system = System::new().map_err(|e| CollectError::new(format!("process_count: {e}")))?;
    let proc = host.root.as_ref().map(|root| root.join("proc"));
    Ok(Box::new(Processes { system, proc, target: Arc::clone(&host.target) }))
}

struct Processes {
    system: System,
    /// The host's `/proc`, when it is not the process' own.
    proc: Option<PathBuf>,
    target: Arc<Target>,
}

impl Collector for Processes {
    fn name(&self) -> &str {
        "process_count"
    }

    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        let count = match &self.proc {
            Some(proc) => count_in(proc)?,
            None => {
                let bare = ProcessRefreshKind::nothing().without_tasks();
                self.system.refresh_processes_specifics(ProcessesToUpdate::All, true, bare);
                self.system.processes().len()
            }
        };
        Ok(vec![message(&self.target, now_ns, [("process_count", count as f64)])])
    }
}

/// Entries of `proc` that are named by a number.
fn count_in(proc: &Path) -> Result<usize, CollectError> {
    let failed = |e| CollectError::new(format!("process_count: expected {} to list: {e}", proc.display()));
    let entries = std::fs::read_dir(proc).map_err(failed)?;
    let is_number = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    Ok(entries.flatten().filter(|entry| is_number(&entry.file_name())).count())
}
