//! The ramps of `hsts`: once a minute each may climb, and where there is trouble it begins anew.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::Plane;
use crate::config::Hsts;
use crate::tls::acme::Standing;
use crate::tls::hsts::book::Book;
use crate::tls::hsts::{Progress, header, is_storm};
use crate::tls::storage::StorageError;

/// Handshakes are judged by the hour.
const WINDOW: Duration = Duration::from_secs(3600);

/// So many looks may be lost with the process, and the ramp be this much later: a disk is spared.
/// What climbs or begins anew is kept at once.
const STORE: u32 = 10;

/// How often another process may write between our reading and our writing, in one look.
const RACES: usize = 3;

/// What has been seen of handshakes, and when what was last stored.
#[derive(Debug)]
pub(super) struct Lookout {
    since: SystemTime,
    /// Handshakes that had succeeded and failed then.
    before: (u64, u64),
    looks: u32,
    /// What is known of each ramp since the last look at the storage, by the site's name.
    known: HashMap<String, Progress>,
    /// Sites whose state is damaged, which was said.
    damaged: HashSet<String>,
    /// Whether the storm that is on has been kept.
    is_storm_noted: bool,
}

impl Lookout {
    pub(super) fn new(now: SystemTime) -> Self {
        let (known, damaged) = (HashMap::new(), HashSet::new());
        Self { since: now, before: (0, 0), looks: 0, known, damaged, is_storm_noted: false }
    }

    /// Says once that what is kept of a site cannot be read.
    fn say_damage(&mut self, site: &str, stored: Option<&Progress>) {
        let Some(damage) = stored.and_then(Progress::damage) else {
            self.damaged.remove(site);
            return;
        };
        if self.damaged.insert(site.to_owned()) {
            tracing::error!(
                "site {site}: how far its hsts has come cannot be read, and nothing is sent until \
                 `portcullis certs hsts start {site}` or `reset {site}`: {damage}"
            );
        }
    }

    /// Whether handshakes fail as they do where something is wrong.
    fn is_stormy(&mut self, now: SystemTime, so_far: (u64, u64)) -> bool {
        let of_late =
            (so_far.0.saturating_sub(self.before.0), so_far.1.saturating_sub(self.before.1));
        if now.duration_since(self.since).is_ok_and(|age| age < WINDOW) {
            return is_storm(of_late.0, of_late.1);
        }
        (self.since, self.before) = (now, so_far);
        is_storm(of_late.0, of_late.1)
    }
}

/// One look at one ramp.
struct Look<'a> {
    site: &'a str,
    setting: Hsts,
    now: SystemTime,
    is_quiet: bool,
    /// Whether to keep it though nothing has happened.
    is_kept: bool,
}

impl Lookout {
    /// Looks at a ramp of which `stored` is in the storage. How far it is then; `None` where other
    /// processes write there all the time, or somebody has reset it meanwhile.
    ///
    /// # Errors
    /// When it cannot be kept: another start would not know of it, and nobody is told more before.
    fn look(
        &mut self,
        book: &Book,
        look: &Look<'_>,
        mut stored: Option<Progress>,
    ) -> Result<Option<Progress>, StorageError> {
        for _ in 0..RACES {
            let before = stored.as_ref().filter(|progress| progress.is_of(look.setting));
            if before.is_some_and(Progress::is_reset) {
                return Ok(None);
            }
            // Another process may have led it on or seen trouble, or the state been removed.
            let known = self.known.remove(look.site).filter(|known| {
                known.is_of(look.setting) && before.is_some_and(|it| known.is_abreast_of(it))
            });
            let mut progress = match (known, before) {
                (Some(known), _) => known,
                (None, Some(stored)) => stored.clone().taken_up(look.now),
                (None, None) => Progress::new(look.setting, look.now),
            };
            let had_quiet = progress.has_quiet() || before.is_some_and(Progress::has_quiet);
            let climbed = progress.look(look.now, look.is_quiet);
            let is_news = climbed || before.is_none() || (had_quiet && !look.is_quiet);
            if !(is_news || look.is_kept)
                || book.write_over(look.site, stored.as_ref(), &progress)?
            {
                if climbed {
                    let ((step, of), age) = (progress.step(), progress.max_age());
                    let site = look.site;
                    tracing::info!(
                        "site {site}: hsts climbs to step {step} of {of}: {age} seconds"
                    );
                }
                self.known.insert(look.site.to_owned(), progress.clone());
                return Ok(Some(progress));
            }
            stored = book.read(look.site);
        }
        Ok(None)
    }
}

impl Plane {
    /// Looks at every ramp; what has climbed is published.
    pub(super) async fn climb(&mut self) {
        let stormy = self.lookout.is_stormy(SystemTime::now(), self.registry.handshakes());
        self.lookout.looks = self.lookout.looks.wrapping_add(1);
        if self.look_at_ramps(stormy) {
            self.take_certificates().await;
        }
    }

    /// Looks at once where a storm has begun: a process that dies, or another one, forgets nothing.
    pub(super) fn heed_storm(&mut self) {
        let stormy = self.lookout.is_stormy(SystemTime::now(), self.registry.handshakes());
        if stormy && !self.lookout.is_storm_noted {
            self.look_at_ramps(true);
        }
        self.lookout.is_storm_noted = stormy;
    }

    /// Whether something else is to be sent now than is.
    fn look_at_ramps(&mut self, stormy: bool) -> bool {
        let now = SystemTime::now();
        let is_kept = self.lookout.looks.is_multiple_of(STORE);
        let state = std::sync::Arc::clone(&self.state);
        let book = Book::of(&state.config.acme.storage);
        let mut is_news = false;
        for (site, service) in state.config.sites.iter().zip(&state.services) {
            if site.hsts == Hsts::Off || state.config.server.https.is_empty() {
                continue;
            }
            let name = site.name();
            // `certs hsts` may have written there.
            let stored = book.read(&name);
            let of_it = stored.as_ref().filter(|progress| progress.is_of(site.hsts));
            self.lookout.say_damage(&name, of_it);
            if of_it.is_some_and(Progress::is_reset) || !is_ramp(site.hsts) {
                is_news |= header(site.hsts, of_it) != service.hsts;
                self.lookout.known.remove(&name);
                continue;
            }
            let is_quiet = !stormy && self.certificate_error.is_none() && !self.fails(&name, now);
            let look = Look { site: &name, setting: site.hsts, now, is_quiet, is_kept };
            match self.lookout.look(&book, &look, stored) {
                Ok(Some(it)) => is_news |= header(site.hsts, Some(&it)) != service.hsts,
                Ok(None) => {}
                Err(error) => tracing::error!("site {name}: hsts stays as it is: {error}"),
            }
        }
        is_news
    }

    /// Whether a certificate of a site should have been renewed or never came, or its renewal has
    /// failed and not succeeded since.
    fn fails(&self, site: &str, now: SystemTime) -> bool {
        let certificates = self.state.certificates.inventory();
        let mut of_site = certificates.iter().filter(|certificate| certificate.site == site);
        of_site.any(|certificate| certificate.source.is_stopgap() || certificate.is_late(now))
            || has_failed(&self.acme.standings(), site)
    }

    /// Leads a site down, or has it begin anew; its name is answered.
    pub(super) async fn set_hsts(&mut self, host: &str, reset: bool) -> Result<String, String> {
        let config = self.state.config.clone();
        let name = set(&config, host, reset, SystemTime::now())?;
        self.lookout.known.remove(&name);
        self.take_certificates().await;
        tracing::info!("site {name}: hsts is {}", if reset { "reset" } else { "started anew" });
        Ok(name)
    }
}

fn has_failed(standings: &[Standing], site: &str) -> bool {
    let mut of_site = standings.iter().filter(|standing| standing.site == site);
    of_site.any(|standing| standing.failures > 0 || standing.fault.is_some())
}

fn is_ramp(setting: Hsts) -> bool {
    matches!(setting, Hsts::Ramp { .. })
}

/// Writes into the storage that the site of `host` is led down, or begins anew; its name is
/// answered.
///
/// # Errors
/// When there is no such site, it has no `hsts`, or the storage cannot be written.
pub fn set(
    config: &crate::config::Config,
    host: &str,
    reset: bool,
    now: SystemTime,
) -> Result<String, String> {
    let sites = &config.sites;
    let wanted = host.trim_end_matches('.').to_ascii_lowercase();
    let is_named = |site: &&crate::config::Site| {
        site.hosts.iter().any(|pattern| pattern.to_string() == wanted)
    };
    let parsed = crate::proxy::headers::host::Host::parse(wanted.as_bytes()).ok();
    let site = sites.iter().find(is_named).or_else(|| config.site(parsed.as_ref()?));
    let site = site.ok_or_else(|| format!("no site has the host {host:?}"))?;
    let name = site.name();
    if site.hsts == Hsts::Off {
        return Err(format!(
            "site {name} has hsts = \"off\": nothing is sent; set it to \"ramp\" or a duration, \
             reset it, and leave it so until every browser has been here"
        ));
    }
    let progress =
        if reset { Progress::reset(site.hsts, now) } else { Progress::new(site.hsts, now) };
    let book = Book::of(&config.acme.storage);
    book.write(&name, &progress).map_err(|error| error.to_string())?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAMP: Hsts = Hsts::Ramp { include_subdomains: false };
    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000 + seconds)
    }

    /// One process on the storage of `book`.
    struct Process<'a>(Lookout, &'a Book);

    impl<'a> Process<'a> {
        fn start(book: &'a Book) -> Self {
            Self(Lookout::new(at(0)), book)
        }

        /// The step after a look so many seconds on.
        fn look(&mut self, seconds: u64, is_quiet: bool) -> usize {
            let now = at(seconds);
            let look = Look { site: "a.test", setting: RAMP, now, is_quiet, is_kept: false };
            let stored = self.1.read("a.test");
            self.0.look(self.1, &look, stored).unwrap().unwrap().step().0
        }

        /// Looks once a minute until `to`, and keeps what it sees.
        fn watch(&mut self, from: u64, to: u64) {
            for now in (from..=to).step_by(60) {
                self.look(now, true);
            }
            let known = self.0.known.get("a.test").unwrap();
            self.1.write("a.test", known).unwrap();
        }
    }

    /// It was kept with the next of ten looks only, and a process started before that climbed.
    #[test]
    fn a_storm_is_kept_at_once_and_no_restart_forgets_it() {
        let storage = tempfile::tempdir().unwrap();
        let book = Book::of(storage.path());
        let mut old = Process::start(&book);
        old.watch(0, DAY - 60);
        assert_eq!(book.read("a.test").unwrap().left(), Some(60));
        assert_eq!(old.look(DAY - 30, false), 1);
        assert_eq!(book.read("a.test").unwrap().left(), Some(DAY));
        let mut new = Process::start(&book);
        for now in 0..20 {
            assert_eq!(new.look(DAY + now * 60, true), 1);
        }
    }

    #[test]
    fn a_process_that_has_just_begun_does_not_know_what_was_seen_before() {
        let storage = tempfile::tempdir().unwrap();
        let book = Book::of(storage.path());
        Process::start(&book).watch(0, DAY - 60);
        let mut new = Process::start(&book);
        assert_eq!(new.look(DAY, true), 1, "a minute that nobody here has watched");
        assert_eq!(new.look(DAY + 60, true), 2);
    }

    /// What one process saw did not hold the other back, and that wrote over it.
    #[test]
    fn another_process_begins_anew_with_the_one_that_saw_a_storm() {
        let storage = tempfile::tempdir().unwrap();
        let book = Book::of(storage.path());
        let (mut a, mut b) = (Process::start(&book), Process::start(&book));
        a.watch(0, DAY - 60);
        b.look(DAY - 60, true);
        assert_eq!(a.look(DAY - 1, false), 1);
        assert_eq!(b.look(DAY, true), 1);
        assert_eq!(book.read("a.test").unwrap().left(), Some(DAY));
        for now in 1..20 {
            assert_eq!(b.look(DAY + now * 60, true), 1);
        }
    }

    #[test]
    fn who_has_read_before_another_wrote_does_not_climb() {
        let storage = tempfile::tempdir().unwrap();
        let book = Book::of(storage.path());
        let (mut a, mut b) = (Process::start(&book), Process::start(&book));
        a.watch(0, DAY - 60);
        b.look(DAY - 60, true);
        let read = book.read("a.test");
        a.look(DAY - 1, false);
        let look =
            Look { site: "a.test", setting: RAMP, now: at(DAY), is_quiet: true, is_kept: false };
        let seen = b.0.look(&book, &look, read).unwrap().unwrap();
        assert_eq!((seen.step().0, seen.left()), (1, Some(DAY)));
    }

    #[test]
    fn a_renewal_that_has_failed_is_trouble_of_its_own_site() {
        let standing = |failures, fault| Standing {
            site: "a.test".to_owned(),
            failures,
            fault,
            ..Standing::default()
        };
        let words = "the disk is full".to_owned();
        let fault = crate::tls::acme::standing::Fault { at: at(0), words, next: at(60) };
        assert!(!has_failed(&[standing(0, None)], "a.test"));
        assert!(has_failed(&[standing(0, None), standing(1, None)], "a.test"));
        assert!(has_failed(&[standing(0, Some(fault))], "a.test"));
        assert!(!has_failed(&[standing(1, None)], "b.test"));
    }
}
