//! Revocation (RFC 8555 §7.6), at the authority that issued a certificate: with the account that it
//! was issued to, or with its own key where that account is gone. What was revoked is remembered
//! with the certificate, so that another is asked for whatever happens next, or none where nobody
//! wants one.

mod reason;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use instant_acme::{Error, Problem, RevocationRequest};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::account::{self, Whom};
use super::by_key;
use super::demand;
use super::failure::{Failure, Kind};
use super::ledger::Ledger;
use super::names::{Wanted, stem, wanted};
use super::nonce::{NONCES, is_bad_nonce, with_nonce};
use super::order;
use super::roots::Roots;
use super::stored::{self, Stored};
use super::transport::Transport;
use super::vault::{Files, Held, Vault};
use crate::config::{Acme, Authority, Config, Site, TlsSource};
use crate::proxy::headers::host::Host;
use crate::tls::client;
use crate::tls::facts::date;
pub use reason::Reason;

/// For all of it: less than whoever asks by the control socket waits.
const PATIENCE: Duration = Duration::from_secs(45);

/// How long somebody else may hold the certificate.
const WAITS: usize = 20;
const WAIT: Duration = Duration::from_millis(250);

/// A certificate that is to be revoked.
#[derive(Debug)]
pub struct Revocation {
    vault: Files,
    acme: Acme,
    roots: Roots,
    wanted: Wanted,
    reason: Reason,
    renews: bool,
    is_on_demand: bool,
}

/// What was revoked.
#[derive(Clone, Debug, Serialize)]
pub struct Revoked {
    /// The names of the certificate.
    pub names: Vec<String>,
    /// The directory of the authority.
    pub directory: String,
}

/// The one certificate by ACME that has `name` among its names, else the one of the site.
///
/// # Errors
/// In words, when there is none, or several; who is responsible for it is told.
pub fn find(config: &Config, name: &str) -> Result<Wanted, String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let all = wanted(config);
    let has = |wanted: &&Wanted| wanted.names.contains(&name);
    let of_name: Vec<&Wanted> = all.iter().filter(has).collect();
    let of_site = || all.iter().filter(|wanted| wanted.site == name).collect();
    let found: Vec<&Wanted> = if of_name.is_empty() { of_site() } else { of_name };
    if found.is_empty()
        && let Some(wanted) = demand::kept(config).into_iter().find(|wanted| has(&wanted))
    {
        return Ok(wanted);
    }
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(not_by_acme(&name, config, &all)),
        several => {
            let firsts = several.iter().filter_map(|wanted| wanted.names.first());
            let firsts = firsts.map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(format!("{name} has several certificates: name one of {firsts}"))
        }
    }
}

fn not_by_acme(name: &str, config: &Config, all: &[Wanted]) -> String {
    let is_of = |site: &&Site| {
        site.name() == name || site.hosts.iter().any(|host| host.to_string() == name)
    };
    let is_on_demand = |site: &&Site| matches!(site.tls, TlsSource::OnDemand(_));
    let under = || config.site(&Host::parse(name.as_bytes()).ok()?).filter(is_on_demand);
    match config.sites.iter().find(is_of).or_else(under).map(|site| &site.tls) {
        Some(TlsSource::Files { cert, .. }) => format!(
            "the certificate for {name} is no certificate by ACME, but read from {}: who asked for \
             it revokes it",
            cert.display()
        ),
        Some(TlsSource::OnDemand(_)) if config.sites.iter().any(|site| is_of(&site)) => format!(
            "certificates under {name} are got when clients ask for a name: say which name is to \
             be revoked; `portcullis certs list` tells what there is"
        ),
        Some(TlsSource::OnDemand(_)) => format!(
            "no certificate was got for {name}: it is got when clients ask for it, and there is \
             nothing to revoke"
        ),
        Some(TlsSource::Local | TlsSource::Auto) => format!(
            "the certificate for {name} is no certificate by ACME, but signed by this host's own \
             authority, which revokes none: `portcullis certs untrust` ends the trust in all"
        ),
        None => {
            let known: Vec<&str> =
                all.iter().flat_map(|wanted| &wanted.names).map(String::as_str).collect();
            match known.as_slice() {
                [] => format!("no certificate is for {name:?}, and none is got by ACME"),
                known => {
                    format!("no certificate is for {name:?}; got by ACME: {}", known.join(", "))
                }
            }
        }
    }
}

impl Revocation {
    /// Of a certificate that `config` wants; `roots` are those of its authorities.
    #[must_use]
    pub fn of(
        config: &Config,
        roots: &Roots,
        wanted: Wanted,
        (reason, renews): (Reason, bool),
    ) -> Self {
        let vault = Files::at(&config.acme.storage);
        let (acme, roots) = (config.acme.clone(), roots.clone());
        let is_on_demand = demand::is_one(config, &wanted.names);
        Self { vault, acme, roots, wanted, reason, renews, is_on_demand }
    }

    /// Whether it was got because clients asked for it.
    #[must_use]
    pub fn is_on_demand(&self) -> bool {
        self.is_on_demand
    }

    /// Revokes it. Where another is wanted the old one is kept until that is there, else it is
    /// removed.
    ///
    /// # Errors
    /// In words: nothing was revoked then, unless they say that it was before.
    pub async fn run(self) -> Result<Revoked, String> {
        let late = |_| format!("nothing may have been revoked: no end within {PATIENCE:?}");
        timeout(PATIENCE, self.act()).await.map_err(late)?
    }

    async fn act(self) -> Result<Revoked, String> {
        let names = &self.wanted.names;
        let held = self.lock().await?;
        let ledger = Ledger::read(&self.vault, names).map_err(|error| error.to_string())?;
        let stored = stored::read(&self.vault, names).map_err(|damage| damage.to_string())?;
        let (stored, directory) = self.revocable(stored, &ledger, SystemTime::now())?;
        let leaf = stored.certified.cert.first().ok_or("the certificate is empty")?;
        let asked = self.ask(&directory, leaf).await;
        if matches!(asked, Ok(()) | Err(Refusal::Already)) {
            self.remember(ledger, leaf, &held).map_err(|error| {
                format!("it was revoked, but that could not be remembered: {error}")
            })?;
        }
        match asked {
            Ok(()) => Ok(Revoked { names: names.clone(), directory }),
            Err(Refusal::Already) => Err(format!(
                "{directory} says that the certificate for {} was revoked already; {}",
                names.join(", "),
                next(self.renews)
            )),
            Err(Refusal::NotYours(words) | Refusal::Other(words)) => {
                Err(format!("nothing was revoked: {directory}: {words}"))
            }
        }
    }

    /// The sole right to the certificate: nobody renews it meanwhile.
    async fn lock(&self) -> Result<Held, String> {
        let stem = stem(&self.wanted.names);
        for _ in 0..WAITS {
            if let Some(held) = self.vault.lock(&stem).map_err(|error| error.to_string())? {
                return Ok(held);
            }
            sleep(WAIT).await;
        }
        Err(format!(
            "nothing was revoked: a certificate for {} is being asked for at this moment; try again \
             when `portcullis certs list` tells that this is over",
            self.wanted.names.join(", ")
        ))
    }

    /// What is kept, where it is worth revoking, and the directory that issued it.
    fn revocable(
        &self,
        stored: Option<Stored>,
        ledger: &Ledger,
        now: SystemTime,
    ) -> Result<(Stored, String), String> {
        let names = self.wanted.names.join(", ");
        let is_revoked = |stored: &Stored| {
            stored.certified.cert.first().is_some_and(|leaf| ledger.is_revoked(leaf))
        };
        if let Some(before) = &ledger.revoked
            && stored.as_ref().is_none_or(is_revoked)
        {
            let (on, reason) = (date(before.at()), &before.reason);
            return Err(format!(
                "the certificate for {names} was revoked already, on {on} ({reason}); {}",
                next(before.renews)
            ));
        }
        let Some(stored) = stored else {
            return Err(format!(
                "there is no certificate of an authority for {names} yet that could be revoked"
            ));
        };
        if !stored.is_valid(now) {
            let on = date(stored.facts.not_after);
            return Err(format!("the certificate for {names} expired on {on}: nobody believes it"));
        }
        let Some(directory) = ledger.directory.clone() else {
            return Err(format!(
                "which authority has issued the certificate for {names} is not remembered in the \
                 storage: ask {} by another client",
                stored.facts.issuer
            ));
        };
        Ok((stored, directory))
    }

    /// Asks with the account; where that is gone with the key of the certificate.
    async fn ask(&self, directory: &str, leaf: &CertificateDer<'_>) -> Result<(), Refusal> {
        let authority = self.acme.authorities.iter().find(|one| one.directory == directory);
        let transport = self.way(directory, authority).await?;
        if account::is_kept(&self.vault, directory)? {
            match self.ask_by_account(&transport, directory, authority, leaf).await {
                Err(Refusal::NotYours(words)) => tracing::info!(
                    "{directory}: {words}; the certificate's own key is taken to revoke it"
                ),
                asked => return asked,
            }
        }
        let pem = self.vault.get(&stored::entry(&self.wanted.names)).map_err(Failure::from)?;
        let key = by_key::Key::parse(&pem.unwrap_or_default());
        let key = key.ok_or_else(|| "the key of the certificate cannot be read".to_owned())?;
        let reason = self.reason.number();
        match by_key::revoke((&transport, directory), &key, leaf, reason).await? {
            Ok(()) => Ok(()),
            Err(problem) => Err(self.refusal(&problem)),
        }
    }

    /// The way to a directory; one that the configuration names no more is looked for with all the
    /// roots there are.
    async fn way(
        &self,
        directory: &str,
        authority: Option<&Authority>,
    ) -> Result<Transport, Refusal> {
        if let Some(authority) = authority {
            return Ok(Transport::new(self.roots.of(authority.ca.as_ref())?));
        }
        let named = self.acme.authorities.iter().filter_map(|one| one.ca.as_ref());
        let named = named.filter_map(|ca| self.roots.of(Some(ca)).ok());
        let mut last = String::new();
        for tls in client::client_config().into_iter().chain(named) {
            let transport = Transport::new(tls);
            let request = Request::get(directory).body(Bytes::new());
            let request = request.map_err(|_| "it is no URL".to_owned())?;
            match transport.send(request).await {
                Ok(_) => return Ok(transport),
                Err(error) => last = error.to_string(),
            }
        }
        Err(Refusal::Other(format!(
            "{last}; [acme] names this authority no more: name it again with its `ca`, after the \
             others, until this is done"
        )))
    }

    async fn ask_by_account(
        &self,
        transport: &Transport,
        directory: &str,
        authority: Option<&Authority>,
        leaf: &CertificateDer<'_>,
    ) -> Result<(), Refusal> {
        let whom = Whom {
            directory,
            transport,
            email: self.acme.email.as_deref(),
            eab: authority.and_then(|authority| authority.eab.as_ref()),
        };
        let account = account::open(&self.vault, whom).await?;
        let request = RevocationRequest { certificate: leaf, reason: self.reason.code() };
        match with_nonce!(account.revoke(&request)) {
            Ok(()) => Ok(()),
            Err(Error::Api(problem)) => Err(self.refusal(&problem)),
            Err(error) => Err(Failure::of(&error).into()),
        }
    }

    /// What the authority had to say (RFC 8555 §7.6, §6.7).
    fn refusal(&self, problem: &Problem) -> Refusal {
        let full = problem.r#type.as_deref().unwrap_or_default();
        let plain = Problem { r#type: None, ..problem.clone() };
        let words = Failure::of_problem(&plain).words;
        Refusal::Other(match full.rsplit(':').next().unwrap_or_default() {
            "alreadyRevoked" => return Refusal::Already,
            "badRevocationReason" => {
                format!("it does not take the reason {}: {words}", self.reason)
            }
            "unauthorized" => {
                return Refusal::NotYours(format!(
                    "it does not let this account or key revoke it (was it issued to another \
                     account, or by another authority?): {words}"
                ));
            }
            "accountDoesNotExist" => {
                return Refusal::NotYours(format!("it knows this account no more: {words}"));
            }
            _ => words,
        })
    }

    /// It is revoked: an order under way is begun anew, so that no key of before is used again.
    fn remember(
        &self,
        mut ledger: Ledger,
        leaf: &CertificateDer<'_>,
        held: &Held,
    ) -> Result<(), Failure> {
        let names = &self.wanted.names;
        ledger.revoke(leaf, &self.reason.to_string(), self.renews, SystemTime::now());
        ledger.write(&self.vault, names, held)?;
        self.vault.remove(&order::entry(names), held)?;
        // What was got on demand is asked for by clients, and allowed anew, before it is got again.
        if !self.renews || self.is_on_demand {
            self.vault.remove(&stored::entry(names), held)?;
        }
        Ok(())
    }
}

/// What becomes of the names.
fn next(renews: bool) -> &'static str {
    if renews {
        "another is asked for by the running server, or by the next start"
    } else {
        "`portcullis certs renew` asks for another"
    }
}

/// Why an authority has not revoked.
enum Refusal {
    Already,
    /// The account is gone, or was another.
    NotYours(String),
    Other(String),
}

impl From<String> for Refusal {
    fn from(words: String) -> Self {
        Self::Other(words)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let storage =
            if failure.kind == Kind::Storage { "the storage does not work: " } else { "" };
        Self::Other(format!("{storage}{failure}"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::tls::testing::{Pki, config, site};

    fn three() -> Config {
        let files = TlsSource::Files { cert: PathBuf::from("/c.pem"), key: PathBuf::from("/k") };
        let mut sites = vec![site(&["shop.de", "www.shop.de"], TlsSource::Auto)];
        sites.extend([site(&["files.de"], files), site(&["localhost"], TlsSource::Auto)]);
        config(Path::new("/s"), sites)
    }

    #[test]
    fn a_reason_has_the_name_of_rfc_5280_everywhere() {
        for (name, reason) in Reason::ALL {
            assert_eq!((Reason::named(name), reason.to_string()), (Some(reason), name.to_owned()));
            assert_eq!(serde_json::to_value(reason).unwrap(), name);
        }
        for theirs in ["cACompromise", "certificateHold", "removeFromCRL", "privilegeWithdrawn"] {
            assert_eq!(Reason::named(theirs), None, "{theirs}");
        }
        assert!(Reason::default().code().is_none());
    }

    #[test]
    fn only_what_was_got_by_acme_is_found() {
        let config = three();
        assert_eq!(find(&config, "WWW.shop.de.").unwrap().names, ["shop.de", "www.shop.de"]);
        for (name, words) in [
            ("files.de", "/c.pem"),
            ("localhost", "this host's own authority"),
            ("other.de", "got by ACME: shop.de, www.shop.de"),
        ] {
            let error = find(&config, name).unwrap_err();
            assert!(error.contains(words), "{name}: {error}");
        }
    }

    #[test]
    fn what_nobody_could_revoke_is_not_asked_for() {
        let config = three();
        let wanted = find(&config, "shop.de").unwrap();
        let how = (Reason::Superseded, true);
        let this = Revocation::of(&config, &Roots::default(), wanted, how);
        let pair = Pki::new().pair(&["shop.de", "www.shop.de"]);
        let stored = Stored::parse(format!("{}{}", pair.key, pair.cert).as_bytes()).unwrap();
        let now = SystemTime::now();
        let mut ledger = Ledger::default();
        let told = |stored: Option<&Stored>, ledger: &Ledger, now| {
            this.revocable(stored.cloned(), ledger, now).unwrap_err()
        };
        assert!(told(None, &ledger, now).contains("there is no certificate of an authority"));
        assert!(told(Some(&stored), &ledger, now).contains("not remembered"));
        ledger.succeed("https://ca.test/dir", &this.wanted.names, now);
        assert!(told(Some(&stored), &ledger, stored.facts.not_after).contains("expired on"));
        assert_eq!(
            this.revocable(Some(stored.clone()), &ledger, now).unwrap().1,
            "https://ca.test/dir"
        );
        ledger.revoke(&stored.certified.cert[0], "superseded", true, now);
        assert!(told(Some(&stored), &ledger, now).contains("was revoked already, on "));
        assert!(told(None, &ledger, now).contains("(superseded)"));
    }
}
