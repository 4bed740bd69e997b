//! How far the ramps of all sites have come: one file each in the folder `hsts` of the storage.

use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::Progress;
use crate::tls::storage::{Folder, Lock, StorageError};

/// The name of the folder.
pub const FOLDER: &str = "hsts";

/// The folder, looked into anew each time: `certs hsts` may write there too.
#[derive(Clone, Debug)]
pub struct Book {
    storage: PathBuf,
}

impl Book {
    /// Of this storage; nothing is made before it is written.
    #[must_use]
    pub fn of(storage: &Path) -> Self {
        Self { storage: storage.to_owned() }
    }

    /// What is known of a site. What is there and cannot be read is [`Progress::damaged`]: who was
    /// led down is not led up again by that.
    #[must_use]
    pub fn read(&self, site: &str) -> Option<Progress> {
        let name = file(site);
        let read = Folder::open(&self.storage, FOLDER).and_then(|folder| match folder {
            Some(folder) => folder.read(&name),
            None => Ok(None),
        });
        let text = match read {
            Ok(text) => text?,
            Err(error) => return Some(Progress::unreadable(&error)),
        };
        let damaged = |error| {
            let place = self.storage.join(FOLDER).join(&name);
            Progress::damaged(format!("{} is damaged: {error}", place.display()))
        };
        Some(serde_json::from_slice(&text).unwrap_or_else(damaged))
    }

    /// Keeps what is known of a site, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written; what was there before is there still.
    pub fn write(&self, site: &str, progress: &Progress) -> Result<(), StorageError> {
        let folder = Folder::create(&self.storage, FOLDER)?;
        let lock = folder.lock()?;
        keep(&folder, site, progress, &lock)
    }

    /// The same, where `before` is what is there: no other process has written since it was read.
    /// Whether it was.
    ///
    /// # Errors
    /// As [`Book::write`].
    pub fn write_over(
        &self,
        site: &str,
        before: Option<&Progress>,
        progress: &Progress,
    ) -> Result<bool, StorageError> {
        let folder = Folder::create(&self.storage, FOLDER)?;
        let lock = folder.lock()?;
        if self.read(site).as_ref() != before {
            return Ok(false);
        }
        keep(&folder, site, progress, &lock).map(|()| true)
    }
}

fn keep(folder: &Folder, site: &str, progress: &Progress, lock: &Lock) -> Result<(), StorageError> {
    let text = serde_json::to_vec(progress).unwrap_or_default();
    folder.write(&file(site), &text, Mode::RUSR | Mode::WUSR, lock)
}

/// A name of a site has nothing that means something in a path but, perhaps, an asterisk.
fn file(site: &str) -> String {
    format!("{}.json", site.replace('*', "_"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::config::Hsts;
    use crate::tls::hsts::header;

    #[test]
    fn what_is_written_is_read_and_damage_in_one_hurts_no_other() {
        let storage = tempfile::tempdir().unwrap();
        let book = Book::of(storage.path());
        assert_eq!(book.read("a.test"), None);
        assert_eq!(fs::read_dir(storage.path()).unwrap().count(), 0, "nothing is made by a look");
        let ramp = Hsts::Ramp { include_subdomains: false };
        let reset = Progress::reset(ramp, SystemTime::now());
        book.write("a.test", &reset).unwrap();
        book.write("*.b.test", &reset).unwrap();
        fs::write(storage.path().join("hsts/a.test.json"), "{\"step\":").unwrap();
        assert!(book.read("a.test").unwrap().damage().is_some());
        assert_eq!(book.read("*.b.test"), Some(reset));
    }

    #[test]
    fn damage_after_a_reset_leads_nobody_up_again() {
        let storage = tempfile::tempdir().unwrap();
        let book = Book::of(storage.path());
        let year = Duration::from_secs(365 * 86_400);
        let fixed = Hsts::For { max_age: year, include_subdomains: true, preload: true };
        for setting in [fixed, Hsts::Ramp { include_subdomains: false }] {
            let now = SystemTime::now();
            book.write("a.test", &Progress::reset(setting, now)).unwrap();
            let place = storage.path().join("hsts/a.test.json");
            for damage in ["", "{", "null", "{\"reset\": false}"] {
                fs::write(&place, damage).unwrap();
                let mut read = book.read("a.test").unwrap();
                assert!(read.is_of(setting) && read.damage().unwrap().contains("a.test.json"));
                assert_eq!(header(setting, Some(&read)), None, "{damage}");
                assert!(!read.look(now, true), "it does not climb");
            }
            book.write("a.test", &Progress::new(setting, now)).unwrap();
            assert!(header(setting, book.read("a.test").as_ref()).is_some(), "a person said so");
        }
    }
}
