//! Whom the directories are verified against: read once, while the files may still be read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::names::wants_any;
use crate::config::{Config, Site, TlsSource};
use crate::tls::client;
use crate::tls::files::{self, Kept};

/// Whom the directories of authorities are verified against.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// The rules of TLS towards each, by the file of its roots; `None` is the system's.
    rules: HashMap<Option<PathBuf>, Result<Arc<ClientConfig>, String>>,
    files: Vec<Kept>,
}

impl Roots {
    /// Reads what `config` names. What may not be read any more is taken from `before`; what cannot
    /// be had is told when it is wanted, because sites are served without it.
    #[must_use]
    pub fn read(config: &Config, before: Option<&Self>) -> Self {
        Self::read_with(config, before, &[])
    }

    /// The same with what a predecessor or the helper has `left` of files.
    #[must_use]
    pub fn read_with(config: &Config, before: Option<&Self>, left: &[Kept]) -> Self {
        if !wants_any(config) {
            return Self::default();
        }
        let mut all = Self::default();
        let known = before.map_or(&[][..], |before| &*before.files);
        let known: Vec<Kept> = left.iter().chain(known).cloned().collect();
        let of_authorities = config.acme.authorities.iter().map(|authority| &authority.ca);
        for ca in of_authorities.chain(asks_over_tls(config).then_some(&None)) {
            all.rules.entry(ca.clone()).or_insert_with(|| {
                let read = match ca {
                    Some(path) => from_file(path, &known).map(|(rules, kept)| {
                        all.files.push(kept);
                        rules
                    }),
                    None => client::client_config().map_err(|error| error.to_string()),
                };
                let kept = before.and_then(|before| before.rules.get(ca)?.clone().ok());
                read.or_else(|error| kept.ok_or(error))
            });
        }
        all
    }

    /// The files that they were read from.
    #[must_use]
    pub fn files(&self) -> &[Kept] {
        &self.files
    }

    /// The rules towards an authority with this file of roots.
    ///
    /// # Errors
    /// In words, when its roots could not be read.
    pub fn of(&self, ca: Option<&PathBuf>) -> Result<Arc<ClientConfig>, String> {
        let found = self.rules.get(&ca.cloned());
        found.cloned().unwrap_or_else(|| Err("its roots were not read".to_owned()))
    }
}

/// Whether who decides on names is verified against the system's roots.
fn asks_over_tls(config: &Config) -> bool {
    let is_so = |site: &Site| matches!(&site.tls, TlsSource::OnDemand(ask) if ask.is_https);
    config.sites.iter().any(is_so)
}

fn from_file(path: &Path, known: &[Kept]) -> Result<(Arc<ClientConfig>, Kept), String> {
    let shown = path.display();
    let (text, kept) = Kept::read(path, known)
        .map_err(|error| format!("cannot read the roots of an authority: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate
            .map_err(|error| format!("{shown} is damaged: {}", files::pem_words(&error)))?;
        roots.add(certificate).map_err(|error| format!("a root in {shown}: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("{shown} has no certificate in it"));
    }
    let rules = client::with_roots(roots).map_err(|error| error.to_string())?;
    Ok((rules, kept))
}
