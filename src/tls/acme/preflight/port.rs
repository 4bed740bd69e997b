//! Whether port 80 of an address answers for a name with a token of our own: as an authority sees
//! it by http-01 (RFC 8555 §8.3), from where this host is.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tls::acme::challenge::pending::{PREFIX, Pending};

/// For one address.
const PATIENCE: Duration = Duration::from_secs(3);

/// Our own answer is shorter.
const LARGEST: usize = 1024;

/// What there is at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This server: our token was seen.
    Ours,
    /// Something else, or nothing, in words.
    Other(String),
    /// It could not be asked from here.
    Unknown,
}

/// Asks at `place` for a token that is shown for `name` meanwhile.
pub(super) async fn ask(name: &str, place: SocketAddr, pending: &Arc<Pending>) -> Answer {
    let mut random = [0; 24];
    if rand::fill(&mut random).is_err() {
        return Answer::Unknown;
    }
    let token = URL_SAFE_NO_PAD.encode(random);
    let wanted = format!("{token}.portcullis");
    let Some(_shown) = pending.show_token(name, &token, &wanted) else { return Answer::Unknown };
    let (port, address) = (place.port(), place.ip());
    match timeout(PATIENCE, fetch(name, place, &token)).await {
        Ok(Ok((_, body))) if body == wanted.as_bytes() => Answer::Ours,
        Ok(Ok((status, _))) => Answer::Other(format!(
            "at port {port} of {address} something else answers for {name} (with {status})"
        )),
        // The sandbox, closed before certificates were wanted.
        Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => Answer::Unknown,
        Ok(Err(error)) => {
            Answer::Other(format!("port {port} of {address} does not answer for {name}: {error}"))
        }
        Err(_) => Answer::Other(format!(
            "port {port} of {address} did not answer for {name} within {PATIENCE:?}"
        )),
    }
}

async fn fetch(name: &str, place: SocketAddr, token: &str) -> io::Result<(String, Bytes)> {
    let stream = TcpStream::connect(place).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = Request::get(format!("{PREFIX}{token}"))
        .header(header::HOST, name)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().to_string();
        // What is longer is not ours.
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        Ok((status, body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
    };
    tokio::pin!(talk);
    tokio::select! {
        biased;
        result = &mut talk => return result,
        // It ends with an answer that is whole or with why there is none.
        _ = connection => {}
    }
    talk.await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers what `answer` makes of the host and the path.
    async fn server(answer: impl Fn(&str, &str) -> String + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
            stream.write_all(answer(host, &path).as_bytes()).await.unwrap();
        });
        place
    }

    fn response(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn our_own_token_is_known_and_shown_no_longer() {
        let pending = Arc::new(Pending::default());
        let shown = Arc::clone(&pending);
        let place = server(move |host, path| {
            response("200 OK", &shown.answer(host, path).unwrap_or_default())
        });
        assert_eq!(ask("shop.de", place.await, &pending).await, Answer::Ours);
        assert!(format!("{pending:?}").contains("(0, 0)"), "{pending:?}");
    }

    #[tokio::test]
    async fn what_else_answers_is_told_with_what_it_says() {
        let pending = Arc::new(Pending::default());
        for (text, words) in [
            (response("404 Not Found", "no"), "something else answers for shop.de (with 404"),
            (response("200 OK", "hello"), "something else answers for shop.de (with 200"),
            (response("200 OK", &"x".repeat(9000)), "(with 200"),
            ("SSH-2.0-x\r\n".to_owned(), "does not answer for shop.de"),
        ] {
            let place = server(move |_, _| text.clone()).await;
            let Answer::Other(told) = ask("shop.de", place, &pending).await else { panic!() };
            assert!(told.contains(words), "{told}");
        }
    }

    #[tokio::test]
    async fn a_port_that_is_closed_is_told() {
        let pending = Arc::new(Pending::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        drop(listener);
        let Answer::Other(told) = ask("shop.de", place, &pending).await else { panic!() };
        assert!(told.contains("does not answer for shop.de: Connection refused"), "{told}");
    }
}
