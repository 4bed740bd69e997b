//! Why an attempt came to nothing, in words that an operator can use.

use std::fmt;
use std::time::Duration;

use instant_acme::{Error, Problem};

use super::challenge::choose::Solver;
use super::ledger::Way;
use super::schedule::Cost;
use super::transport::TransportError;
use crate::observe::metrics::AcmeOutcome;
use crate::tls::storage::StorageError;

/// Why an attempt came to nothing.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: Kind,
    /// For the operator: what is wrong and, where that is clear, what helps.
    pub words: String,
    /// The authority does not want to be asked sooner.
    pub retry_after: Option<Duration>,
    /// Why each challenge that was tried came to nothing.
    pub ways: Vec<Way>,
}

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The authority was not reached, or is not well: another may be.
    Unreachable,
    /// It will not do it: another may.
    Refused,
    /// It has issued what is of no use: another may do better.
    Unusable,
    /// It counts, and too much was asked of it.
    Limited,
    /// A name could not be proved this way: another way may work.
    Unproved,
    /// What would prove a name could not be shown, so that nobody looked: another way may work.
    Unshown,
    /// It does not know our account.
    Forgotten,
    /// No way to prove the names is possible at all.
    Unprovable,
    /// The storage does not work: nobody can help.
    Storage,
}

impl Failure {
    /// A failure with nothing more to say.
    #[must_use]
    pub fn new(kind: Kind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into(), retry_after: None, ways: Vec::new() }
    }

    /// What the library, the network or the authority had to say.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Api(problem) => Self::of_request(problem),
            Error::Timeout(_) => {
                Self::new(Kind::Unreachable, "the authority did not finish in time")
            }
            Error::Other(other) => match other.downcast_ref::<TransportError>() {
                Some(transport) => Self::of_transport(transport),
                None => Self::new(Kind::Refused, other.to_string()),
            },
            Error::Json(error) => {
                let words = format!("what the authority answered is no ACME: {error}");
                Self::new(Kind::Unreachable, words)
            }
            other => Self::new(Kind::Refused, other.to_string()),
        }
    }

    /// What the network had to say.
    #[must_use]
    pub fn of_transport(error: &TransportError) -> Self {
        let kind = if error.is_limit() { Kind::Limited } else { Kind::Unreachable };
        Self { retry_after: error.retry_after(), ..Self::new(kind, error.to_string()) }
    }

    /// What the authority had to say of a request, such as that for an account (RFC 8555 §6.7): who
    /// is unauthorized there is the account, and not a name.
    #[must_use]
    pub fn of_request(problem: &Problem) -> Self {
        Self::told(problem, |name, _| match name {
            "unauthorized" | "incorrectResponse" => "",
            name => advice(name, ""),
        })
    }

    /// What the authority had to say of an order or of the proof of a name (RFC 8555 §6.7).
    #[must_use]
    pub fn of_problem(problem: &Problem) -> Self {
        Self::told(problem, advice)
    }

    fn told(problem: &Problem, advice: impl Fn(&str, &str) -> &'static str) -> Self {
        let full = problem.r#type.as_deref().unwrap_or_default();
        let name = full.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(full);
        let kind = match name {
            "rateLimited" => Kind::Limited,
            "accountDoesNotExist" => Kind::Forgotten,
            "connection" | "dns" | "tls" | "incorrectResponse" | "caa" => Kind::Unproved,
            "serverInternal" | "badNonce" => Kind::Unreachable,
            _ => Kind::Refused,
        };
        let mut words = problem.detail.clone().unwrap_or_else(|| name.to_owned());
        for part in &problem.subproblems {
            let detail = part.detail.as_deref().unwrap_or_default();
            words = format!("{words}; {detail}");
        }
        let advice = advice(name, &words);
        Self::new(kind, format!("{}{advice}", printable(&words)))
    }

    /// What the cryptography had to say.
    #[must_use]
    pub fn of_cryptography(error: impl fmt::Display) -> Self {
        Self::new(Kind::Storage, format!("the cryptography fails: {error}"))
    }

    /// The same failure of the proof of `name` by `challenge`.
    #[must_use]
    pub fn unproved(problem: Option<&Problem>, name: &str, challenge: impl fmt::Display) -> Self {
        let why = problem.map_or_else(
            || "it does not say why".to_owned(),
            |problem| Self::of_problem(problem).words,
        );
        Self::new(Kind::Unproved, format!("{name} could not be proved by {challenge}: {why}"))
    }

    /// The same failure, after others by other challenges: nobody is to look for those in a log.
    /// `seen` is what could be seen from here meanwhile.
    #[must_use]
    pub(super) fn after(self, tried: &[(Solver, Self)], seen: &[String]) -> Self {
        let mut words = String::new();
        for (solver, failure) in tried {
            let start = format!(" could not be proved by {}: ", solver.kind());
            let (name, why) = failure.words.split_once(&start).unwrap_or(("", &failure.words));
            words += match (words.is_empty(), name) {
                (true, "") => format!("{}: {why}", solver.kind()),
                (true, name) => format!("{name}{start}{why}"),
                (false, _) => format!("; by {}: {why}", solver.kind()),
            }
            .as_str();
        }
        if !seen.is_empty() {
            words += &format!("; seen from here: {}", seen.join("; "));
        }
        let is_last = tried.last().is_some_and(|(_, last)| last.words == self.words);
        let words = match (is_last, tried.is_empty()) {
            (true, _) => words,
            (false, true) => self.words,
            (false, false) => format!("{}; before that {words}", self.words),
        };
        let ways = tried.iter().map(|(solver, failure)| Way {
            challenge: solver.kind().to_string(),
            error: failure.words.clone(),
        });
        Self { words, ways: ways.collect(), ..self }
    }

    /// What it has cost.
    #[must_use]
    pub fn cost(&self) -> Cost {
        match self.kind {
            Kind::Unreachable | Kind::Unshown | Kind::Storage => Cost::Nothing,
            Kind::Refused
            | Kind::Unusable
            | Kind::Limited
            | Kind::Unproved
            | Kind::Forgotten
            | Kind::Unprovable => Cost::Attempt,
        }
    }

    /// What it is counted as.
    #[must_use]
    pub fn outcome(&self) -> AcmeOutcome {
        match self.kind {
            Kind::Unreachable => AcmeOutcome::Unreachable,
            Kind::Refused | Kind::Unusable | Kind::Forgotten => AcmeOutcome::Refused,
            Kind::Limited => AcmeOutcome::Limited,
            Kind::Unproved | Kind::Unshown | Kind::Unprovable => AcmeOutcome::Unproved,
            Kind::Storage => AcmeOutcome::Storage,
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::new(Kind::Storage, error.to_string())
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self::of_transport(&error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of(&error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Failure {}

/// What helps against a problem of this name, about which the authority says `words`: some call
/// whatever keeps a name from being proved `unauthorized`.
fn advice(name: &str, words: &str) -> &'static str {
    let words = words.to_ascii_lowercase();
    match name {
        "unauthorized" | "incorrectResponse" if words.contains("txt") => {
            " (was the record written where the authority asks, to the servers of the zone?)"
        }
        "unauthorized" | "incorrectResponse" if words.contains("connect") => {
            advice("connection", "")
        }
        "connection" => {
            " (the authority must reach this host from the internet: is the name's \
             address this host's, and does a firewall or router let the port through?)"
        }
        "dns" => " (has the name an address in the DNS, and only addresses of this host?)",
        "unauthorized" | "incorrectResponse" => {
            " (does something else answer for this name, \
             such as another server at one of its addresses or a CDN?)"
        }
        "caa" => " (a CAA record of the name forbids this authority)",
        "externalAccountRequired" => " (this authority knows accounts of its own: set `eab`)",
        "accountDoesNotExist" => " (the authority has forgotten the account)",
        _ => "",
    }
}

/// What a peer said, as it may stand in a log: without controls, and not for ever.
fn printable(words: &str) -> String {
    const LONGEST: usize = 600;
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    words.chars().take(LONGEST).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(name: &str, detail: &str) -> Problem {
        Problem {
            r#type: Some(format!("urn:ietf:params:acme:error:{name}")),
            detail: Some(detail.to_owned()),
            status: None,
            subproblems: Vec::new(),
        }
    }

    #[test]
    fn a_problem_is_told_with_what_helps() {
        let failure = Failure::of_problem(&problem("connection", "Connection refused"));
        assert_eq!(failure.kind, Kind::Unproved);
        assert!(failure.words.starts_with("Connection refused (the authority must reach"));
        let failure = Failure::of_problem(&problem("rateLimited", "too many"));
        assert_eq!((failure.kind, failure.cost()), (Kind::Limited, Cost::Attempt));
        let failure = Failure::of_problem(&problem("badNonce", "again"));
        assert_eq!((failure.kind, failure.cost()), (Kind::Unreachable, Cost::Nothing));
    }

    /// It was asked whether something else answers, where nothing did.
    #[test]
    fn what_helps_is_told_by_the_words_where_the_name_says_little() {
        let told = |words| Failure::of_problem(&problem("unauthorized", words)).words;
        assert!(told("Failed to connect to a.test").contains("reach this host"));
        assert!(told("No TXT records found for DNS challenge").contains("servers of the zone"));
        assert!(told("Non-200 status code 404").contains("does something else answer"));
    }

    /// It was asked whether something else answers for a name, where `eab` was wrong.
    #[test]
    fn who_is_refused_an_account_is_not_sent_to_look_for_another_server() {
        for words in ["the EAB key is unknown", "no TXT of ours", "cannot connect the account"] {
            assert_eq!(Failure::of_request(&problem("unauthorized", words)).words, words);
            let api = Error::Api(problem("unauthorized", words));
            assert_eq!(Failure::of(&api).words, words);
        }
        let told = Failure::of_request(&problem("externalAccountRequired", "bind it"));
        assert_eq!(told.kind, Kind::Refused);
        assert!(told.words.starts_with("bind it (this authority knows accounts of its own"));
    }

    #[test]
    fn after_several_challenges_each_is_told_with_its_reason() {
        let of = |solver: Solver, why: &str| {
            (solver, Failure::unproved(Some(&problem("tls", why)), "a.test", solver.kind()))
        };
        let one = of(Solver::Http, "404");
        let both = [one.clone(), of(Solver::TlsAlpn, "refused")];
        let seen = ["port 80 is closed".to_owned()];
        let told = both[1].1.clone().after(&both, &seen);
        assert_eq!(
            told.words,
            "a.test could not be proved by http-01: 404; by tls-alpn-01: refused; seen from here: \
             port 80 is closed"
        );
        let ways: Vec<_> = told.ways.iter().map(|way| way.challenge.as_str()).collect();
        assert_eq!(ways, ["http-01", "tls-alpn-01"]);
        let words = one.1.clone().after(std::slice::from_ref(&one), &[]).words;
        assert_eq!(words, one.1.words);
        let limit = Failure::new(Kind::Limited, "not asked").after(std::slice::from_ref(&one), &[]);
        assert_eq!(
            limit.words,
            "not asked; before that a.test could not be proved by http-01: 404"
        );
        assert_eq!(Failure::new(Kind::Limited, "not asked").after(&[], &[]).words, "not asked");
    }

    #[test]
    fn what_a_peer_says_cannot_forge_a_line_of_the_log() {
        let detail = format!("evil\nERROR all is lost\x1b[31m{}", "x".repeat(5000));
        let failure = Failure::of_problem(&problem("malformed", &detail));
        assert!(!failure.words.contains(['\n', '\x1b']) && failure.words.len() < 700);
    }
}
