//! The side of the applications.
