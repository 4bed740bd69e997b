//! Asking this host's own listeners, all at once and over loopback only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{self, HttpAnswer};
use super::locks::{self, HereOnly, Lockage};
use super::tls::{self, TlsAnswer};
use crate::audit::inventory::{Exposure, Inventory, Listener, Protocol};
use crate::audit::verdict::Service;

/// For one listener, everything that it is asked together.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// Listeners asked at most, each by a thread of its own: a host with more of them is busy enough.
pub(super) const MOST: usize = 64;

/// What was answered, by port.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) http: BTreeMap<u16, HttpAnswer>,
    pub(super) tls: BTreeMap<u16, TlsAnswer>,
    pub(super) open: BTreeMap<u16, &'static str>,
    pub(super) here_only: BTreeMap<u16, HereOnly>,
    /// The ports of those that there were too many to ask.
    pub(super) unasked: BTreeSet<u16>,
}

/// A connection to a listener of this host that ends by itself when the time is over.
pub(super) struct Call {
    stream: TcpStream,
    end: Instant,
}

/// What a listener is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Http,
    Tls,
    Lock,
}

enum Answer {
    Http(HttpAnswer),
    Tls(TlsAnswer),
    Lock(Lockage),
}

/// Puts all questions; `names` are those that sites of this host are known to have.
pub(super) fn all(inventory: &Inventory, names: &[String]) -> Answers {
    let mut questions = questions(inventory);
    let unasked = questions.split_off(MOST.min(questions.len()));
    let unasked = unasked.iter().map(|(address, _)| address.port()).collect();
    let mut answers = Answers { unasked, ..Answers::default() };
    let found = thread::scope(|scope| {
        let asking: Vec<_> = questions
            .into_iter()
            .map(|(address, question)| {
                scope.spawn(move || (address.port(), put(address, question, names)))
            })
            .collect();
        asking.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
    });
    for (port, answer) in found {
        match answer {
            Some(Answer::Http(answer)) => drop(answers.http.insert(port, answer)),
            Some(Answer::Tls(answer)) => drop(answers.tls.insert(port, answer)),
            Some(Answer::Lock(Lockage::Open(what))) => drop(answers.open.insert(port, what)),
            Some(Answer::Lock(Lockage::HereOnly(is))) => drop(answers.here_only.insert(port, is)),
            None => {}
        }
    }
    answers
}

fn put(address: SocketAddr, question: Question, names: &[String]) -> Option<Answer> {
    let end = Instant::now() + PATIENCE;
    match question {
        Question::Http => http::ask(address, names, end).map(Answer::Http),
        Question::Tls => tls::ask(address, names, end).map(Answer::Tls),
        Question::Lock => locks::ask(address, end).map(Answer::Lock),
    }
}

/// Whom to ask what, each port once: services that are known by their port first, since most
/// depends on their answers, then whom other hosts reach.
fn questions(inventory: &Inventory) -> Vec<(SocketAddr, Question)> {
    let mut questions: BTreeMap<u16, (Reverse<Exposure>, SocketAddr, Question)> = BTreeMap::new();
    for listener in &inventory.listeners {
        let Some(address) = over_loopback(listener) else { continue };
        let Some(question) = question(listener) else { continue };
        let exposure = Reverse(listener.exposure);
        questions.entry(listener.port).or_insert((exposure, address, question));
    }
    let mut questions: Vec<_> = questions.into_values().collect();
    questions.sort_by_key(|(exposure, address, question)| {
        let is_anyones = *question == Question::Http && address.port() != 80;
        (is_anyones, *exposure, address.port())
    });
    questions.into_iter().map(|(_, address, question)| (address, question)).collect()
}

fn question(listener: &Listener) -> Option<Question> {
    let ours = listener.holder.as_ref().is_some_and(|h| h.pid == std::process::id());
    if listener.protocol != Protocol::Tcp || listener.namespace.is_some() || ours {
        return None;
    }
    let port = listener.port;
    if tls::PORTS.contains(&port) {
        Some(Question::Tls)
    } else if locks::is_asked(port) && listener.exposure > Exposure::Loopback {
        Some(Question::Lock)
    } else if port == 80 || (port >= 1024 && is_anyones(listener)) {
        Some(Question::Http)
    } else {
        None
    }
}

/// Whether the port may be a web application's. What is known to be something else is left alone:
/// a strange question stands in logs, and printers print it.
fn is_anyones(listener: &Listener) -> bool {
    Service::of(listener).is_none_or(|service| {
        let runs = listener.holder.as_ref().is_some_and(|holder| service.is_run_by(holder));
        service.shares(listener.port) && !runs
    })
}

/// Where a listener is reached without leaving the host; `None` if it is neither for this host
/// only nor for everybody. An address of a network is not asked: it need not be this host's.
fn over_loopback(listener: &Listener) -> Option<SocketAddr> {
    let here = |ip: &IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() && listener.v6_only == Some(false) => {
            Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
        }
        IpAddr::V6(ip) if ip.is_unspecified() => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ip if ip.is_loopback() => Some(ip),
        _ => None,
    };
    let ip = listener.addresses.iter().find_map(here)?;
    Some(SocketAddr::new(ip, listener.port))
}

impl Call {
    /// Connects until `end`.
    pub(super) fn to(address: SocketAddr, end: Instant) -> io::Result<Self> {
        debug_assert!(address.ip().is_loopback(), "{address} may be another host's");
        let stream = TcpStream::connect_timeout(&address, left(end)?)?;
        Ok(Self { stream, end })
    }

    /// Reads until `enough`, the peer's end, the deadline, or so many bytes.
    pub(super) fn read_until(&mut self, most: usize, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        read_until(self, most, enough)
    }
}

/// Reads until `enough`, the peer's end, an error, or so many bytes.
pub(super) fn read_until(
    from: &mut impl Read,
    most: usize,
    enough: impl Fn(&[u8]) -> bool,
) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), [0; 1024]);
    while all.len() < most && !enough(&all) {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    all
}

/// What is left of the time; the system takes no timeout of nothing.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    left.ok_or_else(|| ErrorKind::TimedOut.into())
}

impl Read for Call {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.end)?))?;
        self.stream.read(into)
    }
}

impl Write for Call {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.end)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::testing::{held, holder, host, local, tcp, udp};

    fn asked(listener: Listener) -> Option<(String, Question)> {
        let questions = questions(&host(vec![listener]));
        questions.first().map(|(address, question)| (address.to_string(), *question))
    }

    #[test]
    fn everybody_s_listeners_are_asked_over_loopback() {
        assert_eq!(asked(tcp(80)), Some(("127.0.0.1:80".to_owned(), Question::Http)));
        assert_eq!(asked(tcp(443)), Some(("127.0.0.1:443".to_owned(), Question::Tls)));
        assert_eq!(asked(local(3000)), Some(("127.0.0.1:3000".to_owned(), Question::Http)));
        assert_eq!(asked(tcp(6379)), Some(("127.0.0.1:6379".to_owned(), Question::Lock)));
        let mut six = tcp(80);
        six.addresses = vec!["::".parse().unwrap()];
        assert_eq!(asked(six).unwrap().0, "[::1]:80");
    }

    #[test]
    fn of_too_many_the_known_services_are_asked_first_and_the_rest_is_told() {
        let mut listeners: Vec<Listener> = (1024..1224).map(tcp).collect();
        listeners.insert(0, local(1023 + 200 + 1));
        listeners.extend([6379, 11211, 8443, 443].map(tcp));
        let asked: Vec<u16> =
            questions(&host(listeners.clone())).iter().map(|(a, _)| a.port()).collect();
        assert_eq!(asked[..3], [443, 6379, 8443]);
        assert!(asked.iter().position(|port| *port == 11211).unwrap() < 8, "{asked:?}");
        assert_eq!(asked.last(), Some(&1224));
        assert_eq!(super::super::ranges(&[5, 6, 7, 9].into()), "5-7, 9");
    }

    #[test]
    fn an_address_of_a_network_is_never_asked() {
        for address in ["192.0.2.7", "10.0.0.1", "2001:db8::1", "fe80::1"] {
            let mut listener = tcp(80);
            listener.addresses = vec![address.parse().unwrap()];
            assert_eq!(asked(listener), None, "{address}");
        }
    }

    #[test]
    fn what_is_known_to_be_no_web_application_is_left_alone() {
        assert_eq!(asked(tcp(5432)), None);
        assert_eq!(asked(tcp(22)), None);
        assert_eq!(asked(udp(80)), None);
        assert_eq!(asked(held(tcp(9090), holder("cockpit-tls"))), None);
        assert!(asked(held(tcp(9000), holder("node"))).is_some());
        let other = Listener { namespace: Some("4026532000".to_owned()), ..tcp(80) };
        assert_eq!(asked(other), None);
    }

    #[test]
    fn a_listener_that_says_nothing_costs_no_more_than_the_patience() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let started = Instant::now();
        let inventory = host(vec![local(silent.local_addr().unwrap().port())]);
        assert!(all(&inventory, &[]).http.is_empty());
        assert!(started.elapsed() < PATIENCE * 3, "{:?}", started.elapsed());
    }
}
