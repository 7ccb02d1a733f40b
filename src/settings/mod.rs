//! Configuration: YAML file, environment, command line -> one validated [`Settings`].
//!
//! As written -> validated, in two steps: the sources become one tree of `written` nodes that know where they
//! were given; the sections' tables give them meaning. All that is wrong is reported at once, with its place.
//!
//! # Layout
//! - one file a section: [`service`] (with logging), [`bus`], [`http`] (with ingest), [`statsd`], [`windows`], [`journal`],
//!   [`storage`] (and [`storages`], which are one or a list), [`collection`], [`rollups`], [`alerts`] (and its [`rules`]
//!   and [`receivers`]), [`performance`]; each ends with the table of its keys
//! - [`words`]: value types: choices, secrets, addresses; [`units`]: durations and sizes
//! - [`machine`]: what defaults follow the machine
//! - [`mod@load`]: sources, lowest first: defaults, file, environment, flags
//! - [`mod@env`]: variables; `yaml`: the file; `written`: the tree both give
//! - `kinds`: how values are read and shown; `compounds`: lists, tags, what may be absent; [`section`]: how tables of keys are
//! - `complete`: defaults that follow other keys; `check`, `check_storage`, `check_receivers`: combinations that cannot be
//! - [`print()`]: settings -> YAML; [`report`]: places and problems

pub mod alerts;
pub mod bus;
pub mod collection;
pub mod http;
pub mod journal;
pub mod machine;
pub mod performance;
pub mod receivers;
pub mod rollups;
pub mod rules;
pub mod service;
pub mod statsd;
pub mod storage;
pub mod storages;
pub mod windows;
pub mod words;

pub mod units;

pub mod load;

pub mod env;
mod written;
mod yaml;

mod compounds;
mod kinds;
pub mod section;

mod check;
mod check_receivers;
mod check_storage;
mod complete;
mod print;
pub mod report;

use compounds::{List, Sub};
use section::section;
use storages::OneOrMany;

pub use env::CONFIG as CONFIG_VARIABLE;
pub use load::{Flags, load, load_traced};
pub use print::{print, print_rules};
pub use report::{Origin, Origins, Problem, SettingsErrors};

pub use alerts::AlertsSettings;
pub use bus::{BusKind, BusSettings, EmbeddedBusSettings, Framing, Transport};
pub use check_receivers::SHORTHAND;
pub use collection::{Application, CollectionSettings, CommandSettings, ScrapeSettings};
pub use http::{DedupSettings, HttpSettings, IngestSettings};
pub use journal::{Durability, JournalSettings, WhenFull};
pub use performance::PerformanceSettings;
pub use receivers::{
    AlertMatchSettings, Day, MaintenanceSettings, ReceiverKind, ReceiverSettings, SilenceSettings,
    TlsSettings,
};
pub use rollups::RollupSettings;
pub use rules::files::{RuleFile, load_rules, read_rules, rule_of_json};
pub use rules::test_file::{RuleTest, TestFile, read_tests};
pub use rules::{Operator, OverSettings, RuleCondition, RuleSettings, RuleSource, Threshold};
pub use service::{Level, LogFormat, LoggingSettings, Mode, ServiceSettings};
pub use statsd::StatsdSettings;
pub use storage::{
    FileFormat, InfluxApi, Precision, RemoteWrite, Rotation, StorageKind, StorageSettings, Stored,
};
pub use storages::Storages;
pub use windows::{Tier, WindowsSettings};
pub use words::{HttpUrl, Secret};

/// The whole configuration, validated. `Default` is that of a consumer with nothing configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// What this process is.
    pub service: ServiceSettings,
    /// How it speaks.
    pub logging: LoggingSettings,
    /// Where messages come from and go to.
    pub bus: BusSettings,
    /// The API.
    pub http: HttpSettings,
    /// What makes a sample acceptable.
    pub ingest: IngestSettings,
    /// Metrics over UDP.
    pub statsd: StatsdSettings,
    /// Panes, tiers, time, limits.
    pub windows: WindowsSettings,
    /// The log from which everything is restored. See [`Settings::journal`].
    pub journal: JournalSettings,
    /// Where messages are stored.
    pub storage: Storages,
    /// What a producer measures.
    pub collection: CollectionSettings,
    /// Windows over groups of series.
    pub rollups: Vec<RollupSettings>,
    /// Rules and receivers.
    pub alerts: AlertsSettings,
    /// Batches, workers, queues.
    pub performance: PerformanceSettings,
}

section! { Settings requires [] {
    "service" => service: Sub,
    "logging" => logging: Sub,
    "bus" => bus: Sub,
    "http" => http: Sub,
    "ingest" => ingest: Sub,
    "statsd" => statsd: Sub,
    "windows" => windows: Sub,
    "journal" => journal: Sub,
    "storage" => storage: OneOrMany,
    "collection" => collection: Sub,
    "rollups" => rollups: List(Sub),
    "alerts" => alerts: Sub,
    "performance" => performance: Sub,
} }

impl Settings {
    /// The mode: consumer, producer or standalone.
    pub fn mode(&self) -> Mode {
        self.service.mode
    }

    /// The journal; a producer has none.
    pub fn journal(&self) -> Option<&JournalSettings> {
        (self.mode() != Mode::Producer).then_some(&self.journal)
    }
}
