//! The head of a request as an application gets it: written anew, field by field.

use std::io::Write as _;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use http_body::Body as _;

use super::authority::AuthorityRef;
use super::forwarded::Forwarded;
use super::hop::{self, Fate, Listed};
use super::passes;
use super::request_id::{RequestId, X_REQUEST_ID};
use crate::proxy::request_body::RequestBody;
use crate::proxy::upgrade::Upgrade;
use crate::tls::presented::Presented;

/// What a head is written from.
pub struct Head<'a> {
    /// What the client sent.
    pub parts: &'a Parts,
    /// The host that it is for.
    pub authority: &'a AuthorityRef<'a>,
    /// Who the client is.
    pub forwarded: &'a Forwarded<'a>,
    /// The client's certificate, where the site asks for one.
    pub presented: Option<&'a Presented>,
    /// The request's name.
    pub request_id: &'a RequestId,
    /// What follows.
    pub body: &'a RequestBody,
    /// The protocol that the client wants to change to.
    pub upgrade: Option<&'a Upgrade>,
    /// Whether the application is asked before the body comes.
    pub expects_continue: bool,
    /// Whether we name ourselves.
    pub via: bool,
}

impl Head<'_> {
    /// The bytes of an HTTP/1.1 head (RFC 9112 §2.1).
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let method = if self.upgrade.is_some() { &Method::GET } else { &self.parts.method };
        let target = self.parts.uri.path_and_query().map_or("/", |target| target.as_str());
        for part in [method.as_str(), " ", target, " HTTP/1.1\r\nhost: "] {
            out.extend_from_slice(part.as_bytes());
        }
        self.authority.write(&mut out);
        out.extend_from_slice(b"\r\n");
        self.write_fields(&mut out);
        self.forwarded.write(&mut out);
        for (name, value) in self.presented.iter().flat_map(|presented| presented.fields()) {
            line(&mut out, name.as_str(), value.as_bytes());
        }
        line(&mut out, X_REQUEST_ID.as_str(), self.request_id.as_str().as_bytes());
        line(&mut out, passes::CDN_LOOP.as_str(), passes::NAME.as_bytes());
        if self.via {
            line(&mut out, "via", via(self.parts.version).as_bytes());
        }
        self.write_framing(&mut out);
        out.extend_from_slice(b"\r\n");
        out
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        let headers = &self.parts.headers;
        let listed = Listed::of(headers);
        for (name, value) in headers {
            if name == header::COOKIE && self.parts.version == Version::HTTP_2 {
                continue;
            }
            if hop::request_field(name, &listed) == Fate::Forward {
                line(out, name.as_str(), value.as_bytes().trim_ascii());
            }
        }
        // HTTP/2 lets a client cut its cookies to crumbs (RFC 9113 §8.2.3).
        if self.parts.version == Version::HTTP_2 && headers.contains_key(header::COOKIE) {
            let crumbs = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
            let crumbs: Vec<&[u8]> = crumbs.map(<[u8]>::trim_ascii).collect();
            line(out, "cookie", &crumbs.join(b"; ".as_slice()));
        }
    }

    fn write_framing(&self, out: &mut Vec<u8>) {
        if let Some(upgrade) = self.upgrade {
            upgrade.write(out);
            return;
        }
        match self.body.size_hint().exact() {
            // A method that means to send something says so even when it is nothing.
            Some(0) if matches!(self.parts.method, Method::POST | Method::PUT | Method::PATCH) => {
                line(out, "content-length", b"0");
            }
            Some(0) => {}
            Some(length) => {
                line(out, "content-length", itoa::Buffer::new().format(length).as_bytes());
            }
            None => line(out, "transfer-encoding", b"chunked"),
        }
        if self.expects_continue {
            line(out, "expect", b"100-continue");
        }
    }
}

/// The same for an application that speaks HTTP/2.
///
/// # Errors
/// When the parts do not make a URI.
pub fn for_http2(
    parts: &Parts,
    authority: &AuthorityRef<'_>,
    forwarded: &Forwarded<'_>,
    id: &RequestId,
    names_itself: bool,
    body: RequestBody,
) -> Result<Request<RequestBody>, http::Error> {
    let mut host = Vec::new();
    authority.write(&mut host);
    let uri = Uri::builder()
        .scheme("http")
        .authority(host.as_slice())
        .path_and_query(parts.uri.path_and_query().map_or("/", |target| target.as_str()))
        .build()?;
    let length = body.size_hint().exact();
    let mut request = Request::builder().method(parts.method.clone()).uri(uri).body(body)?;
    let headers = request.headers_mut();
    let listed = Listed::of(&parts.headers);
    for (name, value) in &parts.headers {
        if hop::request_field(name, &listed) == Fate::Forward {
            headers.append(name.clone(), trimmed(value));
        }
    }
    // Written anew, so that two readers of `005` cannot differ.
    if let (Some(length), true) = (length, parts.headers.contains_key(header::CONTENT_LENGTH)) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if hop::takes_trailers(&parts.headers) {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    forwarded.insert(headers);
    headers.insert(X_REQUEST_ID, id.to_value());
    headers.append(passes::CDN_LOOP, passes::NAME);
    if names_itself {
        headers.append(header::VIA, HeaderValue::from_static(via(parts.version)));
    }
    Ok(request)
}

/// An interim response (RFC 9110 §15.2) for a client that speaks HTTP/1.1.
#[must_use]
pub fn interim(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let reason = status.canonical_reason().unwrap_or_default();
    // Writing to a vector cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
    for (name, value) in headers {
        line(&mut out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// A value without white space around it, which HTTP/2 lets nobody send (RFC 9113 §8.2.1) and the
/// library takes.
fn trimmed(value: &HeaderValue) -> HeaderValue {
    let bytes = value.as_bytes().trim_ascii();
    if bytes.len() == value.len() {
        return value.clone();
    }
    HeaderValue::from_bytes(bytes).unwrap_or_else(|_| value.clone())
}

/// RFC 9110 §7.6.3.
fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0 portcullis",
        Version::HTTP_2 => "2 portcullis",
        _ => "1.1 portcullis",
    }
}

fn line(out: &mut Vec<u8>, name: impl AsRef<[u8]>, value: &[u8]) {
    for part in [name.as_ref(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Writes one field.
pub fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    line(out, name.as_str(), value.as_bytes());
}
