//! What a producer measures: collectors of this host, of scraped endpoints, of commands.
//!
//! A collector never publishes: it returns messages, and [`crate::producer`] sends them. It may
//! block, since the producer gives each its own thread.
//!
//! # Layout
//! - [`cpu`], [`memory`], [`disk`], [`network`], [`process`], [`load`]: this host, by `sysinfo`
//! - [`scrape`]: endpoints that answer Prometheus or OpenMetrics text
//! - [`command`]: commands that print JSON or Prometheus text
//! - [`own`]: what this process says about itself
//! - [`together`]: several collectors whose samples travel in one message
//!
//! # In containers
//! `sysinfo` reads `/proc` and `/sys` where the process sees them and knows no other place. What an
//! ordinary container sees: processor, memory and load averages are the host's, since the kernel does
//! not divide `/proc/stat`, `/proc/meminfo` and `/proc/loadavg` (unless lxcfs is mounted over them; a
//! cgroup's memory limit is not taken into account); network counters and processes are the container's
//! own, unless it has `hostNetwork` and `hostPID`. Where the host's `/proc` is mounted at `/host/proc`,
//! as the document shows it, these two are read from there. Disks are those that are mounted into the
//! container, or else the file system at `/`.

pub mod command;
pub mod cpu;
pub mod disk;
pub mod load;
pub mod memory;
pub mod network;
pub mod own;
pub mod process;
mod runtime;
pub mod scrape;
pub mod together;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use operators::sample::TimeNs;
use operators::series::Target;

use crate::message::Message;

/// Something that can be measured again and again.
pub trait Collector: Send {
    /// Its name, for logs and counters.
    fn name(&self) -> &str;

    /// Measures once. `now_ns` is the event time the samples should carry unless their source tells
    /// a better one. May block; the producer counts and logs what takes longer than its time-out.
    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError>;

    /// How often to measure; `None` for the producer's own interval.
    fn interval(&self) -> Option<Duration> {
        None
    }
}

/// Why a collector has not measured everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CollectError {
    /// What was expected and what was found.
    pub reason: String,
    /// What was measured all the same; it is published.
    pub gathered: Vec<Message>,
}

impl CollectError {
    /// An error with nothing gathered.
    pub fn new(reason: impl Into<String>) -> Self {
        CollectError { reason: reason.into(), gathered: Vec::new() }
    }
}

impl fmt::Display for CollectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for CollectError {}

/// A collector, ready to be given its thread.
pub type BoxedCollector = Box<dyn Collector>;

/// What the collectors of this host share.
#[derive(Clone, Debug)]
pub struct Host {
    /// Service and tags of the host's message.
    pub target: Arc<Target>,
    /// Where the host's `/proc` and `/sys` are mounted beside the process' own, if they are.
    pub root: Option<PathBuf>,
}

/// How collectors of one row are opened.
pub enum Open {
    /// Measures this host; chosen by name in `collection.system`. All of them travel in one message.
    Host(fn(&Host) -> Result<BoxedCollector, CollectError>),
    /// One collector for each entry of a list of the configuration.
    Listed(fn(&CollectionConfig) -> Result<Vec<BoxedCollector>, CollectError>),
}

/// A kind of collector.
pub struct Row {
    /// Its name in `collection.system`, or of the list that it is configured by.
    pub name: &'static str,
    /// The metric names it gives; empty where the source decides.
    pub metrics: &'static [&'static str],
    /// How to open it.
    pub open: Open,
}

/// Every kind of collector, in the order of the documented message.
pub static COLLECTORS: &[Row] = &[
    Row { name: "cpu_usage", metrics: cpu::METRICS, open: Open::Host(cpu::open) },
    Row { name: "memory_usage", metrics: memory::METRICS, open: Open::Host(memory::open) },
    Row { name: "disk_usage", metrics: disk::METRICS, open: Open::Host(disk::open) },
    Row { name: "network_io", metrics: network::METRICS, open: Open::Host(network::open) },
    Row { name: "load_average", metrics: load::METRICS, open: Open::Host(load::open) },
    Row { name: "process_count", metrics: process::METRICS, open: Open::Host(process::open) },
    Row { name: "scrape", metrics: scrape::METRICS, open: Open::Listed(scrape::open) },
    Row { name: "command", metrics: &[], open: Open::Listed(command::open) },
];

/// What a producer measures.
#[derive(Clone, Debug)]
pub struct CollectionConfig {
    /// Service of the host's message.
    pub service: String,
    /// Value of its tag `host`; `None` asks the system for its host name.
    pub host: Option<String>,
    /// Further tags of the host's message.
    pub tags: Vec<(String, String)>,
    /// Names of [`COLLECTORS`] that measure this host; none of them switches system metrics off.
    /// `cpu_usage` brings the load averages with it.
    pub system: Vec<String>,
    /// The folder in which the host's `proc` and `sys` are mounted, when this runs in a container.
    /// Without a readable `proc/1/net/dev` there, it is passed over.
    pub host_root: PathBuf,
    /// Endpoints to scrape.
    pub scrapes: Vec<scrape::ScrapeConfig>,
    /// Commands to run.
    pub commands: Vec<command::CommandConfig>,
}

impl Default for CollectionConfig {
    fn default() -> Self {
        CollectionConfig {
            service: "system".into(),
            host: None,
            tags: Vec::new(),
            system: host_names().map(String::from).collect(),
            host_root: "/host".into(),
            scrapes: Vec::new(),
            commands: Vec::new(),
        }
    }
}

/// Opens everything that `config` names: one collector for the host, one for each endpoint and command.
///
/// # Errors
/// An unknown name in `system`, an endpoint or a command that cannot be right, a system without the
/// measures asked for.
pub fn open(config: &CollectionConfig) -> Result<Vec<BoxedCollector>, CollectError> {
    let known = |name: &&String| !host_names().any(|n| n == name.as_str());
    if let Some(unknown) = config.system.iter().find(known) {
        let names = host_names().collect::<Vec<_>>().join(", ");
        return Err(CollectError::new(format!(
            "collection.system: expected names among {names}, found '{unknown}'"
        )));
    }
    let is_mounted = std::fs::read(config.host_root.join("proc/1/net/dev")).is_ok();
    let host = Host { target: host_target(config), root: is_mounted.then(|| config.host_root.clone()) };
    let mut system = Vec::new();
    let mut opened = Vec::new();
    for row in COLLECTORS {
        match row.open {
            Open::Host(open) if is_chosen(row.name, &config.system) => system.push(open(&host)?),
            Open::Host(_) => {}
            Open::Listed(open) => opened.append(&mut open(config)?),
        }
    }
    if !system.is_empty() {
        opened.insert(0, Box::new(together::Together::new("system", system)));
    }
    Ok(opened)
}

/// The names that `collection.system` may hold.
fn host_names() -> impl Iterator<Item = &'static str> {
    COLLECTORS.iter().filter(|row| matches!(row.open, Open::Host(_))).map(|row| row.name)
}

fn is_chosen(name: &str, chosen: &[String]) -> bool {
    chosen.iter().any(|c| c == name || (name == "load_average" && c == "cpu_usage"))
}

/// The host's name, if it has one.
pub fn host_name() -> Option<String> {
    sysinfo::System::host_name().ok()
}

/// The target of the host's message: `service` with tag `host` and the configured tags.
fn host_target(config: &CollectionConfig) -> Arc<Target> {
    let found = || host_name().unwrap_or_else(|| "localhost".into());
    let host = config.host.clone().unwrap_or_else(found);
    let configured = config.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Arc::new(Target::new(&config.service, [("host", host.as_str())].into_iter().chain(configured)))
}

/// One message of `target` with the finite ones of `metrics`.
fn message<const N: usize>(
    target: &Arc<Target>,
    time_ns: TimeNs,
    metrics: [(&'static str, f64); N],
) -> Message {
    let finite = metrics.into_iter().filter(|(_, value)| value.is_finite());
    Message {
        time_ns,
        target: Arc::clone(target),
        metrics: finite.map(|(name, value)| (Arc::from(name), value)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const NOON_NS: TimeNs = 1_704_110_400_000_000_000;

    #[test]
    fn every_host_collector_gives_exactly_its_metrics() {
        let target = Arc::new(Target::new("system", [("host", "h")]));
        let host = Host { target: Arc::clone(&target), root: None };
        for row in COLLECTORS {
            let Open::Host(open) = row.open else { continue };
            let messages = open(&host).unwrap().collect(NOON_NS).unwrap();
            let names: Vec<_> = messages.iter().flat_map(|m| m.metrics.iter().map(|(n, _)| &**n)).collect();
            assert_eq!(names, row.metrics, "{}", row.name);
            for message in messages {
                assert_eq!((message.time_ns, &message.target), (NOON_NS, &target));
                assert!(message.metrics.iter().all(|(_, v)| v.is_finite() && *v >= 0.0), "{message:?}");
            }
        }
    }

    #[test]
    fn names_and_metrics_are_unique() {
        let (mut names, mut metrics) = (HashSet::new(), HashSet::new());
        for row in COLLECTORS {
            assert!(names.insert(row.name), "{}", row.name);
            assert!(row.metrics.iter().all(|m| metrics.insert(m)), "{}", row.name);
        }
    }

    #[test]
    fn the_list_chooses() {
        let names = |system: &[&str]| {
            let system = system.iter().map(|s| s.to_string()).collect();
            let config = CollectionConfig { system, host: Some("h".into()), ..Default::default() };
            let mut opened = open(&config).map_err(|e| e.reason)?;
            let Some(host) = opened.first_mut() else { return Ok(String::new()) };
            let messages = host.collect(NOON_NS).unwrap();
            assert_eq!(messages.len(), 1);
            assert_eq!(messages[0].target.tag("host"), Some("h"));
            let names: Vec<_> = messages[0].metrics.iter().map(|(name, _)| &**name).collect();
            Ok::<_, String>(names.join(" "))
        };
        assert_eq!(names(&[]).unwrap(), "");
        assert_eq!(names(&["memory_usage"]).unwrap(), "memory_usage_bytes memory_usage_percent");
        let with_load = "cpu_usage_percent load_average_1m load_average_5m load_average_15m";
        assert_eq!(names(&["cpu_usage"]).unwrap(), with_load);
        let error = names(&["cpu"]).unwrap_err();
        assert!(error.starts_with("collection.system: ") && error.ends_with("found 'cpu'"), "{error}");
    }
}
