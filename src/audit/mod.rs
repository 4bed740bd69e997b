//! What listens on this host: the sockets and addresses, what is known of each listener and of its
//! port, and what to think of it.

pub mod sockets;
pub mod addresses;
pub mod registry;
pub mod inventory;
pub mod facts;
pub mod verdict;
pub mod baseline;
pub mod report;
pub mod plan;
mod netlink;
