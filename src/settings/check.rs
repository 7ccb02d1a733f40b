//! What no single key can tell: combinations that cannot be.

use super::check_receivers::check_receivers;
use super::check_storage::{check_journal, check_storages};
use super::report::Report;
use super::rules::{Names, check_names, check_windows as check_windows_of_rules};
use super::units::show_duration;
use super::{Mode, Settings, WindowsSettings, rollups};

/// Reports the combinations that cannot be.
pub(super) fn check(settings: &Settings, report: &mut Report) {
    check_bus(settings, report);
    check_tiers(&settings.windows, report);
    check_windows(&settings.windows, report);
    if settings.mode() != Mode::Producer && !report.has_problem(&["service.type"]) {
        check_storages(settings, report);
        check_journal(settings, report);
    }
    let rules = &settings.alerts.rules;
    check_names(&mut Names::default(), rules, report);
    check_windows_of_rules(rules, &settings.windows, report);
    check_receivers(settings, report);
    rollups::check(&settings.rollups, &settings.windows, report);
    check_http(settings, report);
}

fn check_http(settings: &Settings, report: &mut Report) {
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
    if settings.ingest.ack_timeout > http.request_timeout {
        let text = format!(
            "expected at most http.request_timeout, {}, found {}",
            show_duration(http.request_timeout),
            show_duration(settings.ingest.ack_timeout)
        );
        report.conflict(&["ingest.ack_timeout", "http.request_timeout"], text);
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
