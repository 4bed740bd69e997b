//! The secrets of TLS sessions, for who looks for a fault in them: only when the configuration and
//! the environment both ask for it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::KeyLog;

use crate::config::Config;

/// The variable that names the file, as in other programs.
pub const VARIABLE: &str = "SSLKEYLOGFILE";

/// The file that is asked for.
#[must_use]
pub fn named() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
}

/// The file for the secrets of sessions, opened once: the sandbox lets nobody open it later.
pub(super) fn asked_for(
    config: &Config,
    before: Option<&Arc<dyn KeyLog>>,
) -> Option<Arc<dyn KeyLog>> {
    if !config.server.key_log {
        return None;
    }
    if let Some(open) = before {
        return Some(Arc::clone(open));
    }
    let Some(path) = named() else {
        tracing::warn!("server.key_log does nothing: SSLKEYLOGFILE is not in the environment");
        return None;
    };
    match KeyFile::open(&path) {
        Ok(file) => {
            tracing::warn!(
                "the secrets of all TLS sessions are written to {}: who reads it reads the traffic",
                path.display()
            );
            Some(Arc::new(file))
        }
        Err(error) => {
            tracing::error!("server.key_log does nothing: {}: {error}", path.display());
            None
        }
    }
}

/// A file in the format that Wireshark reads, mode 0600 where it is made.
pub struct KeyFile(Mutex<File>);

impl KeyFile {
    /// Opens it, to be continued.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self(Mutex::new(file)))
    }
}

impl KeyLog for KeyFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        // A handshake does not fail for the sake of who watches it.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile")
    }
}
