//! Connections with clients that keep to the rules, and with others.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::upstream::testing::local;
use crate::worker::testing::{Client, PATIENCE, app, app_with, worker, worker_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
const LENGTH: http::HeaderName = http::HeaderName::from_static("x-length");
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";

#[test]
fn requests_follow_each_other_however_they_are_cut() {
    local(async {
        let worker = worker(app(OK).await, "");
        for cut in 0..GET.len() {
            let mut client = Client::of(&worker).await;
            client.says(&format!("{GET}{}", &GET[..cut])).await;
            assert!(client.hears("ok\n").await.starts_with("HTTP/1.1 200"), "{cut}");
            client.says(&GET[cut..]).await;
            let second = client.hears("\n").await;
            assert!(second.starts_with("HTTP/1.1 200"), "{cut} {second}");
        }
    });
}

/// It was put aside and taken up again for ever, because it had come with the request before.
#[test]
fn a_head_that_begins_behind_a_request_has_to_end_in_time() {
    local(async {
        let worker = worker(app(OK).await, "request_header_timeout = \"1s\"");
        for begun in ["G", "GET /two HTTP/1.1\r\nhost:"] {
            let mut client = Client::of(&worker).await;
            client.says(&format!("{GET}{begun}")).await;
            client.hears("ok\n").await;
            assert!(client.hears_out().await.starts_with("HTTP/1.1 408"), "{begun:?}");
        }
    });
}

/// There was a second answer, which looked as if it were to the request in between.
#[test]
fn nothing_is_answered_behind_the_last_answer() {
    local(async {
        let worker = worker(app(OK).await, "");
        let chunked = "host: a.test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        for refused in [
            format!("POST /%zz HTTP/1.1\r\n{chunked}"),
            format!("POST / HTTP/1.1\r\nconnection: close\r\n{chunked}"),
            "POST / HTTP/1.0\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nhi".to_owned(),
        ] {
            let mut client = Client::of(&worker).await;
            client.says(&format!("{refused}{GET}GET p HTTP/1.1\r\nhost: a.test\r\n\r\n")).await;
            let heard = client.hears_out().await;
            assert_eq!(heard.matches("HTTP/1.").count(), 1, "{refused:?}: {heard}");
        }
    });
}

/// The first request was cut off, and the refusal of the second stood for its answer.
#[test]
fn what_was_asked_before_an_ambiguous_head_is_answered_first() {
    local(async {
        let worker = worker(app(OK).await, "");
        for between in ["", "\r\n"] {
            let mut client = Client::of(&worker).await;
            client.says(&format!("{GET}{between}GET p HTTP/1.1\r\nhost: a.test\r\n\r\n")).await;
            let heard = client.hears_out().await;
            assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
            assert!(heard.contains("ok\nHTTP/1.1 400 Bad Request\r\n"), "{heard}");
        }
    });
}

#[test]
fn many_requests_at_once_are_answered_in_their_order() {
    local(async {
        let worker = worker(app(OK).await, "");
        let mut client = Client::of(&worker).await;
        client.says(&GET.repeat(50)).await;
        for _ in 0..50 {
            client.hears("ok\n").await;
        }
        assert!(client.is_open_after(Duration::from_millis(100)).await);
    });
}

/// The library's buffer was given up with the rest of the answer in it.
#[test]
fn a_client_that_reads_late_gets_all_of_the_answer() {
    local(async {
        let size = 3_000_000;
        let address = app_with(async move |mut stream: TcpStream, _| {
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let _ = stream.write_all(&vec![b'x'; size]).await;
        });
        let worker = worker(address.await, "");
        let mut client = Client::of(&worker).await;
        client.says(GET).await;
        client.hears("\r\n\r\n").await;
        assert!(!client.hears("xxx").await.is_empty());
        // By now all that fits has been sent, and more than the time until a connection is parked
        // passes.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut heard = 3;
        while heard < size {
            heard += client.hears_some().await;
        }
        assert_eq!(heard, size);
    });
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    local(async {
        let address = app_with(async |mut stream: TcpStream, _| {
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 10_000]).await.is_ok() {}
        });
        let worker = worker(address.await, "idle_timeout = \"1s\"");
        let mut client = Client::of(&worker).await;
        client.says(GET).await;
        let cut = async {
            while worker.open() == 0 {
                tokio::task::yield_now().await;
            }
            while worker.open() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, cut).await.expect("an end");
    });
}

/// The tunnel held its connection, and the connection its tunnel.
#[test]
fn a_tunnel_that_never_begins_lets_go_of_the_application() {
    local(async {
        let (asked, gone, left) =
            (Rc::new(Notify::new()), Rc::new(Notify::new()), Rc::new(Notify::new()));
        let (asks, goes, leaves) = (Rc::clone(&asked), Rc::clone(&gone), Rc::clone(&left));
        let address = app_with(async move |mut stream: TcpStream, _| {
            let mut head = vec![0; 4096];
            let n = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            assert!(head.contains("upgrade: websocket"), "{head}");
            asks.notify_one();
            goes.notified().await;
            let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            while stream.read_u8().await.is_ok() {}
            leaves.notify_one();
        });
        let worker = worker(address.await, "");
        let mut client = Client::of(&worker).await;
        client
            .says(
                "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
                 what is said too early keeps the library from looking",
            )
            .await;
        asked.notified().await;
        client.resets();
        gone.notify_one();
        tokio::time::timeout(PATIENCE, left.notified()).await.expect("the connection to be closed");
        assert_eq!(worker.open(), 0);
    });
}

/// Two readers of `005` may differ; to applications that speak HTTP/1.1 it is written anew as well.
#[test]
fn a_length_reaches_an_h2c_application_as_a_plain_number() {
    local(async {
        let address = app_with(async |stream: TcpStream, _| {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let length = request.headers().get("content-length").cloned();
                let mut response = http::Response::new(());
                response.headers_mut().extend(length.map(|length| (LENGTH, length)));
                respond.send_response(response, true).unwrap();
            }
        });
        let worker = worker_for(&[format!("h2c://{}", address.await)], "");
        let mut client = Client::of(&worker).await;
        client.says("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 005\r\n\r\nhello").await;
        let heard = client.hears("\r\n\r\n").await;
        assert!(
            heard.starts_with("HTTP/1.1 200") && heard.contains("\r\nx-length: 5\r\n"),
            "{heard}"
        );
    });
}
