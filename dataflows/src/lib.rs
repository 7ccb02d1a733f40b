//! First floor of plantd-metric: the dataflow graph, the workers that run it, the engine handle.
//!
//! ```text
//!  epoch ──┬─ samples ──(exchange by series)──> windows ──> watched samples ──> alerts ──> outbox
//!          ├─ seal ───────────────────────────────┴───────────────────────────────┘
//!          └─ entries ──┐                         bindings
//!                       │                            ^
//!  rules ───────────────┴─(join on family)──(exchange by series)
//!  rollups ─────────────┴─(join on family)──(admission by rollup)──(exchange by series)
//! ```
//!
//! Windows also give complete slices of members of rollups, which go, by group, to `rollups`: rows, and what is kept.
//!
//! The join is a dataflow of its own: it moves only with epochs that bring entries, and before their samples do.
//!
//! Invariants: every epoch is complete on all workers before a later one shows; nothing here opens a file
//! or a socket; the only clocks read are for the workers' own load figures and for how much of a checkpoint is
//! written in one turn, never for state.
//!
//! # Layout
//! - [`epoch`]: what enters, and in which order
//! - [`plan`]: what the engine runs, validated
//! - [`graph`]: the whole graph on one screen
//! - [`worker`]: one loop, one match; [`command`]: what it is told
//! - [`engine`]: the handle: submit, wait, stop
//! - [`checkpoint`]: the workers' state as bytes, a little at a time; [`restore`]: workers from these bytes
//! - [`view`]: aggregate queries over the shards

pub mod checkpoint;
pub mod command;
pub mod engine;
pub mod epoch;
pub mod graph;
pub mod plan;
pub mod restore;
pub mod view;
pub mod worker;
