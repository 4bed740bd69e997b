//! The ramps of `hsts`: once a minute each may climb.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::Plane;
use crate::config::Hsts;
use crate::tls::hsts::book::Book;
use crate::tls::hsts::{Progress, header, is_storm};

/// Handshakes are judged by the hour.
const WINDOW: Duration = Duration::from_secs(3600);

/// What is not stored is lost with the process, and the ramp this much later; a disk is spared.
const STORE: u32 = 10;

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
}

impl Lookout {
    pub(super) fn new(now: SystemTime) -> Self {
        let (known, damaged) = (HashMap::new(), HashSet::new());
        Self { since: now, before: (0, 0), looks: 0, known, damaged }
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

impl Plane {
    /// Looks at every ramp; what has climbed is published.
    pub(super) async fn climb(&mut self) {
        let now = SystemTime::now();
        let stormy = self.lookout.is_stormy(now, self.registry.handshakes());
        self.lookout.looks = self.lookout.looks.wrapping_add(1);
        let is_stored = self.lookout.looks.is_multiple_of(STORE);
        let state = std::sync::Arc::clone(&self.state);
        let book = Book::of(&state.config.acme.storage);
        let mut is_news = false;
        for (site, service) in state.config.sites.iter().zip(&state.services) {
            if site.hsts == Hsts::Off || state.config.server.https.is_empty() {
                continue;
            }
            let name = site.name();
            // `certs hsts` may have written there.
            let stored = book.read(&name).filter(|progress| progress.is_of(site.hsts));
            self.lookout.say_damage(&name, stored.as_ref());
            if stored.as_ref().is_some_and(Progress::is_reset) || !is_ramp(site.hsts) {
                is_news |= header(site.hsts, stored.as_ref()) != service.hsts;
                self.lookout.known.remove(&name);
                continue;
            }
            let known = self.lookout.known.remove(&name).filter(|known| {
                known.is_of(site.hsts)
                    && stored.as_ref().is_some_and(|stored| stored.step() == known.step())
            });
            let is_new = stored.is_none();
            let mut progress = known.or(stored).unwrap_or_else(|| Progress::new(site.hsts, now));
            let quiet = !stormy && self.certificate_error.is_none() && !self.is_late(&name, now);
            let climbed = progress.look(now, quiet);
            if climbed {
                let (step, of) = progress.step();
                let age = progress.max_age();
                tracing::info!("site {name}: hsts climbs to step {step} of {of}: {age} seconds");
            }
            if (climbed || is_new || is_stored)
                && let Err(error) = book.write(&name, &progress)
            {
                // Another start would not know of it: nobody is told more before it is kept.
                tracing::error!("site {name}: hsts stays as it is: {error}");
                continue;
            }
            // Another process may have led it on, or the state been removed.
            is_news |= header(site.hsts, Some(&progress)) != service.hsts;
            self.lookout.known.insert(name, progress);
        }
        if is_news {
            self.take_certificates().await;
        }
    }

    /// Whether a certificate of a site should have been renewed, or never came.
    fn is_late(&self, site: &str, now: SystemTime) -> bool {
        let certificates = self.state.certificates.inventory();
        let mut of_site = certificates.iter().filter(|certificate| certificate.site == site);
        of_site.any(|certificate| certificate.source.is_stopgap() || certificate.is_late(now))
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
