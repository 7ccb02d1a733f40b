//! Top floor of plantd-metric: the service around the engine.
//!
//! # Layout
//! - [`service`]: start and stop, told as a story
//! - [`arguments`], [`settings`]: command line, YAML file, environment -> validated settings
//! - [`bus`]: ZeroMQ transport; [`codec`]: bytes -> samples; [`intake`]: the one door down
//! - [`statsd`]: StatsD over UDP
//! - [`journal`]: the log of epochs on disk; [`keeper`]: writes, syncs and shortens it; [`checkpoint`]: state at
//!   one epoch; [`recovery`]: both -> state, at the start; [`requests`]: which must not count twice
//! - [`http`]: the API; [`health`]: asking a running one
//! - [`rulebook`]: which rules are in force; [`reload`]: others; [`alerts`]: the table of alerts; [`alert_history`]:
//!   their latest transitions; [`notify`]: transitions -> receivers
//! - [`rules`]: alert rules tried before they go live, and the list of those that run; `gathered`: what they say, by epoch
//! - [`promql`]: Prometheus' expressions, as far as rules of ours can say the same
//! - [`templates`]: texts with places for values
//! - [`rollups`]: which rollups are wanted, and what is said of them
//! - [`message`]: the documented message; [`raw`]: raw samples for queries and sinks, [`recent`]: those in memory
//! - [`sinks`]: where samples are stored; [`delivery`]: feeds them from a log, with a cursor
//! - [`collectors`]: what a producer measures; [`producer`]: collectors -> bus
//! - [`detect`]: anomaly scores for a table
//! - [`telemetry`]: what the service counts about itself; `file_lock`: files that are ours alone

pub mod alert_history;
pub mod alerts;
pub mod arguments;
pub mod bus;
pub mod checkpoint;
pub mod codec;
pub mod collectors;
pub mod delivery;
pub mod detect;
pub mod feed;
mod file_lock;
mod gathered;
pub mod health;
pub mod http;
pub mod intake;
pub mod journal;
pub mod keeper;
pub mod message;
pub mod notify;
pub mod outbox;
pub mod producer;
pub mod promql;
pub mod raw;
pub mod recent;
pub mod recovery;
pub mod reload;
pub mod replay;
pub mod requests;
pub mod rollups;
pub mod rulebook;
pub mod rules;
pub mod service;
pub mod settings;
pub mod sinks;
pub mod statsd;
pub mod telemetry;
pub mod templates;
