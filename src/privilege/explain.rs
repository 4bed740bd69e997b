//! Why an address could not be had, and the command for this host that mends it.

pub mod file_capability;
pub mod rights;
pub mod host;
mod refused;
mod taken;
mod serving;
mod absent;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::io::Errno;

use crate::audit::sockets::{self, Listening};
use crate::config::Listen;
pub use absent::{Family, absent};
pub use host::Host;
pub use refused::{How, Refusal, refused};
pub use rights::{Rights, Sets};
pub use serving::Serving;
pub use taken::taken;

/// Why an address could not be had, and what to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// What stands in the way, a sentence.
    pub why: String,
    /// The facts behind it that somebody may want to see, where they are not in the sentence.
    pub facts: Option<String>,
    /// What helps, the shortest first.
    pub ways: Vec<Way>,
    /// The sockets that hold the address.
    pub holders: Vec<Listening>,
}

/// One way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// A command for this host, or a line of the configuration.
    pub command: String,
    /// What there is to know about it; empty for nothing.
    pub note: String,
}

/// The key of the address where metrics are scraped, in `[admin]`.
pub const METRICS: &str = "metrics";

/// An address that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The configuration's key for it: `http`, `https` or [`METRICS`].
    pub key: &'a str,
    /// The address.
    pub listen: Listen,
    /// How it was given.
    pub given: Given,
    /// Who answers behind the control socket of the same configuration.
    pub serving: Option<&'a Serving>,
}

/// How an address was given, and is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Given {
    /// As all that its key has.
    #[default]
    Alone,
    /// As one of a list.
    Among,
    /// By an option of `up` or `demo`, which have no file.
    Option,
}

/// When an address is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At the start, with whatever right the process was given.
    Start,
    /// While it serves: it has given up every right, as it should.
    Running,
}

/// Explains an error of `socket`, `bind` or `listen`; `None` for one that says it all by itself.
///
/// Reads `/proc`, and asks the kernel for its addresses and sockets.
#[must_use]
pub fn failure(wanted: Wanted<'_>, error: &io::Error, when: When) -> Option<Explanation> {
    let sockets = || sockets::in_the_way(&[wanted.listen], true).unwrap_or_default();
    match Errno::from_io_error(error)? {
        Errno::ACCESS | Errno::PERM if when == When::Running => Some(refused::given_up(wanted)),
        Errno::ACCESS => Some(refused(wanted, &Rights::read(), &Host::read(), Refusal::Access)),
        Errno::PERM => Some(refused(wanted, &Rights::read(), &Host::read(), Refusal::Filter)),
        Errno::ADDRINUSE => Some(taken(wanted, &sockets(), &Host::read())),
        Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT | Errno::INVAL => {
            let addresses = crate::audit::addresses::all().unwrap_or_default();
            Some(absent(wanted, &addresses, &Family::of(wanted.listen), &Host::read()))
        }
        _ => None,
    }
}

impl Explanation {
    /// The first way out, for where there is room for one; empty where there is none.
    #[must_use]
    pub fn remedy(&self) -> &str {
        self.ways.first().map_or("", |way| &way.command)
    }

    /// Both of two things that stand in the way.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.why = format!("{} {}", self.why, other.why);
        self.facts = self.facts.or(other.facts);
        self.ways.retain(|way| !other.ways.iter().any(|later| later.command == way.command));
        self.ways.extend(other.ways);
        self.holders.extend(other.holders);
        self
    }

    fn new(why: String) -> Self {
        Self { why, ..Self::default() }
    }

    fn way(&mut self, command: impl Into<String>, note: impl Into<String>) {
        self.ways.push(Way { command: command.into(), note: note.into() });
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        if let Some(facts) = &self.facts {
            write!(f, "\n({facts})")?;
        }
        match self.ways.len() {
            0 => return Ok(()),
            1 => f.write_str("\nWhat helps:")?,
            _ => f.write_str("\nWhat helps, the shortest first:")?,
        }
        for (number, way) in self.ways.iter().enumerate() {
            write!(f, "\n  {}. {}", number + 1, way.command)?;
            for line in way.note.lines() {
                write!(f, "\n     {line}")?;
            }
        }
        Ok(())
    }
}

impl<'a> Wanted<'a> {
    /// An address of this key, and nobody known to serve with the same configuration.
    #[must_use]
    pub fn new(key: &'a str, listen: Listen) -> Self {
        Self { key, listen, given: Given::Alone, serving: None }
    }

    /// The line of the configuration, or the option, for the same on a port that needs no right.
    fn elsewhere(&self, free_from: u16) -> String {
        let port = match self.listen.port() {
            80 => 8000,
            443 => 8443,
            port => port.checked_add(8000).unwrap_or(8000),
        };
        let port = port.max(free_from);
        let listen = match self.listen {
            Listen::Any(_) => Listen::Any(port),
            Listen::Addr(address) => Listen::Addr(SocketAddr::new(address.ip(), port)),
        };
        self.changed(listen)
    }

    /// The same for every address of this host, or for itself alone where that would show figures
    /// to strangers; and what there is to know about it.
    fn everywhere(&self) -> (String, &'static str) {
        let port = self.listen.port();
        if self.key == METRICS {
            let loopback = Listen::Addr((Ipv4Addr::LOCALHOST, port).into());
            return (self.changed(loopback), "in [admin]: the figures are for this host alone");
        }
        (self.changed(Listen::Any(port)), "every address of this host, or one of those above")
    }

    /// The change by which another address is given, which leaves others of a list as they are.
    fn changed(&self, listen: Listen) -> String {
        let Self { key, listen: old, .. } = self;
        match self.given {
            Given::Alone => format!("{key} = \"{listen}\""),
            Given::Among => format!("in {key}: \"{listen}\" instead of \"{old}\""),
            Given::Option => format!("--{key} {listen}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_comes_first_and_the_ways_are_numbered() {
        let mut explanation = Explanation::new("It is so.".to_owned());
        assert_eq!(explanation.to_string(), "It is so.");
        explanation.way("do this", "");
        assert_eq!(explanation.to_string(), "It is so.\nWhat helps:\n  1. do this");
        explanation.way("do that", "with care\nand twice");
        explanation.facts = Some("facts".to_owned());
        let expected = "It is so.\n(facts)\nWhat helps, the shortest first:\n  1. do this\n  \
                        2. do that\n     with care\n     and twice";
        assert_eq!(explanation.to_string(), expected);
        assert_eq!(explanation.remedy(), "do this");
    }

    #[test]
    fn another_port_is_advised_as_the_configuration_writes_it() {
        let elsewhere = |key, listen| Wanted::new(key, listen).elsewhere(1024);
        assert_eq!(elsewhere("http", Listen::Any(80)), "http = \":8000\"");
        let address = Listen::Addr("[::1]:443".parse().unwrap());
        assert_eq!(elsewhere("https", address), "https = \"[::1]:8443\"");
        assert_eq!(elsewhere("http", Listen::Any(60_000)), "http = \":8000\"");
    }

    #[test]
    fn one_of_several_addresses_is_changed_without_the_others() {
        let one = Wanted { given: Given::Among, ..Wanted::new("http", Listen::Any(81)) };
        assert_eq!(one.elsewhere(0), "in http: \":8081\" instead of \":81\"");
        let option = Wanted { given: Given::Option, ..Wanted::new("https", Listen::Any(443)) };
        assert_eq!(option.elsewhere(0), "--https :8443");
    }

    #[test]
    fn an_error_of_another_kind_speaks_for_itself() {
        let wanted = Wanted::new("http", Listen::Any(80));
        let error = io::Error::from(Errno::MFILE);
        assert_eq!(failure(wanted, &error, When::Start), None);
        assert_eq!(failure(wanted, &io::Error::other("x"), When::Start), None);
    }
}
