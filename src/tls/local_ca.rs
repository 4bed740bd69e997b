//! The local authority: certificates for names that no public authority vouches for.
//!
//! It lives in the folder `local` of the storage: `root.pem` and `root.key`, made once, and one file
//! per set of names with the leaf and its key together, so that a crash cannot leave half a pair.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustix::fs::Mode;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::facts::{Facts, date};
use super::mint;
use super::storage::{Folder, Lock, StorageError};
use crate::proxy::headers::host::HostPattern;

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

    /// The leaf for these names: the one in the storage while it was made by this root, is whole and
    /// has more than a third of its life left; a new one otherwise.
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
        let certificate = CertificateDer::from_pem_slice(&text).map_err(|e| damaged(&e))?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|e| damaged(&e))?;
        let facts = Facts::of(&certificate).map_err(|e| damaged(&e))?;
        if facts.names != names {
            return Err(damaged(&"it is for other names"));
        }
        self.verify(&certificate, now).map_err(|e| damaged(&e))?;
        let leaf = CertifiedKey::from_der(vec![certificate], key, &self.provider)
            .map_err(|e| damaged(&e))?;
        Ok(Some((Arc::new(leaf), facts)))
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
        let Some(pem) = folder.read(ROOT)? else { return Ok(Err(folder)) };
        let damaged = |file: &str, why: &dyn fmt::Display| LocalError::Damaged {
            path: folder.path(file),
            why: why.to_string(),
        };
        let root = CertificateDer::from_pem_slice(&pem).map_err(|e| damaged(ROOT, &e))?;
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
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = "to make a new authority (which must be trusted again), remove root.pem and \
                     root.key in that directory";
        match self {
            LocalError::Storage(error) => error.fmt(f),
            LocalError::Damaged { path, why }
                if path.ends_with(ROOT) || path.ends_with(ROOT_KEY) =>
            {
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
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::tls::testing::{DAY, hosts};

    fn storage() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names_for(&hosts(names))
    }

    fn der(leaf: &Arc<CertifiedKey>) -> Vec<u8> {
        leaf.cert[0].to_vec()
    }

    /// The leaf for `a.test` at a moment, as a start of the program gets it.
    fn start(storage: &TempDir, now: SystemTime) -> Vec<u8> {
        let authority = LocalAuthority::open_or_create(storage.path(), now).unwrap();
        der(&authority.certificate(&names(&["a.test"]), now).unwrap())
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn only_the_owner_may_read_keys() {
        let storage = storage();
        start(&storage, SystemTime::now());
        let folder = storage.path().join("local");
        assert_eq!(mode(&folder), 0o700);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 4, "{files:?}");
        for file in files {
            let public = file.ends_with("root.pem");
            assert_eq!(mode(&file), if public { 0o644 } else { 0o600 }, "{}", file.display());
        }
    }

    #[test]
    fn a_folder_that_others_could_enter_is_closed() {
        let storage = storage();
        let folder = storage.path().join("local");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        start(&storage, SystemTime::now());
        assert_eq!(mode(&folder), 0o700);
    }

    #[test]
    fn a_leaf_is_reused_until_a_third_of_its_life_is_left() {
        let (storage, now) = (storage(), SystemTime::now());
        let first = start(&storage, now);
        assert_eq!(start(&storage, now + 59 * DAY), first);
        let second = start(&storage, now + 61 * DAY);
        assert_ne!(second, first);
        assert_eq!(start(&storage, now + 100 * DAY), second);
    }

    #[test]
    fn a_leaf_lives_at_most_ninety_days_and_the_root_ten_years() {
        let (storage, now) = (storage(), SystemTime::now());
        let leaf = Facts::of(&CertificateDer::from(start(&storage, now))).unwrap();
        let life = leaf.not_after.duration_since(leaf.not_before).unwrap();
        assert!(life <= 90 * DAY && life > 89 * DAY);
        assert!(leaf.not_before < now);
        let authority = LocalAuthority::open(storage.path(), now).unwrap().unwrap();
        let root = authority.root_facts().unwrap();
        assert!((3649..=3653).contains(&super::super::facts::days_between(now, root.not_after)));
        assert!(root.issuer.starts_with("Portcullis local authority ("), "{}", root.issuer);
        assert_eq!(leaf.issuer, root.issuer);
    }

    #[test]
    fn a_leaf_does_not_outlive_the_root() {
        let (storage, now) = (storage(), SystemTime::now());
        start(&storage, now);
        let late = now + 3640 * DAY;
        let leaf = Facts::of(&CertificateDer::from(start(&storage, late))).unwrap();
        let authority = LocalAuthority::open(storage.path(), late).unwrap().unwrap();
        assert_eq!(leaf.not_after, authority.root_facts().unwrap().not_after);
    }

    #[test]
    fn an_expired_root_is_refused_with_the_way_to_a_new_one() {
        let (storage, now) = (storage(), SystemTime::now());
        start(&storage, now);
        let error = LocalAuthority::open_or_create(storage.path(), now + 4000 * DAY).unwrap_err();
        assert!(error.to_string().contains("remove root.pem and root.key"), "{error}");
    }

    #[test]
    fn every_set_of_names_has_a_leaf_of_its_own() {
        let (storage, now) = (storage(), SystemTime::now());
        let authority = LocalAuthority::open_or_create(storage.path(), now).unwrap();
        let mut leafs = Vec::new();
        for set in
            [&["a.test"][..], &["a.test", "b.test"], &["*.a.test"], &["*"], &["::1", "127.0.0.1"]]
        {
            let leaf = authority.certificate(&names(set), now).unwrap();
            let facts = Facts::of(&leaf.cert[0]).unwrap();
            assert!(hosts(set).iter().all(|host| facts.covers(host)), "{set:?} {facts:?}");
            leafs.push(der(&leaf));
        }
        leafs.sort();
        leafs.dedup();
        assert_eq!(leafs.len(), 5);
        assert_eq!(names(&["*"]), ["localhost"]);
        assert_eq!(names(&["b.test", "*", "a.test"]), ["a.test", "b.test"]);
    }

    #[test]
    fn a_damaged_leaf_is_made_anew() {
        let (storage, now) = (storage(), SystemTime::now());
        let first = start(&storage, now);
        let file = storage.path().join("local").join(leaf_file(&names(&["a.test"])));
        let whole = fs::read(&file).unwrap();
        for damage in [&b""[..], b"junk", &whole[..whole.len() / 2]] {
            fs::write(&file, damage).unwrap();
            let second = start(&storage, now);
            assert_ne!(second, first);
            assert_eq!(start(&storage, now), second);
        }
    }

    #[test]
    fn a_leaf_of_another_root_or_of_the_future_is_made_anew() {
        let (storage, now) = (storage(), SystemTime::now());
        let first = start(&storage, now);
        for file in ["root.pem", "root.key"] {
            fs::remove_file(storage.path().join("local").join(file)).unwrap();
        }
        let second = start(&storage, now);
        assert_ne!(second, first);
        assert_ne!(start(&storage, now - 10 * DAY), second, "the clock was wrong and is set back");
    }

    #[test]
    fn a_damaged_root_is_refused_with_its_file_and_the_remedy() {
        let now = SystemTime::now();
        let other = storage();
        start(&other, now);
        let foreign = fs::read(other.path().join("local/root.key")).unwrap();
        for (file, damage) in [
            ("root.pem", Some(&b"junk"[..])),
            ("root.pem", Some(b"")),
            ("root.key", Some(b"junk")),
            ("root.key", Some(&foreign)),
            ("root.key", None),
        ] {
            let storage = storage();
            start(&storage, now);
            let path = storage.path().join("local").join(file);
            match damage {
                Some(damage) => fs::write(&path, damage).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let error =
                LocalAuthority::open_or_create(storage.path(), now).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(error.contains("restore") && error.contains("remove"), "{error}");
        }
    }

    #[test]
    fn a_root_that_was_never_finished_is_finished_with_its_key() {
        let (storage, now) = (storage(), SystemTime::now());
        start(&storage, now);
        let folder = storage.path().join("local");
        let key = fs::read(folder.join("root.key")).unwrap();
        fs::remove_file(folder.join("root.pem")).unwrap();
        start(&storage, now);
        assert_eq!(fs::read(folder.join("root.key")).unwrap(), key);
    }

    #[test]
    fn of_many_that_come_at_once_one_makes_the_authority_and_the_leaf() {
        let (storage, now) = (storage(), SystemTime::now());
        let mut leafs: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| start(&storage, now))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        leafs.dedup();
        assert_eq!(leafs.len(), 1);
    }

    #[test]
    fn a_due_leaf_is_served_on_when_the_storage_cannot_be_written() {
        let (storage, now) = (storage(), SystemTime::now());
        let first = start(&storage, now);
        let lock = storage.path().join("local/lock");
        fs::remove_file(&lock).unwrap();
        // A link in the place of the lock: it is not followed, so the lock cannot be taken.
        std::os::unix::fs::symlink("/dev/null", &lock).unwrap();
        assert_eq!(start(&storage, now + 70 * DAY), first);
        let authority = LocalAuthority::open(storage.path(), now).unwrap().unwrap();
        authority.certificate(&names(&["a.test"]), now + 91 * DAY).unwrap_err();
    }

    #[test]
    fn root_leaves_what_it_makes_to_the_owner_of_the_storage() {
        use std::os::unix::fs::{MetadataExt, chown};
        if !rustix::process::geteuid().is_root() {
            eprintln!("only root can give files away: not tested");
            return;
        }
        let storage = storage();
        chown(storage.path(), Some(12345), Some(12345)).unwrap();
        start(&storage, SystemTime::now());
        let folder = storage.path().join("local");
        assert_eq!(fs::metadata(&folder).unwrap().uid(), 12345);
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(fs::metadata(&path).unwrap().uid(), 12345, "{}", path.display());
        }
    }

    #[test]
    fn a_storage_that_is_no_directory_is_named() {
        let storage = storage();
        let file = storage.path().join("file");
        fs::write(&file, "").unwrap();
        let error = LocalAuthority::open_or_create(&file, SystemTime::now()).unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }

    #[test]
    fn openssl_accepts_the_chain_for_servers_and_its_names() {
        let (storage, now) = (storage(), SystemTime::now());
        let authority = LocalAuthority::open_or_create(storage.path(), now).unwrap();
        let set = names(&["a.test", "*.b.test", "192.0.2.1", "2001:db8::1", "localhost"]);
        authority.certificate(&set, now - Duration::from_secs(1)).unwrap();
        let leaf = storage.path().join("local").join(leaf_file(&set));
        let verify = |check: &[&str]| {
            Command::new("openssl")
                .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
                .arg(authority.root_path())
                .args(check)
                .arg(&leaf)
                .output()
        };
        if verify(&[]).is_err() {
            eprintln!("openssl is not installed: not tested");
            return;
        }
        for check in [
            ["-verify_hostname", "a.test"],
            ["-verify_hostname", "www.b.test"],
            ["-verify_hostname", "localhost"],
            ["-verify_ip", "192.0.2.1"],
            ["-verify_ip", "2001:db8::1"],
        ] {
            let output = verify(&check).unwrap();
            assert!(
                output.status.success(),
                "{check:?} {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        assert!(!verify(&["-verify_hostname", "b.test"]).unwrap().status.success());
    }
}
