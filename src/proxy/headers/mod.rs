//! What happens to the fields of a message between one side and the other.

pub mod host;
pub mod authority;
