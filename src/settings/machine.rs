//! What the machine offers, for the defaults that follow it.

use std::sync::OnceLock;

/// Memory in bytes that this process may use: that of the machine, or less where a cgroup says so.
pub fn memory_bytes() -> u64 {
    static MEMORY_BYTES: OnceLock<u64> = OnceLock::new();
    *MEMORY_BYTES.get_or_init(|| match sysinfo::System::new() {
        Ok(mut system) => {
            system.refresh_memory();
            let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
            match system.total_memory().min(limit) {
                0 => FALLBACK_BYTES,
                bytes => bytes,
            }
        }
        Err(_) => FALLBACK_BYTES,
    })
}

/// Where a machine does not tell its memory.
const FALLBACK_BYTES: u64 = 1 << 30;

/// Cores that this process may use; at least 1.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
