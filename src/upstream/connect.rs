//! A new connection to an application.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::io::Io;
use super::pool::Backend;
use crate::config::target::Address;

/// For one attempt, TLS counted: a host that answers no packet is not waited for any longer.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The name has no address.
    Name(io::Error),
    /// Refused, unreachable, or no such socket.
    Io(io::Error),
    /// Its certificate or its TLS is not acceptable.
    Tls(io::Error),
    /// Nothing came back.
    Timeout,
}

impl ConnectError {
    /// Whether this process, or its system, has no descriptor left: the application has no part
    /// in it.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        let (ConnectError::Name(error) | ConnectError::Io(error)) = self else { return false };
        let number = error.raw_os_error().map(Errno::from_raw_os_error);
        matches!(number, Some(Errno::MFILE | Errno::NFILE))
    }

    /// Whether another attempt a moment later may succeed.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        !matches!(self, ConnectError::Tls(_))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Name(error) => write!(f, "its name has no address: {error}"),
            ConnectError::Io(error) => write!(f, "cannot connect: {error}"),
            ConnectError::Tls(error) => write!(f, "its TLS is not acceptable: {error}"),
            ConnectError::Timeout => write!(f, "no answer to a connection attempt in {ATTEMPT:?}"),
        }
    }
}

/// Connects to `backend`.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(backend: &Backend) -> Result<Io, ConnectError> {
    timeout(ATTEMPT, attempt(backend)).await.unwrap_or(Err(ConnectError::Timeout))
}

async fn attempt(backend: &Backend) -> Result<Io, ConnectError> {
    let (host, port) = match &backend.target.address {
        Address::Unix(path) => {
            return UnixStream::connect(path).await.map(Io::Unix).map_err(ConnectError::Io);
        }
        Address::Tcp(host, port) => (host.as_str(), *port),
    };
    let stream = match backend.address {
        Some(address) => connect_to(backend, host, address).await.map_err(ConnectError::Io)?,
        None => connect_by_name(backend, host, port).await?,
    };
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    let Some(tls) = &backend.tls else { return Ok(Io::Tcp(stream)) };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
    stream.map(|stream| Io::Tls(Box::new(stream))).map_err(ConnectError::Tls)
}

/// Connects by itself, and by the helper where that is forbidden: the sandbox knows the ports of
/// the start, and a reload may have brought an application on another one.
async fn connect_to(backend: &Backend, host: &str, address: SocketAddr) -> io::Result<TcpStream> {
    let error = match TcpStream::connect(address).await {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
        result => return result,
    };
    let Some(helper) = &backend.helper else { return Err(error) };
    let stream = match helper.connect(host, address).await {
        Ok(stream) => TcpStream::from_std(stream)?,
        Err(why) => return Err(io::Error::new(error.kind(), format!("{error}; {why}"))),
    };
    stream.writable().await?;
    stream.take_error()?.map_or(Ok(stream), Err)
}

/// Tries the addresses of a name in the order in which the system gives them.
async fn connect_by_name(
    backend: &Backend,
    host: &str,
    port: u16,
) -> Result<TcpStream, ConnectError> {
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(ConnectError::Name)?;
    let mut last = None;
    for address in addresses {
        match connect_to(backend, host, address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(
        || ConnectError::Name(io::Error::new(io::ErrorKind::NotFound, "no address")),
        ConnectError::Io,
    ))
}
