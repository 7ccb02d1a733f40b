//! `GET /metrics`: the latest value of every series under its `plantd_` name, and our own telemetry, as
//! Prometheus text 0.0.4 or OpenMetrics 1.0.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use operators::series::{SeriesKey, Target};

use super::App;
use super::error::ApiError;
use super::rollups;
use crate::telemetry::LatencySummary;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics that count up: they are exposed as counters, with `_total` behind their name.
const COUNTERS: &[&str] = &["message_count", "request_count", "error_count"];

/// What of a storage's figures goes up and down.
const LAG: &str = "lag_epochs";
/// The only number of the bus that also goes down.
const OPEN_CONNECTIONS: &str = "connections_open";

/// What the documented metrics are.
const HELP: &[(&str, &str)] = &[
    ("cpu_usage_percent", "CPU usage percentage"),
    ("memory_usage_bytes", "Memory usage in bytes"),
    ("memory_usage_percent", "Memory usage percentage"),
    ("disk_usage_bytes", "Disk usage in bytes"),
    ("disk_usage_percent", "Disk usage percentage"),
    ("network_rx_bytes", "Bytes received since start"),
    ("network_tx_bytes", "Bytes sent since start"),
    ("load_average_1m", "Load average over 1 minute"),
    ("load_average_5m", "Load average over 5 minutes"),
    ("load_average_15m", "Load average over 15 minutes"),
    ("process_count", "Number of processes"),
    ("message_count", "Total number of messages processed"),
    ("message_rate", "Messages per second"),
    ("queue_depth", "Messages waiting in queues"),
    ("connection_count", "Number of open connections"),
    ("error_count", "Total number of errors"),
    ("response_time_ms", "Response time in milliseconds"),
    ("uptime_seconds", "Seconds since start"),
];

/// The handler.
pub async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let open = accept.contains("application/openmetrics-text");
    let text = tokio::task::spawn_blocking(move || {
        let mut families = Families::default();
        series(&app, &mut families);
        rollups::expose(&app, &mut families);
        own(&app, &mut families);
        alerts(&app, &mut families);
        storages(&app, &mut families);
        receivers(&app, &mut families);
        statsd(&app, &mut families);
        families.write(open)
    });
    let text = text.await.map_err(|_| ApiError::internal("the exposition was cut short"))?;
    Ok(([(header::CONTENT_TYPE, if open { OPEN_METRICS } else { TEXT })], text).into_response())
}

/// Families by name, each written together as the formats want it.
#[derive(Default)]
pub struct Families(BTreeMap<(String, &'static str), Family>);

struct Family {
    help: String,
    /// Suffix of the name, label text, and value; a series told twice keeps the first.
    lines: BTreeMap<(&'static str, String), f64>,
}

impl Families {
    /// Adds a value. `name` without `_total`, which counters get when written.
    pub fn add(&mut self, name: &str, kind: &'static str, help: &str, labels: String, value: f64) {
        let suffix = if kind == "counter" { "_total" } else { "" };
        self.family(name, kind, help).lines.entry((suffix, labels)).or_insert(value);
    }

    /// Adds a summary of a latency.
    fn add_summary(&mut self, name: &str, help: &str, summary: &LatencySummary) {
        let family = self.family(name, "summary", help);
        for (q, seconds) in summary.quantiles_s {
            family.lines.insert(("", format!("{{quantile=\"{q}\"}}")), seconds);
        }
        family.lines.insert(("_count", String::new()), summary.count as f64);
        family.lines.insert(("_sum", String::new()), summary.sum_s);
    }

    fn family(&mut self, name: &str, kind: &'static str, help: &str) -> &mut Family {
        let new = || Family { help: help.into(), lines: BTreeMap::new() };
        self.0.entry((name.into(), kind)).or_insert_with(new)
    }

    /// The exposition.
    pub fn write(&self, open: bool) -> String {
        let mut out = String::new();
        for ((name, kind), family) in &self.0 {
            let suffix = if *kind == "counter" { "_total" } else { "" };
            // OpenMetrics has one family of a name: a counter beside a gauge goes as a gauge of its full name.
            let beside_gauge = *kind == "counter" && self.0.contains_key(&(name.clone(), "gauge"));
            let kind = if open && beside_gauge { "gauge" } else { kind };
            // The older format names a counter's family by its full name.
            let told = if open && !beside_gauge { name.clone() } else { format!("{name}{suffix}") };
            let help = escape(&family.help, open);
            // Writing to a string does not fail.
            let _ = writeln!(out, "# HELP {told} {help}\n# TYPE {told} {kind}");
            for ((suffix, labels), value) in &family.lines {
                let _ = writeln!(out, "{name}{suffix}{labels} {}", number(*value));
            }
        }
        if open {
            out.push_str("# EOF\n");
        }
        out
    }
}

fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".into()
    } else if value == f64::NEG_INFINITY {
        "-Inf".into()
    } else {
        value.to_string()
    }
}

/// Escapes a help text, or with `quotes` a label value.
fn escape(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

fn series(app: &App, families: &mut Families) {
    let latest: Vec<(u32, f64)> = app
        .engine
        .shards()
        .iter()
        .enumerate()
        .flat_map(|(index, shard)| {
            let shard = shard.read();
            let told = shard.all(index).filter(|(_, history)| history.pane_count() > 0);
            told.filter_map(|(id, history)| Some((id, history.newest()?.value))).collect::<Vec<_>>()
        })
        .collect();
    app.catalog.with_keys(|keys| {
        for (id, value) in latest {
            let Some(key) = keys.get(id as usize) else { continue };
            let metric = key.metric.as_ref();
            let counter = COUNTERS.contains(&metric) || metric.ends_with("_total");
            let base = metric.strip_suffix("_total").unwrap_or(metric);
            let help = HELP.iter().find(|(name, _)| *name == metric).map(|(_, help)| help.to_string());
            let help = help.unwrap_or_else(|| format!("Latest value of {metric}"));
            let kind = if counter { "counter" } else { "gauge" };
            families.add(&format!("plantd_{}", sanitize(base)), kind, &help, labels(key), value);
        }
    });
}

/// The labels of a series: `service`, then its tags.
fn labels(key: &SeriesKey) -> String {
    let mut names = vec!["service".to_string()];
    let mut text = format!("{{service=\"{}\"", escape(&key.target.service, true));
    for (name, value) in &key.target.tags {
        let mut name = sanitize(name);
        // Two tags may sanitise to one name, or to `service`.
        while names.contains(&name) {
            name.push('_');
        }
        let _ = write!(text, ",{name}=\"{}\"", escape(value, true));
        names.push(name);
    }
    text.push('}');
    text
}

/// The labels of a group: its service if it has one, then what tags its members share.
pub fn labels_of(texts: &Target) -> String {
    if texts.service.is_empty() && texts.tags.is_empty() {
        return String::new();
    }
    let target = Arc::new(texts.clone());
    let text = labels(&SeriesKey { target, metric: "".into() });
    text.replacen("{service=\"\",", "{", 1)
}

/// A name of letters, digits and underscores that begins with no digit.
pub fn sanitize(name: &str) -> String {
    let clean: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if clean.starts_with(|c: char| c.is_ascii_digit()) || clean.is_empty() {
        format!("_{clean}")
    } else {
        clean
    }
}

/// What the storages say of themselves.
fn storages(app: &App, families: &mut Families) {
    for (figure, storage, value) in app.storage_status().counters {
        let kind = if figure == LAG { "gauge" } else { "counter" };
        let (name, labels) =
            (format!("plantd_metric_storage_{figure}"), format!("{{storage=\"{storage}\"}}"));
        families.add(&name, kind, "See /storage/status", labels, value as f64);
    }
}

/// What became of the receivers' transitions.
fn receivers(app: &App, families: &mut Families) {
    for (receiver, figures) in app.receivers.figures() {
        for (figure, only_grows, value) in figures {
            let kind = if only_grows { "counter" } else { "gauge" };
            let labels = format!("{{receiver=\"{}\"}}", escape(&receiver, true));
            families.add(
                &format!("plantd_metric_notify_{figure}"),
                kind,
                "See /status",
                labels,
                value as f64,
            );
        }
    }
}

fn own(app: &App, families: &mut Families) {
    let telemetry = &app.telemetry;
    let counts = app.shard_counts();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let none = String::new;
    let mut counter = |name: &str, help: &str, labels: String, value: f64| {
        families.add(&format!("plantd_metric_{name}"), "counter", help, labels, value);
    };
    counter("messages", "Messages decoded", "{source=\"bus\"}".into(), load(&telemetry.bus_messages));
    counter("messages", "Messages decoded", "{source=\"http\"}".into(), load(&telemetry.http_messages));
    counter("samples", "Samples applied to windows", none(), counts.samples as f64);
    counter("samples_accepted", "Samples accepted", none(), load(&telemetry.samples));
    counter("samples_late", "Samples that corrected a final window", none(), counts.late as f64);
    counter("samples_too_old", "Samples too old for any window", none(), counts.dropped as f64);
    counter("samples_duplicate", "Samples sent again, not counted again", none(), counts.duplicates as f64);
    counter("panes_given_up", "Panes dropped for memory or silence", none(), counts.panes_given_up as f64);
    counter("epochs", "Epochs sealed", none(), load(&telemetry.epochs));
    counter(
        "intake_full",
        "Batches turned away because too much was in flight",
        none(),
        load(&telemetry.intake_full),
    );
    counter(
        "connections_refused",
        "HTTP connections over the limit",
        none(),
        load(&telemetry.connections_refused),
    );
    counter(
        "requests_repeated",
        "Requests that came again with their idempotency key, and were not counted again",
        none(),
        load(&telemetry.requests_repeated),
    );
    counter("samples_repeated", "Samples in repeated requests", none(), load(&telemetry.samples_repeated));
    counter(
        "samples_given_up",
        "Samples given up because the journal could not be written when the service stopped",
        none(),
        load(&telemetry.samples_given_up),
    );
    for (reason, count) in app.rejects.counts() {
        let labels = format!("{{reason=\"{}\"}}", reason.word());
        counter("samples_rejected", "Samples turned away", labels, count as f64);
    }
    for (index, worker) in app.engine.loads().iter().enumerate() {
        let labels = format!("{{worker=\"{index}\"}}");
        counter("worker_busy_seconds", "Time a worker was busy", labels.clone(), load(&worker.busy_ns) / 1e9);
        counter("worker_samples", "Samples fed by a worker", labels.clone(), load(&worker.fed));
        counter("alerts_late", "Samples too late for their alerts", labels, load(&worker.alerts_late));
    }
    for (name, value) in app.bus_counters().into_iter().filter(|(name, _)| !name.ends_with(OPEN_CONNECTIONS))
    {
        counter(&format!("bus_{name}"), "See the bus's counters", none(), value as f64);
    }
    let mut gauge = |name: &str, help: &str, value: f64| {
        families.add(&format!("plantd_metric_{name}"), "gauge", help, String::new(), value);
    };
    gauge("series", "Series known", app.catalog.len() as f64);
    gauge("samples_in_flight", "Samples accepted and not yet visible", app.intake.in_flight() as f64);
    gauge("panes_bytes", "Memory of panes", counts.bytes as f64);
    gauge("recent_bytes", "Memory of recent raw samples", app.intake.recent().bytes() as f64);
    gauge(
        "epochs_behind",
        "Epochs sealed and not complete",
        app.intake.sealed().saturating_sub(app.engine.completed()) as f64,
    );
    for (name, value) in app.bus_counters().into_iter().filter(|(name, _)| name.ends_with(OPEN_CONNECTIONS)) {
        gauge(&format!("bus_{name}"), "Connections of the bus that are open now", value as f64);
    }
    for (name, help, latency) in [
        (
            "arrival_to_visible_seconds",
            "From a sample's arrival to its being visible",
            &telemetry.arrival_to_visible,
        ),
        ("aggregate_query_seconds", "Time to answer an aggregate query", &telemetry.aggregate_query),
    ] {
        families.add_summary(&format!("plantd_metric_{name}"), help, &latency.summary());
    }
}

/// What there is to count of alerts and their rules.
fn alerts(app: &App, families: &mut Families) {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let none = String::new;
    let mut counter = |name: &str, help: &str, labels: String, value: f64| {
        families.add(&format!("plantd_metric_{name}"), "counter", help, labels, value);
    };
    for (kind, count) in
        ["pending", "cancelled", "firing", "resolved", "retracted"].iter().zip(&app.board.counts)
    {
        counter("alert_transitions", "Alert transitions", format!("{{kind=\"{kind}\"}}"), load(count));
    }
    if let Some(reloader) = &app.reloader {
        counter("reloads", "Times that the rules were read again", none(), load(&reloader.reloads));
        counter(
            "reload_failures",
            "Of them those that found something wrong",
            none(),
            load(&reloader.failures),
        );
    }
    let mut gauge = |name: &str, help: &str, value: f64| {
        families.add(&format!("plantd_metric_{name}"), "gauge", help, String::new(), value);
    };
    let bound = app.engine.loads().iter().map(|worker| load(&worker.alerts_bound)).sum();
    gauge("alerts_bound", "Pairs of an alert rule and a series or group that it watches", bound);
    gauge("alert_rules", "Alert rules in force", app.board.rules().len() as f64);
    gauge("alerts_active", "Alerts pending or firing", app.board.active_len() as f64);
}

/// What the StatsD listener counts.
fn statsd(app: &App, families: &mut Families) {
    for (name, value) in (app.statsd)() {
        let kind = if name == "series" { "gauge" } else { "counter" };
        let name = format!("plantd_metric_statsd_{name}");
        families.add(&name, kind, "See the StatsD listener's counters", String::new(), value as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::series::Target;

    #[test]
    fn families_stand_together_in_both_formats() {
        let mut families = Families::default();
        families.add("plantd_message_count", "counter", "Total number", "{service=\"a\"}".into(), 1250.0);
        families.add("plantd_cpu", "gauge", "CPU \"x\"\n", "{service=\"a\"}".into(), 45.2);
        families.add("plantd_message_count", "counter", "Total number", "{service=\"b\"}".into(), 1.0);
        let text = "# HELP plantd_cpu CPU \"x\"\\n\n# TYPE plantd_cpu gauge\nplantd_cpu{service=\"a\"} 45.2\n\
            # HELP plantd_message_count_total Total number\n# TYPE plantd_message_count_total counter\n\
            plantd_message_count_total{service=\"a\"} 1250\nplantd_message_count_total{service=\"b\"} 1\n";
        assert_eq!(families.write(false), text);
        let open = families.write(true);
        assert!(open.contains("# TYPE plantd_message_count counter\nplantd_message_count_total{"), "{open}");
        assert!(open.contains("CPU \\\"x\\\"") && open.ends_with("# EOF\n"), "{open}");
    }

    #[test]
    fn labels_are_sanitised_and_unique() {
        let target = Target::new("s\"1", [("a.b", "x"), ("a-b", "y\n"), ("service", "z"), ("1", "w")]);
        let key = SeriesKey { target: Arc::new(target), metric: "m".into() };
        assert_eq!(labels(&key), r#"{service="s\"1",_1="w",a_b="y\n",a_b_="x",service_="z"}"#);
        assert_eq!(sanitize("9 lives"), "_9_lives");
    }
}
