//! One request to the receiver, in the version that it speaks, and what its answer means.
//!
//! A receiver of version 2.0 says in a header of each answer how many samples it wrote. One that knows 1.0 only
//! should answer 415; Prometheus before 2.54 answers 204 and stores nothing, others call the body bad. So until a
//! version is known to work, anything but a transient failure leads to the same samples as 1.0
//! (remote write 2.0 specification, "Content negotiation" and "Required Written Response Headers").

use super::wire::{Row, compress, request_v2, write_request};
use crate::sinks::SinkError;
use crate::sinks::target::{Answer, Target};

/// Which version is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// 2.0 where the receiver speaks it, else 1.0; found out by the first request.
    #[default]
    Auto,
    /// 1.0, which every receiver speaks.
    V1,
    /// 2.0, or nothing.
    V2,
}

/// Says how many samples were written.
const WRITTEN: &str = "x-prometheus-remote-write-samples-written";

const HEADERS_V1: [(&str, &str); 3] = [
    ("Content-Encoding", "snappy"),
    ("Content-Type", "application/x-protobuf"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

const HEADERS_V2: [(&str, &str); 3] = [
    ("Content-Encoding", "snappy"),
    ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("X-Prometheus-Remote-Write-Version", "2.0.0"),
];

/// What receivers say of samples that they may have had before, in lower case: Prometheus, Mimir and Cortex, Thanos.
const OF_ORDER: [&str; 8] = [
    "out of order",
    "out-of-order",
    "out of bounds",
    "too old",
    "too-old",
    "too far in the past",
    "duplicate",
    "conflict",
];

/// Sends requests to one receiver.
pub struct Exchange {
    target: Target,
    protocol: Protocol,
    /// What the receiver was found to speak: [`Protocol::V1`] or [`Protocol::V2`].
    speaks: Option<Protocol>,
}

/// What the receiver made of a request.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It has all of it.
    Stored,
    /// It has some of it or nothing, for where samples stand in time; it may have had them before.
    OutOfOrder(String),
}

impl Exchange {
    /// Writes to `target`, whose address is that of the requests.
    pub fn new(target: Target, protocol: Protocol) -> Self {
        Exchange { target, protocol, speaks: None }
    }

    /// The address, for people.
    pub fn shown(&self) -> String {
        self.target.shown()
    }

    /// The version in use, once it is known.
    pub fn speaks(&self) -> Option<Protocol> {
        if self.protocol == Protocol::Auto { self.speaks } else { Some(self.protocol) }
    }

    /// Sends `rows` and waits for the answer.
    ///
    /// # Errors
    /// [`SinkError::Retry`]: not now. [`SinkError::Poison`]: refused for what they are.
    pub fn send(&mut self, rows: &[Row]) -> Result<Outcome, SinkError> {
        if self.speaks() == Some(Protocol::V1) {
            return outcome(self.post_v1(rows)?);
        }
        let answer = self.target.post("", &HEADERS_V2, compress(&request_v2(rows))?)?;
        let written = answer.header(WRITTEN).and_then(|text| text.trim().parse::<u64>().ok());
        match (self.protocol, written) {
            (Protocol::Auto, None) if answer.is_success() || answer.status == 415 => self.fall_back(rows),
            (Protocol::Auto, None) if self.speaks.is_none() && answer.status == 400 => self.fall_back(rows),
            (_, None) if answer.is_success() => Err(SinkError::retry(format!(
                "{}: expected a receiver of remote write 2.0, found one that does not say what it wrote: \
                 set storage.protocol to auto or 1.0",
                self.shown()
            ))),
            (_, Some(written)) if answer.is_success() => {
                self.speaks = Some(Protocol::V2);
                if written < rows.len() as u64 {
                    let why =
                        format!("{}: only {written} of {} samples were written", self.shown(), rows.len());
                    return Err(SinkError::Poison { why });
                }
                Ok(Outcome::Stored)
            }
            (_, written) => {
                self.speaks = self.speaks.or(written.map(|_| Protocol::V2));
                outcome(answer)
            }
        }
    }

    /// The same as version 1.0, which is then the one that is spoken.
    fn fall_back(&mut self, rows: &[Row]) -> Result<Outcome, SinkError> {
        let answer = self.post_v1(rows)?;
        if answer.is_success() {
            self.speaks = Some(Protocol::V1);
        }
        outcome(answer)
    }

    fn post_v1(&self, rows: &[Row]) -> Result<Answer, SinkError> {
        self.target.post("", &HEADERS_V1, compress(&write_request(rows))?)
    }
}

/// What an answer means. Prometheus before 2.49 says 500 of samples that are too old, and would for ever
/// (prometheus/prometheus#13334); Thanos says 409 of samples that are out of order.
fn outcome(answer: Answer) -> Result<Outcome, SinkError> {
    if answer.is_success() {
        return Ok(Outcome::Stored);
    }
    let said = answer.body.to_lowercase();
    let of_order = OF_ORDER.iter().any(|words| said.contains(words));
    match answer.status {
        400 | 409 | 422 if of_order => Ok(Outcome::OutOfOrder(answer.told())),
        409 => Err(SinkError::Poison { why: answer.told() }),
        500 if said.trim() == "too old sample" => Ok(Outcome::OutOfOrder(answer.told())),
        _ => answer.check().map(|_| Outcome::Stored),
    }
}
