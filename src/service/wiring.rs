//! Settings -> the configuration that each room takes. No decisions beyond units and names.

mod rules;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dataflows::plan::Plan;
use operators::alerts::Slack;
use operators::catalog::CatalogLimits;
use operators::closing::ClosingPlan;
use operators::rollup::binding::RollupLimits;
use operators::sample::DurationNs;
use operators::tier::{Tier, WindowPlan};

use super::upkeep::UpkeepConfig;
use crate::bus::{
    Attach, BusError, Endpoint, ForwarderConfig, Framing, LinkConfig, PublisherConfig, ReceiveKind,
    ReceiverConfig, TransportKind,
};
use crate::codec::decoder::Limits;
use crate::codec::statsd::table::TableConfig;
use crate::collectors::CollectionConfig;
use crate::collectors::command::CommandConfig;
use crate::collectors::scrape::ScrapeConfig;
use crate::delivery::DeliveryConfig;
use crate::http::HttpConfig;
use crate::intake::IntakeConfig;
use crate::journal::log::LogConfig;
use crate::keeper::{Durability, KeeperConfig, WhenFull};
use crate::rollups::Wanted;
use crate::settings::{self, BusSettings, JournalSettings, Settings, StorageSettings, WindowsSettings};
use crate::statsd::StatsdConfig;

pub use rules::{rule, rule_in, rules};

pub(super) fn ns(duration: Duration) -> DurationNs {
    DurationNs::try_from(duration.as_nanos()).unwrap_or(DurationNs::MAX)
}

/// What the engine runs.
pub fn plan(settings: &Settings) -> Plan {
    Plan {
        workers: settings.performance.worker_count,
        windows: window_plan(&settings.windows),
        epochs_queued_max: 16,
        closing: closing(settings),
        slack: settings.alerts.slack.map_or_else(Slack::default, |slack| Slack::Fixed(ns(slack))),
        rollups: RollupLimits {
            groups_max: settings.windows.rollup_groups_max,
            members_max: settings.windows.rollup_members_max,
        },
        ..Plan::default()
    }
}

/// Panes, tiers, lateness.
pub fn window_plan(windows: &WindowsSettings) -> WindowPlan {
    let tiers: Vec<Tier> =
        windows.tiers.iter().map(|t| Tier { width_ns: ns(t.width), retention_ns: ns(t.retention) }).collect();
    let held_ns = tiers.last().map_or(0, |tier| tier.retention_ns);
    WindowPlan {
        tiers,
        lateness_ns: ns(windows.lateness),
        correction_horizon_ns: windows.correction_horizon.map_or(held_ns, ns),
        idle_timeout_ns: ns(windows.idle_timeout),
    }
}

/// Limits of the catalog.
pub fn catalog_limits(settings: &Settings) -> CatalogLimits {
    CatalogLimits {
        series_max: settings.windows.series_max,
        series_per_service_max: settings.windows.series_per_service_max,
    }
}

/// What makes a sample of a format acceptable.
pub fn limits(settings: &Settings, format: &str) -> Limits {
    let ingest = &settings.ingest;
    Limits {
        tags_len_max: ingest.tags_per_series_max,
        name_len_max: ingest.name_len_max,
        tag_len_max: ingest.tag_len_max,
        future_max_ns: ns(ingest.future_max),
        dedup: ingest.dedup.of(format),
    }
}

/// The StatsD listener.
pub fn statsd(settings: &Settings) -> StatsdConfig {
    let statsd = &settings.statsd;
    StatsdConfig {
        listen: statsd.listen,
        interval_ns: ns(statsd.flush_interval),
        datagram_len_max: statsd.datagram_bytes_max as usize,
        receive_buffer_bytes: statsd.receive_buffer_bytes as usize,
        table: TableConfig {
            service: statsd.service.clone(),
            series_max: statsd.series_max,
            set_values_max: statsd.set_values_max,
            expire_after_ns: ns(statsd.expire_after),
        },
    }
}

/// The door.
pub fn intake(settings: &Settings) -> IntakeConfig {
    IntakeConfig {
        // `buffer_size` counts messages; a hundred samples to each is plenty.
        in_flight_max: settings.performance.buffer_size.saturating_mul(100),
        memory_budget_bytes: settings.windows.memory_budget_bytes,
        requests_max: settings.ingest.idempotency_keys_max,
        requests_retention_ns: ns(settings.ingest.idempotency_retention),
        ack_timeout: settings.ingest.ack_timeout,
        ..IntakeConfig::default()
    }
}

/// What an answer waits for.
pub fn durability(journal: &JournalSettings) -> Durability {
    match journal.durability {
        settings::Durability::Fsync => Durability::Fsync,
        settings::Durability::Os => Durability::Os,
        settings::Durability::Memory => Durability::Memory,
    }
}

/// Bytes of a journal in memory.
const MEMORY_JOURNAL_BYTES: u64 = 128 << 20;

/// How the journal is kept.
pub fn keeper(settings: &Settings, durability: Durability) -> KeeperConfig {
    let journal = &settings.journal;
    let bytes_max = match durability {
        Durability::Memory => journal.bytes_max.min(MEMORY_JOURNAL_BYTES),
        Durability::Fsync | Durability::Os => journal.bytes_max,
    };
    KeeperConfig {
        durability,
        fsync_interval: journal.fsync_interval,
        bytes_max,
        when_full: match journal.when_full {
            settings::WhenFull::DropOldest => WhenFull::DropOldest,
            settings::WhenFull::Refuse => WhenFull::Refuse,
        },
        free_bytes_min: journal.free_bytes_min,
        recent_bytes: settings.windows.recent_bytes as usize,
        ..KeeperConfig::default()
    }
}

/// The logs of journal and outbox, below `dir`.
pub fn logs(settings: &Settings, dir: &Path) -> (LogConfig, LogConfig) {
    let journal = LogConfig {
        dir: dir.join("segments"),
        segment_bytes: settings.journal.segment_bytes.min(settings.journal.bytes_max / 8),
        bytes_max: settings.journal.bytes_max,
        ..LogConfig::default()
    };
    let outbox = LogConfig { dir: dir.join("outbox"), every_number_of: None, ..journal.clone() };
    (journal, outbox)
}

/// When there is a checkpoint.
pub fn upkeep(settings: &Settings) -> UpkeepConfig {
    UpkeepConfig {
        interval: settings.journal.checkpoint_interval,
        journal_bytes: settings.journal.checkpoint_bytes,
    }
}

/// What closed windows say, if some storage wants them.
fn closing(settings: &Settings) -> Option<ClosingPlan> {
    let names = window_functions(settings);
    // The settings take names of window functions alone.
    (!names.is_empty()).then(|| ClosingPlan::parse(names.iter().map(String::as_str)).ok()).flatten()
}

/// Names of the functions that some storage wants of closed windows; none if no storage wants windows.
pub fn window_functions(settings: &Settings) -> Vec<String> {
    let storages =
        settings.storage.used().filter(|storage| storage.store.contains(&settings::Stored::Windows));
    let mut names: Vec<String> = storages.flat_map(|storage| storage.window_functions.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The rollups that are wanted.
pub fn rollups(settings: &Settings) -> Vec<Wanted> {
    let wanted = |rollup: &settings::RollupSettings| Wanted {
        rollup: Arc::new(rollup.rollup(&settings.windows)),
        is_stored: rollup.store,
    };
    settings.rollups.iter().map(wanted).collect()
}

/// Limits of the API.
pub fn http(settings: &Settings) -> HttpConfig {
    let http = &settings.http;
    HttpConfig {
        body_bytes_max: http.body_bytes_max as usize,
        header_timeout: http.header_timeout,
        request_timeout: http.request_timeout,
        connections_max: http.connections_max,
        results_max: http.results_max,
        compression: settings.performance.compression,
        metrics_paths: settings
            .storage
            .used()
            .filter(|storage| storage.kind == settings::StorageKind::Prometheus)
            .map(|storage| storage.metrics_path.clone())
            .collect(),
    }
}

/// What feeds a storage. `batch_size` counts messages, of which each has some samples.
pub fn delivery(storage: &StorageSettings) -> DeliveryConfig {
    DeliveryConfig {
        batch_samples: (storage.batch_size as u64).saturating_mul(8),
        flush_interval: storage.flush_interval,
        retry_min: storage.retry_min,
        retry_max: storage.retry_max,
        ..DeliveryConfig::default()
    }
}

fn link(bus: &BusSettings) -> LinkConfig {
    let defaults = LinkConfig::default();
    LinkConfig {
        reconnect_min: defaults.reconnect_min.min(bus.reconnect_max),
        reconnect_max: bus.reconnect_max,
        heartbeat_interval: bus.heartbeat.unwrap_or(Duration::ZERO),
        ..defaults
    }
}

fn endpoints(connect: &[String], bind: &[String]) -> Result<Vec<Endpoint>, BusError> {
    let connect = connect.iter().map(|text| Endpoint::parse(text, Attach::Connect));
    connect.chain(bind.iter().map(|text| Endpoint::parse(text, Attach::Bind))).collect()
}

/// The receiving side of the bus; `inside` is the embedded bus's backend, if there is one.
///
/// # Errors
/// An endpoint that can't be read.
pub fn receiver(settings: &Settings, inside: Option<&str>) -> Result<ReceiverConfig, BusError> {
    let bus = &settings.bus;
    let mut endpoints = endpoints(&bus.endpoints, &bus.bind)?;
    if let Some(inside) = inside {
        endpoints.push(Endpoint::parse(inside, Attach::Connect)?);
    }
    Ok(ReceiverConfig {
        endpoints,
        kind: match bus.kind {
            settings::BusKind::Sub => ReceiveKind::Sub,
            settings::BusKind::Pull => ReceiveKind::Pull,
        },
        topics: bus.topics.clone(),
        max_frame_bytes: bus.frame_bytes_max as usize,
        queue_batches: (bus.queue_len_max / 64).max(16),
        link: link(bus),
        transport: match bus.transport {
            settings::Transport::Native => TransportKind::Zmtp,
            settings::Transport::Zeromq => TransportKind::Zeromq,
        },
        ..ReceiverConfig::default()
    })
}

/// The publishing side of the bus; `inside` is the embedded bus's frontend, if there is one.
///
/// # Errors
/// An endpoint that can't be read.
pub fn publisher(settings: &Settings, inside: Option<&str>) -> Result<PublisherConfig, BusError> {
    let bus = &settings.bus;
    let mut endpoints = endpoints(&bus.publish_endpoints, &bus.publish_bind)?;
    if let Some(inside) = inside {
        endpoints.push(Endpoint::parse(inside, Attach::Connect)?);
    }
    let framing = match bus.framing {
        settings::Framing::Frames => Framing::Frames,
        settings::Framing::Envelope => Framing::Envelope,
    };
    Ok(PublisherConfig {
        endpoints,
        framing,
        queue_messages: bus.queue_len_max,
        link: link(bus),
        ..PublisherConfig::default()
    })
}

/// The embedded bus.
///
/// # Errors
/// An endpoint that can't be read.
pub fn forwarder(settings: &Settings) -> Result<ForwarderConfig, BusError> {
    let embedded = &settings.bus.embedded;
    Ok(ForwarderConfig {
        publishers: vec![Endpoint::parse(&embedded.frontend, Attach::Bind)?],
        subscribers: vec![Endpoint::parse(&embedded.backend, Attach::Bind)?],
        max_frame_bytes: settings.bus.frame_bytes_max as usize,
        queue_messages: settings.bus.queue_len_max,
        link: link(&settings.bus),
        ..ForwarderConfig::default()
    })
}

/// What a producer measures, its own metrics apart.
pub fn collection(settings: &Settings) -> CollectionConfig {
    let (service, collection) = (&settings.service, &settings.collection);
    let pairs = |tags: &std::collections::BTreeMap<String, String>| -> Vec<(String, String)> {
        tags.iter().map(|(n, v)| (n.clone(), v.clone())).collect()
    };
    let scrapes = collection.scrapes().map(|scrape| ScrapeConfig {
        url: scrape.url.as_str().into(),
        service: scrape.service.clone().unwrap_or_else(|| ScrapeConfig::default().service),
        tags: pairs(&scrape.tags),
        families: scrape.families.clone(),
        timeout: scrape.timeout,
        body_max_bytes: scrape.body_bytes_max as usize,
        interval: scrape.interval,
    });
    let commands = collection.custom.iter().map(|custom| CommandConfig {
        name: custom.command.first().cloned().unwrap_or_default(),
        argv: custom.command.clone(),
        service: custom.service.clone().unwrap_or_else(|| CommandConfig::default().service),
        tags: pairs(&custom.tags),
        timeout: custom.timeout,
        output_max_bytes: custom.output_bytes_max as usize,
        interval: custom.interval,
    });
    CollectionConfig {
        service: service.name.clone(),
        host: service.host.clone(),
        tags: pairs(&service.tags),
        system: if collection.system_metrics { collection.system.clone() } else { Vec::new() },
        scrapes: if collection.application_metrics { scrapes.collect() } else { Vec::new() },
        commands: if collection.custom_metrics { commands.collect() } else { Vec::new() },
        ..CollectionConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Application, ScrapeSettings};

    #[test]
    fn names_of_own_metrics_do_not_narrow_what_is_scraped() {
        let (all, some) = (ScrapeSettings::default(), vec!["response_time".to_string()]);
        let some = ScrapeSettings { families: some, ..ScrapeSettings::default() };
        let mut settings = Settings::default();
        settings.collection.application.extend([all, some].map(Application::Scrape));
        let families: Vec<Vec<String>> =
            collection(&settings).scrapes.into_iter().map(|scrape| scrape.families).collect();
        assert_eq!(families, [vec![], vec!["response_time".to_string()]]);
    }

    #[test]
    fn the_default_settings_make_a_sound_plan() {
        assert_eq!(plan(&Settings::default()).check(), Ok(()));
    }
}
