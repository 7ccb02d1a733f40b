//! Receivers of alerts at the start: settings -> receivers, and for each what it was not done with when the process
//! before ended.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use operators::sample::TimeNs;

use super::StartError;
use super::wiring::ns;
use crate::alerts::AlertBoard;
use crate::intake::Clock;
use crate::notify::config::{Channel, Dialect, HttpConfig, ReceiverConfig};
use crate::notify::desk::{DeskConfig, Label};
use crate::notify::matcher::AlertMatcher;
use crate::notify::receipt::Position;
use crate::notify::receivers::{AllRunning, Opened, Place, Receivers};
use crate::notify::silence::{Maintenance, Silence, Silences};
use crate::notify::{Notification, Status};
use crate::outbox::Outbox;
use crate::settings::{
    AlertMatchSettings, Day, HttpUrl, ReceiverKind, ReceiverSettings, SHORTHAND, Settings,
};

/// Transitions that go to an Alertmanager in one request, as Prometheus has it.
const ALERTMANAGER_BATCH: usize = 256;

/// What is known of alerts when receivers start.
pub(super) struct Said<'a> {
    /// What was said so far.
    pub(super) outbox: &'a Outbox,
    /// The alerts as they were at the checkpoint.
    pub(super) board: &'a AlertBoard,
    /// Its epoch.
    pub(super) checkpoint_epoch: u64,
}

/// Starts every receiver, each where it had come to.
pub(super) fn start(
    settings: &Settings,
    place: &Place,
    clock: &Clock,
    silences: &Arc<Silences>,
    said: &Said<'_>,
) -> Result<(Arc<Receivers>, AllRunning), StartError> {
    let wrong = |why: &dyn std::fmt::Display| StartError::Notifier(why.to_string());
    let configs = configs(settings);
    let names: Vec<&str> = configs.iter().map(|config| config.name.as_str()).collect();
    place.forget_others(&names).map_err(|e| wrong(&e))?;
    let present = said.outbox.log().appended();
    let mut all = Vec::new();
    for config in configs {
        let opened =
            Opened::open(config, clock.clone(), silences.clone(), place, present).map_err(|e| wrong(&e))?;
        let settled = opened.position().epoch;
        let mut told: Vec<(SaidAt, Notification)> = Vec::new();
        let read = said.outbox.said(settled.min(said.checkpoint_epoch), |place, rule, moved| {
            told.extend(said.board.told_again(rule, moved).map(|notification| (place, notification)));
        });
        read.map_err(|e| StartError::Journal(format!("what was said: {e}")))?;
        opened.resume(firing_at(opened.position(), said.checkpoint_epoch, said.board.firing(), &told));
        for ((epoch, place), again) in told.into_iter().filter(|((epoch, _), _)| *epoch > settled) {
            opened.tell_again(epoch, place, again);
        }
        opened.handed_over(present);
        all.push(opened);
    }
    let (receivers, running) = Receivers::new(all);
    Ok((Arc::new(receivers), running))
}

/// Epoch of a transition, and its place in it.
type SaidAt = (u64, u32);

/// The alerts that fired at a receiver's position. Known are those that did at the checkpoint, which may be before or
/// behind that, and all transitions behind the earlier of the two.
fn firing_at(
    position: &Position,
    checkpoint_epoch: u64,
    at_checkpoint: Vec<Notification>,
    said: &[(SaidAt, Notification)],
) -> Vec<Notification> {
    let mut firing: Breaches =
        at_checkpoint.into_iter().map(|alert| ((alert.id, alert.started_ns), alert)).collect();
    let mut seen: HashSet<(u128, TimeNs)> = HashSet::new();
    for ((epoch, place), told) in said {
        if *epoch > position.epoch {
            // The checkpoint knows of it already: before its first transition the breach was the opposite.
            if *epoch <= checkpoint_epoch && seen.insert((told.id, told.started_ns)) {
                step(&mut firing, told, told.status != Status::Firing);
            }
            if position.ahead.get(epoch).is_some_and(|places| places.contains(place)) {
                step(&mut firing, told, told.status == Status::Firing);
            }
        } else if *epoch > checkpoint_epoch {
            step(&mut firing, told, told.status == Status::Firing);
        }
    }
    let mut firing: Vec<Notification> = firing.into_values().collect();
    // Of an alert the newest breach.
    firing.sort_by_key(|alert| (alert.id, Reverse(alert.started_ns)));
    firing.dedup_by_key(|alert| alert.id);
    firing.sort_by_key(|alert| (alert.time_ns, alert.id));
    firing
}

/// Breaches that have fired and not ended, by alert and start.
type Breaches = HashMap<(u128, TimeNs), Notification>;

fn step(firing: &mut Breaches, told: &Notification, fires: bool) {
    let breach = (told.id, told.started_ns);
    if fires {
        // Of an alert that has ended since, the start is the best that is known of when it fired.
        let time_ns = if told.status == Status::Firing { told.time_ns } else { told.started_ns };
        firing.insert(breach, Notification { status: Status::Firing, time_ns, ..told.clone() });
    } else {
        firing.remove(&breach);
    }
}

/// Silences and maintenance windows, with those that were given by the API.
pub(super) fn silences(settings: &Settings, place: &Place) -> Result<Arc<Silences>, StartError> {
    let alerts = &settings.alerts;
    let configured = alerts.silences.iter().enumerate().map(|(at, silence)| Silence {
        id: format!("silence-{}", at + 1),
        wanted: matcher(&silence.wanted),
        starts_ns: silence.starts_at_ns.unwrap_or(i64::MIN),
        ends_ns: silence.ends_at_ns,
        created_by: "configuration".into(),
        comment: silence.comment.clone().unwrap_or_default(),
        is_configured: true,
    });
    let windows = alerts.maintenance.iter().enumerate().map(|(at, window)| {
        let mut days = [false; 7];
        for day in &window.days {
            let place = Day::WORDS.iter().position(|word| *word == day.word());
            if let Some(of_week) = place.and_then(|at| days.get_mut(at)) {
                *of_week = true;
            }
        }
        Maintenance {
            id: format!("maintenance-{}", at + 1),
            wanted: matcher(&window.wanted),
            days,
            from_s: window.from_s,
            to_s: window.to_s,
            offset_s: window.offset_s,
            comment: window.comment.clone().unwrap_or_default(),
        }
    });
    let silences = Silences::new(configured.collect(), windows.collect(), alerts.silences_max);
    let silences = match &place.0 {
        Some(folder) => silences.kept_in(folder.join("silences.json")),
        None => Ok(silences),
    };
    silences.map(Arc::new).map_err(|e| StartError::Notifier(e.to_string()))
}

fn matcher(wanted: &AlertMatchSettings) -> AlertMatcher {
    AlertMatcher {
        rules: wanted.rules.clone(),
        severities: wanted.severities.clone(),
        service: wanted.service.clone(),
        tags: wanted.tags.clone(),
    }
}

/// Every receiver that is used; an Alertmanager of several addresses is several.
pub(super) fn configs(settings: &Settings) -> Vec<ReceiverConfig> {
    let alerts = &settings.alerts;
    if !alerts.enabled {
        return Vec::new();
    }
    let shorthand = alerts.webhook_url.clone().map(|url| ReceiverSettings {
        name: SHORTHAND.into(),
        url: Some(url),
        timeout: alerts.webhook_timeout,
        queue_len_max: alerts.queue_len_max,
        ..ReceiverSettings::default()
    });
    let external_url = settings.http.external_url.as_ref();
    let all = shorthand.iter().chain(&alerts.receivers).filter(|receiver| receiver.enabled);
    let mut configs: Vec<ReceiverConfig> =
        all.flat_map(|receiver| of_receiver(receiver, external_url)).collect();
    for at in 1..configs.len() {
        // Of two addresses that differ in a letter that names can't have, one gets another name.
        while configs[..at].iter().any(|other| other.name == configs[at].name) {
            configs[at].name.push('_');
        }
    }
    configs
}

fn of_receiver(receiver: &ReceiverSettings, external_url: Option<&HttpUrl>) -> Vec<ReceiverConfig> {
    let config = |name: String, channel: Channel| ReceiverConfig {
        name,
        desk: desk(receiver),
        channel,
        timeout: receiver.timeout,
        give_up_after: receiver.give_up_after,
        ..ReceiverConfig::default()
    };
    if receiver.kind == ReceiverKind::Command {
        return vec![config(receiver.name.clone(), Channel::Command(receiver.command.clone()))];
    }
    let several = receiver.addresses().nth(1).is_some();
    let of_address = |url: &HttpUrl| {
        let name = if several { named(&receiver.name, url) } else { receiver.name.clone() };
        config(name, Channel::Http(http(receiver, url, external_url)))
    };
    receiver.addresses().map(of_address).collect()
}

/// The name of one of several addresses: it does not depend on their order, and can be that of a file.
fn named(name: &str, url: &HttpUrl) -> String {
    let address = url.as_str().split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let address = address.rsplit_once('@').map_or(address, |(_, host)| host).trim_end_matches('/');
    let letters = address
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':') { c } else { '_' });
    format!("{name}@{}", letters.collect::<String>())
}

fn http(receiver: &ReceiverSettings, url: &HttpUrl, external_url: Option<&HttpUrl>) -> HttpConfig {
    let tls = &receiver.tls;
    HttpConfig {
        url: url.as_str().into(),
        dialect: match receiver.kind {
            ReceiverKind::Alertmanager => Dialect::Alertmanager,
            ReceiverKind::Webhook | ReceiverKind::Command => Dialect::Documented,
        },
        headers: receiver.headers.iter().map(|(name, value)| (name.clone(), value.reveal().into())).collect(),
        hmac_secret: receiver.hmac_secret.as_ref().map(|secret| secret.reveal().into()),
        ca_file: tls.ca_file.as_ref().map(Into::into),
        identity: tls.cert_file.as_ref().zip(tls.key_file.as_ref()).map(|(c, k)| (c.into(), k.into())),
        insecure_skip_verify: tls.insecure_skip_verify,
        server_name: tls.server_name.clone(),
        external_url: external_url.map(|url| url.as_str().into()),
    }
}

fn desk(receiver: &ReceiverSettings) -> DeskConfig {
    let label = |text: &String| match (text.as_str(), text.strip_prefix("tag.")) {
        ("rule", _) => Label::Rule,
        ("severity", _) => Label::Severity,
        ("service", _) => Label::Service,
        (_, Some(tag)) => Label::Tag(tag.into()),
        // The settings take no other.
        _ => Label::Metric,
    };
    let defaults = DeskConfig::default();
    DeskConfig {
        wanted: matcher(&receiver.wanted),
        group_by: receiver.group_by.iter().map(label).collect(),
        wait_ns: ns(receiver.group_wait),
        interval_ns: ns(receiver.group_interval),
        repeat_ns: ns(receiver.repeat_interval),
        resend_ns: ns(receiver.resend_delay),
        send_resolved: receiver.send_resolved,
        send_retracted: receiver.send_retracted,
        queue_len_max: receiver.queue_len_max,
        batch_len_max: match receiver.kind {
            ReceiverKind::Alertmanager => ALERTMANAGER_BATCH,
            ReceiverKind::Webhook | ReceiverKind::Command => defaults.batch_len_max,
        },
        in_flight_max: receiver.concurrency_max,
    }
}

#[cfg(test)]
mod tests {
    use operators::series::Target;
    use proptest::prelude::*;

    use super::*;
    use crate::notify::receipt::Receipt;

    fn told(id: u128, status: Status, time_ns: i64) -> Notification {
        Notification {
            id,
            rule: "r".into(),
            target: Arc::new(Target::new("s", [])),
            metric: "m".into(),
            severity: "warning".into(),
            message: "".into(),
            value: 1.0,
            threshold: 0.0,
            labels: Arc::default(),
            annotations: Arc::default(),
            expected: None,
            time_ns,
            started_ns: time_ns,
            status,
            receipt: Receipt::default(),
        }
    }

    /// What fires after the transitions that `is_in` picks, from the first on.
    fn naive(log: &[(SaidAt, Notification)], is_in: impl Fn(&SaidAt) -> bool) -> Vec<Notification> {
        let mut firing = std::collections::BTreeMap::new();
        for (_, told) in log.iter().filter(|(place, _)| is_in(place)) {
            match told.status {
                Status::Firing => firing.insert(told.id, told.clone()),
                _ => firing.remove(&told.id),
            };
        }
        firing.into_values().collect()
    }

    proptest! {
        /// Each step turns one of five alerts around; what is settled ahead is the beginning of each alert's rest.
        #[test]
        fn what_fired_at_a_position(
            steps in prop::collection::vec((0_u128..5, any::<bool>(), any::<bool>()), 0..40),
            settled in 0_u64..30,
            checkpoint in 0_u64..30,
            ahead_of in prop::collection::vec(0_usize..4, 5),
        ) {
            let (mut log, mut epoch, mut place) = (Vec::new(), 1, 0);
            for (at, (id, is_next, is_retracted)) in steps.into_iter().enumerate() {
                (epoch, place) = if is_next { (epoch + 1, 0) } else { (epoch, place + 1) };
                let lasting = naive(&log, |_| true).into_iter().find(|alert| alert.id == id);
                let end = if is_retracted { Status::Retracted } else { Status::Resolved };
                let next = match lasting {
                    Some(begun) => Notification { started_ns: begun.started_ns, ..told(id, end, at as i64) },
                    None => told(id, Status::Firing, at as i64),
                };
                log.push(((epoch, place), next));
            }
            let mut position = Position { epoch: settled, ..Position::default() };
            for (id, count) in ahead_of.iter().enumerate() {
                let rest = log.iter().filter(|((epoch, _), told)| *epoch > settled && told.id == id as u128);
                for ((epoch, place), _) in rest.take(*count) {
                    position.ahead.entry(*epoch).or_default().insert(*place);
                }
            }
            let known: Vec<_> = log.iter().filter(|((epoch, _), _)| *epoch > settled.min(checkpoint)).cloned().collect();
            let at_checkpoint = naive(&log, |(epoch, _)| *epoch <= checkpoint);
            let ids = |alerts: Vec<Notification>| {
                let mut ids: Vec<u128> = alerts.iter().map(|alert| alert.id).collect();
                ids.sort_unstable();
                ids
            };
            let is_settled = |(epoch, place): &SaidAt| {
                *epoch <= settled || position.ahead.get(epoch).is_some_and(|places| places.contains(place))
            };
            let found = firing_at(&position, checkpoint, at_checkpoint, &known);
            prop_assert!(found.iter().all(|alert| alert.status == Status::Firing));
            prop_assert_eq!(ids(found), ids(naive(&log, is_settled)));
        }
    }

    #[test]
    fn addresses_of_one_receiver_have_names_of_their_own() {
        let url = |text: &str| HttpUrl::parse(text).unwrap();
        let receiver = ReceiverSettings {
            name: "am".into(),
            kind: ReceiverKind::Alertmanager,
            urls: ["http://u:p@a:9093", "https://a:9093/", "http://b/am?x=1"].map(url).to_vec(),
            ..ReceiverSettings::default()
        };
        let mut settings = Settings::default();
        settings.alerts.receivers.push(receiver.clone());
        let names =
            |settings: &Settings| -> Vec<String> { configs(settings).into_iter().map(|c| c.name).collect() };
        assert_eq!(names(&settings), ["am@a:9093", "am@a:9093_", "am@b_am"]);
        settings.alerts.receivers[0].urls.truncate(1);
        assert_eq!(names(&settings), ["am"]);
        settings.alerts.webhook_url = Some(url("http://h/"));
        assert_eq!(names(&settings), ["webhook", "am"]);
        settings.alerts.receivers[0].enabled = false;
        assert_eq!(names(&settings), ["webhook"]);
        settings.alerts.enabled = false;
        assert!(names(&settings).is_empty());
    }
}
