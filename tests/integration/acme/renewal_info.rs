//! An authority that says when it wants a certificate renewed (RFC 9773).

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::*;
use crate::harness::Body;
use crate::harness::pebble::Pebbles;

/// In front of Pebble, which knows nothing of renewal information. It wants `hurried` certificates
/// renewed at once and all others in years.
struct Front {
    origin: Origin,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The certificates that were asked about, each time, and those to be renewed at once.
    asked: Mutex<Vec<String>>,
    /// The orders.
    orders: Mutex<Vec<Value>>,
}

impl Front {
    fn of(pebble: &Pebble, hurried: usize) -> Self {
        let front = Self { origin: Origin::start_tls(&["localhost"]), seen: Arc::default() };
        let base = format!("https://localhost:{}", front.origin.port());
        let place = format!("localhost:{}", front.origin.port());
        // Pebble makes its own URLs of the host that it is asked by.
        let behind = Client::secure(pebble.place(), "localhost").host(&place);
        let seen = Arc::clone(&front.seen);
        front.origin.handle("*", move |request| {
            let (seen, behind, base) = (Arc::clone(&seen), behind.clone(), base.clone());
            async move {
                let path = request.uri().path().to_owned();
                if let Some(id) = path.strip_prefix("/renewal-info/") {
                    return seen.window(id, hurried);
                }
                let mut answer = seen.pass(&behind, request).await;
                if path == "/dir" {
                    let whole = answer.body_mut().collect().await.unwrap().to_bytes();
                    let mut directory: Value = serde_json::from_slice(&whole).unwrap();
                    directory["renewalInfo"] = format!("{base}/renewal-info").into();
                    return Response::new(Body::from(directory.to_string()));
                }
                answer
            }
        });
        front
    }

    fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.origin.port())
    }
}

impl Seen {
    fn window(&self, id: &str, hurried: usize) -> Response<Body> {
        let mut asked = self.asked.lock().unwrap();
        if !asked.iter().any(|before| before == id) {
            asked.push(id.to_owned());
        }
        let is_hurried = asked.iter().position(|one| one == id).unwrap() < hurried;
        let year = if is_hurried { 2020 } else { 2028 };
        let window = json!({ "suggestedWindow": {
            "start": format!("{year}-01-01T00:00:00Z"), "end": format!("{year}-01-02T00:00:00Z"),
        }});
        Response::new(Body::from(window.to_string()))
    }

    async fn pass(&self, behind: &Client, request: Request<Incoming>) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let order = (head.uri.path() == "/order-plz").then(|| {
            let signed: Value = serde_json::from_slice(&body).unwrap();
            let order = URL_SAFE_NO_PAD.decode(signed["payload"].as_str().unwrap()).unwrap();
            serde_json::from_slice::<Value>(&order).unwrap()
        });
        head.headers.remove(http::header::TRANSFER_ENCODING);
        let mut connection = behind.open().await.unwrap();
        let pending = connection.begin(Request::from_parts(head, Body::from(body)));
        let answer = pending.finish().await.unwrap().collect().await.unwrap();
        let mut passed = Response::new(Body::from(answer.body.clone()));
        *passed.status_mut() = answer.status.try_into().unwrap();
        *passed.headers_mut() = answer.headers;
        if let Some(order) = order.filter(|_| answer.status == 201) {
            // Who takes it says so (RFC 9773 §5).
            let mut state: Value = serde_json::from_slice(&answer.body).unwrap();
            if let Some(replaced) = order.get("replaces") {
                state["replaces"] = replaced.clone();
            }
            passed.headers_mut().remove(http::header::CONTENT_LENGTH);
            *passed.body_mut() = Body::from(state.to_string());
            self.orders.lock().unwrap().push(order);
        }
        passed
    }
}

#[test]
fn the_authority_s_window_decides_and_the_order_names_what_it_replaces() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (app, front) = (app(), Front::of(&pebble, 1));
    let proxy = pebble.setup_at(&front.directory(), site(&app)).start();
    expect_issued(&proxy, &pebble);
    let file = super::verbs::file(&proxy);
    // The first lives for years; its window has passed.
    eventually_within(TURNS, "a renewal that nothing else asks for", || {
        pebble.issued() == 2 && front.seen.asked.lock().unwrap().len() == 2
    });
    let orders = front.seen.orders.lock().unwrap().clone();
    let asked = front.seen.asked.lock().unwrap().clone();
    assert_eq!(orders.len(), 2, "{orders:#?}");
    assert_eq!(orders[0].get("replaces"), None);
    assert_eq!(orders[1]["replaces"], asked[0].as_str(), "of the certificate that it replaces");
    // The second one's is to come: long before a third of its life is left.
    eventually("the date of the next renewal", || {
        super::verbs::told(&file, &["list"], 0).contains("2028-01-0")
    });
    assert_eq!(pebble.issued(), 2);
}

/// A window that always lies in the past had the authority asked once a second for ever, and all
/// was issued.
#[test]
fn a_window_that_always_lies_in_the_past_is_obeyed_once() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (app, front) = (app(), Front::of(&pebble, usize::MAX));
    let proxy = pebble.setup_at(&front.directory(), site(&app)).start();
    expect_issued(&proxy, &pebble);
    let asked = || front.seen.asked.lock().unwrap().len();
    eventually_within(TURNS, "a renewal, and a look at the window behind it", || asked() == 2);
    let file = super::verbs::file(&proxy);
    eventually("the next renewal a day from now", || {
        let json = super::verbs::told(&file, &["list", "--json"], 0);
        let json: Value = serde_json::from_str(&json).unwrap();
        let next: jiff::Timestamp =
            json["certificates"][0]["acme"]["next"].as_str().unwrap().parse().unwrap();
        (86_000..=86_400).contains(&(next.as_second() - jiff::Timestamp::now().as_second()))
    });
    assert_eq!(pebble.issued(), 2);
}
