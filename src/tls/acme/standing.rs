//! How a certificate stands, for people.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::ledger::{Ledger, Revoked, Trouble};
use super::names::{Wanted, stem};
use super::schedule;
use super::stored::{self, Stored};
use super::vault::Vault;
use crate::tls::facts::count;
use crate::tls::storage::StorageError;

/// How one certificate stands, for people.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The name of its site.
    pub site: String,
    /// Its names.
    pub names: Vec<String>,
    /// When it is renewed, or asked for again; `None` where only a person has it asked for.
    pub next: Option<SystemTime>,
    /// When what is kept ends; `None` while there is none.
    pub not_after: Option<SystemTime>,
    /// From when on a certificate that was not renewed needs a person.
    pub loud_at: Option<SystemTime>,
    /// Failures since the last success.
    pub failures: u32,
    /// The last of them.
    pub trouble: Option<Trouble>,
    /// The directory that issued what is kept.
    pub directory: Option<String>,
    /// The certificate that was revoked, until another is issued.
    pub revoked: Option<Revoked>,
    /// Whether an authority is being asked.
    pub is_asking: bool,
    /// Whether the last attempt came before it was due and failed: the next is not before then.
    pub is_early: bool,
    /// Why the storage does not work, where it does not.
    pub fault: Option<Fault>,
}

/// The storage did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: SystemTime,
    /// Why, with the path.
    pub words: String,
    /// When that is tried again.
    pub next: SystemTime,
}

/// How a certificate stands after somebody has looked once.
pub(super) struct Round {
    /// What is kept.
    pub(super) stored: Option<Stored>,
    /// When it is to be asked for.
    pub(super) due: SystemTime,
    /// When something is to be done about it: not after it is due.
    pub(super) look: SystemTime,
    /// Whether it was revoked, and nothing has taken its place.
    pub(super) is_withdrawn: bool,
}

impl Standing {
    /// From what is kept; `due` is when the certificate is to be asked for.
    pub(super) fn of(
        wanted: &Wanted,
        stored: Option<&Stored>,
        ledger: &Ledger,
        due: SystemTime,
    ) -> Self {
        let facts = stored.map(|stored| &stored.facts);
        Self {
            site: wanted.site.clone(),
            names: wanted.names.clone(),
            next: (!ledger.is_held()).then_some(due),
            not_after: facts.map(|facts| facts.not_after),
            // One that was revoked serves nobody who looks.
            loud_at: facts
                .filter(|_| ledger.revoked.is_none())
                .map(|facts| schedule::loud_at(facts.not_before, facts.not_after)),
            failures: ledger.failures,
            trouble: ledger.trouble.clone(),
            directory: ledger.directory.clone(),
            revoked: ledger.revoked.clone(),
            is_asking: false,
            is_early: ledger.trouble.is_some() && due > ledger.next_try(),
            fault: None,
        }
    }

    /// As it stands in the storage, where no server runs: `next` is when one that is started would
    /// ask. A damaged certificate is none.
    ///
    /// # Errors
    /// When the storage cannot be read.
    pub fn read(vault: &dyn Vault, wanted: &Wanted) -> Result<Self, StorageError> {
        let ledger = Ledger::read(vault, &wanted.names)?;
        let stored = stored::read(vault, &wanted.names).ok().flatten();
        let due = due(wanted, stored.as_ref(), &ledger, true);
        Ok(Self::of(wanted, stored.as_ref(), &ledger, due))
    }

    /// Whether there is something to ask for now: it is due, has failed, or was never had.
    #[must_use]
    pub fn is_wanting(&self, now: SystemTime) -> bool {
        self.failures > 0
            || self.fault.is_some()
            || self.not_after.is_none()
            || self.next.is_none_or(|next| next <= now)
    }

    /// For programs, and for who asks by the control socket.
    #[must_use]
    pub fn as_json(&self, now: SystemTime) -> Value {
        let stamp =
            |moment: SystemTime| jiff::Timestamp::try_from(moment).ok().map(|t| t.to_string());
        let trouble = self.trouble.as_ref().map(|trouble| {
            json!({
                "at": stamp(trouble.at()),
                "directory": trouble.directory,
                "error": trouble.words,
                "challenges": trouble.ways,
                "early": self.is_early,
            })
        });
        let fault = self.fault.as_ref();
        let fault = fault.map(|it| json!({ "at": stamp(it.at), "error": it.words }));
        let next = match &self.fault {
            Some(fault) => Some(fault.next),
            None => self.next,
        };
        json!({
            "site": self.site,
            "names": self.names,
            "directory": self.directory,
            "not_after": self.not_after.and_then(stamp),
            // What is overdue is done as soon as may be.
            "next": next.and_then(|next| stamp(next.max(now))),
            "asking": self.is_asking,
            "failures": self.failures,
            "last_failure": trouble,
            "last_error": self.last_error(),
            "storage_failure": fault,
            "revoked": self.revoked.as_ref().map(|revoked| json!({
                "at": stamp(revoked.at()),
                "reason": revoked.reason,
                "renews": revoked.renews,
            })),
            "needs_a_person": self.call(now),
        })
    }

    /// What went wrong last, in words: the storage before the authority.
    fn last_error(&self) -> Option<&str> {
        let fault = self.fault.as_ref().map(|fault| fault.words.as_str());
        fault.or_else(|| self.trouble.as_ref().map(|trouble| trouble.words.as_str()))
    }

    /// What an operator is to know of a certificate that could not be got: at once where there is
    /// none or it could not be kept, and for another in time before it ends.
    #[must_use]
    pub fn call(&self, now: SystemTime) -> Option<String> {
        if let Some(fault) = &self.fault {
            return Some(format!(
                "site {}: the storage does not work, and no certificate can be kept for {}: {}",
                self.site,
                self.names.join(", "),
                fault.words
            ));
        }
        let trouble = self.trouble.as_ref()?;
        let is_late = self.loud_at.is_none_or(|at| now >= at);
        is_late.then(|| {
            format!(
                "site {}: no certificate could be got for {} ({}): {}: {}",
                self.site,
                self.names.join(", "),
                count(self.failures.into(), "failure"),
                trouble.directory,
                trouble.words
            )
        })
    }
}

/// Longer after 1970 than any certificate lives: in the year 2514.
const NEVER: Duration = Duration::from_secs(1 << 34);

/// When a certificate is to be asked for. Who is eager does not wait out one that no authority
/// has counted.
pub(super) fn due(
    wanted: &Wanted,
    stored: Option<&Stored>,
    ledger: &Ledger,
    is_eager: bool,
) -> SystemTime {
    if ledger.is_held() {
        return SystemTime::UNIX_EPOCH + NEVER;
    }
    let fits = |stored: &&Stored| {
        let is_revoked = stored.certified.cert.first().is_some_and(|leaf| ledger.is_revoked(leaf));
        let is_fit = stored.covers(&wanted.names) && stored.is_of(wanted.key_type);
        is_fit && !is_revoked && !ledger.is_requested()
    };
    let renewal = stored.filter(fits).map_or(SystemTime::UNIX_EPOCH, |stored| {
        let dates = (stored.facts.not_before, stored.facts.not_after);
        let renewal = schedule::renewal(dates, ledger.window(), &stem(&wanted.names));
        renewal.max(ledger.rests_until())
    });
    let is_free = ledger.trouble.as_ref().is_some_and(|trouble| trouble.is_free);
    if is_eager && is_free { renewal } else { renewal.max(ledger.next_try()) }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::config::KeyType;
    use crate::tls::acme::schedule::Cost;
    use crate::tls::acme::vault::Files;
    use crate::tls::testing::Pki;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn a_certificate_is_wanted_when_it_is_due_has_failed_or_was_never_had() {
        let later = Some(now() + Duration::from_secs(60));
        let calm = Standing { next: later, not_after: later, ..Standing::default() };
        assert!(!calm.is_wanting(now()));
        assert!(Standing { next: Some(now()), ..calm.clone() }.is_wanting(now()));
        assert!(Standing { failures: 1, ..calm.clone() }.is_wanting(now()));
        assert!(Standing { not_after: None, ..calm }.is_wanting(now()));
    }

    #[test]
    fn what_was_revoked_is_due_at_once_or_held_until_a_person_asks() {
        let pair = Pki::new().pair(&["a.test"]);
        let stored = Stored::parse(format!("{}{}", pair.key, pair.cert).as_bytes()).unwrap();
        let leaf = stored.certified.cert[0].clone();
        let wanted = Wanted {
            site: "a.test".to_owned(),
            names: vec!["a.test".to_owned()],
            key_type: KeyType::P256,
        };
        let mut ledger = Ledger::default();
        let at = |ledger: &Ledger| due(&wanted, Some(&stored), ledger, false);
        assert!(at(&ledger) > UNIX_EPOCH);
        ledger.revoke(&leaf, "superseded", true, now());
        assert_eq!(at(&ledger), UNIX_EPOCH, "another is due");
        ledger.revoke(&leaf, "superseded", false, now());
        assert!(at(&ledger) > now() + Duration::from_secs(86_400 * 365));
        let standing = Standing::of(&wanted, None, &ledger, at(&ledger));
        assert_eq!(standing.next, None);
        assert!(standing.is_wanting(now()), "`certs renew` asks for it");
        assert_eq!(standing.as_json(now())["revoked"]["reason"], "superseded");
    }

    /// One failure, and it was not due before the year 2514.
    #[test]
    fn what_a_person_asks_for_after_a_revocation_is_tried_again() {
        let wanted = Wanted {
            site: "a.test".to_owned(),
            names: vec!["a.test".to_owned()],
            key_type: KeyType::P256,
        };
        let mut ledger = Ledger::default();
        ledger.revoke(&[1], "superseded", false, now());
        ledger.request();
        let failed = ("https://ca.test/directory", "no answer");
        let wait = ledger.fail(failed, Cost::Nothing, None, None, now());
        assert!(wait <= Duration::from_secs(3600), "{wait:?}");
        assert_eq!(due(&wanted, None, &ledger, false), ledger.next_try());
        assert!(ledger.withdraws(None), "it is revoked all the same");
    }

    /// A process that was killed in the attempt left the order lying until the certificate was due.
    #[test]
    fn what_a_person_asks_for_is_due_until_an_attempt_has_ended() {
        let pair = Pki::new().pair(&["a.test"]);
        let stored = Stored::parse(format!("{}{}", pair.key, pair.cert).as_bytes()).unwrap();
        let wanted = Wanted {
            site: "a.test".to_owned(),
            names: vec!["a.test".to_owned()],
            key_type: KeyType::P256,
        };
        let mut ledger = Ledger::default();
        let at = |ledger: &Ledger| due(&wanted, Some(&stored), ledger, false);
        let renewal = at(&ledger);
        assert!(renewal > UNIX_EPOCH);
        ledger.request();
        assert_eq!(at(&ledger), UNIX_EPOCH);
        let failed = ("https://ca.test/directory", "no answer");
        ledger.fail(failed, Cost::Nothing, None, None, now());
        assert_eq!(at(&ledger), renewal.max(ledger.next_try()));
        ledger.request();
        ledger.succeed("https://ca.test/directory", &wanted.names, now());
        assert_eq!(at(&ledger), renewal);
    }

    #[test]
    fn a_storage_that_does_not_work_is_loud_at_once_with_the_true_next_try() {
        let later = now() + Duration::from_secs(86_400);
        let next = now() + Duration::from_secs(30);
        let words = "cannot write /s/acme/a.test.pem: No space left on device".to_owned();
        let fault = Fault { at: now(), words, next };
        let fine = Standing { next: Some(now()), not_after: Some(later), ..Standing::default() };
        assert_eq!(fine.call(now()), None);
        let standing = Standing { fault: Some(fault), loud_at: Some(later), ..fine };
        assert!(standing.call(now()).unwrap().contains("a.test.pem: No space left on device"));
        let json = standing.as_json(now());
        assert_eq!(json["next"], "2027-01-15T08:00:30Z");
        assert!(json["last_error"].as_str().unwrap().contains("No space left"), "{json}");
        assert!(json["needs_a_person"].is_string() && standing.is_wanting(now()));
    }

    #[test]
    fn without_a_server_the_storage_tells() {
        let storage = tempfile::tempdir().unwrap();
        let vault = Files::at(storage.path());
        let wanted = Wanted {
            site: "a.test".to_owned(),
            names: vec!["a.test".to_owned()],
            key_type: KeyType::P256,
        };
        let read = || Standing::read(&vault, &wanted).unwrap();
        assert_eq!((read().failures, read().next), (0, Some(UNIX_EPOCH)));
        let held = vault.lock("a.test").unwrap().unwrap();
        let mut ledger = Ledger::default();
        for (cost, waits) in [(Cost::Nothing, false), (Cost::Attempt, true)] {
            ledger.fail(("https://ca.test/dir", "no"), cost, None, None, now());
            ledger.write(&vault, &wanted.names, &held).unwrap();
            assert_eq!(read().next > Some(now()), waits, "{cost:?}");
        }
        let json = read().as_json(now());
        assert_eq!((&json["failures"], &json["last_failure"]["error"]), (&json!(2), &json!("no")));
        assert!(json["needs_a_person"].as_str().unwrap().contains("2 failures"), "{json}");
    }
}
