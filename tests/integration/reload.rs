//! A new configuration takes over whole or not at all, and nobody who is connected notices.

use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::load::Load;
use crate::harness::socket::Socket;
use crate::harness::tools::{self, stderr, stdout};
use crate::harness::{Body, Client, Origin, Proxy, Request, Setup, Site, Wire, eventually};

fn app(text: &'static str) -> Origin {
    let origin = Origin::start();
    origin.route("*", text);
    origin
}

#[test]
fn hup_takes_the_new_file() {
    let (old, new) = (app("old"), app("new"));
    let mut proxy = Proxy::to(&old).start();
    assert_eq!(proxy.client().get("/").text(), "old");
    proxy.rewrite(|setup| setup.first_site(|site| site.to(&new)));
    proxy.signal(Signal::HUP);
    eventually("the new app", || proxy.client().get("/").text() == "new");
}

#[test]
fn the_verb_takes_the_new_file_before_it_returns() {
    let (old, new) = (app("old"), app("new"));
    let mut proxy = Proxy::to(&old).start();
    for origin in [&new, &old, &new] {
        proxy.rewrite(|setup| setup.first_site(|site| site.to(origin)));
        let output = proxy.reload(&[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let expected = if std::ptr::eq(origin, &new) { "new" } else { "old" };
        assert_eq!(proxy.client().get("/").text(), expected);
    }
}

#[test]
fn an_open_connection_sees_the_new_configuration() {
    let (old, new) = (app("old"), app("new"));
    let mut proxy = Proxy::to(&old).start();
    let mut connections = [proxy.client().connect(), proxy.client().http2().connect()];
    for connection in &mut connections {
        assert_eq!(connection.get("/").text(), "old");
    }
    proxy.rewrite(|setup| setup.first_site(|site| site.to(&new)));
    assert!(proxy.reload(&[]).status.success());
    for connection in &mut connections {
        assert_eq!(connection.get("/").text(), "new");
    }
}

#[test]
fn a_bad_file_changes_nothing_and_the_caller_is_told_all_of_it() {
    let origin = app("ok");
    let proxy = Proxy::to(&origin).start();
    let mut connection = proxy.client().connect();
    assert_eq!(connection.get("/").text(), "ok");
    proxy.rewrite_raw(
        "[server]\nhtpp = ':80'\n[limits]\nheader_count = 'many'\n\
         [[site]]\nhost = 'app.test'\nto = '127.0.0.1:99999'\n",
    );
    let output = proxy.reload(&[]);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    let told = stderr(&output) + &stdout(&output);
    for word in ["portcullis.toml:2:", "htpp", "header_count", "99999"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    assert_eq!(connection.get("/").text(), "ok");
    assert_eq!(proxy.client().get("/").text(), "ok");
    proxy.signal(Signal::HUP);
    eventually("the problem in the log", || proxy.words().contains("htpp"));
    assert_eq!(proxy.client().get("/").text(), "ok");
}

#[test]
fn a_certificate_that_does_not_match_changes_nothing() {
    let origin = app("ok");
    let mut proxy = Proxy::to(&origin).start();
    proxy.rewrite(|setup| setup.site(Site::named("b.test").to(&origin)));
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    crate::harness::setup::write_file(&proxy.path("certs/b.test.key"), &key, 0o600);
    let output = proxy.reload(&[]);
    assert_eq!(output.status.code(), Some(78));
    let told = stderr(&output) + &stdout(&output);
    assert!(told.contains("b.test"), "{told}");
    assert_eq!(proxy.client().get("/").text(), "ok");
}

#[test]
fn a_file_that_is_not_there_changes_nothing() {
    let origin = app("ok");
    let proxy = Proxy::to(&origin).start();
    std::fs::remove_file(proxy.path("portcullis.toml")).unwrap();
    proxy.signal(Signal::HUP);
    eventually("a word about it", || proxy.words().contains("portcullis.toml"));
    assert_eq!(proxy.client().get("/").text(), "ok");
}

#[test]
fn sites_and_certificates_come_and_go() {
    let (a, b) = (app("a"), app("b"));
    let mut proxy = Setup::new().site(Site::named("a.test").to(&a)).start();
    assert!(proxy.client_for("b.test").try_connect().is_err());
    proxy.rewrite(|setup| setup.site(Site::named("b.test").to(&b)));
    assert!(proxy.reload(&[]).status.success());
    assert_eq!(proxy.client_for("b.test").get("/").text(), "b");
    assert_eq!(proxy.client_for("a.test").get("/").text(), "a");
    proxy.rewrite(|setup| setup.without_sites().site(Site::named("b.test").to(&b)));
    assert!(proxy.reload(&[]).status.success());
    assert!(proxy.client_for("a.test").try_connect().is_err());
}

#[test]
fn listeners_come_and_go() {
    let origin = app("ok");
    let mut proxy = Proxy::plain_to(&origin).start();
    let (first, https) = (proxy.http(), proxy.https());
    let mut kept = proxy.plain_client().connect();
    assert_eq!(kept.get("/").text(), "ok");
    proxy.rewrite(|setup| setup.server("http = ['127.0.0.1:0', '127.0.0.2:0']"));
    proxy.rewrite(|setup| setup.server("https = []"));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let of_second = |place: &std::net::SocketAddr| place.ip().to_string() == "127.0.0.2";
    let mut second = None;
    eventually("the second listener", || {
        second = proxy.listening("http").into_iter().find(of_second);
        second.is_some()
    });
    let second = Client::plain(second.unwrap(), "app.test");
    assert_eq!(second.get("/").text(), "ok");
    assert_eq!(proxy.plain_client().get("/").text(), "ok", "the first is where it was");
    eventually("the HTTPS listener to go", || TcpStream::connect(https).is_err());
    proxy.rewrite(|setup| setup.server("http = '127.0.0.2:0'"));
    assert!(proxy.reload(&[]).status.success());
    eventually("the first listener to go", || TcpStream::connect(first).is_err());
    assert_eq!(second.get("/").text(), "ok");
    assert_eq!(kept.get("/").text(), "ok", "a connection outlives its listener");
}

/// From `127.0.0.1:80` to `:80` and back.
#[test]
fn a_listener_grows_to_every_address_and_shrinks_again() {
    let origin = app("ok");
    let first = std::net::SocketAddr::from(([127, 0, 0, 1], tools::own_port()));
    let setup = Proxy::plain_to(&origin).server(&format!("http = '{first}'"));
    let mut proxy = setup.start();
    proxy.rewrite(|setup| setup.server(&format!("http = ':{}'", first.port())));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let elsewhere = std::net::SocketAddr::from(([127, 0, 0, 2], first.port()));
    for place in [first, elsewhere] {
        assert_eq!(Client::plain(place, "app.test").get("/").text(), "ok", "{place}");
    }
    proxy.rewrite(|setup| setup.server(&format!("http = '{first}'")));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(Client::plain(first, "app.test").get("/").text(), "ok");
    eventually("the other addresses to go", || TcpStream::connect(elsewhere).is_err());
}

#[test]
fn a_listener_that_cannot_be_had_changes_nothing() {
    let (origin, other) = (app("ok"), app("other"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = Proxy::plain_to(&origin).start();
    let place = taken.local_addr().unwrap();
    proxy.rewrite(|setup| setup.server(&format!("http = ['127.0.0.1:0', '{place}']")));
    proxy.rewrite(|setup| setup.first_site(|site| site.to(&other)));
    let output = proxy.reload(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let told = stderr(&output) + &stdout(&output);
    assert!(told.contains(&place.port().to_string()), "{told}");
    assert_eq!(proxy.plain_client().get("/").text(), "ok");
    assert_eq!(proxy.client().get("/").text(), "ok");
}

#[test]
fn limits_change_too() {
    let origin = app("ok");
    let mut proxy = Proxy::to(&origin).start();
    let post = || Request::post("/").body(Body::of_size(2000)).unwrap();
    assert_eq!(proxy.client().send(post()).status, 200);
    proxy.rewrite(|setup| setup.limits("body_size = '1KiB'"));
    assert!(proxy.reload(&[]).status.success());
    assert_eq!(proxy.client().send(post()).status, 413);
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let (old, new) = (app("old"), app("new"));
    let mut proxy = Proxy::to(&old).start();
    let output = proxy.reload(&["--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).to_lowercase().contains("nothing"), "{}", stdout(&output));
    proxy.rewrite(|setup| {
        setup
            .first_site(|site| site.to(&new))
            .site(Site::named("more.test").to(&new))
            .limits("header_count = 50")
    });
    let output = proxy.reload(&["--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stdout(&output);
    for word in ["app.test", &old.to_string(), &new.to_string(), "more.test", "header_count", "50"]
    {
        assert!(told.contains(word), "{word} in {told}");
    }
    assert_eq!(proxy.client().get("/").text(), "old");
    proxy.rewrite_raw("[[site]]\nhots = 'a'\n");
    let output = proxy.reload(&["--dry-run"]);
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn a_reload_without_a_running_proxy_says_so() {
    let origin = app("ok");
    let mut proxy = Proxy::to(&origin).start();
    proxy.stop();
    let output = proxy.reload(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("control.sock"), "{}", stderr(&output));
}

#[test]
fn the_control_socket_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let origin = app("ok");
    let proxy = Proxy::to(&origin).start();
    let mode = proxy.path("control.sock").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn websockets_survive_a_reload() {
    let origin = Origin::start();
    crate::harness::socket::echo_at(&origin, "/ws");
    let mut proxy = Proxy::to(&origin).start();
    let mut sockets = [
        Socket::open(&proxy.client(), "/ws"),
        Socket::open_over_http2(&proxy.client().http2(), "/ws"),
    ];
    for n in 0..3 {
        for socket in &mut sockets {
            assert_eq!(socket.ask("still here"), "still here");
        }
        proxy.rewrite(|setup| setup.limits(&format!("header_count = {}", 50 + n)));
        assert!(proxy.reload(&[]).status.success());
    }
    proxy.rewrite(|setup| setup.without_sites().site(Site::named("other.test").to(&origin)));
    assert!(proxy.reload(&[]).status.success());
    for socket in &mut sockets {
        assert_eq!(socket.ask("still here"), "still here", "its site has gone, it has not");
    }
}

#[test]
fn a_request_keeps_the_configuration_it_began_with() {
    let (old, new) = (Origin::start(), app("new"));
    let (body, feed) = Body::fed();
    let body = std::sync::Mutex::new(Some(body));
    old.handle("*", move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { http::Response::new(body) }
    });
    let mut proxy = Proxy::to(&old).start();
    let mut streaming = proxy.client().start(Request::get("/").body(()).unwrap());
    assert!(feed.give("begun"));
    assert_eq!(streaming.text(), "begun");
    proxy.rewrite(|setup| setup.first_site(|site| site.to(&new)));
    assert!(proxy.reload(&[]).status.success());
    assert!(feed.give("ended"));
    drop(feed);
    assert_eq!(streaming.answer().text(), "ended");
    assert_eq!(proxy.client().get("/").text(), "new");
}

/// Ten reloads a second for five seconds, beside kept and new connections of both versions.
#[test]
fn reloads_under_load_cost_nobody_a_request() {
    let origin = app("ok");
    let mut proxy = Proxy::plain_to(&origin).start();
    let load = Load::start(&proxy);
    let mut pace = std::time::Instant::now();
    for n in 0..50 {
        let route = Site::named("app.test").to(&origin).on_plain_http();
        let route = route.route(&format!("/only-{n}"), &origin);
        proxy.rewrite(|setup| setup.without_sites().site(route));
        if n % 2 == 0 {
            proxy.signal(Signal::HUP);
        } else {
            let output = proxy.reload(&[]);
            assert!(output.status.success(), "{}", stderr(&output));
        }
        pace += Duration::from_millis(100);
        std::thread::park_timeout(pace.saturating_duration_since(std::time::Instant::now()));
    }
    let (answers, failures) = load.stop();
    assert!(failures.is_empty(), "{} of {answers} failed: {:?}", failures.len(), &failures[..1]);
    assert!(answers > 500, "only {answers} requests were made");
    let mut wire: Wire = proxy.wire();
    wire.send("GET /only-49 HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(wire.read_answer().status(), 200);
}
