//! What happens to the fields of a message.

#[path = "../../../../src/proxy/headers/host.rs"]
pub mod host;
#[path = "../../../../src/proxy/headers/authority.rs"]
pub mod authority;
#[path = "../../../../src/proxy/headers/hop.rs"]
pub mod hop;
#[path = "../../../../src/proxy/headers/forwarded.rs"]
pub mod forwarded;
