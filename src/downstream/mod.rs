//! The side of the clients: listening, handshakes, connections.

pub mod proxy_protocol;
pub mod redirect;
