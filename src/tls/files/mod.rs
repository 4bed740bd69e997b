//! Certificates and keys from PEM files.

pub mod bequest;
mod error;
pub mod chain;
mod look;
mod kept;
pub mod handed;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{Access, AtFlags, CWD, OFlags};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::facts::{Facts, ago, date};
use super::storage::read_regular;
use crate::proxy::headers::host::HostPattern;
use error::Fault;
pub use error::{FilesError, remedy};
pub use handed::Handed;
pub use kept::Kept;
pub use look::Look;

/// A pair as it was read, and what its files looked like then.
#[derive(Clone, Debug)]
pub struct Pair {
    /// What is shown to clients.
    pub certified: Arc<CertifiedKey>,
    cert: (PathBuf, Look),
    key: (PathBuf, Look),
    /// The key itself, where it was read as root and a successor may not be able to.
    secret: Option<Arc<PrivateKeyDer<'static>>>,
}

impl Pair {
    /// Its two files: the chain and the key.
    #[must_use]
    pub fn paths(&self) -> [&Path; 2] {
        [&self.cert.0, &self.key.0]
    }

    /// Whether this process could not read it again.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        self.paths().into_iter().any(is_closed)
    }

    /// Whether it was read from these files.
    #[must_use]
    pub fn is_of(&self, cert: &Path, key: &Path) -> bool {
        self.cert.0 == cert && self.key.0 == key
    }
}

/// Reads a chain (the site's own certificate first) and its key (PKCS#8, SEC1 or PKCS#1), which
/// must match. Neither file may be larger than 1 MiB or anything but a regular file.
///
/// A key file that every user of the host may open is refused; one that its group may read is not,
/// because 0640 with a group of its own is how a key is shared with a program that is not root.
///
/// # Errors
/// A [`FilesError`] that names the file and, where there is one, the command that mends it. A
/// certificate whose time is over is no error here: see [`judge`].
pub fn load(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, FilesError> {
    load_again(cert, key, None, &[]).map(|pair| pair.certified)
}

/// The same after `before` was loaded from the same files, perhaps with rights that are gone: of a
/// file that may not be read any more, and that has not changed as far as one can see, what was
/// read then is used again. What a sandbox keeps from this process is taken from what was `handed`.
///
/// # Errors
/// As [`load`]; a file that has changed and may not be read is one.
pub fn load_again(
    cert: &Path,
    key: &Path,
    before: Option<&Pair>,
    handed: &[Handed],
) -> Result<Pair, FilesError> {
    // Looked at first: what changes in between is read again at the next look.
    let looks = (Look::of(cert), Look::of(key));
    let before = before.filter(|before| before.is_of(cert, key));
    let keep = |error: FilesError, look: Look, old: fn(&Pair) -> &(PathBuf, Look)| match before {
        _ if !error.is_unreadable() => Err(error),
        Some(pair) if look.has_content_of(old(pair).1) => Ok((pair, old(pair).1)),
        Some(_) => Err(error.changed()),
        None => Err(error),
    };
    let (chain, cert_look) = match chain(cert, handed) {
        Ok(chain) => (chain, looks.0),
        Err(error) => {
            let (pair, look) = keep(error, looks.0, |pair| &pair.cert)?;
            (pair.certified.cert.clone(), look)
        }
    };
    let (signing, secret, key_look) = match signing_key(key, handed) {
        Ok((signing, secret)) => (signing, secret, looks.1),
        Err(error) => {
            let (pair, look) = keep(error, looks.1, |pair| &pair.key)?;
            (pair.certified.key.clone(), pair.secret.clone(), look)
        }
    };
    let certified = matching(CertifiedKey::new(chain, signing), cert, key)?;
    Ok(Pair { certified, cert: (cert.into(), cert_look), key: (key.into(), key_look), secret })
}

/// The certificates of a PEM file at `path` with this content, at least one.
///
/// # Errors
/// As [`load`].
pub(super) fn certificates(
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    let chain = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| FilesError::at(path, Fault::BrokenPem(pem_words(&error))))?;
    if chain.is_empty() {
        let hint = match text {
            [] => ": it is empty",
            [0x30, ..] => ": it looks like DER; convert it with openssl x509 -inform DER",
            _ if contains(text, b"PRIVATE KEY-----") => {
                ": it holds a private key; are `cert` and `key` exchanged?"
            }
            _ => "",
        };
        return Err(FilesError::at(path, Fault::NoCertificate { hint }));
    }
    for (index, certificate) in chain.iter().enumerate() {
        Facts::of(certificate).map_err(|error| {
            FilesError::at(path, Fault::BrokenCertificate(index + 1, error.to_string()))
        })?;
    }
    Ok(chain)
}

/// All of a file, of which at most 1 MiB is read.
///
/// # Errors
/// When it is missing, cannot be read or is no regular file.
fn content(path: &Path) -> Result<Vec<u8>, FilesError> {
    open(path, &[]).map(|(content, _)| content)
}

/// Whether a file may not be read by this process.
pub fn is_closed(path: &Path) -> bool {
    rustix::fs::accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS)
        == Err(rustix::io::Errno::ACCESS)
}

type Signing = (Arc<dyn SigningKey>, Option<Arc<PrivateKeyDer<'static>>>);

fn signing_key(path: &Path, handed: &[Handed]) -> Result<Signing, FilesError> {
    let secret = private_key(path, handed)?;
    let signing = aws_lc_rs::sign::any_supported_type(&secret).map_err(|error| {
        let fault = match chain::rsa_bits(&secret) {
            Some(bits) if bits < chain::RSA => Fault::WeakKey(bits),
            _ => Fault::UnsupportedKey(error.to_string()),
        };
        FilesError::at(path, fault)
    })?;
    let is_root = rustix::process::geteuid().is_root();
    Ok((signing, is_root.then(|| Arc::new(secret))))
}

fn matching(
    certified: CertifiedKey,
    cert: &Path,
    key: &Path,
) -> Result<Arc<CertifiedKey>, FilesError> {
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let later = certified.cert.iter().skip(1).any(|certificate| {
                let alone = CertifiedKey::new(vec![certificate.clone()], certified.key.clone());
                alone.keys_match().is_ok()
            });
            let fault =
                if later { Fault::LeafNotFirst } else { Fault::Mismatch { cert: cert.to_owned() } };
            Err(FilesError::at(if later { cert } else { key }, fault))
        }
        Err(error) => Err(FilesError::at(cert, Fault::BrokenCertificate(1, error.to_string()))),
    }
}

/// What is wrong with a certificate that can be served all the same: not yet valid, expired, or
/// without some of the names of its site. One sentence each; none when all is well.
#[must_use]
pub fn judge(certified: &CertifiedKey, now: SystemTime, hosts: &[HostPattern]) -> Vec<String> {
    let facts = certified.cert.first().map(Facts::of);
    let facts = match facts {
        Some(Ok(facts)) => facts,
        Some(Err(error)) => return vec![format!("the certificate is {error}")],
        None => return vec!["there is no certificate".to_owned()],
    };
    let mut found = Vec::new();
    if now > facts.not_after {
        let (on, ago) = (date(facts.not_after), ago(now, facts.not_after));
        found.push(format!("the certificate expired on {on} ({ago})"));
    } else if now < facts.not_before {
        found.push(format!(
            "the certificate is not valid before {}; is this host's clock right?",
            date(facts.not_before)
        ));
    }
    let missing: Vec<_> =
        hosts.iter().filter(|host| !facts.covers(host)).map(ToString::to_string).collect();
    if !missing.is_empty() {
        let covered = if facts.names.is_empty() {
            "no name (it has no subject alternative names, which clients require)".to_owned()
        } else {
            facts.names.join(", ")
        };
        found.push(format!("the certificate is for {covered}; not for {}", missing.join(", ")));
    }
    found
}

fn chain(path: &Path, handed: &[Handed]) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    certificates(path, &open(path, handed)?.0)
}

fn private_key(path: &Path, handed: &[Handed]) -> Result<PrivateKeyDer<'static>, FilesError> {
    let (text, mode) = open(path, handed)?;
    if mode & 0o007 != 0 {
        return Err(FilesError::at(path, Fault::OpenToOthers { mode }));
    }
    if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(&text, b"Proc-Type: 4,ENCRYPTED")
    {
        return Err(FilesError::at(path, Fault::EncryptedKey));
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| FilesError::at(path, Fault::BrokenPem(pem_words(&error))))?;
    let count = keys.len();
    match keys.pop() {
        Some(key) if count == 1 => Ok(key),
        Some(_) => Err(FilesError::at(path, Fault::SeveralKeys(count))),
        None => {
            let hint = match &*text {
                [] => ": it is empty",
                [0x30, ..] => ": it looks like DER; convert it with openssl pkey -inform DER",
                _ if contains(&text, b"BEGIN CERTIFICATE-----") => {
                    ": it holds a certificate; are `cert` and `key` exchanged?"
                }
                _ => "",
            };
            Err(FilesError::at(path, Fault::NoKey { hint }))
        }
    }
}

/// The content and the mode of a file. It is opened without waiting: a pipe that nobody writes to
/// must not hold up a start or a reload.
fn open(path: &Path, handed: &[Handed]) -> Result<(Vec<u8>, u32), FilesError> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    open_with(path, OpenOptions::new().read(true).custom_flags(flags).open(path), handed)
}

fn open_with(
    path: &Path,
    opened: io::Result<File>,
    handed: &[Handed],
) -> Result<(Vec<u8>, u32), FilesError> {
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            let is_closed = error.kind() == io::ErrorKind::PermissionDenied;
            let found = Handed::find(handed, path).filter(|_| is_closed);
            let found = found.map(|(content, mode)| (content.to_vec(), mode));
            return found.ok_or_else(|| unreadable(path, error));
        }
    };
    let mode = file.metadata().map_or(0, |metadata| metadata.mode() & 0o7777);
    let content = read_regular(file).map_err(|error| unreadable(path, error))?;
    Ok((content, mode))
}

/// What is wrong with PEM, for people: the library shows lines as lists of numbers.
pub(crate) fn pem_words(error: &pem::Error) -> String {
    let text = |line: &[u8]| String::from_utf8_lossy(line).trim().to_owned();
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let end = text(end_marker);
            let end = end.trim_matches('-').trim_start_matches("END ");
            format!("it is cut: there is no -----END {end}----- line after the last BEGIN")
        }
        pem::Error::IllegalSectionStart { line } => {
            let line = text(line);
            format!("a line that begins with ----- is none of PEM: {:.80}", line.escape_debug())
        }
        pem::Error::NoItemsFound => "it does not hold what it should, in PEM".to_owned(),
        other => other.to_string(),
    }
}

fn unreadable(path: &Path, source: io::Error) -> FilesError {
    let uid = rustix::process::geteuid().as_raw();
    let fault = match source.kind() {
        io::ErrorKind::NotFound => Fault::Missing,
        _ => Fault::Unreadable { source, uid, changed: false },
    };
    FilesError::at(path, fault)
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(text, what).is_some()
}

#[cfg(test)]
mod tests;
