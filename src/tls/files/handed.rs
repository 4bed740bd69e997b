//! Files that the helper has opened, because the sandbox does not let this process: a right belongs
//! to the folder that was there when the sandbox closed, and another has taken its place.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Kept, Look};
use crate::config::{Config, TlsSource};
use crate::sandbox;
use crate::tls::storage::read_regular;

/// A file as it was read by its descriptor.
#[derive(Clone, Debug)]
pub struct Handed {
    kept: Kept,
    /// Of the very file that was read.
    mode: u32,
}

impl Handed {
    /// Reads a file that was opened at `path` and looked so before.
    ///
    /// # Errors
    /// When it cannot be read, is no regular file, or is larger than 1 MiB.
    pub fn read(path: &Path, look: Look, file: File) -> io::Result<Self> {
        let mode = file.metadata()?.mode() & 0o7777;
        let content = Some(Arc::new(read_regular(file)?));
        Ok(Self { kept: Kept { path: path.to_owned(), look, content }, mode })
    }

    /// Its content and its mode, where it was handed.
    pub(super) fn find<'a>(handed: &'a [Self], path: &Path) -> Option<(&'a [u8], u32)> {
        let found = handed.iter().find(|one| one.kept.path == path)?;
        Some((found.kept.content.as_deref()?, found.mode))
    }

    /// As files of rules are read again.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.kept.clone()
    }
}

/// The files of a configuration that the helper may be asked for: certificates, keys, and what
/// certificates of others are held against.
#[must_use]
pub fn handed(config: &Config) -> Vec<PathBuf> {
    let authorities = config.acme.authorities.iter().filter_map(|authority| authority.ca.clone());
    watched(config).into_iter().chain(authorities).collect()
}

/// Those that a sandbox keeps from this process as they are now, each once.
#[must_use]
pub fn kept_away(config: &Config) -> Vec<PathBuf> {
    let mut paths = handed(config);
    paths.sort_unstable();
    paths.dedup();
    paths.retain(|path| sandbox::keeps_from(path));
    paths
}

/// The files that are read again when they change: certificates, keys, and what certificates of
/// clients are held against.
#[must_use]
pub fn watched(config: &Config) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if config.server.https.is_empty() {
        return paths;
    }
    for site in &config.sites {
        if let TlsSource::Files { cert, key } = &site.tls {
            paths.extend([cert.clone(), key.clone()]);
        }
        if let Some(clients) = &site.policy.clients {
            paths.extend(std::iter::once(&clients.ca).chain(&clients.crl).cloned());
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tls::files::{chain, open_with, private_key};
    use crate::tls::testing::Pki;

    /// As under a sandbox: another folder took the place of the one that may be read.
    #[test]
    fn what_is_handed_is_read_like_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let pair = Pki::new().pair(&["a.test"]);
        fs::write(at("k.pem"), &pair.key).unwrap();
        let look = Look::of(&at("k.pem"));
        let hand = |mode: u32| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(at("k.pem"), fs::Permissions::from_mode(mode)).unwrap();
            [Handed::read(&at("k.pem"), look, File::open(at("k.pem")).unwrap()).unwrap()]
        };
        let denied = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let opened = |handed: &[Handed]| open_with(&at("k.pem"), denied(), handed);
        assert_eq!(opened(&hand(0o600)).unwrap().0, pair.key.as_bytes());
        assert!(opened(&[]).unwrap_err().is_unreadable());
        let handed = hand(0o604);
        assert_eq!(opened(&handed).unwrap().1, 0o604, "its mode is judged as ever");
        // What can be opened is read from where it is.
        assert!(private_key(&at("k.pem"), &handed).is_err(), "0604");
        assert!(chain(&at("c.pem"), &handed).is_err());
        assert!(Handed::read(&at(""), look, File::open(at("")).unwrap()).is_err(), "a folder");
    }
}
