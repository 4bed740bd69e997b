//! The rate limits of known authorities, which are never to be burnt: pure rules over ledgers.
//!
//! <https://letsencrypt.org/docs/rate-limits/>

use std::time::{Duration, SystemTime};

use super::ledger::{Event, Ledger};
use super::names::host_and_port;

const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// So many within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub most: usize,
    /// Within how long.
    pub within: Duration,
}

/// What an authority counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Certificates for exactly the same names.
    pub duplicates: Limit,
    /// Validations of one name that failed.
    pub unproved: Limit,
    /// Certificates for one registered domain.
    pub domain: Limit,
}

/// The limits of the authority at `directory`, where they are known.
#[must_use]
pub fn limits_of(directory: &str) -> Option<Limits> {
    let (host, _) = host_and_port(directory)?;
    (host == "acme-v02.api.letsencrypt.org").then_some(Limits {
        duplicates: Limit { most: 5, within: WEEK },
        unproved: Limit { most: 5, within: HOUR },
        domain: Limit { most: 50, within: WEEK },
    })
}

/// How many are left of each limit, for a certificate with these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Of [`Limits::duplicates`].
    pub duplicates: usize,
    /// Of [`Limits::unproved`], for the name that has the fewest.
    pub unproved: usize,
    /// Of [`Limits::domain`], for the domain that has the fewest.
    pub domain: usize,
}

/// What was counted for a certificate, of all that is remembered in `ledgers`.
#[derive(Clone, Copy, Debug)]
pub struct Budget<'a> {
    /// The directory of the authority.
    pub directory: &'a str,
    /// The names of the certificate.
    pub names: &'a [String],
    /// Of every certificate.
    pub ledgers: &'a [Ledger],
}

impl Budget<'_> {
    /// When the authority may be asked: `None` for now, else when and which limit it is.
    #[must_use]
    pub fn wait(&self, limits: &Limits, now: SystemTime) -> Option<(SystemTime, String)> {
        let duplicates = free_at(&self.duplicates(), limits.duplicates, now).map(|at| {
            let most = limits.duplicates.most;
            (at, format!("{most} certificates for the same names were issued within a week"))
        });
        let unproved = self.names.iter().filter_map(|name| {
            let at = free_at(&self.unproved(name), limits.unproved, now)?;
            let most = limits.unproved.most;
            Some((at, format!("{name} could not be proved {most} times within an hour")))
        });
        let domains = self.names.iter().filter_map(|name| {
            let domain = registered_domain(name);
            let at = free_at(&self.of_domain(domain), limits.domain, now)?;
            let most = limits.domain.most;
            Some((at, format!("{most} certificates for {domain} were issued within a week")))
        });
        duplicates.into_iter().chain(unproved).chain(domains).max_by_key(|(at, _)| *at)
    }

    /// What is left, for people.
    #[must_use]
    pub fn left(&self, limits: &Limits, now: SystemTime) -> Left {
        let left = |events: Vec<SystemTime>, limit: Limit| {
            limit.most.saturating_sub(recent(&events, limit, now).count())
        };
        let least = |all: Vec<usize>, limit: Limit| all.into_iter().min().unwrap_or(limit.most);
        let unproved = self.names.iter().map(|name| left(self.unproved(name), limits.unproved));
        let domain = self
            .names
            .iter()
            .map(|name| left(self.of_domain(registered_domain(name)), limits.domain));
        Left {
            duplicates: left(self.duplicates(), limits.duplicates),
            unproved: least(unproved.collect(), limits.unproved),
            domain: least(domain.collect(), limits.domain),
        }
    }

    fn issued(&self) -> impl Iterator<Item = &Event> {
        let all = self.ledgers.iter().flat_map(|ledger| &ledger.issued);
        all.filter(|event| event.directory == self.directory)
    }

    fn duplicates(&self) -> Vec<SystemTime> {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort_unstable();
            names
        };
        let ours = sorted(self.names);
        self.issued().filter(|event| sorted(&event.names) == ours).map(Event::at).collect()
    }

    fn of_domain(&self, domain: &str) -> Vec<SystemTime> {
        let is_of = |event: &&Event| event.names.iter().any(|n| registered_domain(n) == domain);
        self.issued().filter(is_of).map(Event::at).collect()
    }

    fn unproved(&self, name: &str) -> Vec<SystemTime> {
        let all = self.ledgers.iter().flat_map(|ledger| &ledger.unproved);
        let of_name = all.filter(|event| {
            event.directory == self.directory && event.names.iter().any(|other| other == name)
        });
        of_name.map(Event::at).collect()
    }
}

fn recent(
    events: &[SystemTime],
    limit: Limit,
    now: SystemTime,
) -> impl Iterator<Item = SystemTime> + '_ {
    events.iter().copied().filter(move |at| *at + limit.within > now)
}

/// When there is room for one more; `None` when there is already.
fn free_at(events: &[SystemTime], limit: Limit, now: SystemTime) -> Option<SystemTime> {
    let mut recent: Vec<_> = recent(events, limit, now).collect();
    recent.sort_unstable();
    let over = recent.len().checked_sub(limit.most)?;
    recent.get(over).map(|at| *at + limit.within)
}

/// The domain that somebody has registered, as near as one can say without the list of public
/// suffixes: the last two labels, or three where those are like `co.uk`. Where that is too few the
/// budget is only smaller than it had to be.
#[must_use]
pub fn registered_domain(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    let (Some(last), Some(second)) = (dots.next(), dots.next()) else { return name };
    let label = name.get(second + 1..last).unwrap_or_default();
    let top = name.get(last + 1..).unwrap_or_default();
    let cut = if label.len() <= 3 && top.len() == 2 { dots.next() } else { Some(second) };
    cut.and_then(|at| name.get(at + 1..)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::tls::acme::ledger::Ledger;

    const CA: &str = "https://acme-v02.api.letsencrypt.org/directory";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn wait(ledgers: &[Ledger], asked: &[&str]) -> Option<(SystemTime, String)> {
        let names = names(asked);
        let budget = Budget { directory: CA, names: &names, ledgers };
        budget.wait(&limits_of(CA).unwrap(), now())
    }

    #[test]
    fn only_what_is_known_is_limited() {
        assert_eq!(limits_of("https://ca.internal/dir"), None);
        assert_eq!(limits_of("https://acme-staging-v02.api.letsencrypt.org/directory"), None);
    }

    #[test]
    fn five_certificates_for_the_same_names_are_all_for_a_week() {
        let mut ledger = Ledger::default();
        for hour in 1..=5 {
            assert_eq!(wait(&[ledger.clone()], &["b.de", "a.de"]), None, "{hour}");
            ledger.succeed(CA, &names(&["a.de", "b.de"]), now() - HOUR * (6 - hour));
        }
        let (at, words) = wait(&[ledger.clone()], &["b.de", "a.de"]).unwrap();
        assert_eq!(at, now() - HOUR * 5 + WEEK);
        assert!(words.contains("same names"), "{words}");
        assert_eq!(wait(&[ledger], &["a.de"]), None, "other names");
    }

    #[test]
    fn five_failures_of_a_name_are_all_for_an_hour() {
        let mut ledger = Ledger::default();
        for minute in 0..5 {
            let at = now() - Duration::from_secs(60 * minute);
            ledger.fail_to_prove(CA, &names(&["a.de"]), at);
        }
        let (at, words) = wait(&[ledger.clone()], &["a.de", "c.de"]).unwrap();
        assert_eq!(at, now() - Duration::from_secs(240) + HOUR);
        assert!(words.contains("a.de"), "{words}");
        assert_eq!(wait(&[ledger], &["c.de"]), None, "another name");
    }

    #[test]
    fn fifty_certificates_of_a_domain_are_all_for_a_week() {
        let mut ledgers: Vec<Ledger> = Vec::new();
        for n in 0..50 {
            assert_eq!(wait(&ledgers, &["new.shop.co.uk"]), None);
            let mut ledger = Ledger::default();
            ledger.succeed(CA, &names(&[&format!("n{n}.shop.co.uk")]), now());
            ledgers.push(ledger);
        }
        let (_, words) = wait(&ledgers, &["new.shop.co.uk"]).unwrap();
        assert!(words.contains("for shop.co.uk"), "{words}");
        assert_eq!(wait(&ledgers, &["other.co.uk"]), None);
        let names = names(&["new.shop.co.uk"]);
        let budget = Budget { directory: CA, names: &names, ledgers: &ledgers };
        let left = budget.left(&limits_of(CA).unwrap(), now());
        assert_eq!(left, Left { duplicates: 5, unproved: 5, domain: 0 });
    }

    #[test]
    fn what_another_authority_counts_is_its_own() {
        let mut ledger = Ledger::default();
        for _ in 0..9 {
            ledger.succeed("https://other.test/dir", &names(&["a.de"]), now());
        }
        assert_eq!(wait(&[ledger], &["a.de"]), None);
    }

    #[test]
    fn a_registered_domain_is_what_somebody_owns() {
        for (name, domain) in [
            ("a.de", "a.de"),
            ("www.shop.de", "shop.de"),
            ("*.shop.de", "shop.de"),
            ("www.shop.co.uk", "shop.co.uk"),
            ("shop.co.uk", "shop.co.uk"),
            ("de", "de"),
            ("", ""),
        ] {
            assert_eq!(registered_domain(name), domain, "{name}");
        }
    }
}
