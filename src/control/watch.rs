//! What wakes the control plane when a watched file may have changed (inotify(7)).
//!
//! It only makes the look happen at once that comes every few seconds anyway: where it does not
//! work (a folder that may not be listed, a network file system, no watch left), nothing is lost
//! but time. Watched are the folders on the way to each file, those that links lead through
//! counted, for the names that matter there: so a renamed folder is seen, and a link that is put in
//! another's place, as certbot does it with files and Kubernetes with a folder.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Who writes a certificate writes a key next: both are looked at together.
const SETTLE: Duration = Duration::from_millis(100);

/// What is written without a pause is looked at all the same.
const AT_MOST: Duration = Duration::from_secs(1);

/// The kernel follows as many links in one path, and then gives up.
const LINKS: usize = 40;

/// A file that is named by nothing: what happened to a folder itself, or to the queue.
const NOBODY: &[u8] = b"";

/// Watches; without any it never wakes.
#[derive(Debug, Default)]
pub(super) struct Watch {
    queue: Option<AsyncFd<OwnedFd>>,
    /// The names that matter, by watch.
    names: HashMap<i32, HashSet<OsString>>,
    /// When something first happened, and when it is looked at.
    news: Option<(Instant, Instant)>,
}

impl Watch {
    /// Over the ways to `paths`, as they are now.
    pub(super) fn over(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut ways: HashMap<PathBuf, HashSet<OsString>> = HashMap::new();
        for path in paths {
            for (folder, name) in way(&path) {
                ways.entry(folder).or_default().insert(name);
            }
        }
        if ways.is_empty() {
            return Self::default();
        }
        let queue = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(Into::into);
        #[expect(deprecated, reason = "its successor is unsafe; nobody else has this descriptor")]
        let queue = queue.and_then(AsyncFd::new);
        let queue = match queue {
            Ok(queue) => queue,
            Err(error) => {
                tracing::debug!("no inotify: changed files are seen some seconds later: {error}");
                return Self::default();
            }
        };
        let wanted = WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut names: HashMap<i32, HashSet<OsString>> = HashMap::new();
        for (folder, of_interest) in ways {
            match add_watch(queue.get_ref(), &folder, wanted) {
                // Two ways to one folder are one watch.
                Ok(watch) => names.entry(watch).or_default().extend(of_interest),
                Err(error) => {
                    let folder = folder.display();
                    tracing::debug!("{folder} is looked at every few seconds only: {error}");
                }
            }
        }
        Self { queue: Some(queue), names, news: None }
    }

    /// Ready when something has happened and it has been quiet for a moment since. What was waited
    /// for is not lost when this is dropped before.
    pub(super) async fn changed(&mut self) {
        let Some(queue) = &self.queue else { return std::future::pending().await };
        loop {
            let when = self.news.map(|(_, when)| when);
            let readable = async {
                match when {
                    Some(when) => tokio::time::timeout_at(when, queue.readable()).await.ok(),
                    None => Some(queue.readable().await),
                }
            };
            match readable.await {
                None => {
                    self.news = None;
                    return;
                }
                // The runtime is going down.
                Some(Err(_)) => return std::future::pending().await,
                Some(Ok(mut ready)) => {
                    if has_news(queue.get_ref(), &self.names) {
                        let now = Instant::now();
                        let first = self.news.map_or(now, |(first, _)| first);
                        self.news = Some((first, (now + SETTLE).min(first + AT_MOST)));
                    }
                    ready.clear_ready();
                }
            }
        }
    }
}

/// Reads all that has happened; whether some of it matters.
fn has_news(queue: &OwnedFd, names: &HashMap<i32, HashSet<OsString>>) -> bool {
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(queue, &mut room);
    let mut matters = false;
    loop {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().map_or(NOBODY, |name| name.to_bytes());
                let is_named = |names: &HashSet<OsString>| names.contains(OsStr::from_bytes(name));
                matters |= name.is_empty()
                    || event.events().contains(ReadFlags::QUEUE_OVERFLOW)
                    || names.get(&event.wd()).is_some_and(is_named);
            }
            Err(Errno::INTR) => {}
            Err(_) => return matters,
        }
    }
}

/// Every folder that a path leads through, with the name that is looked up in it. Where it leads
/// nowhere, as far as it leads.
fn way(path: &Path) -> Vec<(PathBuf, OsString)> {
    let mut ways = Vec::new();
    let mut links = 0;
    let mut here = PathBuf::from("/");
    let Ok(path) = std::path::absolute(path) else { return ways };
    // What is still to be walked, the next one last.
    let mut ahead = components(&path);
    while let Some(next) = ahead.pop() {
        if next == ".." {
            here.pop();
            continue;
        }
        if next == "/" {
            here = PathBuf::from("/");
            continue;
        }
        ways.push((here.clone(), next.clone()));
        let there = here.join(&next);
        match std::fs::read_link(&there) {
            Ok(target) if links < LINKS => {
                links += 1;
                ahead.extend(components(&target));
            }
            _ => here = there,
        }
    }
    ways
}

/// The parts of a path, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::CurDir | Component::Prefix(_) => None,
        Component::RootDir => Some("/".into()),
        Component::ParentDir => Some("..".into()),
        Component::Normal(name) => Some(name.to_owned()),
    };
    let mut parts: Vec<_> = path.components().filter_map(part).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Whether a watch over `path` wakes after `change`.
    fn wakes(path: &Path, change: impl FnOnce()) -> bool {
        runtime().block_on(async {
            let mut watch = Watch::over([path.to_owned()]);
            change();
            tokio::time::timeout(Duration::from_secs(2), watch.changed()).await.is_ok()
        })
    }

    #[test]
    fn the_way_to_a_file_leads_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(root.join("live/a")).unwrap();
        fs::create_dir_all(root.join("archive/a")).unwrap();
        fs::write(root.join("archive/a/cert1.pem"), "").unwrap();
        symlink("../../archive/a/cert1.pem", root.join("live/a/cert.pem")).unwrap();
        let ways = way(&root.join("live/a/cert.pem"));
        let below = |ways: &[(PathBuf, OsString)]| {
            let below = ways.iter().filter_map(|(folder, name)| {
                let folder = folder.strip_prefix(&root).ok()?;
                Some((folder.display().to_string(), name.to_str()?.to_owned()))
            });
            below.collect::<Vec<_>>()
        };
        let expected = [
            ("", "live"),
            ("live", "a"),
            ("live/a", "cert.pem"),
            ("", "archive"),
            ("archive", "a"),
            ("archive/a", "cert1.pem"),
        ];
        let expected = expected.map(|(folder, name)| (folder.to_owned(), name.to_owned()));
        assert_eq!(below(&ways), expected);
        symlink("loop", root.join("loop")).unwrap();
        assert!(way(&root.join("loop")).len() < 100, "a circle ends");
    }

    #[test]
    fn a_written_a_replaced_and_a_renamed_file_wake() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("site");
        fs::create_dir(&inside).unwrap();
        let file = inside.join("cert.pem");
        assert!(wakes(&file, || fs::write(&file, "1").unwrap()));
        let new = inside.join("new");
        fs::write(&new, "2").unwrap();
        assert!(wakes(&file, || fs::rename(&new, &file).unwrap()));
        // The folder is another one.
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("cert.pem"), "3").unwrap();
        assert!(wakes(&file, || {
            fs::rename(&inside, folder.path().join("was")).unwrap();
            fs::rename(&other, &inside).unwrap();
        }));
    }

    /// As Kubernetes mounts secrets: files are links into `..data`, which is a link itself.
    #[test]
    fn a_link_to_a_folder_that_is_put_in_anothers_place_wakes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("..1", "1"), ("..2", "2")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("tls.crt"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        symlink("..2", at("..data_tmp")).unwrap();
        assert!(wakes(&at("tls.crt"), || fs::rename(at("..data_tmp"), at("..data")).unwrap()));
    }

    #[test]
    fn what_happens_to_others_in_the_folder_is_no_news() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cert.pem");
        fs::write(&file, "").unwrap();
        let other = folder.path().join("access.log");
        runtime().block_on(async {
            let mut watch = Watch::over([file.clone()]);
            fs::write(&other, "line").unwrap();
            let short = Duration::from_millis(300);
            assert!(tokio::time::timeout(short, watch.changed()).await.is_err());
            fs::write(&file, "new").unwrap();
            watch.changed().await;
        });
    }
}
