//! The control socket, the page of metrics, and a server that is led to itself.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::super::stage::Stage;
use crate::harness::tools::{self, stdout};
use crate::harness::{Client, Origin, Proxy, Request, Site, Wire};

pub fn control_socket(stage: &Stage) {
    let proxy = Proxy::to(&stage.origin).start();
    let path = proxy.path("control.sock");
    stage.case("it is its owner's", || {
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    });
    stage.case("another user", || {
        let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n\
                      try: s.connect(sys.argv[1])\nexcept PermissionError: print('denied')";
        if let Some(mut setpriv) = as_stranger() {
            let place = path.to_str().unwrap();
            let output = tools::run(setpriv.args(["/usr/bin/python3", "-c", script, place]));
            assert_eq!(stdout(&output).trim(), "denied", "{}", tools::stderr(&output));
        }
    });
    for (name, bytes) in [
        ("nothing", Vec::new()),
        ("garbage", b"\x00\xff\x1b]0;x\x07\n".to_vec()),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("no such question", b"{\"command\":\"stop\"}\n".to_vec()),
        ("a word too many", b"{\"command\":\"reload\"}\n".to_vec()),
        ("deep", b"[".repeat(4000)),
        ("a megabyte", vec![b'a'; 1 << 20]),
        ("a megabyte of lines", b"{}\n".repeat(1 << 18)),
    ] {
        stage.case(name, || {
            let mut socket = UnixStream::connect(&path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let _ = socket.write_all(&bytes);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let mut told = Vec::new();
            let _ = socket.read_to_end(&mut told);
            let told = String::from_utf8(told).unwrap();
            assert!(told.is_empty() || told.contains("\"ok\":false"), "{told}");
            assert!(!told.contains('\x1b') && told.len() < 5000, "{told}");
            answers(&proxy);
        });
    }
    stage.case("many who say nothing", || {
        let silent: Vec<_> = (0..40).map(|_| UnixStream::connect(&path).unwrap()).collect();
        answers(&proxy);
        let half: Vec<_> = silent.into_iter().map(|mut socket| socket.write(b"{")).collect();
        answers(&proxy);
        drop(half);
    });
    stage.case("it serves all the while", || assert_eq!(proxy.client().get("/").status, 200));
}

/// A command run by a user who owns nothing, where the tests may become one.
fn as_stranger() -> Option<tokio::process::Command> {
    if !rustix::process::geteuid().is_root() {
        tools::skip("takes root to be another user");
        return None;
    }
    let mut setpriv = tools::find("setpriv")?;
    setpriv.args(["--reuid=65533", "--regid=65533", "--clear-groups"]);
    Some(setpriv)
}

#[track_caller]
fn answers(proxy: &Proxy) {
    let began = Instant::now();
    let file = proxy.path("portcullis.toml");
    let output = tools::portcullis(&["status", "-c", file.to_str().unwrap(), "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["pid"], proxy.pid());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

pub fn metrics_page(stage: &Stage) {
    let setup = Proxy::plain_to(&stage.origin).admin("metrics = '127.0.0.1:0'");
    let mut proxy = setup.start();
    let metrics = proxy.metrics();
    let ask = |target: &str, fields: &str| {
        let mut wire = Wire::connect(metrics);
        wire.send(format!("{target} HTTP/1.1\r\n{fields}\r\n"));
        let answer = wire.read_answer();
        assert!(answer.status() == 200 || answer.body.is_empty(), "{}", answer.text());
        answer.status()
    };
    let port = metrics.port();
    let here = format!("Host: 127.0.0.1:{port}\r\n");
    for (name, target, fields, wanted) in [
        ("a scraper", "GET /metrics", here.clone(), 200),
        ("by another name of loopback", "GET /metrics", format!("Host: localhost:{port}\r\n"), 200),
        ("a person", "GET /metrics", format!("{here}Sec-Fetch-Mode: navigate\r\n"), 200),
        ("a rebound name", "GET /metrics", "Host: rebind.test\r\n".into(), 403),
        ("with its port", "GET /metrics", format!("Host: rebind.test:{port}\r\n"), 403),
        ("like localhost", "GET /metrics", "Host: localhost.rebind.test\r\n".into(), 403),
        ("in the target", "GET http://rebind.test/metrics", here.clone(), 403),
        ("no host", "GET /metrics", String::new(), 403),
        ("two hosts", "GET /metrics", format!("{here}Host: rebind.test\r\n"), 403),
        ("of a page", "GET /metrics", format!("{here}Origin: http://evil.test\r\n"), 403),
        ("of a file", "GET /metrics", format!("{here}Origin: null\r\n"), 403),
        ("of a script", "GET /metrics", format!("{here}Sec-Fetch-Mode: cors\r\n"), 403),
        ("as an image", "GET /metrics", format!("{here}Sec-Fetch-Mode: no-cors\r\n"), 403),
        ("a form", "POST /metrics", format!("{here}Content-Length: 0\r\n"), 405),
        (
            "text",
            "POST /metrics",
            format!("{here}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"),
            405,
        ),
        ("a preflight", "OPTIONS /metrics", here.clone(), 405),
        ("another page", "GET /", here.clone(), 404),
        ("a way round", "GET /metrics/../status", here.clone(), 404),
    ] {
        stage.case(name, || assert_eq!(ask(target, &fields), wanted));
    }
    stage.case("by way of a site", || {
        let site = Site::named("app.test").to(&metrics).on_plain_http();
        proxy.rewrite(|setup| setup.without_sites().site(site));
        assert!(proxy.reload(&[]).status.success());
        for client in [proxy.plain_client(), proxy.client().http2()] {
            assert_eq!(client.get("/metrics").status, 403);
        }
        let mut wire = proxy.wire();
        // Whatever host that site has.
        wire.send("GET /metrics HTTP/1.1\r\nHost: app.test\r\nX-Host: 127.0.0.1\r\n\r\n");
        assert_eq!(wire.read_answer().status(), 403);
    });
    stage.case("on every address any name may scrape", || {
        let setup = Proxy::plain_to(&stage.origin).admin("metrics = '0.0.0.0:0'");
        let proxy = setup.start();
        let place = std::net::SocketAddr::from(([127, 0, 0, 1], proxy.metrics().port()));
        let scrape = |name: &str, value: &str| {
            let request = Request::get("/metrics").header(name, value).body(()).unwrap();
            Client::plain(place, "web-1.example.net:9180").send(request).status
        };
        assert_eq!(scrape("user-agent", "Prometheus/3"), 200);
        assert_eq!(scrape("origin", "http://evil.test"), 403);
        assert_eq!(scrape("sec-fetch-mode", "cors"), 403);
    });
}

/// Each request took a connection, and another one, until there were no more.
pub fn request_loop(stage: &Stage) {
    let origin = Origin::start();
    origin.route("*", "ok");
    let mut proxy = Proxy::plain_to(&origin).start();
    let itself = proxy.http();
    let site = Site::named("app.test").to(&itself).on_plain_http();
    proxy.rewrite(|setup| setup.without_sites().site(site));
    assert!(proxy.reload(&[]).status.success());
    stage.case("led to itself", || {
        for client in [proxy.plain_client(), proxy.client(), proxy.client().http2()] {
            let began = Instant::now();
            assert_eq!(client.get("/round").status, 508);
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        }
        proxy.expect_words("forwarding loop");
        let lines = proxy.access_log();
        assert!(lines.len() <= 3 * 9, "{} lines", lines.len());
    });
    stage.case("a client that lists the field as hop-by-hop", || {
        let mut wire = proxy.wire();
        wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: cdn-loop, close\r\n\r\n");
        assert_eq!(wire.read_answer().status(), 508);
    });
    stage.case("by way of another server", || {
        let between = Proxy::plain_to(&itself).start();
        let site = Site::named("app.test").to(&between.http()).on_plain_http();
        proxy.rewrite(|setup| setup.without_sites().site(site));
        assert!(proxy.reload(&[]).status.success());
        assert_eq!(proxy.plain_client().get("/round").status, 508);
        assert_eq!(proxy.client().http2().get("/round").status, 508);
    });
    stage.case("a chain is no loop", || {
        let site = Site::named("app.test").to(&origin).on_plain_http();
        proxy.rewrite(|setup| setup.without_sites().site(site));
        assert!(proxy.reload(&[]).status.success());
        let outer = Proxy::plain_to(&itself).start();
        let outermost = Proxy::plain_to(&outer.http()).start();
        assert_eq!(outermost.client().get("/").status, 200);
        assert_eq!(origin.last().header("cdn-loop").unwrap(), ["portcullis"; 3].join("|"));
        let request = Request::get("/").header("cdn-loop", "cloudflare").body(()).unwrap();
        assert_eq!(proxy.client().http2().send(request).status, 200);
        assert_eq!(origin.last().header("cdn-loop").as_deref(), Some("cloudflare|portcullis"));
    });
}
