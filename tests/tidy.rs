//! The house rules that a compiler does not know. Each names file and line, and has a test below it which shows that
//! it can fail; each exception stands in a table with its reason, and a row that is no longer needed is an error too.
//!
//! # Layout
//! - [`source`]: the files, and their code without comments and literals
//! - [`shape`]: headers, lengths, names
//! - [`floors`]: imports point down; fences around third-party crates
//! - [`tables`]: registration tables are complete
//! - [`crates`]: licences, and one version of each crate
//! - [`contract`]: `docs/contract.md` names tests that exist

#[path = "tidy/contract.rs"]
mod contract;
#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tables.rs"]
mod tables;
