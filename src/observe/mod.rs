//! What the operator sees: the access log, the metrics and the program's own words.
//!
//! A worker formats its lines into a buffer of its own ([`access_log`]) and counts in counters of
//! its own ([`metrics`]); one thread writes the lines ([`log_writer`]), and the control plane
//! adds the counters up when somebody asks ([`registry`], [`prometheus`]). Nothing here makes a
//! request wait. [`program_log`] is for what the program itself has to say.

pub mod access_log;
mod backlog;
mod line;
mod address;
mod escape;
mod mask;
mod clock;
pub mod log_writer;
mod sink;
mod counter;
mod label;
pub mod metrics;
pub mod registry;
pub mod prometheus;
mod exposition;
pub mod program_log;
mod program_writer;
pub mod rate_limited;
