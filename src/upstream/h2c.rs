//! HTTP/2 in the clear to an application, by prior knowledge (RFC 9113 §3.3): gRPC.
//!
//! A few connections per worker carry all requests ([`links`]); what comes on a stream waits in
//! its window until the client takes it ([`download`]).

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::RecvStream;
use h2::client::ResponseFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;

use self::download::Answer;
use self::links::Call;
use self::upload::Upload;
use super::connect::ConnectError;
use super::h1::INTERIM;
use super::pool::Underway;
use super::response::{FIELDS, parse_length};
use crate::proxy::request_body::{RequestBody, RequestBodyError, Watch};
use crate::worker::deadline::Deadline;

pub mod download;
pub mod links;
mod upload;

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// No connection.
    Connect(ConnectError),
    /// Silence for too long.
    Timeout,
    /// The connection or the stream failed.
    Http(h2::Error),
    /// The answer breaks a rule.
    Malformed(&'static str),
    /// The client's body failed.
    Downstream(RequestBodyError),
}

impl Error {
    /// Why there is no connection, where it is that.
    #[must_use]
    pub fn connecting(&self) -> Option<&ConnectError> {
        match self {
            Error::Connect(error) => Some(error),
            _ => None,
        }
    }
}

/// Sends `request` by `call` and waits for the head of its answer. The application may be
/// silent for `first_byte` once it has the request; as long as its body is on its way, which
/// `watch` tells, that time has not begun.
///
/// # Errors
/// See [`Error`].
pub async fn exchange(
    call: Call,
    underway: &Underway,
    request: Request<RequestBody>,
    watch: &Watch,
    deadline: &Deadline,
    first_byte: Duration,
) -> Result<Response<Answer>, Error> {
    let (request, body) = with_length(request);
    let method = request.method().clone();
    let is_whole = body.is_end_stream();
    let (mut answer, stream) =
        call.link.sender().send_request(request, is_whole).map_err(Error::Http)?;
    let upload = if is_whole { Upload::none() } else { Upload::start(body, stream) };
    let (mut progress, mut interim) = (watch.progress(), 0);
    deadline.set(first_byte);
    let result = poll_fn(|cx| {
        if let Poll::Ready(result) = poll_head(&mut answer, &mut interim, cx) {
            return Poll::Ready(result);
        }
        while deadline.poll(cx).is_ready() {
            if !watch.is_waiting() && watch.progress() == progress {
                return Poll::Ready(Err(Error::Timeout));
            }
            progress = watch.progress();
            deadline.set(first_byte);
        }
        Poll::Pending
    })
    .await;
    match (watch.error(), result) {
        (_, Ok(response)) => checked(response, &method, call, upload),
        (Some(error), Err(_)) => Err(Error::Downstream(error)),
        (None, Err(error)) => {
            if matches!(error, Error::Timeout) {
                // It may be the connection that is dead: who is on it stays, but nobody else comes.
                underway.backend().h2c.retire(&call.link);
            }
            Err(error)
        }
    }
}

/// The request without its body, whose length it tells where the method is one that has a body.
fn with_length(request: Request<RequestBody>) -> (Request<()>, RequestBody) {
    let (mut parts, body) = request.into_parts();
    let has_none = matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE);
    if let Some(length) = body.size_hint().exact()
        && (length > 0 || !has_none)
        && !parts.headers.contains_key(header::CONTENT_LENGTH)
    {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    (Request::from_parts(parts, ()), body)
}

/// The head of the final answer, behind a bounded number of interim ones.
fn poll_head(
    answer: &mut ResponseFuture,
    interim: &mut u32,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<RecvStream>, Error>> {
    while let Poll::Ready(Some(Ok(_))) = answer.poll_informational(cx) {
        *interim += 1;
        if *interim > INTERIM {
            return Poll::Ready(Err(Error::Malformed("it has over 16 interim answers")));
        }
    }
    Pin::new(answer).poll(cx).map_err(Error::Http)
}

/// The answer to `method`, if it keeps the rules that an answer over HTTP/1.1 has to keep.
fn checked(
    response: Response<RecvStream>,
    method: &Method,
    call: Call,
    upload: Upload,
) -> Result<Response<Answer>, Error> {
    let (mut head, body) = response.into_parts();
    if head.status.as_u16() >= 600 {
        return Err(Error::Malformed("its status is not one"));
    }
    if head.headers.len() > FIELDS {
        return Err(Error::Malformed("it has more than 128 fields"));
    }
    let mut length = None;
    for value in head.headers.get_all(header::CONTENT_LENGTH) {
        let this = parse_length(value.as_bytes()).map_err(|error| Error::Malformed(error.0))?;
        if length.is_some_and(|other| other != this) {
            return Err(Error::Malformed("it has two lengths"));
        }
        length = Some(this);
    }
    let has_none = *method == Method::HEAD
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match length {
        // RFC 9110 §8.6.
        Some(_) if head.status == StatusCode::NO_CONTENT => {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        Some(length) => {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {}
    }
    let body = (!has_none).then_some(body);
    Ok(Response::from_parts(head, Answer::new(body, length, call.grant, upload)))
}
