//! From the helper to the successor: a process that takes the sockets' numbers and its own pid into
//! the environment and becomes the new program (sd_listen_fds(3)).

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt as _, FdMapping};
use nix::sys::signal::SigSet;
use rustix::process::{Pid, Signal, kill_process_group};

use super::{LAUNCH, Refused};
use crate::exit;

/// The number of the first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// The variables of the protocol, which nobody inherits.
const PROTOCOL: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// What a successor may be passed.
const NAMES: [&str; 7] = ["http", "https", "metrics", "control", "notify", "keys", READY];

/// The socket on which it says that it is ready, or why it is not.
pub(super) const READY: &str = "ready";

/// What a new program is started with.
pub(super) struct Launch {
    names: Vec<String>,
    descriptors: Vec<OwnedFd>,
    ready: OwnedFd,
}

impl Launch {
    /// Checks that each descriptor has a name, and that one of them is to be answered on.
    pub(super) fn new(names: Vec<String>, descriptors: Vec<OwnedFd>) -> Result<Self, Refused> {
        let known = names.iter().all(|name| NAMES.contains(&name.as_str()));
        let ready = names.iter().position(|name| name == READY);
        let ready = ready.and_then(|index| descriptors.get(index));
        match ready {
            Some(ready) if known && names.len() == descriptors.len() => {
                Ok(Self { ready: ready.try_clone()?, names, descriptors })
            }
            _ => Err(Refused::because("a successor takes named sockets, one of them `ready`")),
        }
    }

    /// Starts this same program once more, which becomes `program`: only the process itself knows
    /// its pid before that.
    pub(super) fn start(self, program: &Path, arguments: &[OsString]) -> io::Result<Child> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("portcullis: launch").arg(LAUNCH).arg(program).args(arguments);
        // What cannot be executed is told on standard input.
        command.stdin(Stdio::from(self.ready)).process_group(0);
        for name in PROTOCOL {
            command.env_remove(name);
        }
        command.env("LISTEN_FDS", self.names.len().to_string());
        command.env("LISTEN_FDNAMES", self.names.join(":"));
        let mapped = (FIRST..).zip(self.descriptors);
        let mapped = mapped.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mapped.collect()).map_err(io::Error::other)?;
        command.spawn()
    }
}

/// Asks `child`, which has not been waited for, and what it has started in its group to end.
pub(super) fn terminate(child: &Child) -> io::Result<()> {
    Ok(kill_process_group(Pid::from_child(child), Signal::TERM)?)
}

/// The same, without asking.
pub(super) fn kill(child: &Child) -> io::Result<()> {
    Ok(kill_process_group(Pid::from_child(child), Signal::KILL)?)
}

/// Removes the protocol's variables from what a process is started with.
pub(super) fn without_protocol(command: &mut Command) -> &mut Command {
    for name in PROTOCOL {
        command.env_remove(name);
    }
    command
}

/// The hidden verb: becomes the program. It returns only when that failed.
pub(super) fn run(arguments: &[OsString]) -> u8 {
    let Some((program, arguments)) = arguments.split_first() else { return exit::USAGE };
    let program = PathBuf::from(program);
    let Ok(ready) = rustix::stdio::stdin().try_clone_to_owned() else { return exit::FAILED };
    let error = match become_program(&program, arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let mut text = format!("cannot run {}: {error}", program.display());
    if error.kind() == io::ErrorKind::NotFound && program.exists() {
        text.push_str("; the file is there, but not the interpreter or loader that it names");
    }
    // In one piece, beside what the server says there.
    let _ = io::stderr().write_all(format!("portcullis: {text}\n").as_bytes());
    // Where it is no socket, a person has typed the verb, and has read it.
    let _ = UnixStream::from(ready).write_all(text.as_bytes());
    exit::FAILED
}

fn become_program(program: &Path, arguments: &[OsString]) -> io::Result<std::convert::Infallible> {
    is_for_this_machine(program)?;
    let path = c_string(program.as_os_str())?;
    let arguments: Vec<_> = arguments.iter().map(|a| c_string(a)).collect::<Result<_, _>>()?;
    let environment: Vec<_> = environment(env::vars_os(), std::process::id())
        .iter()
        .map(|v| c_string(v))
        .collect::<Result<_, _>>()?;
    let nothing = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(nothing.as_fd())?;
    // The helper's mask is inherited.
    SigSet::empty().thread_set_mask()?;
    // Not by the standard library, which would hand what is no program to a shell.
    Ok(nix::unistd::execve(&path, &arguments, &environment)?)
}

/// The environment of a process that the sockets, and the watchdog, are meant for.
fn environment(inherited: impl Iterator<Item = (OsString, OsString)>, pid: u32) -> Vec<OsString> {
    let mut watched = false;
    let mut all = Vec::new();
    for (name, value) in inherited {
        match name.to_str() {
            Some("LISTEN_PID") => continue,
            Some("WATCHDOG_PID") => {
                watched = true;
                continue;
            }
            _ => {}
        }
        let mut variable = name;
        variable.push("=");
        variable.push(value);
        all.push(variable);
    }
    all.push(format!("LISTEN_PID={pid}").into());
    if watched {
        all.push(format!("WATCHDOG_PID={pid}").into());
    }
    all
}

/// A script, or a program with the class, the byte order and the machine of this one.
fn is_for_this_machine(program: &Path) -> io::Result<()> {
    let theirs = head(program)?;
    let ours = head(Path::new("/proc/self/exe"))?;
    let kind = |head: &[u8; HEAD]| [head[4], head[5], head[18], head[19]];
    let wrong = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidData, text));
    match theirs {
        [b'#', b'!', ..] => Ok(()),
        [0x7f, b'E', b'L', b'F', ..] if kind(&theirs) == kind(&ours) => Ok(()),
        [0x7f, b'E', b'L', b'F', ..] => wrong("it is a program for another machine"),
        _ => wrong("it is no program: neither ELF nor a script that begins with #!"),
    }
}

/// As much of an ELF file as says for which machine it is.
const HEAD: usize = 20;

fn head(path: &Path) -> io::Result<[u8; HEAD]> {
    let mut head = [0; HEAD];
    let mut file = File::open(path)?;
    let mut length = 0;
    while let Some(rest @ [_, ..]) = head.get_mut(length..) {
        match file.read(rest)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(head)
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.to_owned().into_vec()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(variables: &[OsString]) -> Vec<&str> {
        variables.iter().map(|variable| variable.to_str().unwrap()).collect()
    }

    #[test]
    fn the_environment_says_for_whom_the_sockets_are_and_does_not_grow() {
        let variable = |(name, value): (&str, &str)| (name.into(), value.into());
        let first = [("PATH", "/bin"), ("LISTEN_FDS", "2"), ("LISTEN_PID", "1")].map(variable);
        let made = environment(first.into_iter(), 7);
        assert_eq!(text(&made), ["PATH=/bin", "LISTEN_FDS=2", "LISTEN_PID=7"]);
        let watched = [("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "5")].map(variable);
        let made = environment(watched.into_iter(), 7);
        assert_eq!(text(&made), ["WATCHDOG_USEC=5", "LISTEN_PID=7", "WATCHDOG_PID=7"]);
    }

    #[test]
    fn what_cannot_run_here_is_told_before_it_is_tried() {
        let folder = tempfile::tempdir().unwrap();
        let judge = |bytes: &[u8]| {
            let path = folder.path().join("program");
            std::fs::write(&path, bytes).unwrap();
            is_for_this_machine(&path).map_err(|error| error.to_string())
        };
        let mut ours = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(judge(&ours[..64]), Ok(()));
        assert_eq!(judge(b"#!/bin/sh\n"), Ok(()));
        for wrong in [&b""[..], b"hello", &[0; 64]] {
            assert!(judge(wrong).unwrap_err().starts_with("it is no program: neither"));
        }
        ours[18] ^= 0xff;
        assert_eq!(judge(&ours[..64]).unwrap_err(), "it is a program for another machine");
        assert!(is_for_this_machine(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn only_known_sockets_are_passed_on() {
        let socket = || OwnedFd::from(UnixStream::pair().unwrap().0);
        let launch = |names: &[&str], count: usize| {
            let names = names.iter().map(ToString::to_string).collect();
            Launch::new(names, (0..count).map(|_| socket()).collect()).is_ok()
        };
        assert!(launch(&["http", "https", "ready"], 3));
        assert!(!launch(&["http", "ready"], 1));
        assert!(!launch(&["http"], 1));
        assert!(!launch(&["ready", "a:b"], 2));
    }
}
