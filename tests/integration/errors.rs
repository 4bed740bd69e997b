//! Answers of the proxy's own: small, in the client's format, and silent about the inside.

use crate::harness::{Answer, Origin, Proxy, Request};

fn down() -> (Origin, Proxy) {
    let origin = Origin::down();
    let proxy = Proxy::to(&origin).limits("hold = '0s'").start();
    (origin, proxy)
}

#[track_caller]
fn ask(proxy: &Proxy, accept: &str) -> Answer {
    let request = Request::get("/secret-path").header("accept", accept).body(()).unwrap();
    let answer = proxy.client().send(request);
    assert_eq!(answer.status, 502);
    answer
}

#[test]
fn the_format_is_the_one_that_is_asked_for() {
    let (_origin, proxy) = down();
    for (accept, kind, start) in [
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "text/html", "<"),
        ("application/json", "application/json", "{"),
        ("text/plain", "text/plain", "502"),
        ("*/*", "text/plain", "502"),
    ] {
        let answer = ask(&proxy, accept);
        let told = answer.header("content-type").unwrap();
        assert!(told.starts_with(kind), "{accept}: {told}");
        assert!(answer.text().starts_with(start), "{accept}: {}", answer.text());
        assert!(answer.body.len() < 4096, "{} bytes", answer.body.len());
    }
}

#[test]
fn json_is_json() {
    let (_origin, proxy) = down();
    let text = ask(&proxy, "application/json").text();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["status"], 502);
}

#[test]
fn the_request_id_leads_to_the_log() {
    let (_origin, proxy) = down();
    let text = ask(&proxy, "application/json").text();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    proxy.expect_words(value["request_id"].as_str().expect("an id"));
}

#[test]
fn strangers_learn_nothing_of_the_inside_and_the_operator_does() {
    let (origin, proxy) = down();
    let answer = ask(&proxy, "text/html");
    let shown = format!("{:?} {}", answer.headers, answer.text()).to_lowercase();
    for word in [origin.port().to_string(), "127.0.0.1".into(), "refused".into(), "os error".into()]
    {
        assert!(!shown.contains(&word), "{word} in {shown}");
    }
    assert!(!shown.contains("secret-path"), "nothing of the request is repeated: {shown}");
    proxy.expect_words(&origin.to_string());
}

#[test]
fn they_are_not_kept_by_caches_and_run_nothing() {
    let (_origin, proxy) = down();
    let answer = ask(&proxy, "text/html");
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options").as_deref(), Some("nosniff"));
    assert!(!answer.text().contains("<script"));
}

#[test]
fn a_head_request_gets_no_body() {
    let (_origin, proxy) = down();
    let answer = proxy.client().send(Request::head("/").body(()).unwrap());
    assert_eq!((answer.status, answer.body.len()), (502, 0));
}

#[test]
fn answers_of_the_app_are_left_alone() {
    let origin = Origin::start();
    origin.handle("*", |_| async {
        http::Response::builder().status(500).body("the app's own words".into()).unwrap()
    });
    let proxy = Proxy::to(&origin).start();
    let answer = proxy.client().get("/");
    assert_eq!((answer.status, answer.text().as_str()), (500, "the app's own words"));
}

#[test]
fn the_programs_name_and_version_are_not_told() {
    let (_origin, proxy) = down();
    let answer = ask(&proxy, "text/html");
    let shown = format!("{:?} {}", answer.headers, answer.text()).to_lowercase();
    assert!(!shown.contains(env!("CARGO_PKG_VERSION")), "{shown}");
    assert_eq!(answer.header("server"), None);
}
