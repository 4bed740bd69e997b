//! The routes of a site: paths that can be reached, and applications to send to.

use std::collections::HashMap;

use super::duration::Period;
use super::file;
use super::listeners::overlap;
use super::problems::Problem;
use super::read::{At, Field, OneOrMany, Text};
use super::resolve::{HOLD, UPSTREAM_TIMEOUT, bounded};
use super::sites::Judge;
use super::source::Span;
use super::target::{Address, Protocol};
use super::{Listen, Redirect, Route, Target};
use crate::proxy::route::PathPrefix;

impl Judge<'_, '_> {
    /// The routes, the longest path first; the site's own `to` is the path `/`.
    pub(super) fn routes(&mut self, file: &At<file::Site>, outer: (Period, Period)) -> Vec<Route> {
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
        let is_h2c = |target: &Target| target.protocol == Protocol::H2c;
        if let [first, others @ ..] = list.items.as_slice()
            && let Some(other) = others.iter().find(|o| is_h2c(&o.value) != is_h2c(&first.value))
        {
            let problem = Problem::error(format!(
                "`{}` and `{}` do not speak the same protocol",
                first.value, other.value
            ))
            .allowed("either `h2c://` for all applications of a route, or for none");
            self.report.add(&other.span, problem);
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
}
