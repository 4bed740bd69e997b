//! The capability that a program's file carries: the extended attribute `security.capability`
//! (capabilities(7), "File capabilities").

use std::path::Path;

use caps::Capability;
use rustix::io::Errno;

/// What a file says about `CAP_NET_BIND_SERVICE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFile {
    /// Nothing: it was never set, or for other capabilities only.
    Absent,
    /// It gives the capability to whoever starts it.
    Given(Given),
    /// The file system cannot hold it.
    Unsupported,
    /// It cannot be read.
    Unknown,
}

/// A file capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Whether it is in force at once (`=ep`) or has to be raised (`=p`).
    pub effective: bool,
    /// The user that is root of the user namespace in which it counts, where it is not the
    /// first one's.
    pub root: Option<u32>,
}

/// `VFS_CAP_REVISION_1` to `_3`, of the highest byte.
const REVISIONS: [u32; 3] = [0x0100_0000, 0x0200_0000, 0x0300_0000];

/// `VFS_CAP_FLAGS_EFFECTIVE`.
const EFFECTIVE: u32 = 1;

/// The longest form of the attribute, in bytes: version, two pairs of sets, user.
const LONGEST: usize = 24;

impl OnFile {
    /// Of the file at `path`.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let mut value = [0; LONGEST];
        match rustix::fs::getxattr(path, "security.capability", value.as_mut_slice()) {
            Ok(length) => value.get(..length).map_or(Self::Unknown, Self::parse),
            Err(Errno::NODATA) => Self::Absent,
            Err(Errno::NOTSUP) => Self::Unsupported,
            Err(_) => Self::Unknown,
        }
    }

    /// From `struct vfs_ns_cap_data`: version and flags, then pairs of permitted and inheritable
    /// sets, the low 32 capabilities first, all little-endian.
    fn parse(value: &[u8]) -> Self {
        let number = |at: usize| value.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
        let (Some(version), Some(permitted)) = (number(0), number(4)) else { return Self::Unknown };
        if !REVISIONS.contains(&(version & 0xff00_0000)) {
            return Self::Unknown;
        }
        if u64::from(permitted) & Capability::CAP_NET_BIND_SERVICE.bitmask() == 0 {
            return Self::Absent;
        }
        let root = number(20).filter(|root| *root != 0);
        Self::Given(Given { effective: version & EFFECTIVE != 0, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn each_version_of_the_attribute_is_read() {
        let bind = 1 << 10;
        let given = |effective, root| OnFile::Given(Given { effective, root });
        let table: [(&[u32], OnFile); 8] = [
            (&[0x0200_0000, bind, 0, 0, 0], given(false, None)),
            (&[0x0200_0001, bind, 0, 0, 0], given(true, None)),
            (&[0x0200_0001, bind | 1, bind, 3, 0], given(true, None)),
            (&[0x0100_0001, bind, 0], given(true, None)),
            (&[0x0300_0001, bind, 0, 0, 0, 100_000], given(true, Some(100_000))),
            (&[0x0300_0000, bind, 0, 0, 0, 0], given(false, None)),
            // Inheritable alone gives nothing to somebody who has nothing.
            (&[0x0200_0000, 0, bind, 0, 0], OnFile::Absent),
            (&[0x0900_0000, bind, 0, 0, 0], OnFile::Unknown),
        ];
        for (words, expected) in table {
            assert_eq!(OnFile::parse(&attribute(words)), expected, "{words:x?}");
        }
        assert_eq!(OnFile::parse(&[]), OnFile::Unknown);
        assert_eq!(OnFile::parse(&[0, 0, 0, 2]), OnFile::Unknown);
    }

    #[test]
    fn an_ordinary_file_has_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = OnFile::of(file.path());
        assert!(matches!(found, OnFile::Absent | OnFile::Unsupported), "{found:?}");
        assert_eq!(OnFile::of(Path::new("/no/such/file")), OnFile::Unknown);
    }
}
