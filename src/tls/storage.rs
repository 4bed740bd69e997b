//! Stand-in.

use std::path::PathBuf;

/// Stand-in.
#[must_use]
pub fn default_for_user() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    state
        .or(home.map(|h| h.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir)
        .join("portcullis")
}
