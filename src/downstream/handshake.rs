//! The TLS handshake, in the connection's own task and under one deadline over the whole of it;
//! its costly steps are done aside.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::server::{Acceptor, ClientHello};
use rustls::{
    AlertDescription, HandshakeKind, PeerMisbehaved, ProtocolVersion, ServerConfig,
    ServerConnection,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::connection::Tls;
use super::stream::Stream;
use crate::observe::metrics::{HandshakeFailure, Label as _, Limit};
use crate::tls::acme::challenge::pending::ACME_TLS;
use crate::tls::clients::refusal;
use crate::tls::presented::Presented;
use crate::tls::store::UNRECOGNIZED_NAME;
use crate::worker::Worker;
use crate::worker::view::View;

/// Of the time for a handshake, what is left for an alert when no certificate has come.
const FOR_THE_ALERT: Duration = Duration::from_millis(250);

/// What is read at a time: a client's part of a handshake without certificates is smaller.
const PIECE: usize = 4 * 1024;

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
    let until = Instant::now() + limit;
    let result = timeout_at(until.into(), shake(worker, socket, until)).await;
    let failure = match result.unwrap_or(Err(HandshakeFailure::Timeout.into())) {
        Ok(done) => {
            worker.metrics.handshakes.add(1);
            return done;
        }
        Err(failure) => failure,
    };
    let Failure { kind, words } = failure;
    worker.metrics.handshake_failures.count(kind);
    if kind == HandshakeFailure::Timeout {
        worker.metrics.limits.count(Limit::TlsHandshakeTimeout);
    }
    worker.complaints.handshakes.say(|suppressed| {
        let client = peer.ip().to_canonical();
        let why = match kind {
            HandshakeFailure::Timeout => "over limits.tls_handshake_timeout",
            other => other.text(),
        };
        let words = words.map(|words| format!(": {words}")).unwrap_or_default();
        tracing::info!(%client, suppressed, "a TLS handshake failed: {why}{words}");
    });
    None
}

/// Why a handshake came to nothing.
struct Failure {
    /// What it is counted as.
    kind: HandshakeFailure,
    /// What is wrong with the client's certificate, where that is why.
    words: Option<String>,
}

impl From<HandshakeFailure> for Failure {
    fn from(kind: HandshakeFailure) -> Self {
        Self { kind, words: None }
    }
}

async fn shake(
    worker: &Worker,
    socket: TcpStream,
    until: Instant,
) -> Result<Option<(Stream, Tls)>, Failure> {
    let view = worker.view();
    // Asking the system for the address is spared where nothing depends on it.
    let local = match view.tls.needs_address() {
        true => socket.local_addr().ok().map(|address| address.ip().to_canonical()),
        false => None,
    };
    let mut start = hello(socket).await.map_err(|error| kind(&error))?;
    let server_name = start.client_hello().server_name().map(normal);
    if let Some(proof) = challenge(&start.client_hello(), server_name.as_deref(), &view) {
        let mut stream = start.into_stream(proof).await.map_err(|error| kind(&error))?;
        // RFC 8737 §3: nothing is said on it.
        let _ = stream.shutdown().await;
        return Ok(None);
    }
    if let Some(name) = server_name.as_deref()
        && let Some(demand) = view.tls.on_demand(name)
        && demand.certificate(name).is_none()
    {
        // What comes of it is seen below; the alert has to go in time.
        let until = until.checked_sub(FOR_THE_ALERT).unwrap_or(until);
        tokio::select! {
            _ = demand.wait(name, until) => {}
            () = gone(&start.io) => return Err(HandshakeFailure::Io.into()),
        }
        if demand.certificate(name).is_none() {
            return Err(refuse(&mut start.io).await.into());
        }
    }
    let found = view.tls.for_hello(&start.client_hello(), local);
    let found = found.map(|(config, policy)| (Arc::clone(config), Arc::clone(policy)));
    let Some((config, policy)) = found else {
        return Err(refuse(&mut start.io).await.into());
    };
    let (accepted, mut socket) = (start.accepted, start.io);
    let answered = aside(worker, move || accepted.into_connection(config)).await?;
    let connection = match answered {
        Ok(connection) => connection,
        Err((error, mut alert)) => {
            let mut bytes = Vec::new();
            let _ = alert.write_all(&mut bytes);
            let _ = socket.write_all(&bytes).await;
            return Err(kind_of(&error));
        }
    };
    let connection = finish(worker, &mut socket, connection, policy.verifier.is_some()).await?;
    let version = connection.protocol_version().unwrap_or(ProtocolVersion::TLSv1_3);
    let shown: Box<[_]> = connection.peer_certificates().unwrap_or_default().into();
    // A ticket lives for hours; a certificate may have been revoked or have expired since.
    let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let now = SystemTime::now();
    if (is_resumed && !policy.admits(version, &shown, now))
        || (!shown.is_empty() && policy.is_over(now))
    {
        let kind = HandshakeFailure::ClientCertificate;
        let words = "it was good when it was shown first, and is not any more".to_owned();
        return Err(Failure { kind, words: Some(words) });
    }
    // Who offers no protocol speaks HTTP/1.1.
    if !policy.rules.http1 && connection.alpn_protocol().is_none() {
        return Err(HandshakeFailure::NothingInCommon.into());
    }
    let tls = Tls {
        version: match version {
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            _ => "TLSv1.3",
        },
        good_under: Cell::new(policy.tag),
        presented: Presented::of(&shown),
        shown,
        local: if server_name.is_none() { local } else { None },
        server_name,
        http2: connection.alpn_protocol() == Some(b"h2"),
    };
    Ok(Some((Stream::tls(socket, connection), tls)))
}

/// Tells the client that there is no certificate for the name it asks for.
async fn refuse(socket: &mut TcpStream) -> HandshakeFailure {
    // Best effort: the client may have gone already.
    let _ = socket.write_all(&UNRECOGNIZED_NAME).await;
    HandshakeFailure::NoCertificate
}

/// Waits until a client that has sent its ClientHello closes the connection; for ever once it has
/// sent more, behind which an end cannot be seen.
async fn gone(socket: &TcpStream) {
    match socket.peek(&mut [0]).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// The fatal alert `unexpected_message` as a plaintext record (RFC 8446 §5.1, §6.2).
const UNEXPECTED_MESSAGE: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// Reads the ClientHello. What is none gets an alert: from the library for most of it, and from
/// here where it says nothing, which is to messages that have no business there.
async fn hello(socket: TcpStream) -> io::Result<StartHandshake<TcpStream>> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), socket);
    let error = match (&mut acceptor).await {
        Ok(start) => return Ok(start),
        Err(error) => error,
    };
    let is_unanswered = matches!(
        error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()),
        Some(
            rustls::Error::InappropriateMessage { .. }
                | rustls::Error::InappropriateHandshakeMessage { .. }
                | rustls::Error::PeerMisbehaved(
                    PeerMisbehaved::MessageInterleavedWithHandshakeMessage
                )
        )
    );
    if let (true, Some(mut socket)) = (is_unanswered, acceptor.take_io()) {
        let _ = socket.write_all(&UNEXPECTED_MESSAGE).await;
    }
    Err(error)
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

/// Does a step that may cost a key exchange.
async fn aside<T: Send + 'static>(
    worker: &Worker,
    step: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HandshakeFailure> {
    worker.aside.run(step).await.map_err(|_| {
        worker.metrics.panics.add(1);
        HandshakeFailure::Other
    })
}

/// Goes on from the answer to the ClientHello.
async fn finish(
    worker: &Worker,
    socket: &mut TcpStream,
    mut connection: ServerConnection,
    asks_for_certificates: bool,
) -> Result<ServerConnection, Failure> {
    // What came along with the hello is nothing, as a rule; nobody would look at it until more
    // comes.
    if let Err(error) = connection.process_new_packets() {
        let _ = send(socket, &mut connection).await;
        return Err(kind_of(&error));
    }
    loop {
        send(socket, &mut connection).await.map_err(|error| kind(&error))?;
        if !connection.is_handshaking() {
            return Ok(connection);
        }
        let mut bytes = Vec::with_capacity(PIECE);
        match socket.read_buf(&mut bytes).await {
            Ok(0) => return Err(HandshakeFailure::Io.into()),
            Ok(_) => {}
            Err(error) => return Err(kind(&error)),
        }
        // In TLS 1.3 only the Finished is left once there are keys: nothing costly, unless a
        // certificate comes with it.
        let is_cheap = !asks_for_certificates
            && connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && connection.negotiated_key_exchange_group().is_some();
        let result = if is_cheap {
            receive(&mut connection, &bytes)
        } else {
            let step = move || {
                let result = receive(&mut connection, &bytes);
                (connection, result)
            };
            let result;
            (connection, result) = aside(worker, step).await?;
            result
        };
        if let Err(failure) = result {
            // An alert tells the client why; it may have gone already.
            let _ = send(socket, &mut connection).await;
            return Err(failure);
        }
    }
}

/// Sends what there is to be sent.
async fn send(socket: &mut TcpStream, connection: &mut ServerConnection) -> io::Result<()> {
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes)?;
    }
    socket.write_all(&bytes).await
}

/// Takes in what the client has sent.
fn receive(connection: &mut ServerConnection, mut bytes: &[u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).map_err(|error| kind(&error))?;
        let state = connection.process_new_packets().map_err(|error| kind_of(&error))?;
        if state.peer_has_closed() && connection.is_handshaking() {
            return Err(HandshakeFailure::Io.into());
        }
    }
    Ok(())
}

/// The form in which hosts are compared: lower case, without the dot of the root.
fn normal(name: &str) -> Box<str> {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into()
}

/// What a failure is counted as.
fn kind(error: &io::Error) -> Failure {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>())
    else {
        let is_data = error.kind() == ErrorKind::InvalidData;
        let kind = if is_data { HandshakeFailure::Malformed } else { HandshakeFailure::Io };
        return kind.into();
    };
    kind_of(error)
}

fn kind_of(error: &rustls::Error) -> Failure {
    let kind = match error {
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
            HandshakeFailure::NothingInCommon
        }
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::InvalidCertRevocationList(_)
        | rustls::Error::NoCertificatesPresented => HandshakeFailure::ClientCertificate,
        rustls::Error::AlertReceived(AlertDescription::CloseNotify) => HandshakeFailure::Io,
        rustls::Error::AlertReceived(_) => HandshakeFailure::Alert,
        rustls::Error::InvalidMessage(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::PeerMisbehaved(_)
        | rustls::Error::DecryptError => HandshakeFailure::Malformed,
        _ => HandshakeFailure::Other,
    };
    Failure { kind, words: refusal(error) }
}
