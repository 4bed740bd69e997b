//! A request in, a response out.
//!
//! [`handle`] is the whole journey on one page; [`failure`] says what happens when a step of it
//! fails, and [`record`] remembers it for the log.

pub mod handle;
pub mod headers;
pub mod path;
pub mod route;
mod view;
pub mod forward;
pub mod upgrade;
pub mod tunnel;
pub mod request_body;
pub mod response_body;
pub mod patience;
pub mod failure;
pub mod respond;
pub mod answer;
pub mod date;
pub mod record;
#[cfg(test)]
mod invariant;
#[cfg(test)]
pub(crate) mod testing;
