//! OTLP metrics: `ExportMetricsServiceRequest` in protobuf or in JSON -> samples.
//!
//! Source: opentelemetry-proto, `metrics/v1/metrics.proto` and `docs/specification.md` (OTLP 1.x); the data model is
//! the OpenTelemetry specification's "Metrics data model".
//!
//! | in OTLP | here |
//! |---|---|
//! | resource attribute `service.name` | the service; without it `unknown_service`, as SDKs say |
//! | the resource's other attributes | tags, but for those that describe more than they identify: [`attributes::is_description`] |
//! | attributes of a point | tags; they stand above the resource's. The scope is left out |
//! | gauge, sum | metric NAME. Of a sum that is cumulative the counter as it stands, for `rate` and `increase`; of one that is delta what was added, for `sum` |
//! | histogram | NAME_count, NAME_sum, NAME_min, NAME_max, and NAME_bucket with the tag `le`, each with all below it |
//! | exponential histogram | the same; see [`buckets`] for its bounds |
//! | summary | NAME_count, NAME_sum, and NAME with the tag `quantile` |
//!
//! Histograms are cumulative or delta as their counters are. Names, units and types stay as they are sent: nothing is
//! appended to a name. A point without a time gets the arrival's; one that says that it has no value
//! (`NO_RECORDED_VALUE`) is counted and is no sample. Exemplars and descriptions are passed over.
//!
//! # Layout
//! - [`wire`]: the messages in protobuf, over [`protobuf`]; [`json`]: the same in JSON
//! - [`points`]: what becomes of each kind of point; [`buckets`]: bounds of histograms
//! - [`attributes`]: attributes -> tags

pub mod attributes;
pub mod buckets;
pub mod json;
pub mod points;
pub mod protobuf;
pub mod wire;

#[cfg(test)]
mod tests;

pub use json::OtlpJson;
pub use wire::OtlpProtobuf;
