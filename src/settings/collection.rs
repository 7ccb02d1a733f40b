//! Section `collection`: what a producer measures.

use std::collections::BTreeMap;
use std::time::Duration;

use super::compounds::{List, Optional, Sub, Tags};
use super::kinds::{BOOL, Kind, OneOf, Shown, TEXT, Url, duration, size};
use super::report::Report;
use super::section::{Key, Section, joined, section};
use super::words::HttpUrl;
use super::written::{Node, Value};

/// Names that `collection.system` knows.
pub const SYSTEM_METRICS: &[&str] =
    &["cpu_usage", "memory_usage", "disk_usage", "network_io", "load_average", "process_count"];

/// Section `collection`.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectionSettings {
    /// Measure this host, per `system`. Default on.
    pub system_metrics: bool,
    /// Measure applications, per `application`. Default on.
    pub application_metrics: bool,
    /// Run the commands of `custom`. Default on.
    pub custom_metrics: bool,
    /// What of the host: names out of [`SYSTEM_METRICS`]. Default all of them.
    pub system: Vec<String>,
    /// What of applications. Default the documented four of this process, nothing scraped.
    pub application: Vec<Application>,
    /// Commands that print metrics. Default none.
    pub custom: Vec<CommandSettings>,
}

impl CollectionSettings {
    /// Names of the process's own metrics that are published.
    pub fn own_metrics(&self) -> impl Iterator<Item = &str> {
        self.application.iter().filter_map(|entry| match entry {
            Application::Own(name) => Some(name.as_str()),
            Application::Scrape(_) => None,
        })
    }

    /// Endpoints that are scraped.
    pub fn scrapes(&self) -> impl Iterator<Item = &ScrapeSettings> {
        self.application.iter().filter_map(|entry| match entry {
            Application::Own(_) => None,
            Application::Scrape(scrape) => Some(scrape),
        })
    }
}

impl Default for CollectionSettings {
    fn default() -> Self {
        CollectionSettings {
            system_metrics: true,
            application_metrics: true,
            custom_metrics: true,
            system: SYSTEM_METRICS.iter().map(|name| name.to_string()).collect(),
            application: ["request_count", "response_time", "error_rate", "queue_depth"]
                .map(|name| Application::Own(name.into()))
                .to_vec(),
            custom: Vec::new(),
        }
    }
}

/// An entry of `collection.application`: the name of a metric of this process, or an endpoint to scrape.
#[derive(Clone, Debug, PartialEq)]
pub enum Application {
    /// A metric of this process, by its documented name.
    Own(String),
    /// An `http://` or `https://` address, or a mapping with more about it.
    Scrape(ScrapeSettings),
}

/// An endpoint that serves Prometheus text.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeSettings {
    /// Its address.
    pub url: HttpUrl,
    /// Service of samples without the label `job`; `None`: `application`.
    pub service: Option<String>,
    /// More tags on its samples. Default none.
    pub tags: BTreeMap<String, String>,
    /// Families to take, such as `response_time`; unit and kind in a name don't matter. Default all.
    pub families: Vec<String>,
    /// `None`: `service.interval`.
    pub interval: Option<Duration>,
    /// Time for one scrape. Default 5 s.
    pub timeout: Duration,
    /// `body_max`: bytes of one answer. Default 16 MiB.
    pub body_bytes_max: u64,
}

impl Default for ScrapeSettings {
    fn default() -> Self {
        ScrapeSettings {
            url: HttpUrl::default(),
            service: None,
            tags: BTreeMap::new(),
            families: Vec::new(),
            interval: None,
            timeout: Duration::from_secs(5),
            body_bytes_max: 16 << 20,
        }
    }
}

/// A command that prints JSON or Prometheus text.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSettings {
    /// Program and arguments, no shell; a text instead of a list runs as `/bin/sh -c TEXT`.
    pub command: Vec<String>,
    /// Service of samples that name none; `None`: `service.name`.
    pub service: Option<String>,
    /// More tags on its samples. Default none.
    pub tags: BTreeMap<String, String>,
    /// `None`: `service.interval`.
    pub interval: Option<Duration>,
    /// Time after which it is killed. Default 5 s.
    pub timeout: Duration,
    /// `output_max`: bytes that it may print. Default 1 MiB.
    pub output_bytes_max: u64,
}

impl Default for CommandSettings {
    fn default() -> Self {
        CommandSettings {
            command: Vec::new(),
            service: None,
            tags: BTreeMap::new(),
            interval: None,
            timeout: Duration::from_secs(5),
            output_bytes_max: 1 << 20,
        }
    }
}

section! { CollectionSettings requires [] {
    "system_metrics" => system_metrics: BOOL,
    "application_metrics" => application_metrics: BOOL,
    "custom_metrics" => custom_metrics: BOOL,
    "system" => system: List(OneOf(SYSTEM_METRICS)),
    "application" => application: List(ApplicationKind),
    "custom" => custom: List(CustomKind),
} }

section! { ScrapeSettings requires ["url"] {
    "url" => url: Url,
    "service" => service: Optional(TEXT),
    "tags" => tags: Tags,
    "families" => families: List(TEXT),
    "interval" => interval: Optional(duration("10ms", "1d")),
    "timeout" => timeout: duration("10ms", "1h"),
    "body_max" => body_bytes_max: size(1 << 10, 1 << 30),
} }

section! { CommandSettings requires ["command"] {
    "command" => command: CommandLine,
    "service" => service: Optional(TEXT),
    "tags" => tags: Tags,
    "interval" => interval: Optional(duration("10ms", "1d")),
    "timeout" => timeout: duration("10ms", "1h"),
    "output_max" => output_bytes_max: size(1, 1 << 30),
} }

impl Default for Application {
    fn default() -> Self {
        Application::Own(String::new())
    }
}

/// A name, an address, or a mapping about an address.
struct ApplicationKind;

impl Kind<Application> for ApplicationKind {
    fn read(&self, node: &Node, into: &mut Application, key: &str, report: &mut Report) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let mut scrape = ScrapeSettings::default();
        match node.text() {
            Some(text) if !text.is_empty() && text.chars().all(is_name) => {
                *into = Application::Own(text.into());
            }
            Some(text) if text.contains("://") => {
                let key = joined(key, "url");
                report.given(&key, &node.origin);
                Url.read(node, &mut scrape.url, &key, report);
                *into = Application::Scrape(scrape);
            }
            None if matches!(node.value, Value::Map(_)) => {
                Sub.read(node, &mut scrape, key, report);
                *into = Application::Scrape(scrape);
            }
            _ => {
                let text = format!(
                    "expected the name of a metric, an address such as http://localhost:9100/metrics, \
                     or a mapping with url, found {node}"
                );
                report.problem(&node.origin, key, text);
            }
        }
    }

    fn show(&self, value: &Application) -> Shown {
        match value {
            Application::Own(name) => Shown::Text(name.clone()),
            Application::Scrape(scrape) => Sub.show(scrape),
        }
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        ScrapeSettings::keys(key, keys);
    }
}

/// A mapping, or the text of a command alone.
struct CustomKind;

impl Kind<CommandSettings> for CustomKind {
    fn read(&self, node: &Node, into: &mut CommandSettings, key: &str, report: &mut Report) {
        match node.text() {
            Some(_) => {
                let key = joined(key, "command");
                report.given(&key, &node.origin);
                CommandLine.read(node, &mut into.command, &key, report);
            }
            None => Sub.read(node, into, key, report),
        }
    }

    fn show(&self, value: &CommandSettings) -> Shown {
        Sub.show(value)
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        CommandSettings::keys(key, keys);
    }
}

/// A list of program and arguments, or a text for the shell.
struct CommandLine;

impl Kind<Vec<String>> for CommandLine {
    fn read(&self, node: &Node, into: &mut Vec<String>, key: &str, report: &mut Report) {
        match (&node.value, node.text()) {
            (_, Some(text)) if !text.trim().is_empty() => {
                *into = vec!["/bin/sh".into(), "-c".into(), text.into()];
            }
            (Value::List(words), _) if !words.is_empty() => List(TEXT).read(node, into, key, report),
            _ => {
                let text = format!("expected a command, or a list of program and arguments, found {node}");
                report.problem(&node.origin, key, text);
            }
        }
    }

    fn show(&self, value: &Vec<String>) -> Shown {
        List(TEXT).show(value)
    }
}
