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

/// Stand-in.
#[must_use]
pub fn writable(storage: &std::path::Path) -> bool {
    let nearest = storage.ancestors().find(|path| path.exists());
    nearest.is_some_and(|path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok())
}
