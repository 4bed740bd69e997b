//! From a socket's inode to the process that holds it, by `/proc/PID/fd`.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
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

/// The holders of the sockets with these inodes, as far as this process may look.
pub(super) fn of(inodes: &HashSet<u64>) -> HashMap<u64, Process> {
    let mut found = HashMap::new();
    let mut budget = DESCRIPTORS;
    for pid in pids() {
        if found.len() == inodes.len() || budget == 0 {
            break;
        }
        let held = sockets(pid, &mut budget, |inode| {
            inodes.contains(&inode) && !found.contains_key(&inode)
        });
        if held.is_empty() {
            continue;
        }
        let Some(process) = process(pid) else { continue };
        found.extend(held.into_iter().map(|inode| (inode, process.clone())));
    }
    found
}

/// Every process: this one, then by number, the first of all last.
fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let own = std::process::id();
    pids.sort_unstable_by_key(|pid| (*pid == 1, *pid != own, *pid));
    pids
}

/// The inodes of the sockets that a process holds and that are `wanted`.
fn sockets(pid: u32, budget: &mut usize, wanted: impl Fn(u64) -> bool) -> HashSet<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return HashSet::new() };
    let mut held = HashSet::new();
    for entry in entries.flatten() {
        let Some(left) = budget.checked_sub(1) else { break };
        *budget = left;
        let inode = fs::read_link(entry.path()).ok().and_then(|link| inode(&link));
        held.extend(inode.filter(|inode| wanted(*inode)));
    }
    held
}

/// `socket:[31337]`
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// What `/proc` tells of a process; `None` when it is gone.
fn process(pid: u32) -> Option<Process> {
    let of_process = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
    let text =
        |file: &str| of_process(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let arguments = of_process("cmdline").unwrap_or_default();
    let arguments = arguments.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Some(Process {
        pid,
        comm: printable(text("comm")?.trim_end()),
        exe: fs::read_link(format!("/proc/{pid}/exe")).ok(),
        uid: text("status").and_then(|status| effective_user(&status)),
        arguments: arguments.map(|word| OsString::from_vec(word.to_vec())).collect(),
        place: text("cgroup").map(|text| Place::parse(&text)).unwrap_or_default(),
    })
}

/// `Uid: real effective saved filesystem`
fn effective_user(status: &str) -> Option<u32> {
    let numbers = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    numbers.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A process chooses its name, and the name is shown on the operator's terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
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
    }
}
