//! Why a site has no certificate.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tls::facts::date;
use crate::tls::files::FilesError;
use crate::tls::local_ca::LocalError;

/// Why a site has no certificate.
#[derive(Debug)]
pub struct CertificateError {
    /// The site's name.
    pub site: String,
    pub(in crate::tls) reason: Reason,
}

#[derive(Debug)]
pub(in crate::tls) enum Reason {
    Files(FilesError),
    /// It would take the place of one that has not expired.
    Expired {
        cert: PathBuf,
        on: SystemTime,
    },
    /// It would take the place of one that has begun.
    Early {
        cert: PathBuf,
        on: SystemTime,
    },
    /// It would take the place of one that is for these names too.
    Uncovered {
        cert: PathBuf,
        names: String,
    },
    /// About certificates of clients.
    Clients(FilesError),
    /// Shared, because one broken authority fails every site that needs it.
    Local(Arc<LocalError>),
    /// As another process, or another part of this one, tells it.
    Told {
        words: String,
        is_permission: bool,
    },
}

impl CertificateError {
    /// What is wrong and what to do, without the site.
    #[must_use]
    pub fn reason(&self) -> String {
        self.reason.to_string()
    }

    /// Whether a right is missing: the program ends with another exit code then.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.reason.is_permission()
    }
}

impl Reason {
    /// Whether a right is missing.
    pub(in crate::tls) fn is_permission(&self) -> bool {
        match self {
            Reason::Files(error) | Reason::Clients(error) => error.is_permission(),
            Reason::Expired { .. } | Reason::Early { .. } | Reason::Uncovered { .. } => false,
            Reason::Local(error) => error.is_permission(),
            Reason::Told { is_permission, .. } => *is_permission,
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "site {}: {}", self.site, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Files(error) => error.fmt(f),
            Reason::Clients(error) => write!(f, "client certificates: {error}"),
            Reason::Early { cert, on } => write!(
                f,
                "{}: the certificate is not valid before {}, and the one that it would replace is; \
                 is this host's clock right?",
                cert.display(),
                date(*on)
            ),
            Reason::Uncovered { cert, names } => write!(
                f,
                "{}: the certificate is not for {names}, and the one that it would replace is",
                cert.display()
            ),
            Reason::Expired { cert, on } => write!(
                f,
                "{}: the certificate expired on {}, and the one that it would replace has not",
                cert.display(),
                date(*on)
            ),
            Reason::Local(error) => error.fmt(f),
            Reason::Told { words, .. } => f.write_str(words),
        }
    }
}

/// What goes over the control socket of a [`CertificateError`].
#[derive(Serialize, Deserialize)]
struct Wire {
    site: String,
    words: String,
    is_permission: bool,
}

impl Serialize for CertificateError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (site, words) = (self.site.clone(), self.reason());
        Wire { site, words, is_permission: self.is_permission() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CertificateError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { site, words, is_permission } = Wire::deserialize(deserializer)?;
        Ok(Self { site, reason: Reason::Told { words, is_permission } })
    }
}

impl std::error::Error for CertificateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Files(error) | Reason::Clients(error) => Some(error),
            Reason::Expired { .. }
            | Reason::Early { .. }
            | Reason::Uncovered { .. }
            | Reason::Told { .. } => None,
            Reason::Local(error) => Some(&**error),
        }
    }
}
