//! Why a pair of files is no certificate, told to the operator.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::sandbox;

/// Why a pair of files is no certificate.
#[derive(Debug)]
pub struct FilesError {
    path: PathBuf,
    fault: Fault,
}

/// What is wrong with the file of a [`FilesError`].
#[derive(Debug)]
pub(super) enum Fault {
    Missing,
    Unreadable {
        source: io::Error,
        uid: u32,
    },
    NoCertificate {
        hint: &'static str,
    },
    /// Which one, counted from 1, and why.
    BrokenCertificate(usize, String),
    NoKey {
        hint: &'static str,
    },
    SeveralKeys(usize),
    BrokenPem(String),
    EncryptedKey,
    UnsupportedKey(String),
    OpenToOthers {
        mode: u32,
    },
    Mismatch {
        cert: PathBuf,
    },
    LeafNotFirst,
}

impl FilesError {
    pub(super) fn at(path: &Path, fault: Fault) -> Self {
        Self { path: path.to_owned(), fault }
    }

    /// The file at fault.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a right on the file is what is wrong: missing for us, or too many for others.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match &self.fault {
            Fault::Unreadable { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Fault::OpenToOthers { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.fault {
            Fault::Missing => write!(f, "{path}: there is no such file"),
            Fault::Unreadable { source, uid } if sandbox::keeps_from(&self.path) => write!(
                f,
                "{path} may be read by uid {uid}, but a sandbox keeps this process from it: {source}"
            ),
            Fault::Unreadable { source, uid } => {
                write!(f, "{path} cannot be read by uid {uid}: {source}")
            }
            Fault::NoCertificate { hint } => {
                write!(f, "{path} holds no PEM certificate (-----BEGIN CERTIFICATE-----){hint}")
            }
            Fault::BrokenCertificate(number, why) => {
                write!(f, "{path}: certificate {number} of the file is damaged: {why}")
            }
            Fault::NoKey { hint } => {
                write!(f, "{path} holds no PEM private key (-----BEGIN PRIVATE KEY-----){hint}")
            }
            Fault::SeveralKeys(count) => {
                write!(f, "{path} holds {count} private keys; leave the one of the certificate")
            }
            Fault::BrokenPem(why) => write!(f, "{path} is damaged: {why}"),
            Fault::EncryptedKey => write!(
                f,
                "{path} holds an encrypted key, and there is nobody to ask for its passphrase; \
                 decrypt it with: openssl pkey -in {path} -out NEW_FILE"
            ),
            Fault::UnsupportedKey(why) => write!(
                f,
                "{path} holds a key that cannot be used ({why}); RSA from 2048 bits, ECDSA \
                 P-256, P-384, P-521 and Ed25519 can"
            ),
            Fault::OpenToOthers { mode } => write!(
                f,
                "{path} is a private key that every user of this host may open (mode {mode:04o}); \
                 mend it with: chmod 600 {path}"
            ),
            Fault::Mismatch { cert } => write!(
                f,
                "{path} is not the key of the certificate in {}; they come from different pairs",
                cert.display()
            ),
            Fault::LeafNotFirst => write!(
                f,
                "{path} has the site's own certificate after another one; it must come first, \
                 then those of the authorities"
            ),
        }
    }
}

impl std::error::Error for FilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}
