//! The side of the applications.

#[path = "../../../src/upstream/response.rs"]
pub mod response;
#[path = "../../../src/upstream/chunked.rs"]
pub mod chunked;
