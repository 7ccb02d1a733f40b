//! Lists of section `alerts`: receivers, silences and maintenance windows, and which alerts each is about.

use std::collections::BTreeMap;
use std::time::Duration;

use operators::sample::TimeNs;

use super::compounds::{HiddenTags, List, Optional, Sub, Tags};
use super::kinds::{BOOL, Hidden, Kind, Scalar, Shown, TEXT, Url, choice as word, count, duration, form};
use super::report::Report;
use super::section::{Key, Section, read_section, section};
use super::words::{HttpUrl, Secret, choice};
use super::written::Node;
use crate::codec::time;
use crate::message::write_rfc3339;

choice! {
    /// How a receiver is spoken to.
    pub enum ReceiverKind {
        /// The documented payload is posted.
        "webhook" => Webhook,
        /// Alertmanager's API v2.
        "alertmanager" => Alertmanager,
        /// A program that gets the documented payload on its standard input.
        "command" => Command,
    }
}

choice! {
    /// A day of the week.
    pub enum Day {
        /// Monday.
        "mon" | "monday" => Monday,
        /// Tuesday.
        "tue" | "tuesday" => Tuesday,
        /// Wednesday.
        "wed" | "wednesday" => Wednesday,
        /// Thursday.
        "thu" | "thursday" => Thursday,
        /// Friday.
        "fri" | "friday" => Friday,
        /// Saturday.
        "sat" | "saturday" => Saturday,
        /// Sunday.
        "sun" | "sunday" => Sunday,
    }
}

/// What stands before an entry of the list is read.
impl Default for Day {
    fn default() -> Self {
        Day::Monday
    }
}

/// Which alerts something is about: those that fit every key that is given. Texts are exact or globs with `*`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertMatchSettings {
    /// Names of rules, of which one has to fit. Default: every rule.
    pub rules: Vec<String>,
    /// Severities, of which one has to fit. Default: every one.
    pub severities: Vec<String>,
    /// Service of the series. Default: every one.
    pub service: Option<String>,
    /// Tags that the series has. Default none.
    pub tags: BTreeMap<String, String>,
}

impl AlertMatchSettings {
    /// Whether no key is given, so that every alert is meant.
    pub fn is_open(&self) -> bool {
        *self == AlertMatchSettings::default()
    }
}

/// TLS towards a receiver.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsSettings {
    /// PEM file with certificates that are trusted beside those of the system.
    pub ca_file: Option<String>,
    /// PEM file with the certificate that is shown to the receiver, with its chain.
    pub cert_file: Option<String>,
    /// PEM file with that certificate's key.
    pub key_file: Option<String>,
    /// Whether any certificate will do. Default off.
    pub insecure_skip_verify: bool,
    /// Name that the receiver's certificate has to have; `None`: the host of the address.
    pub server_name: Option<String>,
}

/// One receiver. Which keys it may have depends on `kind`: see [`has_key`].
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverSettings {
    /// Unique.
    pub name: String,
    /// `type`.
    pub kind: ReceiverKind,
    /// Default on.
    pub enabled: bool,
    /// webhook, alertmanager: where to.
    pub url: Option<HttpUrl>,
    /// alertmanager: several, each of which gets everything.
    pub urls: Vec<HttpUrl>,
    /// command: program and arguments.
    pub command: Vec<String>,
    /// Time for one attempt. Default 10 s.
    pub timeout: Duration,
    /// webhook, alertmanager: sent with every request. Default none.
    pub headers: BTreeMap<String, Secret>,
    /// webhook: key of the signature in `X-Signature-256`; `None`: none is sent.
    pub hmac_secret: Option<Secret>,
    /// webhook, alertmanager.
    pub tls: TlsSettings,
    /// `match`: which alerts it is told of. Default all.
    pub wanted: AlertMatchSettings,
    /// webhook, command: what alerts of one notification have in common: `rule`, `severity`, `service`, `metric`,
    /// `tag.NAME`. Default nothing: all alerts are one group.
    pub group_by: Vec<String>,
    /// webhook, command: how long the first notification of a group waits for others. Default 0.
    pub group_wait: Duration,
    /// webhook, command: shortest time between two notifications of a group. Default 0.
    pub group_interval: Duration,
    /// webhook, command: time after which a group is told again that it still fires; 0: never. Default 0.
    pub repeat_interval: Duration,
    /// alertmanager: time after which it is told again that an alert still fires. Default 1 min.
    pub resend_delay: Duration,
    /// Default on.
    pub send_resolved: bool,
    /// Default on.
    pub send_retracted: bool,
    /// Transitions that wait before more of them are dropped and counted. Default: `alerts.queue_len_max`.
    pub queue_len_max: usize,
    /// command: programs that run at a time. Default 1.
    pub concurrency_max: usize,
    /// Time after which a notification that still fails is given up, counted and logged. Default 1 h.
    pub give_up_after: Duration,
}

impl Default for ReceiverSettings {
    fn default() -> Self {
        ReceiverSettings {
            name: String::new(),
            kind: ReceiverKind::Webhook,
            enabled: true,
            url: None,
            urls: Vec::new(),
            command: Vec::new(),
            timeout: Duration::from_secs(10),
            headers: BTreeMap::new(),
            hmac_secret: None,
            tls: TlsSettings::default(),
            wanted: AlertMatchSettings::default(),
            group_by: Vec::new(),
            group_wait: Duration::ZERO,
            group_interval: Duration::ZERO,
            repeat_interval: Duration::ZERO,
            resend_delay: Duration::from_secs(60),
            send_resolved: true,
            send_retracted: true,
            queue_len_max: 10_000,
            concurrency_max: 1,
            give_up_after: Duration::from_secs(3600),
        }
    }
}

impl ReceiverSettings {
    /// Every address.
    pub fn addresses(&self) -> impl Iterator<Item = &HttpUrl> {
        self.url.iter().chain(&self.urls)
    }
}

/// Keys that not every type has, and the types that have them.
const KEYS_OF_TYPES: &[(&[&str], &[ReceiverKind])] = &[
    (&["url", "headers", "tls"], &[ReceiverKind::Webhook, ReceiverKind::Alertmanager]),
    (&["urls", "resend_delay"], &[ReceiverKind::Alertmanager]),
    (&["hmac_secret"], &[ReceiverKind::Webhook]),
    (&["command", "concurrency_max"], &[ReceiverKind::Command]),
    (
        &["group_by", "group_wait", "group_interval", "repeat_interval"],
        &[ReceiverKind::Webhook, ReceiverKind::Command],
    ),
];

/// Whether a receiver of this type has this key. An Alertmanager groups and repeats by itself.
pub fn has_key(kind: ReceiverKind, key: &str) -> bool {
    KEYS_OF_TYPES.iter().all(|(keys, kinds)| !keys.contains(&key) || kinds.contains(&kind))
}

/// An entry of the list of receivers.
pub(super) struct Receiver;

impl Kind<ReceiverSettings> for Receiver {
    fn read(&self, node: &Node, into: &mut ReceiverSettings, key: &str, report: &mut Report) {
        read_section(node, into, key, report);
    }

    /// The keys that its type has, and others where they are not as by default.
    fn show(&self, value: &ReceiverSettings) -> Shown {
        let shown = value.show_fields().into_iter().zip(ReceiverSettings::default().show_fields());
        let told = ReceiverSettings::KEYS.iter().zip(shown);
        let told = told.filter(|(key, (shown, default))| has_key(value.kind, key) || shown != default);
        Shown::Map(told.map(|(key, (shown, _))| (key.to_string(), shown)).collect())
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        ReceiverSettings::keys(key, keys);
    }
}

/// Alerts that nobody is told of for some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SilenceSettings {
    /// `match`: at least one key.
    pub wanted: AlertMatchSettings,
    /// When it begins; `None`: it has.
    pub starts_at_ns: Option<TimeNs>,
    /// When it ends.
    pub ends_at_ns: TimeNs,
    /// Why.
    pub comment: Option<String>,
}

/// Hours of the week in which nobody is told of alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct MaintenanceSettings {
    /// `match`: at least one key.
    pub wanted: AlertMatchSettings,
    /// Days on which it begins. Default every day.
    pub days: Vec<Day>,
    /// Seconds after midnight at which it begins.
    pub from_s: u32,
    /// Seconds after midnight at which it ends: on the next day where that is not after `from_s`.
    pub to_s: u32,
    /// `time_zone`: seconds that its midnight is before UTC's. Default 0.
    pub offset_s: i32,
    /// Why.
    pub comment: Option<String>,
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        MaintenanceSettings {
            wanted: AlertMatchSettings::default(),
            days: Day::WORDS.iter().filter_map(|word| Day::from_word(word)).collect(),
            from_s: 0,
            to_s: 0,
            offset_s: 0,
            comment: None,
        }
    }
}

section! { AlertMatchSettings requires [] {
    "rule" | "rules" => rules: List(TEXT),
    "severity" => severities: List(TEXT),
    "service" => service: Optional(TEXT),
    "tags" => tags: Tags,
} }

section! { TlsSettings requires [] {
    "ca_file" => ca_file: Optional(TEXT),
    "cert_file" => cert_file: Optional(TEXT),
    "key_file" => key_file: Optional(TEXT),
    "insecure_skip_verify" => insecure_skip_verify: BOOL,
    "server_name" => server_name: Optional(TEXT),
} }

section! { ReceiverSettings requires ["name", "type"] {
    "name" => name: NAME,
    "type" => kind: word(),
    "enabled" => enabled: BOOL,
    "url" => url: Optional(Url),
    "urls" => urls: List(Url),
    "command" => command: List(TEXT),
    "timeout" => timeout: duration("10ms", "10m"),
    "headers" => headers: HiddenTags,
    "hmac_secret" => hmac_secret: Optional(Hidden),
    "tls" => tls: Sub,
    "match" => wanted: Sub,
    "group_by" => group_by: List(GROUP_BY),
    "group_wait" => group_wait: duration("0s", "1d"),
    "group_interval" => group_interval: duration("0s", "7d"),
    "repeat_interval" => repeat_interval: duration("0s", "365d"),
    "resend_delay" => resend_delay: duration("1s", "1h"),
    "send_resolved" => send_resolved: BOOL,
    "send_retracted" => send_retracted: BOOL,
    "queue_len_max" => queue_len_max: count(1, 10_000_000),
    "concurrency_max" => concurrency_max: count(1, 100),
    "give_up_after" => give_up_after: duration("1s", "365d"),
} }

section! { SilenceSettings requires ["match", "ends_at"] {
    "match" => wanted: Sub,
    "starts_at" => starts_at_ns: Optional(TIME),
    "ends_at" => ends_at_ns: TIME,
    "comment" => comment: Optional(TEXT),
} }

section! { MaintenanceSettings requires ["match", "from", "to"] {
    "match" => wanted: Sub,
    "days" => days: List(word()),
    "from" => from_s: CLOCK_TIME,
    "to" => to_s: CLOCK_TIME,
    "time_zone" => offset_s: OFFSET,
    "comment" => comment: Optional(TEXT),
} }

/// A name that can be a part of a file's name.
const NAME: Scalar<String, &str> = form(
    |text, _| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        ((1..=64).contains(&text.len()) && text.chars().all(fits)).then(|| text.to_string())
    },
    |name| Shown::Text(name.clone()),
    "a name of up to 64 letters, digits, - and _",
);

/// What a notification's alerts have in common.
const GROUP_BY: Scalar<String, &str> = form(
    |text, _| {
        let is_tag = text.strip_prefix("tag.").is_some_and(|name| !name.is_empty());
        (is_tag || matches!(text, "rule" | "severity" | "service" | "metric")).then(|| text.to_string())
    },
    |label| Shown::Text(label.clone()),
    "rule, severity, service, metric or tag.NAME",
);

/// A moment.
const TIME: Scalar<TimeNs, &str> = form(
    |text, _| time::parse_text(text),
    |time_ns| {
        let mut text = Vec::new();
        write_rfc3339(*time_ns, &mut text);
        Shown::Text(String::from_utf8_lossy(&text).into_owned())
    },
    "a time such as 2026-01-31T22:00:00Z or 2026-01-31T22:00:00+01:00",
);

/// A time of the day, to the minute or the second.
const CLOCK_TIME: Scalar<u32, &str> = form(
    |text, _| seconds_of(text),
    |seconds| {
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let rest = if rest == 0 { String::new() } else { format!(":{rest:02}") };
        Shown::Text(format!("{hours:02}:{minutes:02}{rest}"))
    },
    "a time of the day such as 22:00 or 06:30:15",
);

/// `UTC`, or an offset from it.
const OFFSET: Scalar<i32, &str> = form(
    |text, _| match text {
        "UTC" | "Z" => Some(0),
        _ => {
            let (sign, rest) = match text.split_at_checked(1)? {
                ("+", rest) => (1, rest),
                ("-", rest) => (-1, rest),
                _ => return None,
            };
            let seconds = i32::try_from(seconds_of(rest)?).ok()?;
            (seconds <= 18 * 3600).then_some(sign * seconds)
        }
    },
    |offset| match offset {
        0 => Shown::Word("UTC".into()),
        _ => {
            let (sign, of) = (if *offset < 0 { '-' } else { '+' }, offset.unsigned_abs());
            Shown::Text(format!("{sign}{:02}:{:02}", of / 3600, of / 60 % 60))
        }
    },
    "UTC or an offset from it such as +02:00",
);

/// Seconds after midnight of `HH:MM` or `HH:MM:SS`; `24:00` is the end of the day.
fn seconds_of(text: &str) -> Option<u32> {
    let parts: Vec<u32> =
        text.split(':').map(|part| (part.len() == 2).then(|| part.parse().ok())?).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hours, minutes] => (*hours, *minutes, 0),
        [hours, minutes, seconds] => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let of_day = hours * 3600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && of_day <= 86_400).then_some(of_day)
}
