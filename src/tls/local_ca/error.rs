//! Why the local authority has no certificate, told to the operator.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::{ROOT, ROOT_KEY};
use crate::tls::facts::date;
use crate::tls::storage::StorageError;

/// Why the local authority has no certificate to give.
#[derive(Debug)]
pub enum LocalError {
    /// The storage cannot be read or written.
    Storage(StorageError),
    /// A file of the authority is not what it should be.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The root's ten years are over.
    Expired {
        /// The root.
        path: PathBuf,
        /// Its last moment.
        on: SystemTime,
    },
    /// A certificate could not be made.
    Make(rcgen::Error),
    /// A certificate that was just made cannot be used.
    Tls(rustls::Error),
}

impl LocalError {
    /// Whether a right is missing.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, LocalError::Storage(error) if error.is_permission())
    }

    /// Whether it is the root or its key that cannot be used, as they are.
    pub(super) fn is_the_authority_s(&self) -> bool {
        match self {
            LocalError::Damaged { path, .. } => path.ends_with(ROOT) || path.ends_with(ROOT_KEY),
            LocalError::Expired { .. } => true,
            _ => false,
        }
    }

    /// What is wrong, without what a person could do.
    pub(super) fn bare(&self) -> String {
        match self {
            LocalError::Damaged { path, why } => format!("{}: {why}", path.display()),
            LocalError::Expired { path, on } => {
                format!("{} expired on {}", path.display(), date(*on))
            }
            other => other.to_string(),
        }
    }

    /// What the next start or reload does about it, where that is not only to say it.
    #[must_use]
    pub fn outlook(&self) -> Option<String> {
        self.is_the_authority_s().then(|| {
            format!(
                "the local authority cannot be used: {}; restore it from a copy, or the next start \
                 or reload sets it aside and makes another, which has to be trusted anew unless \
                 root.key is still good",
                self.bare()
            )
        })
    }

    /// The same, and what a start shows where it can do nothing about it. A missing right is that
    /// of who asks.
    #[must_use]
    pub fn prospect(&self) -> Option<String> {
        self.outlook().or_else(|| {
            (!self.is_permission()).then(|| {
                format!(
                    "the local authority cannot be used: {}; until it is mended, a start shows a \
                     certificate that nobody can trust",
                    self.bare()
                )
            })
        })
    }
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = "to make a new authority (which must be trusted again), remove root.pem and \
                     root.key in that directory; a restart or a reload sets them aside";
        match self {
            LocalError::Storage(error) => error.fmt(f),
            LocalError::Damaged { path, why } if self.is_the_authority_s() => {
                write!(
                    f,
                    "the local authority is damaged: {}: {why}; restore the file from a copy, or, \
                     {again}",
                    path.display()
                )
            }
            LocalError::Damaged { path, why } => write!(f, "{}: {why}", path.display()),
            LocalError::Expired { path, on } => {
                write!(
                    f,
                    "the local authority expired on {}: {}; {again}",
                    date(*on),
                    path.display()
                )
            }
            LocalError::Make(error) => write!(f, "cannot make a local certificate: {error}"),
            LocalError::Tls(error) => write!(f, "cannot use the local certificate: {error}"),
        }
    }
}

impl std::error::Error for LocalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LocalError::Storage(error) => Some(error),
            LocalError::Make(error) => Some(error),
            LocalError::Tls(error) => Some(error),
            LocalError::Damaged { .. } | LocalError::Expired { .. } => None,
        }
    }
}

impl From<StorageError> for LocalError {
    fn from(error: StorageError) -> Self {
        LocalError::Storage(error)
    }
}

impl From<rcgen::Error> for LocalError {
    fn from(error: rcgen::Error) -> Self {
        LocalError::Make(error)
    }
}
