//! The API: routes, and the accept loop with its limits.
//!
//! # Layout
//! - [`receive`]: bodies in, whatever their format; [`ingest`]: the documented JSON's answers; [`influx`]: InfluxDB's;
//!   [`otlp`]: OTLP's; [`prometheus`]: those to remote write and text; [`snappy`]: bodies unpacked
//! - [`aggregate`]: windows out; [`rollups`]: those of groups that are kept up to date; [`raw`]: raw samples out
//! - [`alerts`]: those that are and were; [`rules`]: listed, changed, tried on the past; [`silences`]: what nobody is told of
//! - [`status`]: health, status, rejects; [`exposition`]: `/metrics`
//! - [`params`], [`error`]: what all handlers share; [`serve`]: connections and their limits; `patience`: clients that
//!   take no answer; `pack`: gzip

pub mod aggregate;
pub mod alerts;
pub mod error;
pub mod exposition;
pub mod influx;
pub mod ingest;
pub mod otlp;
mod pack;
pub mod params;
mod patience;
pub mod prometheus;
pub mod raw;
pub mod receive;
pub mod rollups;
pub mod rules;
pub mod serve;
pub mod silences;
pub mod snappy;
pub mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use dataflows::engine::Engine;
use operators::catalog::Catalog;
use operators::window::ShardCounts;
use parking_lot::Mutex;
use serde_json::Value;

use crate::alerts::AlertBoard;
use crate::codec::decoder::{Decoder, Limits};
use crate::codec::reject::RejectLog;
use crate::intake::{Clock, Intake};
use crate::notify::receivers::Receivers;
use crate::notify::silence::Silences;
use crate::reload::Reloader;
use crate::rollups::RollupBook;
use crate::rules::store::RuleStore;
use crate::sinks::Reader;
use crate::telemetry::Telemetry;
use error::ApiError;

/// Limits of the API.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Bytes of a body, unpacked.
    pub body_bytes_max: usize,
    /// Time for the head of a request.
    pub header_timeout: Duration,
    /// Time for a whole request.
    pub request_timeout: Duration,
    /// Connections at a time.
    pub connections_max: usize,
    /// Points or messages in an answer.
    pub results_max: usize,
    /// Whether answers are packed for clients that accept gzip.
    pub compression: bool,
    /// Paths of the exposition beside `/metrics`.
    pub metrics_paths: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            body_bytes_max: 16 << 20,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            connections_max: 1024,
            results_max: 100_000,
            compression: false,
            metrics_paths: Vec::new(),
        }
    }
}

/// What the storage says of itself.
#[derive(Clone, Debug, Default)]
pub struct StorageReport {
    /// One word or an error text.
    pub status: String,
    /// The documented object.
    pub json: Value,
    /// Figures for `/metrics`: figure, name of the storage, value.
    pub counters: Vec<(&'static str, String, u64)>,
}

/// What handlers work with.
pub struct App {
    /// Limits.
    pub config: HttpConfig,
    /// Mode of the process, for `/status`.
    pub mode: String,
    /// The engine.
    pub engine: Arc<Engine>,
    /// The door down.
    pub intake: Arc<Intake>,
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// Rejects.
    pub rejects: Arc<RejectLog>,
    /// Own counters.
    pub telemetry: Arc<Telemetry>,
    /// Alerts.
    pub board: Arc<AlertBoard>,
    /// The rules as they are written.
    pub rules: Arc<RuleStore>,
    /// Who is told of them.
    pub receivers: Arc<Receivers>,
    /// Of which of them nobody is told.
    pub silences: Arc<Silences>,
    /// The wall clock, for silences.
    pub clock: Clock,
    /// Rollups.
    pub rollups: Arc<RollupBook>,
    /// Decoders that wait for a request.
    pub decoders: Decoders,
    /// Reads back what is stored.
    pub reader: Option<Arc<dyn Reader>>,
    /// Reads the rules again.
    pub reloader: Option<Arc<Reloader>>,
    /// What the storage says.
    pub storage: Box<dyn Fn() -> StorageReport + Send + Sync>,
    /// What the journal says.
    pub journal: Box<dyn Fn() -> Value + Send + Sync>,
    /// What the bus counts.
    pub bus: Box<dyn Fn() -> Vec<(String, u64)> + Send + Sync>,
    /// What the StatsD listener counts.
    pub statsd: Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>,
    /// Limit of pane memory, for `/status`.
    pub memory_budget_bytes: u64,
}

/// Epochs that may be sealed and not complete before the workers count as stuck, with the time since.
const STUCK_AFTER: Duration = Duration::from_secs(30);

impl App {
    /// Sums over the shards.
    pub fn shard_counts(&self) -> ShardCounts {
        self.engine.shards().iter().fold(ShardCounts::default(), |sum, shard| {
            let counts = shard.read().counts;
            ShardCounts {
                samples: sum.samples + counts.samples,
                late: sum.late + counts.late,
                dropped: sum.dropped + counts.dropped,
                duplicates: sum.duplicates + counts.duplicates,
                duplicates_unsure: sum.duplicates_unsure + counts.duplicates_unsure,
                panes_given_up: sum.panes_given_up + counts.panes_given_up,
                bytes: sum.bytes + counts.bytes,
            }
        })
    }

    /// What the storage says.
    pub fn storage_status(&self) -> StorageReport {
        (self.storage)()
    }

    /// What the bus counts.
    pub fn bus_counters(&self) -> Vec<(String, u64)> {
        (self.bus)()
    }

    /// Whether an epoch has been waiting for the workers for too long.
    pub fn is_stuck(&self) -> bool {
        self.intake.oldest_wait().is_some_and(|waited| waited > STUCK_AFTER)
    }

    /// `healthy`, `stopping`, or `stuck`. A storage that is down does not count: `/storage/status` tells.
    pub fn health(&self) -> &'static str {
        match (self.is_stuck(), self.intake.is_open()) {
            (true, _) => "stuck",
            (_, false) => "stopping",
            _ => "healthy",
        }
    }
}

/// Decoders at rest, so that requests find shapes that earlier ones taught. Each format has its own: the same bytes
/// may spell something else in another.
pub struct Decoders {
    catalog: Arc<Catalog>,
    /// Limits of a format.
    limits: Box<dyn Fn(&str) -> Limits + Send + Sync>,
    at_rest: Mutex<HashMap<&'static str, Vec<Decoder>>>,
}

/// More decoders of a format than that are not kept: each may remember many shapes.
const DECODERS_KEPT_MAX: usize = 8;

impl Decoders {
    /// None yet; `limits` tells those of a format by its name.
    pub fn new(catalog: Arc<Catalog>, limits: impl Fn(&str) -> Limits + Send + Sync + 'static) -> Decoders {
        Decoders { catalog, limits: Box::new(limits), at_rest: Mutex::default() }
    }

    /// One at rest, or a new one.
    pub fn take(&self, format: &'static str) -> Decoder {
        let at_rest = self.at_rest.lock().get_mut(format).and_then(Vec::pop);
        at_rest.unwrap_or_else(|| Decoder::new(self.catalog.clone(), (self.limits)(format)))
    }

    /// Back to rest.
    pub fn put(&self, format: &'static str, decoder: Decoder) {
        let mut at_rest = self.at_rest.lock();
        let of_format = at_rest.entry(format).or_default();
        if of_format.len() < DECODERS_KEPT_MAX {
            of_format.push(decoder);
        }
    }
}

/// Paths that are there in any case: one of them stays what it is.
const ROUTES: &[&str] = &[
    "/api/v1/metrics",
    "/api/v1/metrics/batch",
    "/api/v1/metrics/aggregate",
    "/api/v1/series",
    "/api/v1/rollups",
    "/api/v1/alerts",
    "/api/v1/alerts/history",
    "/api/v1/rules",
    "/api/v1/rules/preview",
    "/api/v1/silences",
    "/api/v1/rejected",
    "/api/v1/import/prometheus",
    "/api/v1/write",
    "/health",
    "/healthz",
    "/livez",
    "/readyz",
    "/status",
    "/storage/status",
    "/metrics",
    "/v1/metrics",
];

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    // Where a storage's settings have Prometheus scrape us, beside the usual path.
    let mut scraped = app.config.metrics_paths.clone();
    scraped.retain(|path| !ROUTES.iter().chain(influx::ROUTES).any(|route| route == path));
    scraped.sort();
    scraped.dedup();
    let routes =
        scraped.iter().fold(Router::new(), |routes, path| routes.route(path, get(exposition::metrics)));
    routes
        .route("/api/v1/metrics", get(raw::metrics).post(ingest::post))
        .route("/api/v1/metrics/batch", post(ingest::post))
        .route("/api/v1/metrics/aggregate", get(aggregate::aggregate))
        .route("/api/v1/series", get(aggregate::series))
        .route("/api/v1/rollups", get(rollups::list))
        .route("/api/v1/alerts", get(alerts::active))
        .route("/api/v1/alerts/history", get(alerts::history))
        .route("/api/v1/rules", get(rules::list).post(rules::add))
        .route("/api/v1/rules/preview", post(rules::preview))
        .route("/api/v1/rules/{name}", put(rules::replace).delete(rules::delete))
        .route("/api/v1/silences", get(silences::list).post(silences::give).delete(silences::take_away))
        .route("/api/v1/silences/{id}", get(silences::one).delete(silences::take_one_away))
        .route("/api/v1/rejected", get(status::rejected))
        .route("/api/v1/import/prometheus", post(prometheus::import))
        .route("/api/v1/write", post(prometheus::write))
        .route("/-/reload", post(status::reload).put(status::reload))
        .route("/health", get(status::health))
        .route("/healthz", get(status::health))
        .route("/livez", get(status::live))
        .route("/readyz", get(status::ready))
        .route("/status", get(status::status))
        .route("/storage/status", get(status::storage))
        .route("/metrics", get(exposition::metrics))
        .merge(influx::routes())
        .route("/v1/metrics", post(otlp::post))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

async fn not_found() -> ApiError {
    let detail = "expected one of /api/v1/{metrics, metrics/batch, metrics/aggregate, series, rollups, alerts, alerts/history, rules, rules/preview, rejected, silences}, \
        /write, /api/v2/write, /api/v3/write_lp, /api/v1/write, /api/v1/import/prometheus, /v1/metrics, /health, /livez, \
        /readyz, /-/reload, /status, /storage/status, /metrics";
    ApiError { status: StatusCode::NOT_FOUND, error: "not_found", detail: detail.into() }
}

async fn wrong_method() -> ApiError {
    let detail = "this path is not for that method";
    ApiError { status: StatusCode::METHOD_NOT_ALLOWED, error: "wrong_method", detail: detail.into() }
}
