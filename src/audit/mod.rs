//! What listens on this host: the sockets, and what is known of each.

pub mod sockets;
pub mod inventory;
pub mod facts;
pub mod verdict;
pub mod baseline;
