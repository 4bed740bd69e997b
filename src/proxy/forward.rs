//! A request on its way to an application, and the answer on its way back.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Version, header};
use http_body::Body as _;

use super::failure::Failure;
use super::headers::authority::AuthorityRef;
use super::headers::forwarded::Forwarded as ForwardedFields;
use super::headers::{hop, request_head};
use super::patience::Patience;
use super::record::Record;
use super::request_body::RequestBody;
use super::response_body::Body;
use super::upgrade::{self, Upgrade};
use crate::config::Route;
use crate::config::target::Protocol;
use crate::control::state::Service;
use crate::downstream::bind::ListenerKind;
use crate::downstream::budget::{self, Budget, CROWDED, RATION};
use crate::downstream::connection::Connection;
use crate::tls::presented::Presented;
use crate::upstream::h2c::download::Download;
use crate::upstream::pool::Lease;
use crate::upstream::send::{Choice, SendError};
use crate::upstream::silence::Silence;
use crate::upstream::{h1, h2c};
use crate::worker::view::RouteView;

/// Room for so many fields is worth keeping over an exchange; ordinary requests need no more. Over
/// HTTP/2 there are a hundred of them.
const FIELDS: usize = 48;
const FIELDS_OVER_HTTP2: usize = 24;

/// An answer whose head is here.
#[derive(Debug)]
pub struct Forwarded {
    status: StatusCode,
    headers: HeaderMap,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Http1(Lease),
    Http2(Download),
    /// The application has agreed to speak another protocol from here on.
    Upgraded(Lease, Upgrade),
}

impl Forwarded {
    /// Adds `Strict-Transport-Security` where the site wants it, on TLS only (RFC 6797 §7.2).
    #[must_use]
    pub fn with_hsts(mut self, connection: &Connection, service: &Service) -> Self {
        if let (ListenerKind::Https, Some(hsts)) = (connection.kind(), &service.hsts) {
            self.headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        self
    }

    /// Counts a large head in what the client's connection holds until it has been written.
    fn counted(mut self, budget: &Budget) -> Result<Self, SendError> {
        let size = budget::size_of(&self.headers);
        if size > RATION {
            let hold = budget.hold_head(size);
            hold.ok_or_else(|| SendError::Failed(CROWDED.to_owned()))?.go_with(&mut self.headers);
        }
        Ok(self)
    }
}

/// Turns an answer into the response, which ends `record` when it has been sent.
#[must_use]
pub fn respond(forwarded: Forwarded, mut record: Box<Record>) -> Response<Body> {
    let Forwarded { status, headers, source } = forwarded;
    let mut response = match source {
        Source::Upgraded(lease, upgrade) => {
            return upgrade::respond(lease, upgrade, headers, record);
        }
        Source::Http1(mut lease) => {
            record.answered(status);
            if lease.connection().is_some_and(|connection| !connection.is_upload_done()) {
                // The answer came early: what is left of the request may never be read.
                record.connection().unread.set(true);
            } else {
                // Nothing of its head is left.
                record.head = None;
            }
            Response::new(Body::http1(lease, record))
        }
        Source::Http2(body) => {
            record.answered(status);
            record.head = None;
            Response::new(Body::http2(body, record))
        }
    };
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Sends the request of `record` to an application of `route` and waits for the head of its answer.
///
/// # Errors
/// Those of the application, and those of the client's own body.
pub async fn forward(
    record: &mut Record,
    authority: &AuthorityRef<'_>,
    service: &Service,
    route: &Route,
    view: &RouteView,
) -> Result<Forwarded, Failure> {
    let h2c = view.backends.first().is_some_and(|b| b.target.protocol == Protocol::H2c);
    let result = if h2c {
        // Boxed, so that the others do not carry the room for it.
        Box::pin(over_http2(record, authority, service, route, view)).await
    } else {
        over_http1(record, authority, service, route, view).await
    };
    record.upstream_time = Some(record.began().elapsed());
    let counted = result.and_then(|forwarded| match &record.connection().budget {
        Some(budget) => forwarded.counted(budget),
        None => Ok(forwarded),
    });
    counted.map_err(Failure::from)
}

async fn over_http1(
    record: &mut Record,
    authority: &AuthorityRef<'_>,
    service: &Service,
    route: &Route,
    view: &RouteView,
) -> Result<Forwarded, SendError> {
    let upgrade = Upgrade::wanted(&mut record.parts);
    let body = match &upgrade {
        // What follows the head of such a request is the tunnel's, not a body.
        Some(_) => RequestBody::empty(),
        None => record.take_body(),
    };
    let mut request = outgoing(record, (authority, service), route, upgrade.as_ref(), body);
    let version = record.parts.version;
    let stream = record.connection().stream.clone();
    // The map of the request carries the answer: the HTTP library gets it back for the next one.
    let mut headers = record.take_headers();
    let most = if version == Version::HTTP_2 { FIELDS_OVER_HTTP2 } else { FIELDS };
    // Its capacity says nothing of the room for further values of a name.
    if headers.capacity().max(headers.len()) > most {
        headers = HeaderMap::new();
    }
    headers.clear();
    if let Some(hold) = &mut record.head {
        hold.resize(request.head.len());
    }
    let interim = |status: StatusCode, headers: &HeaderMap| {
        if version == Version::HTTP_11 && status == StatusCode::EARLY_HINTS {
            stream.inject(&request_head::interim(status, headers));
        }
    };
    let choice = choice(record, route, view);
    let (head, lease) = choice.send(&mut request, &mut headers, interim).await?;
    let source = match (head.status, upgrade) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) => {
            upgrade.check(&mut headers).map_err(|why| SendError::Failed(why.to_owned()))?;
            Source::Upgraded(lease, upgrade)
        }
        (StatusCode::SWITCHING_PROTOCOLS, None) => {
            return Err(SendError::Failed("it changed the protocol unasked".to_owned()));
        }
        // Over HTTP/2 any success begins the tunnel (RFC 8441 §5), and here is none.
        (status, Some(upgrade)) if status.is_success() && upgrade.is_over_http2() => {
            return Err(SendError::Failed(format!(
                "it answered a WebSocket handshake with {status}"
            )));
        }
        _ => Source::Http1(lease),
    };
    Ok(Forwarded { status: head.status, headers, source })
}

/// Who gets the request; the record knows whom it was sent to, also when it is given up.
fn choice<'a>(record: &'a Record, route: &'a Route, view: &'a RouteView) -> Choice<'a> {
    let connection = record.connection();
    let (worker, allowance) = (&connection.worker, &connection.allowance);
    Choice { worker, route, view, allowance, chosen: &record.upstream }
}

/// The request as it goes on the wire.
fn outgoing(
    record: &Record,
    (authority, service): (&AuthorityRef<'_>, &Service),
    route: &Route,
    upgrade: Option<&Upgrade>,
    body: RequestBody,
) -> h1::Request {
    let parts = &record.parts;
    let expects_continue = parts.headers.contains_key(header::EXPECT)
        && parts.version == Version::HTTP_11
        && !body.is_end_stream();
    let certificate = presented(record, service);
    let head = request_head::Head {
        parts,
        authority,
        forwarded: &forwarded_fields(record, authority),
        presented: certificate.as_deref(),
        request_id: &record.id,
        body: &body,
        upgrade,
        expects_continue,
        via: record.view.state.config.server.via,
    };
    h1::Request {
        head: right_sized(head.write()),
        method: if upgrade.is_some() { Method::GET } else { parts.method.clone() },
        body,
        expects_continue,
        first_byte: route.upstream_timeout,
        patience: patience(record),
        conversation: record.view.limits().idle_timeout,
        budget: record.connection().budget.clone(),
        asks_for_tunnel: upgrade.is_some(),
    }
}

/// Without the room that a large head's buffer has grown by.
fn right_sized(mut head: Vec<u8>) -> Bytes {
    if head.capacity() - head.len() > 1024 {
        head.shrink_to_fit();
    }
    Bytes::from(head)
}

/// How long the client is waited for within its body.
fn patience(record: &Record) -> Patience {
    let limits = record.view.limits();
    Patience::new(limits.request_body_idle_timeout, limits.request_body_rate)
}

async fn over_http2(
    record: &mut Record,
    authority: &AuthorityRef<'_>,
    service: &Service,
    route: &Route,
    view: &RouteView,
) -> Result<Forwarded, SendError> {
    if record.parts.method == Method::CONNECT {
        return Err(SendError::Failed("WebSockets need an HTTP/1.1 application".to_owned()));
    }
    let body = record.take_body();
    let budget = record.connection().budget.as_ref();
    let (call, underway) = choice(record, route, view).reach_h2c(budget).await?;
    let wheel = &record.connection().worker.wheel;
    let (body, watch) = body.watched(wheel.deadline(), patience(record));
    let forwarded = forwarded_fields(record, authority);
    let via = record.view.state.config.server.via;
    let request =
        request_head::for_http2(&record.parts, authority, &forwarded, &record.id, via, body);
    let mut request = request
        .map_err(|error| SendError::Failed(format!("cannot be sent over HTTP/2: {error}")))?;
    if let Some(presented) = presented(record, service) {
        presented.insert(request.headers_mut());
    }
    let (deadline, limit) = (wheel.deadline(), route.upstream_timeout);
    // The library has the only head now, and drops it once it is written.
    record.take_headers().clear();
    let answer = h2c::exchange(call, &underway, request, &watch, &deadline, limit).await;
    let failed = |error| choice(record, route, view).failed_h2c(error);
    let (head, body) = answer.map_err(failed)?.into_parts();
    let idle = record.view.limits().idle_timeout;
    let mut headers = head.headers;
    let silence = Silence::within(&headers, limit);
    let budget = record.connection().budget.clone();
    let body = Download::new(body, deadline, watch, (silence, idle), underway, budget);
    hop::strip_response(&mut headers);
    Ok(Forwarded { status: head.status, headers, source: Source::Http2(body) })
}

/// What the application is told of the client's certificate, where the site asks for one.
fn presented<'a>(record: &'a Record, service: &Service) -> Option<Cow<'a, Presented>> {
    service.policy.as_ref()?.rules.clients.as_ref()?;
    Some(match &record.connection().tls {
        Some(tls) => Cow::Borrowed(&tls.presented),
        None => Cow::Owned(Presented::of(&[])),
    })
}

fn forwarded_fields<'a>(record: &'a Record, authority: &AuthorityRef<'a>) -> ForwardedFields<'a> {
    let connection = record.connection();
    let trusted = &record.view.state.config.server.trusted_proxies;
    let tls = connection.kind() == ListenerKind::Https;
    let headers = &record.parts.headers;
    ForwardedFields::of(connection.peer.ip(), headers, trusted, tls, authority)
}
