//! The journal: the log of epochs from which everything else can be made again; the outbox is a log of the same make.
//!
//! # Layout
//! - [`files`]: the file operations, as a trait; [`simulated`]: a disk for tests that fails on command
//! - [`record`]: framing; [`segment`]: one file; [`recovery`]: reading a directory as it was left
//! - [`log`]: the log, its promises, its settings; `writer` and [`reader`]: its two sides
//! - [`epochs`]: what an epoch looks like in a record; `samples`: its samples as few bytes
//! - [`inspect`]: what people ask of a journal; [`repair`]: cutting out what is damaged

pub mod epochs;
pub mod files;
pub mod inspect;
pub mod log;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod repair;
mod samples;
pub mod segment;
pub mod simulated;
mod writer;

#[cfg(test)]
mod tests;
