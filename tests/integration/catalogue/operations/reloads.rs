//! A hundred reloads, good and bad, beside requests without a pause.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::process::Signal;

use super::super::stage::Stage;
use crate::harness::body::Feed;
use crate::harness::load::Load;
use crate::harness::tools::stderr;
use crate::harness::{Body, Origin, Proxy, Request, Response, Site, eventually};

const RELOADS: usize = 100;

/// One after the other: taken, refused, refused, refused, and one that takes away the application
/// of a request that is under way.
pub fn race(stage: &Stage) {
    let origin = Origin::start();
    origin.route("*", "ok");
    let mut proxy = Proxy::plain_to(&origin).start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap();
    let load = Load::start(&proxy);
    let began = Instant::now();
    for round in 0..RELOADS {
        let good = |proxy: &mut Proxy, site: Site| {
            proxy.rewrite(|setup| setup.without_sites().site(site));
            expect(proxy, None);
        };
        let site = || Site::named("app.test").to(&origin).on_plain_http();
        match round % 5 {
            0 => good(&mut proxy, site().route(&format!("/only-{round}"), &origin)),
            1 => refused_twice(&proxy, "[server\nhttp = 'broken", "portcullis.toml:1"),
            2 => refused_twice(&proxy, "[server]\nhtpp = ':80'\n", "htpp"),
            3 => {
                let line = format!("http = ['127.0.0.1:0', '{place}']");
                let other = Proxy::plain_to(&origin).server(&line);
                let text = other.text(&proxy.path(""));
                refused(&proxy, &text, 1, &place.port().to_string());
            }
            _ => {
                let (slow, feed) = slow_app();
                good(&mut proxy, site().route("/slow", &slow));
                let mut streaming = proxy.client().start(Request::get("/slow").body(()).unwrap());
                assert!(feed.give("begun"));
                assert_eq!(streaming.text(), "begun");
                good(&mut proxy, site());
                assert!(feed.give("ended"));
                drop(feed);
                assert_eq!(streaming.answer().text(), "ended", "with the old configuration");
            }
        }
    }
    let (answers, failures) = load.stop();
    let rate = answers as f64 / began.elapsed().as_secs_f64();
    println!("    {answers} requests at {rate:.0}/s beside {RELOADS} reloads");
    stage.case("no request fails", || {
        let first = failures.first();
        assert!(failures.is_empty(), "{} of {answers} failed: {first:?}", failures.len());
        assert!(answers > 10 * RELOADS, "only {answers} requests were made");
    });
    stage.case("the log says why a reload was refused", || {
        let words = proxy.words();
        let refused = words.matches(REFUSED).count();
        assert_eq!(refused, RELOADS / 5 * 3, "{words}");
        assert!(words.contains("htpp"), "{words}");
    });
}

/// An app that answers piece by piece.
fn slow_app() -> (Origin, Feed) {
    let origin = Origin::start();
    let (body, feed) = Body::fed();
    let body = Arc::new(Mutex::new(Some(body)));
    origin.handle("*", move |_| {
        let body = body.lock().unwrap().take().unwrap_or_else(Body::empty);
        async { Response::new(body) }
    });
    (origin, feed)
}

/// By the verb, which does not even ask the server, and by the server.
#[track_caller]
fn refused_twice(proxy: &Proxy, text: &str, why: &str) {
    refused(proxy, text, 78, why);
    let refusals = |proxy: &Proxy| proxy.words().matches(REFUSED).count();
    let before = refusals(proxy);
    proxy.signal(Signal::HUP);
    eventually("a word about it", || refusals(proxy) > before);
}

const REFUSED: &str = "the reload changed nothing";

#[track_caller]
fn refused(proxy: &Proxy, text: &str, code: i32, why: &str) {
    proxy.rewrite_raw(text);
    expect(proxy, Some((code, why)));
}

#[track_caller]
fn expect(proxy: &Proxy, refusal: Option<(i32, &str)>) {
    let output = proxy.reload(&[]);
    let told = stderr(&output);
    match refusal {
        None => assert!(output.status.success(), "{told}"),
        Some((code, why)) => {
            assert_eq!(output.status.code(), Some(code), "{told}");
            assert!(told.contains(why), "{why:?} in {told}");
        }
    }
}
