//! Codecs: bytes -> samples, in the thread or task that received them.
//!
//! A bad sample is put aside with its reason, its neighbours pass. Nothing here fails a whole body for one
//! of its samples, and nothing allocates per sample once a message's shape is known.
//!
//! # Layout
//! - [`decoder`]: what every codec decodes into: limits, accepted samples, rejects; in `decoder/`, what is known of targets
//!   (`shapes.rs`), of their metrics (`classes.rs`) and of what messages look like (`layout.rs`)
//! - [`reject`]: the reasons, counted; the last rejects, kept
//! - [`time`]: event times as text and as numbers
//! - [`number`]: decimal numbers, correctly rounded
//! - [`json`]: the documented JSON and the flat shapes on plantd's bus; in `json/`, the way through a body (`body.rs`) and
//!   its faster tiers (`known.rs`, `scan.rs`)
//! - [`line`]: InfluxDB's line protocol
//! - [`otlp`]: OTLP metrics, in protobuf and in JSON
//! - [`statsd`]: StatsD's lines, and what they come to within an interval
//! - [`remote_write`]: Prometheus remote write 1.0 and 2.0; [`labels`]: what its series are called here
//! - [`prometheus_text`]: Prometheus text and OpenMetrics, pushed; [`exposition`]: their grammar, for scrapes too

pub mod decoder;
pub mod exposition;
pub mod json;
pub mod labels;
pub mod line;
pub mod number;
pub mod otlp;
pub mod prometheus_text;
pub mod reject;
pub mod remote_write;
pub mod statsd;
pub mod time;

use decoder::Decoder;
use reject::Malformed;

/// An input format.
pub trait Codec: Sync {
    /// Its name in settings and telemetry.
    fn name(&self) -> &'static str;
    /// Decodes a body into `decoder`. What came before an error stays accepted.
    ///
    /// # Errors
    /// Where the body stops making sense, with the byte at which it does.
    fn decode(&self, body: &[u8], decoder: &mut Decoder) -> Result<(), Malformed>;
}

/// All input formats.
pub static CODECS: &[&dyn Codec] = &[
    &json::Json,
    &line::USUAL,
    &remote_write::V1,
    &remote_write::V2,
    &prometheus_text::PROMETHEUS,
    &prometheus_text::OPEN_METRICS,
    &otlp::OtlpProtobuf,
    &otlp::OtlpJson,
];

/// For tests: `len` cases, or as many as `PROPTEST_CASES` says.
#[cfg(test)]
fn cases(len: u32) -> proptest::test_runner::Config {
    let config = proptest::test_runner::Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { len };
    proptest::test_runner::Config { cases, ..config }
}
