//! Disks: how full this host's real disks are, all together.

use std::collections::BTreeMap;
use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;
use sysinfo::{Disk, DiskRefreshKind, Disks};

use super::{CollectError, Collector, Host, message};
use crate::message::Message;

/// What it gives: bytes in use, and their share of what could be in use, in percent; both as `df`
/// shows them. Blocks that are reserved for root are neither in use nor to be had.
///
/// Which mount points count: those of a device below `/dev/` (loop devices aside) and of ZFS pools,
/// each device or pool once however often it is mounted (bind mounts, btrfs subvolumes). Memory file
/// systems, overlays, network file systems and pseudo file systems don't. Where no such device is
/// mounted, as in many containers, the file system at `/` counts.
pub const METRICS: &[&str] = &["disk_usage_bytes", "disk_usage_percent"];

/// Opens the collector.
///
/// # Errors
/// Where `sysinfo` knows no such system.
pub fn open(host: &Host) -> Result<Box<dyn Collector>, CollectError> {
    let disks = Disks::new().map_err(|e| CollectError::new(format!("disk_usage: {e}")))?;
    Ok(Box::new(DiskUsage { disks, target: Arc::clone(&host.target) }))
}

struct DiskUsage {
    disks: Disks,
    target: Arc<Target>,
}

impl Collector for DiskUsage {
    fn name(&self) -> &str {
        "disk_usage"
    }

    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        self.disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
        let mounts: Vec<Mount> = self.disks.iter().map(Mount::of).collect();
        let (used, available) = sum_of_devices(&mounts);
        if used + available == 0 {
            return Err(CollectError::new("disk_usage: expected a mounted disk, found none"));
        }
        let percent = 100.0 * used as f64 / (used + available) as f64;
        let metrics = [("disk_usage_bytes", used as f64), ("disk_usage_percent", percent)];
        Ok(vec![message(&self.target, now_ns, metrics)])
    }
}

/// One mounted file system.
struct Mount {
    device: String,
    file_system: String,
    is_root: bool,
    used: u64,
    available: u64,
}

impl Mount {
    fn of(disk: &Disk) -> Self {
        // sysinfo knows what is available, but not what of the rest is reserved.
        let used = match rustix::fs::statvfs(disk.mount_point()) {
            Ok(stat) => stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize),
            Err(_) => disk.total_space().saturating_sub(disk.available_space()),
        };
        Mount {
            device: disk.name().to_string_lossy().into_owned(),
            file_system: disk.file_system().to_string_lossy().into_owned(),
            is_root: disk.mount_point().as_os_str() == "/",
            used,
            available: disk.available_space(),
        }
    }

    /// Whose free space it draws on: its device or pool; `None` when it is no real disk.
    fn pool(&self) -> Option<&str> {
        if self.file_system == "zfs" {
            return self.device.split('/').next();
        }
        let real = self.device.starts_with("/dev/") && !self.device.starts_with("/dev/loop");
        real.then_some(self.device.as_str())
    }
}

/// Used and available bytes: of each device the one, of each pool the other, each once.
fn sum_of_devices(mounts: &[Mount]) -> (u64, u64) {
    let (mut used, mut available): (BTreeMap<&str, u64>, BTreeMap<&str, u64>) = Default::default();
    let mut count = |pool, mount: &'_ Mount, device| {
        let largest = |known: &mut u64, found: u64| *known = (*known).max(found);
        largest(used.entry(device).or_default(), mount.used);
        largest(available.entry(pool).or_default(), mount.available);
    };
    let real = mounts.iter().filter_map(|mount| Some((mount.pool()?, mount)));
    real.for_each(|(pool, mount)| count(pool, mount, &mount.device));
    if mounts.iter().all(|mount| mount.pool().is_none()) {
        mounts.iter().filter(|mount| mount.is_root).for_each(|mount| count("/", mount, "/"));
    }
    (used.values().sum(), available.values().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_real_device_counts_once() {
        let mount = |device: &str, file_system: &str, is_root, used, available| Mount {
            device: device.into(),
            file_system: file_system.into(),
            is_root,
            used,
            available,
        };
        let overlay = || mount("overlay", "overlay", true, 100, 40);
        for (mounts, expect) in [
            (vec![], (0, 0)),
            (vec![overlay()], (100, 40)),
            (vec![overlay(), mount("/dev/sda1", "ext4", false, 50, 20)], (50, 20)),
            (
                vec![
                    mount("/dev/sda1", "ext4", true, 50, 20),
                    mount("/dev/sda1", "ext4", false, 50, 20),
                    mount("/dev/mapper/data", "xfs", false, 7, 1),
                    mount("/dev/loop3", "ext4", false, 5, 0),
                    mount("tmpfs", "tmpfs", false, 9, 9),
                ],
                (57, 21),
            ),
            (vec![mount("tank/a", "zfs", false, 30, 10), mount("tank/b", "zfs", false, 12, 10)], (42, 10)),
        ] {
            assert_eq!(sum_of_devices(&mounts), expect);
        }
    }
}
