//! Combinations of receivers, silences and maintenance windows that cannot be.

use super::receivers::{AlertMatchSettings, has_key};
use super::report::Report;
use super::section::Section;
use super::units::show_duration;
use super::{ReceiverKind, ReceiverSettings, Settings};

/// The name of the receiver that `alerts.webhook_url` stands for.
pub const SHORTHAND: &str = "webhook";

/// Checks each of them, then their names together.
pub(super) fn check_receivers(settings: &Settings, report: &mut Report) {
    let alerts = &settings.alerts;
    for (at, receiver) in alerts.receivers.iter().enumerate() {
        let path = format!("alerts.receivers[{at}]");
        if !report.has_problem(&[&format!("{path}.type")]) {
            check_type(&path, receiver, report);
            check_places(&path, receiver, report);
        }
        check_tls(&path, receiver, report);
        let taken = alerts.receivers[..at].iter().any(|other| other.name == receiver.name);
        let shorthand = alerts.webhook_url.is_some() && receiver.name == SHORTHAND;
        if taken || shorthand {
            let whose = if taken { " twice" } else { ", which alerts.webhook_url stands for" };
            let text = format!("expected names that differ, found {:?}{whose}", receiver.name);
            report.conflict(&[&format!("{path}.name")], text);
        }
    }
    for (at, silence) in alerts.silences.iter().enumerate() {
        let path = format!("alerts.silences[{at}]");
        check_match(&path, &silence.wanted, report);
        if silence.starts_at_ns.is_some_and(|starts_at_ns| starts_at_ns >= silence.ends_at_ns) {
            let keys = [format!("{path}.ends_at"), format!("{path}.starts_at")];
            report.conflict(&[&keys[0], &keys[1]], "expected a time after starts_at, found none after it");
        }
    }
    for (at, window) in alerts.maintenance.iter().enumerate() {
        let path = format!("alerts.maintenance[{at}]");
        check_match(&path, &window.wanted, report);
        if window.days.is_empty() {
            report.conflict(&[&format!("{path}.days")], "expected at least one day, found none");
        }
    }
}

fn check_match(path: &str, wanted: &AlertMatchSettings, report: &mut Report) {
    if wanted.is_open() {
        let text = "expected at least one key, found none; for all alerts there is rule: \"*\"";
        report.conflict(&[&format!("{path}.match")], text);
    }
}

fn check_type(path: &str, receiver: &ReceiverSettings, report: &mut Report) {
    for key in ReceiverSettings::KEYS.iter().filter(|key| !has_key(receiver.kind, key)) {
        let given = format!("{path}.{key}");
        let below = format!("{given}.");
        let is_given =
            report.origins.is_given(&given) || report.origins.keys().any(|key| key.starts_with(&below));
        if is_given {
            let text = format!("expected no {key}, as {path}.type is {}", receiver.kind);
            report.conflict(&[&given], text);
        }
    }
    if receiver.group_interval > receiver.repeat_interval && !receiver.repeat_interval.is_zero() {
        let text = format!(
            "expected at least group_interval, {}, found {}",
            show_duration(receiver.group_interval),
            show_duration(receiver.repeat_interval)
        );
        report.conflict(&[&format!("{path}.repeat_interval")], text);
    }
}

fn check_places(path: &str, receiver: &ReceiverSettings, report: &mut Report) {
    let (key, what) = match receiver.kind {
        ReceiverKind::Command if receiver.command.is_empty() => ("command", "a program to run"),
        ReceiverKind::Webhook if receiver.url.is_none() => ("url", "an address"),
        ReceiverKind::Alertmanager if receiver.addresses().next().is_none() => {
            ("url", "an address, in url or urls")
        }
        _ => return check_addresses(path, receiver, report),
    };
    report.conflict(&[&format!("{path}.{key}"), path], format!("expected {what}, found none"));
}

fn check_addresses(path: &str, receiver: &ReceiverSettings, report: &mut Report) {
    let addresses: Vec<_> = receiver.addresses().collect();
    let twice = addresses.iter().enumerate().find(|(at, address)| addresses[..*at].contains(address));
    if let Some((_, address)) = twice {
        let text = format!("expected addresses that differ, found {address} twice");
        report.conflict(&[&format!("{path}.urls")], text);
    }
}

fn check_tls(path: &str, receiver: &ReceiverSettings, report: &mut Report) {
    let tls = &receiver.tls;
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        let keys = [format!("{path}.tls.cert_file"), format!("{path}.tls.key_file")];
        report.conflict(&[&keys[0], &keys[1]], "expected cert_file and key_file, found one of them");
    }
}
