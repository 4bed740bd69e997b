//! Whether a database or an administrator's interface answers without a password.
//!
//! Each is asked the most harmless question that it has, once.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use super::ask::Call;
use super::http;

/// A question and what an open service answers.
struct Lock {
    ports: &'static [u16],
    question: Question,
    /// What a stranger gets.
    gives: &'static str,
}

enum Question {
    /// These bytes; an answer that begins with those is open.
    Bytes(&'static [u8], &'static [u8]),
    /// `GET /`; a 200 is open.
    Get,
    /// As Redis is asked, which lets this host in where it may refuse others.
    Redis,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lockage {
    /// A stranger gets this.
    Open(&'static str),
    /// This host gets in without a password, or nobody does.
    HereOnly(HereOnly),
}

/// Whether a service that asks this host for no password refuses others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HereOnly {
    /// It says so.
    Yes,
    /// It cannot be seen from this host.
    Unknown,
}

const LOCKS: &[Lock] = &[
    Lock { ports: &[6379, 6380], question: Question::Redis, gives: "every command" },
    Lock {
        ports: &[11211],
        question: Question::Bytes(b"version\r\n", b"VERSION "),
        gives: "all that is cached",
    },
    Lock {
        ports: &[2181],
        question: Question::Bytes(b"ruok", b"imok"),
        gives: "its four-letter commands",
    },
    Lock { ports: &[9200, 5984], question: Question::Get, gives: "its HTTP interface" },
];

pub(super) fn is_asked(port: u16) -> bool {
    LOCKS.iter().any(|lock| lock.ports.contains(&port))
}

/// Reads only, and ends the connection.
const OF_REDIS: &[u8] =
    b"PING\r\nCONFIG GET protected-mode\r\nCONFIG GET bind\r\nINFO server\r\nQUIT\r\n";

/// What the service there gives without a password; `None` where it asks for one, or is another.
pub(super) fn ask(address: SocketAddr, end: Instant) -> Option<Lockage> {
    let lock = LOCKS.iter().find(|lock| lock.ports.contains(&address.port()))?;
    let mut call = Call::to(address, end).ok()?;
    let is_open = match lock.question {
        Question::Bytes(question, answer) => {
            call.write_all(question).ok()?;
            let length = answer.len();
            call.read_until(length, |read| read.len() >= length).starts_with(answer)
        }
        Question::Get => http::exchange(&mut call, "localhost").is_some_and(|a| a.status == 200),
        Question::Redis => {
            call.write_all(OF_REDIS).ok()?;
            let said = call.read_until(16 << 10, |_| false);
            return redis(&String::from_utf8_lossy(&said), lock.gives);
        }
    };
    is_open.then_some(Lockage::Open(lock.gives))
}

/// Protected mode (redis.conf, "protected-mode"): without a password only this host is let in.
/// Before Redis 7 that holds only where no address is bound by name.
fn redis(said: &str, gives: &'static str) -> Option<Lockage> {
    if said.starts_with("-DENIED") {
        return Some(Lockage::HereOnly(HereOnly::Yes));
    }
    let rest = said.strip_prefix("+PONG\r\n")?;
    let version = rest.split_once("redis_version:").and_then(|(_, rest)| rest.split('.').next());
    let is_new = version.and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= 7);
    let is_bound = value(rest, "bind") != Some("");
    Some(match value(rest, "protected-mode") {
        Some("yes") if is_new || !is_bound => Lockage::HereOnly(HereOnly::Yes),
        Some("no") => Lockage::Open(gives),
        // It is older than the setting.
        None if rest.starts_with("*0\r\n") => Lockage::Open(gives),
        _ => Lockage::HereOnly(HereOnly::Unknown),
    })
}

/// Of an array of a name and its value (RESP2, "Arrays" of "Bulk strings").
fn value<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = said.split_once(&format!("${}\r\n{name}\r\n$", name.len()))?;
    rest.split("\r\n").nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::SERVICES;

    #[test]
    fn every_lock_belongs_to_a_service() {
        for port in LOCKS.iter().flat_map(|lock| lock.ports).filter(|port| **port != 6380) {
            assert!(SERVICES.iter().copied().flatten().any(|s| s.ports.contains(port)), "{port}");
        }
    }

    #[test]
    fn redis_in_protected_mode_is_not_open_to_others() {
        let said = |mode: &str, bind: &str, version: &str| {
            let (mode_length, bind_length) = (mode.len(), bind.len());
            let text = format!(
                "+PONG\r\n*2\r\n$14\r\nprotected-mode\r\n${mode_length}\r\n{mode}\r\n*2\r\n$4\r\nbind\r\n\
                 ${bind_length}\r\n{bind}\r\n$30\r\n# Server\r\nredis_version:{version}\r\n\r\n+OK\r\n"
            );
            redis(&text, "all")
        };
        let (open, kept) = (Some(Lockage::Open("all")), Some(Lockage::HereOnly(HereOnly::Yes)));
        let unknown = Some(Lockage::HereOnly(HereOnly::Unknown));
        assert_eq!(said("yes", "* -::*", "7.0.15"), kept);
        assert_eq!(said("yes", "", "5.0.1"), kept);
        assert_eq!(said("yes", "0.0.0.0", "6.0.16"), unknown);
        assert_eq!(said("no", "* -::*", "7.0.15"), open);
        assert_eq!(redis("-DENIED Redis is running in protected mode\r\n", "all"), kept);
        assert_eq!(redis("+PONG\r\n*0\r\n", "all"), open);
        assert_eq!(redis("+PONG\r\n-ERR unknown command 'CONFIG'\r\n", "all"), unknown);
        assert_eq!(redis("-NOAUTH Authentication required.\r\n", "all"), None);
    }
}
