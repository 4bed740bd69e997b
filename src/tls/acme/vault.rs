//! Where certificates, accounts and ledgers are kept: one small interface, and files behind it.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};

use crate::tls::files::Look;
use crate::tls::storage::{self, Folder, Lock, StorageError};

/// A place for small secrets that several processes share. A write is whole or did not happen.
pub trait Vault: fmt::Debug + Send + Sync {
    /// The content of an entry; `None` where there is none.
    ///
    /// # Errors
    /// When the entry cannot be read.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError>;

    /// Replaces an entry.
    ///
    /// # Errors
    /// When it cannot be written; what was there before is there still.
    fn put(&self, name: &str, content: &[u8], held: &Held) -> Result<(), StorageError>;

    /// Removes an entry, where it is there.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    fn remove(&self, name: &str, held: &Held) -> Result<(), StorageError>;

    /// Keeps a damaged entry under the name `NAME.damaged`, for a person to look at.
    ///
    /// # Errors
    /// When it cannot be renamed.
    fn set_aside(&self, name: &str, held: &Held) -> Result<(), StorageError>;

    /// The sole right to what `name` stands for; `None` while another process has it.
    ///
    /// # Errors
    /// When nobody can have it.
    fn lock(&self, name: &str) -> Result<Option<Held>, StorageError>;

    /// The names of all entries.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn list(&self) -> Result<Vec<String>, StorageError>;

    /// What changes when an entry does.
    fn look(&self, name: &str) -> Look;

    /// Where an entry is, for messages.
    fn place(&self, name: &str) -> String;
}

/// A sole right, given back on drop and with the end of the process.
#[derive(Debug)]
pub struct Held(Lock);

/// The folder `acme` of the storage.
#[derive(Clone, Debug)]
pub struct Files {
    storage: PathBuf,
}

/// The name of the folder.
pub const FOLDER: &str = "acme";

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

impl Files {
    /// In this storage; nothing is made before it is written.
    #[must_use]
    pub fn at(storage: &Path) -> Self {
        Self { storage: storage.to_owned() }
    }

    /// Why nothing can be kept, and what helps; see [`storage::refusal`].
    pub(super) fn refusal(&self, is_server: bool) -> Option<String> {
        storage::refusal(&self.storage, FOLDER, is_server)
    }

    /// Everything in the folder with what kind of file it is, in no order.
    pub(super) fn entries(&self) -> Result<Vec<(String, FileType)>, StorageError> {
        match Folder::open(&self.storage, FOLDER)? {
            Some(folder) => folder.entries(),
            None => Ok(Vec::new()),
        }
    }

    /// Opened anew each time, so that a folder that was replaced is no riddle.
    fn made(&self) -> Result<Folder, StorageError> {
        match Folder::open(&self.storage, FOLDER)? {
            Some(folder) => Ok(folder),
            None => Folder::create(&self.storage, FOLDER),
        }
    }
}

impl Vault for Files {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        match Folder::open(&self.storage, FOLDER)? {
            Some(folder) => folder.read(name),
            None => Ok(None),
        }
    }

    fn put(&self, name: &str, content: &[u8], held: &Held) -> Result<(), StorageError> {
        self.made()?.write(name, content, PRIVATE, &held.0)
    }

    fn remove(&self, name: &str, held: &Held) -> Result<(), StorageError> {
        self.made()?.remove(name, &held.0)
    }

    fn set_aside(&self, name: &str, held: &Held) -> Result<(), StorageError> {
        self.made()?.rename(name, &format!("{name}.damaged"), &held.0)
    }

    fn lock(&self, name: &str) -> Result<Option<Held>, StorageError> {
        Ok(self.made()?.try_lock(&format!("{name}.lock"))?.map(Held))
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        match Folder::open(&self.storage, FOLDER)? {
            Some(folder) => folder.names(),
            None => Ok(Vec::new()),
        }
    }

    fn look(&self, name: &str) -> Look {
        Look::of(&self.storage.join(FOLDER).join(name))
    }

    fn place(&self, name: &str) -> String {
        self.storage.join(FOLDER).join(name).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_entry_is_its_owners_alone_and_read_again() {
        let storage = tempfile::tempdir().unwrap();
        let vault = Files::at(storage.path());
        assert_eq!(vault.get("a").unwrap(), None);
        assert!(!storage.path().join(FOLDER).exists(), "reading makes nothing");
        let held = vault.lock("a").unwrap().unwrap();
        vault.put("a", b"secret", &held).unwrap();
        assert_eq!(vault.get("a").unwrap().unwrap(), b"secret");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&storage.path().join("acme")), 0o700);
        assert_eq!(mode(&storage.path().join("acme/a")), 0o600);
        vault.set_aside("a", &held).unwrap();
        assert_eq!(vault.get("a").unwrap(), None);
        assert_eq!(vault.get("a.damaged").unwrap().unwrap(), b"secret");
        vault.remove("a.damaged", &held).unwrap();
        vault.remove("a.damaged", &held).unwrap();
    }

    #[test]
    fn a_right_is_one_s_alone_and_ends_with_its_holder() {
        let storage = tempfile::tempdir().unwrap();
        let (one, other) = (Files::at(storage.path()), Files::at(storage.path()));
        let held = one.lock("a").unwrap().unwrap();
        assert!(other.lock("a").unwrap().is_none());
        assert!(other.lock("b").unwrap().is_some(), "another name is free");
        drop(held);
        assert!(other.lock("a").unwrap().is_some());
    }
}
