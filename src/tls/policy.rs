//! The rules of TLS of a site, ready to be used, and whether what was agreed on under other rules
//! is still good enough.

use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::ProtocolVersion;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use super::certificates::{CertificateError, Reason};
use super::clients;
use super::files::{FilesError, Kept};
use crate::config::{Config, TlsPolicy};

/// What tells one set of rules from another, the content of its files counted.
pub type Tag = [u8; 16];

/// The rules of TLS of a site.
#[derive(Debug)]
pub struct Policy {
    /// As the configuration has them.
    pub rules: TlsPolicy,
    /// What certificates of clients are held against, where they are asked for.
    pub verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// What tells it from others: a session, and a connection, is good under the rules that it was
    /// begun under.
    pub tag: Tag,
    /// When the last of the clients' authorities expires, and the first of their lists ends.
    ends: Option<SystemTime>,
    lists_end: Option<SystemTime>,
    /// The files that it was read from.
    files: Vec<Kept>,
}

impl Policy {
    /// Reads the files of `rules`; `before` is what was in files that may not be read any more.
    ///
    /// # Errors
    /// As [`clients::load`].
    pub fn load(rules: &TlsPolicy, now: SystemTime, before: &[Kept]) -> Result<Self, FilesError> {
        let Some(clients) = &rules.clients else {
            return Ok(Self::without_files(rules));
        };
        let authorities = clients::load(clients, now, before)?;
        Ok(Self {
            rules: rules.clone(),
            tag: tag(rules, &authorities.content),
            verifier: Some(authorities.verifier),
            ends: Some(authorities.ends),
            lists_end: authorities.lists_end,
            files: authorities.files,
        })
    }

    /// The rules of a site that says nothing about them.
    #[must_use]
    pub fn plain() -> Self {
        Self::without_files(&TlsPolicy::default())
    }

    fn without_files(rules: &TlsPolicy) -> Self {
        Self {
            rules: rules.clone(),
            tag: tag(rules, &[]),
            verifier: None,
            ends: None,
            lists_end: None,
            files: Vec::new(),
        }
    }

    /// Whether `rules` name the same files, which may still be what they were when these were read.
    #[must_use]
    pub(super) fn may_still_hold(&self, rules: &TlsPolicy) -> bool {
        self.rules == *rules && self.files.iter().all(Kept::may_still_hold)
    }

    /// The files that it was read from.
    #[must_use]
    pub fn files(&self) -> &[Kept] {
        &self.files
    }

    /// Whether every authority of the clients has expired since it was read; the library does not
    /// look.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.ends.is_some_and(|ends| ends < now)
    }

    /// When nobody can be let in any more unless the files are renewed.
    #[must_use]
    pub fn runs_out(&self) -> Option<SystemTime> {
        self.ends.into_iter().chain(self.lists_end).min()
    }

    /// Whether a connection that was made under other rules, or a session that was begun long ago,
    /// is good under these: with the certificates that its client showed then.
    #[must_use]
    pub fn admits(
        &self,
        version: ProtocolVersion,
        shown: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> bool {
        if self.rules.only_tls13 && version != ProtocolVersion::TLSv1_3 {
            return false;
        }
        let Some(verifier) = &self.verifier else { return true };
        let Some((own, between)) = shown.split_first() else {
            return !verifier.client_auth_mandatory();
        };
        if self.is_over(now) {
            return false;
        }
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since);
        verifier.verify_client_cert(own, between, now).is_ok()
    }
}

/// The rules of every site; equal ones are one. Files that may not be read any more and seem not to
/// have changed are as they were, and with `keeps` so is everything that cannot be used. A
/// predecessor may have `left` what was in some.
pub(super) fn of_sites(
    config: &Config,
    now: SystemTime,
    (before, left): (&[Arc<Policy>], &[Kept]),
    keeps: bool,
    errors: &mut Vec<CertificateError>,
) -> (Vec<Arc<Policy>>, Vec<usize>) {
    let mut policies: Vec<Arc<Policy>> = Vec::new();
    let mut of_sites = Vec::new();
    if config.server.https.is_empty() {
        return (policies, of_sites);
    }
    let files = left.iter().chain(before.iter().flat_map(|policy| &policy.files));
    let files: Vec<Kept> = files.cloned().collect();
    for site in &config.sites {
        let known = policies.iter().position(|policy| policy.rules == site.policy);
        let place = known.unwrap_or_else(|| {
            let (policy, error) = policy(&site.policy, now, (before, &files), keeps);
            errors.extend(error.map(|reason| CertificateError { site: site.name(), reason }));
            let Some(policy) = policy else { return NO_POLICY };
            policies.push(policy);
            policies.len() - 1
        });
        of_sites.push(place);
    }
    (policies, of_sites)
}

/// The place of no rules: nothing is served under them.
const NO_POLICY: usize = usize::MAX;

/// The rules of a site, and what is wrong with the files that they were to come from.
fn policy(
    rules: &TlsPolicy,
    now: SystemTime,
    (before, files): (&[Arc<Policy>], &[Kept]),
    keeps: bool,
) -> (Option<Arc<Policy>>, Option<Reason>) {
    let error = match Policy::load(rules, now, files) {
        Ok(policy) => return (Some(Arc::new(policy)), None),
        Err(error) => error,
    };
    let old = before.iter().find(|old| old.rules == *rules).cloned();
    match old {
        Some(old) if error.is_unreadable() && old.may_still_hold(rules) => (Some(old), None),
        old => (old.filter(|_| keeps), Some(Reason::Clients(error))),
    }
}

/// By what the rules are, not by where their files lie.
fn tag(rules: &TlsPolicy, content: &[u8]) -> Tag {
    let TlsPolicy { only_tls13, http2, http1, clients } = rules;
    let clients = clients.as_ref().map(|clients| (clients.required, clients.crl.is_some()));
    let mut text = format!("{:?}", (only_tls13, http2, http1, clients)).into_bytes();
    text.extend_from_slice(content);
    let mut tag = Tag::default();
    tag.iter_mut().zip(digest(&SHA256, &text).as_ref()).for_each(|(to, from)| *to = *from);
    tag
}
