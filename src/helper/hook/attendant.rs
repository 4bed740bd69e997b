//! The process that runs one hook: it sees to its deadline, hears its last words, leaves nothing of
//! its group behind, and tells who asked. The helper may end before it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SocketType;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::{Action, End, Ended};
use crate::exit;
use crate::helper::{launch, packet};

/// How long a hook that is told to end may take before it is killed.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often to look whether it has ended while it says nothing.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Bytes of its words that are kept, the last ones, and lines of them that are told.
const KEPT: usize = 4096;
const LINES: usize = 5;

/// Descriptors that are closed where the kernel does not list them.
const LIKELY: std::ops::Range<i32> = 3..1024;

/// The hidden verb: runs a hook and tells on standard input, a socket, how it ended.
pub(in crate::helper) fn run(arguments: Vec<OsString>) -> u8 {
    let asker = rustix::stdio::stdin();
    if !rustix::net::sockopt::socket_type(asker).is_ok_and(|kind| kind == SocketType::SEQPACKET) {
        eprintln!("portcullis: this is what the helper of `portcullis run` starts for a hook");
        return exit::USAGE;
    }
    let Some(task) = Task::from_arguments(arguments) else { return exit::USAGE };
    let _ = rustix::thread::set_name(c"portcullis-hook");
    close_others();
    let ended = match SigSet::empty().thread_set_mask() {
        // The helper's mask is inherited, and would be by the hook.
        Err(error) => unstarted(error.to_string()),
        Ok(()) => task.attend(asker),
    };
    // Who asked may have gone.
    let _ = packet::send(asker, &ended, &[]);
    exit::OK
}

/// Closes what was inherited beside standard input, output and error. Nothing is open here yet.
fn close_others() {
    let listed = fs::read_dir("/proc/self/fd").map(|entries| {
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers.collect::<Vec<i32>>()
    });
    let numbers = listed.unwrap_or_else(|_| LIKELY.collect());
    for number in numbers.into_iter().filter(|number| *number >= LIKELY.start) {
        // The list itself was one of them.
        let _ = nix::unistd::close(number);
    }
}

/// What is to be run, and for how long.
struct Task {
    action: Action,
    patience: Duration,
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Task {
    /// From what [`super::Errand::start`] has put together.
    fn from_arguments(arguments: Vec<OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter();
        let action = match arguments.next()?.to_str()? {
            "present" => Action::Present,
            "cleanup" => Action::Cleanup,
            _ => return None,
        };
        let patience = Duration::from_millis(arguments.next()?.to_str()?.parse().ok()?);
        let program = arguments.next()?.into();
        Some(Self { action, patience, program, arguments: arguments.collect() })
    }

    fn attend(&self, asker: BorrowedFd<'_>) -> Ended {
        let mut hook = match self.spawn() {
            Ok(hook) => hook,
            Err(error) => return unstarted(self.why_unstarted(&error)),
        };
        let mut ears = Ears { pipe: hook.stderr.take(), words: VecDeque::new() };
        let mut deadline = Instant::now() + self.patience;
        let mut cut = None;
        while !has_ended(&hook) {
            ears.listen(&GLANCE);
            let is_late = Instant::now() >= deadline;
            match &cut {
                None if is_late => cut = Some(End::Late(self.patience)),
                // What is to be removed goes, whoever waits for it.
                None if self.action == Action::Present && is_gone(asker) => {
                    cut = Some(End::Abandoned);
                }
                Some(_) if is_late => break,
                _ => continue,
            }
            let _ = launch::terminate(&hook);
            deadline = Instant::now() + FAREWELL;
        }
        // What it has left behind goes, too. Its number is its own until it is waited for.
        let _ = launch::kill(&hook);
        let status = hook.wait();
        ears.hear_the_rest();
        let end = cut.unwrap_or_else(|| match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => End::Exited(code),
                (None, signal) => End::Signalled(signal.unwrap_or_default()),
            },
            Err(error) => End::Unstarted(error.to_string()),
        });
        Ended { end, words: ears.told() }
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut hook = command.spawn()?;
        if let Some(pipe) = &hook.stderr
            && let Err(error) = rustix::io::ioctl_fionbio(pipe, true)
        {
            let _ = launch::kill(&hook);
            let _ = hook.wait();
            return Err(error.into());
        }
        Ok(hook)
    }

    fn why_unstarted(&self, error: &io::Error) -> String {
        if error.kind() == ErrorKind::NotFound && self.program.exists() {
            return format!("{error}; the file is there, but not the interpreter that it names");
        }
        error.to_string()
    }
}

fn unstarted(why: String) -> Ended {
    Ended { end: End::Unstarted(why), words: String::new() }
}

/// Whether it has ended; it is not waited for yet.
fn has_ended(hook: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_child(hook)), options).is_ok_and(|status| status.is_some())
}

fn is_gone(asker: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&asker, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let ready = poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0);
    ready && fds.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// What a hook says on standard error, of which the end is kept.
struct Ears {
    pipe: Option<ChildStderr>,
    words: VecDeque<u8>,
}

impl Ears {
    /// Hears what is said within `patience`, or as much as fits into one read.
    fn listen(&mut self, patience: &Timespec) {
        let Some(pipe) = &self.pipe else {
            let _ = poll(&mut [], Some(patience));
            return;
        };
        let mut fds = [PollFd::new(pipe, PollFlags::IN)];
        if poll(&mut fds, Some(patience)).is_ok_and(|ready| ready > 0) {
            self.read();
        }
    }

    /// Hears what was said and not read; who still holds the pipe is not waited for.
    fn hear_the_rest(&mut self) {
        for _ in 0..32 {
            if !self.read() {
                break;
            }
        }
    }

    /// Whether something was said.
    fn read(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        let mut piece = [0; 16 * 1024];
        match pipe.read(&mut piece) {
            Ok(length) if length > 0 => {
                self.words.extend(piece.get(..length).unwrap_or_default());
                let surplus = self.words.len().saturating_sub(KEPT);
                self.words.drain(..surplus);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            // It is closed, or broken.
            _ => {
                self.pipe = None;
                false
            }
        }
    }

    /// The last lines, on one, without what would command a terminal.
    fn told(mut self) -> String {
        let text = String::from_utf8_lossy(self.words.make_contiguous()).into_owned();
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let first = lines.len().saturating_sub(LINES);
        let last = lines.get(first..).unwrap_or_default().join(" / ");
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let surplus = last.chars().count().saturating_sub(LONGEST);
        let ellipsis = if surplus > 0 { "…" } else { "" };
        let end: String = last.chars().skip(surplus).map(shown).collect();
        format!("{ellipsis}{end}")
    }
}

/// The longest text that is told, in characters.
const LONGEST: usize = 600;

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    /// Runs a shell script as a hook, for an asker who waits.
    fn attend(script: &str, patience: Duration) -> Ended {
        let (_ours, theirs) = packet::pair().unwrap();
        attend_for(&theirs, Action::Present, script, patience)
    }

    fn attend_for(asker: &OwnedFd, action: Action, script: &str, patience: Duration) -> Ended {
        let arguments = vec!["-c".into(), script.into()];
        let task = Task { action, patience, program: "/bin/sh".into(), arguments };
        task.attend(asker.as_fd())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_hook_ends_with_its_status_and_its_last_lines() {
        assert!(attend("exit 0", LONG).is_success());
        let failed = attend("for n in 1 2 3 4 5 6 7; do echo line $n >&2; done; exit 3", LONG);
        assert_eq!(failed.end, End::Exited(3));
        assert_eq!(failed.words, "line 3 / line 4 / line 5 / line 6 / line 7");
        let killed = attend("kill -9 $$", LONG);
        assert_eq!(killed.end, End::Signalled(9));
    }

    #[test]
    fn megabytes_are_heard_and_forgotten() {
        let script = "head -c 20000000 /dev/zero | tr '\\0' x >&2; printf '\\n\\033[31mthe end\\n' >&2; \
                      head -c 20000000 /dev/zero; exit 1";
        let ended = attend(script, LONG);
        assert_eq!(ended.end, End::Exited(1));
        assert!(ended.words.ends_with(" [31mthe end"), "{}", ended.words);
        assert!(ended.words.chars().count() <= LONGEST + 1);
    }

    #[test]
    fn who_hangs_is_ended_and_its_children_with_it() {
        let ended = attend("trap '' TERM; echo at work >&2; sleep 600 & sleep 600", FAREWELL);
        assert_eq!(ended, Ended { end: End::Late(FAREWELL), words: "at work".to_owned() });
    }

    #[test]
    fn a_child_that_holds_the_outputs_open_is_not_waited_for() {
        let begin = Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; echo done >&2", file.display());
        let ended = attend(&script, LONG);
        assert_eq!(ended, Ended { end: End::Exited(0), words: "done".to_owned() });
        assert!(begin.elapsed() < LONG);
        let pid: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let runs = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains("(sleep) S")
        };
        while runs() {
            assert!(begin.elapsed() < LONG, "it is left behind");
            std::thread::yield_now();
        }
    }

    #[test]
    fn nobody_waits_for_a_record_but_one_is_removed_all_the_same() {
        let (ours, theirs) = packet::pair().unwrap();
        drop(ours);
        let script = "sleep 0.1";
        assert_eq!(attend_for(&theirs, Action::Present, "sleep 600", LONG).end, End::Abandoned);
        assert!(attend_for(&theirs, Action::Cleanup, script, LONG).is_success());
    }

    #[test]
    fn what_is_no_program_is_told() {
        let (_ours, theirs) = packet::pair().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("hook");
        fs::write(&program, "#!/nowhere/sh\n").unwrap();
        let told = |program: PathBuf| {
            let task =
                Task { action: Action::Present, patience: LONG, program, arguments: Vec::new() };
            task.attend(theirs.as_fd()).to_string()
        };
        assert!(told(program.clone()).contains("ermission denied"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        assert!(told(program).contains("not the interpreter that it names"));
        assert!(told("/nowhere/hook".into()).contains("No such file"));
    }
}
