//! A worker's own side of the state: the same sites, with its own connections and TLS sessions.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use hyper::server::conn::{http1, http2};

use super::Protocols;
use crate::config::Limits;
use crate::control::state::{Service, State};
use crate::downstream::streams::Streams;
use crate::observe::metrics::WorkerMetrics;
use crate::tls::{ServerConfigs, Tickets};
use crate::upstream::pool::{Backend, Backends};

/// What is buffered of a connection in each direction, at most.
const BUFFER: usize = 128 * 1024;

/// What is buffered of an answer over HTTP/2; a stalled client may have this for each stream.
const STREAM_BUFFER: usize = 32 * 1024;

/// Requests that an HTTP/2 client may have open at once.
const STREAMS: u32 = 100;

/// HTTP/2 flow-control windows for request bodies: a stream's, and the connection's.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// What a worker serves from until the next reload.
#[derive(Debug)]
pub struct View {
    /// Shared by all workers.
    pub state: Arc<State>,
    /// The rules of TLS towards clients.
    pub tls: ServerConfigs,
    /// The rules of HTTP towards clients.
    pub protocols: Protocols,
    routes: Vec<Vec<RouteView>>,
}

/// One route, as a worker sees it.
#[derive(Debug)]
pub struct RouteView {
    /// The applications.
    pub backends: Vec<Rc<Backend>>,
    /// Whose turn it is among equals.
    pub turn: Cell<usize>,
}

impl View {
    /// A view of `state` that uses and extends the worker's `backends` and counts in its `metrics`.
    ///
    /// # Errors
    /// When the cryptography lacks what is asked for: never in a build that passes its tests.
    pub fn new(
        state: Arc<State>,
        tickets: &Arc<Tickets>,
        backends: &mut Backends,
        metrics: &Arc<WorkerMetrics>,
    ) -> Result<Self, rustls::Error> {
        let client_tls = state.client_tls.as_ref();
        let mut route = |route: &crate::config::Route| RouteView {
            backends: route.to.iter().map(|target| backends.at(target, client_tls)).collect(),
            turn: Cell::new(0),
        };
        let routes =
            state.config.sites.iter().map(|site| site.routes.iter().map(&mut route).collect());
        Ok(Self {
            routes: routes.collect(),
            tls: ServerConfigs::new(&state.certificates, tickets)?,
            protocols: protocols(&state.config.limits, metrics),
            state,
        })
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.state.config.limits
    }

    /// The service for `host`, and its index.
    #[must_use]
    pub fn service(&self, host: &str) -> Option<(usize, &Service)> {
        let index = *self.state.sites.lookup(host)?;
        Some((index, self.state.services.get(index)?))
    }

    /// A route of a service.
    #[must_use]
    pub fn route(
        &self,
        service: usize,
        route: usize,
    ) -> Option<(&crate::config::Route, &RouteView)> {
        let config = self.state.config.sites.get(service)?.routes.get(route)?;
        Some((config, self.routes.get(service)?.get(route)?))
    }
}

fn protocols(limits: &Limits, metrics: &Arc<WorkerMetrics>) -> Protocols {
    let mut http1 = http1::Builder::new();
    http1
        .header_read_timeout(None)
        .max_header_size(limits.header_size)
        .max_buf_size(BUFFER.max(limits.header_size));
    // The library keeps room for 100 fields without an allocation.
    if limits.header_count != 100 {
        http1.max_headers(limits.header_count);
    }
    let mut http2 = http2::Builder::new(Streams::new(metrics));
    http2
        .max_concurrent_streams(STREAMS)
        // Errors of the client's, for which the library resets a stream, in a connection's life.
        .max_local_error_reset_streams(usize::try_from(STREAMS).ok())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_BUFFER)
        .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
        .enable_connect_protocol();
    Protocols { http1, http2 }
}
