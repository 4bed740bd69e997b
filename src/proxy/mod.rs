//! A request in, a response out.

pub mod headers;
pub mod path;
pub mod route;
mod view;
pub mod respond;
