//! The sockets of this host.
