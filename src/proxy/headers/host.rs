//! The name that a request is for, normalised once at the edge.

use std::fmt;
use std::net::Ipv6Addr;

/// A validated host without its port: a lower-case DNS name without trailing dot, an IPv4 address,
/// or an IPv6 address in its canonical form without brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

/// Which hosts a site answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This host.
    Exact(Host),
    /// Any one label in front of this name: `*.example.org`.
    Wildcard(Host),
    /// Any name that no other site has: `*`.
    Any,
}

/// A text that is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHost;

impl Host {
    /// The normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an IP address.
    #[must_use]
    pub fn is_ip(&self) -> bool {
        self.0.parse::<std::net::IpAddr>().is_ok()
    }

    /// The form of a URL's authority: IPv6 in brackets.
    #[must_use]
    pub fn bracketed(&self) -> std::borrow::Cow<'_, str> {
        if self.0.parse::<Ipv6Addr>().is_ok() {
            format!("[{}]", self.0).into()
        } else {
            (&*self.0).into()
        }
    }
}

impl HostPattern {
    /// Whether `host` is meant.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            HostPattern::Exact(name) => name == host,
            HostPattern::Wildcard(parent) => host
                .0
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == parent.0),
            HostPattern::Any => true,
        }
    }

    /// Which of several matching patterns wins: the greatest.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            HostPattern::Exact(_) => 2,
            HostPattern::Wildcard(_) => 1,
            HostPattern::Any => 0,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => name.fmt(f),
            HostPattern::Wildcard(parent) => write!(f, "*.{parent}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a host name or IP address")
    }
}

impl std::error::Error for InvalidHost {}

impl Host {
    /// Stand-in.
    ///
    /// # Errors
    /// When the text is no host.
    pub fn parse(text: &[u8]) -> Result<Host, InvalidHost> {
        let text = std::str::from_utf8(text).map_err(|_| InvalidHost)?;
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        let text = text.trim_matches(['[', ']']);
        if text.is_empty() || !text.chars().all(good) {
            return Err(InvalidHost);
        }
        Ok(Host(text.to_ascii_lowercase()))
    }
}

impl HostPattern {
    /// Stand-in.
    ///
    /// # Errors
    /// When the text is no pattern.
    pub fn parse(text: &str) -> Result<HostPattern, InvalidHost> {
        match text.strip_prefix("*.") {
            Some(parent) => Ok(HostPattern::Wildcard(Host::parse(parent.as_bytes())?)),
            None if text == "*" => Ok(HostPattern::Any),
            None => Ok(HostPattern::Exact(Host::parse(text.as_bytes())?)),
        }
    }
}
