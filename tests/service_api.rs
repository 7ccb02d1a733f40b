//! The API of the whole service, field by field: what the document and the README show, and what is refused.
//!
//! # Layout
//! - `running`: the service within the test's process, and an HTTP client
//! - `ingest`, `influx`, `otlp`, `prometheus`: bodies in; `statsd`: datagrams
//! - `raw`: raw samples out; `aggregate`, `windows`: windows out; `rollups`: those of groups
//! - `status`: health, status, storage, series, rejects; `exposition`: `/metrics`
//! - `alerts`: rules, states, the webhook; `rules`: rules and alerts listed, tried and written; `reload`: rules that
//!   change; `corrections`: alerts that late samples change, of detectors, windows, silence; `silences`: silences, and receivers across restarts; `hostile`: what nobody should send

#[path = "service/aggregate.rs"]
mod aggregate;
#[path = "service/alerts.rs"]
mod alerts;
#[path = "service/corrections.rs"]
mod corrections;
#[path = "service/exposition.rs"]
mod exposition;
#[path = "service/hostile.rs"]
mod hostile;
#[path = "service/influx.rs"]
mod influx;
#[path = "service/ingest.rs"]
mod ingest;
#[path = "service/otlp.rs"]
mod otlp;
#[path = "service/prometheus.rs"]
mod prometheus;
#[path = "service/raw.rs"]
mod raw;
#[path = "service/reload.rs"]
mod reload;
#[path = "service/rollups.rs"]
mod rollups;
#[path = "service/rules.rs"]
mod rules;
#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "service/running.rs"]
mod running;
#[path = "service/silences.rs"]
mod silences;
#[path = "service/statsd.rs"]
mod statsd;
#[path = "service/status.rs"]
mod status;
#[path = "service/windows.rs"]
mod windows;
