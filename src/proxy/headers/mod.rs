//! What happens to the fields of a message between one side and the other.

pub mod host;
pub mod over_http2;
pub mod authority;
pub mod hop;
pub mod forwarded;
pub mod request_id;
pub mod passes;
pub mod request_head;
