//! The metrics as Prometheus reads them: text format 0.0.4.

use std::time::SystemTime;

use super::exposition::{Kind, Page, Seconds};
use super::metrics::{
    AcmeOutcome, BUCKETS, Counter, HandshakeFailure, Label, Limit, Listener, StatusClass,
};
use super::registry::Registry;
use crate::privilege::Proof;

/// The media type of what [`render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is shown beside the counters.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The version of the program.
    pub version: &'a str,
    /// Certificates in use.
    pub certificates: &'a [CertificateExpiry<'a>],
    /// Whether the last reload took effect; true before the first.
    pub reload_succeeded: bool,
    /// Whether the certificate files are served as they are now; false while a changed file is
    /// broken and the one before goes on.
    pub certificates_current: bool,
    /// When the configuration in force took effect.
    pub configured: SystemTime,
    /// What the threads of the program hold; `None` where it cannot be read.
    pub privileges: Option<&'a Proof>,
    /// What the sandbox limits, and whether it does.
    pub sandbox: &'a [(&'static str, bool)],
}

/// When a certificate ends.
#[derive(Clone, Copy, Debug)]
pub struct CertificateExpiry<'a> {
    /// The first name of the site that shows it.
    pub site: &'a str,
    /// The name that it is shown for.
    pub name: &'a str,
    /// The first moment at which it is no longer valid, in seconds since 1970.
    pub not_after: i64,
}

/// The whole page.
#[must_use]
pub fn render(registry: &Registry, facts: &Facts<'_>) -> String {
    let mut page = Page::default();
    program(&mut page, registry, facts);
    privileges(&mut page, facts.privileges);
    connections(&mut page, registry);
    upstreams(&mut page, registry);
    requests(&mut page, registry);
    durations(&mut page, registry);
    page.text()
}

fn program(page: &mut Page, registry: &Registry, facts: &Facts<'_>) {
    page.metric("build_info", Kind::Gauge, "Always 1; the version is the label.");
    page.sample("build_info", &[("version", facts.version)], 1);
    page.metric("start_time_seconds", Kind::Gauge, "When the program started, since 1970.");
    page.sample("start_time_seconds", &[], Seconds::since_1970(registry.started()));
    page.single("workers", Kind::Gauge, "Worker threads.", registry.worker_count());
    let succeeded = u8::from(facts.reload_succeeded);
    page.single(
        "config_last_reload_successful",
        Kind::Gauge,
        "Whether the last reload took effect.",
        succeeded,
    );
    page.single(
        "config_last_reload_success_timestamp_seconds",
        Kind::Gauge,
        "When the configuration in force took effect, since 1970.",
        Seconds::since_1970(facts.configured),
    );
    page.single(
        "certificates_last_read_successful",
        Kind::Gauge,
        "Whether the certificate files as they are now are served; 0: those from before are.",
        u8::from(facts.certificates_current),
    );
    page.metric(
        "certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the certificate shown for a name ends, since 1970.",
    );
    for expiry in facts.certificates {
        let labels = [("site", expiry.site), ("name", expiry.name)];
        page.sample("certificate_expiry_timestamp_seconds", &labels, expiry.not_after);
    }
    page.family(
        "acme_attempts_total",
        "Attempts to get a certificate from an authority.",
        "outcome",
        |outcome: AcmeOutcome| registry.sum(|worker| worker.acme.get(outcome)),
    );
    page.metric("sandbox", Kind::Gauge, "Whether the sandbox limits this of the process.");
    for (part, closed) in facts.sandbox {
        page.sample("sandbox", &[("part", *part)], u8::from(*closed));
    }
    page.single(
        "access_log_lines_lost_total",
        Kind::Counter,
        "Lines of the access log that could not be written.",
        registry.lines_lost().get(),
    );
    page.single(
        "program_log_lines_lost_total",
        Kind::Counter,
        "Lines of the program's own log that could not be written.",
        registry.words_lost().get(),
    );
    page.single(
        "panics_total",
        Kind::Counter,
        "Panics that were caught, each a defect of this program.",
        registry.sum(|worker| worker.panics.get()),
    );
}

/// What cannot be read is not shown as zero: it is not proved, and has no count.
fn privileges(page: &mut Page, proof: Option<&Proof>) {
    page.single(
        "privileges_proved",
        Kind::Gauge,
        "Whether every thread was just seen to hold nothing that was not asked for.",
        u8::from(proof.is_some_and(Proof::holds)),
    );
    page.metric(
        "capabilities_held",
        Kind::Gauge,
        "Capabilities that any thread has in a set; bounding is void under no_new_privs.",
    );
    for (set, held) in proof.into_iter().flat_map(Proof::held) {
        page.sample("capabilities_held", &[("set", set)], held.len());
    }
}

fn connections(page: &mut Page, registry: &Registry) {
    page.single(
        "connections",
        Kind::Gauge,
        "Open connections of clients.",
        registry.sum(|worker| worker.connections.get()),
    );
    page.single(
        "tunnels",
        Kind::Gauge,
        "Open tunnels such as WebSockets.",
        registry.sum(|worker| worker.tunnels.get()),
    );
    page.family("connections_total", "Accepted connections.", "listener", |kind: Listener| {
        registry.sum(|worker| worker.accepted.get(kind))
    });
    page.single(
        "tls_handshakes_total",
        Kind::Counter,
        "TLS handshakes that succeeded.",
        registry.sum(|worker| worker.handshakes.get()),
    );
    page.family(
        "tls_handshake_failures_total",
        "TLS handshakes that failed.",
        "reason",
        |reason: HandshakeFailure| registry.sum(|worker| worker.handshake_failures.get(reason)),
    );
    page.family(
        "limit_hits_total",
        "Times that a limit of the configuration was reached.",
        "limit",
        |limit: Limit| registry.sum(|worker| worker.limits.get(limit)),
    );
    page.single(
        "downstream_received_bytes_total",
        Kind::Counter,
        "Bytes received from clients.",
        registry.sum(|worker| worker.received.get()),
    );
    page.single(
        "downstream_sent_bytes_total",
        Kind::Counter,
        "Bytes sent to clients.",
        registry.sum(|worker| worker.sent.get()),
    );
}

fn upstreams(page: &mut Page, registry: &Registry) {
    page.single(
        "upstream_connects_total",
        Kind::Counter,
        "Connections made to applications.",
        registry.sum(|worker| worker.upstream_connects.get()),
    );
    page.single(
        "upstream_connect_failures_total",
        Kind::Counter,
        "Connections to applications that could not be made.",
        registry.sum(|worker| worker.upstream_connect_failures.get()),
    );
    page.single(
        "upstream_reuses_total",
        Kind::Counter,
        "Requests sent on a connection that had been used before.",
        registry.sum(|worker| worker.upstream_reuses.get()),
    );
}

fn requests(page: &mut Page, registry: &Registry) {
    let routes = registry.all_routes();
    page.metric("requests_total", Kind::Counter, "Requests by class of status.");
    for (site, route, series) in &routes {
        for class in StatusClass::ALL {
            let labels = [("site", site.as_str()), ("route", route), ("class", class.text())];
            page.sample("requests_total", &labels, series.sum(|w| w.requests.get(*class)));
        }
    }
    page.metric("request_body_bytes_total", Kind::Counter, "Bytes of request bodies.");
    for (site, route, series) in &routes {
        let labels = [("site", site.as_str()), ("route", route)];
        page.sample("request_body_bytes_total", &labels, series.sum(|w| w.bytes_in.get()));
    }
    page.metric("response_body_bytes_total", Kind::Counter, "Bytes of response bodies.");
    for (site, route, series) in &routes {
        let labels = [("site", site.as_str()), ("route", route)];
        page.sample("response_body_bytes_total", &labels, series.sum(|w| w.bytes_out.get()));
    }
}

fn durations(page: &mut Page, registry: &Registry) {
    let help = "From the head of a request to the last byte of its response.";
    page.metric("request_duration_seconds", Kind::Histogram, help);
    for (site, route, series) in &registry.all_routes() {
        let labels = [("site", site.as_str()), ("route", route)];
        let mut total = 0_u64;
        for index in 0..=BUCKETS.len() {
            let bucket = series.sum(|w| w.buckets.get(index).map_or(0, Counter::get));
            total = total.wrapping_add(bucket);
            let end = BUCKETS
                .get(index)
                .map_or_else(|| "+Inf".to_owned(), |end| end.as_secs_f64().to_string());
            let [site, route] = labels;
            let labels = [site, route, ("le", end.as_str())];
            page.sample("request_duration_seconds_bucket", &labels, total);
        }
        let sum = Seconds { nanoseconds: series.sum(|w| w.nanoseconds.get()).into() };
        page.sample("request_duration_seconds_sum", &labels, sum);
        page.sample("request_duration_seconds_count", &labels, total);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::observe::exposition::reader::{Samples, read};

    fn registry() -> Registry {
        let registry = Registry::new(2, UNIX_EPOCH + Duration::from_millis(1_700_000_000_250));
        let _ = registry.series("example.com", "/");
        let _ = registry.series("example.com", "/api");
        registry
    }

    fn page(registry: &Registry) -> Samples {
        let expiry = CertificateExpiry {
            site: "example.com",
            name: "*.example.org",
            not_after: 1_800_000_000,
        };
        let facts = Facts {
            version: "0.1.0",
            certificates: &[expiry],
            reload_succeeded: true,
            certificates_current: true,
            configured: UNIX_EPOCH + Duration::from_secs(1_700_000_001),
            privileges: None,
            sandbox: &[("files", true), ("ports", false)],
        };
        read(&render(registry, &facts)).unwrap()
    }

    #[test]
    fn a_page_has_every_series_from_the_start() {
        let page = page(&registry());
        assert_eq!(page["portcullis_build_info{version=\"0.1.0\"}"], 1.0);
        assert_eq!(page["portcullis_start_time_seconds"], 1_700_000_000.25);
        assert_eq!(page["portcullis_workers"], 2.0);
        assert_eq!(page["portcullis_sandbox{part=\"files\"}"], 1.0);
        assert_eq!(page["portcullis_sandbox{part=\"ports\"}"], 0.0);
        assert_eq!(page["portcullis_config_last_reload_successful"], 1.0);
        assert_eq!(page["portcullis_certificates_last_read_successful"], 1.0);
        assert_eq!(
            page["portcullis_certificate_expiry_timestamp_seconds{site=\"example.com\",\
                  name=\"*.example.org\"}"],
            1_800_000_000.0
        );
        for zero in [
            "portcullis_connections",
            "portcullis_connections_total{listener=\"https\"}",
            "portcullis_tls_handshake_failures_total{reason=\"timeout\"}",
            "portcullis_limit_hits_total{limit=\"connections_per_client\"}",
            "portcullis_requests_total{site=\"\",route=\"\",class=\"499\"}",
            "portcullis_requests_total{site=\"example.com\",route=\"/api\",class=\"2xx\"}",
            "portcullis_access_log_lines_lost_total",
            "portcullis_program_log_lines_lost_total",
            "portcullis_privileges_proved",
        ] {
            assert_eq!(page[zero], 0.0, "{zero}");
        }
    }

    #[test]
    fn workers_are_added_up_and_buckets_accumulate() {
        let registry = registry();
        let series = registry.series("example.com", "/api");
        let millis = Duration::from_millis;
        series.worker(0).record(200, millis(1), 10, 100);
        series.worker(1).record(204, millis(30), 10, 0);
        series.worker(1).record(499, millis(11_000), 0, 5);
        let page = page(&registry);
        let labels = "site=\"example.com\",route=\"/api\"";
        let value = |name: &str, more: &str| page[&format!("portcullis_{name}{{{labels}{more}}}")];
        assert_eq!(value("requests_total", ",class=\"2xx\""), 2.0);
        assert_eq!(value("requests_total", ",class=\"4xx\""), 0.0);
        assert_eq!(value("requests_total", ",class=\"499\""), 1.0);
        assert_eq!(value("request_duration_seconds_bucket", ",le=\"0.001\""), 1.0);
        assert_eq!(value("request_duration_seconds_bucket", ",le=\"0.025\""), 1.0);
        assert_eq!(value("request_duration_seconds_bucket", ",le=\"0.05\""), 2.0);
        assert_eq!(value("request_duration_seconds_bucket", ",le=\"10\""), 2.0);
        assert_eq!(value("request_duration_seconds_bucket", ",le=\"+Inf\""), 3.0);
        assert_eq!(value("request_duration_seconds_count", ""), 3.0);
        assert_eq!(value("request_duration_seconds_sum", ""), 11.031);
        assert_eq!(value("request_body_bytes_total", ""), 20.0);
        assert_eq!(value("response_body_bytes_total", ""), 105.0);
    }

    #[test]
    fn the_buckets_are_those_that_are_documented() {
        let ends: Vec<String> = BUCKETS.iter().map(|b| b.as_secs_f64().to_string()).collect();
        let documented = "0.001 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10";
        assert_eq!(ends.join(" "), documented);
    }

    #[test]
    fn labels_are_escaped() {
        let registry = Registry::new(1, UNIX_EPOCH);
        let _ = registry.series("a\"b", "/\\\n{},");
        let series =
            "portcullis_requests_total{site=\"a\\\"b\",route=\"/\\\\\\n{},\",class=\"2xx\"}";
        assert_eq!(page(&registry)[series], 0.0);
    }

    proptest! {
        #[test]
        fn no_request_makes_a_series(
            requests: Vec<(u16, Duration, u32, u32)>,
            others in proptest::collection::vec((0..2_usize, 0..12_usize), 0..50),
        ) {
            let registry = registry();
            let before: Vec<String> = page(&registry).into_keys().collect();
            for (status, duration, bytes_in, bytes_out) in &requests {
                let worker = registry.unmatched();
                let worker = worker.worker(usize::from(status % 3));
                worker.record(*status, *duration, (*bytes_in).into(), (*bytes_out).into());
            }
            for (worker, limit) in others {
                registry.worker(worker).unwrap().limits.count(Limit::ALL[limit]);
            }
            let after = page(&registry);
            let count = "portcullis_request_duration_seconds_count{site=\"\",route=\"\"}";
            prop_assert_eq!(after[count], requests.len() as f64);
            prop_assert_eq!(before, after.into_keys().collect::<Vec<_>>());
        }
    }
}
