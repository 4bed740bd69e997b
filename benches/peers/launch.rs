//! Other programs: started on a CPU of our choice, and never left behind.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use procfs::process::Process;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::CpuSet;
use rustix::time::ClockId;

use crate::Result;

/// What was started and has not been waited for; an interrupt ends these.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// How long a program may take over a polite request to stop.
const PATIENCE: Duration = Duration::from_secs(3);

/// The marker in front of the time at which a launched program was executed, on its stderr.
const EXECUTED: &str = "executed at ";

/// The two CPUs of the bench.
#[derive(Clone, Copy)]
pub(crate) struct Cpus {
    /// Belongs to the proxy.
    pub(crate) proxy: usize,
    /// Belongs to the load, the origin and the bench itself.
    pub(crate) load: usize,
}

impl Cpus {
    /// Takes the first two CPUs that this process may use and settles on the second.
    ///
    /// # Errors
    ///
    /// Fails when there is only one: load and proxy on one CPU would measure each other.
    pub(crate) fn take() -> Result<Cpus> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        let (Some(proxy), Some(load)) = (cpus.next(), cpus.next()) else {
            return Err("two CPUs are needed, one for the proxy and one for the load".into());
        };
        settle(load)?;
        Ok(Cpus { proxy, load })
    }
}

/// A started program, ended with its children when dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts what [`on_cpu`] prepared.
    pub(crate) fn start(command: &mut Command) -> Result<Running> {
        let mut pids = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        pids.insert(child.id().cast_signed());
        Ok(Running { child })
    }

    /// The program's own process; the launcher has become it.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The process and all its descendants, parents first.
    pub(crate) fn tree(&self) -> Vec<Process> {
        tree(self.child.id().cast_signed())
    }

    /// Waits for the program to end by itself.
    ///
    /// # Errors
    ///
    /// Fails when it has not ended after `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("still running after {patience:?}").into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.child.id().cast_signed();
        let family = self.tree();
        signal(pid, Signal::TERM);
        if self.wait(PATIENCE).is_err() {
            family.iter().for_each(|process| signal(process.pid, Signal::KILL));
            let _ = self.child.wait();
        }
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }
}

/// A command that runs `program` on `cpu`, by way of this program in its [`become_program`] role.
pub(crate) fn on_cpu(cpu: usize, program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("launch").arg(cpu.to_string()).arg("--").arg(program);
    Ok(command)
}

/// Settles on `cpu`, allows itself as many descriptors as it may, asks to be ended when the bench
/// is gone, notes the time on stderr, and becomes another program.
pub(crate) fn become_program(cpu: usize, command: &[OsString]) -> Result<()> {
    let (program, arguments) = command.split_first().ok_or("no program named")?;
    settle(cpu)?;
    raise_descriptors()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    eprintln!("{EXECUTED}{}", monotonic().as_nanos());
    Err(Command::new(program).args(arguments).exec().into())
}

/// When the program whose stderr went to `file` was executed, on the clock of [`monotonic`].
pub(crate) fn executed(file: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(file).ok()?;
    let nanoseconds = text.lines().next()?.strip_prefix(EXECUTED)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// The last thing that a program said on its stderr, which went to `file`.
pub(crate) fn last_words(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut lines = text.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty() && !line.starts_with(EXECUTED)).map(str::to_owned)
}

/// The time on a clock that all processes share and nobody sets.
pub(crate) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs().try_into().unwrap_or(0))
}

/// Raises the soft limit of open files to the hard one.
pub(crate) fn raise_descriptors() -> Result<()> {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// From now on an interrupt, a termination or a hang-up ends everything that was started and
/// removes `directory` before the bench goes.
pub(crate) fn clean_up_on_signals(directory: &Path) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let directory = directory.to_path_buf();
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _inside = runtime.enter();
        let of = |kind| signal(kind);
        (of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?)
    };
    thread::spawn(move || -> Infallible {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        // Whoever holds the list keeps the bench from starting anything more.
        let pids = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        for process in pids.iter().flat_map(|&pid| tree(pid)) {
            self::signal(process.pid, Signal::KILL);
        }
        // A file that is being written while the directory is emptied fails the first attempt.
        let _ = (0..10).find(|_| std::fs::remove_dir_all(&directory).is_ok());
        std::process::exit(130)
    });
    Ok(())
}

fn settle(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn tree(pid: i32) -> Vec<Process> {
    let Ok(process) = Process::new(pid) else { return Vec::new() };
    let tasks = process.tasks().into_iter().flatten().flatten();
    let children: Vec<u32> = tasks.filter_map(|task| task.children().ok()).flatten().collect();
    let descendants = children.into_iter().flat_map(|child| tree(child.cast_signed()));
    std::iter::once(process).chain(descendants).collect()
}

/// A process that is gone already needs no signal.
fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
