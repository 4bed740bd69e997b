//! Requests on their way: framed as announced, whole or visibly not.

use std::future::poll_fn;

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;
use crate::proxy::testing::{Sender, request_body};
use crate::upstream::testing::{App, local, pair};

const HEAD: &str = "POST / HTTP/1.1\r\n\r\n";
const CHUNKED: &str = "transfer-encoding: chunked";

/// An upload, the stream that it goes to, and the application at its other end.
struct Scene {
    upload: Upload,
    io: Io,
    app: App,
    waiting: Option<Waiting>,
}

impl Scene {
    fn new(body: RequestBody) -> Self {
        let (io, app) = pair();
        let upload = Upload::new(Bytes::from_static(HEAD.as_bytes()), body);
        Self { upload, io, app, waiting: None }
    }

    /// With a body that is framed so, at most ten bytes of it.
    async fn framed(framing: &str) -> (Self, Sender) {
        let (body, sender) = request_body(framing, Some(10)).await;
        (Self::new(body), sender)
    }

    async fn run(&mut self) -> Result<(), UploadError> {
        let Self { upload, io, waiting, .. } = self;
        poll_fn(|cx| upload.poll(io, cx, waiting)).await
    }
}

#[test]
fn a_request_without_a_body_is_its_head() {
    local(async {
        let mut scene = Scene::new(RequestBody::empty());
        assert!(scene.upload.is_unsent() && !scene.upload.is_done());
        scene.run().await.unwrap();
        assert!(scene.upload.is_done() && !scene.upload.is_unsent());
        assert_eq!(scene.app.heard(), HEAD);
    });
}

#[test]
fn a_body_is_framed_as_the_head_says() {
    local(async {
        for (framing, sent, expected) in [
            ("content-length: 5", "hello", "hello"),
            (CHUNKED, "5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            (CHUNKED, "0\r\n\r\n", "0\r\n\r\n"),
            (CHUNKED, "1;ext=1\r\nx\r\n0\r\nx-late: 1\r\n\r\n", "1\r\nx\r\n0\r\n\r\n"),
        ] {
            let (mut scene, mut sender) = Scene::framed(framing).await;
            sender.send(sent).await;
            scene.run().await.unwrap();
            assert!(scene.upload.is_done());
            assert_eq!(scene.app.heard(), format!("{HEAD}{expected}"));
        }
    });
}

#[test]
fn the_head_does_not_wait_for_the_body() {
    local(async {
        let (mut scene, mut sender) = Scene::framed("content-length: 5").await;
        while scene.waiting != Some(Waiting::Downstream) {
            assert!(scene.run().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        assert_eq!(scene.app.heard(), HEAD);
        let progress = scene.upload.progress();
        sender.send("hello").await;
        scene.run().await.unwrap();
        assert_eq!(scene.app.heard(), "hello");
        assert!(scene.upload.progress() > progress);
    });
}

#[test]
fn a_held_body_stays_where_it_is() {
    local(async {
        let (mut scene, mut sender) = Scene::framed("content-length: 5").await;
        sender.send("hello").await;
        let Scene { upload, io, .. } = &mut scene;
        poll_fn(|cx| upload.poll_queued(io, cx)).await.unwrap();
        assert_eq!(scene.app.heard(), HEAD);
        assert!(!scene.upload.is_done());
        assert!(scene.upload.into_intact_body().is_some_and(|body| !body.is_end_stream()));
    });
}

#[test]
fn a_body_is_intact_until_something_of_it_is_taken() {
    local(async {
        for (framing, sent) in [
            ("content-length: 5", "h"),
            (CHUNKED, "1\r\nh\r\n"),
            // Sent again, its end would be missing.
            (CHUNKED, "0\r\n\r\n"),
        ] {
            let (mut scene, mut sender) = Scene::framed(framing).await;
            assert!(scene.run().now_or_never().is_none());
            sender.send(sent).await;
            while scene.upload.pieces == 0 {
                tokio::task::yield_now().await;
                let _ = scene.run().now_or_never();
            }
            assert!(scene.upload.into_intact_body().is_none(), "{framing} {sent:?}");
        }
    });
}

/// Asked again, such a body seemed to have ended, and the application got a whole request.
#[test]
fn a_body_that_broke_off_never_ends() {
    local(async {
        for (framing, sent, expected) in [
            (CHUNKED, "5\r\nhello\r\nZ\r\n", "5\r\nhello\r\n"),
            (CHUNKED, "5\r\nhelloXX0\r\n\r\n", "5\r\nhello\r\n"),
            (CHUNKED, "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "5\r\nhello\r\n"),
        ] {
            let (mut scene, mut sender) = Scene::framed(framing).await;
            sender.send(sent).await;
            for _ in 0..3 {
                let error = scene.run().await.unwrap_err();
                assert!(matches!(error, UploadError::Downstream(_)), "{error:?}");
                assert!(!scene.upload.is_done());
            }
            assert_eq!(scene.app.heard(), format!("{HEAD}{expected}"), "{sent:?}");
            assert!(scene.upload.into_intact_body().is_none());
        }
    });
}

#[test]
fn a_client_that_goes_away_ends_nothing() {
    local(async {
        for framing in ["content-length: 9", CHUNKED] {
            let (mut scene, sender) = Scene::framed(framing).await;
            drop(sender);
            assert!(scene.run().await.is_err());
            assert_eq!(scene.app.heard().replace(HEAD, ""), "", "{framing}");
        }
    });
}

#[test]
fn a_counted_body_has_just_the_length_that_was_told() {
    local(async {
        for (told, sent) in [(4, "hello"), (6, "hello")] {
            let (body, mut sender) = request_body("content-length: 5", None).await;
            let mut scene = Scene::new(RequestBody::empty());
            scene.upload.source = Source::Counted(body, told);
            sender.send(sent).await;
            let error = scene.run().await.unwrap_err();
            let UploadError::Downstream(RequestBodyError::Miscounted) = error else {
                panic!("{error:?}");
            };
            assert!(!scene.upload.is_done());
        }
    });
}

#[test]
fn an_application_that_takes_nothing_is_waited_for() {
    local(async {
        let (body, mut sender) = request_body("content-length: 4000000", None).await;
        let mut scene = Scene::new(body);
        tokio::task::spawn_local(async move {
            for _ in 0..40 {
                sender.send(&"x".repeat(100_000)).await;
            }
        });
        let mut heard = 0;
        while !scene.upload.is_done() {
            let _ = scene.run().now_or_never();
            if scene.waiting == Some(Waiting::Upstream) {
                heard += scene.app.heard().len();
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(heard + scene.app.heard().len(), HEAD.len() + 4_000_000);
    });
}

#[test]
fn an_application_that_is_gone_is_told_apart() {
    local(async {
        let mut scene = Scene::new(RequestBody::empty());
        scene.app = pair().1;
        let error = scene.run().await.unwrap_err();
        assert!(matches!(error, UploadError::Upstream(_)), "{error:?}");
        assert!(scene.upload.is_unsent());
        assert!(scene.upload.into_intact_body().is_some());
    });
}

/// What TLS had sealed and the socket had no room for was never sent.
#[test]
fn what_is_sealed_is_sent_before_it_is_done() {
    local(async {
        let (io, app) = sealed().await;
        let text = "x".repeat(60_000);
        let (body, mut sender) = request_body("content-length: 60000", None).await;
        let mut scene = Scene::new(body);
        scene.io = io;
        sender.send(&text).await;
        let reader = std::thread::spawn(move || {
            let mut app = app;
            let mut bytes = vec![0; HEAD.len() + text.len()];
            app.read_exact(&mut bytes).map(|()| bytes.len())
        });
        scene.run().await.unwrap();
        assert!(scene.upload.is_done());
        let heard = tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap();
        assert_eq!(heard.unwrap(), HEAD.len() + 60_000);
    });
}

/// A TLS connection with little room on its way to an application that is slow to read.
async fn sealed() -> (Io, impl std::io::Read + Send) {
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
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = std::thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut session = rustls::ServerConnection::new(Arc::new(server)).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        rustls::StreamOwned::new(session, socket)
    });
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket2::SockRef::from(&socket).set_send_buffer_size(4096).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = connector.connect("a.test".try_into().unwrap(), socket).await.unwrap();
    (Io::Tls(Box::new(stream)), accepting.join().unwrap())
}
