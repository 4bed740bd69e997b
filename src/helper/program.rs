//! Which program a successor runs: what stands where this one was called from, then.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What the kernel appends to the path of a program that was removed or replaced.
const DELETED: &[u8] = b" (deleted)";

/// The path of this program, absolute, for later: the name by which it was called where that leads
/// here, so that a symbolic link is followed anew each time; the file itself otherwise.
///
/// # Errors
/// When the kernel does not say which program this is.
pub(super) fn path() -> io::Result<PathBuf> {
    let real = undeleted(env::current_exe()?);
    let called = env::args_os().next().unwrap_or_default();
    let search = env::var_os("PATH").unwrap_or_default();
    let here = env::current_dir().unwrap_or_default();
    let is_us = |path: &Path| match (fs::metadata(path), fs::metadata("/proc/self/exe")) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    let found = candidates(&called, &search, &here).into_iter().find(|path| is_us(path));
    Ok(found.unwrap_or(real))
}

/// Where a shell would have found `called`.
fn candidates(called: &OsStr, search: &OsStr, here: &Path) -> Vec<PathBuf> {
    if called.is_empty() {
        return Vec::new();
    }
    if called.as_bytes().contains(&b'/') {
        return vec![here.join(called).components().collect()];
    }
    env::split_paths(search).map(|folder| here.join(folder).join(called)).collect()
}

/// The path without the kernel's mark, when it is one and no part of a name.
fn undeleted(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(name) if !path.exists() => OsString::from_vec(name.to_vec()).into(),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_as_a_shell_does() {
        let at = |called: &str| {
            let found = candidates(called.as_ref(), "/usr/bin:bin".as_ref(), Path::new("/home/a"));
            found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(at("portcullis"), ["/usr/bin/portcullis", "/home/a/bin/portcullis"]);
        assert_eq!(at("./portcullis"), ["/home/a/portcullis"]);
        assert_eq!(at("/opt/now/portcullis"), ["/opt/now/portcullis"]);
        assert_eq!(at(""), [""; 0]);
    }

    #[test]
    fn a_replaced_program_is_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let marked = PathBuf::from(format!("{} (deleted)", path.display()));
        assert_eq!(undeleted(marked.clone()), path);
        fs::write(&marked, "a file may be called so").unwrap();
        assert_eq!(undeleted(marked.clone()), marked);
    }

    #[test]
    fn this_program_has_a_path() {
        let path = path().unwrap();
        assert!(path.is_absolute() && path.exists(), "{}", path.display());
    }
}
