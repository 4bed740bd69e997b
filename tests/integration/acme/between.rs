//! What Pebble does not do, done by somebody between: windows, profiles, limits, nonsense.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::*;
use crate::harness::pebble::Pebbles;
use crate::harness::{Answer, Body, Request, Response, eventually};

/// An authority that is Pebble but for what a test says.
pub(super) struct Between {
    origin: Origin,
    /// The token of the last authorization, for http-01.
    token: Arc<Mutex<Option<String>>>,
    /// The payloads of new orders.
    orders: Arc<Mutex<Vec<Value>>>,
}

/// What is done with a request before Pebble sees it: an answer in its place, or nothing.
pub(super) type Instead = fn(&str) -> Option<Response<Body>>;

impl Between {
    pub(super) fn of(pebble: &Pebble, about: Value, instead: Instead) -> Self {
        let origin = Origin::start_tls(&["localhost"]);
        let orders: Arc<Mutex<Vec<Value>>> = Arc::default();
        let here = format!("https://localhost:{}", origin.port());
        let client = Client::secure(pebble.place(), "localhost");
        let client = client.host(here.strip_prefix("https://").unwrap());
        let seen = Arc::clone(&orders);
        let token: Arc<Mutex<Option<String>>> = Arc::default();
        let found = Arc::clone(&token);
        origin.handle("*", move |request| {
            let (client, seen, found) = (client.clone(), Arc::clone(&seen), Arc::clone(&found));
            let (here, about) = (here.clone(), about.clone());
            async move {
                let path = request.uri().path().to_owned();
                if let Some(answer) = instead(&path) {
                    return answer;
                }
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let payload = payload_of(&body);
                let mut onward = Request::builder().method(head.method).uri(&path);
                if let Some(kind) = head.headers.get("content-type") {
                    onward = onward.header("content-type", kind);
                }
                let mut connection = client.open().await.unwrap();
                let onward = connection.begin(onward.body(Body::from(body)).unwrap());
                let mut answer = onward.finish().await.unwrap().collect().await.unwrap();
                if path == "/dir" {
                    add(&mut answer, &json!({ "renewalInfo": format!("{here}/window") }));
                    add(&mut answer, &about);
                }
                if path.starts_with("/authZ/") && answer.status == 200 {
                    let body: Value = serde_json::from_slice(&answer.body).unwrap();
                    let all = body["challenges"].as_array().cloned().unwrap_or_default();
                    let one = all.iter().find(|one| one["type"] == "http-01");
                    let token = one.and_then(|one| one["token"].as_str().map(str::to_owned));
                    *found.lock().unwrap() = token;
                }
                if path == "/order-plz" && answer.status == 201 {
                    let payload = payload.unwrap();
                    if let Some(replaced) = payload.get("replaces") {
                        add(&mut answer, &json!({ "replaces": replaced }));
                    }
                    seen.lock().unwrap().push(payload);
                }
                respond(answer)
            }
        });
        Self { origin, token, orders }
    }

    /// Waits for the token of an authorization, for http-01.
    #[track_caller]
    pub(super) fn pending_token(&self) -> String {
        let mut found = None;
        eventually("a token", || {
            found = self.token.lock().unwrap().clone();
            found.is_some()
        });
        found.unwrap()
    }

    pub(super) fn setup(&self, pebble: &Pebble, origin: &Origin) -> crate::harness::Setup {
        pebble.setup_at(&format!("{}/dir", self.origin), site(origin))
    }

    fn orders(&self) -> Vec<Value> {
        self.orders.lock().unwrap().clone()
    }
}

fn payload_of(body: &[u8]) -> Option<Value> {
    let outer: Value = serde_json::from_slice(body).ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(outer["payload"].as_str()?).ok()?).ok()
}

/// Adds these keys to an answer in JSON.
fn add(answer: &mut Answer, more: &Value) {
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    answer.body = body.to_string().into();
}

fn respond(answer: Answer) -> Response<Body> {
    let mut response = Response::builder().status(answer.status);
    for name in ["content-type", "replay-nonce", "location", "link", "retry-after"] {
        if let Some(value) = answer.headers.get(name) {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(answer.body)).unwrap()
}

fn window(start: &str, end: &str) -> Option<Response<Body>> {
    let body = json!({ "suggestedWindow": { "start": start, "end": end } }).to_string();
    Some(Response::builder().header("retry-after", "3600").body(Body::from(body)).unwrap())
}

/// RFC 9773: the first certificate is to be replaced at once, the second not for a long time.
#[test]
fn a_certificate_is_renewed_when_its_authority_says_so() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let Some(pebble) = Pebbles::new().start() else { return };
    let between = Between::of(&pebble, json!({}), |path| {
        path.starts_with("/window/").then_some(())?;
        match ASKED.fetch_add(1, Ordering::SeqCst) {
            0 => window("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"),
            _ => window("2030-01-01T00:00:00Z", "2030-01-02T00:00:00Z"),
        }
    });
    let origin = app();
    let proxy = between.setup(&pebble, &origin).start();
    expect_issued(&proxy, &pebble);
    eventually("the second certificate, and its window", || {
        pebble.issued() == 2 && ASKED.load(Ordering::SeqCst) == 2
    });
    let orders = between.orders();
    assert_eq!(orders.len(), 2, "{orders:#?}");
    assert!(orders[0].get("replaces").is_none() && orders[1]["replaces"].is_string());
}

#[test]
fn a_profile_is_asked_for_where_it_is_offered() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let about = json!({ "meta": { "profiles": { "shortlived": "six days" } } });
    let between = Between::of(&pebble, about, |path| path.starts_with("/window/").then(gone));
    let origin = app();
    let offered = between.setup(&pebble, &origin).acme("profile = 'shortlived'").start();
    expect_issued(&offered, &pebble);
    drop(offered);
    let other = between.setup(&pebble, &origin).acme("profile = 'classic'").start();
    other.expect_words("offers no profile `classic`, but shortlived");
    expect_issued(&other, &pebble);
    let orders = between.orders();
    assert_eq!(orders[0]["profile"], "shortlived");
    assert!(orders[1].get("profile").is_none());
}

fn gone() -> Response<Body> {
    Response::builder().status(404).body(Body::empty()).unwrap()
}

/// It is not asked again before the moment that it names, whatever the back-off would be.
#[test]
fn a_limit_of_the_authority_is_kept() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let between = Between::of(&pebble, json!({}), |path| {
        let problem = json!({
            "type": "urn:ietf:params:acme:error:rateLimited",
            "detail": "too many new orders recently",
        });
        let response = Response::builder().status(429).header("retry-after", "86000");
        let response = response.header("content-type", "application/problem+json");
        let answer = || response.body(Body::from(problem.to_string())).unwrap();
        (path == "/order-plz").then(answer)
    });
    let origin = app();
    let proxy = between.setup(&pebble, &origin).start();
    proxy.expect_words("too many new orders recently");
    proxy.expect_words("the next try is in 23 hours");
}

#[test]
fn nonsense_in_place_of_an_authority_is_told_as_such() {
    let html: Instead = |_| Some(Response::new(Body::from("<html>It works!</html>")));
    let down: Instead = |_| Some(Response::builder().status(503).body(Body::empty()).unwrap());
    let vast: Instead = |_| Some(Response::new(Body::of_size(10 << 20)));
    for (instead, words) in [
        (html, "this is no directory of an ACME server"),
        (down, "answered 503 Service Unavailable"),
        (vast, "answered more than 256 KiB"),
    ] {
        let Some(pebble) = Pebbles::new().start() else { return };
        let between = Between::of(&pebble, json!({}), instead);
        let origin = app();
        let proxy = between.setup(&pebble, &origin).start();
        proxy.expect_words(words);
        assert_eq!(pebble.accounts(), 0);
    }
}
