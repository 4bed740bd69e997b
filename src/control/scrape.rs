//! Metrics over HTTP, for Prometheus.

use std::convert::Infallible;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;

use super::admin::{self, Question};
use crate::observe::prometheus::CONTENT_TYPE;
use crate::proxy::headers::passes;

/// How long a connection may last: a scrape takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections at once: whoever opens more waits until others have been served.
const CONNECTIONS: usize = 32;

/// How long to wait after a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves on `listener` until it is aborted.
pub(super) fn start(listener: TcpListener, sender: Sender<admin::Request>) -> AbortHandle {
    tokio::spawn(serve(listener, sender)).abort_handle()
}

async fn serve(listener: TcpListener, sender: Sender<admin::Request>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let is_private = listener.local_addr().is_ok_and(|address| is_loopback(address.ip()));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, is_private, sender.clone()));
            let mut http = http1::Builder::new();
            let connection = http
                .header_read_timeout(None)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(PATIENCE, connection).await;
            drop(permit);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    is_private: bool,
    sender: Sender<admin::Request>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    if is_foreign(request.uri(), request.headers(), is_private) {
        *response.status_mut() = StatusCode::FORBIDDEN;
        return Ok(response);
    }
    if request.uri().path() != "/metrics" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return Ok(response);
    }
    let answer = admin::ask(&sender, Question::Metrics).await;
    let text = answer.as_ref().and_then(|answer| answer.get("metrics")?.as_str());
    match text {
        Some(text) => {
            *response.body_mut() = Full::from(text.to_owned());
            let content_type = HeaderValue::from_static(CONTENT_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        }
        None => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
    }
    Ok(response)
}

/// Whether a request comes from where it should not: a page of somebody else in the browser of
/// somebody who can reach this place, or a client of the proxy.
///
/// A name that its owner makes mean this address (DNS rebinding) is what a browser puts into `Host`
/// then; on loopback only addresses and `localhost` name this place, elsewhere any name may. No
/// scraper sends what browsers send of their own accord with the requests of scripts.
fn is_foreign(uri: &Uri, headers: &HeaderMap, is_private: bool) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => return true,
    };
    let is_strange = |host: &str| is_private && !is_of_this_host(host);
    let mode = headers.get("sec-fetch-mode");
    is_strange(host)
        || uri.authority().is_some_and(|authority| is_strange(authority.as_str()))
        || headers.contains_key(header::ORIGIN)
        || mode.is_some_and(|mode| mode != "navigate")
        || passes::count(headers) > 0
}

/// Whether `host`, perhaps with a port, is an address or `localhost` (RFC 6761 §6.3).
fn is_of_this_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn is_refused(is_private: bool, target: &str, fields: &[(&'static str, &str)]) -> bool {
        let fields = fields.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        is_foreign(&target.parse().unwrap(), &headers, is_private)
    }

    #[test]
    fn a_page_in_a_browser_reads_nothing() {
        for host in ["127.0.0.1:9180", "127.0.0.1", "localhost:9180", "[::1]:9180", "a.localhost"] {
            assert!(!is_refused(true, "/metrics", &[("host", host)]), "{host}");
        }
        for host in ["rebind.test", "rebind.test:9180", "localhost.rebind.test", "", "u@localhost"]
        {
            assert!(is_refused(true, "/metrics", &[("host", host)]), "{host}");
            assert!(!is_refused(false, "/metrics", &[("host", host)]), "{host}");
        }
        for is_private in [true, false] {
            let refused = |name, value: &str| {
                is_refused(is_private, "/metrics", &[("host", "127.0.0.1"), (name, value)])
            };
            assert!(refused("origin", "http://evil.test"));
            assert!(refused("origin", "null"));
            assert!(refused("sec-fetch-mode", "no-cors"));
            assert!(!refused("sec-fetch-mode", "navigate"), "a person who looks");
            assert!(refused("host", "127.0.0.1"), "twice");
            assert!(refused("cdn-loop", "portcullis"), "through the proxy");
            assert!(is_refused(is_private, "/metrics", &[]));
        }
        assert!(is_refused(true, "http://rebind.test/metrics", &[("host", "127.0.0.1")]));
    }
}
