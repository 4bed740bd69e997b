//! May this name have a certificate? Asked of the operator's own program, by HTTP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::book::Verdict;
use crate::config::Ask;

/// For the whole of it, in which a handshake waits.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest head of an answer, in bytes. Its body is not read.
const LARGEST: usize = 16 << 10;

const USER_AGENT: &str = concat!("portcullis/", env!("CARGO_PKG_VERSION"), " (on-demand)");

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status(StatusCode),
    /// None, and why.
    None(String),
}

impl Answer {
    /// 200 is yes, everything else no. A server that is not well may say something else soon.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Answer::Status(StatusCode::OK) => Verdict::Yes,
            Answer::Status(status) if status.is_server_error() => Verdict::Trouble,
            Answer::Status(_) => Verdict::No,
            Answer::None(_) => Verdict::Trouble,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Status(status) if status.is_redirection() => {
                write!(f, "answered {status}, and redirects are not followed")
            }
            Answer::Status(status) => write!(f, "answered {status}"),
            Answer::None(why) => write!(f, "gave no answer: {why}"),
        }
    }
}

/// Asks at `place` about `name`; `tls` verifies it where it is asked over TLS.
pub(super) async fn ask(place: &Ask, name: &str, tls: Option<&Arc<ClientConfig>>) -> Answer {
    match timeout(DEADLINE, exchange(place, name, tls)).await {
        Ok(Ok(status)) => Answer::Status(status),
        Ok(Err(why)) => Answer::None(why),
        Err(_) => Answer::None(format!("it took longer than {DEADLINE:?}")),
    }
}

async fn exchange(
    place: &Ask,
    name: &str,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<StatusCode, String> {
    let stream = connect(place).await?;
    if !place.is_https {
        return send(stream, place, name).await;
    }
    let tls = tls.ok_or("the system's roots could not be read")?;
    let server = ServerName::try_from(place.host.clone()).map_err(words)?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(server, stream).await;
    send(stream.map_err(words)?, place, name).await
}

/// Tries the addresses of the name in the order in which the system gives them.
async fn connect(place: &Ask) -> Result<TcpStream, String> {
    let addresses = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
    let mut why = "its name has no address".to_owned();
    for address in addresses.map_err(words)? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

async fn send<S>(stream: S, place: &Ask, name: &str) -> Result<StatusCode, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(place.target(name))
        .header(header::HOST, &place.authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(words)?;
    let mut http = http1::Builder::new();
    let (mut sender, connection) =
        http.max_buf_size(LARGEST).handshake(TokioIo::new(stream)).await.map_err(words)?;
    let response = sender.send_request(request);
    tokio::pin!(response);
    tokio::select! {
        biased;
        response = &mut response => return response.map(|it| it.status()).map_err(words),
        // It ends with an answer or with why there is none.
        _ = connection => {}
    }
    response.await.map(|response| response.status()).map_err(words)
}

fn words(error: impl fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_yes() {
        for (status, verdict) in [
            (200, Verdict::Yes),
            (201, Verdict::No),
            (204, Verdict::No),
            (302, Verdict::No),
            (403, Verdict::No),
            (404, Verdict::No),
            (500, Verdict::Trouble),
            (503, Verdict::Trouble),
        ] {
            let answer = Answer::Status(StatusCode::from_u16(status).unwrap());
            assert_eq!(answer.verdict(), verdict, "{status}");
        }
        assert_eq!(Answer::None("refused".to_owned()).verdict(), Verdict::Trouble);
    }
}
