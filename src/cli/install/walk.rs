//! The way to a path below a root. Links are taken as whoever has this root for `/` takes them, so
//! that none leads out of it: one step at a time, each from a folder that is held open.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;

use super::super::Stop;
use super::place;
use super::root::Root;
use crate::exit;

/// As many links as the kernel follows (path_resolution(7)).
const LINKS: usize = 40;
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);

/// What to do about a folder that is not there.
pub(super) enum Missing<'a> {
    /// Nothing: there is no way.
    Stay,
    /// Make it, mode 0755, and put its path down here.
    Make(&'a mut Vec<PathBuf>),
}

/// Opens the folder that has this absolute path below the root; `None` where there is none. A link
/// that leads out of the root, or to no folder in it, is an error.
pub(super) fn folder(
    root: &Root,
    path: &Path,
    mut missing: Missing<'_>,
) -> Result<Option<OwnedFd>, Stop> {
    let mut walk = Walk::from(root, path)?;
    while let Some(step) = walk.ahead.pop() {
        if !step.is_of_link {
            walk.reached.push(&step.name);
        }
        if step.name == ".." {
            walk.ascend()?;
            continue;
        }
        match walk.enter(&step) {
            Ok((found, stat)) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => walk.above.push(found),
                FileType::Symlink => walk.follow(&found, &stat, step.is_of_link)?,
                _ if step.is_of_link => return Err(walk.lost()),
                _ => return Ok(None),
            },
            Err(Errno::NOENT) if step.is_of_link => return Err(walk.lost()),
            Err(Errno::NOENT) => match &mut missing {
                Missing::Stay => return Ok(None),
                Missing::Make(made) => {
                    walk.make(&step).map_err(|error| walk.failed("make the folder", error))?;
                    made.push(walk.reached.clone());
                }
            },
            Err(error) => return Err(walk.failed("open", error)),
        }
    }
    Ok(walk.above.pop())
}

/// Where a walk stands.
struct Walk<'a> {
    root: &'a Root,
    /// The folders from the root to where it is, so that `..` is where it came from.
    above: Vec<OwnedFd>,
    /// What is left of the way, the next step last.
    ahead: Vec<Step>,
    /// The part of the path that was asked for so far.
    reached: PathBuf,
    /// The target of the link at `reached`, if that is one.
    target: PathBuf,
    links: usize,
}

struct Step {
    name: OsString,
    /// Whether it stands in a link, and not in the path that was asked for.
    is_of_link: bool,
}

impl<'a> Walk<'a> {
    fn from(root: &'a Root, path: &Path) -> Result<Self, Stop> {
        Ok(Self {
            root,
            above: vec![root.open()?],
            ahead: steps(path, false).collect(),
            reached: "/".into(),
            target: PathBuf::new(),
            links: 0,
        })
    }

    /// Opens what the step names, a link itself and not its target.
    fn enter(&self, step: &Step) -> Result<(OwnedFd, Stat), Errno> {
        let here = self.above.last().ok_or(Errno::NOENT)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(here, &step.name, flags, Mode::empty())?;
        let stat = fstat(&found)?;
        Ok((found, stat))
    }

    fn ascend(&mut self) -> Result<(), Stop> {
        if self.above.len() > 1 {
            self.above.pop();
        } else if !self.root.is_host() {
            return Err(self.lost());
        }
        Ok(())
    }

    /// Takes the target of a link for the next steps.
    fn follow(&mut self, link: &OwnedFd, stat: &Stat, is_of_link: bool) -> Result<(), Stop> {
        let target = readlinkat(link, "", Vec::new()).map_err(|e| self.failed("read", e))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if !is_of_link {
            self.target.clone_from(&target);
        }
        // In an image the owner does not matter: wherever the link leads, it is within the image.
        if self.root.is_host() && stat.st_uid != 0 {
            let by = format!("which user {} has made, who is not root", stat.st_uid);
            return Err(self.refused(&by));
        }
        self.links += 1;
        if self.links > LINKS {
            return Err(self.lost());
        }
        if target.is_absolute() {
            self.above.truncate(1);
        }
        self.ahead.extend(steps(&target, true));
        Ok(())
    }

    /// Makes the folder that the step names, and enters it.
    fn make(&mut self, step: &Step) -> Result<(), Errno> {
        let here = self.above.last().ok_or(Errno::NOENT)?;
        mkdirat(here, &step.name, FOLDER_MODE)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(here, &step.name, flags, Mode::empty())?;
        // Whatever the umask says.
        rustix::fs::fchmod(&made, FOLDER_MODE)?;
        self.above.push(made);
        Ok(())
    }

    fn lost(&self) -> Stop {
        if self.root.is_host() {
            return self.refused("which leads to no folder");
        }
        let root = self.root.shown(Path::new("/"));
        self.refused(&format!("which leads out of {}, or to no folder in it", root.display()))
    }

    fn refused(&self, why: &str) -> Stop {
        let (link, target) = (self.reached.display(), self.target.display());
        let text = format!("{link} is a symbolic link to {target}, {why}: nothing goes through it");
        Stop { code: exit::FAILED, text }
    }

    fn failed(&self, what: &str, error: Errno) -> Stop {
        place::failed(what, &self.root.shown(&self.reached), &error.into())
    }
}

/// The parts of a path, the last one first.
fn steps(path: &Path, is_of_link: bool) -> impl Iterator<Item = Step> + use<'_> {
    path.components().rev().filter_map(move |part| match part {
        Component::Normal(name) => Some(Step { name: name.to_owned(), is_of_link }),
        Component::ParentDir => Some(Step { name: "..".into(), is_of_link }),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use tempfile::TempDir;

    use super::*;

    /// `inside` stands for `/`, and `outside` beside it is not to be reached.
    fn image() -> (TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("inside/usr/lib")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        let root = Root::new(&folder.path().join("inside"));
        (folder, root)
    }

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn a_link_is_taken_as_within_the_image() {
        let (folder, root) = image();
        let inside = folder.path().join("inside");
        symlink("/usr/lib", inside.join("absolute")).unwrap();
        symlink("usr/../usr/lib", inside.join("relative")).unwrap();
        symlink("/absolute", inside.join("chained")).unwrap();
        for link in ["/absolute", "/relative", "/chained"] {
            let found = folder_of(&root, link).unwrap().unwrap();
            assert_eq!(fstat(&found).unwrap().st_ino, inode(&inside.join("usr/lib")), "{link}");
        }
        let mut made = Vec::new();
        super::folder(&root, Path::new("/absolute/a/b"), Missing::Make(&mut made)).unwrap();
        assert_eq!(made, [Path::new("/absolute/a"), Path::new("/absolute/a/b")]);
        assert!(inside.join("usr/lib/a/b").is_dir());
        assert!(folder_of(&root, "/usr/none").unwrap().is_none());
    }

    #[test]
    fn a_link_out_of_the_image_is_refused_with_its_name() {
        let (folder, root) = image();
        let outside = folder.path().join("outside");
        let targets = [outside.as_path(), Path::new("../outside"), Path::new("/usr/none")];
        for target in targets.into_iter().chain([Path::new("link")]) {
            let link = folder.path().join("inside/link");
            symlink(target, &link).unwrap();
            let mut made = Vec::new();
            let way = Path::new("/link/deeper");
            let stop = super::folder(&root, way, Missing::Make(&mut made)).unwrap_err();
            let start = format!("/link is a symbolic link to {}, which leads", target.display());
            assert!(stop.text.starts_with(&start), "{}", stop.text);
            assert_eq!(stop.code, exit::FAILED);
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
            assert!(made.is_empty());
            fs::remove_file(link).unwrap();
        }
    }

    fn folder_of(root: &Root, path: &str) -> Result<Option<OwnedFd>, Stop> {
        super::folder(root, Path::new(path), Missing::Stay)
    }
}
