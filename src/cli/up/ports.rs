//! Where `up` and `demo` listen: 80 and 443 when they may, 8000 and 8443 when not.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::cli::Stop;
use crate::config::target::Address;
use crate::config::{Listen, Target};
use crate::downstream::bind::{BindError, ListenerKind, bind_one, shown};
use crate::downstream::passed::Passed;
use crate::exit;
use crate::privilege::explain::{Given, Rights, When};

/// Neighbours of 8000 and 8443 that are tried when these are taken as well.
const NEIGHBOURS: u16 = 10;

/// What the command line says about one kind of listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing: the usual port, or the one for those who may not have it.
    Usual,
    /// `none`.
    No,
    /// This address and no other.
    At(Listen),
}

/// Who may reach a usual port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// This host: a site that is only `localhost` has no other clients, and an application that
    /// listened on loopback is not shown to the network by putting a proxy in front of it.
    Host,
    /// Everybody.
    World,
}

/// The addresses to listen on, and those that could not be had.
#[derive(Debug, Default)]
pub(super) struct Ports {
    pub(super) http: Vec<Listen>,
    pub(super) https: Vec<Listen>,
    refused: Vec<BindError>,
}

/// What holds for both kinds.
struct Terms<'a> {
    reach: Reach,
    strict: bool,
    target: &'a Target,
}

impl Wish {
    /// `none`, `8443`, `:8443`, `127.0.0.1:8443`, `[::1]:8443`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if matches!(text, "none" | "off") {
            return Ok(Wish::No);
        }
        let port = text.strip_prefix(':').unwrap_or(text).parse().map(Listen::Any);
        let listen = port.or_else(|_| text.parse().map(Listen::Addr)).map_err(|_| {
            format!("\"{text}\" is no address: write :8443, 127.0.0.1:8443, [::1]:8443, or none")
        })?;
        Ok(Wish::At(listen))
    }
}

impl Ports {
    /// The addresses of a predecessor, which this process takes over; `None` without one.
    pub(super) fn inherited(passed: &Passed) -> Option<Self> {
        let listens = |kind| passed.inherited(kind).into_iter().map(as_asked).collect();
        let (http, https) = (listens(ListenerKind::Http), listens(ListenerKind::Https));
        let ports = Self { http, https, refused: Vec::new() };
        (!ports.http.is_empty() || !ports.https.is_empty()).then_some(ports)
    }

    /// Finds addresses that can be had now. A taken usual port is passed over, unless `strict`.
    pub(super) fn choose(
        (http, https): (&Wish, &Wish),
        reach: Reach,
        strict: bool,
        target: &Target,
    ) -> Result<Self, Stop> {
        let mut ports = Ports::default();
        let terms = Terms { reach, strict, target };
        ports.https = ports.find(ListenerKind::Https, https, http, &terms)?;
        ports.http = ports.find(ListenerKind::Http, http, https, &terms)?;
        let ours = ports.http.iter().chain(&ports.https);
        if let Some(listen) = ours.copied().find(|listen| meets(*listen, target)) {
            let address = shown(listen);
            let text = format!(
                "{target} cannot be the application: Portcullis itself is to listen on {address}. \
                 Give the application another port, or say where to listen with --http and --https."
            );
            return Err(Stop { code: exit::USAGE, text });
        }
        if ports.http.is_empty() && ports.https.is_empty() {
            let text = "nothing to listen on: --http and --https are both none".to_owned();
            return Err(Stop { code: exit::USAGE, text });
        }
        Ok(ports)
    }

    /// An address for one kind of listener, which leaves `other` what it names.
    fn find(
        &mut self,
        kind: ListenerKind,
        wish: &Wish,
        other: &Wish,
        terms: &Terms<'_>,
    ) -> Result<Vec<Listen>, Stop> {
        let (usual, instead) = match kind {
            ListenerKind::Http => (80, 8000),
            ListenerKind::Https => (443, 8443),
        };
        let others = if terms.strict { 0 } else { usize::from(NEIGHBOURS) + 1 };
        let candidates = match wish {
            Wish::No => return Ok(Vec::new()),
            Wish::At(listen) => return Ok(vec![*listen]),
            Wish::Usual => {
                std::iter::once(usual).chain((instead..=instead + NEIGHBOURS).take(others))
            }
        };
        let mut failed = Vec::new();
        for port in candidates {
            let spoken_for = matches!(other, Wish::At(listen) if self::port(*listen) == port);
            if spoken_for || (!terms.strict && meets(Listen::Any(port), terms.target)) {
                continue;
            }
            match available(kind, port, terms.reach) {
                Ok(listens) => {
                    self.refused.append(&mut failed);
                    return Ok(listens);
                }
                Err(error) => failed.push(error),
            }
        }
        Err(failed.pop().map_or_else(
            || Stop { code: exit::FAILED, text: format!("no port is left for {kind}") },
            |error| {
                let error = BindError { given: Given::Option, ..error };
                Stop { code: error.exit_code(), text: error.explain() }
            },
        ))
    }

    /// Why it is not 80 and 443, a sentence each, and how to change that.
    pub(super) fn say(&self) -> Vec<String> {
        let (denied, taken): (Vec<_>, Vec<_>) =
            self.refused.iter().partition(|error| error.is_permission());
        let mut lines = Vec::new();
        if !denied.is_empty() {
            let rights = Rights::read();
            let ports: Vec<u16> = denied.iter().map(|error| port(error.listen)).collect();
            let instead = denied.iter().filter_map(|error| self.instead_of(error)).collect();
            lines.push(format!(
                "Not on {}, because {}; on {} instead.",
                words(ports),
                rights.missing(),
                words(instead)
            ));
            for error in denied.iter().take(1) {
                let explanation = error.explanation(When::Start).unwrap_or_default();
                lines.push(format!("To allow it: {}", explanation.remedy()));
            }
        }
        for error in taken {
            let why = match error.explanation(When::Start) {
                Some(explanation) => explanation.why,
                None => error.to_string(),
            };
            let instead = self.instead_of(error).map(|port| format!(" On {port} instead."));
            lines.push(format!("{why}{}", instead.unwrap_or_default()));
        }
        lines
    }

    fn instead_of(&self, error: &BindError) -> Option<u16> {
        let chosen = match error.kind {
            ListenerKind::Http => &self.http,
            ListenerKind::Https => &self.https,
        };
        chosen.first().copied().map(port)
    }
}

/// Takes the port and lets it go again; the real bind may still meet somebody quicker, and says so.
fn available(kind: ListenerKind, port: u16, reach: Reach) -> Result<Vec<Listen>, BindError> {
    if reach == Reach::World {
        return bind_one(kind, Listen::Any(port)).map(|_| vec![Listen::Any(port)]);
    }
    let v4 = Listen::Addr(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let v6 = Listen::Addr(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    bind_one(kind, v4)?;
    match bind_one(kind, v6) {
        Ok(_) => Ok(vec![v4, v6]),
        Err(error) if error.lacks_ipv6() => Ok(vec![v4]),
        Err(error) => Err(error),
    }
}

/// Whether a target on this host has the port that we would listen on.
fn meets(listen: Listen, target: &Target) -> bool {
    let Address::Tcp(host, target_port) = &target.address else { return false };
    let ip = host.parse::<std::net::IpAddr>();
    let local = host.eq_ignore_ascii_case("localhost")
        || ip.is_ok_and(|ip| ip.to_canonical().is_loopback() || ip.is_unspecified());
    local && *target_port == port(listen)
}

/// What a socket at `address` is to be asked for by, so that it is found again.
fn as_asked(address: SocketAddr) -> Listen {
    let is_any = address.ip().is_unspecified();
    if is_any { Listen::Any(address.port()) } else { Listen::Addr(address) }
}

fn port(listen: Listen) -> u16 {
    match listen {
        Listen::Any(port) => port,
        Listen::Addr(address) => address.port(),
    }
}

/// `80 and 443`
fn words(mut ports: Vec<u16>) -> String {
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    ports.join(" and ")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
    }

    fn at(text: &str) -> Wish {
        Wish::parse(text).unwrap()
    }

    #[test]
    fn an_address_is_read_in_each_of_its_forms() {
        assert_eq!(at("none"), Wish::No);
        assert_eq!(at("8443"), Wish::At(Listen::Any(8443)));
        assert_eq!(at(":0"), Wish::At(Listen::Any(0)));
        assert_eq!(at("[::1]:8443"), Wish::At(Listen::Addr("[::1]:8443".parse().unwrap())));
        for wrong in ["", ":", "localhost", "1.2.3.4", "65536", "https"] {
            assert!(Wish::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_asked_for_is_taken_as_it_is() {
        let ports =
            Ports::choose((&Wish::No, &at("127.0.0.1:0")), Reach::World, false, &target("3000"))
                .unwrap();
        assert_eq!(ports.http, []);
        assert_eq!(ports.https, [Listen::Addr("127.0.0.1:0".parse().unwrap())]);
        assert_eq!(ports.say(), [""; 0]);
    }

    #[test]
    fn the_application_cannot_be_where_we_listen() {
        let refusal = |target_text: &str| {
            let wishes = (&at(":8000"), &at("127.0.0.1:8443"));
            Ports::choose(wishes, Reach::Host, false, &target(target_text)).map(|_| ())
        };
        for ours in ["8443", "localhost:8443", "127.0.0.1:8000", "http://[::1]:8000"] {
            let stop = refusal(ours).unwrap_err();
            assert_eq!(stop.code, exit::USAGE);
            assert!(stop.text.contains("cannot be the application"), "{}", stop.text);
        }
        assert!(refusal("8080").is_ok());
        assert!(refusal("192.0.2.1:8443").is_ok());
        assert!(refusal("unix:/run/app.sock").is_ok());
    }

    #[test]
    fn the_two_listeners_do_not_take_each_others_port() {
        let ports =
            Ports::choose((&Wish::Usual, &at(":80")), Reach::Host, false, &target("3000")).unwrap();
        assert_ne!(port(ports.http[0]), 80);
        let strictly =
            Ports::choose((&Wish::Usual, &at(":80")), Reach::Host, true, &target("3000"));
        assert_eq!(strictly.unwrap_err().code, exit::FAILED);
    }

    #[test]
    fn listening_nowhere_is_wrong_usage() {
        let stop =
            Ports::choose((&Wish::No, &Wish::No), Reach::Host, false, &target("3000")).unwrap_err();
        assert_eq!(stop.code, exit::USAGE);
    }

    #[test]
    fn a_port_that_is_held_on_either_loopback_address_is_not_available() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let error = available(ListenerKind::Http, port, Reach::Host).unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
        assert!(available(ListenerKind::Http, port, Reach::World).is_err());
        drop(held);
        assert!(available(ListenerKind::Http, port, Reach::World).is_ok());
        if let Ok(_held) = TcpListener::bind(("::1", port)) {
            assert!(available(ListenerKind::Http, port, Reach::Host).is_err());
        }
    }

    #[test]
    fn a_refused_usual_port_is_told_with_the_remedy_and_a_taken_one_with_its_holder() {
        let error = |kind, port, errno: rustix::io::Errno| BindError {
            given: Given::Alone,
            kind,
            listen: Listen::Any(port),
            source: errno.into(),
        };
        let denied = Ports {
            http: vec![Listen::Any(8000)],
            https: vec![Listen::Any(8443)],
            refused: vec![
                error(ListenerKind::Https, 443, rustix::io::Errno::ACCESS),
                error(ListenerKind::Http, 80, rustix::io::Errno::ACCESS),
            ],
        };
        let said = denied.say().join("\n");
        assert!(said.starts_with("Not on 80 and 443, because "), "{said}");
        assert!(said.contains("on 8000 and 8443 instead.\nTo allow it: "), "{said}");

        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let taken = Ports {
            https: vec![Listen::Any(8444)],
            refused: vec![error(ListenerKind::Https, port, rustix::io::Errno::ADDRINUSE)],
            ..Ports::default()
        };
        let said = taken.say().join("\n");
        assert!(said.contains(&format!("pid {}", std::process::id())), "{said}");
        assert!(said.ends_with("On 8444 instead."), "{said}");
    }
}
