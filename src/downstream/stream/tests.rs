//! A stream and the client at its other end.

use std::future::poll_fn;
use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;

use futures_util::FutureExt as _;
use rustls::{ClientConnection, StreamOwned};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// The client's end: its calls wait, but not for ever.
type Client = std::net::TcpStream;

async fn sockets() -> (TcpStream, Client) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // What is sent fills the buffers soon.
    SockRef::from(&listener).set_send_buffer_size(8 * 1024).unwrap();
    let client = Client::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (listener.accept().await.unwrap().0, client)
}

async fn plain() -> (Stream, Client) {
    let (socket, client) = sockets().await;
    (Stream::plain(socket), client)
}

/// The same under TLS, the handshake done.
async fn tls() -> (Stream, StreamOwned<ClientConnection, Client>) {
    let key = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(key.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.unwrap())
        .unwrap();
    let (socket, mut peer) = sockets().await;
    let shaking = tokio::task::spawn_blocking(move || {
        let name = "a.test".try_into().unwrap();
        let mut session = ClientConnection::new(Arc::new(client), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut peer).unwrap();
        }
        StreamOwned::new(session, peer)
    });
    let accepted = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(socket).await.unwrap();
    let (socket, connection) = accepted.into_inner();
    (Stream::tls(socket, connection), shaking.await.unwrap())
}

async fn read(stream: &Stream, room: usize) -> String {
    let mut bytes = vec![0; room];
    let n = stream.clone().read(&mut bytes).await.unwrap();
    String::from_utf8(bytes[..n].to_vec()).unwrap()
}

/// Writes until the client's unread bytes fill all buffers; how much went in.
async fn fill(stream: &Stream) -> usize {
    let piece = vec![b'x'; 64 * 1024];
    let mut filled = 0;
    loop {
        match stream.clone().write(&piece).now_or_never() {
            Some(n) => filled += n.unwrap(),
            None if is_still_blocked(stream).await => return filled,
            None => {}
        }
    }
}

/// Whether it stays so after the kernel had its say.
async fn is_still_blocked(stream: &Stream) -> bool {
    for _ in 0..3 {
        tokio::task::yield_now().await;
        let _ = poll_fn(|cx| Poll::Ready(stream.poll_send(cx))).await;
    }
    stream.is_blocked()
}

#[tokio::test]
async fn what_is_given_back_is_read_first() {
    let (stream, mut client) = plain().await;
    client.write_all(b"one two").unwrap();
    assert_eq!(read(&stream, 100).await, "one two");
    assert_eq!((stream.received(), stream.has_buffered_input()), (7, false));
    stream.rewind(Bytes::from_static(b"two"));
    assert_eq!((stream.received(), stream.has_buffered_input()), (4, true));
    assert!(poll_fn(|cx| stream.poll_readable(cx)).now_or_never().unwrap().is_ok());
    assert_eq!(read(&stream, 2).await, "tw");
    client.write_all(b" three").unwrap();
    assert_eq!(read(&stream, 100).await, "o");
    assert_eq!(read(&stream, 100).await, " three");
    assert_eq!(stream.received(), 13);
    drop(client);
    assert_eq!(read(&stream, 100).await, "");
}

/// The end of a turn said that nothing was in the way, because nothing waits to be sealed.
#[tokio::test]
async fn a_client_that_takes_nothing_is_seen_in_the_clear_too() {
    let (stream, mut client) = plain().await;
    assert!(!stream.is_blocked());
    let filled = fill(&stream).await;
    assert!(poll_fn(|cx| stream.poll_send(cx)).await.is_ok());
    assert!(stream.is_blocked());
    assert_eq!(stream.sent(), filled as u64);
    client.read_exact(&mut vec![0; filled]).unwrap();
    stream.clone().write_all(b"more").await.unwrap();
    assert!(!stream.is_blocked());
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_seen_under_tls() {
    let (stream, mut client) = tls().await;
    let filled = fill(&stream).await;
    assert!(stream.is_blocked());
    let reading = tokio::task::spawn_blocking(move || {
        client.read_exact(&mut vec![0; filled]).unwrap();
        client
    });
    poll_fn(|cx| stream.poll_send(cx)).await.unwrap();
    assert!(!stream.is_blocked());
    assert!(stream.sent() > filled as u64);
    reading.await.unwrap();
}

#[tokio::test]
async fn nothing_is_put_before_a_client_that_takes_nothing() {
    let (stream, mut client) = plain().await;
    assert!(stream.inject(b"HTTP/1.1 103 Early Hints\r\n\r\n"));
    let mut bytes = [0; 28];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes[..12], b"HTTP/1.1 103");
    fill(&stream).await;
    assert!(!stream.inject(b"HTTP/1.1 103 Early Hints\r\n\r\n"));
}

/// A part of it went out, and the response behind it became a part of a field.
#[tokio::test]
async fn too_much_is_not_put_between_two_writes() {
    let long = vec![b'x'; 60 * 1024];
    let (stream, mut client) = plain().await;
    assert!(!stream.inject(&long));
    stream.clone().write_all(b"HTTP/1.1 200").await.unwrap();
    let mut bytes = [0; 12];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"HTTP/1.1 200");
    let (stream, _client) = tls().await;
    assert!(!stream.inject(&long));
}

#[tokio::test]
async fn what_is_sealed_goes_out_at_the_end_of_the_turn() {
    let (stream, mut client) = tls().await;
    poll_fn(|cx| stream.poll_send(cx)).await.unwrap();
    let before = stream.sent();
    stream.clone().write_all(b"head").await.unwrap();
    assert!(stream.inject(b" and body"));
    assert_eq!(stream.sent(), before);
    poll_fn(|cx| stream.poll_send(cx)).await.unwrap();
    assert!(stream.sent() > before);
    let mut bytes = [0; 13];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"head and body");
}

#[tokio::test]
async fn records_that_come_together_are_read_one_after_another() {
    let (stream, mut client) = tls().await;
    let sent: String = (0..2000).map(|n| format!("{n:07} record\n")).collect();
    for piece in sent.as_bytes().chunks(1000) {
        client.write_all(piece).unwrap();
    }
    let mut heard = String::new();
    while heard.len() < sent.len() {
        heard.push_str(&read(&stream, 100).await);
    }
    assert_eq!(heard, sent);
    assert_eq!(stream.received(), sent.len() as u64);
    assert!(!stream.has_buffered_input());
}

#[tokio::test]
async fn both_farewells_are_understood() {
    let (stream, mut client) = tls().await;
    poll_fn(|cx| stream.poll_close(cx)).await.unwrap();
    assert_eq!(client.read(&mut [0; 10]).unwrap(), 0, "a proper end");
    client.conn.send_close_notify();
    client.flush().unwrap();
    assert_eq!(read(&stream, 10).await, "");

    // Without a farewell it is an end as well: what was cut is seen by its framing.
    let (stream, client) = tls().await;
    client.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&stream, 10).await, "");
}

#[tokio::test]
async fn what_is_no_record_is_an_error() {
    let (stream, mut client) = tls().await;
    client.sock.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let error = stream.clone().read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn what_nobody_listens_to_is_forgotten() {
    let (stream, mut client) = plain().await;
    client.write_all(&[b'x'; 1000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut forgotten = 0;
    loop {
        match poll_fn(|cx| stream.poll_discard(cx)).await.unwrap() {
            0 => break,
            n => forgotten += n,
        }
    }
    assert_eq!(forgotten, 1000);
}
