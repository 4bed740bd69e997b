//! The rules of TLS of one site: versions, protocols, certificates of clients.

use super::file;
use super::kinds::{Authentication, OldestTls, Protocol};
use super::pem::judge_pem;
use super::problems::Problem;
use super::read::{At, Field};
use super::resolve::values;
use super::sites::Judge;
use super::{ClientCertificates, Redirect, TlsPolicy};
use crate::sandbox;
use crate::tls::clients;

impl Judge<'_, '_> {
    /// Reads `tls_min`, `alpn` and `client_*`.
    pub(super) fn policy(&mut self, file: &At<file::Site>, redirect: &Redirect) -> TlsPolicy {
        let spoken = values(&file.alpn);
        if let Some(At { value, span }) = file.alpn.given()
            && value.items.is_empty()
            && !value.partial
        {
            let problem = Problem::error("`alpn` is empty: nothing would be spoken")
                .allowed("\"h2\", \"http/1.1\" or both");
            self.report.add(span, problem);
        }
        let speaks = |protocol| !file.alpn.is_absent() && spoken.contains(&protocol);
        let all = file.alpn.is_absent() || spoken.is_empty();
        TlsPolicy {
            only_tls13: file.tls_min.value() == Some(&OldestTls::V13),
            http2: all || speaks(Protocol::Http2),
            http1: all || speaks(Protocol::Http1),
            clients: self.clients(file, redirect),
        }
    }

    fn clients(
        &mut self,
        file: &At<file::Site>,
        redirect: &Redirect,
    ) -> Option<ClientCertificates> {
        let Some(ca) = file.client_ca.given() else {
            self.judge_pointless(file);
            return None;
        };
        let crl = file.client_crl.given();
        let mut is_hidden = false;
        for at in [Some(ca), crl].into_iter().flatten() {
            let path = self.base.join(&at.value.0);
            if let Err(problem) = judge_pem(&path)
                && !sandbox::keeps_from(&path)
            {
                // That a running program may not read a file is no reason to let everybody in.
                is_hidden |= problem.hidden;
                let is_wrong = !problem.hidden;
                self.report.add(&at.span, *problem);
                if is_wrong {
                    return None;
                }
            }
        }
        let clients = ClientCertificates {
            ca: self.base.join(&ca.value.0),
            crl: crl.map(|crl| self.base.join(&crl.value.0)),
            required: file.client_auth.value() != Some(&Authentication::Request),
        };
        if !is_hidden
            && let Err(error) = clients::load(&clients, std::time::SystemTime::now(), &[])
            && !sandbox::keeps_from(error.path())
        {
            let is_crl = crl.filter(|_| clients.crl.as_deref() == Some(error.path()));
            self.report.add(&is_crl.unwrap_or(ca).span, Problem::error(error.to_string()));
        }
        if clients.required && *redirect == Redirect::Off && !self.server.http.is_empty() {
            let problem = Problem::error(
                "this site requires certificates of clients, and `redirect = \"off\"` serves it to \
                 everybody on plain HTTP",
            )
            .help("leave `redirect` out, or let the server have `http = []`");
            self.report.add(file.redirect.given().map_or(&file.span, |at| &at.span), problem);
        }
        if self.server.https.is_empty() {
            let problem = Problem::error("there is no HTTPS listener to ask for certificates on");
            self.report.add(&ca.span, problem);
        }
        Some(clients)
    }

    /// Keys that say nothing, or the contrary of what their writer believes, without `client_ca`.
    fn judge_pointless(&mut self, file: &At<file::Site>) {
        if matches!(file.client_ca, Field::Wrong) {
            return;
        }
        let keys = [
            ("client_auth", file.client_auth.given().map(|at| &at.span)),
            ("client_crl", file.client_crl.given().map(|at| &at.span)),
        ];
        for (key, span) in keys {
            if let Some(span) = span {
                let problem =
                    Problem::error(format!("`{key}` without `client_ca`: nobody would be asked"))
                        .help("add `client_ca = \"clients.pem\"`, the authorities of the clients");
                self.report.add(span, problem);
            }
        }
    }
}
