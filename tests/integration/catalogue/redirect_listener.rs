//! Stub.
use super::stage::Row;
/// Rows.
pub const ROWS: &[Row] = &[];
