//! The rules: a table. Each is a pure function of a listener, its host and what is known of both.

mod reach;
mod clear_text;
mod exposed;
mod web;
mod certificate;
mod backend;
mod rights;
mod program;
mod socket_unit;
mod brute_force;
mod baseline;

pub(crate) use rights::user_for;

use super::Verdict;
use crate::audit::facts::Facts;
use crate::audit::inventory::{Inventory, Listener};

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name in reports; stable.
    pub name: &'static str,
    /// What it looks for, in a few words.
    pub about: &'static str,
    /// What it says of a listener; `None` when all is well.
    pub check: fn(&Listener, &Inventory, &Facts) -> Option<Verdict>,
}

/// Every rule there is.
pub const RULES: &[Rule] = &[
    Rule {
        name: "clear-text",
        about: "a service that speaks in clear text, and what replaced it",
        check: clear_text::check,
    },
    Rule {
        name: "exposed-service",
        about: "a database or an administrator's interface that strangers reach",
        check: exposed::check,
    },
    Rule {
        name: "plain-http",
        about: "plain HTTP on port 80 that does not lead to HTTPS",
        check: web::plain_http,
    },
    Rule {
        name: "plain-application",
        about: "a web application in clear text that everybody reaches, without a proxy",
        check: web::plain_application,
    },
    Rule { name: "hsts", about: "HTTPS without Strict-Transport-Security", check: web::no_hsts },
    Rule {
        name: "tls-version",
        about: "TLS 1.0 and 1.1, or no TLS that anybody speaks",
        check: certificate::version,
    },
    Rule {
        name: "certificate-expiry",
        about: "a certificate that has ended or soon ends",
        check: certificate::expiry,
    },
    Rule {
        name: "certificate-name",
        about: "a certificate for another name",
        check: certificate::name,
    },
    Rule {
        name: "round-the-proxy",
        about: "an application on all interfaces beside the proxy that fronts it",
        check: backend::check,
    },
    Rule {
        name: "runs-as-root",
        about: "a daemon that runs as root and need not",
        check: rights::root,
    },
    Rule { name: "capabilities", about: "capabilities beyond need", check: rights::capabilities },
    Rule {
        name: "unexpected-program",
        about: "a well-known port held by a program that does not usually hold it",
        check: program::unexpected,
    },
    Rule {
        name: "replaced-program",
        about: "a program whose file was deleted or replaced since it started",
        check: program::replaced,
    },
    Rule {
        name: "unneeded-socket",
        about: "a socket that systemd holds for a service that nobody needs",
        check: socket_unit::check,
    },
    Rule {
        name: "brute-force",
        about: "sshd without anything that bans who tries passwords",
        check: brute_force::check,
    },
    Rule {
        name: "not-in-baseline",
        about: "a listener that the baseline does not know, or knows otherwise",
        check: baseline::check,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_stand_for_one_rule() {
        for (index, rule) in RULES.iter().enumerate() {
            assert!(rule.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{rule:?}");
            assert!(RULES.iter().skip(index + 1).all(|other| other.name != rule.name), "{rule:?}");
        }
    }
}
