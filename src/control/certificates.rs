//! Certificates that change while the program runs.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::state::State;
use super::{Plane, files};
use crate::tls::CertificateError;
use crate::tls::acme::damage::damage;
use crate::tls::acme::ledger::Ledger;
use crate::tls::acme::vault::Files;
use crate::tls::found::Found;
use crate::tls::overview::{Overview, needs_a_person, standings_on_demand};
use crate::tls::wanted::survey_on_demand;

impl Plane {
    /// Reads certificates again where a file has changed or the local authority's time has come.
    pub(super) async fn renew(&mut self) {
        let lost = self.sandbox.lost();
        if let (None, Some(lost)) = (&self.lost, &lost) {
            tracing::error!("{lost}");
        }
        self.lost = lost;
        let due = self.state.certificates.next_renewal().is_some_and(|at| at <= SystemTime::now());
        let stamps = files::Stamps::of(&self.state.config);
        if !due && !stamps.differ_from(&self.stamps) {
            return;
        }
        self.stamps = stamps;
        self.take_certificates().await;
    }

    /// What of the certificates needs a person, a sentence each.
    pub(super) fn certificates_in_need(
        &self,
        served: &[Found],
        standings: &[Value],
        now: SystemTime,
    ) -> Vec<String> {
        let error = self.certificate_error.iter();
        let error = error.map(|error| format!("changed certificates are not served: {error}"));
        let lacking = self.state.certificates.lacking();
        let names = standings.iter().filter_map(|it| it.pointer("/names/0")?.as_str());
        let damaged = damage(&self.state.config, names, true);
        error.chain(lacking).chain(needs_a_person(served, standings, now)).chain(damaged).collect()
    }

    /// Answers what is known of certificates. Those on demand may be very many: they are looked at
    /// beside the control plane.
    pub(super) fn tell_certificates(&self, name: Option<String>, answer: oneshot::Sender<Value>) {
        let now = SystemTime::now();
        let state = Arc::clone(&self.state);
        let mut certificates = state.certificates.survey(&state.config, name.as_deref(), now);
        let mut standings = self.by_acme(&self.acme.standings(), now);
        let needs_a_person = self.certificates_in_need(&certificates, &standings, now);
        tokio::task::spawn_blocking(move || {
            let is_meant = |found: &Found| name.as_deref().is_some_and(|name| found.is_named(name));
            let mut on_demand = survey_on_demand(&state.config, now);
            for found in on_demand.iter_mut().filter(|found| !is_meant(found)) {
                found.chain.truncate(1);
            }
            certificates.extend(on_demand);
            standings.extend(standings_on_demand(&state.config, now));
            let overview = Overview { certificates, standings, needs_a_person };
            // Who asked may have gone.
            let _ = answer.send(match serde_json::to_value(&overview) {
                Ok(overview) => json!({ "ok": true, "overview": overview }),
                Err(error) => json!({ "ok": false, "error": error.to_string() }),
            });
        });
    }

    /// Has authorities asked for what the configuration in force wants.
    pub(super) fn keep_certificates(&mut self) {
        let state = Arc::clone(&self.state);
        let vault = Files::at(&state.config.acme.storage);
        for waiting in state.certificates.waiting() {
            let (site, names) = (&waiting.site, waiting.names.join(", "));
            let is_held = Ledger::read(&vault, &waiting.names).is_ok_and(|it| it.is_held());
            let why = match is_held {
                false => format!("there is no certificate of an authority for {names} yet"),
                true => format!(
                    "the certificate for {names} was revoked, and no other is asked for before \
                     `portcullis certs renew`"
                ),
            };
            tracing::warn!(
                "site {site}: {why}; until there is, one of the local authority is shown, which \
                 browsers do not trust"
            );
        }
        let demand = state.certificates.demand();
        let served = |names: &[String]| state.certificates.issued(names).cloned();
        self.acme.keep(&state.config, &state.roots, &state.pending, demand, served);
    }

    /// Has responders asked about the certificates that are served.
    pub(super) fn keep_staples(&mut self) {
        let (questions, staples) = self.state.certificates.questions();
        self.staples.keep(questions, staples, &self.state.config.acme.storage);
    }

    /// Reads every certificate again and serves from what is there.
    pub(super) async fn take_certificates(&mut self) {
        let handed = self.handed(&self.state.config).await;
        match State::renew(&self.state, &handed, &self.registry) {
            Ok((state, errors)) => {
                self.publish(Arc::new(state)).await;
                self.certificate_error = told(&errors);
                match &self.certificate_error {
                    None => tracing::info!("certificates are read anew"),
                    Some(error) => tracing::error!(
                        "changed certificates cannot be used, the old ones go on serving: {error}"
                    ),
                }
            }
            Err(error) => {
                tracing::error!(
                    "changed certificates cannot be used, the old ones go on serving: {error}"
                );
                self.certificate_error = Some(error.to_string());
            }
        }
    }
}

fn told(errors: &[CertificateError]) -> Option<String> {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
