//! Top floor of plantd-metric: the service around the engine.
//!
//! # Layout
//! - [`service`]: start and stop, told as a story
//! - [`arguments`], [`settings`]: command line, YAML file, environment -> validated settings
//! - [`bus`]: ZeroMQ transport; [`codec`]: bytes -> samples; [`intake`]: the one door down
//! - [`http`]: the API; [`health`]: asking a running one
//! - [`alerts`]: the table of alerts; [`notify`]: transitions -> receivers
//! - [`message`]: the documented message; [`raw`]: raw samples for queries and sinks
//! - [`sinks`]: where samples are stored; [`delivery`]: bounded queues before them
//! - [`collectors`]: what a producer measures; [`producer`]: collectors -> bus
//! - [`telemetry`]: what the service counts about itself

pub mod alerts;
pub mod arguments;
pub mod bus;
pub mod codec;
pub mod collectors;
pub mod delivery;
pub mod health;
pub mod http;
pub mod intake;
pub mod message;
pub mod notify;
pub mod producer;
pub mod raw;
pub mod service;
pub mod settings;
pub mod sinks;
pub mod telemetry;
