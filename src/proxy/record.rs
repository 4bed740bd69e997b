//! What is remembered of a request until it is over: one log line, and its share of the counts.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version, header};
use hyper::body::Incoming;

use super::headers::forwarded::Client;
use super::headers::request_id::RequestId;
use super::request_body::RequestBody;
use crate::downstream::budget::HeadHold;
use crate::downstream::connection::{Connection, InFlight};
use crate::observe::access_log::Entry;
use crate::observe::registry::RouteSeries;
use crate::upstream::pool::Backend;
use crate::worker::view::View;

/// The client went away before it had an answer: nginx's number, which log readers know.
const CLIENT_GONE: u16 = 499;

/// So many requests of an HTTP/2 client may each hold on to the buffer that they came in.
const FEW: u32 = 4;

/// A request under way. Dropped before it is complete, it says that the client went away.
#[derive(Debug)]
pub struct Record {
    /// What the request began with, and keeps over a reload.
    pub view: Rc<View>,
    /// Its name.
    pub id: RequestId,
    /// Who sent it.
    pub client: Client,
    /// Bytes of its body.
    pub bytes_in: Rc<Cell<u64>>,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Whose counts it goes into.
    pub series: Option<Arc<RouteSeries>>,
    /// The application that it was last sent to.
    pub upstream: RefCell<Option<Rc<Backend>>>,
    /// How long that took to begin its answer.
    pub upstream_time: Option<Duration>,
    /// What went wrong, for the operator.
    pub error: Option<Cow<'static, str>>,
    /// The host that it is for, once that is known.
    pub host: Rc<str>,
    /// What the client asked for. Once it has been sent on, its fields are gone from here.
    pub parts: Parts,
    /// What the head counts for, over HTTP/2.
    pub head: Option<HeadHold>,
    in_flight: InFlight,
    began: Instant,
    time: SystemTime,
    body: Option<Incoming>,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    accept: Option<HeaderValue>,
    status: Option<StatusCode>,
    is_complete: bool,
}

impl Record {
    /// Begins the record of a request on `connection`.
    #[must_use]
    pub fn begin(connection: &Rc<Connection>, request: Request<Incoming>) -> Box<Self> {
        let (parts, body) = request.into_parts();
        let view = connection.worker.view();
        let trusted = &view.state.config.server.trusted_proxies;
        let client = Client::of(connection.peer.ip(), &parts.headers, trusted);
        Box::new(Self {
            id: connection.worker.ids.of(&parts.headers, client.peer_trusted),
            client,
            view,
            bytes_in: Rc::default(),
            bytes_out: 0,
            series: None,
            upstream: RefCell::new(None),
            upstream_time: None,
            error: None,
            host: Rc::default(),
            head: None,
            in_flight: connection.begin(),
            began: Instant::now(),
            time: SystemTime::now(),
            body: Some(body),
            user_agent: None,
            referer: None,
            accept: None,
            parts,
            status: None,
            is_complete: false,
        })
    }

    /// The connection that the request came on.
    #[must_use]
    pub fn connection(&self) -> &Rc<Connection> {
        self.in_flight.connection()
    }

    /// When the request's head was complete.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// What the client would like to be answered with.
    #[must_use]
    pub fn accept(&self) -> Option<HeaderValue> {
        self.accept.clone().or_else(|| self.parts.headers.get(header::ACCEPT).cloned())
    }

    /// The body as it comes from the client.
    #[must_use]
    pub fn body(&self) -> Option<&Incoming> {
        self.body.as_ref()
    }

    /// The body, to be sent on: counted, and limited as `[limits]` says.
    pub fn take_body(&mut self) -> RequestBody {
        let Some(body) = self.body.take() else { return RequestBody::empty() };
        let limit = self.view.limits().body_size;
        RequestBody::new(body, limit, Rc::clone(&self.bytes_in), self.in_flight.connection())
    }

    /// The fields of the request; those that the log wants are kept.
    pub fn take_headers(&mut self) -> HeaderMap {
        let headers = std::mem::take(&mut self.parts.headers);
        self.user_agent = headers.get(header::USER_AGENT).cloned();
        self.referer = headers.get(header::REFERER).cloned();
        self.accept = headers.get(header::ACCEPT).cloned();
        let is_large = self.head.as_ref().is_some_and(HeadHold::is_large);
        let connection = self.connection();
        if is_large || (connection.is_http2() && connection.in_flight() > FEW) {
            self.detach();
        }
        headers
    }

    /// Drops the fields of the request, but for those that the log wants, where they are still
    /// here: the answer is our own, and may wait for long until its client takes it.
    pub fn drop_headers(&mut self) {
        if !self.parts.headers.is_empty() {
            self.take_headers();
        }
    }

    /// Copies what is kept of the head: as slices, a few bytes would hold on to the whole buffer
    /// that it came in, and to what came behind it.
    fn detach(&mut self) {
        for value in [&mut self.user_agent, &mut self.referer, &mut self.accept] {
            *value = value.take().and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        }
        if let Some(target) = self.parts.uri.path_and_query()
            && let Ok(own) =
                PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(target.as_str().as_bytes()))
        {
            self.parts.uri = Uri::from(own);
        }
    }

    /// Notes the status of the answer that is on its way.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Tells the operator of an application that failed, whatever the format of the access log.
    pub fn complain_of_upstream(&self, reason: &str) {
        let upstream = self.upstream.borrow();
        let Some(upstream) = upstream.as_ref().map(|backend| &backend.name) else { return };
        self.connection().worker.complaints.upstreams.say(|suppressed| {
            let (host, id) = (&*self.host, &self.id);
            tracing::warn!(%upstream, host, %id, suppressed, "{reason}");
        });
    }

    /// Notes that the answer was broken off, by whom and why.
    pub fn cut(&mut self, why: &str) {
        self.error = Some(Cow::Owned(why.to_owned()));
        self.is_complete = true;
    }

    /// The answer is out: writes the line.
    pub fn complete(mut self: Box<Self>) {
        self.is_complete = true;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // An answer of our own may have left them here.
        drop(self.take_body());
        self.drop_headers();
        let connection = Rc::clone(self.connection());
        if !self.is_complete {
            connection.abandon();
        }
        let worker = &connection.worker;
        let status = match self.status {
            Some(status) if self.is_complete => status.as_u16(),
            _ => CLIENT_GONE,
        };
        if !self.is_complete && self.error.is_none() {
            self.error = Some("downstream went away".into());
        }
        let duration = self.began.elapsed();
        let series = self.series.as_ref().unwrap_or(&self.view.state.unmatched);
        let bytes_in = self.bytes_in.get();
        series.worker(worker.index).record(status, duration, bytes_in, self.bytes_out);
        let mut log = worker.log.borrow_mut();
        if !log.is_on() {
            return;
        }
        log.record(&Entry {
            time: self.time,
            id: self.id.as_str(),
            client: self.client.address,
            host: &self.host,
            method: self.parts.method.as_str(),
            path: self.parts.uri.path_and_query().map_or(b"*", |path| path.as_str().as_bytes()),
            proto: protocol(self.parts.version),
            status,
            bytes_in,
            bytes_out: self.bytes_out,
            duration,
            upstream: self.upstream.borrow().as_ref().map(|backend| backend.name.as_str()),
            upstream_time: self.upstream_time,
            tls: connection.tls.as_ref().map(|tls| tls.version),
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            error: self.error.as_deref(),
        });
    }
}

/// Writes the line of a request that never became one: its head was refused, or never came whole.
pub fn refused(connection: &Connection, status: StatusCode, error: &str) {
    let address: IpAddr = connection.peer.ip().to_canonical();
    let view = connection.worker.view();
    let series = view.state.unmatched.worker(connection.worker.index);
    series.record(status.as_u16(), Duration::ZERO, 0, 0);
    connection.worker.log.borrow_mut().record(&Entry {
        time: SystemTime::now(),
        id: connection.worker.ids.next().as_str(),
        client: address,
        host: "",
        method: "-",
        path: b"-",
        proto: "HTTP/1.1",
        status: status.as_u16(),
        bytes_in: 0,
        bytes_out: 0,
        duration: Duration::ZERO,
        upstream: None,
        upstream_time: None,
        tls: connection.tls.as_ref().map(|tls| tls.version),
        user_agent: None,
        referer: None,
        error: Some(error),
    });
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
