//! What no single key can tell: defaults that follow other keys, and combinations that cannot be.

use std::time::Duration;

use super::report::{Origin, Origins, Report};
use super::storage::STORAGE_TYPES;
use super::units::show_duration;
use super::{BusSettings, Mode, RuleSettings, Settings, StorageKind, Tier, WindowsSettings};

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
    if !origins.is_given("storage.type") && origins.is_given("storage.url") {
        settings.storage.kind = StorageKind::Influxdb;
    }
    complete_windows(settings, origins);
    for rule in settings.alerts.rules.iter_mut().filter(|rule| rule.message.is_empty()) {
        rule.message = message_of(rule);
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

fn message_of(rule: &RuleSettings) -> String {
    let lasting = match rule.duration {
        Duration::ZERO => String::new(),
        duration => format!(" for {}", show_duration(duration)),
    };
    format!("{} {} {}{lasting}", rule.metric, rule.operator, rule.threshold)
}

/// Reports the combinations that cannot be.
pub(super) fn check(settings: &Settings, report: &mut Report) {
    check_bus(settings, report);
    check_tiers(&settings.windows, report);
    check_windows(&settings.windows, report);
    check_storage(settings, report);
    check_rules(settings, report);
    let http = &settings.http;
    if http.header_timeout > http.request_timeout {
        report.conflict(
            &["http.header_timeout", "http.request_timeout"],
            format!(
                "expected header_timeout within request_timeout, found {} and {}",
                show_duration(http.header_timeout),
                show_duration(http.request_timeout)
            ),
        );
    }
}

fn check_bus(settings: &Settings, report: &mut Report) {
    let bus = &settings.bus;
    for (keys, addresses) in [
        (["bus.endpoint", "bus.bind"], &bus.endpoints),
        (["bus.publish_endpoint", "bus.publish_bind"], &bus.publish_endpoints),
    ] {
        let given = keys.iter().any(|key| report.origins.is_given(key));
        if let Some(address) = addresses.iter().find(|address| given && has_no_peer(address)) {
            let text = format!("expected an address to connect to, found {address}; bind is for listening");
            report.conflict(&keys, text);
        }
    }
    let embedded = &bus.embedded;
    if embedded.enabled && embedded.frontend == embedded.backend && !embedded.frontend.ends_with(":0") {
        let text = format!("expected two addresses, found {} for both", embedded.frontend);
        report.conflict(&["bus.embedded.backend", "bus.embedded.frontend"], text);
    }
    let hears = !bus.endpoints.is_empty() || !bus.bind.is_empty() || embedded.enabled;
    if settings.mode() == Mode::Consumer && !hears && !settings.http.enabled {
        let text = "expected a source of samples, found no endpoint, no bind, and http.enabled: false";
        report.conflict(&["bus.endpoint", "bus.bind", "http.enabled"], text);
    }
    let speaks = !bus.publish_endpoints.is_empty() || !bus.publish_bind.is_empty() || embedded.enabled;
    if settings.mode() == Mode::Producer && !speaks {
        let text = "expected where to publish, found no publish_endpoint and no publish_bind";
        report.conflict(&["bus.publish_endpoint", "bus.publish_bind", "bus.endpoint"], text);
    }
}

/// Whether `address` is good for listening only.
fn has_no_peer(address: &str) -> bool {
    address.ends_with(":0") || address.ends_with(":*") || address.starts_with("tcp://*:")
}

fn check_tiers(windows: &WindowsSettings, report: &mut Report) {
    let Some(first) = windows.tiers.first() else {
        return report.conflict(&["windows.tiers"], "expected at least one tier, found none");
    };
    let show = show_duration;
    if first.width != windows.pane {
        let text = format!(
            "expected the width of the first tier, {}, found {}",
            show(first.width),
            show(windows.pane)
        );
        report.conflict(&["windows.pane", "windows.tiers"], text);
    }
    for (at, tier) in windows.tiers.iter().enumerate() {
        if tier.retention < tier.width {
            let text = format!(
                "expected a retention of at least {}, found {}",
                show(tier.width),
                show(tier.retention)
            );
            report.conflict(&["windows.tiers"], format!("tier {}: {text}", at + 1));
        }
    }
    for (at, pair) in windows.tiers.windows(2).enumerate() {
        let is_multiple = pair[1].width.as_nanos().is_multiple_of(pair[0].width.as_nanos());
        if !is_multiple || pair[1].width == pair[0].width {
            let text = format!(
                "tier {}: expected a multiple of {}, found {}",
                at + 2,
                show(pair[0].width),
                show(pair[1].width)
            );
            report.conflict(&["windows.tiers", "windows.pane"], text);
        }
        if pair[1].retention <= pair[0].retention {
            let (least, found) = (show(pair[0].retention), show(pair[1].retention));
            let text = format!("tier {}: expected a retention of more than {least}, found {found}", at + 2);
            report.conflict(&["windows.tiers", "windows.pane"], text);
        }
    }
}

fn check_windows(windows: &WindowsSettings, report: &mut Report) {
    let show = show_duration;
    let Some((first, last)) = windows.tiers.first().zip(windows.tiers.last()) else { return };
    if windows.lateness > first.retention {
        let text = format!(
            "expected at most {}, which the first tier holds, found {}",
            show(first.retention),
            show(windows.lateness)
        );
        report.conflict(&["windows.lateness", "windows.tiers", "windows.pane"], text);
    }
    if let Some(horizon) = windows.correction_horizon {
        if horizon < windows.lateness {
            let text =
                format!("expected at least lateness, {}, found {}", show(windows.lateness), show(horizon));
            report.conflict(&["windows.correction_horizon", "windows.lateness"], text);
        }
        if horizon > last.retention {
            let text = format!(
                "expected at most {}, which the last tier holds, found {}",
                show(last.retention),
                show(horizon)
            );
            report.conflict(&["windows.correction_horizon", "windows.tiers"], text);
        }
    }
    if windows.series_per_service_max > windows.series_max {
        let text = format!(
            "expected at most series_max, {}, found {}",
            windows.series_max, windows.series_per_service_max
        );
        report.conflict(&["windows.series_per_service_max", "windows.series_max"], text);
    }
}

fn check_storage(settings: &Settings, report: &mut Report) {
    let storage = &settings.storage;
    if settings.mode() == Mode::Producer
        || report.has_problem(&["service.type", "storage.type", "storage.url"])
    {
        return;
    }
    if !STORAGE_TYPES.contains(&storage.kind) {
        let built: Vec<&str> = STORAGE_TYPES.iter().map(|kind| kind.word()).collect();
        let implied = match report.origins.is_given("storage.type") {
            true => String::new(),
            false => " (implied by storage.url)".into(),
        };
        let text = format!(
            "expected a storage type of this build, {}, found {}{implied}",
            built.join(" or "),
            storage.kind
        );
        let origin = report.origins.of(if implied.is_empty() { "storage.type" } else { "storage.url" });
        return report.problem(&origin, "storage.type", text);
    }
    let has_server = matches!(storage.kind, StorageKind::Influxdb | StorageKind::Prometheus);
    let layer = |key| report.origins.of(key).rank().0;
    if !has_server && storage.url.is_some() && layer("storage.url") >= layer("storage.type") {
        let type_origin = match report.origins.of("storage.type") {
            Origin::Default => String::new(),
            origin => format!(" ({origin})"),
        };
        let text = format!("expected no url, as storage.type is {}{type_origin}, found one", storage.kind);
        report.conflict(&["storage.url", "storage.type"], text);
    }
    if storage.kind == StorageKind::Influxdb && storage.url.is_none() {
        report.conflict(&["storage.type", "storage.url"], "expected storage.url for influxdb, found none");
    }
}

fn check_rules(settings: &Settings, report: &mut Report) {
    let rules = &settings.alerts.rules;
    for (at, rule) in rules.iter().enumerate() {
        if rules[..at].iter().any(|other| other.name == rule.name) {
            let text = format!("expected names that differ, found {:?} twice", rule.name);
            let key = format!("alerts.rules[{at}].name");
            report.conflict(&[&key], text);
        }
    }
}
