//! The sites: names that are free, certificates that can be read, routes that can be reached.

use std::collections::HashMap;
use std::path::Path;

use super::duration::Period;
use super::file::{self, File};
use super::kinds::{Hsts, Tls};
use super::problems::Problem;
use super::read::{At, Field, OneOrMany, Sections, Text};
use super::report::Report;
use super::resolve::{
    HOLD, UPSTREAM_TIMEOUT, bounded, judge_certificate, judge_pem, overlap, values,
};
use super::source::Span;
use super::target::Address;
use super::{Config, Limits, Listen, Redirect, Route, Server, Site, Target, TlsSource};
use crate::proxy::headers::host::{Host, HostPattern};
use crate::proxy::route::PathPrefix;

/// Judges every site.
pub(super) fn sites(
    file: &File,
    server: &Server,
    limits: &Limits,
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
    let mut judge = Judge { server, limits, base, names: HashMap::new(), report };
    sites.iter().map(|site| judge.site(site)).collect()
}

/// What is known while one site after the other is judged.
struct Judge<'j, 's> {
    server: &'j Server,
    limits: &'j Limits,
    base: &'j Path,
    /// The line on which each name was first given.
    names: HashMap<HostPattern, usize>,
    report: &'j mut Report<'s>,
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
        Site {
            hosts: values(&file.host),
            tls: self.tls(file),
            hsts: match file.hsts.value() {
                Some(Hsts::For(age)) => Some(age.0),
                Some(Hsts::Off) | None => None,
            },
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
        if let Some(At { value: Hsts::For(_), span }) = file.hsts.given() {
            let problem = Problem::warning("`hsts` has no effect: there is no HTTPS listener here");
            self.report.add(span, problem);
        }
    }

    fn tls(&mut self, file: &At<file::Site>) -> TlsSource {
        let Some(At { value, span: place }) = file.tls.given() else {
            return TlsSource::Auto;
        };
        let files = match value {
            Tls::Files(files) => files,
            Tls::Local => return TlsSource::Local,
            Tls::Auto => return TlsSource::Auto,
        };
        for (key, field) in [("cert", &files.cert), ("key", &files.key)] {
            if field.is_absent() {
                let problem =
                    Problem::missing(format!("`{key}` is missing: a certificate needs both files"))
                        .allowed(Tls::ALLOWED);
                self.report.add(place, problem);
            }
        }
        let (Some(cert), Some(key)) = (files.cert.given(), files.key.given()) else {
            return TlsSource::Auto;
        };
        let pair = [cert, key].map(|at| (self.base.join(&at.value.0), &at.span));
        let mut readable = true;
        for (path, span) in &pair {
            if let Err(message) = judge_pem(path) {
                readable = false;
                self.report.add(span, Problem::error(message));
            }
        }
        let [(cert, span), (key, _)] = pair;
        if readable && let Err(message) = judge_certificate(&cert, &key) {
            self.report.add(span, Problem::error(message));
        }
        TlsSource::Files { cert, key }
    }

    fn routes(&mut self, file: &At<file::Site>, outer: (Period, Period)) -> Vec<Route> {
        let written = file.route.value().map(|routes| &*routes.0).unwrap_or_default();
        let mut paths: HashMap<&PathPrefix, usize> = HashMap::new();
        let mut routes = Vec::with_capacity(written.len() + 1);
        let root = PathPrefix::root();
        if let Some(own) = file.to.given() {
            paths.insert(&root, self.report.source.line_of(own.span.start));
            let to = self.targets(&file.to);
            routes.push(Route {
                path: root.clone(),
                to,
                upstream_timeout: outer.0.0,
                hold: outer.1.0,
            });
        }
        for route in written {
            let route_path = self.path(route);
            if let (Some(path), Some(at)) = (route_path, route.path.given()) {
                let line = self.report.source.line_of(at.span.start);
                if let Some(first) = paths.insert(path, line) {
                    let problem = Problem::error(format!(
                        "this route is unreachable: line {first} takes `{path}` already"
                    ))
                    .allowed("every path once in a site; the site's own `to` is the path `/`");
                    self.report.add(&at.span, problem);
                }
            }
            if route.to.is_absent() {
                let problem = Problem::missing("this route has no `to`")
                    .allowed(Target::ALLOWED)
                    .help("add `to = \"127.0.0.1:8080\"`");
                self.report.add(&route.span, problem);
            }
            let timeout = bounded(
                "upstream_timeout",
                &route.upstream_timeout,
                outer.0,
                UPSTREAM_TIMEOUT,
                self.report,
            );
            let hold = bounded("hold", &route.hold, outer.1, HOLD, self.report);
            let to = self.targets(&route.to);
            if let Some(path) = route_path {
                routes.push(Route {
                    path: path.clone(),
                    to,
                    upstream_timeout: timeout.0,
                    hold: hold.0,
                });
            }
        }
        let redirected = matches!(file.redirect.value(), Some(Redirect::To(_)));
        if file.to.is_absent() && file.route.is_absent() && !redirected {
            let problem = Problem::missing("this site has nowhere to send its requests")
                .help("add `to = \"127.0.0.1:8080\"`, a `[[site.route]]`, or a URL in `redirect`");
            self.report.add(&file.span, problem);
        }
        routes.sort_by_key(|route| std::cmp::Reverse(route.path.as_str().len()));
        routes
    }

    fn path<'r>(&mut self, route: &'r At<file::Route>) -> Option<&'r PathPrefix> {
        if route.path.is_absent() {
            let problem = Problem::missing("this route has no `path`")
                .allowed(PathPrefix::ALLOWED)
                .help("add `path = \"/api\"`");
            self.report.add(&route.span, problem);
        }
        route.path.value()
    }

    fn targets(&mut self, field: &Field<OneOrMany<Target>>) -> Vec<Target> {
        let Some(At { value: list, span }) = field.given() else {
            return Vec::new();
        };
        if list.items.is_empty() && !list.partial {
            self.report.add(span, Problem::error("`to` is empty").allowed(Target::ALLOWED));
        }
        for (index, At { value, span }) in list.items.iter().enumerate() {
            if list.items.iter().take(index).any(|earlier| earlier.value == *value) {
                let problem =
                    Problem::warning(format!("`{value}` is listed twice: it gets twice the share"));
                self.report.add(span, problem);
            }
            self.judge_loop(value, span);
        }
        list.items.iter().map(|at| at.value.clone()).collect()
    }

    /// An application that is this program itself: the request would come back for ever.
    fn judge_loop(&mut self, target: &Target, span: &Span) {
        let Address::Tcp(host, port) = &target.address else {
            return;
        };
        let host = if host == "localhost" { "127.0.0.1" } else { host };
        let Ok(ip) = host.parse::<std::net::IpAddr>() else {
            return;
        };
        let there = Listen::Addr((ip, *port).into());
        let mut own = self.server.http.iter().chain(&self.server.https);
        let same = own.find(|own| match own {
            Listen::Any(_) => ip.is_loopback() && overlap(**own, there),
            Listen::Addr(_) => overlap(**own, there),
        });
        if let Some(own) = same {
            let problem = Problem::warning(format!(
                "`{target}` is this program's own listener `{own}`: requests would go in circles"
            ))
            .help("name the port on which the application listens");
            self.report.add(span, problem);
        }
    }

    /// What a site that redirects everything cannot forward.
    fn judge_unreachable(&mut self, file: &At<file::Site>) {
        let routes = file.route.value().map(|routes| &*routes.0).unwrap_or_default();
        let spans = file.to.given().map(|at| &at.span).into_iter();
        for span in spans.chain(routes.iter().map(|route| &route.span)) {
            let problem = Problem::error(
                "this is unreachable: the site's `redirect` sends everything elsewhere",
            )
            .help("take out one of the two");
            self.report.add(span, problem);
        }
    }
}

/// A site that redirects everything to itself.
pub(super) fn judge_redirects(file: &File, config: &Config, report: &mut Report<'_>) {
    let written = file.site.value().map(|sites| &*sites.0).unwrap_or_default();
    let redirects =
        written.iter().any(|site| matches!(site.redirect.value(), Some(Redirect::To(_))));
    if !redirects {
        return;
    }
    for (site, file) in config.sites.iter().zip(written) {
        let (Redirect::To(url), Some(at)) = (&site.redirect, file.redirect.given()) else {
            continue;
        };
        let uri = url.parse::<http::Uri>().ok();
        let host = uri.as_ref().and_then(http::Uri::host).map(|host| host.trim_matches(['[', ']']));
        let Some(host) = host.and_then(|host| Host::parse(host.as_bytes()).ok()) else {
            continue;
        };
        let elsewhere =
            uri.as_ref().and_then(http::Uri::port_u16).is_some_and(|port| !listens(config, port));
        let answers = config.site(&host);
        if !elsewhere && answers.is_some_and(|answers| std::ptr::eq(answers, site)) {
            let problem = Problem::error(format!(
                "this site redirects to itself: `{host}` is one of its names"
            ))
            .allowed(Redirect::ALLOWED);
            report.add(&at.span, problem);
        }
    }
}

fn listens(config: &Config, port: u16) -> bool {
    let mut own = config.server.http.iter().chain(&config.server.https);
    own.any(|listen| match listen {
        Listen::Any(own) => *own == port,
        Listen::Addr(own) => own.port() == port,
    })
}
