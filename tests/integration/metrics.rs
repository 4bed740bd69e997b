//! What Prometheus scrapes: figures that add up, and labels that only the operator chooses.

use std::collections::BTreeMap;

use crate::harness::{Body, Client, Origin, Proxy, Request, Wire, eventually};

fn measured(origin: &Origin) -> Proxy {
    let setup = Proxy::plain_to(origin).admin("metrics = '127.0.0.1:0'");
    setup.first_site(|site| site.route("/api", origin)).start()
}

/// The samples by name with labels.
#[track_caller]
fn scrape(proxy: &Proxy) -> BTreeMap<String, f64> {
    let answer = Client::plain(proxy.metrics(), "localhost").get("/metrics");
    assert_eq!(answer.status, 200);
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    answer
        .text()
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// The sum of all samples of this name whose labels contain `label`.
fn total(samples: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let of_name = |series: &str| series.split('{').next() == Some(name);
    samples
        .iter()
        .filter(|(series, _)| of_name(series) && series.contains(label))
        .map(|(_, value)| value)
        .sum()
}

#[test]
fn requests_are_counted_by_route_and_class() {
    let origin = Origin::start();
    origin.route("/", "ok");
    origin.route("/api", "ok");
    let proxy = measured(&origin);
    let mut connection = proxy.client().connect();
    for path in ["/", "/", "/nowhere", "/api"] {
        connection.get(path);
    }
    let requests = |samples: &BTreeMap<String, f64>, label: &str| {
        total(samples, "portcullis_requests_total", label)
    };
    eventually("four requests", || requests(&scrape(&proxy), "site=\"app.test\"") >= 4.0);
    let samples = scrape(&proxy);
    assert_eq!(requests(&samples, "class=\"2xx\""), 3.0);
    assert_eq!(requests(&samples, "class=\"4xx\""), 1.0);
    assert_eq!(requests(&samples, "route=\"/api\""), 1.0);
    let count = total(&samples, "portcullis_request_duration_seconds_count", "app.test");
    assert_eq!(count, 4.0);
    let last = total(&samples, "portcullis_request_duration_seconds_bucket", "le=\"+Inf\"");
    assert_eq!(last, 4.0);
}

#[test]
fn bodies_connections_and_failures_are_counted() {
    let origin = Origin::start();
    origin.route("*", "hello");
    let proxy = measured(&origin);
    proxy.client().send(Request::post("/").body(Body::of_size(1000)).unwrap());
    let mut held = proxy.wire();
    held.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    held.read_answer();
    drop(Wire::try_tls(proxy.https(), crate::harness::pki::trusting(&[]), "other.test"));
    eventually("the figures", || {
        let samples = scrape(&proxy);
        total(&samples, "portcullis_request_body_bytes_total", "app.test") == 1000.0
            && total(&samples, "portcullis_response_body_bytes_total", "app.test") == 10.0
            && total(&samples, "portcullis_connections", "") >= 1.0
            && total(&samples, "portcullis_connections_total", "https") >= 2.0
            && total(&samples, "portcullis_tls_handshake_failures_total", "") >= 1.0
    });
}

#[test]
fn limits_and_upstream_failures_are_counted() {
    let mut origin = Origin::start();
    origin.route("*", "hello");
    let setup = Proxy::plain_to(&origin).admin("metrics = '127.0.0.1:0'");
    let proxy = setup.limits("body_size = '10B'").limits("hold = '0s'").start();
    proxy.client().send(Request::post("/").body(Body::of_size(1000)).unwrap());
    proxy.client().get("/");
    origin.stop();
    assert_eq!(proxy.client().get("/").status, 502);
    eventually("the figures", || {
        let samples = scrape(&proxy);
        let upstream: f64 = samples
            .iter()
            .filter(|(series, _)| series.contains("upstream") && series.contains("fail"))
            .map(|(_, value)| value)
            .sum();
        total(&samples, "portcullis_limit_hits_total", "body_size") == 1.0
            && upstream >= 1.0
            && total(&samples, "portcullis_requests_total", "class=\"5xx\"") == 1.0
    });
}

#[test]
fn a_certificates_end_and_the_build_are_told() {
    let origin = Origin::start();
    let proxy = measured(&origin);
    let samples = scrape(&proxy);
    let expiry = total(&samples, "portcullis_certificate_expiry_timestamp_seconds", "app.test");
    assert_eq!(expiry, 2_051_222_400.0, "2035-01-01");
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(total(&samples, "portcullis_build_info", &version), 1.0);
}

#[test]
fn strangers_make_no_series() {
    let origin = Origin::start();
    origin.route("*", "ok");
    let proxy = measured(&origin);
    proxy.client().get("/");
    proxy.plain_client().host("first.test").get("/");
    let before: Vec<String> = scrape(&proxy).into_keys().collect();
    let mut connection = proxy.plain_client().connect();
    for n in 0..200 {
        let method = http::Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
        let request = Request::builder().method(method).uri(format!("/path-{n}"));
        connection.send(request.header("user-agent", format!("{n}")).body(()).unwrap());
    }
    for n in 0..20 {
        proxy.plain_client().host(&format!("h{n}.test")).get("/");
    }
    let after: Vec<String> = scrape(&proxy).into_keys().collect();
    assert_eq!(before, after);
}

#[test]
fn a_reload_is_told_and_keeps_the_figures() {
    let origin = Origin::start();
    origin.route("*", "ok");
    let mut proxy = measured(&origin);
    proxy.client().get("/");
    let count = |samples: &BTreeMap<String, f64>| {
        total(samples, "portcullis_requests_total", "site=\"app.test\"")
    };
    eventually("the request", || count(&scrape(&proxy)) == 1.0);
    proxy.rewrite(|setup| setup.limits("header_count = 50"));
    assert!(proxy.reload(&[]).status.success());
    let samples = scrape(&proxy);
    assert_eq!(count(&samples), 1.0);
    assert_eq!(total(&samples, "portcullis_config_last_reload_successful", ""), 1.0);
    proxy.rewrite_raw("nonsense");
    proxy.signal(rustix::process::Signal::HUP);
    eventually("the failure", || {
        total(&scrape(&proxy), "portcullis_config_last_reload_successful", "") == 0.0
    });
}

#[test]
fn the_endpoint_has_nothing_else() {
    let origin = Origin::start();
    let proxy = measured(&origin);
    let client = Client::plain(proxy.metrics(), "localhost");
    assert_eq!(client.get("/").status, 404);
    let request = Request::post("/metrics").body(()).unwrap();
    assert!([404, 405].contains(&client.send(request).status));
}

/// Each held a descriptor for a minute, and there was no end to them.
#[test]
fn connections_that_ask_for_no_metrics_are_few_and_short() {
    let origin = Origin::start();
    let proxy = Proxy::to(&origin).admin("metrics = '127.0.0.1:0'").start();
    let metrics = proxy.metrics();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count();
    let before = descriptors();
    let silent: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(metrics).unwrap()).collect();
    eventually("the connections", || descriptors() > before + 20);
    assert!(descriptors() < before + 50, "{} and more", descriptors() - before);
    let mut wire = Wire::connect(metrics);
    wire.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    drop(silent);
    assert_eq!(wire.read_answer().status(), 200);
}
