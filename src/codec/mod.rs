//! Codecs: bytes -> samples, in the thread or task that received them.
//!
//! A bad sample is put aside with its reason, its neighbours pass. Nothing here fails a whole body for one
//! of its samples, and nothing allocates per sample once a message's shape is known.
//!
//! # Layout
//! - [`decoder`]: what every codec decodes into: limits, cached shapes, accepted samples, rejects
//! - [`reject`]: the reasons, counted; the last rejects, kept
//! - [`time`]: event times as text and as numbers
//! - [`json`]: the documented JSON and the flat shapes on plantd's bus; its fast tier in `json/scan.rs`
//! - [`line`]: InfluxDB's line protocol
//! - [`otlp`]: OTLP metrics, in protobuf and in JSON
//! - [`statsd`]: StatsD's lines, and what they come to within an interval

pub mod decoder;
pub mod exposition;
pub mod json;
pub mod line;
pub mod otlp;
pub mod reject;
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
pub static CODECS: &[&dyn Codec] = &[&json::Json, &line::USUAL, &otlp::OtlpProtobuf, &otlp::OtlpJson];
