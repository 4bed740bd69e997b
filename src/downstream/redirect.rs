//! From plain HTTP to HTTPS.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::HeaderValue;

/// A target that cannot be put behind an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidTarget {
    /// It does not begin with `/`: `*`, or something that would join the host's name.
    NoPath,
    /// It has a byte that no URL has (a control, a space, `#`, one beyond ASCII).
    RawByte,
}

/// The `Location` of the same place on HTTPS: `https://host[:port]` and the client's own bytes.
///
/// `host` is the host of a configured site in normal form, without brackets; the port is written
/// unless it is 443. `target` is path and query as the client sent them; since an authority of ours
/// stands before it, `//evil.test/x` stays a path.
///
/// # Errors
///
/// [`InvalidTarget`]: the client's fault, answered with 400.
pub fn location(host: &str, https_port: u16, target: &str) -> Result<HeaderValue, InvalidTarget> {
    let mut url = String::with_capacity("https://[]:65535".len() + host.len() + target.len());
    url.push_str("https://");
    if host.contains(':') {
        url.extend(["[", host, "]"]);
    } else {
        url.push_str(host);
    }
    if https_port != 443 {
        url.push(':');
        url.push_str(itoa::Buffer::new().format(https_port));
    }
    location_under(&url, target)
}

/// The `Location` of `target` under `prefix`: scheme, authority and perhaps a path, all from the
/// configuration, without a trailing slash.
///
/// # Errors
///
/// As [`location`].
pub fn location_under(prefix: &str, target: &str) -> Result<HeaderValue, InvalidTarget> {
    if !target.starts_with('/') {
        return Err(InvalidTarget::NoPath);
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(InvalidTarget::RawByte);
    }
    HeaderValue::from_str(&[prefix, target].concat()).map_err(|_| InvalidTarget::RawByte)
}

impl fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidTarget::NoPath => "the target does not begin with a slash",
            InvalidTarget::RawByte => "the target has a byte that must be escaped",
        })
    }
}

impl std::error::Error for InvalidTarget {}

/// Notices clients that come back to plain HTTP although they were sent to HTTPS, because a CDN or
/// balancer in front ends TLS and asks us in plain text.
///
/// Only requests with `X-Forwarded-Proto: https` are remembered, in a table of fixed size whose
/// hash strangers cannot predict; who fills it makes us forget, nothing else.
#[derive(Debug, Default)]
pub struct LoopGuard {
    hasher: RandomState,
    /// Empty until first needed.
    slots: Vec<Option<Seen>>,
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Redirect as usual.
    Redirect,
    /// Answer with [`LOOP_EXPLANATION`] (508): another redirect would come back again.
    Explain,
}

/// What the client of a redirect loop reads, and the log says.
pub const LOOP_EXPLANATION: &str = "\
This site sends every plain HTTP request to HTTPS, and this request came back from there as plain \
HTTP, so that the redirect would never end. Something in front of this server (a CDN, a load \
balancer) ends TLS and forwards in plain text. Either let it connect to this server's HTTPS port \
(some call that mode \"full\"), or list its addresses in trusted_proxies and set \
redirect = \"off\" for this site.
";

/// Redirects that are remembered at once, per worker.
const SLOTS: usize = 1024;

/// How long a redirect is remembered: a browser gives up on a loop within a second or two.
const WINDOW: Duration = Duration::from_secs(10);

/// The last two redirects of one client for one host and path.
#[derive(Clone, Copy, Debug)]
struct Seen {
    key: u64,
    older: Option<Instant>,
    newer: Instant,
}

impl LoopGuard {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges a request that is about to be redirected at `now`; `claims_https` says whether it has
    /// `X-Forwarded-Proto: https`, from whomever.
    ///
    /// The third one of a client for the same host and path within 10 s is explained.
    pub fn judge(
        &mut self,
        client: IpAddr,
        host: &str,
        path: &str,
        claims_https: bool,
        now: Instant,
    ) -> Advice {
        if !claims_https {
            return Advice::Redirect;
        }
        if self.slots.is_empty() {
            self.slots = vec![None; SLOTS];
        }
        let key = self.hasher.hash_one((client, host, path));
        let place = usize::try_from(key % SLOTS as u64).unwrap_or_default();
        let Some(slot) = self.slots.get_mut(place) else { return Advice::Redirect };
        let known = slot.filter(|seen| seen.key == key && recent(seen.newer, now));
        let older = known.and_then(|seen| seen.older);
        if older.is_some_and(|older| recent(older, now)) {
            return Advice::Explain;
        }
        *slot = Some(Seen { key, older: known.map(|seen| seen.newer), newer: now });
        Advice::Redirect
    }
}

fn recent(then: Instant, now: Instant) -> bool {
    now.saturating_duration_since(then) < WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_location_is_our_authority_and_the_clients_bytes() {
        for (host, port, target, expected) in [
            ("a.test", 443, "/", "https://a.test/"),
            ("a.test", 8443, "/p?q=1", "https://a.test:8443/p?q=1"),
            ("::1", 443, "/p", "https://[::1]/p"),
            ("2001:db8::1", 8443, "/p", "https://[2001:db8::1]:8443/p"),
            ("a.test", 443, "//evil.test/x", "https://a.test//evil.test/x"),
            ("a.test", 443, "/\\evil.test", "https://a.test/\\evil.test"),
            ("a.test", 443, "/%5cevil", "https://a.test/%5cevil"),
            ("a.test", 443, "/.evil.test", "https://a.test/.evil.test"),
            ("a.test", 443, "/@evil.test/", "https://a.test/@evil.test/"),
            ("a.test", 443, "/a%2fb/../c;x?", "https://a.test/a%2fb/../c;x?"),
            (
                "a.test",
                443,
                "/%0d%0aSet-Cookie:%20x=1?a=%0a",
                "https://a.test/%0d%0aSet-Cookie:%20x=1?a=%0a",
            ),
        ] {
            assert_eq!(location(host, port, target).unwrap(), expected);
        }
        let long = format!("/{}", "x".repeat(8000));
        assert_eq!(location("a.test", 443, &long).unwrap().len(), 8001 + "https://a.test".len());
    }

    #[test]
    fn a_target_that_could_leave_our_authority_is_refused() {
        for target in ["", "*", "@evil.test/", ".evil.test", ":80/", "evil", "?x", "http://evil/"] {
            assert_eq!(location("a.test", 443, target), Err(InvalidTarget::NoPath), "{target}");
        }
        for target in
            ["/\r\nX: y", "/\n", "/\t", "/a b", "/\u{80}", "/\u{e9}", "/\0", "/a#b", "/\u{7f}"]
        {
            assert_eq!(location("a.test", 443, target), Err(InvalidTarget::RawByte), "{target:?}");
        }
    }

    #[test]
    fn everything_can_be_sent_elsewhere() {
        let location = |target| location_under("https://new.test/base", target);
        assert_eq!(location("/p?q").unwrap(), "https://new.test/base/p?q");
        assert_eq!(location("//evil.test").unwrap(), "https://new.test/base//evil.test");
        assert_eq!(location("*"), Err(InvalidTarget::NoPath));
    }

    struct Visitor {
        guard: LoopGuard,
        start: Instant,
    }

    impl Visitor {
        fn new() -> Self {
            Self { guard: LoopGuard::new(), start: Instant::now() }
        }

        fn asks(&mut self, client: &str, path: &str, claims_https: bool, millis: u64) -> Advice {
            let now = self.start + Duration::from_millis(millis);
            self.guard.judge(client.parse().unwrap(), "a.test", path, claims_https, now)
        }
    }

    #[test]
    fn a_loop_is_explained_at_the_third_time() {
        let mut visitor = Visitor::new();
        assert_eq!(visitor.asks("1.1.1.1", "/", true, 0), Advice::Redirect);
        assert_eq!(visitor.asks("1.1.1.1", "/", true, 100), Advice::Redirect);
        assert_eq!(visitor.asks("1.1.1.1", "/", true, 200), Advice::Explain);
        assert_eq!(visitor.asks("1.1.1.1", "/", true, 9_999), Advice::Explain);
        assert_eq!(visitor.asks("1.1.1.1", "/", true, 10_000), Advice::Redirect);
    }

    #[test]
    fn what_is_no_loop_is_redirected() {
        let mut visitor = Visitor::new();
        for turn in 0..20 {
            assert_eq!(visitor.asks("1.1.1.1", "/", false, turn), Advice::Redirect, "no CDN");
            let other = format!("/{turn}");
            assert_eq!(visitor.asks("2.2.2.2", &other, true, turn), Advice::Redirect, "paths");
            let client = format!("3.3.3.{turn}");
            assert_eq!(visitor.asks(&client, "/", true, turn), Advice::Redirect, "clients");
            assert_eq!(visitor.asks("4.4.4.4", "/", true, turn * 6_000), Advice::Redirect, "slow");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut visitor = Visitor::new();
        assert_eq!(visitor.guard.slots.capacity(), 0);
        for turn in 0..10_000 {
            visitor.asks("1.1.1.1", &format!("/{turn}"), true, 0);
        }
        assert_eq!(visitor.guard.slots.len(), SLOTS);
    }
}
