//! Certificates: where they come from and which one is shown.

pub mod storage;
