//! Certificates that change while the program runs.

use std::sync::Arc;
use std::time::SystemTime;

use super::state::State;
use super::{Plane, files};
use crate::tls::CertificateError;

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

    /// Has authorities asked for what the configuration in force wants.
    pub(super) fn keep_certificates(&mut self) {
        let state = Arc::clone(&self.state);
        for waiting in state.certificates.waiting() {
            tracing::warn!(
                "site {}: there is no certificate of an authority for {} yet; until there is, one \
                 of the local authority is shown, which browsers do not trust",
                waiting.site,
                waiting.names.join(", ")
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
