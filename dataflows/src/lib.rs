//! First floor of plantd-metric: the dataflow graph, the workers that run it, the engine handle.
//!
//! ```text
//!  epoch ──┬─ samples ──(exchange by series)──> windows ──> watched samples ──┐
//!          ├─ seal ───────────────────────────────┴───────────────────────────┤
//!          ├─ entries ──┐                                                     ├─> alerts ──> outbox
//!  rules ──┴────────────┴─(join on family)──> bindings ──(exchange by series)─┘
//! ```
//!
//! Invariants: every epoch is complete on all workers before a later one shows; nothing here opens a file
//! or a socket; the only clock read is for the workers' own load figures, never for state.
//!
//! # Layout
//! - [`epoch`]: what enters, and in which order
//! - [`plan`]: what the engine runs, validated
//! - [`graph`]: the whole graph on one screen
//! - [`worker`]: one loop, one match; [`command`]: what it is told
//! - [`engine`]: the handle: submit, wait, stop
//! - [`view`]: aggregate queries over the shards; [`recent`]: raw samples still in memory

pub mod command;
pub mod engine;
pub mod epoch;
pub mod graph;
pub mod plan;
pub mod recent;
pub mod view;
pub mod worker;
