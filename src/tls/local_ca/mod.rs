//! The local authority: certificates for names that no public authority vouches for.
//!
//! It lives in the folder `local` of the storage: `root.pem` and `root.key`, made once, and one
//! file per set of names with the leaf and its key together, so that a crash cannot leave half a
//! pair.

mod error;
mod mint;
mod mend;
pub(super) mod on_demand;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{Issuer, KeyPair, PublicKeyData, SubjectPublicKeyInfo};
use rustix::fs::Mode;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::facts::{Facts, date};
use super::files::pem_words;
use super::storage::{Folder, Lock};
use crate::proxy::headers::host::HostPattern;
pub use error::LocalError;
pub use mend::makeshift;

const FOLDER: &str = "local";
const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root.key";
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
const PUBLIC: Mode = PRIVATE.union(Mode::RGRP).union(Mode::ROTH);

/// A root that this host made for itself, and the leafs that it signed.
pub struct LocalAuthority {
    folder: Folder,
    pem: String,
    root: CertificateDer<'static>,
    ends: SystemTime,
    issuer: Issuer<'static, KeyPair>,
    anchors: RootCertStore,
    provider: CryptoProvider,
}

impl LocalAuthority {
    /// The authority of this storage where there is one already. Writes nothing.
    ///
    /// # Errors
    /// When it is there and cannot be used.
    pub fn open(storage: &Path, now: SystemTime) -> Result<Option<Self>, LocalError> {
        match Folder::open(storage, FOLDER)? {
            Some(folder) => Self::read(folder, now).map(Result::ok),
            None => Ok(None),
        }
    }

    /// The authority of this storage, made on first use. Of several processes that come at once one
    /// makes it and the others wait and use it.
    ///
    /// # Errors
    /// When the storage cannot be written, or the authority there cannot be used.
    pub fn open_or_create(storage: &Path, now: SystemTime) -> Result<Self, LocalError> {
        if let Some(authority) = Self::open(storage, now)? {
            return Ok(authority);
        }
        let folder = Folder::create(storage, FOLDER)?;
        let lock = folder.lock()?;
        let folder = match Self::read(folder, now)? {
            Ok(authority) => return Ok(authority),
            Err(folder) => folder,
        };
        make_root(&folder, &lock, now)?;
        tracing::info!(
            "made a local authority in {}; browsers trust it after `portcullis certs trust`",
            folder.path(ROOT).display()
        );
        let vanished = folder.path(ROOT);
        Self::read(folder, now)?.map_err(|_| LocalError::Damaged {
            path: vanished,
            why: "it vanished as soon as it was written".to_owned(),
        })
    }

    /// The root in PEM, for trust stores.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.pem
    }

    /// Where the root is.
    #[must_use]
    pub fn root_path(&self) -> PathBuf {
        self.folder.path(ROOT)
    }

    /// What the root says.
    ///
    /// # Errors
    /// Never in practice: the root was read when this value was made.
    pub fn root_facts(&self) -> Result<Facts, LocalError> {
        Facts::of(&self.root).map_err(|error| self.damaged(ROOT, error.to_string()))
    }

    /// The first eight hexadecimal digits of the SHA-256 of the root: enough to tell roots apart.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        short_hash(&self.root)
    }

    /// The leaf for these names: the one in the storage while it was made by this root, is whole
    /// and has more than a third of its life left; a new one otherwise.
    ///
    /// # Errors
    /// When a new one is needed and cannot be written. A leaf that is merely due is served on.
    pub fn certificate(
        &self,
        names: &[String],
        now: SystemTime,
    ) -> Result<Arc<CertifiedKey>, LocalError> {
        let stored = self.stored(names, now);
        if let Ok(Some((leaf, facts))) = &stored
            && now < facts.renew_at()
        {
            return Ok(leaf.clone());
        }
        match (self.renew(names, now), stored) {
            (Ok(leaf), _) => Ok(leaf),
            (Err(error), Ok(Some((old, facts)))) => {
                tracing::warn!(
                    "the local certificate for {} is due for renewal and goes on serving until \
                     {}: {error}",
                    names.join(", "),
                    date(facts.not_after)
                );
                Ok(old)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The leaf for these names that is in the storage and can be served; `None` where there is
    /// none. Writes nothing.
    ///
    /// # Errors
    /// When there is one that cannot be used: damaged, expired, or signed by another root.
    pub fn stored(
        &self,
        names: &[String],
        now: SystemTime,
    ) -> Result<Option<(Arc<CertifiedKey>, Facts)>, LocalError> {
        let file = leaf_file(names);
        let Some(text) = self.folder.read(&file)? else { return Ok(None) };
        let damaged = |why: &dyn fmt::Display| self.damaged(&file, why.to_string());
        let certificate =
            CertificateDer::from_pem_slice(&text).map_err(|e| damaged(&pem_words(&e)))?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|e| damaged(&pem_words(&e)))?;
        let facts = Facts::of(&certificate).map_err(|e| damaged(&e))?;
        if facts.names != names {
            return Err(damaged(&"it is for other names"));
        }
        self.verify(&certificate, now).map_err(|e| damaged(&e))?;
        let leaf = CertifiedKey::from_der(vec![certificate], key, &self.provider)
            .map_err(|e| damaged(&e))?;
        Ok(Some((Arc::new(leaf), facts)))
    }

    /// What is in the place of the leaf for these names so that none can be kept there.
    #[must_use]
    pub fn hindrance(&self, names: &[String]) -> Option<String> {
        let place = self.place(names);
        let is_folder = std::fs::symlink_metadata(&place).is_ok_and(|it| it.is_dir());
        is_folder.then(|| format!("{} is a directory", place.display()))
    }

    /// Where the leaf for these names is kept.
    #[must_use]
    pub fn place(&self, names: &[String]) -> PathBuf {
        self.folder.path(&leaf_file(names))
    }

    /// A short-lived leaf for names that wait for another authority, kept nowhere.
    ///
    /// # Errors
    /// When the cryptography fails.
    pub fn stand_in(
        &self,
        names: &[String],
        now: SystemTime,
    ) -> Result<Arc<CertifiedKey>, LocalError> {
        let key = KeyPair::generate()?;
        let leaf = mint::stand_in(names, &key, &self.issuer, now, self.ends)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let leaf = CertifiedKey::from_der(vec![leaf.into()], key, &self.provider)
            .map_err(LocalError::Tls)?;
        Ok(Arc::new(leaf))
    }

    /// A leaf for one name with the key of another leaf, kept nowhere.
    pub(super) fn sign(
        &self,
        name: &str,
        other: &CertifiedKey,
        now: SystemTime,
    ) -> Result<Arc<CertifiedKey>, LocalError> {
        let public = other.key.public_key().ok_or(rcgen::Error::UnsupportedSignatureAlgorithm)?;
        let public = SubjectPublicKeyInfo::from_der(&public)?;
        let leaf = mint::leaf(&[name.to_owned()], &public, &self.issuer, now, self.ends)?;
        Ok(Arc::new(CertifiedKey::new(vec![leaf.into()], other.key.clone())))
    }

    fn renew(&self, names: &[String], now: SystemTime) -> Result<Arc<CertifiedKey>, LocalError> {
        let lock = self.folder.lock()?;
        match self.stored(names, now) {
            // Another process was here while we waited for the lock.
            Ok(Some((leaf, facts))) if now < facts.renew_at() => return Ok(leaf),
            Ok(_) => {}
            Err(error) => tracing::warn!("making a local certificate anew: {error}"),
        }
        let key = KeyPair::generate()?;
        let leaf = mint::leaf(names, &key, &self.issuer, now, self.ends)?;
        let text = format!("{}{}", leaf.pem(), key.serialize_pem());
        self.folder.write(&leaf_file(names), text.as_bytes(), PRIVATE, &lock)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let leaf = CertifiedKey::from_der(vec![leaf.into()], key, &self.provider)
            .map_err(LocalError::Tls)?;
        Ok(Arc::new(leaf))
    }

    /// Whether the leaf is signed by our root, for servers, and valid now.
    fn verify(&self, leaf: &CertificateDer<'_>, now: SystemTime) -> Result<(), rustls::Error> {
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &self.anchors,
            &[],
            UnixTime::since_unix_epoch(
                now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            ),
            self.provider.signature_verification_algorithms.all,
        )
    }

    /// Reads the root; gives the folder back where there is none.
    fn read(folder: Folder, now: SystemTime) -> Result<Result<Self, Folder>, LocalError> {
        let Some(pem) = folder.read(ROOT)? else {
            // The next root is to have it.
            read_key(&folder)?;
            return Ok(Err(folder));
        };
        let damaged = |file: &str, why: &dyn fmt::Display| LocalError::Damaged {
            path: folder.path(file),
            why: why.to_string(),
        };
        let root =
            CertificateDer::from_pem_slice(&pem).map_err(|e| damaged(ROOT, &pem_words(&e)))?;
        let facts = Facts::of(&root).map_err(|e| damaged(ROOT, &e))?;
        if now > facts.not_after {
            let path = folder.path(ROOT);
            return Err(LocalError::Expired { path, on: facts.not_after });
        }
        let key = read_key(&folder)?.ok_or_else(|| damaged(ROOT_KEY, &"it is missing"))?;
        let (_, parsed) = X509Certificate::from_der(&root).map_err(|e| damaged(ROOT, &e))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(damaged(ROOT_KEY, &"it is not the key of the root"));
        }
        let issuer = Issuer::from_ca_cert_der(&root, key).map_err(|e| damaged(ROOT, &e))?;
        let mut anchors = RootCertStore::empty();
        anchors.add(root.clone()).map_err(|e| damaged(ROOT, &e))?;
        Ok(Ok(Self {
            pem: String::from_utf8_lossy(&pem).into_owned(),
            ends: facts.not_after,
            provider: provider::default_provider(),
            folder,
            root,
            issuer,
            anchors,
        }))
    }

    fn damaged(&self, file: &str, why: String) -> LocalError {
        LocalError::Damaged { path: self.folder.path(file), why }
    }
}

impl fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAuthority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The names that the local authority writes into the certificate of these hosts, sorted. `"*"` is
/// no name; alone it becomes `localhost`, the one name that a client surely can ask for.
#[must_use]
pub fn names_for(hosts: &[HostPattern]) -> Vec<String> {
    let mut names: Vec<_> = hosts
        .iter()
        .filter(|host| !matches!(host, HostPattern::Any))
        .map(ToString::to_string)
        .collect();
    if names.is_empty() {
        names.push("localhost".to_owned());
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Makes the root. The key goes first: a crash before the certificate leaves a key that the next
/// attempt takes up, so no root that somebody may have trusted is ever lost to it.
fn make_root(folder: &Folder, lock: &Lock, now: SystemTime) -> Result<(), LocalError> {
    let key = match read_key(folder)? {
        Some(key) => key,
        None => {
            let key = KeyPair::generate()?;
            folder.write(ROOT_KEY, key.serialize_pem().as_bytes(), PRIVATE, lock)?;
            key
        }
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let root = mint::root(host.trim(), &key, now)?;
    Ok(folder.write(ROOT, root.pem().as_bytes(), PUBLIC, lock)?)
}

fn read_key(folder: &Folder) -> Result<Option<KeyPair>, LocalError> {
    let Some(text) = folder.read(ROOT_KEY)? else { return Ok(None) };
    let damaged = |why: String| LocalError::Damaged { path: folder.path(ROOT_KEY), why };
    let text = String::from_utf8(text).map_err(|error| damaged(error.to_string()))?;
    KeyPair::from_pem(&text).map(Some).map_err(|error| damaged(error.to_string()))
}

/// A file name that says the first name and tells sets of names apart.
fn leaf_file(names: &[String]) -> String {
    let first = names.first().map_or("", String::as_str);
    let first: String = first.chars().take(100).map(|c| if c == '*' { '_' } else { c }).collect();
    format!("{first}-{}.pem", short_hash(names.join("\n").as_bytes()))
}

fn short_hash(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
