//! Whether the file of a program is still the program that runs.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of a program file since the process was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExeState {
    /// It is the program that runs.
    Present,
    /// It is gone.
    Deleted,
    /// Another file stands in its place: an upgrade without a restart, mostly.
    Replaced,
    /// This user may not look, or the file is where no path leads from here.
    #[default]
    Unknown,
}

/// The program file of a process.
#[derive(Debug, Default)]
pub(super) struct Executable {
    /// Without the kernel's ` (deleted)`; in a container, the path there.
    pub(super) path: Option<PathBuf>,
    pub(super) state: ExeState,
    /// Whether the path means the same to this process, and not a file of some container's.
    pub(super) is_here: bool,
}

/// The device and the number of a file: what tells it from any other.
type Identity = (u64, u64);

impl Executable {
    pub(super) fn of(pid: u32) -> Self {
        let link = PathBuf::from(format!("/proc/{pid}/exe"));
        let (Ok(path), Some(running)) = (fs::read_link(&link), identity(&link)) else {
            return Executable::default();
        };
        if identity(&path) == Some(running) {
            return Executable { path: Some(path), state: ExeState::Present, is_here: true };
        }
        let is_here = shares_mounts(pid);
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let seen = |path: &Path| {
            let inside = path.strip_prefix("/").map(|path| root.join(path));
            if is_here { path.to_owned() } else { inside.unwrap_or_default() }
        };
        let Some(path) = without_mark(&path) else {
            let is_running = !is_here && identity(&seen(&path)) == Some(running);
            let state = if is_running { ExeState::Present } else { ExeState::Unknown };
            return Executable { path: Some(path), state, is_here };
        };
        let state = match fs::metadata(seen(&path)) {
            Ok(now) if (now.dev(), now.ino()) == running => ExeState::Present,
            Ok(_) => ExeState::Replaced,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => ExeState::Unknown,
            Err(_) => ExeState::Deleted,
        };
        Executable { path: Some(path), state, is_here }
    }
}

/// Follows links, also the kernel's own to a file that no path leads to any more.
fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn shares_mounts(pid: u32) -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let ours = of("self");
    ours.is_some() && ours == of(&pid.to_string())
}

/// The path before ` (deleted)` (proc_pid_exe(5)).
fn without_mark(path: &Path) -> Option<PathBuf> {
    let bytes = path.as_os_str().as_bytes().strip_suffix(b" (deleted)")?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A copy of `sleep` that runs until the end of the test.
    struct Sleeper(Child, PathBuf, #[allow(dead_code, reason = "goes with it")] tempfile::TempDir);

    impl Sleeper {
        fn start(name: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().canonicalize().unwrap().join(name);
            // By another process: a fork of some other test must not keep the file open to write.
            assert!(
                Command::new("cp")
                    .args(["/bin/sleep".as_ref(), path.as_path()])
                    .status()
                    .unwrap()
                    .success()
            );
            let child = Command::new(&path).arg("60").spawn().unwrap();
            Sleeper(child, path, folder)
        }

        fn executable(&self) -> Executable {
            Executable::of(self.0.id())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_program_is_present_until_its_file_goes_or_is_replaced() {
        let sleeper = Sleeper::start("sleeper");
        let (path, other) = (&sleeper.1, sleeper.1.with_extension("new"));
        let found = sleeper.executable();
        assert_eq!((found.path.as_ref(), found.state), (Some(path), ExeState::Present));
        assert!(found.is_here);

        fs::write(&other, "another").unwrap();
        fs::rename(&other, path).unwrap();
        let found = sleeper.executable();
        assert_eq!((found.path.as_ref(), found.state), (Some(path), ExeState::Replaced));

        fs::remove_file(path).unwrap();
        let found = sleeper.executable();
        assert_eq!((found.path.as_ref(), found.state), (Some(path), ExeState::Deleted));
        assert!(found.is_here);
    }

    #[test]
    fn a_file_may_be_named_as_if_it_were_deleted() {
        let sleeper = Sleeper::start("sleeper (deleted)");
        let found = sleeper.executable();
        assert_eq!((found.path.as_ref(), found.state), (Some(&sleeper.1), ExeState::Present));
    }

    #[test]
    fn nothing_is_known_of_a_process_that_has_ended() {
        let found = Executable::of(u32::MAX);
        assert_eq!((found.path, found.state), (None, ExeState::Unknown));
    }
}
