//! OTLP against an encoder of the tests' own: golden bytes, every kind of point in both forms, and what nobody should
//! send.

use std::sync::Arc;

use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::SECOND;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::attributes::ATTRIBUTES_LEN_MAX;
use super::buckets::BUCKETS_LEN_MAX;
use super::{OtlpJson, OtlpProtobuf};
use crate::codec::Codec;
use crate::codec::decoder::{Decoder, Limits};

mod encoder;
mod hostile;
mod kinds;

const NOON_NS: i64 = 1_704_110_400 * SECOND;

/// What a body comes to.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// `service{tags} metric`, seconds after noon, value.
    samples: Vec<(String, f64, f64)>,
    /// Point, reason.
    rejects: Vec<(usize, &'static str)>,
    /// Reasons.
    passed_over: Vec<&'static str>,
    /// Byte of the error.
    malformed: Option<usize>,
}

struct Rig {
    catalog: Arc<Catalog>,
    decoder: Decoder,
}

impl Rig {
    fn new() -> Rig {
        let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
        let decoder = Decoder::new(catalog.clone(), Limits::default());
        Rig { catalog, decoder }
    }

    fn decode(&mut self, codec: &dyn Codec, body: &[u8]) -> Outcome {
        self.decoder.begin(NOON_NS);
        let result = codec.decode(body, &mut self.decoder);
        let name = |series| {
            let key = self.catalog.key(series).expect("a series of the catalog");
            let tags: Vec<String> = key.target.tags.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{}{{{}}} {}", key.target.service, tags.join(","), key.metric)
        };
        let samples = self.decoder.samples.iter();
        Outcome {
            samples: samples.map(|s| (name(s.series), (s.time_ns - NOON_NS) as f64 / 1e9, s.value)).collect(),
            rejects: self.decoder.rejects.iter().map(|r| (r.index, r.reason.word())).collect(),
            passed_over: self.decoder.untold.iter().map(|reason| reason.word()).collect(),
            malformed: result.err().map(|malformed| malformed.byte),
        }
    }

    fn protobuf(&mut self, body: &[u8]) -> Outcome {
        self.decode(&OtlpProtobuf, body)
    }

    fn json(&mut self, body: &Value) -> Outcome {
        self.decode(&OtlpJson, body.to_string().as_bytes())
    }
}

/// The body in both forms comes to this, at first and when all of it is known.
#[track_caller]
fn check(body: &Value, samples: &[(&str, f64, f64)], rejects: &[(usize, &str)]) {
    let mut rig = Rig::new();
    let encoded = encoder::request(body);
    for round in ["new", "known"] {
        for (form, found) in [("protobuf", rig.protobuf(&encoded)), ("JSON", rig.json(body))] {
            let all: Vec<_> = found.samples.iter().map(|(s, t, v)| (s.as_str(), *t, *v)).collect();
            assert_eq!(all, samples, "{form}, {round}");
            assert_eq!(found.rejects, rejects, "{form}, {round}");
            assert_eq!(found.malformed, None, "{form}, {round}");
        }
    }
}

/// A request of one metric of the service `s`.
fn of_metric(metric: Value) -> Value {
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]});
    json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]})
}

/// A request of one gauge with these points.
fn of_gauge(points: Value) -> Value {
    of_metric(json!({"name": "m", "gauge": {"dataPoints": points}}))
}

fn nanos(seconds: i64) -> String {
    (NOON_NS + seconds * SECOND).to_string()
}
