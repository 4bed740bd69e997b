//! A local authority that cannot be used any more: put out of the way, with what it was kept.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::KeyPair;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use super::{FOLDER, LocalAuthority, LocalError, ROOT, ROOT_KEY, mint, read_key};
use crate::shell::quote_path;
use crate::tls::storage::Folder;

/// What is added to the names of the files of an authority that is lost.
const LOST: &str = ".damaged";

/// What is added to the name of a root in whose place another has the same key.
const REPLACED: &str = ".replaced";

/// How many are kept beside each other.
const KEPT: usize = 100;

impl LocalAuthority {
    /// The authority of this storage as [`LocalAuthority::open_or_create`] has it. One that is
    /// damaged or has expired is set aside first, because sites must not wait for a person: a root
    /// that cannot be read is made anew with its key, so that who trusted it trusts the new one
    /// too; without the key another authority is made, and that is told wherever
    /// [`LocalAuthority::notice`] is.
    ///
    /// # Errors
    /// As [`LocalAuthority::open_or_create`], damage to the root and its key excepted.
    pub fn open_or_mend(storage: &Path, now: SystemTime) -> Result<Self, LocalError> {
        match Self::open_or_create(storage, now) {
            Err(error) if error.is_the_authority_s() => {
                set_aside(storage, now)?;
                Self::open_or_create(storage, now)
            }
            other => other,
        }
    }

    /// One sentence where an authority that people may trust was lost: they have to trust the one
    /// that took its place. It is told until the damaged files are removed. Writes nothing.
    #[must_use]
    pub fn notice(storage: &Path) -> Option<String> {
        let folder = Folder::open(storage, FOLDER).ok()??;
        let lost = [ROOT, ROOT_KEY].map(|name| format!("{name}{LOST}"));
        let names = folder.names().ok()?.into_iter();
        let mut files: Vec<String> =
            names.filter(|name| lost.iter().any(|lost| name.starts_with(lost))).collect();
        if files.is_empty() {
            return None;
        }
        files.sort_unstable();
        let files: Vec<_> = files.iter().map(|name| quote_path(&folder.path(name))).collect();
        Some(format!(
            "the local authority was damaged or expired and another took its place: what trusted \
             the old one must trust {} (`portcullis certs trust`, or `certs trust --print` for \
             other devices); to end this notice: rm {}",
            folder.path(ROOT).display(),
            files.join(" ")
        ))
    }
}

/// A leaf that has signed itself, for names that have to be shown something while the authority
/// cannot be had. Kept nowhere.
///
/// # Errors
/// When the cryptography fails.
pub fn makeshift(names: &[String], now: SystemTime) -> Result<Arc<CertifiedKey>, LocalError> {
    let key = KeyPair::generate()?;
    let leaf = mint::self_signed(names, &key, now)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let leaf = CertifiedKey::from_der(vec![leaf.into()], key, &provider::default_provider());
    Ok(Arc::new(leaf.map_err(LocalError::Tls)?))
}

/// Gives the files of an authority that cannot be used other names: the root, and its key too
/// unless the next root is to have it.
fn set_aside(storage: &Path, now: SystemTime) -> Result<(), LocalError> {
    let folder = Folder::create(storage, FOLDER)?;
    let lock = folder.lock()?;
    let error = match LocalAuthority::open(storage, now) {
        // Another process was here while we waited for the lock.
        Ok(_) => return Ok(()),
        Err(error) if error.is_the_authority_s() => error,
        Err(error) => return Err(error),
    };
    let is_expired = matches!(error, LocalError::Expired { .. });
    let is_key_kept = !is_expired && read_key(&folder).is_ok_and(|key| key.is_some());
    let (files, end, what) = if is_key_kept {
        let what = "the root is made anew with its key: who trusted the old one trusts it, too";
        (&[ROOT][..], REPLACED, what)
    } else {
        let what = "another is made, and what trusted the old one must trust that: see \
                    `portcullis certs trust`";
        (&[ROOT, ROOT_KEY][..], LOST, what)
    };
    let there = folder.names()?;
    let mut places = Vec::new();
    for name in files.iter().filter(|name| there.iter().any(|other| other == *name)) {
        let to = free(name, end, &there);
        folder.rename(name, &to, &lock)?;
        places.push(folder.path(&to).display().to_string());
    }
    let why = error.bare();
    let places = places.join(" and ");
    tracing::error!(
        "the local authority cannot be used: {why}; it is kept as {places}, and {what}"
    );
    Ok(())
}

/// A name that nothing has yet, as far as that goes.
fn free(name: &str, end: &str, there: &[String]) -> String {
    let numbered = (2..KEPT).map(|number| format!("{name}{end}.{number}"));
    let mut names = std::iter::once(format!("{name}{end}")).chain(numbered);
    names.find(|name| !there.contains(name)).unwrap_or_else(|| format!("{name}{end}"))
}
