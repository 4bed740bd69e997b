//! Certificates for names that clients ask for: for which hosts, and who decides.

use super::TlsSource;
use super::file;
use super::kinds::Count;
use super::problems::Problem;
use super::read::At;
use super::report::Report;
use super::resolve::bounded;
use super::sites::Judge;
use super::source::Span;
use crate::proxy::headers::host::HostPattern;

/// Judges `acme.on_demand_rate`.
pub(super) fn rate(file: &file::Acme, report: &mut Report<'_>) -> u32 {
    let limits = (Count(1), Count(600), "strangers choose when, and authorities count");
    let rate = bounded("on_demand_rate", &file.on_demand_rate, Count(10), limits, report);
    u32::try_from(rate.0).unwrap_or(u32::MAX)
}

impl Judge<'_, '_> {
    /// A table `tls` with `on_demand` in it.
    pub(super) fn on_demand(
        &mut self,
        site: &file::Site,
        table: &file::TlsTable,
        At { value, span }: &At<file::OnDemand>,
    ) -> TlsSource {
        for (key, field) in [("cert", &table.cert), ("key", &table.key)] {
            if let Some(at) = field.given() {
                let message = format!("`{key}` and `on_demand` exclude each other");
                let help = "certificates come from files or are got when clients ask for a name";
                self.report.add(&at.span, Problem::error(message).help(help));
            }
        }
        self.judge_hosts(site);
        self.judge_listener(span);
        if value.ask.is_absent() {
            let problem = Problem::missing(
                "`ask` is missing: without it any stranger could have certificates got for any \
                 name, until the authority refuses us all",
            )
            .allowed("{ ask = \"http://127.0.0.1:9000/allowed\" }")
            .help("it is asked with `?domain=NAME`; 200 is yes, everything else no");
            self.report.add(span, problem);
        }
        value.ask.value().map_or(TlsSource::Auto, |ask| TlsSource::OnDemand(ask.0.clone()))
    }

    fn judge_hosts(&mut self, site: &file::Site) {
        for At { value, span } in site.host.value().map(|list| &*list.items).unwrap_or_default() {
            let problem = match value {
                HostPattern::Any => continue,
                HostPattern::Exact(host) => Problem::error(format!(
                    "`on_demand` is for wildcards and `*`: `{host}` is known beforehand"
                ))
                .help(format!("give `{host}` a site of its own with `tls = \"auto\"`")),
                HostPattern::Wildcard(parent) if is_private(parent.as_str()) => {
                    Problem::error(format!("no authority signs names below `{parent}`"))
                        .help("write `tls = \"local\"`")
                }
                HostPattern::Wildcard(_) => continue,
            };
            self.report.add(span, problem);
        }
    }

    fn judge_listener(&mut self, span: &Span) {
        if self.server.https.is_empty() {
            let problem = Problem::warning("`on_demand` has no effect: there is no HTTPS listener");
            self.report.add(span, problem);
        }
    }
}

/// Names of this host (RFC 6761 §6.3) and of private networks.
fn is_private(parent: &str) -> bool {
    matches!(parent.rsplit('.').next(), Some("localhost" | "internal"))
}
