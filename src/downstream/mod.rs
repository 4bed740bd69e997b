//! The side of the clients: listening, handshakes, connections.

pub mod bind;
pub mod passed;
pub mod accept;
pub mod descriptors;
pub mod admission;
pub mod aside;
pub mod serve;
pub mod proxy_protocol;
pub mod handshake;
pub mod stream;
mod sealed;
mod turns;
pub mod guard;
pub mod frames;
pub mod field_block;
pub mod inspection;
pub mod budget;
pub mod connection;
pub mod http1;
pub mod http2;
pub mod streams;
pub mod redirect;
