//! Who listens on these ports on this host.

use std::collections::BTreeMap;
use std::{fmt, io};

use crate::audit::registry::{Entry, Protocol};
use crate::audit::sockets::{self, Listening};

/// What was seen of this host's listeners.
#[derive(Debug)]
pub(super) struct Here {
    seen: io::Result<Vec<Listening>>,
    is_root: bool,
}

/// Sockets of one holder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// `0.0.0.0`, `[::1]`.
    pub(super) addresses: Vec<String>,
    /// Who, in words.
    pub(super) holder: String,
    /// Whether the process is known.
    pub(super) is_known: bool,
}

/// `0.0.0.0, [::] by sshd (pid 612, user root, ssh.service)`
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.addresses.join(", "), self.holder)
    }
}

impl Here {
    /// Looks at the listening TCP sockets on the ports of these entries. UDP is not looked at.
    pub(super) fn look(entries: &[Entry<'_>]) -> Self {
        let wanted = |port: u16| {
            let at = entries.binary_search_by_key(&port, |entry| entry.port).ok();
            let entry = at.and_then(|at| entries.get(at));
            entry.is_some_and(|entry| entry.protocols.has(Protocol::Tcp))
        };
        // Even an empty table takes the kernel some milliseconds.
        let seen = match entries.iter().any(|entry| entry.protocols.has(Protocol::Tcp)) {
            true => sockets::listening_on(wanted),
            false => Ok(Vec::new()),
        };
        Self { seen, is_root: rustix::process::geteuid().is_root() }
    }

    /// Why nothing could be seen.
    pub(super) fn error(&self) -> Option<String> {
        self.seen.as_ref().err().map(|error| format!("cannot read /proc/net/tcp: {error}"))
    }

    /// The sockets on a port.
    pub(super) fn on(&self, port: u16) -> &[Listening] {
        let all = self.seen.as_deref().unwrap_or_default();
        let first = all.partition_point(|socket| socket.address.port() < port);
        let after = all.partition_point(|socket| socket.address.port() <= port);
        all.get(first..after).unwrap_or_default()
    }

    /// The sockets on a port, by holder.
    pub(super) fn held(&self, port: u16) -> Vec<Held> {
        let mut by_holder: BTreeMap<String, Held> = BTreeMap::new();
        for socket in self.on(port) {
            let holder = self.holder(socket);
            let held = by_holder.entry(holder.clone()).or_insert_with(|| Held {
                addresses: Vec::new(),
                holder,
                is_known: socket.process.is_some(),
            });
            let address = match socket.address {
                std::net::SocketAddr::V4(address) => address.ip().to_string(),
                std::net::SocketAddr::V6(address) => format!("[{}]", address.ip()),
            };
            if !held.addresses.contains(&address) {
                held.addresses.push(address);
            }
        }
        by_holder.into_values().collect()
    }

    fn holder(&self, socket: &Listening) -> String {
        match &socket.process {
            // Root may look into everything, so there is no process to be seen.
            None if self.is_root => {
                "the kernel (NFS, iSCSI) or a process that cannot be seen from here".to_owned()
            }
            _ => socket.holder(),
        }
    }

    /// How to learn who holds a socket whose holder is not known.
    pub(super) fn remedy(&self, question: &str) -> Option<String> {
        let told = format!("To see who: sudo portcullis ports {question}");
        (!self.is_root).then(|| told.trim_end().to_owned())
    }
}

#[cfg(test)]
impl Here {
    /// As if these had been seen.
    pub(super) fn of(seen: io::Result<Vec<Listening>>, is_root: bool) -> Self {
        Self { seen, is_root }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audit::registry::Registry;
    use crate::audit::sockets::{Place, Process, State};

    /// A socket of sshd, or of somebody unseen.
    pub(in crate::cli::ports) fn socket(address: &str, is_seen: bool) -> Listening {
        let process = Process {
            pid: 612,
            comm: "sshd".to_owned(),
            exe: Some("/usr/sbin/sshd".into()),
            uid: Some(0),
            arguments: vec!["sshd".into()],
            place: Place { unit: Some("ssh.service".to_owned()), ..Place::default() },
        };
        let address = address.parse().unwrap();
        let process = is_seen.then_some(process);
        Listening { address, v6_only: false, state: State::Listens, inode: 7, uid: 0, process }
    }

    #[test]
    fn sockets_of_one_holder_are_told_together() {
        let all = ["0.0.0.0:22", "[::]:22", "127.0.0.1:80"].map(|at| socket(at, true)).to_vec();
        let here = Here::of(Ok(all), false);
        let held = here.held(22);
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].addresses, ["0.0.0.0", "[::]"]);
        assert_eq!(held[0].holder, "sshd (pid 612, user root, ssh.service)");
        assert_eq!(here.held(80).len(), 1);
        assert!(here.held(443).is_empty());
    }

    #[test]
    fn that_the_holder_was_not_seen_is_said_with_the_remedy() {
        let unseen = || Ok(vec![socket("0.0.0.0:22", false)]);
        let held = Here::of(unseen(), false).held(22);
        assert!(held[0].holder.contains("into which this user may not look") && !held[0].is_known);
        let remedy = Here::of(unseen(), false).remedy("22").unwrap();
        assert_eq!(remedy, "To see who: sudo portcullis ports 22");
        let as_root = Here::of(unseen(), true);
        assert!(as_root.held(22)[0].holder.contains("the kernel (NFS"));
        assert_eq!(as_root.remedy("22"), None);
    }

    #[test]
    fn only_the_ports_in_question_are_looked_at() {
        let one = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        let registry = Registry::read();
        let found = Here::look(&[registry.entry(port)]);
        assert!(found.on(port).iter().any(|socket| socket.address.port() == port));
        let udp = Here::look(&[registry.lookup(port, Protocol::Udp)]);
        assert!(udp.on(port).is_empty());
        assert!(Here::look(&[]).on(port).is_empty());
    }
}
