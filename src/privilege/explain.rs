//! Why a bind failed, and the command for this host that mends it.

use std::fmt::{self, Write as _};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::audit::sockets::{self, Listening};

/// What decides whether this thread may bind a low port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The effective user.
    pub uid: u32,
    /// Which capability sets contain `CAP_NET_BIND_SERVICE`.
    pub bind: Sets,
    /// Whether exec cannot gain rights, so that file capabilities have no effect.
    pub no_new_privs: bool,
    /// Whether the program's file system is mounted `nosuid`, with the same consequence.
    pub nosuid: bool,
    /// The lowest port that needs no right: `net.ipv4.ip_unprivileged_port_start`.
    pub free_from: u16,
    /// The program's file, for the command.
    pub exe: PathBuf,
}

/// The capability sets of a thread that contain one capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// In force now.
    pub effective: bool,
    /// May be put in force.
    pub permitted: bool,
    /// May ever be gained.
    pub bounding: bool,
    /// Kept across exec of an ordinary file.
    pub ambient: bool,
}

impl Rights {
    /// Of the calling thread. What `/proc` does not tell counts as not held.
    #[must_use]
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("portcullis"));
        let nosuid = rustix::fs::statvfs(&exe)
            .is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID));
        Self {
            uid: rustix::process::geteuid().as_raw(),
            bind: Sets::parse(&status),
            no_new_privs: field(&status, "NoNewPrivs:") == Some("1"),
            nosuid,
            free_from: start.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024),
            exe,
        }
    }

    /// Whether this port may be bound, as far as these rights go.
    #[must_use]
    pub fn allow(&self, port: u16) -> bool {
        port == 0 || port >= self.free_from || self.bind.effective || self.bind.permitted
    }

    /// Which right is missing, in one sentence.
    #[must_use]
    pub fn missing(&self) -> String {
        if self.bind.effective {
            return "this process has CAP_NET_BIND_SERVICE, so that a security module (SELinux, \
                    AppArmor, Landlock) or another network namespace's owner must be the one that \
                    refuses"
                .to_owned();
        }
        format!(
            "ports below {} need root or CAP_NET_BIND_SERVICE, which user {} (uid {}) does not have",
            self.free_from,
            sockets::user_name(self.uid),
            self.uid,
        )
    }

    /// The one command or setting to begin with.
    #[must_use]
    pub fn remedy(&self) -> String {
        let unit = "in a systemd unit: AmbientCapabilities=CAP_NET_BIND_SERVICE";
        let exe = self.exe.display();
        if self.bind.effective {
            "see what the kernel says: sudo dmesg | tail; sudo ausearch -m avc -ts recent"
                .to_owned()
        } else if !self.bind.bounding {
            format!(
                "the bounding set lacks it, so that no file capability can give it: allow it where \
                 this process is started (docker run --cap-add NET_BIND_SERVICE; {unit})"
            )
        } else if self.no_new_privs {
            format!(
                "no_new_privs is set on this process, so that file capabilities have no effect: \
                 allow it where the process is started ({unit})"
            )
        } else if self.nosuid {
            format!(
                "{exe} is on a file system mounted nosuid, where file capabilities have no effect: \
                 sudo install -m 0755 {exe} /usr/local/bin/portcullis && \
                 sudo setcap cap_net_bind_service=p /usr/local/bin/portcullis"
            )
        } else {
            format!("sudo setcap cap_net_bind_service=p {exe}")
        }
    }

    /// The whole explanation of a refused bind, a line for each way out.
    #[must_use]
    pub fn explain(&self, port: u16) -> String {
        let mut text = format!("Not permitted: {} ({}).\n", self.missing(), self.bind);
        let _ = writeln!(text, "To allow it, one of:");
        let _ = writeln!(text, "  {}", self.remedy());
        if !self.bind.effective && port < self.free_from {
            let _ = writeln!(
                text,
                "  sudo sysctl -w net.ipv4.ip_unprivileged_port_start={}   (for every program of this host)",
                port.min(80)
            );
        }
        text.push_str("  listen on high ports instead, such as :8000 and :8443");
        text
    }
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
            "effective: {}, permitted: {}, bounding: {}, ambient: {}",
            word(self.effective),
            word(self.permitted),
            word(self.bounding),
            word(self.ambient)
        )
    }
}

/// Who stands where we wanted to stand, and how to make room.
#[must_use]
pub fn taken(wanted: SocketAddr, listening: &[Listening]) -> String {
    let mut holders: Vec<&Listening> =
        listening.iter().filter(|socket| socket.collides_with(wanted)).collect();
    holders.dedup_by_key(|socket| socket.process.as_ref().map(|process| process.pid));
    let Some(first) = holders.first() else {
        return format!(
            "Port {} is taken, but no listening socket of this network namespace holds it: \
             a socket that is bound without listening, or one that went away just now. Try again.",
            wanted.port()
        );
    };
    let names: Vec<String> =
        holders.iter().map(|socket| format!("{} on {}", socket.holder(), socket.address)).collect();
    format!("Port {} is held by {}.\n{}", wanted.port(), names.join(" and by "), make_room(first))
}

fn make_room(socket: &Listening) -> String {
    let port = socket.address.port();
    let Some(process) = &socket.process else {
        return format!("To see which: sudo ss -ltnp 'sport = :{port}'");
    };
    match &process.unit {
        _ if process.pid == std::process::id() => {
            "It is this very process: two of the addresses to listen on overlap.".to_owned()
        }
        _ if process.pid == 1 => {
            "To see which unit's socket it is: systemctl list-sockets".to_owned()
        }
        Some(unit) if unit.ends_with(".service") => {
            format!("To free it: sudo systemctl disable --now {unit}; or choose another port.")
        }
        _ => {
            format!("To free it: stop that program (kill {}); or choose another port.", process.pid)
        }
    }
}

/// The first word after `name` in a file of `Name: value` lines.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sockets::Process;

    fn rights() -> Rights {
        Rights {
            uid: 4_000_000_123,
            bind: Sets { bounding: true, ..Sets::default() },
            no_new_privs: false,
            nosuid: false,
            free_from: 1024,
            exe: "/opt/portcullis".into(),
        }
    }

    fn held_by(pid: u32, comm: &str, unit: Option<&str>) -> Listening {
        let process =
            Process { pid, comm: comm.to_owned(), exe: None, unit: unit.map(ToOwned::to_owned) };
        Listening {
            address: "0.0.0.0:80".parse().unwrap(),
            inode: 9,
            uid: 0,
            process: Some(process),
        }
    }

    #[test]
    fn the_sets_are_read_from_the_status_file() {
        let status = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000400\n\
                      CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n\
                      CapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";
        let sets = Sets { effective: false, permitted: true, bounding: true, ambient: false };
        assert_eq!(Sets::parse(status), sets);
        assert_eq!(field(status, "NoNewPrivs:"), Some("1"));
        assert_eq!(Sets::parse(""), Sets::default());
    }

    #[test]
    fn an_ordinary_user_is_told_to_set_the_file_capability() {
        let text = rights().explain(80);
        assert!(text.contains("uid 4000000123"), "{text}");
        assert!(text.contains("bounding: yes"), "{text}");
        assert!(text.contains("sudo setcap cap_net_bind_service=p /opt/portcullis"), "{text}");
        assert!(text.contains("ip_unprivileged_port_start=80"), "{text}");
        assert!(text.contains(":8443"), "{text}");
    }

    #[test]
    fn setcap_is_not_advised_where_it_has_no_effect() {
        let advice = |change: fn(&mut Rights)| {
            let mut rights = rights();
            change(&mut rights);
            rights.explain(443)
        };
        assert!(!advice(|r| r.bind.bounding = false).contains("setcap"));
        assert!(!advice(|r| r.no_new_privs = true).contains("setcap"));
        let moved = advice(|r| r.nosuid = true);
        assert!(moved.contains("setcap cap_net_bind_service=p /usr/local/bin"), "{moved}");
        assert!(!advice(|r| r.bind.effective = true).contains("setcap"));
    }

    #[test]
    fn rights_allow_high_ports_and_with_the_capability_low_ones() {
        let mut rights = rights();
        assert!(!rights.allow(443) && rights.allow(1024) && rights.allow(0));
        rights.bind.permitted = true;
        assert!(rights.allow(443));
    }

    #[test]
    fn the_holder_is_named_with_the_way_to_stop_it() {
        let wanted = "[::]:80".parse().unwrap();
        let text = taken(wanted, &[held_by(812, "nginx", Some("nginx.service"))]);
        assert!(text.contains("nginx (pid 812, user root, nginx.service)"), "{text}");
        assert!(text.contains("systemctl disable --now nginx.service"), "{text}");
        assert!(taken(wanted, &[held_by(99, "node", None)]).contains("kill 99"));
        assert!(taken(wanted, &[held_by(1, "systemd", None)]).contains("list-sockets"));
        let ours = held_by(std::process::id(), "portcullis", None);
        assert!(taken(wanted, &[ours]).contains("this very process"));
    }

    #[test]
    fn a_holder_out_of_sight_is_said_to_be_so() {
        let hidden = Listening { process: None, ..held_by(1, "", None) };
        let text = taken("127.0.0.1:80".parse().unwrap(), &[hidden]);
        assert!(text.contains("may not look into") && text.contains("sudo ss -ltnp"), "{text}");
        let nobody = taken("127.0.0.1:81".parse().unwrap(), &[]);
        assert!(nobody.contains("no listening socket"), "{nobody}");
    }
}
