//! The side of the applications.
//!
//! [`send`] is the way in: it picks an application ([`balance`]), takes a connection from the
//! worker's own [`pool`] or makes one ([`connect`]), and speaks HTTP/1.1 ([`h1`]) or HTTP/2
//! ([`h2c`]) on it.

pub mod send;
pub mod balance;
pub mod pool;
pub mod connect;
pub mod io;
pub mod h1;
pub mod upload;
pub mod download;
pub mod response;
pub mod silence;
pub mod chunked;
pub mod h2c;
#[cfg(test)]
pub(crate) mod testing;
