//! THE function: a request in, a response out.

use std::borrow::Cow;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use http::header::Entry;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::ext::Protocol;

use super::answer;
use super::failure::Failure;
use super::forward;
use super::headers::authority::{AuthorityRef, request_authority};
use super::headers::forwarded::X_FORWARDED_PROTO;
use super::headers::{over_http2, passes};
use super::path::PathError;
use super::record::Record;
use super::response_body::Body;
use crate::config::{Limits, Redirect};
use crate::control::state::Service;
use crate::downstream::bind::ListenerKind;
use crate::downstream::budget;
use crate::downstream::connection::Connection;
use crate::downstream::redirect::{self, Advice, LOOP_EXPLANATION};
use crate::observe::metrics::Limit;
use crate::tls::acme::challenge::pending::PREFIX;
use crate::worker::view::View;

/// The longest method that is forwarded, in bytes; the longest that is registered has 17.
const METHOD: usize = 32;

/// Answers one request on `connection`. It always answers: what goes wrong becomes a response and
/// a word in the log.
///
/// # Errors
/// Never.
pub async fn handle(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let version = request.version();
    let mut record = Record::begin(&connection, request);
    let has_body = record.body().is_some_and(|body| !body.is_end_stream());
    let mut response = match answer(&mut record).await {
        Ok(Answer::Forwarded(forwarded)) => forward::respond(forwarded, record),
        Ok(Answer::Redirect(location)) => answer::redirect(location, record),
        Ok(Answer::Challenge(text)) => answer::challenge(&text, record),
        Err(failure) => fail(&failure, record),
    };
    // A client that is still sending is told that nobody listens any more, and in a stop everybody.
    let is_last = (has_body && connection.unread.get())
        || connection.worker.draining.get()
        // Without a length only the end of the connection ends it there (RFC 9112 §6.3).
        || (version == Version::HTTP_10 && response.body().size_hint().exact().is_none());
    if is_last && !connection.is_http2() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        if version == Version::HTTP_10 {
            // The library would promise such a client to keep the connection, beside our word.
            *response.version_mut() = Version::HTTP_10;
        }
        answer::close(&mut response);
    }
    if let Entry::Vacant(vacant) = response.headers_mut().entry(header::DATE)
        && let Some(date) = connection.worker.dates.at(SystemTime::now())
    {
        vacant.insert(date);
    }
    let is_close = response.headers().get(header::CONNECTION).is_some_and(|word| word == "close");
    connection.is_last_answered.set(is_close);
    Ok(response)
}

/// Whether a connection is not to be trusted with another request: this one was malformed, or
/// not read to its end.
fn ends_connection(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 405 | 408 | 413 | 414 | 417 | 431 | 501)
}

/// The answer to a failure, and its place in the log and the counts.
fn fail(failure: &Failure, mut record: Box<Record>) -> Response<Body> {
    let reason = failure.reason();
    complain(failure, &reason, &record);
    record.error = Some(reason);
    drop(record.take_body());
    record.drop_headers();
    match failure {
        Failure::RedirectLoop => answer::explanation(LOOP_EXPLANATION, record),
        _ => {
            let is_http1 = !record.connection().is_http2();
            let mut response = answer::failure(failure.status(), record);
            if is_http1 && ends_connection(failure.status()) {
                answer::close(&mut response);
            }
            response
        }
    }
}

/// Tells the operator of what may need him, whatever the format of the access log.
fn complain(failure: &Failure, reason: &str, record: &Record) {
    let worker = &record.connection().worker;
    let (id, client) = (&record.id, record.client.address);
    if let Some(limit) = failure.limit() {
        worker.metrics.limits.count(limit);
    }
    let has_upstream = record.upstream.borrow().is_some();
    if let (Failure::Upstream(_), true) = (failure, has_upstream) {
        record.complain_of_upstream(reason);
    } else if let Failure::ForwardLoop = failure {
        worker.complaints.upstreams.say(|suppressed| {
            tracing::warn!(host = &*record.host, %id, suppressed, "{reason}");
        });
    } else if failure.limit().is_some() {
        worker.complaints.limits.say(|suppressed| {
            let status = failure.status().as_u16();
            tracing::warn!(%client, status, %id, suppressed, "a request was refused: {reason}");
        });
    }
}

/// What a request is answered with when nothing is wrong.
enum Answer {
    Forwarded(forward::Forwarded),
    Redirect(http::HeaderValue),
    /// What an authority is to find.
    Challenge(Arc<str>),
}

/// The inner journey: every step may end it.
async fn answer(record: &mut Record) -> Result<Answer, Failure> {
    let view = Rc::clone(&record.view);
    let connection = Rc::clone(record.connection());
    let parts = &record.parts;
    let size = within_limits(view.limits(), parts)?;
    if connection.is_http2() {
        connection.malformed().map_or(Ok(()), Err)?;
        over_http2::well_formed(parts)?;
    }
    if let Some(budget) = &connection.budget {
        let size = size + budget::places_of(&parts.headers);
        record.head = Some(budget.hold_head(size).ok_or(Failure::Crowded)?);
    }
    let parts = &record.parts;
    acceptable(parts)?;
    let authority = request_authority(parts.version, &parts.uri, &parts.headers)?;
    let host: Rc<str> = Rc::from(authority.host.as_ref());
    let authority = AuthorityRef { host: Cow::Borrowed(&host), port: authority.port };
    record.host = Rc::clone(&host);
    let (index, service) = view.service(&authority.host).ok_or(Failure::NoSite)?;
    agrees_with_handshake(&connection, &view, &authority.host, index, service)?;

    if connection.kind() == ListenerKind::Http && record.parts.uri.path().starts_with(PREFIX) {
        match challenge(record, &view) {
            Some(text) => return Ok(Answer::Challenge(text)),
            // Who could answer here, or after a redirect, could get a certificate for this name.
            None if service.is_proved_here => return Err(Failure::NoChallenge),
            None => {}
        }
    }
    match &service.redirect {
        Redirect::To(url) => {
            let location = redirect::location_under(url, target_of(&record.parts))?;
            return Ok(Answer::Redirect(location));
        }
        Redirect::Https if connection.kind() == ListenerKind::Http => {
            record.series = service.series.first().cloned();
            return to_https(record, &view, &authority, target_of(&record.parts));
        }
        Redirect::Https | Redirect::Off => {}
    }
    within_body_limit(view.limits(), record)?;
    let path = match record.parts.uri.path() {
        // About the server as a whole (RFC 9110 §7.1).
        "*" if record.parts.method == Method::OPTIONS => "/",
        path => path,
    };
    let route = service.routes.select(path)?.ok_or(Failure::NoRoute)?;
    record.series = service.series.get(route).cloned();
    let (route, backends) = view.route(index, route).ok_or(Failure::NoRoute)?;
    if passes::count(&record.parts.headers) >= passes::MOST {
        return Err(Failure::ForwardLoop);
    }
    let forwarded = forward::forward(record, &authority, service, route, backends).await?;
    Ok(Answer::Forwarded(forwarded.with_hsts(&connection, service)))
}

/// The size and the number of what is in a head; returns the size. The library has seen to the
/// worst; this is exact.
fn within_limits(limits: &Limits, parts: &Parts) -> Result<usize, Failure> {
    let target = target_of(parts).len();
    if target > limits.target_size {
        return Err(Failure::Limit(Limit::TargetSize, StatusCode::URI_TOO_LONG));
    }
    let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let headers = &parts.headers;
    if headers.len() > limits.header_count {
        return Err(Failure::Limit(Limit::HeaderCount, too_large));
    }
    // Each line has a colon, a space and CRLF beside the name and the value.
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let size = target + lines.sum::<usize>();
    if size > limits.header_size {
        return Err(Failure::Limit(Limit::HeaderSize, too_large));
    }
    Ok(size)
}

/// Methods and expectations that mean something else to a proxy than to an application, and what
/// the library lets pass over HTTP/2 alone.
fn acceptable(parts: &Parts) -> Result<(), Failure> {
    let websocket =
        || parts.extensions.get::<Protocol>().is_some_and(|p| p.as_str() == "websocket");
    if parts.method.as_str().len() > METHOD {
        return Err(Failure::UnknownMethod);
    }
    match parts.method {
        Method::TRACE => return Err(Failure::Method),
        // It begins HTTP/2, and is no method of a request (RFC 9113 §11.6).
        _ if parts.method == "PRI" => return Err(Failure::Method),
        Method::CONNECT if parts.version != Version::HTTP_2 || !websocket() => {
            return Err(Failure::Method);
        }
        _ => {}
    }
    // The library would make a path of `?a`, and of `http://a.test?a`, which nobody reads alike.
    if !target_of(parts).starts_with(['/', '*']) {
        return Err(Failure::Path(PathError::NotAbsolute));
    }
    let mut lengths =
        parts.headers.get_all(header::CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    match (lengths.next(), lengths.next()) {
        (None, _) => {}
        (Some(only), None) if is_length(only) => {}
        _ => return Err(Failure::Lengths),
    }
    let mut expectations = parts.headers.get_all(header::EXPECT).iter();
    if expectations.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Failure::Expectation);
    }
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Failure::Coding),
    }
}

/// RFC 9110 §8.6. What is beyond 2^63-1 is negative, or cut, to many an application.
fn is_length(value: &[u8]) -> bool {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
    value.iter().all(u8::is_ascii_digit) && number.is_some()
}

/// RFC 9110 §7.4, §15.5.20: a connection is good for the name that its handshake asked for, and
/// for others only under the very same certificate files and the very same rules of TLS; for no
/// other where each name has a certificate of its own. What was agreed on before a reload must be
/// good under the rules of now.
fn agrees_with_handshake(
    connection: &Connection,
    view: &View,
    host: &str,
    index: usize,
    service: &Service,
) -> Result<(), Failure> {
    let Some(tls) = &connection.tls else { return Ok(()) };
    let shown = match (&tls.server_name, tls.local) {
        (Some(name), _) if **name == *host => Some((index, service)),
        (Some(name), _) => view.service(name),
        (None, Some(local)) => view.service(&local.to_canonical().to_string()),
        (None, None) => view.service("*"),
    };
    let tag = |service: &Service| service.policy.as_ref().map(|policy| policy.tag);
    let agrees = match shown {
        Some((_, other)) if matches!(other.tls, crate::config::TlsSource::OnDemand(_)) => {
            tls.server_name.as_deref() == Some(host)
        }
        Some((other, _)) if other == index => true,
        Some((_, other)) if matches!(other.tls, crate::config::TlsSource::Files { .. }) => {
            other.tls == service.tls && tag(other) == tag(service)
        }
        _ => false,
    };
    let is_good = || service.policy.as_ref().is_none_or(|policy| tls.is_good_under(policy));
    if agrees && is_good() { Ok(()) } else { Err(Failure::Misdirected) }
}

fn within_body_limit(limits: &Limits, record: &Record) -> Result<(), Failure> {
    let length = record.body().and_then(|body| body.size_hint().exact());
    match (limits.body_size, length) {
        (Some(limit), Some(length)) if length > limit => {
            Err(Failure::Limit(Limit::BodySize, StatusCode::PAYLOAD_TOO_LARGE))
        }
        _ => Ok(()),
    }
}

/// RFC 8555 §8.3: what is pending for exactly this host and token.
fn challenge(record: &Record, view: &View) -> Option<Arc<str>> {
    let parts = &record.parts;
    let is_read = matches!(parts.method, Method::GET | Method::HEAD) && parts.uri.query().is_none();
    let pending = || view.state.pending.answer(&record.host, parts.uri.path());
    is_read.then(pending)?
}

/// Plain HTTP: to the same place on HTTPS, unless the client has just been there.
fn to_https(
    record: &Record,
    view: &View,
    authority: &AuthorityRef<'_>,
    target: &str,
) -> Result<Answer, Failure> {
    let proto = record.parts.headers.get(X_FORWARDED_PROTO);
    let claims_https = proto.is_some_and(|p| p.as_bytes().eq_ignore_ascii_case(b"https"));
    let advice = if claims_https {
        let guard = &view.state.redirects;
        guard.lock().unwrap_or_else(PoisonError::into_inner).judge(
            record.client.address,
            &authority.host,
            record.parts.uri.path(),
            claims_https,
            record.began(),
        )
    } else {
        Advice::Redirect
    };
    if advice == Advice::Explain {
        return Err(Failure::RedirectLoop);
    }
    let location = redirect::location(&authority.host, view.state.https_port, target)?;
    Ok(Answer::Redirect(location))
}

/// Path and query, as the client sent them.
fn target_of(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}
