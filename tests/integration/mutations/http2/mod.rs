//! HTTP/2: connections of bent header blocks, which must become strict HTTP/1.1 or nothing.

pub mod asked;
pub mod tricks;
pub mod library;
pub mod reading;
pub mod client;
pub mod judge;
