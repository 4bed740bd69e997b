//! From the name and the path of a request to an application, and no other.

use crate::harness::{Answer, Origin, Proxy, Request, Setup, Site};

fn origin_called(name: &'static str) -> Origin {
    let origin = Origin::start();
    origin.route("*", name);
    origin
}

#[track_caller]
fn plain_get(proxy: &Proxy, host: &str, path: &str) -> Answer {
    proxy.plain_client().host(host).get(path)
}

#[test]
fn each_name_has_its_own_app() {
    let (a, b) = (origin_called("a"), origin_called("b"));
    let proxy = Setup::new()
        .site(Site::named("a.test").and("www.a.test").to(&a))
        .site(Site::named("b.test").to(&b))
        .start();
    for (name, expected) in [("a.test", "a"), ("www.a.test", "a"), ("b.test", "b")] {
        assert_eq!(proxy.client_for(name).get("/").text(), expected);
        assert_eq!(proxy.client_for(name).http2().get("/").text(), expected);
    }
}

#[test]
fn exact_before_wildcard_before_any() {
    let (exact, wild, any) = (origin_called("exact"), origin_called("wild"), origin_called("any"));
    let proxy = Setup::new()
        .site(Site::named("*").to(&any).on_plain_http())
        .site(Site::named("*.app.test").to(&wild).on_plain_http())
        .site(Site::named("www.app.test").to(&exact).on_plain_http())
        .start();
    for (host, expected) in [
        ("www.app.test", "exact"),
        ("WWW.App.Test", "exact"),
        ("www.app.test.", "exact"),
        ("www.app.test:8080", "exact"),
        ("x.app.test", "wild"),
        ("a.b.app.test", "any"),
        ("app.test", "any"),
        ("other.test", "any"),
        ("127.0.0.1", "any"),
        ("[::1]", "any"),
    ] {
        assert_eq!(plain_get(&proxy, host, "/").text(), expected, "{host}");
    }
}

#[test]
fn a_name_that_nobody_has_gets_404_or_421() {
    let origin = origin_called("app");
    let proxy = Proxy::plain_to(&origin).start();
    let answer = plain_get(&proxy, "other.test", "/");
    assert!([404, 421].contains(&answer.status), "{answer:?}");
    assert!(origin.requests().is_empty());
}

#[test]
fn the_longest_prefix_on_segment_borders_wins() {
    let (site, api, deep) = (origin_called("site"), origin_called("api"), origin_called("deep"));
    let proxy = Setup::new()
        .site(
            Site::named("app.test")
                .to(&site)
                .route("/api", &api)
                .route("/api/deep", &deep)
                .on_plain_http(),
        )
        .start();
    for (path, expected) in [
        ("/", "site"),
        ("/apix", "site"),
        ("/API", "site"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api?x=/api/deep", "api"),
        ("/api/deeper", "api"),
        ("/api/deep", "deep"),
        ("/api/deep/x", "deep"),
        ("/?/api", "site"),
    ] {
        assert_eq!(plain_get(&proxy, "app.test", path).text(), expected, "{path}");
    }
}

#[test]
fn a_site_of_routes_only_answers_404_beside_them() {
    let api = origin_called("api");
    let proxy =
        Setup::new().site(Site::named("app.test").route("/api", &api).on_plain_http()).start();
    assert_eq!(plain_get(&proxy, "app.test", "/api/x").text(), "api");
    assert_eq!(plain_get(&proxy, "app.test", "/").status, 404);
    assert_eq!(plain_get(&proxy, "app.test", "/apix").status, 404);
}

#[test]
fn the_clients_bytes_of_the_target_are_forwarded() {
    let origin = origin_called("app");
    let proxy = Proxy::plain_to(&origin).start();
    for target in
        ["/a%2Fb", "/%61", "/a//b", "/x?q=%zz&a=b c".replace(' ', "%20").as_str(), "/;a=b"]
    {
        let mut wire = proxy.wire();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        assert_eq!(wire.read_answer().status(), 200, "{target}");
        assert_eq!(origin.last().target, target);
    }
}

#[test]
fn options_for_the_whole_server_is_not_a_path() {
    let origin = origin_called("app");
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let answer = wire.read_answer();
    assert!([200, 204, 400, 404].contains(&answer.status()), "{}", answer.head);
}

#[test]
fn connect_and_trace_do_not_reach_the_app() {
    let origin = origin_called("app");
    let proxy = Proxy::plain_to(&origin).start();
    for (line, allowed) in [
        ("CONNECT 127.0.0.1:22 HTTP/1.1", vec![400, 405, 501]),
        ("CONNECT app.test:80 HTTP/1.1", vec![400, 405, 501]),
        ("TRACE / HTTP/1.1", vec![405, 501]),
    ] {
        let mut wire = proxy.wire();
        wire.send(format!("{line}\r\nHost: app.test\r\nCookie: secret\r\n\r\n"));
        let answer = wire.read_answer();
        assert!(allowed.contains(&answer.status()), "{line}: {}", answer.head);
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn sni_and_host_of_different_sites_get_421() {
    let (a, b) = (origin_called("a"), origin_called("b"));
    let proxy =
        Setup::new().site(Site::named("a.test").to(&a)).site(Site::named("b.test").to(&b)).start();
    for client in [proxy.client_for("a.test"), proxy.client_for("a.test").http2()] {
        let mut connection = client.clone().host("b.test").connect();
        assert_eq!(connection.get("/").status, 421);
        assert!(b.requests().is_empty());
    }
}

#[test]
fn sni_and_host_of_one_site_agree() {
    let origin = origin_called("a");
    let proxy = Setup::new().site(Site::named("a.test").and("www.a.test").to(&origin)).start();
    assert_eq!(proxy.client_for("a.test").host("www.a.test").get("/").text(), "a");
}

#[test]
fn several_apps_share_the_requests() {
    let (one, two) = (origin_called("1"), origin_called("2"));
    let both = format!("to = ['{one}', '{two}']");
    let proxy = Setup::new().server("workers = 1").site(Site::named("app.test").key(&both)).start();
    let client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(one.requests().len() >= 5, "one got {}", one.requests().len());
    assert!(two.requests().len() >= 5, "two got {}", two.requests().len());
}

#[test]
fn an_app_on_a_unix_socket_is_reached() {
    let folder = crate::harness::proxy::folder();
    let origin = Origin::start_on_unix(folder.path());
    origin.route("/", "from the socket");
    let proxy = Proxy::to(&origin).start();
    assert_eq!(proxy.client().get("/").text(), "from the socket");
    assert_eq!(origin.last().header("host").as_deref(), Some("app.test"));
}

#[test]
fn an_app_over_tls_is_reached_and_its_certificate_verified() {
    let folder = crate::harness::proxy::folder();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, crate::harness::pki::root_pem()).unwrap();
    let right = Origin::start_tls(&["localhost"]);
    right.route("/", "sealed");
    let wrong = Origin::start_tls(&["other.test"]);
    wrong.route("/", "must not be seen");
    let proxy = Setup::new()
        .environment("SSL_CERT_FILE", roots.to_str().unwrap())
        .site(Site::named("right.test").to(&right).on_plain_http())
        .site(Site::named("wrong.test").to(&wrong).on_plain_http())
        .start();
    assert_eq!(plain_get(&proxy, "right.test", "/").text(), "sealed");
    assert_eq!(plain_get(&proxy, "wrong.test", "/").status, 502);
    let request = Request::get("/").body(()).unwrap();
    assert_eq!(proxy.client_for("right.test").send(request).text(), "sealed");
}

/// One application over TLS had every other one spoken to in TLS, too: their sites answered 502.
#[test]
fn an_app_over_tls_changes_nothing_for_those_beside_it() {
    let folder = crate::harness::proxy::folder();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, crate::harness::pki::root_pem()).unwrap();
    let (sealed, clear) = (Origin::start_tls(&["localhost"]), Origin::start());
    let (h2c, unix) = (Origin::start_h2c(), Origin::start_on_unix(folder.path()));
    let apps = [("sealed.test", &sealed), ("clear.test", &clear), ("h2c.test", &h2c)];
    let apps = || apps.into_iter().chain([("unix.test", &unix)]);
    for in_file in [apps().collect::<Vec<_>>(), apps().rev().collect()] {
        let setup = Setup::new().environment("SSL_CERT_FILE", roots.to_str().unwrap());
        let setup = in_file.iter().fold(setup, |setup, (name, app)| {
            app.route("/", *name);
            setup.site(Site::named(name).to(*app).on_plain_http())
        });
        let proxy = setup.start();
        for (name, _) in &in_file {
            assert_eq!(plain_get(&proxy, name, "/").text(), *name);
            let request = Request::get("/").body(()).unwrap();
            assert_eq!(proxy.client_for(name).send(request).text(), *name);
        }
    }
}

/// The same on the routes of one site.
#[test]
fn a_route_over_tls_changes_nothing_for_those_beside_it() {
    let folder = crate::harness::proxy::folder();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, crate::harness::pki::root_pem()).unwrap();
    let (sealed, clear) = (Origin::start_tls(&["localhost"]), Origin::start());
    sealed.route("/sealed", "sealed");
    clear.route("/", "clear");
    let site = Site::named("app.test").to(&clear).on_plain_http().route("/sealed", &sealed);
    let setup = Setup::new().environment("SSL_CERT_FILE", roots.to_str().unwrap());
    let proxy = setup.site(site).start();
    assert_eq!(plain_get(&proxy, "app.test", "/").text(), "clear");
    assert_eq!(plain_get(&proxy, "app.test", "/sealed").text(), "sealed");
}
