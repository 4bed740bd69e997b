//! What is served, told as it is found elsewhere.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use super::{Certificates, Source};
use crate::config::Config;
use crate::tls::found::Found;
use crate::tls::wanted::{From, Survey, Want};

/// A certificate that is shown to clients.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    want: Arc<Want>,
    source: Source,
    certified: Arc<CertifiedKey>,
}

impl Shown {
    pub(super) fn new(want: &Arc<Want>, source: &Source, certified: &Arc<CertifiedKey>) -> Self {
        let (want, source, certified) = (Arc::clone(want), source.clone(), Arc::clone(certified));
        Self { want, source, certified }
    }

    pub(super) fn is_of(&self, want: &Want) -> bool {
        *self.want == *want
    }
}

impl Certificates {
    /// Every certificate that is served, but those on demand: whatever has become of its file since
    /// it was read. The whole chain and the files are told of those that `name` means only, see
    /// [`Found::is_named`]; of the others their own certificate.
    #[must_use]
    pub fn survey(&self, config: &Config, name: Option<&str>, now: SystemTime) -> Vec<Found> {
        let survey = Survey::of(config, now);
        let mut all = Vec::with_capacity(self.shown.len());
        let mut before: Option<&Arc<Want>> = None;
        for Shown { want, source, certified } in &self.shown {
            // What stands in beside what an authority has issued is none of its own.
            if before.is_some_and(|before| Arc::ptr_eq(before, want)) {
                continue;
            }
            before = Some(want);
            let is_own = *source == Source::Makeshift && want.from == From::LocalAuthority;
            let certified = (is_own || !source.is_stopgap()).then(|| Arc::clone(certified));
            let mut found = want.found(Ok(certified), &survey);
            let is_kept = !matches!(source, Source::Unkept | Source::Makeshift);
            if !is_kept && want.from == From::LocalAuthority {
                found.came_from(source);
            }
            if name.is_some_and(|name| found.is_named(name)) {
                let is_there = is_kept && !found.chain.is_empty();
                let places = want.places(&survey).filter(|_| is_there);
                let whole = |path| std::path::absolute(&path).unwrap_or(path);
                found.places = places.map(|(cert, key)| (whole(cert), whole(key)));
            } else {
                found.chain.truncate(1);
            }
            all.push(found);
        }
        all
    }
}
