//! Finding the application: which of the local listeners speaks HTTP.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::answer::{Answer, ask};
use crate::audit::sockets::{self, Listening};
use crate::cli::Stop;
use crate::config::Target;
use crate::config::target::{Address, Protocol};
use crate::exit;

/// Listeners asked at most: a host with more of them is no place for guessing.
const MOST: usize = 64;

/// Ports of services that are no web application of anybody's, among them some that do answer
/// HTTP and must not be published by accident: debuggers, container engines, databases.
const NOT_APPLICATIONS: &[u16] = &[
    1433, 1521, 1883, 2019, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 4222, 5353, 5355, 5432,
    5433, 5671, 5672, 5900, 5901, 6000, 6010, 6011, 6379, 6443, 8883, 9042, 9092, 9100, 9180, 9200,
    9229, 9300, 10250, 11211, 26257, 27017, 33060,
];

/// The one application on this host that speaks HTTP, with a sentence on how it was found.
///
/// Looks at what listens on loopback or on every address, on ports that need no right, and asks
/// each in turn for `/` over loopback.
///
/// # Errors
/// When there is none, or more than one; the text lists them.
pub(super) fn application() -> Result<(Target, String), Stop> {
    let listening = sockets::listening().map_err(|error| {
        let text =
            format!("cannot see what listens here (/proc/net/tcp: {error}); name the target");
        Stop { code: exit::FAILED, text }
    })?;
    let asked: Vec<(Candidate, Answer)> =
        candidates(&listening).into_iter().map(Candidate::ask).collect();
    choose(&asked)
}

/// A listener that may be the application.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    /// Where to ask.
    address: SocketAddr,
    /// Where to ask when nobody answers there: `[::]` is both families, or the second alone.
    otherwise: Option<SocketAddr>,
    /// Who that is, for people.
    holder: String,
}

impl Candidate {
    /// With the address that answered.
    fn ask(self) -> (Self, Answer) {
        match (ask(self.address), self.otherwise) {
            (Answer::Other, Some(address)) => (Self { address, ..self }, ask(address)),
            (answer, _) => (self, answer),
        }
    }
}

/// One candidate a port, IPv4 before IPv6.
fn candidates(listening: &[Listening]) -> Vec<Candidate> {
    let us = std::env::current_exe().ok();
    let mut found: Vec<Candidate> = Vec::new();
    let mut order: Vec<&Listening> = listening.iter().collect();
    order.sort_by_key(|socket| (socket.address.port(), socket.address.is_ipv6()));
    for socket in order {
        let port = socket.address.port();
        let exe = socket.process.as_ref().and_then(|process| process.exe.as_ref());
        let ours = us.is_some() && exe == us.as_ref();
        if port < 1024 || ours || NOT_APPLICATIONS.contains(&port) {
            continue;
        }
        let [Some(address), otherwise] = over_loopback(socket.address) else { continue };
        if found.last().is_none_or(|last| last.address.port() != port) && found.len() < MOST {
            found.push(Candidate { address, otherwise, holder: socket.holder() });
        }
    }
    found
}

/// Where a listener is reached without leaving the host, in order; nowhere if it is neither for
/// this host only nor for everybody, but for one address of some network.
fn over_loopback(address: SocketAddr) -> [Option<SocketAddr>; 2] {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let ips = match address.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => [Some(v4), None],
        IpAddr::V6(ip) if ip.is_unspecified() => [Some(v4), Some(v6)],
        ip if ip.is_loopback() => [Some(ip), None],
        _ => [None, None],
    };
    ips.map(|ip| ip.map(|ip| SocketAddr::new(ip, address.port())))
}

fn choose(asked: &[(Candidate, Answer)]) -> Result<(Target, String), Stop> {
    let that = |wanted: Answer| {
        let found = asked.iter().filter(move |(_, answer)| *answer == wanted);
        found.map(|(candidate, _)| candidate).collect::<Vec<_>>()
    };
    let list = |text: &mut String, found: &[&Candidate], scheme: &str| {
        for candidate in found {
            let Candidate { address, holder, .. } = candidate;
            let _ = writeln!(text, "  portcullis up {scheme}{address:<22} # {holder}");
        }
    };
    let (http, tls, silent) = (that(Answer::Http), that(Answer::Tls), that(Answer::Silence));
    if let [only] = http.as_slice() {
        let (ip, port) = (only.address.ip().to_string(), only.address.port());
        let target = Target { protocol: Protocol::Http, address: Address::Tcp(ip, port) };
        return Ok((target, format!("Found {} on {}.", only.holder, only.address)));
    }
    let mut text;
    let code;
    if http.is_empty() {
        code = exit::FAILED;
        text = "No application that speaks HTTP listens on a port from 1024 up on this host.\n\
                Start yours, then say where it is: portcullis up 8080"
            .to_owned();
    } else {
        code = exit::USAGE;
        text = "Several applications here speak HTTP. Choose one:".to_owned();
    }
    text.push('\n');
    list(&mut text, &http, "");
    if !tls.is_empty() {
        text.push_str("These speak TLS themselves:\n");
        list(&mut text, &tls, "https://");
    }
    if !silent.is_empty() {
        text.push_str("These took the connection and said nothing within half a second:\n");
        list(&mut text, &silent, "");
    }
    Err(Stop { code, text: text.trim_end().to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::audit::sockets::State;

    fn at(address: &str) -> Listening {
        let address = address.parse().unwrap();
        let state = State::Listens;
        Listening { address, v6_only: false, state, inode: 1, uid: 0, process: None }
    }

    fn addresses(listening: &[Listening]) -> Vec<String> {
        candidates(listening).iter().map(|c| c.address.to_string()).collect()
    }

    #[test]
    fn only_local_high_ports_are_asked() {
        let found = addresses(&[
            at("127.0.0.1:80"),
            at("192.0.2.7:3000"),
            at("0.0.0.0:5432"),
            at("[::1]:5173"),
            at("0.0.0.0:8080"),
            at("[::]:8081"),
            at("127.0.0.53:8082"),
        ]);
        assert_eq!(found, ["[::1]:5173", "127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.53:8082"]);
    }

    #[test]
    fn a_port_on_both_families_is_asked_once_over_ipv4() {
        assert_eq!(addresses(&[at("[::]:8080"), at("0.0.0.0:8080")]), ["127.0.0.1:8080"]);
    }

    #[test]
    fn this_program_is_not_its_own_application() {
        let ours = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = ours.local_addr().unwrap().port();
        let listening = sockets::listening().unwrap();
        assert!(listening.iter().any(|socket| socket.address.port() == port));
        assert!(candidates(&listening).iter().all(|c| c.address.port() != port));
    }

    #[test]
    fn one_is_taken_several_are_listed_and_none_is_explained() {
        let candidate = |port: u16, holder: &str| Candidate {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            otherwise: None,
            holder: holder.to_owned(),
        };
        let node = (candidate(3000, "node (pid 7, user ann)"), Answer::Http);
        let python = (candidate(8000, "python3 (pid 8, user ann)"), Answer::Http);
        let quiet = (candidate(9000, "java (pid 9, user ann)"), Answer::Silence);

        let (target, said) = choose(&[node.clone(), quiet.clone()]).unwrap();
        assert_eq!(target.to_string(), "127.0.0.1:3000");
        assert!(said.contains("node (pid 7"), "{said}");

        let several = choose(&[node, python]).unwrap_err();
        assert_eq!(several.code, exit::USAGE);
        assert!(several.text.contains("portcullis up 127.0.0.1:3000"), "{}", several.text);
        assert!(several.text.contains("python3 (pid 8"), "{}", several.text);

        let none = choose(&[quiet]).unwrap_err();
        assert_eq!(none.code, exit::FAILED);
        assert!(none.text.contains("portcullis up 8080"), "{}", none.text);
        assert!(none.text.contains("portcullis up 127.0.0.1:9000"), "{}", none.text);
    }
}
