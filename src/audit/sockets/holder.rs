//! From a socket's inode to the process that holds it, by `/proc/PID/fd`.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::Place;

/// Descriptors looked at in one inventory. One costs less than ten microseconds, so that the
/// inventory of a very busy server ends within two seconds; the sockets that are left then have no
/// holder.
pub(super) const DESCRIPTORS: usize = 200_000;

/// A process as `/proc` shows it to this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, at most 15 bytes (proc_pid_comm(5)).
    pub comm: String,
    /// The program file, where readable.
    pub exe: Option<PathBuf>,
    /// The effective user, where readable.
    pub uid: Option<u32>,
    /// Its command line.
    pub arguments: Vec<OsString>,
    /// The unit or container it runs in.
    pub place: Place,
}

/// Programs whose name says nothing of what they run.
const INTERPRETERS: &[&str] =
    &["bash", "bun", "deno", "dotnet", "java", "node", "perl", "php", "python", "ruby", "sh"];

/// Characters of a command line that are shown: enough to recognise it by.
const SHOWN: usize = 60;

impl Process {
    /// What `/proc` tells of a process; `None` when it is gone.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = arguments.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Some(Process {
            pid,
            comm: printable(text(pid, "comm")?.trim_end_matches('\n')),
            exe: fs::read_link(format!("/proc/{pid}/exe")).ok(),
            uid: text(pid, "status").and_then(|status| effective_user(&status)),
            arguments: arguments.map(|word| OsString::from_vec(word.to_vec())).collect(),
            place: Place::of(pid),
        })
    }

    /// Its name, or of an interpreter the command line: `python3 -m http.server 80`.
    #[must_use]
    pub fn title(&self) -> String {
        let program = self.exe.as_ref().and_then(|exe| exe.file_name()).unwrap_or_default();
        let program = program.to_string_lossy();
        let name = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        if !INTERPRETERS.contains(&name) || self.arguments.len() < 2 {
            return self.comm.clone();
        }
        let name = self.arguments.first().map(Path::new).and_then(Path::file_name);
        let words = name.into_iter().chain(self.arguments.iter().skip(1).map(AsRef::as_ref));
        let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
        let line = printable(words.join(" ").trim());
        if line.chars().count() <= SHOWN {
            return line;
        }
        line.chars().take(SHOWN).chain(['…']).collect()
    }
}

/// Who holds what, as far as this process may look.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// The processes that hold a socket, by its inode, none of them twice. The first is the one to
    /// name: this very process, else the oldest, a service manager (which keeps the sockets that
    /// it passes on) last.
    pub(crate) by_inode: HashMap<u64, Vec<u32>>,
    /// Processes that did not let this one look.
    pub(crate) closed: usize,
    /// Whether there were more descriptors than are looked at.
    pub(crate) is_cut: bool,
}

/// One pass over all processes for the sockets with these inodes. A process that ends meanwhile is
/// passed over.
pub(crate) fn of(wanted: &HashSet<u64>) -> Holders {
    let mut holders = Holders::default();
    if wanted.is_empty() {
        return holders;
    }
    let mut ages = HashMap::new();
    let mut budget = DESCRIPTORS;
    let own = std::process::id();
    for pid in pids() {
        let held = match sockets(pid, &mut budget, wanted) {
            Ok(held) if held.is_empty() => continue,
            Ok(held) => held,
            Err(error) => {
                holders.closed += usize::from(error.kind() == ErrorKind::PermissionDenied);
                continue;
            }
        };
        let Some(age) = text(pid, "stat").and_then(|stat| Age::parse(&stat)) else { continue };
        ages.insert(pid, (pid != own, age, pid));
        for inode in held {
            holders.by_inode.entry(inode).or_default().push(pid);
        }
    }
    holders.is_cut = budget == 0;
    for pids in holders.by_inode.values_mut() {
        pids.sort_by_key(|pid| ages.get(pid));
    }
    holders
}

/// The numbers of all processes that this one is shown: this one first, the first of all last.
pub(crate) fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let own = std::process::id();
    pids.sort_unstable_by_key(|pid| (*pid == 1, *pid != own, *pid));
    pids
}

/// A file of a process as text, bytes that are no UTF-8 replaced: a process chooses its name and
/// must not be able to hide by it.
pub(crate) fn text(pid: u32, file: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What `/proc/PID/stat` says of a process's age; the one to name first sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age {
    is_manager: bool,
    /// In clock ticks since the kernel started.
    pub(crate) started: u64,
}

impl Age {
    /// `pid (comm) state …`, where the name may hold whatever its owner likes.
    pub(crate) fn parse(stat: &str) -> Option<Self> {
        let (before, after) = stat.rsplit_once(')')?;
        let (_, comm) = before.split_once('(')?;
        // The 22nd column of the file; the state, which comes first here, is the third.
        let started = after.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
        Some(Age { is_manager: comm == "systemd", started })
    }
}

/// The inodes of the sockets that a process holds and that are `wanted`.
fn sockets(pid: u32, budget: &mut usize, wanted: &HashSet<u64>) -> io::Result<HashSet<u64>> {
    let mut held = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Some(left) = budget.checked_sub(1) else { break };
        *budget = left;
        let link = match fs::read_link(entry.path()) {
            Ok(link) => link,
            // The folder of a process may be open when what its entries lead to is not.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
            Err(_) => continue,
        };
        held.extend(inode(&link).filter(|inode| wanted.contains(inode)));
    }
    Ok(held)
}

/// `socket:[31337]`
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// `Uid: real effective saved filesystem`
fn effective_user(status: &str) -> Option<u32> {
    let numbers = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    numbers.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A process chooses its name, and the name is shown on the operator's terminal: characters that
/// control it, turn the direction of the text or hide in it are shown as `?`.
#[must_use]
pub fn printable(text: &str) -> String {
    let is_hidden = |c: char| {
        let marks = ['\u{ad}', '\u{61c}', '\u{180e}', '\u{feff}'];
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}')
            || marks.contains(&c)
    };
    text.chars().map(|c| if is_hidden(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_inode_of_a_socket_link_only() {
        assert_eq!(inode(Path::new("socket:[42]")), Some(42));
        assert_eq!(inode(Path::new("pipe:[42]")), None);
        assert_eq!(inode(Path::new("/dev/null")), None);
    }

    #[test]
    fn the_effective_user_is_the_second_number() {
        assert_eq!(effective_user("Name:\tx\nUid:\t1000\t33\t0\t0\n"), Some(33));
        assert_eq!(effective_user("Uid:\t1000\n"), None);
    }

    #[test]
    fn an_interpreter_is_known_by_what_it_runs() {
        let process = |exe: &str, line: &str| Process {
            pid: 7,
            comm: "MainThread".to_owned(),
            exe: Some(exe.into()),
            uid: None,
            arguments: line.split(' ').map(Into::into).collect(),
            place: Place::default(),
        };
        let python = process("/usr/bin/python3.11", "/x/python3 -m http.server 80");
        assert_eq!(python.title(), "python3 -m http.server 80");
        assert_eq!(process("/usr/sbin/nginx", "nginx -g x").title(), "MainThread");
        assert_eq!(process("/usr/bin/node", "node").title(), "MainThread");
        let long = format!("node {}", "x".repeat(200));
        assert_eq!(process("/usr/bin/node", &long).title().chars().count(), SHOWN + 1);
    }

    #[test]
    fn a_name_cannot_write_on_the_terminal() {
        assert_eq!(printable("evil\u{1b}[2J"), "evil?[2J");
        assert_eq!(printable("\u{202e}dhss"), "?dhss");
        assert_eq!(printable("grün"), "grün");
    }

    #[test]
    fn the_oldest_comes_first_and_a_service_manager_last() {
        let age = |comm: &str, started: u64| {
            let columns = "S 1 7 7 0 -1 4194304 120 0 0 0 1 2 0 0 20 0 1 0";
            Age::parse(&format!("7 ({comm}) {columns} {started} 1000 2 3\n")).unwrap()
        };
        assert_eq!(age("nginx", 512).started, 512);
        assert_eq!(age("evil) S 1 (x", 512).started, 512);
        assert!(age("nginx", 100) < age("nginx", 200));
        assert!(age("nginx", 200) < age("systemd", 1));
        assert_eq!(Age::parse("7 (cut"), None);
    }

    proptest! {
        /// A process chooses its name, and cannot make itself older by it.
        #[test]
        fn no_name_hides_an_age(name in "[()a-z0-9 SR]{0,15}", started: u64) {
            let columns: String = (4..22).map(|column| format!("{column} ")).collect();
            let stat = format!("7 ({name}) S {columns}{started} 23 24");
            let age = Age::parse(&stat).unwrap();
            prop_assert_eq!(age, Age { is_manager: name == "systemd", started });
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = Age::parse(&text);
            let _ = inode(Path::new(&text));
            let _ = effective_user(&text);
        }
    }
}
