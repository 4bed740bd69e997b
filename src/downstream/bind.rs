//! Taking the addresses, before any thread exists and while the right to do so is there.

mod errors;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::passed::{Assigned, Passed};
use crate::config::{Listen, Server};
use crate::exit;
use crate::privilege::caps;
use crate::privilege::explain::{self, Explanation, Given, Wanted, When};
pub use errors::BindErrors;

/// Connections that the kernel completes while nobody accepts them. The kernel lowers it to
/// `net.core.somaxconn`, 4096 by default since Linux 5.4: more would be a wish, less would turn
/// clients away during a burst that the acceptor works off within milliseconds.
const BACKLOG: i32 = 4096;

/// The number of an interface that no host has: they are counted from 1.
const NOWHERE: Option<NonZeroU32> = NonZeroU32::new(i32::MAX.cast_unsigned());

/// A socket that listens.
#[derive(Debug)]
pub struct BoundListener {
    /// What is spoken on it.
    pub kind: ListenerKind,
    /// What was asked for.
    pub listen: Listen,
    /// What it got: the real port where 0 was asked for; `[::]` stands for both families.
    pub address: SocketAddr,
    /// Non-blocking, closed on exec; accepted sockets inherit `TCP_NODELAY`.
    pub socket: TcpListener,
    /// Whether another process has the same socket: who passed it, or a successor.
    pub is_shared: AtomicBool,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenerKind {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// An address that could not be taken.
#[derive(Debug)]
pub struct BindError {
    /// For what.
    pub kind: ListenerKind,
    /// The address.
    pub listen: Listen,
    /// How it was given.
    pub given: Given,
    /// The kernel's answer.
    pub source: io::Error,
}

/// Takes every address of the configuration, or none: by the sockets that were passed, and by
/// binding where none was. Which passed socket serves what, and what none does, is logged.
///
/// `CAP_NET_BIND_SERVICE` is made effective first where it is permitted, and stays so until
/// [`crate::privilege::after_bind`].
///
/// # Errors
/// Every address that cannot be taken; the others are free again then.
pub fn bind_all(server: &Server, passed: &mut Passed) -> Result<Vec<BoundListener>, BindErrors> {
    let http = server.http.iter().map(|listen| (ListenerKind::Http, *listen));
    let https = server.https.iter().map(|listen| (ListenerKind::Https, *listen));
    let wanted: Vec<_> = http.chain(https).collect();
    let given = |kind| match wanted.iter().filter(|(other, _)| *other == kind).count() {
        0 | 1 => Given::Alone,
        _ => Given::Among,
    };
    let mut assigned = passed.assign(&wanted);
    let (mut bound, mut failed) = (Vec::new(), Vec::new());
    for &(kind, listen) in &wanted {
        let serves = |socket: &mut Assigned| socket.kind == kind && socket.listen == listen;
        let by: Vec<_> = assigned.extract_if(.., serves).collect();
        if by.is_empty() {
            if passed.any() {
                tracing::info!("no socket was passed for {kind} on {listen}: binding it");
            }
            match passed.beside(|company| bind(kind, listen, company)) {
                Ok(listeners) => bound.extend(listeners),
                Err(error) => failed.push(BindError { given: given(kind), ..error }),
            }
        }
        bound.extend(by.into_iter().map(BoundListener::from));
    }
    BindErrors::unless_none(failed, bound)
}

/// Takes one address: one socket, which for [`Listen::Any`] serves both families.
///
/// # Errors
/// When the address cannot be taken.
pub fn bind_one(kind: ListenerKind, listen: Listen) -> Result<Vec<BoundListener>, BindError> {
    bind(kind, listen, Company::Alone)
}

/// Takes an address that overlaps with those of `leaving`, which are listeners of this process
/// that are closed once this one accepts: there is no moment in which nobody listens.
///
/// # Errors
/// When the address cannot be taken for another reason.
pub fn bind_beside(
    kind: ListenerKind,
    listen: Listen,
    leaving: &[&BoundListener],
) -> Result<Vec<BoundListener>, BindError> {
    share(leaving, true);
    let bound = bind_shared(kind, listen);
    share(leaving, false);
    if let Ok(listeners) = &bound {
        share(&listeners.iter().collect::<Vec<_>>(), false);
    }
    bound
}

/// Lets others bind beside `listeners`, or ends that.
pub fn share(listeners: &[&BoundListener], shared: bool) {
    for listener in listeners {
        // Without it the bind fails, and says why.
        let _ = SockRef::from(&listener.socket).set_reuse_port(shared);
    }
}

/// Takes an address beside listeners that are shared for the moment; the result is shared too.
///
/// # Errors
/// When the address cannot be taken for another reason.
pub fn bind_shared(kind: ListenerKind, listen: Listen) -> Result<Vec<BoundListener>, BindError> {
    bind(kind, listen, Company::Beside)
}

fn bind(
    kind: ListenerKind,
    listen: Listen,
    company: Company,
) -> Result<Vec<BoundListener>, BindError> {
    caps::raise_bind();
    let bound = match listen {
        Listen::Addr(address) => socket(address, Families::One, company),
        Listen::Any(port) => any(port, company),
    };
    let listener = |socket: TcpListener| Ok(vec![BoundListener::own(kind, listen, socket)?]);
    bound.and_then(listener).map_err(|source| BindError {
        kind,
        listen,
        given: Given::Alone,
        source,
    })
}

impl From<Assigned> for BoundListener {
    fn from(assigned: Assigned) -> Self {
        let agrees = assigned.agrees();
        let Assigned { kind, listen, address, socket } = assigned;
        if agrees {
            tracing::info!("{kind} on {listen} is served by the passed socket {address}");
        } else {
            tracing::warn!(
                "{kind} is configured on {listen} and served by the passed socket {address}: \
                 where the two differ, the socket has its way"
            );
        }
        Self { kind, listen, address, socket, is_shared: AtomicBool::new(true) }
    }
}

impl BoundListener {
    /// One that no other process has.
    ///
    /// # Errors
    /// When the socket has no address.
    pub fn own(kind: ListenerKind, listen: Listen, socket: TcpListener) -> io::Result<Self> {
        let is_shared = AtomicBool::new(false);
        Ok(Self { kind, listen, address: socket.local_addr()?, socket, is_shared })
    }

    /// Has the kernel refuse who comes from now on, while those who are connecting still arrive:
    /// closing alone resets them, and the requests that they have sent are lost. `false` where
    /// another process serves on, and where the kernel is older than 5.7 (socket(7)).
    #[must_use]
    pub fn refuse_newcomers(&self) -> bool {
        // Bound to an interface that does not exist.
        !self.is_shared.load(Ordering::Relaxed)
            && SockRef::from(&self.socket).bind_device_by_index_v4(NOWHERE).is_ok()
    }
}

impl BindError {
    /// 77 where a right is missing, 1 else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.is_permission() { exit::NOT_PERMITTED } else { exit::FAILED }
    }

    /// Whether a right is missing, rather than the address taken or absent.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.source.kind() == ErrorKind::PermissionDenied
    }

    /// Whether the kernel knows no IPv6, or the host has no such address of it.
    #[must_use]
    pub fn lacks_ipv6(&self) -> bool {
        lacks_ipv6(&self.source)
    }

    /// What happened and what to do, in a few lines for the operator, this error's own words first.
    #[must_use]
    pub fn explain(&self) -> String {
        self.explain_when(When::Start)
    }

    /// The same for one that comes too late: rights are given up once the program serves.
    #[must_use]
    pub fn explain_when(&self, when: When) -> String {
        match self.explanation(when) {
            Some(explanation) => format!("{self}\n{explanation}"),
            None => self.to_string(),
        }
    }

    /// What stands in the way; `None` where the error says it all.
    #[must_use]
    pub fn explanation(&self, when: When) -> Option<Explanation> {
        explain::failure(self.wanted(), &self.source, when)
    }

    /// What was wanted, as the configuration names it.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'static> {
        let key = match self.kind {
            ListenerKind::Http => "http",
            ListenerKind::Https => "https",
        };
        Wanted { given: self.given, ..Wanted::new(key, self.listen) }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {} for {}: {}", shown(self.listen), self.kind, self.source)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Display for ListenerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenerKind::Http => "http",
            ListenerKind::Https => "https",
        })
    }
}

/// An address as the configuration writes it: `:80`, `127.0.0.1:8080`.
#[must_use]
pub fn shown(listen: Listen) -> String {
    match listen {
        Listen::Any(port) => format!(":{port}"),
        Listen::Addr(address) => address.to_string(),
    }
}

/// Both families by one socket, and IPv4 alone where the kernel has no IPv6 (compiled out,
/// `ipv6.disable=1`, or no address of it). An address in use is not hidden by the fallback.
fn any(port: u16, company: Company) -> io::Result<TcpListener> {
    match socket((Ipv6Addr::UNSPECIFIED, port).into(), Families::Both, company) {
        Err(error) if lacks_ipv6(&error) => {
            socket((Ipv4Addr::UNSPECIFIED, port).into(), Families::One, company)
        }
        result => result,
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// What an IPv6 socket takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Families {
    One,
    Both,
}

/// Whether an address is shared for a moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    Alone,
    Beside,
}

fn socket(address: SocketAddr, families: Families, company: Company) -> io::Result<TcpListener> {
    // socket2 sets close-on-exec by itself.
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Not left to net.ipv6.bindv6only, which a host may have set either way.
        socket.set_only_v6(families == Families::One)?;
    }
    // Connections of a predecessor in TIME_WAIT do not hold the address; listeners still do.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(company == Company::Beside)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::process::Command;

    use super::*;
    use crate::privilege::explain::Rights;

    fn bind_http(listen: Listen) -> Result<BoundListener, BindError> {
        bind_one(ListenerKind::Http, listen).map(|mut bound| bound.remove(0))
    }

    fn loopback() -> Listen {
        Listen::Addr("127.0.0.1:0".parse().unwrap())
    }

    fn has_ipv6() -> bool {
        TcpListener::bind("[::1]:0").is_ok()
    }

    #[test]
    fn port_zero_gets_a_real_port_on_both_families() {
        let bound = bind_http(Listen::Any(0)).unwrap();
        let port = bound.address.port();
        assert_ne!(port, 0);
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(TcpStream::connect(("::1", port)).is_ok(), has_ipv6());
    }

    #[test]
    fn an_explicit_ipv6_wildcard_leaves_ipv4_to_others() {
        let Ok(v6) = bind_http(Listen::Addr("[::]:0".parse().unwrap())) else {
            return assert!(!has_ipv6());
        };
        assert!(TcpStream::connect(("127.0.0.1", v6.address.port())).is_err());
    }

    #[test]
    fn accepted_connections_inherit_no_delay_and_accepting_does_not_block() {
        let bound = bind_http(loopback()).unwrap();
        assert_eq!(bound.socket.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let _client = TcpStream::connect(bound.address).unwrap();
        bound.socket.set_nonblocking(false).unwrap();
        assert!(bound.socket.accept().unwrap().0.nodelay().unwrap());
    }

    #[test]
    fn a_taken_port_names_its_holder() {
        let held = bind_http(loopback()).unwrap();
        for listen in [Listen::Addr(held.address), Listen::Any(held.address.port())] {
            let error = bind_http(listen).unwrap_err();
            assert_eq!(error.exit_code(), exit::FAILED);
            let text = error.explain();
            assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
            assert!(text.contains("this very process"), "{text}");
        }
    }

    #[test]
    fn all_or_none() {
        let held = bind_http(loopback()).unwrap();
        let free = bind_http(loopback()).unwrap().address;
        let mut server = crate::config::Config::defaults().server;
        server.http = vec![Listen::Addr(free)];
        server.https = vec![Listen::Addr(held.address)];
        let errors = bind_all(&server, &mut Passed::default()).unwrap_err();
        let kinds: Vec<_> = errors.iter().map(|error| error.kind).collect();
        assert_eq!(kinds, [ListenerKind::Https]);
        bind_http(Listen::Addr(free)).unwrap();
    }

    #[test]
    fn an_address_of_another_host_is_told_so() {
        let error = bind_http(Listen::Addr("192.0.2.1:0".parse().unwrap())).unwrap_err();
        assert!(error.explain().contains("no address 192.0.2.1"), "{}", error.explain());
    }

    const CHILD: &str = "PORTCULLIS_TEST_UNPRIVILEGED";

    /// Runs [`the_unprivileged_child`] in a process without rights, from a copy that it may read.
    #[test]
    fn an_unprivileged_user_is_refused_a_low_port_with_the_explanation() {
        if !rustix::process::geteuid().is_root() || Rights::read().free_from <= 1 {
            return eprintln!("skipped: takes root, and low ports that are not free for all");
        }
        let folder = tempfile::tempdir().unwrap();
        let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let program = folder.path().join("child");
        // By another process: a fork elsewhere in this one would hold the copy open for writing,
        // and it could not be run (ETXTBSY).
        let here = std::env::current_exe().unwrap();
        assert!(Command::new("cp").arg(here).arg(&program).status().unwrap().success());
        let rights = ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"];
        let test = ["--exact", "downstream::bind::tests::the_unprivileged_child", "--nocapture"];
        let output = Command::new("setpriv")
            .args(rights)
            .arg("--inh-caps=-all")
            .arg(&program)
            .args(test)
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        assert!(text.contains("exit code 77"), "{text}");
        assert!(text.contains("uid 65534"), "{text}");
        assert!(text.contains("the bounding set lacks it"), "{text}");
    }

    /// Only as the child of the test above; anywhere else it has nothing to say.
    #[test]
    fn the_unprivileged_child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let error = bind_http(Listen::Addr("127.0.0.1:1".parse().unwrap())).unwrap_err();
        assert!(error.is_permission());
        println!("exit code {}\n{}", error.exit_code(), error.explain());
    }
}
