//! From a socket's inode to the process that holds it, by `/proc/PID/fd`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

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
    /// The systemd service or container scope it runs in; `None` for a login session.
    pub unit: Option<String>,
}

/// The holders of the sockets with these inodes, as far as this process may look.
pub(super) fn of(inodes: &HashSet<u64>) -> HashMap<u64, Process> {
    let mut found = HashMap::new();
    if inodes.is_empty() {
        return found;
    }
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

/// Every process, oldest number first, but the first of all last.
fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable_by_key(|pid| (*pid == 1, *pid));
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

fn process(pid: u32) -> Option<Process> {
    let of_process = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    Some(Process {
        pid,
        comm: printable(of_process("comm")?.trim_end()),
        exe: fs::read_link(format!("/proc/{pid}/exe")).ok(),
        unit: of_process("cgroup").and_then(|text| unit(&text)).map(|unit| printable(&unit)),
    })
}

/// A process chooses its name, and the name is shown on the operator's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The innermost service or scope of `/proc/PID/cgroup`, in the unified hierarchy or systemd's own.
fn unit(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    })?;
    let manages = |name: &&str| {
        name.ends_with(".service")
            || (name.ends_with(".scope") && !name.starts_with("session-") && *name != "init.scope")
    };
    let unit = path.split('/').rfind(manages)?;
    (!unit.starts_with("user@")).then(|| unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_innermost_service_or_scope() {
        let of = |text: &str| unit(text);
        assert_eq!(of("0::/system.slice/nginx.service\n").as_deref(), Some("nginx.service"));
        let v1 = "12:pids:/x\n1:name=systemd:/system.slice/ssh.service\n";
        assert_eq!(of(v1).as_deref(), Some("ssh.service"));
        let nested = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n";
        assert_eq!(of(nested).as_deref(), Some("web.service"));
        let container = "0::/system.slice/docker-0a1b.scope/payload\n";
        assert_eq!(of(container).as_deref(), Some("docker-0a1b.scope"));
    }

    #[test]
    fn a_login_session_is_no_unit() {
        assert_eq!(unit("0::/user.slice/user-1000.slice/session-3.scope\n"), None);
        assert_eq!(unit("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n"), None);
        assert_eq!(unit("0::/\n"), None);
        assert_eq!(unit(""), None);
    }

    #[test]
    fn reads_the_inode_of_a_socket_link_only() {
        assert_eq!(inode(Path::new("socket:[42]")), Some(42));
        assert_eq!(inode(Path::new("pipe:[42]")), None);
        assert_eq!(inode(Path::new("/dev/null")), None);
    }

    #[test]
    fn a_name_cannot_write_on_the_terminal() {
        assert_eq!(printable("evil\u{1b}[2J"), "evil?[2J");
    }
}
