//! Sockets that were passed at the start: by systemd, or by a predecessor (sd_listen_fds(3)).

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use listenfd::ListenFd;
use rustix::net::{ipproto, sockopt};
use socket2::SockRef;

use super::bind::{BoundListener, Company, ListenerKind};
use crate::config::Listen;
use crate::helper::ready;

/// Names of sockets that are no listeners of the configuration when a predecessor passes them:
/// [`Passed::take_named`] gives them out, and nothing else does.
const OTHERS: [&str; 5] = ["metrics", "control", "notify", "keys", "ready"];

/// What systemd calls a socket that has no name (sd_listen_fds_with_names(3)).
const UNNAMED: &str = "unknown";

/// More than anybody passes: a number beyond it is a mistake.
const MOST: usize = 256;

/// As many descriptors that are no sockets are told one by one; of more, their number.
const FEW: usize = 3;

/// The sockets that were passed and have no use yet. What is left is closed when this is dropped.
#[derive(Debug, Default)]
pub struct Passed {
    sockets: Vec<Socket>,
    /// Words on what cannot be used.
    refused: Vec<String>,
    any: bool,
    /// Whether a predecessor passed them: each stands for the address that it is bound to, and the
    /// configuration may have changed since.
    inherited: bool,
}

/// A passed socket that serves an address of the configuration.
#[derive(Debug)]
pub struct Assigned {
    /// What is spoken on it.
    pub kind: ListenerKind,
    /// The address of the configuration that it stands for.
    pub listen: Listen,
    /// Its own address, which may differ: see [`Passed::assign`].
    pub address: SocketAddr,
    /// Non-blocking, closed on exec; accepted sockets inherit `TCP_NODELAY`.
    pub socket: TcpListener,
}

impl Passed {
    /// Takes all that the environment names (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`): to be
    /// called once, by the only thread there is.
    #[must_use]
    pub fn take() -> Self {
        // The names first: their companions are gone from the environment once they are taken.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let variable = |name| std::env::var(name).ok();
        let (count, pid) = (variable("LISTEN_FDS"), variable("LISTEN_PID"));
        if let Some(why) = unusable(count.as_deref(), pid.as_deref(), std::process::id()) {
            return Self { refused: vec![why], ..Self::default() };
        }
        let mut list = ListenFd::from_env();
        let mut passed = Self { any: list.len() > 0, ..Self::default() };
        for (index, name) in (0..list.len()).zip(names.split(':').chain(std::iter::repeat(""))) {
            match Socket::take(&mut list, index, name) {
                Ok(socket) => passed.sockets.push(socket),
                Err(why) => passed.refused.push(why),
            }
        }
        if passed.refused.len() > FEW {
            let (all, wrong) = (list.len(), passed.refused.len());
            let text = format!("LISTEN_FDS says {all}, but {wrong} of those are no sockets");
            passed.refused = vec![text];
        }
        passed.inherited = passed.sockets.iter().any(Socket::is_from_a_predecessor);
        passed
    }

    /// Whether a predecessor passed them.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Why nothing could be taken of what was passed, or not all: to be told before anything is
    /// bound in its place. It is told once.
    pub fn take_refused(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refused)
    }

    /// The addresses on which a predecessor listens for `kind`; none where there is no predecessor.
    #[must_use]
    pub fn inherited(&self, kind: ListenerKind) -> Vec<SocketAddr> {
        let sockets = self.sockets.iter().filter(|_| self.inherited);
        let identities = sockets.filter_map(|socket| socket.identity(true));
        identities.filter(|(role, _)| *role == Some(kind)).map(|(_, address)| address).collect()
    }

    /// Whether anything was passed at all.
    #[must_use]
    pub fn any(&self) -> bool {
        self.any
    }

    /// Gives the listening TCP sockets to the addresses of the configuration.
    ///
    /// One named `http` or `https` serves an address of that kind: the one that is its own, else
    /// the one with its port, else one that no other socket serves. It serves it even where its
    /// address differs, because whoever named it meant it so. One with another name serves the
    /// address with its port. Several may serve one address, as those of two families do.
    ///
    /// Those of a predecessor serve the very address that is their own, or none.
    pub fn assign(&mut self, wanted: &[(ListenerKind, Listen)]) -> Vec<Assigned> {
        let addresses: Vec<_> =
            self.sockets.iter().map(|socket| socket.identity(self.inherited)).collect();
        let mut chosen: Vec<Option<usize>> = addresses
            .iter()
            .map(|identity| {
                identity.and_then(|(role, at)| choose(role, at, wanted, self.inherited))
            })
            .collect();
        for (index, identity) in addresses.into_iter().enumerate() {
            let Some((Some(role), _)) = identity else { continue };
            if self.inherited || chosen.get(index) != Some(&None) {
                continue;
            }
            let of_kind = || (0..).zip(wanted).filter(|(_, (kind, _))| *kind == role);
            let free = of_kind().find(|(place, _)| !chosen.contains(&Some(*place)));
            let place = free.or_else(|| of_kind().next()).map(|(place, _)| place);
            if let Some(choice) = chosen.get_mut(index) {
                *choice = place;
            }
        }
        let mut assigned = Vec::new();
        let mut left = Vec::new();
        for (socket, place) in std::mem::take(&mut self.sockets).into_iter().zip(chosen) {
            match (place.and_then(|place| wanted.get(place)), socket.address) {
                (Some((kind, listen)), Some(address)) => match prepared(socket.fd) {
                    Ok(socket) => {
                        assigned.push(Assigned { kind: *kind, listen: *listen, address, socket });
                    }
                    Err(error) => self.refused.push(format!("the socket on {address}: {error}")),
                },
                _ => left.push(socket),
            }
        }
        self.sockets = left;
        assigned
    }

    /// Binds, beside the sockets of a predecessor where there are any: those that nothing wants now
    /// may stand in the way, and are closed soon.
    pub(super) fn beside<E>(
        &self,
        bind: impl FnOnce(Company) -> Result<Vec<BoundListener>, E>,
    ) -> Result<Vec<BoundListener>, E> {
        let leaving = self.sockets.iter().filter(|socket| socket.address.is_some());
        let leaving: Vec<_> = leaving.filter(|_| self.inherited).map(|s| s.fd.as_fd()).collect();
        if leaving.is_empty() {
            return bind(Company::Alone);
        }
        let share = |sockets: &[BorrowedFd<'_>], shared| {
            for socket in sockets {
                // Without it the bind fails, and says why.
                let _ = SockRef::from(socket).set_reuse_port(shared);
            }
        };
        share(&leaving, true);
        let bound = bind(Company::Beside);
        share(&leaving, false);
        if let Ok(bound) = &bound {
            share(&bound.iter().map(|new| new.socket.as_fd()).collect::<Vec<_>>(), false);
        }
        bound
    }

    /// The next socket of this name, whatever it is, where a predecessor passed it.
    pub fn take_named(&mut self, name: &str) -> Option<OwnedFd> {
        if self.inherited { self.take_fitting(name, |_| true) } else { None }
    }

    /// The next socket of this name that is as it has to be. One that is not stays, and is told
    /// with what nobody wants.
    pub fn take_fitting(
        &mut self,
        name: &str,
        fits: impl Fn(&SockRef<'_>) -> bool,
    ) -> Option<OwnedFd> {
        let is_it = |socket: &Socket| socket.name == name && fits(&SockRef::from(&socket.fd));
        let index = self.sockets.iter().position(is_it)?;
        Some(self.sockets.remove(index).fd)
    }

    /// What nobody wants and what cannot be used, in words.
    #[must_use]
    pub fn leftover(&self) -> Vec<String> {
        let unwanted = self.sockets.iter().map(|socket| match socket.address {
            Some(_) => format!("{socket} is closed: no listener of the configuration wants it"),
            None if OTHERS.contains(&&*socket.name) => {
                format!("{socket} is closed: the configuration has no use for it")
            }
            None => format!("{socket} is closed: a listener takes a TCP socket that listens"),
        });
        self.refused.iter().cloned().chain(unwanted).collect()
    }
}

impl Assigned {
    /// Whether the socket stands where the configuration says.
    #[must_use]
    pub fn agrees(&self) -> bool {
        agrees(self.listen, self.address)
    }
}

/// One passed socket.
#[derive(Debug)]
struct Socket {
    name: String,
    fd: OwnedFd,
    what: &'static str,
    /// Where it listens; `None` for what is no listening TCP socket.
    address: Option<SocketAddr>,
}

impl Socket {
    fn take(list: &mut ListenFd, index: usize, name: &str) -> Result<Self, String> {
        let name = if name.is_empty() { UNNAMED } else { name }.to_owned();
        let tcp = |list: &mut ListenFd| list.take_tcp_listener(index).map(|s| s.map(OwnedFd::from));
        let unix =
            |list: &mut ListenFd| list.take_unix_listener(index).map(|s| s.map(OwnedFd::from));
        let udp = |list: &mut ListenFd| list.take_udp_socket(index).map(|s| s.map(OwnedFd::from));
        let datagram =
            |list: &mut ListenFd| list.take_unix_datagram(index).map(|s| s.map(OwnedFd::from));
        // Each refuses what is of another kind and leaves it where it is.
        let (what, fd) = if let Ok(Some(fd)) = tcp(list) {
            ("TCP", fd)
        } else if let Ok(Some(fd)) = unix(list) {
            ("unix", fd)
        } else if let Ok(Some(fd)) = udp(list) {
            ("UDP", fd)
        } else if let Ok(Some(fd)) = datagram(list) {
            ("unix datagram", fd)
        } else {
            return Err(format!("descriptor {} ({name}) was passed and is no socket", index + 3));
        };
        let address = if what == "TCP" { listening(&fd) } else { None };
        Ok(Self { name, fd, what, address })
    }

    /// Whether it is what a predecessor waits at, and no listener that is called so by chance.
    fn is_from_a_predecessor(&self) -> bool {
        let listens = sockopt::socket_acceptconn(&self.fd).unwrap_or(true);
        self.name == ready::NAME && self.what == "unix" && !listens
    }

    /// The kind of listener that its name says, and its address; `None` for what is no listener.
    /// Some names are a predecessor's alone: by a service manager they say nothing.
    fn identity(&self, inherited: bool) -> Option<(Option<ListenerKind>, SocketAddr)> {
        let role = match self.name.as_str() {
            "http" => Some(ListenerKind::Http),
            "https" => Some(ListenerKind::Https),
            other if inherited && OTHERS.contains(&other) => return None,
            _ => None,
        };
        self.address.map(|address| (role, address))
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            UNNAMED => write!(f, "the passed {} socket without a name", self.what)?,
            name => write!(f, "the passed {} socket \"{name}\"", self.what)?,
        }
        self.address.map_or(Ok(()), |address| write!(f, " on {address}"))
    }
}

/// The place in `wanted` that a socket serves by its address, or else by its port.
fn choose(
    role: Option<ListenerKind>,
    address: SocketAddr,
    wanted: &[(ListenerKind, Listen)],
    exactly: bool,
) -> Option<usize> {
    let fits = |by: fn(Listen, SocketAddr) -> bool| {
        wanted.iter().position(|(kind, listen)| {
            role.is_none_or(|role| role == *kind) && by(*listen, address)
        })
    };
    fits(agrees).or_else(|| {
        if exactly { None } else { fits(|listen, address| port(listen) == address.port()) }
    })
}

/// Whether a socket is what binding to `listen` would have made; port 0 is any port.
fn agrees(listen: Listen, address: SocketAddr) -> bool {
    let is_port = |port: u16| port == 0 || port == address.port();
    match listen {
        Listen::Any(port) => address.ip().is_unspecified() && is_port(port),
        Listen::Addr(wanted) => wanted.ip() == address.ip() && is_port(wanted.port()),
    }
}

fn port(listen: Listen) -> u16 {
    match listen {
        Listen::Any(port) => port,
        Listen::Addr(address) => address.port(),
    }
}

/// Why what the environment says of passed sockets is of no use to this process, `us`.
fn unusable(count: Option<&str>, pid: Option<&str>, us: u32) -> Option<String> {
    let text = count?;
    let Ok(count) = text.parse::<usize>() else {
        return Some(format!("LISTEN_FDS is \"{text}\", which is no number: no socket is taken"));
    };
    if count >= MOST {
        return Some(format!("LISTEN_FDS says {count}, which no one passes"));
    }
    let pid = pid.filter(|pid| !pid.is_empty() && count > 0)?;
    (pid.parse() != Ok(us)).then(|| {
        format!(
            "LISTEN_PID is {pid} and this is process {us}: the passed sockets are not taken. A \
             script that stands between has to start this program with `exec`"
        )
    })
}

/// The address of a TCP socket that listens.
fn listening(fd: &OwnedFd) -> Option<SocketAddr> {
    let protocol = sockopt::socket_protocol(fd).ok()?;
    let is_tcp = matches!(protocol, Some(ipproto::TCP | ipproto::MPTCP));
    if !is_tcp || !sockopt::socket_acceptconn(fd).ok()? {
        return None;
    }
    SockRef::from(fd).local_addr().ok()?.as_socket()
}

fn prepared(fd: OwnedFd) -> io::Result<TcpListener> {
    let socket = SockRef::from(&fd);
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    socket.set_tcp_nodelay(true)?;
    Ok(fd.into())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::UnixListener;

    use super::*;

    const HTTP: ListenerKind = ListenerKind::Http;
    const HTTPS: ListenerKind = ListenerKind::Https;

    /// Sockets with these names on ports of their own, and the ports.
    fn passed(names: &[&str]) -> (Passed, Vec<u16>) {
        let mut passed = Passed { any: true, ..Passed::default() };
        let mut ports = Vec::new();
        for name in names {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            ports.push(address.port());
            let (name, fd) = ((*name).to_owned(), OwnedFd::from(listener));
            passed.sockets.push(Socket { name, fd, what: "TCP", address: Some(address) });
        }
        (passed, ports)
    }

    /// Which port serves which address.
    fn assign(passed: &mut Passed, wanted: &[(ListenerKind, Listen)]) -> Vec<(Listen, u16)> {
        let assigned = passed.assign(wanted).into_iter();
        assigned.map(|one| (one.listen, one.address.port())).collect()
    }

    fn at(port: u16) -> Listen {
        Listen::Addr(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn sockets_without_a_known_name_go_by_their_port() {
        let (mut passed, ports) = passed(&["unknown", "portcullis.socket", "web"]);
        let wanted = [(HTTP, Listen::Any(ports[1])), (HTTPS, at(ports[0]))];
        let assigned = assign(&mut passed, &wanted);
        assert_eq!(assigned, [(wanted[1].1, ports[0]), (wanted[0].1, ports[1])]);
        let left = passed.leftover();
        assert_eq!(left.len(), 1);
        assert!(left[0].contains("\"web\"") && left[0].contains("wants it"), "{left:?}");
    }

    #[test]
    fn a_name_wins_over_the_address() {
        let (mut passed, ports) = passed(&["https", "http"]);
        // The ports are exchanged: the names say what is spoken.
        let wanted = [(HTTP, at(ports[0])), (HTTPS, at(ports[1]))];
        let assigned = passed.assign(&wanted);
        let kinds: Vec<_> = assigned.iter().map(|one| (one.kind, one.address.port())).collect();
        assert_eq!(kinds, [(HTTPS, ports[0]), (HTTP, ports[1])]);
        assert!(assigned.iter().all(|one| !one.agrees()));
        assert!(passed.leftover().is_empty());
    }

    #[test]
    fn repeated_names_serve_each_its_own_address_then_the_free_one_then_the_first() {
        let (mut passed, ports) = passed(&["http", "http", "http"]);
        let wanted = [(HTTP, at(1)), (HTTP, at(ports[1]))];
        let assigned = assign(&mut passed, &wanted);
        let expected = [(at(1), ports[0]), (at(ports[1]), ports[1]), (at(1), ports[2])];
        assert_eq!(assigned, expected);
    }

    #[test]
    fn a_kind_that_is_not_configured_wants_no_socket() {
        let (mut passed, ports) = passed(&["http", "https"]);
        assert_eq!(assign(&mut passed, &[(HTTPS, at(ports[0]))]), [(at(ports[0]), ports[1])]);
        assert!(passed.leftover()[0].contains("\"http\""));
    }

    #[test]
    fn other_names_are_kept_for_those_who_ask_by_name() {
        let (mut passed, ports) = passed(&["metrics", "http"]);
        passed.inherited = true;
        assert_eq!(assign(&mut passed, &[(HTTP, at(ports[1]))]), [(at(ports[1]), ports[1])]);
        assert!(passed.take_named("control").is_none());
        let metrics = TcpListener::from(passed.take_named("metrics").unwrap());
        assert_eq!(metrics.local_addr().unwrap().port(), ports[0]);
        assert!(passed.leftover().is_empty());
    }

    /// They were closed without a word, and the address was told to be held by this very process.
    #[test]
    fn a_predecessors_names_are_any_others_when_a_service_manager_gives_them() {
        for name in ["metrics", "control", "ready", "notify", "keys"] {
            let (mut passed, ports) = passed(&[name, name]);
            assert_eq!(assign(&mut passed, &[(HTTP, at(ports[0]))]), [(at(ports[0]), ports[0])]);
            assert!(passed.take_named(name).is_none());
            assert!(passed.take_fitting(name, |_| false).is_none());
            assert!(passed.leftover()[0].contains(&format!("\"{name}\"")), "it is named");
        }
        let (listens, ready) = passed(&["ready"]);
        assert!(!listens.sockets[0].is_from_a_predecessor(), "{ready:?}");
    }

    #[test]
    fn sockets_that_are_for_another_process_are_told() {
        for (count, pid) in [(None, Some("1")), (Some("2"), None), (Some("2"), Some("7"))] {
            assert_eq!(unusable(count, pid, 7), None);
        }
        for (count, pid, words) in [
            ("abc", None, "LISTEN_FDS is \"abc\""),
            ("256", None, "LISTEN_FDS says 256"),
            ("1", Some("1"), "LISTEN_PID is 1 and this is process 7"),
            ("1", Some("x"), "LISTEN_PID is x"),
        ] {
            let told = unusable(Some(count), pid, 7).unwrap();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn what_is_assigned_is_prepared_as_our_own() {
        let (mut passed, ports) = passed(&["http"]);
        let assigned = passed.assign(&[(HTTP, at(ports[0]))]);
        let socket = SockRef::from(&assigned[0].socket);
        assert!(socket.nonblocking().unwrap() && socket.tcp_nodelay().unwrap());
        let flags = rustix::io::fcntl_getfd(&assigned[0].socket).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn only_a_tcp_socket_that_listens_is_a_listener() {
        let folder = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(folder.path().join("s")).unwrap();
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for fd in [OwnedFd::from(unix), OwnedFd::from(udp), OwnedFd::from(silent.unwrap())] {
            assert_eq!(listening(&fd), None);
        }
        let listener = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        assert!(listening(&listener).is_some());
    }
}
