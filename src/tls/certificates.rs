//! The certificates of a configuration: where each comes from, and all of them together.

mod error;
mod info;
mod lacking;
mod shown;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::KeyLog;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::acme::Demand;
use super::acme::names::{stem, unprovable};
use super::files::{self, Handed, Kept, Pair};
use super::key_log;
use super::ocsp::question::Question;
use super::ocsp::{self, Staples};
use super::policy::{self, Policy};
use super::store::Table;
use super::wanted::{From, Local, Obtained, Want, wanted};
use crate::config::{Config, TlsSource};
use crate::proxy::headers::host::HostPattern;
pub use error::CertificateError;
pub(super) use error::Reason;
pub use info::{CertificateInfo, Source};
use lacking::Lacking;
pub(super) use lacking::UNKEPT;
use shown::Shown;

/// A local certificate whose renewal failed is tried again after this long, not at once.
const RETRY: Duration = Duration::from_secs(3600);

/// Every certificate that a configuration needs, loaded, checked and ready to be shown.
#[derive(Debug)]
pub struct Certificates {
    table: Arc<Table>,
    inventory: Vec<CertificateInfo>,
    /// What is served, for whom.
    shown: Vec<Shown>,
    loaded: SystemTime,
    /// What was read from files.
    pairs: Vec<Pair>,
    /// The rules of TLS towards clients, each once, and which of them each site has.
    policies: Vec<Arc<Policy>>,
    of_sites: Vec<usize>,
    /// What a predecessor could read of the files of rules.
    left: Vec<Kept>,
    key_log: Option<Arc<dyn KeyLog>>,
    /// What authorities have issued, by the name under which it is kept.
    issued: HashMap<String, CertificateDer<'static>>,
    /// What is got when clients ask for a name, from one configuration to the next.
    demand: Arc<Demand>,
    /// What responders have said, and what they are to be asked.
    staples: Arc<Staples>,
    questions: Vec<Arc<Question>>,
    /// When the first of what is stapled is over.
    staples_end: Option<SystemTime>,
    /// What could not be had at the start, or not be kept.
    lacking: Vec<Lacking>,
}

impl Certificates {
    /// Loads certificate files and opens the local authority, which is made on first use. Without
    /// an HTTPS listener there is nothing to do and nothing is made. What can be served but is not
    /// right (see [`super::files::judge`]) is logged as a warning.
    ///
    /// # Errors
    /// Every certificate that cannot be had, each with its site and the remedy.
    pub fn load(config: &Config, now: SystemTime) -> Result<Self, Vec<CertificateError>> {
        Self::load_again(config, now, None, &[])
    }

    /// The same after `before`: files that may not be read any more, because they were read before
    /// the program gave up its rights, are taken from there as long as they have not changed; those
    /// that a sandbox keeps from it, from what was `handed`.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn load_again(
        config: &Config,
        now: SystemTime,
        before: Option<&Self>,
        handed: &[Handed],
    ) -> Result<Self, Vec<CertificateError>> {
        match Self::gather(config, now, (before, handed), false) {
            (certificates, errors) if errors.is_empty() => Ok(certificates),
            (_, errors) => Err(errors),
        }
    }

    /// The same for files that have changed under a running program, whose configuration has not:
    /// where one cannot be used, its site goes on with what `before` has for it, and the others get
    /// what is new. What is wrong comes with it.
    #[must_use]
    pub fn renew(
        config: &Config,
        now: SystemTime,
        before: &Self,
        handed: &[Handed],
    ) -> (Self, Vec<CertificateError>) {
        Self::gather(config, now, (Some(before), handed), true)
    }

    fn gather(
        config: &Config,
        now: SystemTime,
        (before, handed): (Option<&Self>, &[Handed]),
        keeps: bool,
    ) -> (Self, Vec<CertificateError>) {
        let mut errors = Vec::new();
        let left = before.map_or(&[][..], |before| &*before.left);
        let left: Vec<Kept> = handed.iter().map(Handed::kept).chain(left.iter().cloned()).collect();
        let rules = before.map_or(&[][..], |before| &*before.policies);
        let (policies, of_sites) =
            policy::of_sites(config, now, (rules, &left), keeps, &mut errors);
        let mut all = Self {
            table: Arc::default(),
            inventory: Vec::new(),
            shown: Vec::new(),
            loaded: now,
            pairs: Vec::new(),
            issued: HashMap::new(),
            staples: before.map(|before| Arc::clone(&before.staples)).unwrap_or_default(),
            questions: Vec::new(),
            staples_end: None,
            lacking: Vec::new(),
            key_log: key_log::asked_for(config, before.and_then(|before| before.key_log.as_ref())),
            policies,
            of_sites,
            demand: before.map(|before| Arc::clone(&before.demand)).unwrap_or_default(),
            left: Vec::new(),
        };
        let under: HashMap<String, usize> =
            config.sites.iter().map(crate::config::Site::name).zip(all.of_sites.clone()).collect();
        let kept = before.filter(|_| keeps);
        let makes_do = before.is_none_or(|before| !before.lacking.is_empty());
        let mut local = Local::new(!keeps, makes_do);
        let before = before.map_or(&[][..], |before| &before.pairs);
        let mut table = Table::default();
        for site in config.sites.iter().filter(|_| !config.server.https.is_empty()) {
            if let TlsSource::OnDemand(_) = site.tls {
                let policy = under.get(&site.name()).copied().unwrap_or_default();
                table.show_on_demand(&site.hosts, &all.demand, policy);
            }
        }
        tell_unprovable(config);
        for want in wanted(config).into_iter().map(Arc::new) {
            let policy = under.get(&want.site).copied().unwrap_or_default();
            let obtained = match want.obtain(config, &mut local, (before, handed), now) {
                Ok(obtained) => obtained,
                Err(reason) => {
                    if let Some(kept) = kept {
                        table.inherit(&want.hosts, &kept.table, policy);
                        all.inherit(&want, kept);
                    }
                    errors.push(CertificateError { site: want.site.clone(), reason });
                    continue;
                }
            };
            for Obtained { certified, hosts, source, pair, lacks } in obtained {
                all.pairs.extend(pair);
                if let Some(reason) = lacks {
                    let error = CertificateError { site: want.site.clone(), reason };
                    let lacking = Lacking { error, shown: source.clone() };
                    tracing::error!("{lacking}");
                    all.lacking.push(lacking);
                }
                if !source.is_stopgap() {
                    let unstapled =
                        ocsp::judge(&certified, config.server.ocsp, &config.acme.storage, now);
                    for warning in want.judge(&certified, now).into_iter().chain(unstapled) {
                        tracing::warn!("site {}: {warning}", want.site);
                    }
                }
                table.insert(&hosts, &certified, policy);
                if let (From::LocalAuthority, Some(authority)) = (&want.from, local.get()) {
                    table.sign_on_demand(&hosts, &certified, authority);
                }
                if source == Source::Acme {
                    let leaf = certified.cert.first().cloned();
                    all.issued.extend(leaf.map(|leaf| (stem(&names_of(&want.hosts)), leaf)));
                }
                all.shown.push(Shown::new(&want, &source, &certified));
                all.inventory.extend(want.describe(&certified, source));
            }
        }
        all.staple(&mut table, config, now);
        all.table = Arc::new(table);
        (all, errors)
    }

    /// Shows what responders have said beside the certificates that it is about, and nothing that
    /// is over.
    fn staple(&mut self, table: &mut Table, config: &Config, now: SystemTime) {
        table.replace(|certified| {
            let question = Question::of(&certified.cert).filter(|_| config.server.ocsp);
            let staple = question.and_then(|question| {
                let staple = self.staples.of(&question, &config.acme.storage, now);
                self.questions.push(Arc::new(question));
                staple
            });
            if let Some(staple) = &staple {
                let until = staple.span.until;
                self.staples_end = Some(self.staples_end.map_or(until, |end| end.min(until)));
            }
            let ocsp = staple.map(|staple| staple.response);
            (certified.ocsp != ocsp)
                .then(|| CertifiedKey { ocsp, ..CertifiedKey::clone(certified) })
        });
        // In an order that does not change while they do not; sites may share a certificate.
        self.questions.sort_unstable_by_key(|question| question.key);
        self.questions.dedup_by_key(|question| question.key);
    }

    /// What responders are to be asked, and what they have said.
    #[must_use]
    pub fn questions(&self) -> (&[Arc<Question>], &Arc<Staples>) {
        (&self.questions, &self.staples)
    }

    /// Takes what `before` knows of what is wanted, the table aside.
    fn inherit(&mut self, want: &Want, before: &Self) {
        if let From::Files { cert, key } = &want.from {
            self.pairs.extend(before.pairs.iter().find(|pair| pair.is_of(cert, key)).cloned());
        }
        let name = stem(&names_of(&want.hosts));
        if let Some(leaf) = before.issued.get(&name) {
            self.issued.insert(name, leaf.clone());
        }
        self.shown.extend(before.shown.iter().filter(|shown| shown.is_of(want)).cloned());
        let is_of = |info: &&CertificateInfo| {
            info.site == want.site
                && match (&want.from, &info.source) {
                    (From::Files { cert, .. }, Source::File(path)) => cert == path,
                    (From::LocalAuthority, source) => {
                        matches!(
                            source,
                            Source::LocalAuthority | Source::Unkept | Source::Makeshift
                        )
                    }
                    (From::Acme, source) => *source == Source::Acme || source.is_stopgap(),
                    _ => false,
                }
        };
        self.inventory.extend(before.inventory.iter().filter(is_of).cloned());
    }

    /// The rules of TLS towards clients, each once.
    #[must_use]
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// The rules of a site, by its place in the configuration; `None` where TLS is not spoken.
    #[must_use]
    pub fn policy_of(&self, site: usize) -> Option<&Arc<Policy>> {
        self.policies.get(*self.of_sites.get(site)?)
    }

    pub(super) fn key_log(&self) -> Option<&Arc<dyn KeyLog>> {
        self.key_log.as_ref()
    }

    /// What is loaded, in the order of the sites.
    #[must_use]
    pub fn inventory(&self) -> &[CertificateInfo] {
        &self.inventory
    }

    /// When to load again so that no local certificate runs out, nor what is stapled to one; `None`
    /// when there is none. Files are renewed by whoever wrote them.
    #[must_use]
    pub fn next_renewal(&self) -> Option<SystemTime> {
        let is_local = |info: &&CertificateInfo| {
            matches!(info.source, Source::LocalAuthority | Source::StandIn | Source::Unkept)
        };
        let due = self.inventory.iter().filter(is_local);
        let due = due.map(CertificateInfo::renew_at).min();
        let due = due.map(|due| due.max(self.loaded + RETRY));
        let again = (!self.lacking.is_empty()).then(|| self.loaded + RETRY);
        due.into_iter().chain(self.staples_end).chain(again).min()
    }

    /// One sentence for each site that is shown a makeshift since the start, or what is not kept.
    pub fn lacking(&self) -> impl Iterator<Item = String> {
        self.lacking.iter().map(ToString::to_string)
    }

    /// What is served of what an authority has issued for these names.
    #[must_use]
    pub fn issued(&self, names: &[String]) -> Option<&CertificateDer<'static>> {
        self.issued.get(&stem(names))
    }

    /// The sites that are served from this host's own authority until another has issued a
    /// certificate.
    pub fn waiting(&self) -> impl Iterator<Item = &CertificateInfo> {
        self.inventory.iter().filter(|info| info.source == Source::StandIn)
    }

    /// One sentence for each file that this process could not read again: what was read serves as
    /// long as it runs, and a renewed one is not seen.
    #[must_use]
    pub fn out_of_reach(&self) -> Vec<String> {
        let mut paths: Vec<&Path> = self.pairs.iter().flat_map(Pair::paths).collect();
        paths.extend(self.files_of_rules().map(Kept::path));
        paths.sort_unstable();
        paths.dedup();
        let say = |path: &Path| {
            format!(
                "{} was read as root and cannot be read again: what was read is served, and a \
                 renewed one takes a restart, unless it may be read: {}",
                path.display(),
                files::remedy(path)
            )
        };
        paths.into_iter().filter(|path| files::is_closed(path)).map(say).collect()
    }

    /// What a process that takes this one's place cannot read itself, `others` counted; `None` when
    /// that is nothing. It holds private keys.
    #[must_use]
    pub fn bequest(&self, others: &[Kept]) -> Option<Vec<u8>> {
        files::bequest::write(self.pairs.iter(), self.files_of_rules().chain(others))
    }

    /// What was in files of rules, as a predecessor has left it.
    #[must_use]
    pub fn left(&self) -> &[Kept] {
        &self.left
    }

    fn files_of_rules(&self) -> impl Iterator<Item = &Kept> {
        self.policies.iter().flat_map(|policy| policy.files())
    }

    /// What a predecessor has left, for [`Certificates::load_again`]; nothing is served from it.
    ///
    /// # Errors
    /// When this is no [`Certificates::bequest`].
    pub fn inherited(bequest: &[u8]) -> io::Result<Self> {
        let (pairs, left) = files::bequest::read(bequest)?;
        let loaded = SystemTime::UNIX_EPOCH;
        let issued = HashMap::new();
        Ok(Self {
            table: Arc::default(),
            inventory: Vec::new(),
            shown: Vec::new(),
            loaded,
            pairs,
            issued,
            policies: Vec::new(),
            of_sites: Vec::new(),
            left,
            key_log: None,
            demand: Arc::default(),
            staples: Arc::default(),
            questions: Vec::new(),
            staples_end: None,
            lacking: Vec::new(),
        })
    }

    /// What is got when clients ask for a name.
    #[must_use]
    pub fn demand(&self) -> &Arc<Demand> {
        &self.demand
    }

    pub(super) fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

/// Names that somebody may expect to have a public certificate, and that cannot get one here.
fn tell_unprovable(config: &Config) {
    for site in config.sites.iter().filter(|_| !config.server.https.is_empty()) {
        let hosts = names_of(&unprovable(site, config)).join(", ");
        if !hosts.is_empty() {
            tracing::warn!(
                "site {}: no challenge can prove {hosts} to an authority here (a wildcard takes \
                 dns-01); one of the local authority is shown, which browsers do not trust",
                site.name()
            );
        }
    }
}

fn names_of(hosts: &[HostPattern]) -> Vec<String> {
    hosts.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::config::TlsSource;
    use crate::tls::testing::{DAY, Pki, config, site};
    use crate::tls::wanted::survey;

    fn files(directory: &Path, name: &str) -> TlsSource {
        let pair = Pki::new().pair(&[name]);
        let path = |end: &str| directory.join(format!("{name}.{end}"));
        fs::write(path("pem"), pair.cert).unwrap();
        fs::write(path("key"), pair.key).unwrap();
        fs::set_permissions(path("key"), fs::Permissions::from_mode(0o600)).unwrap();
        TlsSource::Files { cert: path("pem"), key: path("key") }
    }

    #[test]
    fn without_an_https_listener_nothing_is_made() {
        let storage = tempfile::tempdir().unwrap();
        let mut config = config(storage.path(), vec![site(&["localhost"], TlsSource::Auto)]);
        config.server.https.clear();
        let certificates = Certificates::load(&config, SystemTime::now()).unwrap();
        assert!(certificates.inventory().is_empty());
        assert_eq!(certificates.next_renewal(), None);
        assert_eq!(fs::read_dir(storage.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_authority_is_made_for_certificates_from_files() {
        let storage = tempfile::tempdir().unwrap();
        let inside = storage.path().join("storage");
        let tls = files(storage.path(), "a.test");
        let config = config(&inside, vec![site(&["a.test"], tls)]);
        let certificates = Certificates::load(&config, SystemTime::now()).unwrap();
        let info = &certificates.inventory()[0];
        assert_eq!(info.source, Source::File(storage.path().join("a.test.pem")));
        assert_eq!((info.site.as_str(), info.issuer.as_str()), ("a.test", "Test Authority"));
        assert_eq!(info.days_left(SystemTime::now()), 29);
        assert_eq!(certificates.next_renewal(), None);
        assert!(!inside.exists());
    }

    #[test]
    fn every_certificate_that_is_missing_is_told_at_once_with_its_site() {
        let storage = tempfile::tempdir().unwrap();
        let missing = |name: &str| TlsSource::Files {
            cert: storage.path().join(name),
            key: storage.path().join(name),
        };
        let sites = vec![
            site(&["a.test"], missing("a")),
            site(&["b.test"], missing("b")),
            site(&["localhost"], TlsSource::Auto),
            site(&["d.test"], files(storage.path(), "d.test")),
        ];
        let errors =
            Certificates::load(&config(storage.path(), sites), SystemTime::now()).unwrap_err();
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:#?}");
        for (error, start) in told.iter().zip(["a.test", "b.test"]) {
            assert!(error.starts_with(&format!("site {start}: ")), "{error}");
        }
    }

    /// The start ended, and sites with good certificates were not served either.
    #[test]
    fn a_damaged_local_authority_stops_no_start_and_is_told() {
        let storage = tempfile::tempdir().unwrap();
        let place = |name: &str| storage.path().join("local").join(name);
        let sites = vec![site(&["a.localhost"], TlsSource::Auto), site(&["b.de"], TlsSource::Auto)];
        let config = config(storage.path(), sites);
        let now = SystemTime::now();
        let first = Certificates::load(&config, now).unwrap();
        fs::write(place("root.pem"), "junk").unwrap();
        fs::write(place("root.key"), "junk").unwrap();
        for found in survey(&config, now) {
            assert!(matches!(found.certificate, Ok(None)), "{found:?}");
            assert!(found.warnings[0].contains("sets it aside"), "{found:?}");
        }
        let (renewed, errors) = Certificates::renew(&config, now, &first, &[]);
        assert!(!errors.is_empty() && !place("root.pem.damaged").exists(), "nothing is replaced");
        assert_eq!(renewed.inventory()[0], first.inventory()[0]);
        let second = Certificates::load(&config, now).unwrap();
        assert_eq!(second.inventory().len(), 2);
        assert_eq!(fs::read(place("root.key.damaged")).unwrap(), b"junk");
        let found = survey(&config, now);
        assert!(found[0].warnings[0].contains("must trust"), "{found:?}");
        fs::remove_file(place("root.key.damaged")).unwrap();
        fs::remove_file(place("root.pem.damaged")).unwrap();
        assert_eq!(survey(&config, now)[0].warnings, [""; 0]);
    }

    /// What cannot even be set aside.
    #[test]
    fn a_start_without_any_local_authority_makes_do_and_tries_again() {
        let storage = tempfile::tempdir().unwrap();
        let root = storage.path().join("local/root.pem");
        fs::create_dir_all(root.join("sub")).unwrap();
        let sites = vec![site(&["a.localhost"], TlsSource::Auto), site(&["b.de"], TlsSource::Auto)];
        let config = config(storage.path(), sites);
        let now = SystemTime::now();
        let first = Certificates::load(&config, now).unwrap();
        assert_eq!(first.inventory().len(), 2);
        let told: Vec<_> = first.lacking().collect();
        assert!(told.len() == 2 && told[0].contains("it is a directory"), "{told:?}");
        assert!(first.inventory().iter().all(|info| info.source == Source::Makeshift));
        assert_eq!(first.waiting().count(), 0, "none of the local authority is shown");
        let found = first.survey(&config, Some("a.localhost"), now);
        assert_eq!((&found[0].source, &found[0].places), (&Source::Makeshift, &None));
        assert!(matches!(found[1].certificate, Ok(None)), "{found:?}");
        assert!(first.next_renewal().unwrap() <= now + RETRY);
        fs::remove_dir_all(root).unwrap();
        let (second, errors) = Certificates::renew(&config, now, &first, &[]);
        assert!(errors.is_empty() && second.lacking().next().is_none(), "{errors:?}");
        assert!(second.inventory()[0].issuer.contains("local authority"));
    }

    /// It was said that nobody can trust what the local authority had signed.
    #[test]
    fn what_cannot_be_kept_is_signed_anew_and_told_as_that() {
        let storage = tempfile::tempdir().unwrap();
        let config = config(storage.path(), vec![site(&["a.localhost"], TlsSource::Auto)]);
        let now = SystemTime::now();
        Certificates::load(&config, now).unwrap();
        let [leaf] = &fs::read_dir(storage.path().join("local"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("a.localhost-"))
            .collect::<Vec<_>>()[..]
        else {
            panic!("one leaf")
        };
        fs::remove_file(leaf).unwrap();
        fs::create_dir(leaf).unwrap();
        let foretold = crate::tls::local_authority(&config, now);
        assert!(
            foretold.len() == 1 && foretold[0].contains("is a directory; until"),
            "{foretold:?}"
        );
        let found = survey(&config, now);
        assert!(found[0].warnings[0].contains("move away what lies"), "{found:?}");
        let first = Certificates::load(&config, now).unwrap();
        let info = &first.inventory()[0];
        assert_eq!(info.source, Source::Unkept);
        assert!(info.issuer.contains("local authority"), "{info:?}");
        let told: Vec<_> = first.lacking().collect();
        assert!(told[0].contains("the local authority signs another at each start"), "{told:?}");
        assert!(!told[0].contains("nobody can trust"), "{told:?}");
        let found = first.survey(&config, Some("a.localhost"), now);
        assert_eq!((&found[0].source, &found[0].places), (&Source::Unkept, &None));
        fs::remove_dir(leaf).unwrap();
        let (second, errors) = Certificates::renew(&config, now, &first, &[]);
        assert!(errors.is_empty() && second.lacking().next().is_none(), "{errors:?}");
        assert_eq!(second.inventory()[0].source, Source::LocalAuthority);
    }

    /// `check` had nothing to say of any of these.
    #[test]
    fn what_the_local_authority_lacks_is_foretold() {
        let now = SystemTime::now();
        let damages: [fn(&Path); 4] = [
            |storage| fs::write(storage.join("local"), "").unwrap(),
            |storage| fs::create_dir_all(storage.join("local/root.key")).unwrap(),
            |storage| fs::create_dir_all(storage.join("local/root.pem")).unwrap(),
            |storage| {
                let sites = vec![site(&["a.localhost"], TlsSource::Auto)];
                Certificates::load(&config(storage, sites), SystemTime::now()).unwrap();
                fs::remove_file(storage.join("local/root.key")).unwrap();
                fs::create_dir(storage.join("local/root.key")).unwrap();
            },
        ];
        for damage in damages {
            let storage = tempfile::tempdir().unwrap();
            damage(storage.path());
            for name in ["a.localhost", "b.de"] {
                let sites = vec![site(&[name], TlsSource::Auto)];
                let config = config(storage.path(), sites);
                let told = crate::tls::local_authority(&config, now);
                assert!(told.len() == 1 && told[0].contains("nobody can trust"), "{told:?}");
                let calls = survey(&config, now)[0].calls(now);
                assert!(calls.len() == 1 && calls[0].contains("/local"), "{calls:?}");
            }
            let sites = vec![site(&["c.test"], files(storage.path(), "c.test"))];
            let told = crate::tls::local_authority(&config(storage.path(), sites), now);
            assert_eq!(told, [""; 0], "nothing of it is shown");
        }
    }

    #[test]
    fn local_certificates_are_loaded_again_before_they_run_out() {
        let storage = tempfile::tempdir().unwrap();
        let config = config(storage.path(), vec![site(&["localhost"], TlsSource::Auto)]);
        let now = SystemTime::now();
        let certificates = Certificates::load(&config, now).unwrap();
        let due = certificates.next_renewal().unwrap();
        assert!(due > now + 59 * DAY && due < now + 61 * DAY);
        let renewed = Certificates::load(&config, due).unwrap();
        assert!(renewed.next_renewal().unwrap() > due + 59 * DAY);
        assert!(renewed.inventory()[0].not_after > certificates.inventory()[0].not_after);
    }

    #[test]
    fn a_survey_makes_nothing_and_sees_what_a_start_made() {
        let storage = tempfile::tempdir().unwrap();
        let inside = storage.path().join("storage");
        let now = SystemTime::now();
        let tls = files(storage.path(), "a.test");
        let sites = vec![site(&["localhost"], TlsSource::Auto), site(&["b.test"], tls)];
        let config = config(&inside, sites);
        let before = survey(&config, now);
        assert!(matches!(before[0].certificate, Ok(None)));
        assert!(before[1].warnings[0].contains("not for b.test"));
        assert!(!inside.exists());
        Certificates::load(&config, now).unwrap();
        let after = survey(&config, now);
        let info = after[0].certificate.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(info.names, ["localhost"]);
        let long_after = survey(&config, now + 200 * DAY);
        assert!(matches!(long_after[0].certificate, Ok(None)));
        assert!(long_after[0].warnings[0].contains("to be made anew"));
    }
}
