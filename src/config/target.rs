//! Where an application is: the one-line form that `to` and the command line share.

use std::fmt;
use std::path::PathBuf;

/// One application.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where it listens.
    pub address: Address,
}

/// What is spoken to an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 in the clear.
    Http,
    /// HTTP/1.1 over TLS, the certificate verified against the system's roots.
    Https,
    /// HTTP/2 in the clear, by prior knowledge: gRPC.
    H2c,
}

/// Where an application listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host, name or IP address (IPv6 without brackets), and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// Why a text is not a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError(pub String);

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TargetError {}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Http => {}
            Protocol::Https => f.write_str("https://")?,
            Protocol::H2c => f.write_str("h2c://")?,
        }
        self.address.fmt(f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
