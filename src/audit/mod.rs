//! What listens on this host: the sockets and addresses, and what is known of each listener.

pub mod sockets;
pub mod addresses;
pub mod inventory;
mod netlink;
