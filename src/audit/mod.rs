//! The sockets of this host.

pub mod sockets;
