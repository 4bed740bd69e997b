//! The sites: names that are free, certificates that can be read, routes that can be reached.

use std::collections::HashMap;
use std::path::Path;

use super::duration::Period;
use super::file::{self, File};
use super::kinds::Tls;
use super::pem::judge_pem;
use super::problems::Problem;
use super::read::{At, Field, Sections, Text};
use super::report::Report;
use super::resolve::{HOLD, UPSTREAM_TIMEOUT, bounded, judge_certificate, values};
use super::{Acme, Limits, Redirect, Server, Site, TlsSource};
use crate::proxy::headers::host::HostPattern;
use crate::sandbox;

/// Judges every site.
pub(super) fn sites(
    file: &File,
    server: &Server,
    limits: &Limits,
    acme: &Acme,
    base: &Path,
    report: &mut Report<'_>,
) -> Vec<Site> {
    let Some(Sections(sites)) = file.site.value() else {
        if file.site.is_absent() {
            let problem = Problem::missing("there is no site: nothing would be forwarded")
                .help("add `[[site]]` with `host = \"example.com\"` and `to = \"127.0.0.1:8080\"`");
            report.add(&(0..0), problem);
        }
        return Vec::new();
    };
    if let (true, Some(at)) = (sites.is_empty(), file.site.given()) {
        report.add(&at.span, Problem::error("there is no site: nothing would be forwarded"));
    }
    let mut judge =
        Judge { server, limits, acme, base, names: HashMap::new(), is_ramp_told: false, report };
    sites.iter().map(|site| judge.site(site)).collect()
}

/// What is known while one site after the other is judged.
pub(super) struct Judge<'j, 's> {
    pub server: &'j Server,
    pub limits: &'j Limits,
    /// What holds for sites that say nothing of it, and where things are kept.
    pub acme: &'j Acme,
    pub base: &'j Path,
    /// The line on which each name was first given.
    pub names: HashMap<HostPattern, usize>,
    /// Whether it was said what a ramp of `hsts` leads to.
    pub is_ramp_told: bool,
    pub report: &'j mut Report<'s>,
}

impl Judge<'_, '_> {
    fn site(&mut self, file: &At<file::Site>) -> Site {
        let redirect = file.redirect.value().cloned().unwrap_or(Redirect::Https);
        self.judge_names(file);
        self.judge_schemes(file, &redirect);
        let upstream_timeout = Period(self.limits.upstream_timeout);
        let outer = (
            bounded(
                "upstream_timeout",
                &file.upstream_timeout,
                upstream_timeout,
                UPSTREAM_TIMEOUT,
                self.report,
            ),
            bounded("hold", &file.hold, Period(self.limits.hold), HOLD, self.report),
        );
        let mut routes = self.routes(file, outer);
        if let Redirect::To(_) = redirect {
            self.judge_unreachable(file);
            routes.clear();
        }
        let tls = self.tls(file);
        Site {
            hosts: values(&file.host),
            key_type: file.key_type.value().copied().unwrap_or(self.acme.key_type),
            policy: self.policy(file, &redirect),
            hsts: self.hsts(file, &redirect, &tls),
            tls,
            redirect,
            routes,
        }
    }

    fn judge_names(&mut self, file: &At<file::Site>) {
        match &file.host {
            Field::Absent => {
                let problem = Problem::missing("this site has no `host`")
                    .allowed(HostPattern::ALLOWED)
                    .help("add `host = \"example.com\"`");
                self.report.add(&file.span, problem);
            }
            Field::Given(At { value, span }) if value.items.is_empty() && !value.partial => {
                self.report
                    .add(span, Problem::error("`host` is empty").allowed(HostPattern::ALLOWED));
            }
            _ => {}
        }
        for At { value, span } in file.host.value().map(|list| &*list.items).unwrap_or_default() {
            let line = self.report.source.line_of(span.start);
            if let Some(first) = self.names.get(value) {
                let problem = Problem::error(format!(
                    "the host `{value}` is taken: it was given on line {first}"
                ))
                .allowed("every host once in the whole file");
                self.report.add(span, problem);
            } else {
                self.names.insert(value.clone(), line);
            }
        }
    }

    /// Redirects and certificates that the listeners make useless.
    fn judge_schemes(&mut self, file: &At<file::Site>, redirect: &Redirect) {
        if !self.server.https.is_empty() {
            return;
        }
        if *redirect == Redirect::Https && !matches!(file.redirect, Field::Wrong) {
            let problem = Problem::warning(
                "this site redirects to HTTPS, and there is no HTTPS listener here",
            )
            .help("add `redirect = \"off\"` to serve it on plain HTTP, or an address in `https`");
            self.report.add(file.redirect.given().map_or(&file.span, |at| &at.span), problem);
        }
    }

    fn tls(&mut self, file: &At<file::Site>) -> TlsSource {
        let Some(At { value, span: place }) = file.tls.given() else {
            return TlsSource::Auto;
        };
        let table = match value {
            Tls::Table(table) => table,
            Tls::Local => return TlsSource::Local,
            Tls::Auto => return TlsSource::Auto,
        };
        match &table.on_demand {
            Field::Given(on_demand) => return self.on_demand(&file.value, table, on_demand),
            Field::Wrong => return TlsSource::Auto,
            Field::Absent => {}
        }
        for (key, field) in [("cert", &table.cert), ("key", &table.key)] {
            if field.is_absent() {
                let problem =
                    Problem::missing(format!("`{key}` is missing: a certificate needs both files"))
                        .allowed(Tls::ALLOWED);
                self.report.add(place, problem);
            }
        }
        let (Some(cert), Some(key)) = (table.cert.given(), table.key.given()) else {
            return TlsSource::Auto;
        };
        let pair = [cert, key].map(|at| (self.base.join(&at.value.0), &at.span));
        let mut readable = true;
        for (path, span) in &pair {
            if let Err(problem) = judge_pem(path) {
                readable = false;
                // From within a sandbox it cannot be judged; a reload refuses it by its key.
                if !sandbox::keeps_from(path) {
                    self.report.add(span, *problem);
                }
            }
        }
        let [(cert, span), (key, _)] = pair;
        if readable {
            let stapled = (self.server.ocsp, &*self.acme.storage);
            match judge_certificate(&cert, &key, &values(&file.host), stapled) {
                Ok(warnings) => warnings.into_iter().for_each(|warning| {
                    let what = format!("{}: {warning}", cert.display());
                    self.report.add(span, Problem::warning(what));
                }),
                Err(message) => self.report.add(span, Problem::error(message)),
            }
        }
        TlsSource::Files { cert, key }
    }
}
