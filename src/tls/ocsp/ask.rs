//! HTTP towards responders (RFC 6960 appendix A): one request, in the clear because the answer is
//! signed, under one deadline and with a limit on what is answered. Redirects are not followed.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::fault::Fault;
use super::question::Question;

/// For all of it: a responder that takes longer is asked again later.
const LIMIT: Duration = Duration::from_secs(20);

/// The longest answer, in bytes: one with a delegate's certificate in it has two thousand.
const LARGEST: usize = 64 << 10;

const USER_AGENT: &str = concat!("portcullis/", env!("CARGO_PKG_VERSION"), " (RFC 6960)");

/// Asks, and returns the answer as it came.
///
/// # Errors
/// See [`Fault`].
pub(super) async fn ask(question: &Question) -> Result<Vec<u8>, Fault> {
    timeout(LIMIT, exchange(question)).await.unwrap_or(Err(Fault::Slow(LIMIT)))
}

async fn exchange(question: &Question) -> Result<Vec<u8>, Fault> {
    let stream = connect(question).await?;
    let request = request(question).ok_or(Fault::Unreadable("cannot be asked for"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(http)?;
        if response.status() != StatusCode::OK {
            return Err(Fault::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        Ok(body.map_err(|error| Fault::Http(error.to_string()))?.to_bytes().to_vec())
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

fn request(question: &Question) -> Option<Request<Full<Bytes>>> {
    let url = &question.url;
    let target = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let authority = HeaderValue::from_str(url.authority()?.as_str()).ok()?;
    Request::post(target)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONTENT_TYPE, "application/ocsp-request")
        .header(header::ACCEPT, "application/ocsp-response")
        .body(Full::new(question.request()?.into()))
        .ok()
}

/// Tries the addresses of the name in the order in which the system gives them.
async fn connect(question: &Question) -> Result<TcpStream, Fault> {
    let addresses = tokio::net::lookup_host(question.place()).await.map_err(Fault::Name)?;
    let mut fault = Fault::Name(io::Error::new(io::ErrorKind::NotFound, "no address"));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => fault = Fault::Connect(error),
        }
    }
    Err(fault)
}

fn http(error: impl std::fmt::Display) -> Fault {
    Fault::Http(error.to_string())
}
