//! HTTP/1.1: streams of bent requests.

pub mod draft;
pub mod tricks;
pub mod framing_tricks;
pub mod stream;
pub mod sent;
pub mod client;
pub mod judge;
