//! The harness itself: origins and clients without a proxy between them.

use std::net::SocketAddr;

use crate::harness::body::measure;
use crate::harness::{Body, Client, Origin, Request, Response, Script, Wire};

fn client_of(origin: &Origin) -> Client {
    Client::plain(SocketAddr::from(([127, 0, 0, 1], origin.port())), "app.test")
}

#[test]
fn the_origin_answers_and_remembers() {
    let origin = Origin::start();
    origin.route("/", "hello");
    let answer = client_of(&origin).get("/");
    assert_eq!(answer.text(), "hello");
    assert_eq!(origin.last().header("host").as_deref(), Some("app.test"));
    assert!(origin.heard_text().starts_with("GET / HTTP/1.1\r\n"));
}

#[test]
fn an_origin_that_is_down_refuses_until_it_is_up() {
    let mut origin = Origin::down();
    assert!(client_of(&origin).try_connect().is_err());
    origin.restart();
    assert_eq!(client_of(&origin).get("/").status, 404);
    origin.stop();
    assert!(client_of(&origin).try_connect().is_err());
    origin.restart();
    assert_eq!(client_of(&origin).get("/").status, 404);
}

#[test]
fn patterned_bodies_are_checked_at_the_other_end() {
    let origin = Origin::start();
    origin.handle("/up", |request| async {
        let body = measure(request.into_body()).await;
        Response::new(Body::from(format!("{} {}", body.size, body.intact)))
    });
    origin.handle("/down", |_| async { Response::new(Body::of_size(3_000_000)) });
    let request = Request::post("/up").body(Body::of_size(3_000_000)).unwrap();
    assert_eq!(client_of(&origin).send(request).text(), "3000000 true");
    let request = Request::get("/down").body(()).unwrap();
    let body = client_of(&origin).start(request).measure();
    assert!(body.complete && body.intact && body.size == 3_000_000, "{body:?}");
}

#[test]
fn h2c_carries_trailers_both_ways() {
    let origin = Origin::start_h2c();
    origin.handle("/", |request| async {
        let body = measure(request.into_body()).await;
        assert_eq!(body.trailers.unwrap()["x-up"], "1");
        Response::new(Body::from("ok").with_trailers(&[("grpc-status", "0")]))
    });
    let request = Request::post("/").body(Body::from("hi").with_trailers(&[("x-up", "1")]));
    let answer = client_of(&origin).http2().send(request.unwrap());
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
}

#[test]
fn a_script_speaks_byte_for_byte() {
    let script = Script::answering("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest");
    let mut wire = Wire::connect(script.to_string().parse().unwrap());
    wire.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(wire.read_answer().status(), 103);
    assert_eq!(wire.read_answer().text(), "rest");
    assert_eq!(script.heard(), ["GET / HTTP/1.1\r\n\r\n"]);
}
