//! Who the client is, and what the application is told about it.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::authority::AuthorityRef;

/// The addresses that a request came through.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `http` or `https`, as the client spoke.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The authority that the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Where a request comes from, after what trusted proxies say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The right-most address that is not a trusted proxy's. Never an IPv4-mapped IPv6 address.
    pub address: IpAddr,
    /// Whether the connection itself comes from a trusted proxy, so that its word counts.
    pub peer_trusted: bool,
}

/// The `X-Forwarded-*` fields of a forwarded request, built anew from values, never from text that
/// a client sent, so that no byte of a client's choosing is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// Told by a trusted peer, as far as it can be read, in the order of the field.
    chain: Vec<IpAddr>,
    peer: IpAddr,
    client: Client,
    https: bool,
    host: AuthorityRef<'a>,
}

impl Client {
    /// Walks `X-Forwarded-For` from the right, over all its lines, past every trusted proxy.
    ///
    /// What cannot be read as an address ends the walk: what is left of it is hearsay.
    #[must_use]
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        if !contains(trusted, peer) {
            return Self { address: peer, peer_trusted: false };
        }
        let mut address = peer;
        for entry in entries_from_the_right(headers) {
            address = entry;
            if !contains(trusted, entry) {
                break;
            }
        }
        Self { address, peer_trusted: true }
    }
}

impl<'a> Forwarded<'a> {
    /// What to tell about a request that came from `peer`, over TLS or not, for `host`.
    ///
    /// A trusted peer's `X-Forwarded-Proto` and `-Host` are kept where there is exactly one and it
    /// is well-formed, and its `X-Forwarded-For` is continued.
    #[must_use]
    pub fn of(
        peer: IpAddr,
        headers: &'a HeaderMap,
        trusted: &[IpNet],
        tls: bool,
        host: &AuthorityRef<'a>,
    ) -> Self {
        let client = Client::of(peer, headers, trusted);
        let peer = peer.to_canonical();
        if !client.peer_trusted {
            return Self { chain: Vec::new(), peer, client, https: tls, host: host.clone() };
        }
        // What stands left of the client is the client's own invention, and applications that read
        // the left-most address would believe it.
        let mut chain = Vec::new();
        for entry in entries_from_the_right(headers) {
            chain.push(entry);
            if !contains(trusted, entry) {
                break;
            }
        }
        chain.reverse();
        let https = single(headers, &X_FORWARDED_PROTO).and_then(parse_proto).unwrap_or(tls);
        let host = single(headers, &X_FORWARDED_HOST)
            .and_then(|text| AuthorityRef::parse(text).ok())
            .unwrap_or_else(|| host.clone());
        Self { chain, peer, client, https, host }
    }

    /// The client, as logged and counted.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client
    }

    /// Whether the client spoke HTTPS, be it to us or to a trusted proxy.
    #[must_use]
    pub fn https(&self) -> bool {
        self.https
    }

    /// The authority that the client asked for, from us or from a trusted proxy.
    #[must_use]
    pub fn host(&self) -> &AuthorityRef<'a> {
        &self.host
    }

    /// Writes the three lines of an HTTP/1 head.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"x-forwarded-for: ");
        self.write_for(out);
        out.extend_from_slice(b"\r\nx-forwarded-proto: ");
        out.extend_from_slice(self.proto().as_bytes());
        out.extend_from_slice(b"\r\nx-forwarded-host: ");
        self.host.write(out);
        out.extend_from_slice(b"\r\n");
    }

    /// Puts the three fields into `headers`, in place of what is there.
    pub fn insert(&self, headers: &mut HeaderMap) {
        let mut text = Vec::with_capacity(64);
        self.write_for(&mut text);
        insert_text(headers, X_FORWARDED_FOR, &text);
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(self.proto()));
        text.clear();
        self.host.write(&mut text);
        insert_text(headers, X_FORWARDED_HOST, &text);
    }

    fn proto(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    fn write_for(&self, out: &mut Vec<u8>) {
        for address in &self.chain {
            write_address(out, *address);
            out.extend_from_slice(b", ");
        }
        write_address(out, self.peer);
    }
}

/// An address as text; most are IPv4, which needs no formatter.
fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let mut digits = itoa::Buffer::new();
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(digits.format(octet).as_bytes());
            }
        }
        // Writing into memory cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

/// Addresses, hosts and ports are visible ASCII, so that this always succeeds.
fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: &[u8]) {
    match HeaderValue::from_bytes(text) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => drop(headers.remove(name)),
    }
}

/// The addresses of all `X-Forwarded-For` lines from the last to the first, up to what is none.
fn entries_from_the_right(headers: &HeaderMap) -> impl Iterator<Item = IpAddr> + '_ {
    headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
        .map_while(parse_entry)
}

/// `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:5678`.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let address = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => IpAddr::V6(inner.parse().ok()?),
        None => match text.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
        },
    };
    Some(address.to_canonical())
}

fn parse_proto(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"https") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"http") {
        Some(false)
    } else {
        None
    }
}

/// The value of a field that has exactly one line.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    lines.next().is_none().then_some(line.as_bytes())
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "10.0.0.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()]
    }

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn client(peer: &str, lines: &[&str]) -> String {
        let lines: Vec<_> = lines.iter().map(|line| (X_FORWARDED_FOR, *line)).collect();
        Client::of(ip(peer), &fields(&lines), &trusted()).address.to_string()
    }

    fn written(peer: &str, lines: &[(HeaderName, &str)], tls: bool, host: &str) -> String {
        let headers = fields(lines);
        let host = AuthorityRef::parse(host.as_bytes()).unwrap();
        let forwarded = Forwarded::of(ip(peer), &headers, &trusted(), tls, &host);
        let mut out = Vec::new();
        forwarded.write(&mut out);
        let mut map = fields(&[(X_FORWARDED_FOR, "6.6.6.6"), (X_FORWARDED_FOR, "7.7.7.7")]);
        forwarded.insert(&mut map);
        let text = String::from_utf8(out).unwrap();
        let of_map: String = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST]
            .iter()
            .flat_map(|name| map.get_all(name).iter().map(move |value| (name, value)))
            .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()))
            .collect();
        assert_eq!(text, of_map, "both ways of writing say the same");
        text
    }

    #[test]
    fn the_client_is_the_rightmost_untrusted_address() {
        for (peer, lines, expected) in [
            ("1.2.3.4", &[][..], "1.2.3.4"),
            ("1.2.3.4", &["6.6.6.6", "7.7.7.7"], "1.2.3.4"),
            ("::ffff:1.2.3.4", &["6.6.6.6"], "1.2.3.4"),
            (PEER, &[], PEER),
            ("::ffff:10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            (PEER, &["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            (PEER, &["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
            (PEER, &["1.2.3.4, 10.9.9.9"], "1.2.3.4"),
            (PEER, &["1.2.3.4", "10.9.9.9, 10.8.8.8"], "1.2.3.4"),
            (PEER, &["1.2.3.4:5678"], "1.2.3.4"),
            (PEER, &["[2001:db8::7]:5678"], "2001:db8::7"),
            (PEER, &["[2001:db8::7]"], "2001:db8::7"),
            (PEER, &["2001:db8::7"], "2001:db8::7"),
            (PEER, &["::ffff:1.2.3.4"], "1.2.3.4"),
            (PEER, &["6.6.6.6, 2001:db8:1::9"], "6.6.6.6"),
            (PEER, &["1.2.3.4,, ,"], "1.2.3.4"),
            (PEER, &["1.2.3.4, unknown, 10.9.9.9"], "10.9.9.9"),
            (PEER, &["1.2.3.4, unknown"], PEER),
            (PEER, &["1.2.3.4, 1.2.3"], PEER),
            (PEER, &["1.2.3.4, _hidden"], PEER),
            (PEER, &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ] {
            assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let lines = [
            (X_FORWARDED_FOR, "6.6.6.6"),
            (X_FORWARDED_FOR, "10.0.0.9"),
            (X_FORWARDED_PROTO, "https"),
            (X_FORWARDED_HOST, "evil.test"),
        ];
        assert_eq!(
            written("1.2.3.4", &lines, false, "A.test:8080"),
            "x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: http\r\nx-forwarded-host: a.test:8080\r\n"
        );
    }

    #[test]
    fn a_trusted_peer_is_continued() {
        let lines = [
            (X_FORWARDED_FOR, "6.6.6.6, 1.2.3.4:99"),
            (X_FORWARDED_FOR, "[2001:db8::7]:1"),
            (X_FORWARDED_PROTO, "HTTPS"),
            (X_FORWARDED_HOST, "Shop.test:444"),
        ];
        assert_eq!(
            written(PEER, &lines, false, "a.test"),
            "x-forwarded-for: 2001:db8::7, 10.0.0.1\r\n\
             x-forwarded-proto: https\r\nx-forwarded-host: shop.test:444\r\n"
        );
    }

    #[test]
    fn what_a_trusted_peer_garbles_is_replaced() {
        let garbled = "x-forwarded-for: 5.5.5.5, 10.0.0.1\r\nx-forwarded-proto: https\r\n\
                       x-forwarded-host: [::1]:8443\r\n";
        for (proto, host) in [("ftp", "a b"), ("https, http", "u@a.test"), ("", "a.test, b.test")] {
            let lines = [
                (X_FORWARDED_FOR, "6.6.6.6, <script>, 5.5.5.5"),
                (X_FORWARDED_PROTO, proto),
                (X_FORWARDED_HOST, host),
            ];
            assert_eq!(written(PEER, &lines, true, "[::1]:8443"), garbled);
        }
        let twice = [(X_FORWARDED_PROTO, "https"), (X_FORWARDED_PROTO, "http")];
        assert!(written(PEER, &twice, false, "a.test").contains("proto: http\r\n"));
    }

    fn chains() -> impl Strategy<Value = Vec<String>> {
        let entry = prop::sample::select(vec![
            "1.2.3.4",
            "10.1.2.3",
            "::ffff:10.0.0.9",
            "::ffff:1.2.3.4",
            "2001:db8:1::7",
            "2001:db8:2::7",
            "[2001:db8:1::8]:99",
            "10.0.0.2:80",
            "6.6.6.6:1",
            "unknown",
            "_hidden",
            "",
            " ",
            "1.2.3",
            "x\"y",
        ]);
        let line = prop::collection::vec(entry, 0..4).prop_map(|entries| entries.join(", "));
        prop::collection::vec(line, 0..4)
    }

    /// As RFC 7239 §7.4 would have it: all lines as one list, trusted from the right.
    fn expected(peer: IpAddr, lines: &[String]) -> IpAddr {
        let is_ours = |address: IpAddr| trusted().iter().any(|network| network.contains(&address));
        let mut client = peer.to_canonical();
        let list = lines.join(",");
        for entry in list.split(',').rev().map(str::trim).filter(|entry| !entry.is_empty()) {
            let read = entry
                .parse::<IpAddr>()
                .ok()
                .or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()));
            let Some(address) = read.filter(|_| is_ours(client)) else { break };
            client = address.to_canonical();
        }
        client
    }

    proptest! {
        #[test]
        fn one_list_however_it_is_cut_into_lines(lines in chains(), trusted_peer: bool) {
            let peer = ip(if trusted_peer { PEER } else { "9.9.9.9" });
            let values: Vec<_> = lines.iter().map(|line| (X_FORWARDED_FOR, line.as_str())).collect();
            let client = Client::of(peer, &fields(&values), &trusted());
            prop_assert_eq!(client.address, expected(peer, &lines));
            let joined = lines.join(",");
            let again = Client::of(peer, &fields(&[(X_FORWARDED_FOR, &joined)]), &trusted());
            prop_assert_eq!(client, again);
        }

        /// What one of us writes, the next one believes, if it trusts the first.
        #[test]
        fn two_of_us_in_a_row_tell_the_same_client(lines in chains(), trusted_peer: bool) {
            let peer = ip(if trusted_peer { PEER } else { "9.9.9.9" });
            let values: Vec<_> = lines.iter().map(|line| (X_FORWARDED_FOR, line.as_str())).collect();
            let headers = fields(&values);
            let host = AuthorityRef::parse(b"a.test").unwrap();
            let first = Forwarded::of(peer, &headers, &trusted(), true, &host);
            let mut onward = HeaderMap::new();
            first.insert(&mut onward);
            let second = Forwarded::of(ip("10.7.7.7"), &onward, &trusted(), false, &host);
            prop_assert_eq!(first.client().address, second.client().address);
            prop_assert_eq!((second.https(), second.host()), (true, &host));
            let text = onward.get(X_FORWARDED_FOR).unwrap().to_str().unwrap();
            prop_assert!(text.split(", ").all(|entry| entry.parse::<IpAddr>().is_ok()), "{}", text);
            prop_assert_eq!(text.rsplit(", ").next(), Some(&*peer.to_string()));
        }
    }
}
