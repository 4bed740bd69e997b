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

impl Target {
    /// Stand-in.
    ///
    /// # Errors
    /// When the text is no target.
    pub fn parse(text: &str) -> Result<Target, TargetError> {
        let (protocol, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Protocol::Http, rest),
            Some(("https", rest)) => (Protocol::Https, rest),
            Some(("h2c", rest)) => (Protocol::H2c, rest),
            _ => (Protocol::Http, text),
        };
        if let Some(path) = rest.strip_prefix("unix:") {
            return Ok(Target { protocol, address: Address::Unix(path.into()) });
        }
        let (host, port) = rest.rsplit_once(':').unwrap_or(("", rest));
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        let port = port.parse().map_err(|_| TargetError(format!("\"{text}\" is no target")))?;
        Ok(Target {
            protocol,
            address: Address::Tcp(host.trim_matches(['[', ']']).to_owned(), port),
        })
    }
}
