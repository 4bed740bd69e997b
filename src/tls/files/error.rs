//! Why a pair of files is no certificate, told to the operator.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use super::chain::RSA;
use crate::audit::sockets::printable;
use crate::privilege::explain::Host;
use crate::sandbox;
use crate::shell::{quote, quote_path};

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
        /// Whether it is known to have changed since it could be read.
        changed: bool,
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
    /// An RSA key of so many bits.
    WeakKey(usize),
    OpenToOthers {
        mode: u32,
    },
    Mismatch {
        cert: PathBuf,
    },
    LeafNotFirst,
    /// Of the files about certificates of clients.
    Clients(String),
}

impl FilesError {
    pub(super) fn at(path: &Path, fault: Fault) -> Self {
        Self { path: path.to_owned(), fault }
    }

    /// What is wrong with a file about the certificates of clients.
    pub(in crate::tls) fn of_clients(path: &Path, why: String) -> Self {
        Self::at(path, Fault::Clients(why))
    }

    /// The file at fault.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same error of a file that could be read once and has changed since.
    pub(super) fn changed(mut self) -> Self {
        if let Fault::Unreadable { changed, .. } = &mut self.fault {
            *changed = true;
        }
        self
    }

    /// Whether we have no right to read it.
    pub(in crate::tls) fn is_unreadable(&self) -> bool {
        matches!(&self.fault, Fault::Unreadable { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether a right on the file is what is wrong: missing for us, or too many for others.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.is_unreadable() || matches!(self.fault, Fault::OpenToOthers { .. })
    }
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = printable(&self.path.to_string_lossy());
        match &self.fault {
            Fault::Missing => write!(f, "{path}: there is no such file"),
            Fault::Unreadable { source, uid, .. } if sandbox::keeps_from(&self.path) => write!(
                f,
                "{path} may be read by uid {uid}, but a sandbox keeps this process from it, which a \
                 restart mends: {source}"
            ),
            Fault::Unreadable { uid, changed: true, .. } => write!(
                f,
                "{path} has changed and cannot be read by uid {uid}, which this program became \
                 after its start; restart it, or let it read the file: {}",
                remedy(&self.path)
            ),
            Fault::Unreadable { source, uid, .. } if self.is_unreadable() => write!(
                f,
                "{path} cannot be read by uid {uid}: {source}; to let it: {}",
                remedy(&self.path)
            ),
            Fault::Unreadable { source, uid, .. } => {
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
            Fault::Clients(why) => write!(f, "{path}: {why}"),
            Fault::EncryptedKey => write!(
                f,
                "{path} holds an encrypted key, and there is nobody to ask for its passphrase; \
                 decrypt it with: openssl pkey -in {} -out NEW_FILE",
                quote_path(&self.path)
            ),
            Fault::UnsupportedKey(why) => write!(
                f,
                "{path} holds a key that cannot be used ({why}); RSA from 2048 bits, ECDSA \
                 P-256, P-384, P-521 and Ed25519 can"
            ),
            Fault::WeakKey(bits) => write!(
                f,
                "{path} is too weak: RSA {bits}, at least {RSA}; ask for a certificate with a new key"
            ),
            Fault::OpenToOthers { mode } => write!(
                f,
                "{path} is a private key that every user of this host may open (mode {mode:04o}); \
                 mend it with: {}",
                close(&self.path)
            ),
            Fault::Mismatch { cert } => write!(
                f,
                "{path} is not the key of the certificate in {}; they come from different pairs",
                printable(&cert.to_string_lossy())
            ),
            Fault::LeafNotFirst => write!(
                f,
                "{path} has the site's own certificate after another one; it must come first, \
                 then those of the authorities"
            ),
        }
    }
}

/// The commands that let this process's group read a file, its folders counted, as far as they can
/// be looked into.
#[must_use]
pub fn remedy(path: &Path) -> String {
    let gid = rustix::process::getegid().as_raw();
    let group = nix::unistd::Group::from_gid(gid.into()).ok().flatten();
    let group = group.map_or_else(|| gid.to_string(), |group| group.name);
    let group = quote(group);
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let closed = |folder: &&Path| {
        let (wanted, flags) = (Access::EXEC_OK, AtFlags::EACCESS);
        rustix::fs::accessat(CWD, *folder, wanted, flags) == Err(Errno::ACCESS)
    };
    let folders: Vec<_> = path.ancestors().skip(1).filter(closed).collect();
    let mut commands = Vec::new();
    // The outermost: what lies within cannot be asked.
    if let Some(folder) = folders.last() {
        let folder = quote(folder);
        commands = vec![format!("chgrp {group} {folder}"), format!("chmod g+x {folder}")];
    }
    let path = quote(path);
    commands.extend([format!("chgrp {group} {path}"), format!("chmod 640 {path}")]);
    Host::read().as_root(&commands)
}

/// The command that closes a key to everybody but who is to read it: its owner, and where that is
/// somebody else this process's group.
fn close(path: &Path) -> String {
    let us = rustix::process::geteuid();
    let owner = std::fs::metadata(path).map(|about| about.uid()).ok();
    if us.is_root() || owner.is_none_or(|owner| owner == us.as_raw()) {
        return format!("chmod 600 {}", quote_path(path));
    }
    remedy(path)
}

impl std::error::Error for FilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}
