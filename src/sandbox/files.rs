//! From places to what is granted there, and whether a grant covers a place.
//!
//! Landlock ties a right to the file or folder that was there when the sandbox closed, and asks on
//! each use whether it, or a folder above it, has the right. The same is done here, by device and
//! inode, so that the answer is the kernel's: also where a folder was replaced by another of the
//! same name. Looking at names, links and inodes takes no right.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use landlock::{AccessFs, BitFlags, PathFd, make_bitflags};

use super::needs::{Access, Extent, Needs, Place};

/// What a file can have a right for; the others are for folders.
const OF_FILES: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate | IoctlDev});

impl Access {
    /// The rights that it takes.
    fn rights(self) -> BitFlags<AccessFs> {
        match self {
            Access::Read => AccessFs::ReadFile.into(),
            Access::List => AccessFs::ReadFile | AccessFs::ReadDir,
            Access::Append => AccessFs::WriteFile | AccessFs::MakeReg,
            Access::Use => AccessFs::ReadFile | AccessFs::WriteFile,
            Access::Keep => make_bitflags!(AccessFs::{
                ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile
                    | RemoveDir | Refer
            }),
            Access::Remove => AccessFs::RemoveFile.into(),
        }
    }
}

/// A device and an inode.
type Identity = (u64, u64);

/// What is granted, by path.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// From what was there to its rights.
    rights: HashMap<Identity, BitFlags<AccessFs>>,
    /// The same by path, for people.
    pub(super) paths: BTreeMap<PathBuf, BitFlags<AccessFs>>,
    /// What an operator may want to arrange otherwise.
    pub(super) notes: Vec<String>,
}

/// One file or folder with its rights, opened so that it cannot become another.
pub(super) struct Opened {
    pub(super) fd: PathFd,
    pub(super) rights: BitFlags<AccessFs>,
    /// Whether the kernel makes its inode anew whenever nobody looks at it.
    pub(super) is_fleeting: bool,
}

impl Grants {
    /// Decides what is granted for `needs`, as the file system is now. A log in a folder that is
    /// not granted is made, because it could not be made afterwards.
    pub(super) fn of(needs: &Needs) -> Self {
        let mut grants = Self::default();
        let home = needs.home.as_ref().and_then(|home| fs::canonicalize(home).ok());
        for place in &needs.places {
            for path in grants.ways(place, home.as_deref()) {
                *grants.paths.entry(path).or_default() |= place.access.rights();
            }
        }
        grants
    }

    /// Opens what is granted; what does not exist, or may not be looked up, has nothing to grant.
    pub(super) fn open(&mut self) -> Vec<Opened> {
        let mut opened = Vec::with_capacity(self.paths.len());
        self.paths.retain(|path, rights| {
            let Ok(fd) = PathFd::new(path) else { return false };
            let Ok(found) = rustix::fs::fstat(&fd) else { return false };
            let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
            if kind != rustix::fs::FileType::Directory {
                *rights &= OF_FILES;
            }
            if rights.is_empty() {
                return false;
            }
            *self.rights.entry((found.st_dev, found.st_ino)).or_default() |= *rights;
            let is_fleeting = path.starts_with("/proc");
            opened.push(Opened { fd, rights: *rights, is_fleeting });
            true
        });
        opened
    }

    /// The files and folders that have to be granted for a place.
    fn ways(&mut self, place: &Place, home: Option<&Path>) -> Vec<PathBuf> {
        match place.extent {
            Extent::Here => vec![place.path.clone()],
            Extent::Around => self.around(place, home),
        }
    }

    /// The folder as it is written and the folder to which links lead, as certbot has them; where
    /// one is too broad, the file alone.
    fn around(&mut self, place: &Place, home: Option<&Path>) -> Vec<PathBuf> {
        let is_broad = |folder: &Path| is_broad(folder, place.access, home);
        let folder = fs::canonicalize(folder_of(&place.path)).ok();
        let mut ways: Vec<PathBuf> =
            folder.iter().filter(|folder| !is_broad(folder)).cloned().collect();
        if ways.is_empty() && place.access == Access::Append {
            // An error here is one when the log is opened, and told then.
            let _ = fs::OpenOptions::new().append(true).create(true).mode(0o640).open(&place.path);
        }
        if let Ok(file) = fs::canonicalize(&place.path) {
            let beside = folder_of(&file).to_owned();
            if !is_broad(&beside) {
                ways.push(beside);
            } else {
                self.note(place, &beside);
                ways.push(file);
            }
        }
        ways
    }

    fn note(&mut self, place: &Place, folder: &Path) {
        let Some(key) = &place.key else { return };
        let what = match place.access {
            Access::Append => "after a rotation it cannot be opened anew",
            _ => "a new file in its place is not read before a restart",
        };
        self.notes.push(format!(
            "{key} is in {}, too broad a folder to be opened to the running process: {what}; give \
             it a folder of its own",
            folder.display()
        ));
    }

    /// Whether all that is done at a place is granted, as the file system is now; otherwise where
    /// it is not.
    pub(super) fn cover(&self, place: &Place) -> Result<(), PathBuf> {
        let rights = place.access.rights();
        let found = fs::canonicalize(&place.path);
        let (path, rights) = match (&found, place.extent) {
            (Ok(path), Extent::Here) if path.is_dir() => (path.clone(), rights),
            (Ok(path), _) => (path.clone(), rights & OF_FILES),
            (Err(_), _) => match nearest(&place.path) {
                Some(folder) => (folder, rights),
                None => return Err(place.path.clone()),
            },
        };
        let granted = path.ancestors().filter_map(|path| {
            let found = fs::symlink_metadata(path).ok()?;
            self.rights.get(&(found.dev(), found.ino())).copied()
        });
        if granted.fold(BitFlags::EMPTY, |all, some| all | some).contains(rights) {
            return Ok(());
        }
        Err(if path.is_dir() { path } else { folder_of(&path).to_owned() })
    }
}

/// The nearest folder above a path that does not exist.
fn nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors().skip(1).find_map(|path| {
        fs::canonicalize(if path.as_os_str().is_empty() { Path::new(".") } else { path }).ok()
    })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Whether so much else may be below a folder that it is not granted for the sake of one file.
fn is_broad(folder: &Path, access: Access, home: Option<&Path>) -> bool {
    if Some(folder) == home {
        return true;
    }
    // A folder for logs is one, whoever else has a log there.
    if access == Access::Append && folder == Path::new("/var/log") {
        return false;
    }
    let names: Vec<_> = folder
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    matches!(
        names.as_slice(),
        [] | [_]
            | ["home" | "var" | "usr" | "dev" | "proc" | "sys", _]
            | ["run", "user", _]
            | ["etc", "ssl" | "pki"]
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn place(path: &Path, access: Access) -> Place {
        let key = Some("key".to_owned());
        Place { path: path.to_owned(), access, extent: Extent::Around, key, is_handed: false }
    }

    #[test]
    fn folders_that_hold_everything_are_broad() {
        let home = Path::new("/srv/me");
        let broad = |path: &str| is_broad(Path::new(path), Access::Read, Some(home));
        for path in
            ["/", "/etc", "/tmp", "/home/x", "/var/lib", "/usr/local", "/etc/ssl", "/srv/me"]
        {
            assert!(broad(path), "{path}");
        }
        for path in ["/etc/portcullis", "/home/x/certs", "/var/lib/p", "/run/p", "/srv/me/certs"] {
            assert!(!broad(path), "{path}");
        }
        assert!(broad("/var/log"));
        assert!(!is_broad(Path::new("/var/log"), Access::Append, None));
    }

    /// As certbot has it.
    #[test]
    fn both_ends_of_a_link_are_granted() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (live, archive) = (root.join("live/a"), root.join("archive/a"));
        fs::create_dir_all(&live).unwrap();
        fs::create_dir_all(&archive).unwrap();
        fs::write(archive.join("1.pem"), "").unwrap();
        symlink("../../archive/a/1.pem", live.join("a.pem")).unwrap();
        let mut grants = Grants::default();
        let place = place(&live.join("a.pem"), Access::Read);
        let mut ways = grants.around(&place, None);
        ways.dedup();
        assert_eq!(ways, [live, archive]);
        assert!(grants.notes.is_empty());
    }

    #[test]
    fn a_file_in_a_broad_folder_is_granted_alone_and_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let file = root.join("a.pem");
        fs::write(&file, "").unwrap();
        let mut grants = Grants::default();
        assert_eq!(grants.around(&place(&file, Access::Read), Some(&root)), [file]);
        assert!(grants.notes[0].starts_with("key is in "), "{:?}", grants.notes);
        // The log is made, because nothing could be made there afterwards.
        let log = root.join("access.log");
        assert_eq!(grants.around(&place(&log, Access::Append), Some(&root)), [log.as_path()]);
        assert!(log.exists());
    }

    #[test]
    fn a_grant_covers_what_is_below_it_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in/side"), folder.path().join("out"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(&outside).unwrap();
        let here = |path: &Path, access| Place { extent: Extent::Here, ..place(path, access) };
        let mut needs = Needs::default();
        needs.places.push(here(&folder.path().join("in"), Access::Keep));
        let mut grants = Grants::of(&needs);
        assert_eq!(grants.open().len(), 1);
        assert_eq!(grants.cover(&place(&inside.join("new"), Access::Append)), Ok(()));
        assert_eq!(grants.cover(&here(&inside, Access::Keep)), Ok(()));
        let elsewhere = grants.cover(&place(&outside.join("new"), Access::Append));
        assert_eq!(elsewhere, Err(fs::canonicalize(&outside).unwrap()));
        symlink(&outside, inside.join("link")).unwrap();
        assert!(grants.cover(&place(&inside.join("link/new"), Access::Append)).is_err());
        // Another folder of the same name is another folder.
        fs::rename(folder.path().join("in"), folder.path().join("was")).unwrap();
        fs::create_dir_all(&inside).unwrap();
        assert!(grants.cover(&here(&inside, Access::Keep)).is_err());
    }
}
