//! Which host and port a request names, in its target and in its `Host` field.

use std::borrow::Cow;
use std::fmt;

use http::header::HOST;
use http::{HeaderMap, Uri, Version};

use super::host::{Host, InvalidHost, ipv6, normal_name};

/// A host and an optional port, the host in the form of [`Host`]; borrowed from the message when
/// it is written like that there, so that the common case allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRef<'a> {
    /// A lower-case name without trailing dot, or an IP address without brackets.
    pub host: Cow<'a, str>,
    /// The port, if one was written: `a.test:` has none.
    pub port: Option<u16>,
}

/// Why a request does not say which host it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// There is neither a `Host` field nor, in HTTP/2, an `:authority`.
    Missing,
    /// There is more than one `Host` line.
    Repeated,
    /// The `Host` field is no host with an optional port.
    InvalidField,
    /// The authority of the target is no host with an optional port.
    InvalidTarget,
    /// The target is neither a path nor an `http` or `https` URL.
    TargetForm,
    /// The target and the `Host` field name different places.
    Disagree,
}

impl<'a> AuthorityRef<'a> {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port` (RFC 3986 §3.2 without userinfo).
    ///
    /// # Errors
    ///
    /// Hosts as [`Host::parse`], but IPv6 only in brackets; ports that are no number up to 65535.
    pub fn parse(text: &'a [u8]) -> Result<Self, InvalidHost> {
        if let Some(rest) = text.strip_prefix(b"[") {
            let end = rest.iter().position(|&byte| byte == b']').ok_or(InvalidHost)?;
            let (address, rest) = rest.split_at_checked(end).ok_or(InvalidHost)?;
            let port = match rest {
                [b']'] => None,
                [b']', b':', port @ ..] => parse_port(port)?,
                _ => return Err(InvalidHost),
            };
            return Ok(Self { host: ipv6(address)?.into(), port });
        }
        let (host, port) = match text.iter().position(|&byte| byte == b':') {
            None => (text, None),
            Some(colon) => {
                let (host, rest) = text.split_at_checked(colon).ok_or(InvalidHost)?;
                (host, parse_port(rest.get(1..).unwrap_or_default())?)
            }
        };
        Ok(Self { host: normal_name(host)?, port })
    }

    /// The host as a value of its own.
    #[must_use]
    pub fn to_host(&self) -> Host {
        Host::from_normal(&self.host)
    }

    /// The same, independent of the message.
    #[must_use]
    pub fn into_owned(self) -> AuthorityRef<'static> {
        AuthorityRef { host: Cow::Owned(self.host.into_owned()), port: self.port }
    }

    /// Appends what [`fmt::Display`] shows, without its machinery.
    pub fn write(&self, out: &mut Vec<u8>) {
        let v6 = self.host.contains(':');
        if v6 {
            out.push(b'[');
        }
        out.extend_from_slice(self.host.as_bytes());
        if v6 {
            out.push(b']');
        }
        if let Some(port) = self.port {
            out.push(b':');
            out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
    }

    /// Whether both name the same place where a missing port means `default`.
    fn agrees(&self, other: &Self, default: Option<u16>) -> bool {
        self.host == other.host && self.port.or(default) == other.port.or(default)
    }
}

/// The form of a URL: IPv6 in brackets, the port if there is one.
impl fmt::Display for AuthorityRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The authority that a request is for.
///
/// HTTP/1 (RFC 9112 §3.2): exactly one `Host` line; a target in absolute form must be `http` or
/// `https`, without userinfo, and name the same host and port. HTTP/2 and 3 (RFC 9113 §8.3.1):
/// `:authority` or `Host`, and the same from both where both are there. `CONNECT` is not for here.
///
/// # Errors
///
/// Each of [`HostError`]; all are the client's fault, answered with 400.
pub fn request_authority<'a>(
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Result<AuthorityRef<'a>, HostError> {
    let field = host_field(headers)?;
    let target = uri
        .authority()
        .map(|text| AuthorityRef::parse(text.as_str().as_bytes()))
        .transpose()
        .map_err(|_| HostError::InvalidTarget)?;
    match (target, field) {
        (None, None) => Err(HostError::Missing),
        (None, Some(field)) => Ok(field),
        (Some(_), None) if version < Version::HTTP_2 => Err(HostError::Missing),
        (Some(target), field) => {
            let default = match uri.scheme_str() {
                Some("http") => Some(80),
                Some("https") => Some(443),
                Some(_) => return Err(HostError::TargetForm),
                // `GET p` and `GET a.test:80` are read as the authority form of CONNECT.
                None if version < Version::HTTP_2 => return Err(HostError::TargetForm),
                None => None,
            };
            match field {
                Some(field) if !field.agrees(&target, default) => Err(HostError::Disagree),
                _ => Ok(target),
            }
        }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostError::Missing => "the request names no host",
            HostError::Repeated => "the request has more than one Host field",
            HostError::InvalidField => "the Host field is not a host with an optional port",
            HostError::InvalidTarget => {
                "the target's authority is not a host with an optional port"
            }
            HostError::TargetForm => "the target is neither a path nor an http or https URL",
            HostError::Disagree => "the target and the Host field name different hosts",
        })
    }
}

impl std::error::Error for HostError {}

fn host_field(headers: &HeaderMap) -> Result<Option<AuthorityRef<'_>>, HostError> {
    let mut lines = headers.get_all(HOST).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(HostError::Repeated);
    }
    AuthorityRef::parse(line.as_bytes()).map(Some).map_err(|_| HostError::InvalidField)
}

/// At most five digits, so that no reader's integer overflows on what ours accepts.
fn parse_port(digits: &[u8]) -> Result<Option<u16>, InvalidHost> {
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(InvalidHost);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| InvalidHost)?;
    digits.parse().map(Some).map_err(|_| InvalidHost)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use http::HeaderValue;

    fn headers(hosts: &[&[u8]]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for host in hosts {
            map.append(HOST, HeaderValue::from_bytes(host).unwrap());
        }
        map
    }

    fn ask(version: Version, uri: &str, hosts: &[&[u8]]) -> Result<String, HostError> {
        let (uri, headers) = (uri.parse().unwrap(), headers(hosts));
        request_authority(version, &uri, &headers).map(|authority| authority.to_string())
    }

    #[test]
    fn every_spelling_of_a_host_is_the_same() {
        for (text, host, port) in [
            ("a.test", "a.test", None),
            ("A.TEST", "a.test", None),
            ("a.test.", "a.test", None),
            ("a.test:", "a.test", None),
            ("a.test:443", "a.test", Some(443)),
            ("a.test.:08080", "a.test", Some(8080)),
            ("a_b.test", "a_b.test", None),
            ("10.0.0.1:1", "10.0.0.1", Some(1)),
            ("[::1]", "::1", None),
            ("[::1]:", "::1", None),
            ("[0:0::1]:8443", "::1", Some(8443)),
        ] {
            let authority = AuthorityRef::parse(text.as_bytes()).unwrap();
            assert_eq!((&*authority.host, authority.port), (host, port), "{text}");
        }
    }

    #[test]
    fn a_normal_host_is_borrowed() {
        for text in ["a.test", "a.test.", "a.test:8080", "10.0.0.1"] {
            let authority = AuthorityRef::parse(text.as_bytes()).unwrap();
            assert!(matches!(authority.host, Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        let long = vec![b'a'; 9000];
        let mut refused: Vec<&[u8]> = vec![
            b"",
            b":",
            b":80",
            b"u:p@a.test",
            b"u@a.test",
            b"a.test/x",
            b"a b",
            b"a, b",
            b"a,b",
            b"a.test:99999",
            b"a.test:65536",
            b"a.test:000080",
            b":80:81",
            b"a:80:81",
            b"a:8x",
            b":8x",
            b"a:+80",
            b"a:-1",
            b"a: 80",
            b"a%2etest",
            b"a\\b",
            b"a?x",
            b"a#x",
            b"a\"><x>",
            b"a'b",
            b"[::1",
            b"[::1]x",
            b"[::1]80",
            b"[::1]:x",
            b"::1",
            b"[]",
            b"[1]",
            b"..a",
            b".",
            b"a..b",
            b"a\xff",
            b"\xc3\xa9.test",
            b" a",
            b"a ",
            b"a\tb",
            b"*",
            b"a;b",
        ];
        refused.push(&long);
        for text in refused {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(AuthorityRef::parse(text), Err(InvalidHost), "{shown:?}");
        }
    }

    #[test]
    fn http_1_needs_one_host_line() {
        let v = Version::HTTP_11;
        assert_eq!(ask(v, "/p", &[b"A.test:8080"]).unwrap(), "a.test:8080");
        assert_eq!(ask(v, "*", &[b"[::1]"]).unwrap(), "[::1]");
        assert_eq!(ask(v, "//evil.test/p", &[b"a.test"]).unwrap(), "a.test");
        assert_eq!(ask(v, "/p", &[]), Err(HostError::Missing));
        assert_eq!(ask(Version::HTTP_10, "/p", &[]), Err(HostError::Missing));
        assert_eq!(ask(v, "/p", &[b"a.test", b"b.test"]), Err(HostError::Repeated));
        assert_eq!(ask(v, "/p", &[b"a.test", b"a.test"]), Err(HostError::Repeated));
        assert_eq!(ask(v, "/p", &[b""]), Err(HostError::InvalidField));
        assert_eq!(ask(v, "/p", &[b"a\xff"]), Err(HostError::InvalidField));
        assert_eq!(ask(v, "/p", &[b"u:p@a.test"]), Err(HostError::InvalidField));
    }

    #[test]
    fn an_absolute_target_agrees_with_host() {
        let v = Version::HTTP_11;
        for (uri, host) in [
            ("http://a.test/p", "a.test"),
            ("http://A.test/p", "a.test."),
            ("http://a.test:80/p", "a.test"),
            ("http://a.test/p", "a.test:80"),
            ("https://a.test/p", "a.test:443"),
            ("http://a.test?x", "a.test"),
            ("http://[::1]/", "[0::1]"),
        ] {
            assert!(ask(v, uri, &[host.as_bytes()]).is_ok(), "{uri} {host}");
        }
        for (uri, host, error) in [
            ("http://b.test/p", "a.test", HostError::Disagree),
            ("http://a.test:81/p", "a.test", HostError::Disagree),
            ("https://a.test/p", "a.test:80", HostError::Disagree),
            ("http://u:p@a.test/p", "a.test", HostError::InvalidTarget),
            ("http://@a.test/p", "a.test", HostError::InvalidTarget),
            ("ftp://a.test/p", "a.test", HostError::TargetForm),
            ("p", "a.test", HostError::TargetForm),
            ("a.test:80", "a.test", HostError::TargetForm),
        ] {
            assert_eq!(ask(v, uri, &[host.as_bytes()]), Err(error), "{uri} {host}");
        }
        assert_eq!(ask(v, "http://a.test/", &[]), Err(HostError::Missing));
    }

    #[test]
    fn http_2_takes_authority_or_host_but_not_two_opinions() {
        let v = Version::HTTP_2;
        assert_eq!(ask(v, "https://a.test/p", &[]).unwrap(), "a.test");
        assert_eq!(ask(v, "/p", &[b"a.test"]).unwrap(), "a.test");
        assert_eq!(ask(v, "https://a.test/p", &[b"a.test:443"]).unwrap(), "a.test");
        assert_eq!(ask(v, "/p", &[]), Err(HostError::Missing));
        assert_eq!(ask(v, "https://a.test/p", &[b"evil.test"]), Err(HostError::Disagree));
        assert_eq!(ask(v, "https://a.test/p", &[b"a.test", b"a.test"]), Err(HostError::Repeated));
        assert_eq!(ask(v, "https://u:p@a.test/p", &[]), Err(HostError::InvalidTarget));
    }

    fn texts() -> impl Strategy<Value = String> {
        let host = prop::sample::select(vec![
            "a.test", "A.TEST", "a.test.", "b.test", "[::1]", "[::0:1]", "10.0.0.1", "::1",
            "u@a.test", "",
        ]);
        let port = prop::sample::select(vec![
            "", ":", ":80", ":080", ":443", ":0", ":65535", ":65536", ":x",
        ]);
        (host, port).prop_map(|(host, port)| format!("{host}{port}"))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in prop_oneof![texts(), "[a-z0-9.:@\\[\\]]{0,10}"]) {
            let Ok(authority) = AuthorityRef::parse(text.as_bytes()) else { return Ok(()) };
            let mut written = Vec::new();
            authority.write(&mut written);
            let shown = authority.to_string();
            prop_assert_eq!(&written, shown.as_bytes());
            prop_assert_eq!(AuthorityRef::parse(&written), Ok(authority.clone()));
            prop_assert_eq!(Host::parse(authority.host.as_bytes()).unwrap(), authority.to_host());
        }

        /// RFC 9112 §3.2, RFC 9113 §8.3.1, written down once more.
        #[test]
        fn a_request_is_for_one_place_or_for_none(
            fields in prop::collection::vec(texts(), 0..3), target in prop::option::of(texts()),
            scheme in prop::sample::select(vec!["http", "https", "ftp"]), h2: bool,
        ) {
            let version = if h2 { Version::HTTP_2 } else { Version::HTTP_11 };
            let text = target.as_ref().map_or("/".to_owned(), |target| format!("{scheme}://{target}/"));
            let Ok(uri) = text.parse::<Uri>() else { return Ok(()) };
            let map = headers(&fields.iter().map(String::as_bytes).collect::<Vec<_>>());
            let told = request_authority(version, &uri, &map);
            let read = |text: &String| AuthorityRef::parse(text.as_bytes()).ok().map(AuthorityRef::into_owned);
            let default = if scheme == "http" { 80 } else { 443 };
            let place = |place: &AuthorityRef<'_>| (place.host.to_string(), place.port.unwrap_or(default));
            let expected = match (&fields[..], &target) {
                ([], Some(target)) if h2 => read(target),
                ([field], None) => read(field),
                ([field], Some(target)) => {
                    let both = read(field).zip(read(target));
                    both.filter(|(field, target)| place(field) == place(target)).map(|both| both.1)
                }
                _ => None,
            };
            let expected = expected.filter(|_| target.is_none() || scheme != "ftp");
            prop_assert_eq!(told.ok(), expected, "{} with {:?}", uri, fields);
        }
    }
}
