//! What the server says of itself.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Plane, shown};
use crate::helper::client::{GONE, Line};
use crate::observe::prometheus::{self, CertificateExpiry, Facts};
use crate::tls::acme;
use crate::tls::acme::tries::Tries;
use crate::tls::acme::vault::Files;
use crate::tls::certificates::{CertificateInfo, Source};
use crate::tls::facts::date;
use crate::tls::hsts::told::Told;

/// What clients' certificates are held against is renewed long before, by whoever writes it.
const LAST_HOUR: Duration = Duration::from_secs(3600);

impl Plane {
    /// For `portcullis status`; `needs_a_person` lists what is wrong.
    pub(super) fn status(&self) -> Value {
        let now = SystemTime::now();
        let standings = self.acme.standings();
        let by_acme = self.by_acme(&standings, now);
        let mut of_sites: HashMap<&str, Vec<&acme::Standing>> = HashMap::new();
        for standing in &standings {
            of_sites.entry(&standing.site).or_default().push(standing);
        }
        let tell = |certificate: &CertificateInfo| {
            let standings = of_sites.get(certificate.site.as_str()).map_or(&[][..], Vec::as_slice);
            json!({
                "site": certificate.site,
                "names": certificate.names,
                "issuer": certificate.issuer,
                "days_left": certificate.days_left(now),
                "source": source_of(certificate, standings),
                "authority": authority_of(certificate, standings),
            })
        };
        let inventory = self.state.certificates.inventory().iter();
        let certificates: Vec<Value> = inventory.map(tell).collect();
        let backends = self.state.config.sites.iter().flat_map(|site| {
            site.routes.iter().map(move |route| {
                let to: Vec<String> = route.to.iter().map(ToString::to_string).collect();
                json!({ "site": site.name(), "path": route.path.as_str(), "to": to })
            })
        });
        json!({
            "version": 1,
            "program": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": seconds_since(self.started, now),
            "listeners": self.listeners.iter().map(|l| shown(l)).collect::<Vec<_>>(),
            "metrics": self.metrics.as_ref().and_then(|listener| listener.local_addr().ok()),
            "workers": self.workers.len(),
            "connections": self.admission.open(),
            "privileges": self.privileges(),
            "sandbox": self.sandbox.status(),
            "certificates": certificates,
            "acme": by_acme,
            "hsts": self.hsts(),
            "routes": backends.collect::<Vec<_>>(),
            "reload": {
                "seconds_ago": seconds_since(self.configured, now),
                "error": self.reload_error,
            },
            "needs_a_person": self.needs_a_person(&by_acme, now),
        })
    }

    /// How certificates by ACME stand, and the tries that are left.
    pub(super) fn by_acme(&self, standings: &[acme::Standing], now: SystemTime) -> Vec<Value> {
        if standings.is_empty() {
            return Vec::new();
        }
        let acme = &self.state.config.acme;
        let tries = Tries::of(acme, &Files::at(&acme.storage));
        standings.iter().map(|standing| tries.tell(standing, now)).collect()
    }

    /// What sites tell browsers, and how far their ramps have come.
    pub(super) fn hsts(&self) -> Vec<Told> {
        let sent = self.state.services.iter().map(|service| service.hsts.as_ref());
        Told::served(&self.state.config, sent)
    }

    /// What every thread holds at this moment, read back from the kernel.
    fn privileges(&self) -> Value {
        let (uid, gid) = self.privileges.ids();
        let proof = match self.privileges.look() {
            Ok(proof) => proof,
            Err(error) => {
                let text = format!("{}; what is held cannot be read: {error}", self.privileges);
                return json!({ "text": text, "proved": false, "uid": uid, "gid": gid });
            }
        };
        let held: serde_json::Map<String, Value> = proof
            .held()
            .into_iter()
            .map(|(set, capabilities)| (set.to_owned(), json!(capabilities)))
            .collect();
        json!({
            "text": proof.to_string(),
            "proved": proof.holds(),
            "excess": proof.excess(),
            "user": self.privileges.user(),
            "uid": uid,
            "gid": gid,
            "threads": proof.threads(),
            "capabilities": held,
            "no_new_privs": proof.no_new_privs(),
            "memory_is_open": proof.memory_is_open(),
        })
    }

    fn needs_a_person(&self, by_acme: &[Value], now: SystemTime) -> Vec<String> {
        let mut needs: Vec<String> = Vec::new();
        if let Some(error) = &self.reload_error {
            needs.push(format!("the last reload changed nothing: {error}"));
        }
        if let Some(error) = &self.upgrade_error {
            needs.push(format!(
                "the last upgrade failed, this process goes on (another `kill -USR2` that succeeds \
                 clears this): {error}"
            ));
        }
        if self.helper.as_ref().is_none_or(Line::is_gone) {
            needs.push(GONE.to_owned());
        }
        let served = self.state.certificates.survey(&self.state.config, None, now);
        needs.extend(self.certificates_in_need(&served, by_acme, now));
        match self.privileges.look() {
            Ok(proof) if proof.holds() => {}
            Ok(proof) => needs.push(format!("more is held than asked: {proof}: restart")),
            Err(error) => needs.push(format!("what this process holds cannot be read: {error}")),
        }
        // What was there when the sandbox closed may have been replaced since.
        let exceeding = self.needs(&self.state.config).exceeding(&self.sandbox);
        needs.extend(exceeding.into_iter().map(|text| format!("{text}: restart")));
        needs.extend(self.hsts().iter().filter_map(Told::call));
        for (index, site) in self.state.config.sites.iter().enumerate() {
            let policy = self.state.certificates.policy_of(index);
            let end = policy.and_then(|policy| policy.runs_out());
            if let Some(end) = end.filter(|end| *end < now + LAST_HOUR) {
                needs.push(format!(
                    "the clients of site {} cannot be let in after {}: renew client_ca or \
                     client_crl",
                    site.name(),
                    date(end)
                ));
            }
        }
        let dead = self.dead_workers();
        if dead > 0 {
            needs.push(format!("{dead} workers have died: restart"));
        }
        needs
    }

    /// For the service manager, in a line.
    pub(super) fn summary(&self) -> String {
        let listeners: Vec<String> =
            self.listeners.iter().map(|listener| shown(listener)).collect();
        let sites = self.state.config.sites.len();
        format!("{sites} {} on {}", if sites == 1 { "site" } else { "sites" }, listeners.join(", "))
    }

    /// How many workers serve no more.
    pub(super) fn dead_workers(&self) -> usize {
        self.workers.iter().filter(|(_, thread)| thread.is_finished()).count()
    }

    /// For Prometheus.
    pub(super) fn metrics(&self) -> String {
        let seconds = |moment: SystemTime| {
            let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        };
        let certificates: Vec<CertificateExpiry<'_>> = self
            .state
            .certificates
            .inventory()
            .iter()
            .flat_map(|certificate| {
                certificate.names.iter().map(move |name| CertificateExpiry {
                    site: &certificate.site,
                    name,
                    not_after: seconds(certificate.not_after),
                })
            })
            .collect();
        let proof = self.privileges.look().ok();
        let facts = Facts {
            version: env!("CARGO_PKG_VERSION"),
            certificates: &certificates,
            reload_succeeded: self.reload_error.is_none(),
            certificates_current: self.certificate_error.is_none(),
            configured: self.configured,
            privileges: proof.as_ref(),
            sandbox: &self.sandbox.parts(),
        };
        prometheus::render(&self.registry, &facts)
    }
}

/// Where a certificate comes from, of a site whose certificates by ACME stand so. What stands in
/// for one that was revoked, and that nobody is asked for anew, is no promise that there will be
/// one.
fn source_of(certificate: &CertificateInfo, standings: &[&acme::Standing]) -> String {
    let is_held = |standing: &&acme::Standing| {
        standing.revoked.as_ref().is_some_and(|revoked| !revoked.renews)
    };
    if certificate.source == Source::StandIn && standings.iter().any(is_held) {
        return "local authority, because the one by acme was revoked".to_owned();
    }
    certificate.source.to_string()
}

/// The directory of the authority that has issued a certificate by ACME, of a site whose
/// certificates by ACME stand so.
fn authority_of(certificate: &CertificateInfo, standings: &[&acme::Standing]) -> Option<String> {
    let is_of = |standing: &&&acme::Standing| {
        standing.names.iter().any(|name| certificate.names.contains(name))
    };
    let standing = standings.iter().find(is_of).filter(|_| certificate.source == Source::Acme)?;
    standing.directory.clone()
}

fn seconds_since(moment: SystemTime, now: SystemTime) -> u64 {
    now.duration_since(moment).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::acme::ledger::Revoked;

    fn certificate(source: Source, not_after: SystemTime) -> CertificateInfo {
        let (site, names) = ("a.test".to_owned(), vec!["a.test".to_owned()]);
        let not_before = SystemTime::UNIX_EPOCH;
        CertificateInfo { site, names, issuer: String::new(), not_before, not_after, source }
    }

    /// There was to be one by acme, for which nobody asks.
    #[test]
    fn what_stands_in_for_a_revoked_certificate_promises_none() {
        let info = certificate(Source::StandIn, SystemTime::now());
        let told = |renews| {
            let revoked = json!({ "at": 0, "leaf": "", "reason": "", "renews": renews });
            let revoked: Revoked = serde_json::from_value(revoked).unwrap();
            let site = "a.test".to_owned();
            let standing =
                acme::Standing { site, revoked: Some(revoked), ..acme::Standing::default() };
            source_of(&info, &[&standing])
        };
        assert_eq!(told(false), "local authority, because the one by acme was revoked");
        assert_eq!(told(true), "local authority, until there is one by acme");
    }
}
