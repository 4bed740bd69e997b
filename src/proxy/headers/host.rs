//! The name that a request is for, normalised once at the edge.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

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

/// The longest name in text form (RFC 1035 §2.3.4: 255 octets on the wire).
const MAX_NAME: usize = 253;

/// The longest label of a name (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

impl Host {
    /// Reads a host without a port; IPv6 with or without brackets.
    ///
    /// # Errors
    ///
    /// Everything that is neither an IP address nor a name of letters, digits, `-` and `_`
    /// (RFC 952 knows no underscore, but names with one are served all over the world).
    /// A name that ends in a number and is no IPv4 address is refused: `127.1` and `0x7f.1` mean
    /// an address to some readers and a name to others.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidHost> {
        let text = match text {
            [b'[', inner @ .., b']'] => return ipv6(inner).map(Host),
            text if text.contains(&b':') => return ipv6(text).map(Host),
            text => text,
        };
        normal_name(text).map(|name| Host(name.into_owned()))
    }

    /// Takes over what [`normal_name`] or [`ipv6`] returned.
    pub(super) fn from_normal(text: &str) -> Self {
        Self(text.to_owned())
    }

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
    pub fn bracketed(&self) -> Cow<'_, str> {
        if self.0.parse::<Ipv6Addr>().is_ok() {
            format!("[{self}]").into()
        } else {
            (&*self.0).into()
        }
    }
}

impl HostPattern {
    /// Reads `*`, `*.example.org`, a name, or an address.
    ///
    /// # Errors
    ///
    /// As [`Host::parse`]; a `*` stands for one whole label and only in front of a name.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        let Some(parent) = text.strip_prefix("*.") else {
            return Host::parse(text.as_bytes()).map(HostPattern::Exact);
        };
        let parent = Host::parse(parent.as_bytes())?;
        if parent.is_ip() { Err(InvalidHost) } else { Ok(HostPattern::Wildcard(parent)) }
    }

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

/// A name or an IPv4 address in normal form; borrowed when it is already.
pub(super) fn normal_name(text: &[u8]) -> Result<Cow<'_, str>, InvalidHost> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(InvalidHost);
    }
    let (mut label, mut upper) = (0, false);
    for &byte in text {
        match byte {
            b'.' if label == 0 => return Err(InvalidHost),
            b'.' => {
                label = 0;
                continue;
            }
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'A'..=b'Z' => upper = true,
            _ => return Err(InvalidHost),
        }
        label += 1;
        if label > MAX_LABEL {
            return Err(InvalidHost);
        }
    }
    let text = std::str::from_utf8(text).map_err(|_| InvalidHost)?;
    if label == 0 || (ends_in_number(text) && text.parse::<Ipv4Addr>().is_err()) {
        return Err(InvalidHost);
    }
    Ok(if upper { text.to_ascii_lowercase().into() } else { text.into() })
}

/// Whether other readers take the text for an IPv4 address (URL Standard, "ends in a number").
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// An IPv6 address without brackets, in its canonical form (RFC 5952).
pub(super) fn ipv6(text: &[u8]) -> Result<String, InvalidHost> {
    let text = std::str::from_utf8(text).map_err(|_| InvalidHost)?;
    text.parse::<Ipv6Addr>().map(|address| address.to_string()).map_err(|_| InvalidHost)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_have_one_spelling() {
        for (text, host) in [
            ("a.test", "a.test"),
            ("A.TEST", "a.test"),
            ("a.test.", "a.test"),
            ("localhost", "localhost"),
            ("my_app.internal", "my_app.internal"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("1.2.3.4.example", "1.2.3.4.example"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("[2001:DB8:0:0:0:0:0:1]", "2001:db8::1"),
        ] {
            assert_eq!(Host::parse(text.as_bytes()).unwrap().as_str(), host, "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a.".repeat(4500);
        let label = "a".repeat(64);
        for text in [
            "",
            ".",
            "..",
            "..a",
            "a..b",
            ".a",
            "a b",
            "a,b",
            "a/b",
            "a\\b",
            "a@b",
            "a%2eb",
            "a?x",
            "a#x",
            "a\"><x>",
            "[::1",
            "::1]",
            "[]",
            "[a.test]",
            "[fe80::1%eth0]",
            "[v1.x]",
            "127.1",
            "1.2.3.256",
            "0x7f.1",
            "a.0X7F",
            "01.2.3.4",
            "a.test:80",
            "*",
            "*.a",
            "b\u{fc}cher",
            "a\0",
            "a\r\n",
            long.as_str(),
            label.as_str(),
        ] {
            assert_eq!(Host::parse(text.as_bytes()), Err(InvalidHost), "{text:?}");
        }
        assert_eq!(Host::parse(b"a\xff"), Err(InvalidHost));
    }

    #[test]
    fn patterns() {
        let host = |text: &str| Host::parse(text.as_bytes()).unwrap();
        assert_eq!(HostPattern::parse("*").unwrap(), HostPattern::Any);
        assert_eq!(
            HostPattern::parse("*.Example.ORG").unwrap(),
            HostPattern::Wildcard(host("example.org"))
        );
        assert_eq!(HostPattern::parse("[::1]").unwrap(), HostPattern::Exact(host("::1")));
        assert_eq!(HostPattern::parse("::1").unwrap(), HostPattern::Exact(host("::1")));
        for text in
            ["", "*.", "**", "*a.test", "a.*.test", "*.*.test", "*.1.2.3.4", "*.[::1]", "*:80"]
        {
            assert_eq!(HostPattern::parse(text), Err(InvalidHost), "{text:?}");
        }
    }

    fn hosts() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            "a.test",
            "A.Test.",
            "::1",
            "[::1]",
            "2001:DB8::0:1",
            "::ffff:1.2.3.4",
            "1.2.3.4",
            "1.2.3",
            "0x7f",
            "a.0x1",
            "a..b",
            ".",
            "*",
            "*.a.test",
            "*.1.2.3.4",
            "*.*",
            "xn--a",
            "a_b.test",
        ]);
        prop_oneof![
            odd.prop_map(str::to_owned),
            "[a-zA-Z0-9_.:*\\[\\]-]{0,12}",
            "([a-z]{1,3}\\.){0,4}[a-z0-9]{1,3}"
        ]
    }

    proptest! {
        #[test]
        fn a_host_in_normal_form_stays_as_it_is(text in hosts()) {
            let Ok(host) = Host::parse(text.as_bytes()) else { return Ok(()) };
            prop_assert_eq!(Host::parse(host.as_str().as_bytes()), Ok(host.clone()));
            prop_assert_eq!(Host::parse(host.bracketed().as_bytes()), Ok(host.clone()));
            prop_assert_eq!(Host::parse(text.to_uppercase().as_bytes()), Ok(host.clone()));
            prop_assert!(host.as_str().len() <= MAX_NAME);
            let allowed = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_:".contains(&byte)
            };
            prop_assert!(host.as_str().bytes().all(allowed));
            prop_assert_eq!(host.is_ip(), host.as_str().parse::<std::net::IpAddr>().is_ok());
        }

        #[test]
        fn a_name_is_ours_only_where_no_reader_takes_it_for_a_number(text in "[0-9a-fx.]{1,12}") {
            let last = text.strip_suffix('.').unwrap_or(&text).rsplit('.').next().unwrap();
            let digits = last.strip_prefix("0x").unwrap_or(last);
            let is_number = last.parse::<u128>().is_ok()
                || last.starts_with("0x") && (digits.is_empty() || u128::from_str_radix(digits, 16).is_ok());
            if is_number && let Ok(host) = Host::parse(text.as_bytes()) {
                prop_assert!(host.as_str().parse::<Ipv4Addr>().is_ok(), "{}", host);
            }
        }

        #[test]
        fn a_pattern_is_read_as_it_is_shown_and_takes_one_label(text in hosts(), name in hosts()) {
            let Ok(pattern) = HostPattern::parse(&text) else { return Ok(()) };
            prop_assert_eq!(HostPattern::parse(&pattern.to_string()), Ok(pattern.clone()));
            let Ok(host) = Host::parse(name.as_bytes()) else { return Ok(()) };
            let expected = match pattern.to_string().strip_prefix('*') {
                None => pattern.to_string() == host.as_str(),
                Some("") => true,
                Some(rest) => host.as_str().strip_suffix(rest).is_some_and(|l| !l.is_empty() && !l.contains('.')),
            };
            prop_assert_eq!(pattern.matches(&host), expected, "{} and {}", pattern, host);
        }

        #[test]
        fn no_bytes_panic(text: Vec<u8>) {
            let _ = Host::parse(&text);
        }
    }
}
