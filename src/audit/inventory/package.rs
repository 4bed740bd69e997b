//! Which Debian package brought a file, from the database of dpkg (dpkg-query(1)).

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where dpkg keeps its database.
pub(super) const DATABASE: &str = "/var/lib/dpkg";

/// Time spent on the lists of files, which are some ten thousand lines a hundred packages.
const PATIENCE: Duration = Duration::from_millis(800);

/// Which package each file is from.
#[derive(Debug, Default)]
pub(super) struct Packages {
    /// A file that no package brought has no entry.
    pub(super) of: HashMap<PathBuf, String>,
    /// Whether the time ended before the lists did.
    pub(super) is_cut: bool,
}

impl Packages {
    /// Reads each list at most once. Without a database, as on other distributions, there is
    /// nothing to find.
    pub(super) fn find(files: &HashSet<PathBuf>, database: &Path) -> Self {
        let mut packages = Packages::default();
        let Ok(lists) = fs::read_dir(database.join("info")) else { return packages };
        let diverted = fs::read_to_string(database.join("diversions")).unwrap_or_default();
        let mut wanted = Wanted::new(files, &Diversion::parse(&diverted), Path::new("/"));
        let end = Instant::now() + PATIENCE;
        for entry in lists.flatten() {
            if wanted.is_empty() {
                break;
            }
            if Instant::now() > end {
                packages.is_cut = true;
                break;
            }
            let path = entry.path();
            let (Some(name), Some(true)) =
                (path.file_stem().and_then(OsStr::to_str), path.extension().map(|e| e == "list"))
            else {
                continue;
            };
            // `libc6:amd64` is one of several that may be installed beside each other.
            let name = name.split_once(':').map_or(name, |(name, _)| name);
            if let Ok(list) = fs::read(&path) {
                for file in wanted.take_from(&list, name) {
                    packages.of.insert(file, name.to_owned());
                }
            }
        }
        packages
    }
}

/// One way to find a file: the package whose list has it may be ruled out.
struct Wish {
    file: PathBuf,
    /// Only this package.
    only: Option<String>,
    /// Any package but this.
    but: Option<String>,
}

/// The files that have no package yet, by the paths under which a list may have them.
struct Wanted(HashMap<Vec<u8>, Vec<Wish>>);

impl Wanted {
    fn new(files: &HashSet<PathBuf>, diversions: &[Diversion], root: &Path) -> Self {
        let mut wanted: HashMap<Vec<u8>, Vec<Wish>> = HashMap::new();
        for file in files {
            for path in names(file, root) {
                let from = diversions.iter().find(|diversion| diversion.to == path);
                let away = diversions.iter().find(|diversion| diversion.from == path);
                let (key, only, but) = match (from, away) {
                    (Some(it), _) => (it.from.clone(), None, it.by.clone()),
                    (None, Some(it)) => (path, Some(it.by.clone().unwrap_or_default()), None),
                    (None, None) => (path, None, None),
                };
                let key = key.as_os_str().as_bytes().to_vec();
                wanted.entry(key).or_default().push(Wish { file: file.clone(), only, but });
            }
        }
        Wanted(wanted)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The files that a package's list has; they are wanted no more.
    fn take_from(&mut self, list: &[u8], package: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', list) {
            let line = list.get(start..end).unwrap_or_default();
            start = end + 1;
            let Some(wishes) = self.0.get_mut(line) else { continue };
            wishes.retain(|wish| {
                let is_it = wish.only.as_deref().is_none_or(|only| only == package)
                    && wish.but.as_deref() != Some(package);
                if is_it {
                    found.push(wish.file.clone());
                }
                !is_it
            });
            if wishes.is_empty() {
                self.0.remove(line);
            }
        }
        if !found.is_empty() {
            self.0.values_mut().for_each(|wishes| wishes.retain(|w| !found.contains(&w.file)));
            self.0.retain(|_, wishes| !wishes.is_empty());
        }
        found
    }
}

/// The paths under which a package may have listed a file: where `/bin` leads to `/usr/bin`, the
/// package may still say `/bin`.
fn names(file: &Path, root: &Path) -> Vec<PathBuf> {
    let mut names = vec![file.to_owned()];
    if let Ok(inside) = file.strip_prefix("/usr")
        && let Some(top) = inside.components().next()
        && fs::symlink_metadata(root.join(top)).is_ok_and(|top| top.is_symlink())
    {
        names.push(Path::new("/").join(inside));
    }
    names
}

/// A package moved a file of another one out of its way (dpkg-divert(1)).
#[derive(Debug, PartialEq, Eq)]
struct Diversion {
    from: PathBuf,
    to: PathBuf,
    /// `None`: the administrator did.
    by: Option<String>,
}

impl Diversion {
    /// Three lines each; `:` for the administrator.
    fn parse(text: &str) -> Vec<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let (diversions, _) = lines.as_chunks::<3>();
        diversions
            .iter()
            .map(|[from, to, by]| Diversion {
                from: from.into(),
                to: to.into(),
                by: (*by != ":").then(|| (*by).to_owned()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIVERSIONS: &str =
        "/bin/sh\n/bin/sh.distrib\ndash\n/usr/sbin/httpd\n/usr/sbin/httpd.old\n:\n";

    /// A database with these lists.
    fn database(lists: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("info")).unwrap();
        for (package, files) in lists {
            fs::write(folder.path().join(format!("info/{package}.list")), files).unwrap();
        }
        fs::write(folder.path().join("diversions"), DIVERSIONS).unwrap();
        folder
    }

    fn find(file: &str, lists: &[(&str, &str)]) -> Option<String> {
        let database = database(lists);
        let packages = Packages::find(&HashSet::from([file.into()]), database.path());
        packages.of.get(Path::new(file)).cloned()
    }

    #[test]
    fn a_file_is_found_in_the_list_of_its_package() {
        let lists = [
            ("nginx", "/.\n/usr\n/usr/sbin\n/usr/sbin/nginx\n"),
            ("libc6:amd64", "/usr/lib/ld.so\n"),
        ];
        assert_eq!(find("/usr/sbin/nginx", &lists).as_deref(), Some("nginx"));
        assert_eq!(find("/usr/lib/ld.so", &lists).as_deref(), Some("libc6"));
        assert_eq!(find("/usr/sbin/ngin", &lists), None);
        assert_eq!(find("/opt/app", &lists), None);
    }

    #[test]
    fn a_package_may_list_a_merged_folder_by_its_old_name() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("usr/bin", root.path().join("bin")).unwrap();
        fs::create_dir(root.path().join("sbin")).unwrap();
        let of = |file: &str| names(Path::new(file), root.path());
        assert_eq!(of("/usr/bin/nc"), [Path::new("/usr/bin/nc"), Path::new("/bin/nc")]);
        assert_eq!(of("/usr/sbin/sshd"), [Path::new("/usr/sbin/sshd")]);
        assert_eq!(of("/opt/bin/x"), [Path::new("/opt/bin/x")]);
    }

    #[test]
    fn a_diverted_file_belongs_to_who_listed_its_first_place() {
        let lists =
            [("dash", "/bin/sh\n"), ("bash", "/bin/sh\n"), ("apache2", "/usr/sbin/httpd\n")];
        assert_eq!(find("/bin/sh", &lists).as_deref(), Some("dash"));
        assert_eq!(find("/bin/sh.distrib", &lists).as_deref(), Some("bash"));
        // The administrator put something of their own there.
        assert_eq!(find("/usr/sbin/httpd", &lists), None);
        assert_eq!(find("/usr/sbin/httpd.old", &lists).as_deref(), Some("apache2"));
    }

    #[test]
    fn without_a_database_nothing_is_found() {
        let packages = Packages::find(&HashSet::from(["/bin/sh".into()]), Path::new("/nowhere"));
        assert!(packages.of.is_empty() && !packages.is_cut);
    }
}
