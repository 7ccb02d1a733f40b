//! Ground floor of plantd-metric: the vocabulary and the computations of the engine.
//!
//! Nothing here reads a clock, a file or a socket, draws a random number or starts a thread.
//!
//! # Layout
//! - [`sample`]: one observation, fixed size
//! - [`series`]: targets, tags, series keys, matchers; [`catalog`] gives them numbers and keeps the limits
//! - [`family`]: metric names that mean the same; [`stable_hash`]: ids that outlive the process
//! - [`packed`]: numbers as few bytes, in which state is saved; `saved.rs` beside what it saves
//! - [`counter`]: the increase of a counter that may start again
//! - [`sketch`]: the log-linear quantile sketch and its bound
//! - [`pane`]: samples of one series in one stretch of time, folded once
//! - [`tier`]: widths and retentions of panes, a series' own clock; [`history`]: the panes of one series
//! - [`aggregate`]: panes merged into a window; [`function`]: what is read off it, the table `FUNCTIONS`
//! - [`rule`]: what an alert rule watches; [`condition`]: how it compares, the table `CONDITIONS`; [`alert`]: the life
//!   cycle of one alert
//! - [`closing`]: the windows of finest panes that are closed, as rows
//! - [`anomaly`]: how strange a sample is, given those of its series before it
//! - [`rollup`]: windows over groups of series, kept up to date
//! - [`exchange`]: samples to the workers that own their series
//! - [`window`], [`binding`], [`alerts`]: the timely and differential operators over all of that

pub mod aggregate;
pub mod alert;
pub mod alerts;
pub mod anomaly;
pub mod binding;
pub mod catalog;
pub mod closing;
pub mod condition;
pub mod counter;
pub mod exchange;
pub mod family;
pub mod function;
pub mod history;
pub mod packed;
pub mod pane;
pub mod rollup;
pub mod rule;
pub mod sample;
pub mod series;
pub mod sketch;
pub mod stable_hash;
mod stash;
pub mod tier;
pub mod window;
