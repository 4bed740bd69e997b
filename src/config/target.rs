//! Where an application is: the one-line form that `to` and the command line share.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
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

impl Target {
    /// What is allowed, in words.
    pub const ALLOWED: &str = "a port (\"8080\"), host:port, a URL with http://, \
        https:// or h2c:// and without a path, or unix:/path/of.sock";

    /// Reads the one-line form. A port alone, with or without a colon, means `127.0.0.1`; a URL
    /// without a port means that of its scheme, 80 or 443.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, in a sentence that says what would be right.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return parse_unix(text, path);
        }
        let Some((scheme, authority)) = text.split_once("://") else {
            let address = parse_address(text, authority_of(text)?, None)?;
            return Ok(Self { protocol: Protocol::Http, address });
        };
        let (protocol, port) = parse_scheme(scheme)?;
        let address = parse_address(text, authority_of(authority)?, Some(port))?;
        Ok(Self { protocol, address })
    }
}

/// The kernel's `sun_path` has 108 bytes, the last of which is a NUL.
const UNIX_PATH_MAX: usize = 107;

fn fault<T>(message: impl Into<String>) -> Result<T, TargetError> {
    Err(TargetError(message.into()))
}

fn parse_unix(text: &str, path: &str) -> Result<Target, TargetError> {
    if path.starts_with("//") {
        return fault(format!("write `unix:/{}`, with one slash", path.trim_start_matches('/')));
    }
    if !path.starts_with('/') {
        return fault(format!("`{text}` is not a unix socket: its path begins with `/`"));
    }
    if path.ends_with('/') || path.contains('\0') || path.len() > UNIX_PATH_MAX {
        let message = "the path of a unix socket is a file's and has at most 107 bytes";
        return fault(message);
    }
    Ok(Target { protocol: Protocol::Http, address: Address::Unix(PathBuf::from(path)) })
}

fn parse_scheme(scheme: &str) -> Result<(Protocol, u16), TargetError> {
    match &*scheme.to_ascii_lowercase() {
        "http" => Ok((Protocol::Http, 80)),
        "https" => Ok((Protocol::Https, 443)),
        "h2c" => Ok((Protocol::H2c, 80)),
        "ws" | "wss" => {
            fault("WebSockets need no scheme of their own: write `http://` or `https://`")
        }
        "grpc" | "h2" => fault("write `h2c://` for gRPC and HTTP/2 in the clear"),
        "tcp" => fault("write the address alone, or `http://`"),
        other => {
            fault(format!("`{other}://` is not spoken: write `http://`, `https://` or `h2c://`"))
        }
    }
}

/// Refuses what an application's address cannot have: user, path, query, fragment.
fn authority_of(rest: &str) -> Result<&str, TargetError> {
    if let Some(authority) = rest.strip_suffix('/')
        && !authority.contains(['/', '?', '#', '@'])
    {
        return fault(format!(
            "the path of the request is forwarded as it is: write `{authority}`, without `/`"
        ));
    }
    if rest.contains('@') {
        return fault("a user name cannot be forwarded: write host and port only");
    }
    if rest.contains(['/', '?', '#']) {
        return fault(
            "the path of the request is forwarded as it is: write host and \
             port, without a path or query",
        );
    }
    Ok(rest)
}

fn parse_address(whole: &str, text: &str, default: Option<u16>) -> Result<Address, TargetError> {
    if let Some(rest) = text.strip_prefix('[') {
        let ip =
            rest.split_once(']').and_then(|(ip, port)| Some((ip.parse::<Ipv6Addr>().ok()?, port)));
        let Some((ip, port)) = ip else {
            return fault(format!(
                "`{whole}` is not an IPv6 address with a port, such as `[::1]:8080`"
            ));
        };
        let port = match port.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if port.is_empty() => port_or(default, whole)?,
            None => {
                return fault(format!(
                    "`{whole}` is not an IPv6 address with a port, such as `[::1]:8080`"
                ));
            }
        };
        return Ok(Address::Tcp(ip.to_string(), port));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return fault(format!("an IPv6 address stands in brackets: `[{text}]:8080`"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return match text.parse::<u64>() {
            Ok(_) if default.is_none() => Ok(Address::Tcp(LOOPBACK.to_owned(), parse_port(text)?)),
            _ => Ok(Address::Tcp(parse_host(whole, text)?, port_or(default, whole)?)),
        };
    };
    let host = match host {
        "" if default.is_none() => LOOPBACK.to_owned(),
        host if host.contains(':') => {
            return fault(format!("an IPv6 address stands in brackets: `[{host}]:{port}`"));
        }
        host => parse_host(whole, host)?,
    };
    Ok(Address::Tcp(host, parse_port(port)?))
}

const LOOPBACK: &str = "127.0.0.1";

fn port_or(default: Option<u16>, whole: &str) -> Result<u16, TargetError> {
    default.ok_or_else(|| TargetError(format!("the port is missing: write `{whole}:8080`")))
}

fn parse_port(text: &str) -> Result<u16, TargetError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port @ 1..) if digits => Ok(port),
        _ => fault(format!("`{text}` is not a port: a port is a number from 1 to 65535")),
    }
}

/// A name as resolvers and container networks know it (underscores too), or an IPv4 address.
fn parse_host(whole: &str, text: &str) -> Result<String, TargetError> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if name.len() > 253
        || !name.split('.').all(label)
        || numeric && name.parse::<Ipv4Addr>().is_err()
    {
        return fault(format!(
            "`{whole}` is not an application's address: `{text}` is no host name or IP address"
        ));
    }
    Ok(name.to_ascii_lowercase())
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tcp(protocol: Protocol, host: &str, port: u16) -> Target {
        Target { protocol, address: Address::Tcp(host.to_owned(), port) }
    }

    #[test]
    fn reads_every_form() {
        let forms = [
            ("8080", tcp(Protocol::Http, "127.0.0.1", 8080)),
            (":8080", tcp(Protocol::Http, "127.0.0.1", 8080)),
            ("127.0.0.1:8080", tcp(Protocol::Http, "127.0.0.1", 8080)),
            ("[::1]:8080", tcp(Protocol::Http, "::1", 8080)),
            ("app.internal:8080", tcp(Protocol::Http, "app.internal", 8080)),
            ("my_app:8080", tcp(Protocol::Http, "my_app", 8080)),
            ("http://10.0.0.5:3000", tcp(Protocol::Http, "10.0.0.5", 3000)),
            ("HTTP://App", tcp(Protocol::Http, "app", 80)),
            ("https://api.example.com", tcp(Protocol::Https, "api.example.com", 443)),
            ("https://[2001:db8::1]", tcp(Protocol::Https, "2001:db8::1", 443)),
            ("h2c://127.0.0.1:50051", tcp(Protocol::H2c, "127.0.0.1", 50051)),
        ];
        for (text, target) in forms {
            assert_eq!(Target::parse(text).as_ref(), Ok(&target), "{text}");
        }
        let unix = Target::parse("unix:/run/app.sock").unwrap();
        assert_eq!(unix.address, Address::Unix("/run/app.sock".into()));
    }

    #[test]
    fn says_what_would_be_right() {
        let messages = [
            ("localhost", "write `localhost:8080`"),
            ("::1:8080", "in brackets"),
            ("::1", "in brackets"),
            ("http://10.0.0.5:3000/", "write `10.0.0.5:3000`"),
            ("http://10.0.0.5:3000/api", "without a path"),
            ("http://10.0.0.5?x=1", "without a path or query"),
            ("http://me:secret@10.0.0.5", "user name"),
            ("ws://app:80", "`http://`"),
            ("grpc://app:80", "`h2c://`"),
            ("ftp://app:80", "`ftp://` is not spoken"),
            ("app:0", "from 1 to 65535"),
            ("app:65536", "from 1 to 65535"),
            ("70000", "from 1 to 65535"),
            ("app:+80", "from 1 to 65535"),
            ("1.2.3:80", "no host name or IP address"),
            ("a b:80", "no host name or IP address"),
            ("http://:80", "no host name or IP address"),
            ("", "no host name or IP address"),
            ("unix:app.sock", "begins with `/`"),
            ("unix:///run/app.sock", "write `unix:/run/app.sock`"),
        ];
        for (text, part) in messages {
            let error = Target::parse(text).unwrap_err();
            assert!(error.0.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Target::parse(&text);
        }

        #[test]
        fn what_is_shown_is_read_again(
            scheme in "(http://|https://|h2c://)?",
            host in "([a-z][a-z0-9-]{0,8}|[0-9]{1,3}|\\[::[1-9]\\])",
            port in "(:[0-9]{1,5})?",
        ) {
            let text = scheme + &host + &port;
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(Target::parse(&target.to_string()), Ok(target));
            }
        }
    }
}
