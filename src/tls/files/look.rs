//! What a file looks like from outside, which takes no right on the file itself.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A file at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Look {
    /// It is there.
    Seen(Stamp),
    /// It is not, or cannot be looked at for another reason than a missing right.
    Missing,
    /// Its folder lets us not look.
    Hidden,
}

/// What changes when a file is written, replaced, or given to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    inode: u64,
    size: u64,
    /// When its content changed, in seconds and nanoseconds.
    written: (i64, i64),
    /// When anything about it changed, its mode and owner counted.
    changed: (i64, i64),
}

impl Look {
    /// Looks now.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(found) => Self::Seen(Stamp {
                inode: found.ino(),
                size: found.size(),
                written: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            }),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Self::Hidden,
            Err(_) => Self::Missing,
        }
    }

    /// Whether it is worth reading again: what cannot be looked at gives no reason to.
    #[must_use]
    pub fn differs_from(self, before: Self) -> bool {
        self != Self::Hidden && self != before
    }

    /// Whether its content may still be that of before, as far as one can see.
    #[must_use]
    pub fn has_content_of(self, before: Self) -> bool {
        match (self, before) {
            (Self::Seen(now), Self::Seen(before)) => {
                (now.inode, now.size, now.written) == (before.inode, before.size, before.written)
            }
            (Self::Hidden, _) => true,
            (Self::Missing, _) | (_, Self::Missing | Self::Hidden) => false,
        }
    }
}
