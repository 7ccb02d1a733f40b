//! Network: bytes received and sent since the counters began.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;
use sysinfo::{NetworkData, Networks};

use super::{CollectError, Collector, Host, message};
use crate::message::Message;

/// What it gives: cumulative totals (counters) in bytes.
///
/// Which interfaces count: the ones with a device behind them; where there is none, as in a
/// container, all but the loopback. So bytes that go through a bridge, a tunnel or a bond are not
/// counted once more. An interface that goes away leaves its bytes in the total.
pub const METRICS: &[&str] = &["network_rx_bytes", "network_tx_bytes"];

/// Opens the collector.
///
/// # Errors
/// Where `sysinfo` knows no such system.
pub fn open(host: &Host) -> Result<Box<dyn Collector>, CollectError> {
    let networks = Networks::new().map_err(|e| CollectError::new(format!("network_io: {e}")))?;
    let (root, totals) = (host.root.clone(), Totals::default());
    Ok(Box::new(NetworkIo { networks, root, totals, target: Arc::clone(&host.target) }))
}

struct NetworkIo {
    networks: Networks,
    root: Option<PathBuf>,
    totals: Totals,
    target: Arc<Target>,
}

impl Collector for NetworkIo {
    fn name(&self) -> &str {
        "network_io"
    }

    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        let mut readings = match &self.root {
            Some(root) => readings_in(&root.join("proc/1/net/dev"))?,
            None => {
                self.networks.refresh(true);
                let all = self.networks.iter();
                let bytes = |data: &NetworkData| [data.total_received(), data.total_transmitted()];
                all.map(|(name, data)| (name.to_string_lossy().into_owned(), bytes(data))).collect()
            }
        };
        keep_what_counts(&mut readings, self.root.as_deref().unwrap_or(Path::new("/")));
        let [rx, tx] = self.totals.add(&readings);
        let metrics = [("network_rx_bytes", rx as f64), ("network_tx_bytes", tx as f64)];
        Ok(vec![message(&self.target, now_ns, metrics)])
    }
}

/// An interface, and the bytes that it has received and sent.
type Reading = (String, [u64; 2]);

/// Reads a file of the form of `/proc/net/dev`: name, colon, eight columns of reception, eight of
/// transmission, bytes first.
fn readings_in(file: &Path) -> Result<Vec<Reading>, CollectError> {
    let failed = |e| CollectError::new(format!("network_io: expected {} to read: {e}", file.display()));
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let reading = |line: &str| {
        let (name, columns) = line.split_once(':')?;
        let mut columns = columns.split_ascii_whitespace().map(|column| column.parse().ok());
        Some((name.trim().to_string(), [columns.next()??, columns.nth(7)??]))
    };
    Ok(text.lines().filter_map(reading).collect())
}

/// Keeps the interfaces that have a device; if there is none, all but the loopback.
fn keep_what_counts(readings: &mut Vec<Reading>, root: &Path) {
    let has_device =
        |name: &str| root.join("sys/class/net").join(name).join("device").symlink_metadata().is_ok();
    if readings.iter().any(|(name, _)| has_device(name)) {
        readings.retain(|(name, _)| has_device(name));
    } else {
        readings.retain(|(name, _)| !is_loopback(name));
    }
}

fn is_loopback(name: &str) -> bool {
    name == "lo" || name == "lo0" || name.starts_with("Loopback")
}

/// A total that never goes back: were it the plain sum of the interfaces there are, one that goes away
/// would look like a counter reset, and all the others' bytes would be counted again.
#[derive(Default)]
struct Totals {
    sum: [u64; 2],
    last: BTreeMap<String, [u64; 2]>,
}

impl Totals {
    /// Adds what each interface's counters grew by; a counter that went back began anew at zero.
    fn add(&mut self, readings: &[Reading]) -> [u64; 2] {
        for (name, now) in readings {
            let last = self.last.get(name).copied().unwrap_or_default();
            for direction in 0..2 {
                let grown = now[direction].checked_sub(last[direction]).unwrap_or(now[direction]);
                self.sum[direction] = self.sum[direction].saturating_add(grown);
            }
        }
        self.last = readings.iter().cloned().collect();
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_never_goes_back() {
        let mut totals = Totals::default();
        for (readings, expect) in [
            (vec![("eth0", [100, 10]), ("eth1", [1000, 20])], [1100, 30]),
            (vec![("eth0", [150, 10]), ("eth1", [1000, 25])], [1150, 35]),
            (vec![("eth0", [160, 10])], [1160, 35]),
            (vec![("eth0", [160, 10]), ("eth1", [5, 1])], [1165, 36]),
            (vec![("eth0", [7, 11]), ("eth1", [5, 1])], [1172, 37]),
        ] {
            let readings: Vec<_> = readings.into_iter().map(|(n, r)| (n.to_string(), r)).collect();
            assert_eq!(totals.add(&readings), expect);
        }
    }
}
