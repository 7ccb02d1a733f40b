//! Rules before they go live: checked, tested, and tried on samples of the past, each by the engine itself in virtual
//! time.
//!
//! # Layout
//! - [`trial`]: samples and rules -> what is said of alerts, by an engine of its own
//! - [`alerts`]: what was said -> alerts with start, firing and end
//! - [`unit`]: unit tests of rules; [`past`]: rules on a journal or stored files; [`preview`]: on what an engine holds
//! - [`task`]: the subcommands `rules check`, `import`, `test` and `replay`
//! - [`store`]: the rules as they are written, and how they change while the service runs

pub mod alerts;
pub mod past;
pub mod preview;
pub mod store;
pub mod task;
pub mod trial;
pub mod unit;
