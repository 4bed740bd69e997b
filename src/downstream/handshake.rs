//! The TLS handshake, in the connection's own task and under one deadline over the whole of it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::server::{Acceptor, ClientHello};
use rustls::{AlertDescription, ProtocolVersion, ServerConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use super::connection::Tls;
use super::stream::Stream;
use crate::observe::metrics::{HandshakeFailure, Label as _, Limit};
use crate::tls::acme::challenge::pending::ACME_TLS;
use crate::tls::store::UNRECOGNIZED_NAME;
use crate::worker::Worker;
use crate::worker::view::View;

/// Shakes hands over `socket`, which `peer` is at the other end of.
///
/// `None` when it came to nothing, which is counted, or was all that an authority wanted: the
/// connection is closed.
pub async fn handshake(
    worker: &Rc<Worker>,
    socket: TcpStream,
    peer: SocketAddr,
) -> Option<(Stream, Tls)> {
    let limit = worker.view().limits().tls_handshake_timeout;
    let result = timeout(limit, shake(worker, socket)).await;
    let failure = match result.unwrap_or(Err(HandshakeFailure::Timeout)) {
        Ok(done) => {
            worker.metrics.handshakes.add(1);
            return done;
        }
        Err(failure) => failure,
    };
    worker.metrics.handshake_failures.count(failure);
    if failure == HandshakeFailure::Timeout {
        worker.metrics.limits.count(Limit::TlsHandshakeTimeout);
    }
    worker.complaints.handshakes.say(|suppressed| {
        let client = peer.ip().to_canonical();
        let why = match failure {
            HandshakeFailure::Timeout => "over limits.tls_handshake_timeout",
            other => other.text(),
        };
        tracing::info!(%client, suppressed, "a TLS handshake failed: {why}");
    });
    None
}

async fn shake(
    worker: &Worker,
    socket: TcpStream,
) -> Result<Option<(Stream, Tls)>, HandshakeFailure> {
    let view = worker.view();
    // Asking the system for the address is spared where nothing depends on it.
    let local = match view.tls.needs_address() {
        true => socket.local_addr().ok().map(|address| address.ip().to_canonical()),
        false => None,
    };
    let mut start =
        LazyConfigAcceptor::new(Acceptor::default(), socket).await.map_err(|e| kind(&e))?;
    let server_name = start.client_hello().server_name().map(normal);
    if let Some(proof) = challenge(&start.client_hello(), server_name.as_deref(), &view) {
        let mut stream = start.into_stream(proof).await.map_err(|error| kind(&error))?;
        // RFC 8737 §3: nothing is said on it.
        let _ = stream.shutdown().await;
        return Ok(None);
    }
    let config = view.tls.for_hello(&start.client_hello(), local).cloned();
    let Some(config) = config else {
        // Best effort: the client may have gone already.
        let _ = start.io.write_all(&UNRECOGNIZED_NAME).await;
        return Err(HandshakeFailure::NoCertificate);
    };
    let stream = start.into_stream(config).await.map_err(|error| kind(&error))?;
    let (socket, connection) = stream.into_inner();
    let tls = Tls {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        local: if server_name.is_none() { local } else { None },
        server_name,
        http2: connection.alpn_protocol() == Some(b"h2"),
    };
    Ok(Some((Stream::tls(socket, connection), tls)))
}

/// The rules for a handshake by which an authority looks whether a name is ours (RFC 8737 §3): it
/// offers this protocol and no other, for a name that is pending.
fn challenge(
    hello: &ClientHello<'_>,
    name: Option<&str>,
    view: &View,
) -> Option<Arc<ServerConfig>> {
    let mut offered = hello.alpn()?;
    if offered.next() != Some(ACME_TLS) || offered.next().is_some() {
        return None;
    }
    view.state.pending.handshake(name?)
}

/// The form in which hosts are compared: lower case, without the dot of the root.
fn normal(name: &str) -> Box<str> {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into()
}

/// What a failure is counted as.
fn kind(error: &io::Error) -> HandshakeFailure {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>())
    else {
        return match error.kind() {
            ErrorKind::InvalidData => HandshakeFailure::Malformed,
            _ => HandshakeFailure::Io,
        };
    };
    match error {
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
            HandshakeFailure::NothingInCommon
        }
        rustls::Error::AlertReceived(AlertDescription::CloseNotify) => HandshakeFailure::Io,
        rustls::Error::AlertReceived(_) => HandshakeFailure::Alert,
        rustls::Error::InvalidMessage(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::PeerMisbehaved(_)
        | rustls::Error::DecryptError => HandshakeFailure::Malformed,
        _ => HandshakeFailure::Other,
    }
}
