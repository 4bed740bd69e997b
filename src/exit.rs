//! Exit codes, as documented in the README.

/// Fine.
pub const OK: u8 = 0;
/// The thing asked for failed or needs a person.
pub const FAILED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// Not permitted: a bind, a key file (`EX_NOPERM` of sysexits).
pub const NOT_PERMITTED: u8 = 77;
/// The configuration is wrong (`EX_CONFIG` of sysexits).
pub const CONFIG: u8 = 78;
