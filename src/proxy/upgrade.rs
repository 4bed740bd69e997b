//! WebSocket: an HTTP request that turns its connection into a tunnel.
//!
//! Over HTTP/1.1 by `Upgrade` (RFC 6455 §4), over HTTP/2 by extended CONNECT (RFC 8441). The
//! application always gets the former. Any other upgrade is treated as if it had not been asked
//! for, as RFC 9110 §7.8 allows.

use std::rc::Rc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;

use super::headers::{hop, request_head};
use super::record::Record;
use super::response_body::Body;
use super::tunnel::{OverHttp2, Tunnel};
use crate::downstream::streams::Watch;
use crate::upstream::pool::Lease;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A wish to speak WebSocket.
#[derive(Debug)]
pub struct Upgrade {
    key: HeaderValue,
    /// Over HTTP/2: where the client's side of the tunnel will be.
    http2: Option<OnUpgrade>,
}

impl Upgrade {
    /// Whether the request asks for one, in a way that is understood.
    #[must_use]
    pub fn wanted(parts: &mut Parts) -> Option<Self> {
        if parts.method == Method::CONNECT {
            // What it asks for was looked at before.
            let http2 = Some(parts.extensions.remove::<OnUpgrade>()?);
            let key = parts.headers.remove(header::SEC_WEBSOCKET_KEY).or_else(fresh_key)?;
            return Some(Self { key, http2 });
        }
        let asks = |name, wanted: &str| {
            let mut lines = parts.headers.get_all(name).iter();
            lines.any(|line| {
                let options = line.to_str().unwrap_or_default().split(',');
                options.map(str::trim).any(|option| option.eq_ignore_ascii_case(wanted))
            })
        };
        // A body has no place before a tunnel, and two keys have no one answer.
        let is_odd = parts.headers.get_all(header::SEC_WEBSOCKET_KEY).iter().count() != 1
            || parts.headers.contains_key(header::CONTENT_LENGTH)
            || parts.headers.contains_key(header::TRANSFER_ENCODING);
        let is_wanted = !is_odd
            && parts.version == Version::HTTP_11
            && parts.method == Method::GET
            && parts.headers.contains_key(header::UPGRADE)
            && asks(header::UPGRADE, "websocket")
            && asks(header::CONNECTION, "upgrade");
        let key = parts.headers.get(header::SEC_WEBSOCKET_KEY)?.clone();
        if !is_wanted {
            return None;
        }
        parts.headers.remove(header::SEC_WEBSOCKET_KEY);
        Some(Self { key, http2: None })
    }

    /// Whether an extended CONNECT asked for it.
    #[must_use]
    pub fn is_over_http2(&self) -> bool {
        self.http2.is_some()
    }

    /// Writes the fields that ask the application.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n");
        request_head::field(out, &header::SEC_WEBSOCKET_KEY, &self.key);
    }

    /// Whether `headers` of a 101 agree to what was asked for; leaves what the client is to see.
    ///
    /// # Errors
    /// When they agree to something else.
    pub fn check(&self, headers: &mut HeaderMap) -> Result<(), &'static str> {
        let mut protocols = headers.get_all(header::UPGRADE).iter().map(HeaderValue::as_bytes);
        let is_agreed = protocols.next().is_some_and(|it| it.eq_ignore_ascii_case(b"websocket"));
        if !is_agreed || protocols.next().is_some() {
            return Err("it changed to a protocol that was not asked for");
        }
        // RFC 9112 §6.1, §6.3: it has no body. Who says otherwise may mean to send one.
        if headers.contains_key(header::CONTENT_LENGTH)
            || headers.contains_key(header::TRANSFER_ENCODING)
        {
            return Err("it changes the protocol and announces a body");
        }
        let connection = headers.get_all(header::CONNECTION).iter();
        let mut options =
            connection.flat_map(|line| line.to_str().unwrap_or_default().split(',')).map(str::trim);
        if !options.any(|option| option.eq_ignore_ascii_case("upgrade")) {
            return Err("it changes the protocol without `Connection: Upgrade`");
        }
        let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(self.key.as_bytes());
        context.update(GUID);
        let expected = BASE64_STANDARD.encode(context.finish());
        let mut accepted = headers.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
        if accepted.next().is_none_or(|it| it != expected.as_str()) || accepted.next().is_some() {
            return Err("its Sec-WebSocket-Accept does not fit the key");
        }
        hop::strip_response(headers);
        if self.http2.is_some() {
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        } else {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        Ok(())
    }
}

/// The answer that begins a tunnel.
#[must_use]
pub fn respond(
    lease: Lease,
    upgrade: Upgrade,
    headers: HeaderMap,
    mut record: Box<Record>,
) -> Response<Body> {
    let connection = Rc::clone(record.connection());
    let status = match upgrade.http2 {
        Some(_) => StatusCode::OK,
        None => StatusCode::SWITCHING_PROTOCOLS,
    };
    record.answered(status);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let Some(upstream) = lease.into_connection() else { return response };
    let (upstream, early, accounted) = upstream.into_tunnel();
    let tunnel = Tunnel::new(upstream, early, accounted, record);
    match upgrade.http2 {
        // The connection's driver takes over when the answer is out.
        None => *connection.tunnel.borrow_mut() = Some(tunnel),
        Some(on_upgrade) => {
            let watch = Watch::current(&connection);
            tokio::task::spawn_local(async move {
                match on_upgrade.await {
                    Ok(upgraded) => {
                        let deadline = connection.worker.wheel.deadline();
                        let sending = watch.and_then(|watch| watch.take_sending());
                        let client = OverHttp2::new(upgraded, sending, &connection);
                        tunnel.run(client, &deadline).await;
                    }
                    Err(error) => tracing::debug!("a tunnel did not begin: {error}"),
                }
            });
        }
    }
    response
}

fn fresh_key() -> Option<HeaderValue> {
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce).ok()?;
    HeaderValue::try_from(BASE64_STANDARD.encode(nonce)).ok()
}

#[cfg(test)]
mod tests;
