//! What is remembered of each certificate over restarts: attempts, failures, the next try.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::names::stem;
use super::schedule::{Cost, Window, back_off, rest};
use super::vault::{Held, Vault};
use crate::tls::storage::StorageError;

/// Moments are milliseconds since 1970.
type Moment = u64;

/// What is remembered of one certificate. What it knows nothing of is as if nothing had happened,
/// so that a damaged ledger costs a few attempts and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The names that were asked for last.
    pub names: Vec<String>,
    /// Failures since the last success.
    pub failures: u32,
    /// Not to be asked for before this.
    next_try: Moment,
    /// The last failure, until the next success.
    pub trouble: Option<Trouble>,
    /// Whether an authority that counts has ever issued it.
    pub succeeded: bool,
    /// Whether the staging directory has.
    pub staged: bool,
    /// The directory whose certificate is kept.
    pub directory: Option<String>,
    /// The window that this authority gave for it, and until when that holds.
    window: Option<(Moment, Moment)>,
    window_until: Moment,
    /// The certificate that is kept is good enough until then.
    rests_until: Moment,
    /// Whether a person wants another, due or not, and no attempt has ended since.
    requested: bool,
    /// The certificate that was revoked, until another is issued.
    pub revoked: Option<Revoked>,
    /// What was issued in the last week.
    pub issued: Vec<Event>,
    /// What failed to be proved in the last week.
    pub unproved: Vec<Event>,
    /// Whether what was kept could not be read, and this is as if nothing had happened.
    #[serde(skip)]
    is_damaged: bool,
}

/// Something that an authority counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    at: Moment,
    /// The directory of the authority.
    pub directory: String,
    /// The names that it was about.
    pub names: Vec<String>,
}

/// Why the last attempt came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    at: Moment,
    /// The directory that was asked.
    pub directory: String,
    /// For the operator.
    pub words: String,
    /// Whether no authority has counted it: a start need not wait out what follows from it.
    #[serde(default)]
    pub is_free: bool,
    /// Why each challenge that was tried came to nothing.
    #[serde(default)]
    pub ways: Vec<Way>,
}

/// Why one challenge came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// What it is called in the configuration.
    pub challenge: String,
    /// For the operator.
    pub error: String,
}

/// A certificate that was revoked here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    at: Moment,
    /// SHA-256 of the certificate, hexadecimal; empty where that is lost, and whatever is kept is
    /// meant.
    leaf: String,
    /// Why, as RFC 5280 §5.3.1 calls it.
    pub reason: String,
    /// Whether another is asked for by itself.
    pub renews: bool,
}

/// What is older than this counts no more.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// More events of a kind are not remembered: no limit is as high, and certificates of a minute are
/// thousands a week.
const MOST: usize = 100;

/// The entry of the ledger for these names.
#[must_use]
pub fn entry(names: &[String]) -> String {
    format!("{}.json", stem(names))
}

/// The entry of what was revoked of these names: there beside the ledger, so that damage in that
/// brings nothing back.
#[must_use]
pub fn mark(names: &[String]) -> String {
    format!("{}.revoked", stem(names))
}

/// Every ledger there is, `own` in place of what is kept for `names`. One that cannot be read
/// counts nothing.
///
/// # Errors
/// When the storage cannot be listed.
pub fn all(vault: &dyn Vault, names: &[String], own: &Ledger) -> Result<Vec<Ledger>, StorageError> {
    let ours = entry(names);
    let mut ledgers = vec![own.clone()];
    for name in vault.list()? {
        let is_ledger = name.ends_with(".json")
            && !name.starts_with('.')
            && !name.ends_with(".order.json")
            && !name.starts_with("account@");
        if is_ledger && name != ours {
            let text = vault.get(&name).ok().flatten().unwrap_or_default();
            ledgers.extend(serde_json::from_slice::<Ledger>(&text).ok());
        }
    }
    Ok(ledgers)
}

impl Ledger {
    /// Reads it; where there is none or it is damaged, which is said, one that knows nothing but
    /// what was revoked.
    ///
    /// # Errors
    /// When the storage cannot be read.
    pub fn read(vault: &dyn Vault, names: &[String]) -> Result<Self, StorageError> {
        let name = entry(names);
        let text = vault.get(&name)?;
        let is_damaged = match text.as_deref().map(serde_json::from_slice) {
            Some(Ok(ledger)) => return Ok(ledger),
            Some(Err(error)) => {
                tracing::warn!("{} is damaged and begun anew: {error}", vault.place(&name));
                true
            }
            None => false,
        };
        let lost = || Revoked {
            at: 0,
            leaf: String::new(),
            reason: "unspecified".to_owned(),
            renews: true,
        };
        let revoked = vault.get(&mark(names))?;
        let revoked = revoked.map(|text| serde_json::from_slice(&text).unwrap_or_else(|_| lost()));
        Ok(Self { names: names.to_vec(), revoked, is_damaged, ..Self::default() })
    }

    /// Whether what was kept could not be read.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the storage cannot be written.
    pub fn write(
        &mut self,
        vault: &dyn Vault,
        names: &[String],
        held: &Held,
    ) -> Result<(), StorageError> {
        self.names = names.to_vec();
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        if let Some(revoked) = &self.revoked {
            let mark_text = serde_json::to_vec_pretty(revoked).unwrap_or_default();
            vault.put(&mark(names), &mark_text, held)?;
        }
        vault.put(&entry(names), &text, held)?;
        self.is_damaged = false;
        match &self.revoked {
            None => vault.remove(&mark(names), held),
            Some(_) => Ok(()),
        }
    }

    /// Not to be asked for before this.
    #[must_use]
    pub fn next_try(&self) -> SystemTime {
        moment(self.next_try)
    }

    /// The window that the authority gave.
    #[must_use]
    pub fn window(&self) -> Option<Window> {
        let (start, end) = self.window?;
        Some(Window { start: moment(start), end: moment(end) })
    }

    /// Whether it is time to ask the authority for a window.
    #[must_use]
    pub fn window_is_old(&self, now: SystemTime) -> bool {
        now >= self.window_until()
    }

    /// When it is time to ask the authority for a window.
    #[must_use]
    pub fn window_until(&self) -> SystemTime {
        moment(self.window_until)
    }

    /// The authority gave this window, or none; it is asked again after `hold`.
    pub fn windowed(&mut self, window: Option<Window>, hold: Duration, now: SystemTime) {
        self.window = window.map(|window| (millis(window.start), millis(window.end)));
        self.window_until = millis(now + hold);
    }

    /// A certificate was issued by the authority at `directory`.
    pub fn succeed(&mut self, directory: &str, names: &[String], now: SystemTime) {
        self.failures = 0;
        self.next_try = 0;
        self.requested = false;
        self.trouble = None;
        self.revoked = None;
        self.succeeded = true;
        self.directory = Some(directory.to_owned());
        self.window = None;
        self.window_until = 0;
        self.count_issued(directory, names, now);
    }

    /// What was issued is good enough for a while, however its dates stand: it has `left` to live.
    pub fn rest(&mut self, left: Duration, now: SystemTime) {
        self.rests_until = millis(now + rest(left, self.issued.len()));
    }

    /// The authority has issued one, of whatever use: it counts it.
    pub fn count_issued(&mut self, directory: &str, names: &[String], now: SystemTime) {
        self.issued.push(event(directory, names, now));
        self.forget(now);
    }

    /// Until when what is kept is good enough, however its dates stand.
    #[must_use]
    pub fn rests_until(&self) -> SystemTime {
        moment(self.rests_until)
    }

    /// The certificate that is kept was revoked. Where it `renews`, another is asked for at once.
    pub fn revoke(&mut self, leaf: &[u8], reason: &str, renews: bool, now: SystemTime) {
        let reason = reason.to_owned();
        self.revoked = Some(Revoked { at: millis(now), leaf: hash(leaf), reason, renews });
        self.next_try = 0;
    }

    /// Whether this is the certificate that was revoked.
    #[must_use]
    pub fn is_revoked(&self, leaf: &[u8]) -> bool {
        let is_it = |revoked: &Revoked| revoked.leaf.is_empty() || revoked.leaf == hash(leaf);
        self.revoked.as_ref().is_some_and(is_it)
    }

    /// Whether a certificate was revoked and this is no other: none, or the same.
    #[must_use]
    pub fn withdraws(&self, leaf: Option<&CertificateDer<'_>>) -> bool {
        self.revoked.is_some() && leaf.is_none_or(|leaf| self.is_revoked(leaf))
    }

    /// Whether nobody is asked until a person wants it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.revoked.as_ref().is_some_and(|revoked| !revoked.renews)
    }

    /// A person wants another, due or not: one attempt is made, whatever ends the process
    /// meanwhile. Where it was revoked it is asked for until it is there.
    pub fn request(&mut self) {
        self.requested = true;
        if let Some(revoked) = &mut self.revoked {
            revoked.renews = true;
        }
    }

    /// Whether a person wants another, and no attempt has ended since.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested
    }

    /// A validation failed, which authorities count.
    pub fn fail_to_prove(&mut self, directory: &str, names: &[String], now: SystemTime) {
        self.unproved.push(event(directory, names, now));
        self.forget(now);
    }

    /// An attempt came to nothing: the next is not before the back-off has passed, nor before
    /// `earliest`. Returns how long that is.
    pub fn fail(
        &mut self,
        (directory, words): (&str, &str),
        cost: Cost,
        life: Option<Duration>,
        earliest: Option<SystemTime>,
        now: SystemTime,
    ) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.requested = false;
        let seed = self.names.first().cloned().unwrap_or_default();
        let next = now + back_off(self.failures, cost, life, &seed);
        let next = earliest.map_or(next, |earliest| next.max(earliest));
        self.next_try = millis(next);
        self.trouble = Some(Trouble {
            at: millis(now),
            directory: directory.to_owned(),
            words: words.to_owned(),
            is_free: cost == Cost::Nothing,
            ways: Vec::new(),
        });
        next.duration_since(now).unwrap_or_default()
    }

    /// The attempt that came to nothing has tried these challenges.
    pub fn tried(&mut self, ways: &[Way]) {
        if let Some(trouble) = &mut self.trouble {
            trouble.ways = ways.to_vec();
        }
    }

    /// Forgets what counts no more.
    fn forget(&mut self, now: SystemTime) {
        let oldest = millis(now.checked_sub(WEEK).unwrap_or(UNIX_EPOCH));
        for events in [&mut self.issued, &mut self.unproved] {
            events.retain(|event| event.at >= oldest);
            let many = events.len().saturating_sub(MOST);
            events.drain(..many);
        }
    }
}

impl Event {
    /// When it was.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        moment(self.at)
    }
}

impl Revoked {
    /// When it was.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        moment(self.at)
    }
}

impl Trouble {
    /// When it was.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        moment(self.at)
    }
}

fn hash(der: &[u8]) -> String {
    digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn event(directory: &str, names: &[String], now: SystemTime) -> Event {
    Event { at: millis(now), directory: directory.to_owned(), names: names.to_vec() }
}

fn millis(moment: SystemTime) -> Moment {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Far beyond any sensible moment the sum would not fit.
fn moment(millis: Moment) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::acme::vault::Files;

    const CA: &str = "https://ca.test/dir";

    fn names() -> Vec<String> {
        vec!["a.test".to_owned()]
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn what_is_remembered_outlives_a_restart() {
        let storage = tempfile::tempdir().unwrap();
        let vault = Files::at(storage.path());
        let held = vault.lock("a.test").unwrap().unwrap();
        let mut ledger = Ledger::read(&vault, &names()).unwrap();
        assert_eq!(ledger.next_try(), UNIX_EPOCH);
        let wait = ledger.fail((CA, "no"), Cost::Attempt, None, None, now());
        ledger.fail_to_prove(CA, &names(), now());
        let window = Window { start: now(), end: now() + Duration::from_secs(9) };
        ledger.windowed(Some(window), Duration::from_secs(60), now());
        ledger.write(&vault, &names(), &held).unwrap();
        let again = Ledger::read(&vault, &names()).unwrap();
        assert_eq!(again, ledger);
        assert_eq!(again.next_try(), now() + Duration::from_millis(wait.as_millis() as u64));
        assert_eq!(again.trouble.as_ref().unwrap().words, "no");
        assert_eq!(again.window(), Some(window));
        assert!(!again.window_is_old(now()) && again.window_is_old(now() + WEEK));
    }

    #[test]
    fn a_damaged_ledger_is_begun_anew() {
        let storage = tempfile::tempdir().unwrap();
        let vault = Files::at(storage.path());
        let held = vault.lock("a.test").unwrap().unwrap();
        for text in ["", "{", "[1]", "{\"failures\": -1}"] {
            vault.put("a.test.json", text.as_bytes(), &held).unwrap();
            let read = Ledger::read(&vault, &names()).unwrap();
            let anew = Ledger { names: names(), is_damaged: true, ..Ledger::default() };
            assert_eq!(read, anew, "{text}");
        }
        vault.put("a.test.json", b"{\"next_try\": 18446744073709551615}", &held).unwrap();
        let _ = Ledger::read(&vault, &names()).unwrap().next_try();
    }

    #[test]
    fn what_was_revoked_is_known_until_another_is_issued() {
        let mut ledger = Ledger::default();
        ledger.fail((CA, "no"), Cost::Attempt, None, None, now());
        ledger.revoke(b"leaf", "superseded", true, now());
        assert!(ledger.is_revoked(b"leaf") && !ledger.is_revoked(b"other"));
        assert!(!ledger.is_held() && ledger.next_try() == UNIX_EPOCH, "another is due at once");
        ledger.revoke(b"leaf", "superseded", false, now());
        assert!(ledger.is_held());
        ledger.succeed(CA, &names(), now());
        assert_eq!((ledger.is_held(), &ledger.revoked), (false, &None));
    }

    #[test]
    fn damage_in_the_ledger_does_not_bring_back_what_was_revoked() {
        let storage = tempfile::tempdir().unwrap();
        let vault = Files::at(storage.path());
        let held = vault.lock("a.test").unwrap().unwrap();
        let leaf = CertificateDer::from(b"leaf".to_vec());
        let other = CertificateDer::from(b"other".to_vec());
        let read = || Ledger::read(&vault, &names()).unwrap();
        for renews in [true, false] {
            let mut ledger = Ledger::default();
            ledger.revoke(&leaf, "superseded", renews, now());
            ledger.write(&vault, &names(), &held).unwrap();
            for damage in ["", "[1]"] {
                vault.put("a.test.json", damage.as_bytes(), &held).unwrap();
                assert!(read().is_damaged() && read().is_held() != renews, "{damage:?}");
                assert!(read().withdraws(Some(&leaf)) && !read().withdraws(Some(&other)));
            }
            vault.remove("a.test.json", &held).unwrap();
            assert_eq!(read().is_held(), !renews, "not by its removal either");
        }
        vault.put("a.test.revoked", b"damaged too", &held).unwrap();
        assert!(read().withdraws(Some(&other)) && !read().is_held(), "another is asked for");
        let mut ledger = read();
        ledger.succeed(CA, &names(), now());
        ledger.write(&vault, &names(), &held).unwrap();
        vault.put("a.test.json", b"", &held).unwrap();
        assert!(!read().withdraws(None), "what was issued since is not what was revoked");
    }

    #[test]
    fn a_success_ends_the_trouble_and_is_counted_for_a_week() {
        let mut ledger = Ledger::default();
        let earliest = now() + WEEK;
        let wait = ledger.fail((CA, "no"), Cost::Attempt, None, Some(earliest), now());
        assert!(wait >= WEEK - Duration::from_secs(1), "the authority said when: {wait:?}");
        ledger.succeed(CA, &names(), now());
        assert_eq!((ledger.failures, &ledger.trouble, ledger.succeeded), (0, &None, true));
        assert_eq!(ledger.next_try(), UNIX_EPOCH);
        ledger.succeed(CA, &names(), now() + WEEK / 2);
        assert_eq!(ledger.issued.len(), 2);
        ledger.succeed(CA, &names(), now() + WEEK + Duration::from_secs(1));
        assert_eq!(ledger.issued.len(), 2, "the first counts no more");
        for _ in 0..10_000 {
            ledger.succeed(CA, &names(), now() + WEEK);
        }
        assert_eq!(ledger.issued.len(), MOST);
    }
}
