//! What moves through a tunnel, and how it ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpStream;

use super::*;
use crate::upstream::testing::local;
use crate::worker::testing::{Client, PATIENCE, app_with, drain, worker};

const ASKS: &str = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: keep-alive, Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREES: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

impl Sink for DuplexStream {}

#[tokio::test]
async fn half_a_tunnel_moves_all_and_then_says_so() {
    let (mut near, mut source) = duplex(1024);
    let (mut sink, mut far) = duplex(64);
    let sent: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let feed = async {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let mut half = Half::new(&None);
    half.keep(b"early");
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
    let mut half = Half::new(&None);
    let end = poll_fn(|cx| Poll::Ready(half.poll(&mut source, &mut sink, cx))).await;
    assert!(matches!(end, Err(Broken::Sink(e)) if e.kind() == io::ErrorKind::BrokenPipe));
}

/// The sixteen KiB that wait for each application were in nobody's account.
#[tokio::test]
async fn a_hundred_applications_that_do_not_listen_make_us_hold_little() {
    let budget = Some(Budget::default());
    let mut tunnels = Vec::new();
    for _ in 0..100 {
        let (mut client, source) = duplex(64 * 1024);
        client.write_all(&[b'x'; 64 * 1024]).await.unwrap();
        let (sink, app) = duplex(64);
        tunnels.push((client, source, sink, app, Half::new(&budget)));
    }
    for (_, source, sink, _, half) in &mut tunnels {
        let poll = poll_fn(|cx| Poll::Ready(half.poll(source, sink, cx)));
        assert!(tokio::task::unconstrained(poll).await.unwrap().is_pending());
    }
    let held: usize = tunnels.iter().map(|(.., half)| half.pending.capacity()).sum();
    assert!(held < 420 * 1024, "{held} bytes");
    let piece = budget.as_ref().map_or(0, Budget::piece);
    assert!(piece < PIECE_OF_TUNNEL, "{piece}");
    drop(tunnels);
    assert_eq!(budget.map(|budget| budget.piece()), Some(PIECE_OF_TUNNEL));
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
