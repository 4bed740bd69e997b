//! A request in, a response out.

pub mod headers;
pub mod route;
