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
}

const LOCKS: &[Lock] = &[
    Lock {
        ports: &[6379, 6380],
        question: Question::Bytes(b"PING\r\n", b"+PONG"),
        gives: "every command",
    },
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

/// What the service there gives without a password; `None` where it asks for one, or is another.
pub(super) fn ask(address: SocketAddr, end: Instant) -> Option<&'static str> {
    let lock = LOCKS.iter().find(|lock| lock.ports.contains(&address.port()))?;
    let mut call = Call::to(address, end).ok()?;
    let is_open = match lock.question {
        Question::Bytes(question, answer) => {
            call.write_all(question).ok()?;
            let length = answer.len();
            call.read_until(length, |read| read.len() >= length).starts_with(answer)
        }
        Question::Get => http::exchange(&mut call, "localhost").is_some_and(|a| a.status == 200),
    };
    is_open.then_some(lock.gives)
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
}
