//! What gRPC needs: HTTP/2 to the app, streams both ways at once, and trailers.

use http_body_util::BodyExt;

use crate::harness::{Body, Origin, Proxy, Request, Response};

fn call(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body.into())
        .unwrap()
}

#[test]
fn status_comes_in_the_trailers() {
    let origin = Origin::start_h2c();
    origin.handle("/svc/Unary", |request| async {
        let whole = request.into_body().collect().await.unwrap().to_bytes();
        let body = Body::from(whole).with_trailers(&[("grpc-status", "0"), ("grpc-message", "")]);
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    });
    let proxy = Proxy::to(&origin).start();
    let answer = proxy.client().http2().send(call("/svc/Unary", "\0\0\0\0\u{5}hello"));
    assert_eq!(answer.text(), "\0\0\0\0\u{5}hello");
    assert_eq!(answer.header("content-type").as_deref(), Some("application/grpc"));
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
    let seen = origin.last();
    assert_eq!(seen.header("te").as_deref(), Some("trailers"));
    assert_eq!(seen.version, http::Version::HTTP_2);
    assert!(seen.target.ends_with("/svc/Unary"), "{}", seen.target);
}

#[test]
fn an_answer_of_trailers_only_is_one() {
    let origin = Origin::start_h2c();
    origin.handle("/svc/None", |_| async {
        Response::builder().header("grpc-status", "12").body(Body::empty()).unwrap()
    });
    let proxy = Proxy::to(&origin).start();
    let answer = proxy.client().http2().send(call("/svc/None", ""));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("grpc-status").as_deref(), Some("12"));
    assert!(answer.body.is_empty());
}

#[test]
fn both_sides_speak_at_once() {
    let origin = Origin::start_h2c();
    origin.handle("/svc/Chat", |request| async {
        let (answer, feed) = Body::fed();
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data() {
                    feed.send(data).await;
                }
            }
        });
        Response::new(answer.with_trailers(&[("grpc-status", "0")]))
    });
    let proxy = Proxy::to(&origin).start();
    let (body, feed) = Body::fed();
    let mut connection = proxy.client().http2().connect();
    let mut streaming = connection.start(call("/svc/Chat", body));
    for word in ["one", "two", "three"] {
        assert!(feed.give(word));
        assert_eq!(streaming.text(), word);
    }
    drop(feed);
    assert_eq!(streaming.answer().trailers.expect("trailers")["grpc-status"], "0");
}

#[test]
fn trailers_of_a_request_go_on() {
    let origin = Origin::start_h2c();
    origin.handle("/", |request| async {
        let whole = request.into_body().collect().await.unwrap();
        let names = whole.trailers().unwrap().keys().map(ToString::to_string);
        Response::new(Body::from(names.collect::<Vec<_>>().join(" ")))
    });
    let proxy = Proxy::to(&origin).start();
    // An alias of another field is dropped as it is in a head.
    let trailers = [("x-last", "1"), ("x_custom", "1"), ("http_host", "evil"), ("host_", "evil")];
    let body = Body::from("data").with_trailers(&trailers);
    assert_eq!(proxy.client().http2().send(call("/", body)).text(), "x-last");
}

#[test]
fn calls_share_few_connections_to_the_app() {
    let origin = Origin::start_h2c();
    origin.route("*", "ok");
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    let mut connection = proxy.client().http2().connect();
    for _ in 0..20 {
        assert_eq!(connection.send(call("/svc/Unary", "x")).status, 200);
    }
    assert!(origin.connections() <= 2, "{} connections for 20 calls", origin.connections());
}

#[test]
fn an_http_1_client_reaches_an_h2c_app_too() {
    let origin = Origin::start_h2c();
    origin.route("/", "hello");
    let proxy = Proxy::to(&origin).start();
    assert_eq!(proxy.client().get("/").text(), "hello");
    assert_eq!(origin.last().version, http::Version::HTTP_2);
}

#[test]
fn a_call_that_is_broken_off_is_broken_off_for_the_client() {
    let origin = Origin::start_h2c();
    let (body, feed) = Body::fed();
    let body = std::sync::Mutex::new(Some(body));
    origin.handle("/", move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }
    });
    let proxy = Proxy::to(&origin).start();
    let mut streaming = proxy.client().http2().start(call("/", "x"));
    assert!(feed.give("part"));
    assert_eq!(streaming.text(), "part");
    feed.break_off();
    let end = streaming.chunk().expect("an error, not a clean end");
    assert!(end.is_err(), "{end:?}");
}
