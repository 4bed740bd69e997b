//! Answers that are ours: redirects and errors.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::record::Record;
use super::respond;
use super::response_body::Body;

/// Sends the client to `location` with its method and body (RFC 9110 §15.4.9).
#[must_use]
pub fn redirect(location: HeaderValue, mut record: Box<Record>) -> Response<Body> {
    record.answered(StatusCode::PERMANENT_REDIRECT);
    let mut response = Response::new(Body::full(Bytes::new(), record));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// Says that it cannot be had, in the format that the client accepts.
#[must_use]
pub fn failure(status: StatusCode, mut record: Box<Record>) -> Response<Body> {
    record.answered(status);
    let accept = record.accept();
    let problem = respond::problem_response(status, accept.as_ref(), record.id.as_str());
    let (mut head, body) = problem.into_parts();
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
            head.headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            head.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        _ => {}
    }
    Response::from_parts(head, body_of(body, record))
}

/// Proves to an authority that this host answers for a name (RFC 8555 §8.3).
#[must_use]
pub fn challenge(text: &str, mut record: Box<Record>) -> Response<Body> {
    record.answered(StatusCode::OK);
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(body_of(Bytes::copy_from_slice(text.as_bytes()), record));
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Says why a redirect would never end.
#[must_use]
pub fn explanation(text: &'static str, mut record: Box<Record>) -> Response<Body> {
    record.answered(StatusCode::LOOP_DETECTED);
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(body_of(Bytes::from_static(text.as_bytes()), record));
    *response.status_mut() = StatusCode::LOOP_DETECTED;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, plain);
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Says that the connection ends with this answer.
pub fn close(response: &mut Response<Body>) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// The body, but for HEAD: over HTTP/2 the library would send it.
fn body_of(bytes: Bytes, record: Box<Record>) -> Body {
    let is_head = record.parts.method == Method::HEAD;
    Body::full(if is_head { Bytes::new() } else { bytes }, record)
}
