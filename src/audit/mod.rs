//! The sockets and addresses of this host.

pub mod sockets;
pub mod addresses;
mod netlink;
