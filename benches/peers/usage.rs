//! What a tree of processes has used, as the kernel counts it.

use std::fs;

use procfs::process::Process;

use crate::Result;

/// Processor time that several processes have used since their start.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Clock ticks in user mode, of all threads that ever were.
    user: u64,
    /// Clock ticks in the kernel.
    system: u64,
    /// Nanoseconds on a CPU, of the threads that are alive.
    running: u64,
    /// Clock ticks for which their CPU was anybody's, a hypervisor's other guests included.
    taken: u64,
}

/// Processor time between two moments, in microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) user: f64,
    pub(crate) system: f64,
    /// What others have used of the same CPU: they cool its caches.
    pub(crate) others: f64,
}

impl Usage {
    /// Reads what `processes`, which sit on `cpu`, have used so far.
    pub(crate) fn of(processes: &[Process], cpu: usize) -> Result<Usage> {
        let mut usage = Usage { taken: taken(cpu)?, ..Usage::default() };
        for process in processes {
            let stat = process.stat()?;
            usage.user += stat.utime;
            usage.system += stat.stime;
            for task in process.tasks()? {
                usage.running += task?.schedstat()?.sum_exec_runtime;
            }
        }
        Ok(usage)
    }

    /// The time used since `earlier`.
    ///
    /// `/proc/PID/stat` knows user from system time, but only in ticks of 10 ms; `schedstat` knows
    /// the sum to the last scheduling, but forgets threads that end. So the sum comes from the
    /// second and its split from the first, unless a thread has ended in between.
    pub(crate) fn since(self, earlier: Usage) -> Spent {
        let tick = 1e6 / procfs::ticks_per_second() as f64;
        let user = (self.user - earlier.user) as f64 * tick;
        let system = (self.system - earlier.system) as f64 * tick;
        let ticked = user + system;
        let exact = self.running.saturating_sub(earlier.running) as f64 / 1e3;
        let scale =
            if ticked == 0.0 || exact < ticked * 0.95 - 40e3 { 1.0 } else { exact / ticked };
        let others = ((self.taken - earlier.taken) as f64 * tick - ticked).max(0.0);
        Spent { user: user * scale, system: system * scale, others }
    }
}

/// The proportional set size of `processes` in KiB.
pub(crate) fn pss(processes: &[Process]) -> Result<u64> {
    processes.iter().map(pss_of).sum()
}

fn pss_of(process: &Process) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no Pss in smaps")?;
    Ok(kib.parse()?)
}

/// Clock ticks in user mode, at a nice level, in the kernel, and stolen; interrupts are left out,
/// as those of the loopback are the proxy's own.
fn taken(cpu: usize) -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{cpu} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name)).ok_or("no such CPU")?;
    let ticks = line.split_whitespace().map(str::parse::<u64>);
    let counted = ticks.enumerate().filter(|(column, _)| matches!(column, 0..=2 | 7));
    Ok(counted.map(|(_, ticks)| ticks).sum::<std::result::Result<u64, _>>()?)
}
