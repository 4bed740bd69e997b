//! The sockets of this host, and what ports are for.

pub mod sockets;
pub mod registry;
