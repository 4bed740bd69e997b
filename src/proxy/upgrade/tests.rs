//! Handshakes of WebSockets, and what moves through them.

use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpStream;

use super::*;
use crate::upstream::testing::local;
use crate::worker::testing::{Client, PATIENCE, app_with, drain, worker};

/// The example of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const ASKS: &str = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: keep-alive, Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREES: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn parts(version: Version, fields: &[(&str, &str)]) -> Parts {
    let request = Request::builder().version(version).uri("/");
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

#[test]
fn only_a_whole_and_plain_wish_is_one() {
    const GOOD: [(&str, &str); 3] =
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", KEY)];
    let is_wanted =
        |version, fields: &[(&str, &str)]| Upgrade::wanted(&mut parts(version, fields)).is_some();
    assert!(is_wanted(Version::HTTP_11, &GOOD));
    assert!(!is_wanted(Version::HTTP_10, &GOOD));
    for missing in 0..GOOD.len() {
        let mut fields = GOOD.to_vec();
        fields.remove(missing);
        assert!(!is_wanted(Version::HTTP_11, &fields), "{fields:?}");
    }
    for (name, value) in [
        ("sec-websocket-key", KEY),
        ("content-length", "0"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
    ] {
        let mut fields = GOOD.to_vec();
        fields.push((name, value));
        assert!(!is_wanted(Version::HTTP_11, &fields), "{name}");
    }
    for (place, value, expected) in [
        (0, "keep-alive, Upgrade", true),
        (0, "keep-alive", false),
        (0, "x-upgrade", false),
        (1, "WebSocket", true),
        (1, "h2c, websocket", true),
        (1, "h2c", false),
        (1, "websocket2", false),
    ] {
        let mut fields = GOOD;
        fields[place].1 = value;
        assert_eq!(is_wanted(Version::HTTP_11, &fields), expected, "{value}");
    }
    let mut post = parts(Version::HTTP_11, &GOOD);
    post.method = Method::POST;
    assert!(Upgrade::wanted(&mut post).is_none());
}

#[test]
fn the_application_is_asked_with_the_clients_key() {
    let mut parts = parts(
        Version::HTTP_11,
        &[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", KEY)],
    );
    let mut out = Vec::new();
    Upgrade::wanted(&mut parts).unwrap().write(&mut out);
    let expected =
        format!("connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: {KEY}\r\n");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert!(!parts.headers.contains_key("sec-websocket-key"), "it is written once");
}

#[test]
fn a_101_has_to_agree_to_what_was_asked() {
    let check = |fields: &[(&'static str, &'static str)]| {
        let upgrade = Upgrade { key: HeaderValue::from_static(KEY), http2: None };
        upgrade.check(&mut map(fields)).is_ok()
    };
    let good =
        [("connection", "upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-accept", ACCEPT)];
    assert!(check(&good));
    for (place, value) in
        [(0, "close"), (1, "h2c"), (1, ""), (2, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="), (2, ""), (2, KEY)]
    {
        let mut fields = good;
        fields[place].1 = value;
        assert!(!check(&fields), "{fields:?}");
    }
    for missing in 0..good.len() {
        let mut fields = good.to_vec();
        fields.remove(missing);
        assert!(!check(&fields), "{fields:?}");
    }
}

/// What the application says to us only was passed on with the agreement.
#[test]
fn the_client_sees_of_a_101_what_is_meant_for_it() {
    let upgrade = Upgrade { key: HeaderValue::from_static(KEY), http2: None };
    let mut headers = map(&[
        ("connection", "upgrade, x-inner"),
        ("x-inner", "secret"),
        ("upgrade", "websocket"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("sec-websocket-accept", ACCEPT),
        ("sec-websocket-protocol", "chat"),
        ("set-cookie", "a=1"),
    ]);
    upgrade.check(&mut headers).unwrap();
    let expected = map(&[
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", ACCEPT),
        ("sec-websocket-protocol", "chat"),
        ("set-cookie", "a=1"),
    ]);
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn half_a_tunnel_moves_all_and_then_says_so() {
    let (mut near, mut source) = duplex(1024);
    let (mut sink, mut far) = duplex(64);
    let sent: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let feed = async {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let mut half = Half { pending: b"early".to_vec(), ..Half::default() };
    let moves = poll_fn(|cx| match half.poll(&mut source, &mut sink, cx) {
        Ok(poll) => poll.map(Ok),
        Err(error) => Poll::Ready(Err(error)),
    });
    let mut heard = Vec::new();
    let ((), moved, read) = tokio::join!(feed, moves, far.read_to_end(&mut heard));
    moved.unwrap();
    read.unwrap();
    assert_eq!(heard, [b"early", sent.as_slice()].concat());
    assert_eq!(half.moved, heard.len() as u64);
    assert_eq!(half.pending.capacity(), 0, "an idle tunnel holds no buffer");
}

#[tokio::test]
async fn a_sink_that_is_gone_ends_the_tunnel() {
    let (mut near, mut source) = duplex(1024);
    let (mut sink, far): (DuplexStream, DuplexStream) = duplex(64);
    drop(far);
    near.write_all(b"hello").await.unwrap();
    let mut half = Half::default();
    let error = poll_fn(|cx| Poll::Ready(half.poll(&mut source, &mut sink, cx))).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

/// An application that agrees to the tunnel and then sends back what it hears.
async fn echo() -> std::net::SocketAddr {
    app_with(async |mut stream: TcpStream, _| {
        let mut bytes = vec![0; 4096];
        let n = stream.read(&mut bytes).await.unwrap();
        let heard = String::from_utf8_lossy(&bytes[..n]).into_owned();
        let (_, early) = heard.split_once("\r\n\r\n").unwrap();
        stream.write_all(format!("{AGREES}{early}").as_bytes()).await.unwrap();
        while let Ok(n @ 1..) = stream.read(&mut bytes).await {
            stream.write_all(&bytes[..n]).await.unwrap();
        }
    })
    .await
}

#[test]
fn what_is_said_in_a_tunnel_arrives_once_on_both_sides() {
    local(async {
        let worker = worker(echo().await, "");
        let mut client = Client::of(&worker).await;
        client.says(&format!("{ASKS}early ")).await;
        assert!(client.hears("\r\n\r\n").await.starts_with("HTTP/1.1 101"));
        client.says("and late").await;
        assert_eq!(client.hears("late").await, "early and late");
        client.finishes().await;
        assert_eq!(client.hears_out().await, "");
    });
}

#[test]
fn a_silent_tunnel_is_closed() {
    local(async {
        let worker = worker(echo().await, "idle_timeout = \"1s\"");
        let mut client = Client::of(&worker).await;
        client.says(ASKS).await;
        client.hears("\r\n\r\n").await;
        for _ in 0..3 {
            assert!(client.is_open_after(Duration::from_millis(500)).await);
            client.says("x").await;
            client.hears("x").await;
        }
        let began = std::time::Instant::now();
        assert_eq!(client.hears_out().await, "");
        assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    });
}

#[test]
fn a_stop_leaves_a_tunnel_its_time() {
    local(async {
        let worker = worker(echo().await, "");
        let mut client = Client::of(&worker).await;
        client.says(ASKS).await;
        client.hears("\r\n\r\n").await;
        drain(&worker);
        assert!(client.is_open_after(Duration::from_millis(300)).await);
        client.says("still here").await;
        client.hears("still here").await;
        drop(client);
        let ended = async {
            while worker.open() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the tunnel to end with its client");
    });
}
