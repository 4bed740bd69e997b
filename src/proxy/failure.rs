//! Why a request is not answered by an application: what the client gets, and what the log says.

use std::borrow::Cow;

use http::StatusCode;

use super::headers::authority::HostError;
use super::path::PathError;
use super::request_body::RequestBodyError;
use crate::downstream::budget::CROWDED_REQUESTS;
use crate::downstream::field_block::Malformed;
use crate::downstream::redirect::InvalidTarget;
use crate::observe::metrics::Limit;
use crate::upstream::send::SendError;

/// A request that we answer ourselves, with an error.
#[derive(Debug)]
pub enum Failure {
    /// It does not say which host it is for.
    Host(HostError),
    /// It breaks a rule of HTTP/2.
    Malformed(Malformed),
    /// No site has its host.
    NoSite,
    /// Its host belongs to another site than the name that the TLS handshake asked for.
    Misdirected,
    /// No route of the site has its path.
    NoRoute,
    /// An authority's challenge that is not pending, of a name whose certificates are got here.
    NoChallenge,
    /// Its path is not one, or means different things to different readers.
    Path(PathError),
    /// The target cannot stand in a redirect.
    Target(InvalidTarget),
    /// A key of `[limits]`, and what it was exceeded by.
    Limit(Limit, StatusCode),
    /// The requests that its client has open hold too much memory already.
    Crowded,
    /// TRACE, CONNECT, PRI: what a proxy in front of an application has no use for.
    Method,
    /// A method that nobody has registered, and far too long.
    UnknownMethod,
    /// An expectation other than `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    /// A transfer coding other than chunked.
    Coding,
    /// More than one Content-Length, or an empty one, over HTTP/2.
    Lengths,
    /// The client has been redirected here over and over.
    RedirectLoop,
    /// It has passed servers of this program over and over.
    ForwardLoop,
    /// The application.
    Upstream(SendError),
}

impl Failure {
    /// The one place that decides about a status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Failure::Host(_)
            | Failure::Malformed(_)
            | Failure::Path(_)
            | Failure::Target(_)
            | Failure::Lengths => StatusCode::BAD_REQUEST,
            Failure::NoSite | Failure::NoRoute | Failure::NoChallenge => StatusCode::NOT_FOUND,
            Failure::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Failure::Limit(_, status) => *status,
            Failure::Crowded => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Failure::Method => StatusCode::METHOD_NOT_ALLOWED,
            Failure::Expectation => StatusCode::EXPECTATION_FAILED,
            Failure::Coding | Failure::UnknownMethod => StatusCode::NOT_IMPLEMENTED,
            Failure::RedirectLoop | Failure::ForwardLoop => StatusCode::LOOP_DETECTED,
            Failure::Upstream(error) => match error {
                SendError::Downstream(RequestBodyError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
                SendError::Downstream(RequestBodyError::Idle | RequestBodyError::Slow) => {
                    StatusCode::REQUEST_TIMEOUT
                }
                SendError::Downstream(RequestBodyError::Crowded) => {
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                }
                SendError::Downstream(_) => StatusCode::BAD_REQUEST,
                SendError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
                SendError::NoBackend | SendError::Descriptors => StatusCode::SERVICE_UNAVAILABLE,
                SendError::Connect(_) | SendError::Failed(_) => StatusCode::BAD_GATEWAY,
            },
        }
    }

    /// The limit that was hit, for the counts.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Failure::Limit(limit, _) => Some(*limit),
            Failure::Upstream(SendError::Downstream(RequestBodyError::TooLarge)) => {
                Some(Limit::BodySize)
            }
            Failure::Upstream(SendError::Downstream(RequestBodyError::Idle)) => {
                Some(Limit::RequestBodyIdleTimeout)
            }
            Failure::Upstream(SendError::Downstream(RequestBodyError::Slow)) => {
                Some(Limit::RequestBodyRate)
            }
            Failure::Upstream(SendError::Timeout(_)) => Some(Limit::UpstreamTimeout),
            Failure::Upstream(SendError::Connect(_)) => Some(Limit::Hold),
            Failure::Upstream(SendError::Descriptors) => Some(Limit::Connections),
            _ => None,
        }
    }

    /// What the log says.
    #[must_use]
    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Failure::Host(error) => error.to_string().into(),
            Failure::Malformed(Malformed(why)) => (*why).into(),
            Failure::NoSite => "no site has this host".into(),
            Failure::Misdirected => "the TLS handshake asked for another site's name".into(),
            Failure::NoRoute => "no route of the site has this path".into(),
            Failure::NoChallenge => "no such challenge of an authority is pending".into(),
            Failure::Path(error) => error.to_string().into(),
            Failure::Target(error) => error.to_string().into(),
            Failure::Limit(limit, _) => {
                use crate::observe::metrics::Label as _;
                format!("over limits.{}", limit.text()).into()
            }
            Failure::Crowded => CROWDED_REQUESTS.into(),
            Failure::Method => "this method is not forwarded".into(),
            Failure::UnknownMethod => "a method longer than any that there is".into(),
            Failure::Expectation => "an expectation other than 100-continue".into(),
            Failure::Coding => "a transfer coding other than chunked".into(),
            Failure::Lengths => "a Content-Length that is not one number".into(),
            Failure::RedirectLoop => {
                "redirect loop: a TLS-terminating proxy in front forwards plain HTTP; list it in \
                 server.trusted_proxies, or let it connect over HTTPS"
                    .into()
            }
            Failure::ForwardLoop => {
                "forwarding loop: the application leads back to this server, and each request \
                 would go round for ever; mend `to` of its site"
                    .into()
            }
            Failure::Upstream(error) => error.to_string().into(),
        }
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Failure::Host(error)
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Failure::Malformed(malformed)
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        Failure::Path(error)
    }
}

impl From<InvalidTarget> for Failure {
    fn from(error: InvalidTarget) -> Self {
        Failure::Target(error)
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Failure::Upstream(error)
    }
}
