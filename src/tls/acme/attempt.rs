//! One attempt: authorities in their order, staging first where that is wanted, and with each of
//! them one way to prove the names after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use instant_acme::Account;

use super::account::{self, Whom};
use super::budget::{Budget, limits_of};
use super::challenge::choose::Solver;
use super::challenge::dns::Scribe;
use super::challenge::pending::Pending;
use super::failure::{Failure, Kind};
use super::ledger::{self, Ledger, Way};
use super::names::Wanted;
use super::order::{self, Ask};
use super::preflight::{Preflight, Sight};
use super::renewal_info;
use super::roots::Roots;
use super::schedule::Cost;
use super::stored::{self, Stored};
use super::transport::Transport;
use super::vault::{Held, Vault};
use crate::config::{Acme, Authority};
use crate::helper::client::Line;

/// What an attempt works with.
pub(super) struct Attempt<'a> {
    pub(super) vault: &'a dyn Vault,
    pub(super) held: &'a Held,
    pub(super) wanted: &'a Wanted,
    pub(super) acme: &'a Acme,
    pub(super) solvers: &'a [Solver],
    pub(super) roots: &'a Roots,
    pub(super) pending: &'a Arc<Pending>,
    pub(super) helper: Option<&'a Line>,
    pub(super) unreached: &'a Unreached,
    /// Whether a person has asked, who may know that the authority is back.
    pub(super) is_forced: bool,
    pub(super) ledger: &'a mut Ledger,
}

/// Directories that were not reached a moment ago, and why: of a thousand certificates that are due
/// at once not each is to wait for the same silence.
#[derive(Debug, Default)]
pub(super) struct Unreached(Mutex<HashMap<String, (Instant, Failure)>>);

/// How long that is believed; shorter than the first back-off, so that nobody's own second try is
/// taken from him.
const MOMENT: Duration = Duration::from_secs(3);

impl Unreached {
    fn recently(&self, directory: &str) -> Option<Failure> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, failure) = known.get(directory)?;
        (at.elapsed() < MOMENT).then(|| failure.clone())
    }

    fn note(&self, directory: &str, failure: &Failure) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(directory.to_owned(), (Instant::now(), failure.clone()));
    }
}

/// What was issued, not kept yet.
pub(super) struct Issued {
    pub(super) directory: String,
    pub(super) text: String,
    pub(super) stored: Stored,
}

/// Why nothing was, and the directory that was asked last.
pub(super) struct Failed {
    pub(super) directory: String,
    pub(super) failure: Failure,
}

impl Failed {
    /// What all have to say, the last one first: nobody is to look for the others in a log. What
    /// the dearest has cost is waited out.
    fn of_all(mut failures: Vec<Self>) -> Self {
        let Some(mut last) = failures.pop() else {
            let failure = Failure::new(Kind::Refused, "there is no authority to ask");
            return Self { directory: String::new(), failure };
        };
        if failures.is_empty() {
            return last;
        }
        let dear = failures.iter().find(|failed| failed.failure.cost() == Cost::Attempt);
        if let (Some(dear), Cost::Nothing) = (dear, last.failure.cost()) {
            last.failure.kind = dear.failure.kind;
        }
        let mut ways = Vec::new();
        for Self { directory, failure } in failures.iter().chain([&last]) {
            let told = |way: &Way| {
                let error = format!("{directory}: {}", way.error);
                Way { challenge: way.challenge.clone(), error }
            };
            ways.extend(failure.ways.iter().map(told));
        }
        for Self { directory, failure } in &failures {
            last.failure.words += &format!("; before that {directory}: {failure}");
        }
        last.failure.ways = ways;
        last
    }
}

impl Attempt<'_> {
    /// Asks one authority after the other.
    pub(super) async fn run(&mut self) -> Result<Issued, Failed> {
        let mut failures = Vec::new();
        let acme = self.acme;
        for authority in &acme.authorities {
            let asked = match self.rehearse(authority).await {
                Ok(()) => self.ask(authority, &authority.directory).await,
                Err(failed) => Err(failed),
            };
            match asked {
                Ok(issued) => return Ok(issued),
                Err(failed) if failed.failure.kind == Kind::Storage => return Err(failed),
                Err(failed) => {
                    let (site, directory) = (&self.wanted.site, &failed.directory);
                    tracing::warn!("site {site}: {directory}: {}", failed.failure);
                    failures.push(failed);
                }
            }
        }
        Err(Failed::of_all(failures))
    }

    /// Tries a name that never succeeded at the staging directory first: what fails there costs
    /// nothing. One that is not reached is no reason to stop.
    async fn rehearse(&mut self, authority: &Authority) -> Result<(), Failed> {
        let wanted = self.acme.staging_first && !self.ledger.succeeded && !self.ledger.staged;
        let Some(staging) = authority.staging_directory.as_ref().filter(|_| wanted) else {
            return Ok(());
        };
        match self.ask(authority, staging).await {
            Ok(_) => {
                tracing::info!("site {}: {staging} has issued one for trial", self.wanted.site);
                self.ledger.staged = true;
                let kept = self.keep_ledger().and_then(|()| self.drop_order());
                kept.map_err(|failure| Failed { directory: staging.clone(), failure })
            }
            Err(failed) if failed.failure.kind == Kind::Unreachable => {
                tracing::warn!("site {}: no trial: {}", self.wanted.site, failed.failure);
                Ok(())
            }
            Err(failed) => Err(failed),
        }
    }

    async fn ask(&mut self, authority: &Authority, directory: &str) -> Result<Issued, Failed> {
        let recent = self.unreached.recently(directory).filter(|_| !self.is_forced);
        if let Some(failure) = recent {
            return Err(Failed { directory: directory.to_owned(), failure });
        }
        let result = match self.ask_once(authority, directory).await {
            // Its memory may be gone; the key is the same, and so no second account is made.
            Err(failure) if failure.kind == Kind::Forgotten => {
                match account::forget(self.vault, directory).await {
                    Ok(()) => self.ask_once(authority, directory).await,
                    Err(failure) => Err(failure),
                }
            }
            result => result,
        };
        let directory = directory.to_owned();
        match result {
            Ok((text, stored)) => Ok(Issued { directory, text, stored }),
            Err(failure) => {
                if failure.kind == Kind::Unreachable {
                    self.unreached.note(&directory, &failure);
                }
                Err(Failed { directory, failure })
            }
        }
    }

    async fn ask_once(
        &mut self,
        authority: &Authority,
        directory: &str,
    ) -> Result<(String, Stored), Failure> {
        self.within_budget(directory)?;
        let tls = self.roots.of(authority.ca.as_ref());
        let tls = tls.map_err(|words| Failure::new(Kind::Unreachable, words))?;
        let transport = Transport::new(tls);
        let whom = Whom {
            directory,
            transport: &transport,
            email: self.acme.email.as_deref(),
            eab: authority.eab.as_ref(),
        };
        let account = account::open(self.vault, whom).await?;
        let profile = self.profile(authority, &account);
        let mut tried: Vec<(Solver, Failure)> = Vec::new();
        let mut seen = Vec::new();
        // It looks while the authority does, so that nobody waits for it before a failure.
        let mut preflight = Preflight::begin(Sight {
            names: self.wanted.names.clone(),
            solvers: self.able(),
            pending: Arc::clone(self.pending),
            transport: transport.clone(),
            directory: directory.to_owned(),
            account: account.id().to_owned(),
        });
        for solver in self.able() {
            let ask = Ask {
                vault: self.vault,
                held: self.held,
                wanted: self.wanted,
                account: &account,
                directory,
                profile,
                replaces: self.replaced(directory),
                solver,
                pending: self.pending,
                scribe: self.acme.dns.as_ref().map(|dns| Scribe { dns, helper: self.helper }),
            };
            match order::issue(&ask).await {
                Err(failure) if failure.kind == Kind::Unproved => {
                    let words = preflight.words(solver).await;
                    let one = failure.clone().after(&[(solver, failure.clone())], &words);
                    tracing::warn!("site {}: {one}", self.wanted.site);
                    let now = SystemTime::now();
                    self.ledger.fail_to_prove(directory, &self.wanted.names, now);
                    self.keep_ledger()?;
                    let new = words.into_iter().filter(|word| !seen.contains(word));
                    seen.extend(new.collect::<Vec<_>>());
                    tried.push((solver, failure));
                    self.within_budget(directory).map_err(|limit| limit.after(&tried, &seen))?;
                }
                Err(failure) if failure.kind == Kind::Unshown => {
                    tracing::warn!("site {}: {failure}", self.wanted.site);
                    tried.push((solver, failure));
                }
                Ok(issued) => return Ok(issued),
                Err(failure) => {
                    if failure.kind == Kind::Unusable {
                        let names = &self.wanted.names;
                        self.ledger.count_issued(directory, names, SystemTime::now());
                    }
                    return Err(failure.after(&tried, &seen));
                }
            }
        }
        let last = tried.last().map(|(_, failure)| failure.clone().after(&tried, &seen));
        Err(last.unwrap_or_else(|| {
            let words = "no challenge can work here: http-01 takes an address in `server.http`, \
                         tls-alpn-01 one in `server.https`, dns-01 takes [acme.dns], the only \
                         one for a wildcard, and `acme.challenges` may name fewer";
            Failure::new(Kind::Unprovable, words)
        }))
    }

    /// What can prove every name of the certificate: there is one order for all.
    fn able(&self) -> Vec<Solver> {
        let can = |solver: &Solver| {
            self.wanted.names.iter().all(|name| solver.can_prove(name, self.acme))
        };
        self.solvers.iter().copied().filter(can).collect()
    }

    /// The configured profile, where the authority offers it.
    fn profile<'p>(&self, authority: &'p Authority, account: &Account) -> Option<&'p str> {
        let profile = authority.profile.as_deref()?;
        let offered: Vec<&str> = account.profiles().map(|offered| offered.name).collect();
        if offered.contains(&profile) {
            return Some(profile);
        }
        let offers = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
        let (site, directory) = (&self.wanted.site, &authority.directory);
        tracing::warn!("site {site}: {directory} offers no profile `{profile}`, but {offers}");
        None
    }

    /// What the authority is told to be replaced, where it gives windows and has issued it itself.
    fn replaced(&self, directory: &str) -> Option<instant_acme::CertificateIdentifier<'static>> {
        self.ledger.window().filter(|_| self.ledger.directory.as_deref() == Some(directory))?;
        let stored = stored::read(self.vault, &self.wanted.names).ok().flatten()?;
        renewal_info::identifier(stored.certified.cert.first()?)
    }

    /// Whether the authority may be asked once more without burning one of its limits.
    fn within_budget(&self, directory: &str) -> Result<(), Failure> {
        let Some(limits) = limits_of(directory) else { return Ok(()) };
        let ledgers = ledger::all(self.vault, &self.wanted.names, self.ledger)?;
        let names = &self.wanted.names;
        let budget = Budget { directory, names, ledgers: &ledgers };
        let now = SystemTime::now();
        let Some((at, words)) = budget.wait(&limits, now) else { return Ok(()) };
        let retry_after = at.duration_since(now).ok();
        let words = format!("not asked, so that no limit of the authority is burnt: {words}");
        Err(Failure { retry_after, ..Failure::new(Kind::Limited, words) })
    }

    fn keep_ledger(&mut self) -> Result<(), Failure> {
        Ok(self.ledger.write(self.vault, &self.wanted.names, self.held)?)
    }

    fn drop_order(&self) -> Result<(), Failure> {
        Ok(self.vault.remove(&order::entry(&self.wanted.names), self.held)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first of two said what was wrong with the name, and only that the other was not reached
    /// was told.
    #[test]
    fn every_authority_s_reason_is_told_and_the_dearest_waited_out() {
        let failed = |directory: &str, kind, words: &str, ways: &[&str]| Failed {
            directory: directory.to_owned(),
            failure: Failure {
                ways: ways
                    .iter()
                    .map(|way| Way { challenge: (*way).to_owned(), error: "no".to_owned() })
                    .collect(),
                ..Failure::new(kind, words)
            },
        };
        let first = failed("https://a.test", Kind::Unproved, "nobody is there", &["http-01"]);
        let second = failed("https://b.test", Kind::Unreachable, "no answer", &[]);
        let all = Failed::of_all(vec![first, second]);
        assert_eq!(all.directory, "https://b.test");
        assert_eq!(all.failure.words, "no answer; before that https://a.test: nobody is there");
        assert_eq!(all.failure.cost(), Cost::Attempt);
        assert_eq!(all.failure.ways[0].error, "https://a.test: no");
        let one = failed("https://b.test", Kind::Unreachable, "no answer", &["dns-01"]);
        let one = Failed::of_all(vec![one]).failure;
        assert_eq!((one.words.as_str(), one.ways[0].error.as_str()), ("no answer", "no"));
        assert_eq!(one.cost(), Cost::Nothing);
    }
}
