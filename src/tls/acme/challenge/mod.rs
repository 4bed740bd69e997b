//! How a name is proved.

pub mod pending;
pub mod dns;
pub mod choose;
