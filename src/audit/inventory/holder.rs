//! What is known of the process behind a socket.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::executable::{ExeState, Executable};
use super::{capability, moment};
use crate::audit::sockets::{self, Age, Place, printable};

/// Characters of a command that are kept: some programs take kilobytes.
const COMMAND: usize = 1000;

/// The process that holds a socket. What a process says of itself is escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// Its number; of several that hold the socket the service's oldest.
    pub pid: u32,
    /// Its arguments, joined by spaces; its name in brackets where it shows none. As `ps` shows
    /// them: what is secret among them is secret no more.
    pub command: String,
    /// Its name, at most 15 bytes (proc_pid_comm(5)).
    pub comm: String,
    /// The program file, without the kernel's ` (deleted)`; in a container, the path there.
    pub exe: Option<PathBuf>,
    /// Whether that file is still the program that runs.
    pub exe_state: ExeState,
    /// The effective user, by number.
    pub uid: u32,
    /// The same by name, or the number where the system knows no name.
    pub user: String,
    /// The effective capabilities, such as `CAP_NET_BIND_SERVICE`, by number.
    pub capabilities: Vec<String>,
    /// Whether the effective user is root.
    pub is_root: bool,
    /// The systemd service or scope it runs in.
    pub unit: Option<String>,
    /// The systemd socket unit that opened the socket.
    pub socket_unit: Option<String>,
    /// The container it runs in, such as `docker 0123456789ab`.
    pub container: Option<String>,
    /// The Debian package of the program file.
    pub package: Option<String>,
    /// When it was started.
    #[serde(with = "moment::maybe")]
    #[schemars(with = "Option<String>")]
    pub since: Option<SystemTime>,
    /// Further processes that hold the same sockets, by number.
    pub others: Vec<u32>,
}

/// Reads each process once.
#[derive(Debug, Default)]
pub(super) struct Processes {
    booted: Option<SystemTime>,
    users: HashMap<u32, String>,
    read: HashMap<u32, Option<Holder>>,
    /// The program files on this host, by process, as the system names them.
    files: HashMap<u32, PathBuf>,
}

impl Processes {
    pub(super) fn new() -> Self {
        let booted = fs::read_to_string("/proc/stat").ok().and_then(|stat| booted(&stat));
        Processes { booted, ..Processes::default() }
    }

    /// `None` when it has ended.
    pub(super) fn holder(&mut self, pid: u32) -> Option<&Holder> {
        if !self.read.contains_key(&pid) {
            let read = self.read_holder(pid);
            self.read.insert(pid, read);
        }
        self.read.get(&pid)?.as_ref()
    }

    /// The program files of the processes that were read.
    pub(super) fn files(&self) -> &HashMap<u32, PathBuf> {
        &self.files
    }

    fn read_holder(&mut self, pid: u32) -> Option<Holder> {
        let status = sockets::text(pid, "status")?;
        let age = sockets::text(pid, "stat").and_then(|stat| Age::parse(&stat))?;
        let comm = printable(sockets::text(pid, "comm")?.trim_end_matches('\n'));
        let command = sockets::text(pid, "cmdline").unwrap_or_default();
        let exe = Executable::of(pid);
        let Place { unit, container, .. } = Place::of(pid);
        let container = container.map(|it| format!("{} {}", it.engine, it.id));
        let uid = field(&status, "Uid:", 1)?.parse().ok()?;
        if let Some(path) = exe.path.as_ref().filter(|_| exe.is_here && container.is_none()) {
            self.files.insert(pid, path.clone());
        }
        let user = self.users.entry(uid).or_insert_with(|| printable(&sockets::user_name(uid)));
        Some(Holder {
            pid,
            command: self::command(&command).unwrap_or_else(|| format!("[{comm}]")),
            comm,
            exe: exe.path.map(|path| printable(&path.to_string_lossy()).into()),
            exe_state: exe.state,
            uid,
            user: user.clone(),
            capabilities: field(&status, "CapEff:", 0)
                .and_then(capability::names)
                .unwrap_or_default(),
            is_root: uid == 0,
            unit,
            socket_unit: None,
            container,
            package: None,
            since: self.booted.and_then(|booted| booted.checked_add(after_boot(age))),
            others: Vec::new(),
        })
    }
}

/// The word after the name in a file of `Name: word word` lines.
fn field<'a>(status: &'a str, name: &str, word: usize) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().nth(word)
}

/// Arguments end with a NUL each; a program that writes its state there pads it with more.
fn command(arguments: &str) -> Option<String> {
    let arguments = arguments.trim_end_matches(['\0', ' ']);
    let mut command = printable(&arguments.replace('\0', " "));
    if let Some((end, _)) = command.char_indices().nth(COMMAND) {
        command.truncate(end);
        command.push('…');
    }
    (!command.is_empty()).then_some(command)
}

/// The line `btime` of proc_stat(5): seconds since 1970.
fn booted(stat: &str) -> Option<SystemTime> {
    let seconds = field(stat, "btime", 0)?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// To whole seconds: the start of the system is known no better.
fn after_boot(age: Age) -> Duration {
    Duration::from_secs(age.started / rustix::param::clock_ticks_per_second().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_very_process() {
        let mut processes = Processes::new();
        let pid = std::process::id();
        let holder = processes.holder(pid).unwrap().clone();
        let exe = std::env::current_exe().unwrap();
        assert_eq!((holder.pid, holder.exe.as_ref()), (pid, Some(&exe)));
        assert_eq!(holder.exe_state, ExeState::Present);
        assert_eq!(processes.files().get(&pid), Some(&exe));
        assert_eq!(holder.uid, rustix::process::geteuid().as_raw());
        assert_eq!(holder.is_root, holder.uid == 0);
        assert!(holder.command.starts_with(&std::env::args().next().unwrap()), "{holder:?}");
        let age = SystemTime::now().duration_since(holder.since.unwrap()).unwrap_or_default();
        assert!(age < Duration::from_secs(3600), "{age:?}");
        assert!(processes.holder(u32::MAX).is_none());
    }

    #[test]
    fn a_command_is_one_line_of_bounded_length() {
        assert_eq!(command("nginx\0-g\0daemon off;\0").as_deref(), Some("nginx -g daemon off;"));
        assert_eq!(
            command("nginx: master process  \0\0\0").as_deref(),
            Some("nginx: master process")
        );
        assert_eq!(command("sh\0-c\0a\nb\u{1b}[1m\0").as_deref(), Some("sh -c a?b?[1m"));
        assert_eq!(command("\0\0"), None);
        assert_eq!(command(""), None);
        let long = command(&"ä".repeat(5000)).unwrap();
        assert_eq!(long.chars().count(), COMMAND + 1);
    }

    #[test]
    fn the_effective_user_is_the_second_number() {
        let status = "Name:\tx\nUid:\t1000\t0\t1000\t1000\nCapEff:\t0000000000000400\n";
        assert_eq!(field(status, "Uid:", 1), Some("0"));
        assert_eq!(field(status, "CapEff:", 0), Some("0000000000000400"));
        assert_eq!(field("Uid:\t0\n", "Uid:", 1), None);
        let start = booted("cpu 1 2\nbtime 1767225600\nprocesses 9\n");
        assert_eq!(start, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)));
    }
}
