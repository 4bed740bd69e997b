//! Metrics over HTTP, for Prometheus.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
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
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, sender.clone()));
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
    sender: Sender<admin::Request>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
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
