//! What decides whether this process may bind a low port, as `/proc` and its file tell.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use socket2::{Domain, Socket, Type};

use super::file_capability::OnFile;
use crate::audit::sockets::{self, Place};

/// What decides whether this thread may bind a low port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// Which capability sets contain `CAP_NET_BIND_SERVICE`.
    pub bind: Sets,
    /// Whether exec cannot gain rights, so that file capabilities have no effect.
    pub no_new_privs: bool,
    /// Whether system calls are filtered.
    pub filtered: bool,
    /// Who traces this process: a program that is traced gains nothing from its file.
    pub tracer: Option<u32>,
    /// Whether it is in a user namespace below the first, whose root is not the host's.
    pub below: bool,
    /// Whether it has the right, which is not good for its network: that one belongs to a user
    /// namespace above its own.
    pub elsewhere: bool,
    /// The lowest port that needs no right: `net.ipv4.ip_unprivileged_port_start`.
    pub free_from: u16,
    /// The AppArmor profile that confines it.
    pub profile: Option<String>,
    /// The unit that it was started by.
    pub place: Place,
    /// The program's file.
    pub program: Program,
    /// The command line after the program.
    pub arguments: Vec<OsString>,
}

/// The capability sets of a thread that contain one capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// In force now.
    pub effective: bool,
    /// May be put in force.
    pub permitted: bool,
    /// Kept across exec of a file that says so.
    pub inheritable: bool,
    /// May ever be gained.
    pub bounding: bool,
    /// Kept across exec of an ordinary file.
    pub ambient: bool,
}

/// The file of the running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub file: PathBuf,
    /// What it says about the capability.
    pub capability: OnFile,
    /// Whether its file system is mounted so that file capabilities have no effect.
    pub nosuid: bool,
    /// Whether its file system is mounted read-only, so that nothing can be set there.
    pub read_only: bool,
    /// Whether it was started by way of the dynamic loader, whose file counts then.
    pub by_loader: bool,
    /// The home of a person, or of a build: what is set there does not last, and others may not
    /// reach it.
    pub passing: bool,
}

impl Rights {
    /// Of the calling thread. What `/proc` does not tell counts as not held.
    #[must_use]
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let users = fs::read_to_string("/proc/self/uid_map");
        let below = users.is_ok_and(|map| is_below(&map));
        let bind = Sets::parse(&status);
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            bind,
            no_new_privs: field(&status, "NoNewPrivs:") == Some("1"),
            filtered: field(&status, "Seccomp:").is_some_and(|mode| mode != "0"),
            tracer: field(&status, "TracerPid:")
                .and_then(|pid| pid.parse().ok())
                .filter(|p| *p > 0),
            below,
            elsewhere: below && (bind.effective || bind.permitted) && !is_good_here(),
            free_from: start.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024),
            profile: profile(),
            place: Place::parse(&cgroup),
            program: Program::read(),
            arguments: std::env::args_os().skip(1).collect(),
        }
    }

    /// Whether this port may be bound, as far as these rights go.
    #[must_use]
    pub fn allow(&self, port: u16) -> bool {
        let held = self.bind.effective || self.bind.permitted;
        port == 0 || port >= self.free_from || (held && !self.elsewhere)
    }

    /// The user as people say it: `web (uid 1000)`.
    #[must_use]
    pub fn user(&self) -> String {
        format!("{} (uid {})", sockets::user_name(self.uid), self.uid)
    }
}

impl Program {
    fn read() -> Self {
        let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("portcullis"));
        let exe = there_again(exe);
        let by_loader = is_loader(&exe);
        // The loader hands the program its own name as the first argument.
        let named = std::env::args_os().next().filter(|_| by_loader).map(PathBuf::from);
        let file = named.map_or(exe, |named| fs::canonicalize(&named).unwrap_or(named));
        let flags = rustix::fs::statvfs(&file).map(|fs| fs.f_flag);
        let flags = flags.unwrap_or(StatVfsMountFlags::empty());
        Self {
            capability: OnFile::of(&file),
            nosuid: flags.contains(StatVfsMountFlags::NOSUID),
            read_only: flags.contains(StatVfsMountFlags::RDONLY),
            by_loader,
            passing: is_passing(&file),
            file,
        }
    }
}

/// Where a new version is, when the file of the running one was removed (proc_pid_exe(5)).
fn there_again(exe: PathBuf) -> PathBuf {
    match exe.to_str().and_then(|name| name.strip_suffix(" (deleted)")) {
        Some(name) if !exe.exists() => PathBuf::from(name),
        _ => exe,
    }
}

/// `ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1`, `ld.so`.
fn is_loader(exe: &Path) -> bool {
    let name = exe.file_name().unwrap_or_default().to_string_lossy();
    name == "ld.so" || (name.starts_with("ld-") && name.contains(".so"))
}

fn is_passing(file: &Path) -> bool {
    let build = ["debug", "release", "quick"];
    let in_build = file.parent().and_then(Path::file_name).is_some_and(|folder| {
        build.iter().any(|build| folder == *build)
            && file.ancestors().nth(2).and_then(Path::file_name).is_some_and(|it| it == "target")
    });
    in_build || ["/home", "/root", "/tmp", "/var/tmp"].iter().any(|home| file.starts_with(home))
}

/// Whether the right is good for this network, tried with a port that no configuration has and
/// without listening there: the kernel tells in no other way.
fn is_good_here() -> bool {
    super::super::caps::raise_bind();
    let bind = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1)).into())
    };
    let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    !bind().is_err_and(denied)
}

/// Whether the users of this namespace are not the host's own, one to one (user_namespaces(7)): an
/// empty map is that of a namespace whose users are nobody's.
fn is_below(map: &str) -> bool {
    let first = map.split_ascii_whitespace().collect::<Vec<_>>();
    first.as_slice() != ["0", "0", "4294967295"]
}

/// The AppArmor profile of this process: `name (enforce)` in the file.
fn profile() -> Option<String> {
    let text = ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"]
        .iter()
        .find_map(|file| fs::read_to_string(file).ok())?;
    let text = text.trim_end_matches(['\0', '\n']);
    // SELinux has the second file for its own contexts.
    text.strip_suffix(" (enforce)").map(sockets::printable)
}

impl Sets {
    /// From the text of `/proc/PID/status` (proc_pid_status(5)).
    fn parse(status: &str) -> Self {
        let has = |name| {
            let bits = field(status, name).and_then(|hex| u64::from_str_radix(hex, 16).ok());
            bits.is_some_and(|bits| bits & caps::Capability::CAP_NET_BIND_SERVICE.bitmask() != 0)
        };
        Self {
            effective: has("CapEff:"),
            permitted: has("CapPrm:"),
            inheritable: has("CapInh:"),
            bounding: has("CapBnd:"),
            ambient: has("CapAmb:"),
        }
    }
}

impl fmt::Display for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |held| if held { "yes" } else { "no" };
        write!(
            f,
            "effective: {}, permitted: {}, inheritable: {}, bounding: {}, ambient: {}",
            word(self.effective),
            word(self.permitted),
            word(self.inheritable),
            word(self.bounding),
            word(self.ambient)
        )
    }
}

/// The first word after `name` in a file of `Name: value` lines.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_are_read_from_the_status_file() {
        let status = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000400\n\
                      CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n\
                      CapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";
        let sets = Sets { permitted: true, bounding: true, ..Sets::default() };
        assert_eq!(Sets::parse(status), sets);
        assert_eq!(field(status, "NoNewPrivs:"), Some("1"));
        assert_eq!(Sets::parse(""), Sets::default());
    }

    #[test]
    fn rights_allow_high_ports_and_with_the_capability_low_ones() {
        let mut rights = Rights { free_from: 1024, bind: Sets::default(), ..Rights::read() };
        assert!(!rights.allow(443) && rights.allow(1024) && rights.allow(0));
        rights.bind.permitted = true;
        assert!(rights.allow(443));
    }

    #[test]
    fn a_program_in_a_home_or_a_build_is_only_passing_by() {
        let passing = |file: &str| is_passing(Path::new(file));
        assert!(passing("/home/web/portcullis") && passing("/root/portcullis"));
        assert!(passing("/srv/src/portcullis/target/release/portcullis"));
        assert!(!passing("/usr/local/bin/portcullis") && !passing("/opt/release/portcullis"));
        assert!(!passing("/opt/target/portcullis"));
    }

    #[test]
    fn a_removed_program_is_told_by_its_name() {
        assert_eq!(there_again("/no/such (deleted)".into()), Path::new("/no/such"));
        assert_eq!(there_again("/bin/sh".into()), Path::new("/bin/sh"));
    }

    #[test]
    fn the_loader_is_known_by_its_name() {
        for loader in ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1", "/usr/bin/ld.so"]
        {
            assert!(is_loader(Path::new(loader)), "{loader}");
        }
        assert!(!is_loader(Path::new("/usr/bin/ld-portcullis")));
    }

    #[test]
    fn the_first_user_namespace_is_known_by_its_map() {
        assert!(!is_below("         0          0 4294967295\n"));
        assert!(is_below(""));
        assert!(is_below("         0       1000          1\n"));
        assert!(is_below("0 0 65536\n"));
    }
}
