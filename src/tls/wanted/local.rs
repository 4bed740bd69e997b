//! The authority of this host, as those who want certificates of it find it.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use super::{From, Want, wanted};
use crate::config::Config;
use crate::tls::certificates::{Reason, Source, UNKEPT};
use crate::tls::local_ca::{LocalAuthority, LocalError, makeshift, names_for};

/// The authority of this host, opened when it is first asked for.
pub(in crate::tls) struct Local {
    opened: Option<Result<Arc<LocalAuthority>, Arc<LocalError>>>,
    /// Whether one that is damaged is set aside: not under a server that goes on with what it has.
    mends: bool,
    /// Whether a certificate that nobody vouches for is better than none: there is no other yet.
    makes_do: bool,
}

impl Local {
    pub(in crate::tls) fn new(mends: bool, makes_do: bool) -> Self {
        Self { opened: None, mends, makes_do }
    }

    pub(super) fn open(
        &mut self,
        config: &Config,
        now: SystemTime,
    ) -> Result<&Arc<LocalAuthority>, Reason> {
        let (storage, mends) = (&config.acme.storage, self.mends);
        let open = || {
            let opened = if mends {
                LocalAuthority::open_or_mend(storage, now)
            } else {
                LocalAuthority::open_or_create(storage, now)
            };
            opened.map(Arc::new).map_err(Arc::new)
        };
        let opened = self.opened.get_or_insert_with(open);
        opened.as_ref().map_err(|error| Reason::Local(error.clone()))
    }

    /// Where it could be opened.
    pub(in crate::tls) fn get(&self) -> Option<&Arc<LocalAuthority>> {
        self.opened.as_ref()?.as_ref().ok()
    }

    /// What is shown for these names in place of what could not be had, or not be kept, for this
    /// reason, and what that is.
    pub(super) fn make_do(
        &self,
        names: &[String],
        now: SystemTime,
        reason: Reason,
    ) -> Result<(Arc<CertifiedKey>, Source, Option<Reason>), Reason> {
        if !self.makes_do || reason.is_permission() {
            return Err(reason);
        }
        let (made, source) = match self.get() {
            Some(local) => (local.stand_in(names, now), Source::Unkept),
            None => (makeshift(names, now), Source::Makeshift),
        };
        let made = made.map_err(|error| Reason::Local(Arc::new(error)))?;
        Ok((made, source, Some(reason)))
    }
}

/// What is to be known of the authority of this host where something of it is shown, a sentence
/// each: that it is damaged, has taken the place of one that was, or cannot keep what it signs.
/// Writes nothing.
#[must_use]
pub fn local_authority(config: &Config, now: SystemTime) -> Vec<String> {
    let storage = &config.acme.storage;
    let wanted = wanted(config);
    if wanted.iter().all(|want| matches!(want.from, From::Files { .. })) {
        return Vec::new();
    }
    let authority = match LocalAuthority::open(storage, now) {
        Ok(authority) => authority,
        Err(error) => return error.prospect().into_iter().collect(),
    };
    let unkept = wanted.iter().filter_map(|want| {
        let site = &want.site;
        let unkept = want.unkept(authority.as_ref()?)?;
        Some(format!("site {site}: {unkept}"))
    });
    LocalAuthority::notice(storage).into_iter().chain(unkept).collect()
}

impl Want {
    /// What keeps what the authority signs from being kept, and what comes of that.
    pub(super) fn unkept(&self, authority: &LocalAuthority) -> Option<String> {
        let is_so = self.from == From::LocalAuthority;
        let hindrance = is_so.then(|| authority.hindrance(&names_for(&self.hosts)))??;
        Some(format!("{hindrance}; {UNKEPT}"))
    }
}
