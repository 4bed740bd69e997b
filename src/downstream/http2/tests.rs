//! HTTP/2 with clients, and with applications behind it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::*;
use crate::upstream::testing::local;
use crate::worker::Worker;
use crate::worker::testing::{
    Client, PATIENCE, a_connection, app, app_with, drain, worker, worker_for,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";

/// A client's side of HTTP/2, and whether the connection has ended.
async fn connect(worker: &Rc<Worker>) -> (SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let socket = Client::of_http2(worker).await.into_socket();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    let ended = tokio::task::spawn_local(async move { drop(connection.await) });
    (sender.ready().await.unwrap(), ended)
}

fn request(method: Method) -> Request<()> {
    Request::builder().method(method).uri("https://a.test/").body(()).unwrap()
}

/// What comes back: its status and its body.
async fn answer(
    response: h2::client::ResponseFuture,
) -> Result<(StatusCode, String, RecvStream), h2::Error> {
    let (head, mut body) = timeout(PATIENCE, response).await.expect("an answer")?.into_parts();
    let mut text = String::new();
    while let Some(piece) = timeout(PATIENCE, body.data()).await.expect("more or an end") {
        text.push_str(str::from_utf8(&piece?).unwrap());
    }
    Ok((head.status, text, body))
}

/// Begins a request with a body.
fn post(sender: &mut SendRequest<Bytes>) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    sender.send_request(request(Method::POST), false).unwrap()
}

/// An application that speaks HTTP/2 in the clear and does `script` with each request.
async fn h2c_app(
    script: impl AsyncFn(RecvStream, h2::server::SendResponse<Bytes>) + 'static,
) -> SocketAddr {
    let script = Rc::new(script);
    app_with(async move |stream, _| {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            let script = Rc::clone(&script);
            let body = request.into_body();
            tokio::task::spawn_local(async move { script(body, respond).await });
        }
    })
    .await
}

fn h2c_worker(address: SocketAddr, limits: &str) -> Rc<Worker> {
    worker_for(&[format!("h2c://{address}")], limits)
}

fn respond_with(respond: &mut h2::server::SendResponse<Bytes>, text: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(text.as_bytes()), true).unwrap();
}

#[test]
fn requests_share_a_connection() {
    local(async {
        let worker = worker(app(OK).await, "");
        let (mut sender, _) = connect(&worker).await;
        let responses: Vec<_> =
            (0..20).map(|_| sender.send_request(request(Method::GET), true).unwrap().0).collect();
        for response in responses {
            let (status, text, _) = answer(response).await.unwrap();
            assert_eq!((status, text.as_str()), (StatusCode::OK, "ok\n"));
        }
    });
}

/// The library leaves it to the service to send none.
#[test]
fn an_error_in_answer_to_head_has_no_body() {
    local(async {
        let worker = worker(app(OK).await, "target_size = \"1KiB\"");
        let (mut sender, _) = connect(&worker).await;
        let long = Request::head(format!("https://a.test/{}", "x".repeat(2000))).body(()).unwrap();
        let response = sender.send_request(long, true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), StatusCode::URI_TOO_LONG);
        assert!(response.headers().contains_key("content-length"));
        assert!(response.into_body().is_end_stream());
    });
}

#[test]
fn a_client_that_does_not_finish_its_preface_is_left() {
    local(async {
        for begun in ["", "PRI * HTT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let limits = "request_header_timeout = \"1s\"\nidle_timeout = \"60s\"";
            let worker = worker(app(OK).await, limits);
            let mut socket = Client::of_http2(&worker).await.into_socket();
            socket.write_all(begun.as_bytes()).await.unwrap();
            let ended = timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "{begun:?}");
        }
    });
}

/// The nine bytes before a frame had ten seconds, and what follows them ten more.
#[test]
fn a_frame_that_drips_has_one_deadline_from_its_first_byte() {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let first = [PREFACE, &SETTINGS].concat();
    local(async {
        for (before, head) in [
            (&first[..], [0, 0, 30, 1, 5, 0, 0, 0, 1]),
            (&first[..], [0, 0, 36, 4, 0, 0, 0, 0, 0]),
            (&first[..], [0, 0, 30, 99, 0, 0, 0, 0, 0]),
            // From the beginning of the connection.
            (PREFACE, [0, 0, 36, 4, 0, 0, 0, 0, 0]),
        ] {
            let worker = worker(app(OK).await, "");
            let start = std::time::Instant::now();
            let mut socket = Client::of_http2(&worker).await.into_socket();
            socket.set_nodelay(true).unwrap();
            socket.write_all(before).await.unwrap();
            let mut received = before.len() as u64;
            let mut drip = head.into_iter().chain(std::iter::repeat(0));
            let mut seconds = 0;
            while is_here(&worker, received).await {
                worker.wheel.advance(start + Duration::from_secs(seconds));
                let _ = socket.write_all(&[drip.next().unwrap()]).await;
                received += 1;
                seconds += 1;
                assert!(seconds < 30, "{head:?} is borne for ever");
            }
            assert!((10..=13).contains(&seconds), "{head:?}: {seconds} s");
        }
    });
}

/// Whether the worker's only connection lives on with so much received.
async fn is_here(worker: &Worker, received: u64) -> bool {
    let waiting = async {
        loop {
            // The driver gets its turn between what it received and what is looked at.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            match a_connection(worker) {
                None => return false,
                Some(connection) if connection.stream.received() == received => return true,
                Some(_) => {}
            }
        }
    };
    timeout(PATIENCE, waiting).await.expect("it is read or left")
}

/// Frames in pieces began the time of an idle connection anew.
#[test]
fn a_client_that_asks_for_nothing_in_pieces_is_told_to_go() {
    local(async {
        let worker = worker(app(OK).await, "idle_timeout = \"1s\"");
        let mut socket = Client::of_http2(&worker).await.into_socket();
        socket.write_all(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()).await.unwrap();
        let began = Instant::now();
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let mut heard = Vec::new();
        // GOAWAY without an error, as the first word about streams.
        while !heard.windows(9).any(|bytes| bytes == [0, 0, 8, 7, 0, 0, 0, 0, 0]) {
            for piece in [&ping[..9], &ping[9..]] {
                socket.write_all(piece).await.unwrap();
                let _ = timeout(Duration::from_millis(100), socket.read_buf(&mut heard)).await;
            }
            assert!(began.elapsed() < PATIENCE, "it is borne for ever");
        }
    });
}

/// It was `idle_timeout`, 75 s, for each.
#[test]
fn a_client_that_makes_no_room_loses_its_stream_within_a_minute() {
    local(async {
        let much = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n0123456789";
        let worker = worker(app(much).await, "");
        let socket = Client::of_http2(&worker).await.into_socket();
        let builder = h2::client::Builder::new().initial_window_size(0).clone();
        let (sender, connection) = builder.handshake::<_, Bytes>(socket).await.unwrap();
        tokio::task::spawn_local(async move { drop(connection.await) });
        let mut sender = sender.ready().await.unwrap();
        let response = sender.send_request(request(Method::GET), true).unwrap().0;
        let mut body = response.await.unwrap().into_body();
        let start = std::time::Instant::now();
        worker.wheel.advance(start + Duration::from_secs(50));
        assert!(timeout(Duration::from_millis(200), body.data()).await.is_err());
        worker.wheel.advance(start + Duration::from_secs(60));
        let end = timeout(PATIENCE, body.data()).await.expect("an end").unwrap();
        assert_eq!(end.unwrap_err().reason(), Some(Reason::CANCEL));
    });
}

#[test]
fn an_idle_client_is_told_to_go() {
    local(async {
        let worker = worker(app(OK).await, "idle_timeout = \"1s\"");
        let (mut sender, ended) = connect(&worker).await;
        let response = sender.send_request(request(Method::GET), true).unwrap().0;
        drop(answer(response).await.unwrap());
        let began = Instant::now();
        timeout(PATIENCE, ended).await.expect("GOAWAY").unwrap();
        assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
        assert!(timeout(PATIENCE, sender.ready()).await.unwrap().is_err());
    });
}

#[test]
fn a_request_may_take_longer_than_an_idle_connection() {
    local(async {
        let address = app_with(async |mut stream: TcpStream, _| {
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1500)).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        });
        let worker = worker(address.await, "idle_timeout = \"1s\"");
        let (mut sender, _) = connect(&worker).await;
        let response = sender.send_request(request(Method::GET), true).unwrap().0;
        assert_eq!(answer(response).await.unwrap().0, StatusCode::OK);
    });
}

#[test]
fn a_stop_lets_what_has_begun_end() {
    local(async {
        let address = app_with(async |mut stream: TcpStream, _| {
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            stream.write_all(b"late").await.unwrap();
        });
        let worker = worker(address.await, "");
        let (mut sender, ended) = connect(&worker).await;
        let response = sender.send_request(request(Method::GET), true).unwrap().0;
        let mut body = response.await.unwrap().into_body();
        drain(&worker);
        let text = timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap();
        assert_eq!(text, "late");
        timeout(PATIENCE, ended).await.expect("the end").unwrap();
    });
}

/// The library takes a reset with NO_ERROR for the end of the body.
#[test]
fn a_body_that_is_given_up_reaches_no_application_as_a_whole() {
    local(async {
        for reason in [Reason::NO_ERROR, Reason::CANCEL] {
            let heard = Rc::new(RefCell::new(String::new()));
            let (hears, left) = (Rc::clone(&heard), Rc::new(tokio::sync::Notify::new()));
            let leaves = Rc::clone(&left);
            let address = app_with(async move |mut stream: TcpStream, _| {
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes).await;
                hears.borrow_mut().push_str(str::from_utf8(&bytes).unwrap());
                leaves.notify_one();
            });
            let worker = worker(address.await, "");
            let (mut sender, _) = connect(&worker).await;
            let (_response, mut body) = post(&mut sender);
            body.send_data(Bytes::from_static(b"hello"), false).unwrap();
            while worker.metrics.upstream_connects.get() == 0 {
                tokio::task::yield_now().await;
            }
            body.send_reset(reason);
            timeout(PATIENCE, left.notified()).await.expect("the application to be left");
            assert!(!heard.borrow().contains("\r\n0\r\n"), "{reason}: {}", heard.borrow());
        }
    });
}

#[test]
fn a_body_over_the_limit_is_413_in_front_of_any_application() {
    local(async {
        let reads = async |mut body: RecvStream, mut respond: h2::server::SendResponse<Bytes>| {
            while let Some(Ok(_)) = body.data().await {}
            let _ = respond.send_response(Response::new(()), true);
        };
        for worker in [
            worker(app(OK).await, "body_size = \"1KiB\""),
            h2c_worker(h2c_app(reads).await, "body_size = \"1KiB\""),
        ] {
            let (mut sender, _) = connect(&worker).await;
            let (response, mut body) = post(&mut sender);
            body.send_data(Bytes::from(vec![b'x'; 2000]), false).unwrap();
            let status = answer(response).await.unwrap().0;
            assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        }
    });
}

#[test]
fn a_silent_body_is_408_in_front_of_any_application() {
    local(async {
        let reads = async |mut body: RecvStream, _: h2::server::SendResponse<Bytes>| {
            while let Some(Ok(_)) = body.data().await {}
        };
        let limits = "request_body_idle_timeout = \"1s\"\nupstream_timeout = \"1s\"";
        let silent =
            app_with(async |mut stream: TcpStream, _| while stream.read_u8().await.is_ok() {});
        for worker in [worker(silent.await, limits), h2c_worker(h2c_app(reads).await, limits)] {
            let (mut sender, _) = connect(&worker).await;
            let (response, mut body) = post(&mut sender);
            body.send_data(Bytes::from_static(b"hello"), false).unwrap();
            assert_eq!(answer(response).await.unwrap().0, StatusCode::REQUEST_TIMEOUT);
        }
    });
}

/// The time for an answer ran from the beginning of the request.
#[test]
fn a_long_upload_to_an_h2c_application_is_no_timeout() {
    local(async {
        let counts = async |mut body: RecvStream, mut respond: h2::server::SendResponse<Bytes>| {
            let mut length = 0;
            while let Some(Ok(piece)) = body.data().await {
                length += piece.len();
                body.flow_control().release_capacity(piece.len()).unwrap();
            }
            assert_eq!(length, 25);
            respond_with(&mut respond, "counted");
        };
        let worker = h2c_worker(h2c_app(counts).await, "upstream_timeout = \"1s\"");
        let (mut sender, _) = connect(&worker).await;
        let (response, mut body) = post(&mut sender);
        for _ in 0..5 {
            body.send_data(Bytes::from_static(b"hello"), false).unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        body.send_data(Bytes::new(), true).unwrap();
        assert_eq!(answer(response).await.unwrap().1, "counted");
    });
}

#[test]
fn an_h2c_application_that_does_not_answer_is_a_504_and_is_connected_to_anew() {
    local(async {
        let requests = Rc::new(Cell::new(0));
        let counts = Rc::clone(&requests);
        let silent_once =
            async move |_: RecvStream, mut respond: h2::server::SendResponse<Bytes>| {
                counts.set(counts.get() + 1);
                if counts.get() == 1 {
                    std::future::pending::<()>().await;
                }
                respond_with(&mut respond, "at last");
            };
        let worker = h2c_worker(h2c_app(silent_once).await, "upstream_timeout = \"1s\"");
        let (mut sender, _) = connect(&worker).await;
        let backend = Rc::clone(&worker.view().route(0, 0).unwrap().1.backends[0]);
        for (status, is_connected) in [(StatusCode::GATEWAY_TIMEOUT, false), (StatusCode::OK, true)]
        {
            let response = sender.send_request(request(Method::GET), true).unwrap().0;
            assert_eq!(answer(response).await.unwrap().0, status);
            assert_eq!(backend.h2c.is_connected(), is_connected);
        }
    });
}
