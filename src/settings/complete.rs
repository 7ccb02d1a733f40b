//! Defaults that follow other keys.

use std::time::Duration;

use super::report::Origins;
use super::storage::DEFAULT_PATH;
use super::{BusSettings, Mode, Settings, StorageKind, Tier, rules};

/// Fills in the defaults that follow other keys.
pub(super) fn complete(settings: &mut Settings, origins: &Origins) {
    let mode = settings.mode();
    if !origins.is_given("bus.embedded.enabled") {
        settings.bus.embedded.enabled = mode == Mode::Standalone;
    }
    complete_bus(&mut settings.bus, origins);
    if mode == Mode::Producer && !origins.is_given("http.enabled") {
        settings.http.enabled = origins.is_given("http.listen");
    }
    if !origins.is_given("ingest.ack_timeout") {
        settings.ingest.ack_timeout = settings.ingest.ack_timeout.min(settings.http.request_timeout);
    }
    complete_storages(settings, origins);
    complete_journal(settings, origins);
    complete_windows(settings, origins);
    let queue_len_max = settings.alerts.queue_len_max;
    for (at, receiver) in settings.alerts.receivers.iter_mut().enumerate() {
        if !origins.is_given(&format!("alerts.receivers[{at}].queue_len_max")) {
            receiver.queue_len_max = queue_len_max;
        }
    }
    for rule in &mut settings.alerts.rules {
        rules::complete(rule, &settings.windows);
    }
}

fn complete_bus(bus: &mut BusSettings, origins: &Origins) {
    let given = |key| origins.is_given(key);
    if !given("bus.endpoint") && (given("bus.bind") || bus.embedded.enabled) {
        bus.endpoints.clear();
    }
    if !given("bus.publish_endpoint") {
        bus.publish_endpoints.clear();
        if !given("bus.publish_bind") && !bus.embedded.enabled {
            bus.publish_endpoints.clone_from(&bus.endpoints);
            bus.publish_bind.clone_from(&bus.bind);
        }
    }
    take_prefixes(&mut bus.endpoints, &mut bus.bind);
    take_prefixes(&mut bus.publish_endpoints, &mut bus.publish_bind);
    for address in [&mut bus.embedded.frontend, &mut bus.embedded.backend] {
        *address = address.trim_start_matches(['@', '>']).to_string();
    }
}

/// czmq's prefixes say what an address is for, wherever it stands.
fn take_prefixes(connect: &mut Vec<String>, bind: &mut Vec<String>) {
    let mut to_connect = Vec::new();
    let mut to_bind = Vec::new();
    for (address, binds) in connect.drain(..).map(|a| (a, false)).chain(bind.drain(..).map(|a| (a, true))) {
        let (address, binds) = match (address.strip_prefix('@'), address.strip_prefix('>')) {
            (Some(bare), _) => (bare.to_string(), true),
            (_, Some(bare)) => (bare.to_string(), false),
            _ => (address, binds),
        };
        if binds { to_bind.push(address) } else { to_connect.push(address) }
    }
    (*connect, *bind) = (to_connect, to_bind);
}

fn complete_storages(settings: &mut Settings, origins: &Origins) {
    let storages = &settings.storage;
    let paths: Vec<String> = storages.with_paths().map(|(path, _)| path).collect();
    let given = |at: usize, key: &str| origins.is_given(&format!("{}.{key}", paths[at]));
    let named = storages.0.iter().enumerate().filter(|(at, _)| given(*at, "name"));
    let mut names: Vec<String> = named.map(|(_, storage)| storage.name.clone()).collect();
    let performance = &settings.performance;
    for (at, storage) in settings.storage.0.iter_mut().enumerate() {
        if !given(at, "name") {
            storage.name = new_name(storage.kind.word(), &names);
            names.push(storage.name.clone());
        }
        let general = origins.is_given("performance.batch_size");
        match storage.kind {
            _ if given(at, "batch_size") => {}
            StorageKind::Influxdb if !general => storage.batch_size = 5000,
            StorageKind::Prometheus if !general => storage.batch_size = 2000,
            StorageKind::None => {}
            _ => storage.batch_size = performance.batch_size,
        }
        if !given(at, "flush_interval") && storage.kind != StorageKind::None {
            storage.flush_interval = performance.flush_interval;
        }
        if !given(at, "retention") && storage.kind == StorageKind::Influxdb {
            storage.retention = None;
        }
    }
}

/// `word`, or `word-2` and so on where it is taken.
fn new_name(word: &str, taken: &[String]) -> String {
    let numbered = (2..).map(|number| format!("{word}-{number}"));
    let mut names = std::iter::once(word.to_string()).chain(numbered);
    // Of ever new names one is not among the finitely many.
    names.find(|name| !taken.contains(name)).unwrap_or_default()
}

fn complete_journal(settings: &mut Settings, origins: &Origins) {
    let journal = &mut settings.journal;
    if !origins.is_given("journal.path") {
        let mut given =
            settings.storage.with_paths().filter(|(path, _)| origins.is_given(&format!("{path}.path")));
        let folder = given.next().map_or(DEFAULT_PATH, |(_, storage)| &storage.path);
        journal.path = format!("{}/journal", folder.trim_end_matches('/'));
    }
    if !origins.is_given("journal.segment_size") {
        journal.segment_bytes = journal.segment_bytes.min(journal.bytes_max / 8);
    }
    if !origins.is_given("journal.checkpoint_size") {
        journal.checkpoint_bytes = journal.checkpoint_bytes.min(journal.bytes_max / 4);
    }
}

fn complete_windows(settings: &mut Settings, origins: &Origins) {
    let windows = &mut settings.windows;
    match (origins.is_given("windows.pane"), origins.is_given("windows.tiers")) {
        (false, true) => {
            if let Some(first) = windows.tiers.first() {
                windows.pane = first.width;
            }
        }
        (true, false) => {
            let pane = windows.pane;
            windows.tiers = vec![
                Tier { width: pane, retention: (pane * 360).max(Duration::from_secs(3600)) },
                Tier { width: pane * 6, retention: (pane * 4320).max(Duration::from_secs(12 * 3600)) },
            ];
        }
        _ => {}
    }
    if !origins.is_given("windows.series_per_service_max") {
        windows.series_per_service_max = windows.series_per_service_max.min(windows.series_max);
    }
}
