//! Sites that send everything elsewhere.

use super::file::{self, File};
use super::problems::Problem;
use super::read::{At, Text};
use super::sites::Judge;
use super::{Config, Listen, Redirect};
use crate::config::report::Report;
use crate::proxy::headers::host::Host;

impl Judge<'_, '_> {
    /// What a site that redirects everything cannot forward.
    pub(super) fn judge_unreachable(&mut self, file: &At<file::Site>) {
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
