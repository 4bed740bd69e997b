//! The side of the clients: listening, handshakes, connections.

pub mod bind;
