//! Which fields end at this hop (RFC 9110 §7.6.1), for one walk over a message's fields.

use std::cmp::Ordering;

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, TRAILER};

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on as it is.
    Forward,
    /// It ends here, or is written anew by us.
    Drop,
    /// It ends here because its name has something else than letters, digits and `-`: a CGI-like
    /// application reads that as `-` (some `_` and `.` only, some every other character), and so
    /// could take it for a field that we vouch for.
    DropAlias,
}

/// The names in every `Connection` line of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Sorted without regard to case; those that mean nothing for other fields are left out.
    names: Vec<&'a [u8]>,
}

impl<'a> Listed<'a> {
    /// Reads all lines; allocates nothing for `keep-alive`, `close` and `upgrade`.
    #[must_use]
    pub fn of(headers: &'a HeaderMap) -> Self {
        Self::of_lines(headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes))
    }

    /// The same from the values of the lines.
    #[must_use]
    pub fn of_lines(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut names: Vec<&'a [u8]> = lines
            .flat_map(|line| line.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|name| !is_plain_option(name))
            .collect();
        names.sort_unstable_by(|a, b| compare(a, b));
        Self { names }
    }

    /// Whether `name` is listed and may be removed for that.
    ///
    /// A sender must not list fields that are meant for all recipients (RFC 9110 §7.6.1); who does
    /// wants the application to see less than what was judged here.
    #[must_use]
    pub fn removes(&self, name: &HeaderName) -> bool {
        !self.names.is_empty()
            && self
                .names
                .binary_search_by(|listed| compare(listed, name.as_str().as_bytes()))
                .is_ok()
            && !is_end_to_end(name.as_str())
    }
}

/// What becomes of a request's field.
///
/// Dropped are the hop-by-hop fields, those whose value the sender writes itself (`Host`, framing,
/// `Expect`), and those that tell applications about the client, which only we may write.
#[must_use]
pub fn request_field(name: &HeaderName, listed: &Listed<'_>) -> Fate {
    let text = name.as_str();
    if is_hop_by_hop(text) || is_ours(text) || is_written_by_sender(text) || listed.removes(name) {
        Fate::Drop
    } else if !text.bytes().all(is_plain) {
        Fate::DropAlias
    } else {
        Fate::Forward
    }
}

/// What becomes of a response's field.
///
/// `Content-Length` goes on: it is all that an answer to HEAD tells of the size. So does `Trailer`,
/// which is end-to-end (RFC 9110 §6.6.2), and without which no trailers reach HTTP/1.1.
#[must_use]
pub fn response_field(name: &HeaderName, listed: &Listed<'_>) -> Fate {
    let ends_here = is_hop_by_hop(name.as_str()) && name != TRAILER;
    if ends_here || listed.removes(name) { Fate::Drop } else { Fate::Forward }
}

/// Removes the response fields that end here.
pub fn strip_response(headers: &mut HeaderMap) {
    let listed = Listed::of(headers);
    let names = headers.keys().filter(|name| response_field(name, &listed) != Fate::Forward);
    let names: Vec<HeaderName> = names.cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The trailer fields of an answer that may be forwarded.
#[must_use]
pub fn kept_trailers(trailers: HeaderMap) -> HeaderMap {
    kept(trailers, trailer_field)
}

/// The trailer fields of a request that may be forwarded: no aliases, as in its head.
#[must_use]
pub fn kept_request_trailers(trailers: HeaderMap) -> HeaderMap {
    kept(trailers, |name| trailer_field(name) && name.as_str().bytes().all(is_plain))
}

fn kept(trailers: HeaderMap, is_kept: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    if trailers.keys().all(&is_kept) {
        return trailers;
    }
    let names = trailers.keys().filter(|name| is_kept(name));
    let fields = names.flat_map(|name| trailers.get_all(name).iter().map(move |v| (name, v)));
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether a field may be forwarded in a trailer section (RFC 9110 §6.5.1): nothing that frames,
/// routes, authenticates, says who the client is, or changes how the message is handled.
///
/// Names with `_` or `.` are ordinary metadata in gRPC; they are judged as what a CGI-like reader
/// would take them for. Other characters are in no name that anybody uses.
#[must_use]
pub fn trailer_field(name: &HeaderName) -> bool {
    let mut folded = [0; LONGEST_NAME];
    let text = name.as_str();
    for (to, from) in folded.iter_mut().zip(text.bytes()) {
        *to = if is_plain(from) { from } else { b'-' };
    }
    let folded = folded.get(..text.len()).unwrap_or(&folded);
    let folded = std::str::from_utf8(folded).unwrap_or(text);
    !(!text.bytes().all(|byte| is_plain(byte) || matches!(byte, b'_' | b'.'))
        || is_hop_by_hop(folded)
        || is_ours(folded)
        || is_written_by_sender(folded)
        || is_end_to_end(folded)
        || is_handling(folded))
}

/// Whether the sender reads trailer sections: `TE: trailers` (RFC 9110 §10.1.4).
#[must_use]
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// What every reader of a name takes for itself.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// Longer than every name that is listed below, so that cutting a name here changes no verdict.
const LONGEST_NAME: usize = 32;

/// Never forwarded, in either direction. `Proxy` is no field at all, but CGI would make an
/// environment variable of it that HTTP libraries obey.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name.as_bytes(),
        b"connection"
            | b"http2-settings"
            | b"keep-alive"
            | b"proxy"
            | b"proxy-authenticate"
            | b"proxy-authentication-info"
            | b"proxy-authorization"
            | b"proxy-connection"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

/// What the application believes about the client because we say it.
fn is_ours(name: &str) -> bool {
    match name.as_bytes() {
        b"forwarded" | b"x-forwarded" | b"x-real-ip" | b"x-request-id" => true,
        // RFC 9440 §2.
        b"client-cert" | b"client-cert-chain" => true,
        [b'x', b'-', b'f' | b'c', ..] => {
            name.starts_with("x-forwarded-") || name.starts_with("x-client-cert")
        }
        _ => false,
    }
}

/// What a sender of requests derives from the target, the body, and its own protocol.
fn is_written_by_sender(name: &str) -> bool {
    matches!(name.as_bytes(), b"content-length" | b"expect" | b"host")
}

/// What no `Connection` line may take away and no trailer may bring.
fn is_end_to_end(name: &str) -> bool {
    match name.as_bytes() {
        b"authorization"
        | b"authentication-info"
        | b"cache-control"
        | b"cdn-loop"
        | b"cookie"
        | b"date"
        | b"host"
        | b"location"
        | b"origin"
        | b"set-cookie"
        | b"strict-transport-security"
        | b"www-authenticate" => true,
        [b'c', b'o', b'n', b't', b'e', b'n', b't', b'-', ..] => true,
        [b's', b'e', b'c', b'-', ..] => true,
        _ => is_ours(name),
    }
}

/// Request modifiers and response control data, too late in a trailer.
fn is_handling(name: &str) -> bool {
    matches!(
        name.as_bytes(),
        b"age"
            | b"expires"
            | b"if-match"
            | b"if-modified-since"
            | b"if-none-match"
            | b"if-range"
            | b"if-unmodified-since"
            | b"max-forwards"
            | b"pragma"
            | b"range"
            | b"remote-user"
            | b"retry-after"
            | b"vary"
            | b"via"
            | b"warning"
    )
}

/// Options that say something about the connection only.
fn is_plain_option(name: &[u8]) -> bool {
    match name.len() {
        0 => true,
        5 => name.eq_ignore_ascii_case(b"close"),
        7 => name.eq_ignore_ascii_case(b"upgrade"),
        10 => name.eq_ignore_ascii_case(b"keep-alive"),
        _ => false,
    }
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connection(lines: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(CONNECTION, HeaderValue::from_static(line));
        }
        map
    }

    fn request(name: &'static str, lines: &[&'static str]) -> Fate {
        request_field(&HeaderName::from_static(name), &Listed::of(&connection(lines)))
    }

    fn response(name: &'static str, lines: &[&'static str]) -> Fate {
        response_field(&HeaderName::from_static(name), &Listed::of(&connection(lines)))
    }

    #[test]
    fn ordinary_fields_go_on() {
        for name in [
            "accept",
            "accept-encoding",
            "authorization",
            "content-type",
            "cookie",
            "early-data",
            "if-none-match",
            "origin",
            "range",
            "referer",
            "sec-websocket-key",
            "user-agent",
            "via",
            "x-custom",
            "x-forward",
            "x-csrf-token",
        ] {
            assert_eq!(request(name, &["keep-alive"]), Fate::Forward, "{name}");
        }
        for name in ["content-length", "content-type", "set-cookie", "server", "x_odd", "location"]
        {
            assert_eq!(response(name, &["close"]), Fate::Forward, "{name}");
        }
    }

    #[test]
    fn hop_by_hop_fields_end_here_both_ways() {
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "proxy",
        ] {
            assert_eq!(request(name, &[]), Fate::Drop, "{name}");
            assert_eq!(response(name, &[]), Fate::Drop, "{name}");
        }
    }

    #[test]
    fn an_announcement_of_trailers_ends_here_in_requests_only() {
        assert_eq!(request("trailer", &[]), Fate::Drop);
        assert_eq!(response("trailer", &[]), Fate::Forward);
    }

    #[test]
    fn what_we_vouch_for_or_frame_ourselves_is_never_the_clients() {
        for name in [
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "x-forwarded-anything",
            "forwarded",
            "x-real-ip",
            "x-request-id",
            "x-client-cert",
            "x-client-cert-subject",
            "host",
            "content-length",
            "expect",
        ] {
            assert_eq!(request(name, &[]), Fate::Drop, "{name}");
        }
    }

    #[test]
    fn other_spellings_are_aliases() {
        for name in [
            "x_forwarded_for",
            "x.forwarded.for",
            "transfer_encoding",
            "remote.user",
            "a_b",
            "\"x\"",
        ] {
            assert_eq!(request(name, &[]), Fate::DropAlias, "{name}");
        }
    }

    /// lighttpd makes `HTTP_X_CLIENT_CERT_VERIFY` of `X|Client|Cert|Verify` for its CGI programs.
    #[test]
    fn every_character_that_some_cgi_folds_makes_an_alias() {
        for byte in "!#$%&'*+^`|~_.".chars() {
            let name = format!("x{byte}client{byte}cert{byte}verify");
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(request_field(&name, &Listed::default()), Fate::DropAlias, "{name}");
            assert!(!trailer_field(&name), "{name}");
        }
    }

    #[test]
    fn every_connection_line_is_honoured() {
        let lines = &["close, X-One", "keep-alive", " x-two\t,,X-THREE ,Upgrade"];
        for name in ["x-one", "x-two", "x-three"] {
            assert_eq!(request(name, lines), Fate::Drop, "{name}");
            assert_eq!(response(name, lines), Fate::Drop, "{name}");
        }
        assert_eq!(request("x-four", lines), Fate::Forward);
        assert_eq!(response("x-secret", &["X-Secret"]), Fate::Drop);
    }

    #[test]
    fn a_connection_line_takes_nothing_away_that_all_recipients_need() {
        let lines =
            &["close, Cookie, Authorization, Content-Type, Origin, Set-Cookie, Cache-Control"];
        for name in ["cookie", "authorization", "content-type", "origin", "cache-control"] {
            assert_eq!(request(name, lines), Fate::Forward, "{name}");
        }
        assert_eq!(response("set-cookie", lines), Fate::Forward);
        assert_eq!(response("content-length", &["content-length"]), Fate::Forward);
    }

    #[test]
    fn usual_connection_lines_allocate_nothing() {
        for line in ["keep-alive", "Close", "Upgrade", "keep-alive, Upgrade", ""] {
            assert_eq!(Listed::of(&connection(&[line])).names.capacity(), 0, "{line}");
        }
    }

    #[test]
    fn trailers_bring_nothing_that_decides() {
        for name in [
            "content-length",
            "transfer-encoding",
            "host",
            "x-forwarded-for",
            "x_forwarded_for",
            "authorization",
            "cookie",
            "set-cookie",
            "te",
            "trailer",
            "connection",
            "cache-control",
            "content-type",
            "content-encoding",
            "content-range",
            "expect",
            "range",
            "if-match",
            "proxy-authorization",
            "x-request-id",
            "forwarded",
            "x-real-ip",
            "location",
            "transfer_encoding",
            "x.forwarded.host",
            "x-forwarded-something-longer-than-any-buffer",
            "\"x\"",
        ] {
            assert!(!trailer_field(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "grpc-status",
            "grpc-message",
            "grpc-status-details-bin",
            "x-checksum",
            "digest",
            "google.rpc.debuginfo-bin",
            "my_metadata",
            "server-timing",
            "etag",
            "x-a-name-that-is-far-longer-than-the-folding-buffer-can-hold",
        ] {
            assert!(trailer_field(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn readers_of_trailers_say_so() {
        let te = |line| HeaderMap::from_iter([(TE, HeaderValue::from_static(line))]);
        assert!(takes_trailers(&te("trailers")));
        assert!(takes_trailers(&te("gzip;q=0.5, Trailers")));
        assert!(!takes_trailers(&te("gzip")));
        assert!(!takes_trailers(&HeaderMap::new()));
    }

    fn lines() -> impl Strategy<Value = Vec<String>> {
        let option = prop::sample::select(vec![
            "close",
            "Keep-Alive",
            "upgrade",
            "X-A",
            "x-b",
            "cookie",
            "Authorization",
            "host",
            "",
            " ",
            "te",
            "x-forwarded-for",
            "content-type",
            "X_C",
            "sec-websocket-key",
            "x-a b",
        ]);
        let line = prop::collection::vec(option, 0..4).prop_map(|options| options.join(" , "));
        prop::collection::vec(line, 0..3)
    }

    fn names() -> impl Strategy<Value = HeaderName> {
        let name = prop::sample::select(vec![
            "connection",
            "te",
            "trailer",
            "upgrade",
            "proxy-x",
            "proxy-connection",
            "host",
            "cookie",
            "x-a",
            "x-b",
            "x_c",
            "x.d",
            "x-forwarded-for",
            "x-forwarded-foo",
            "x_forwarded_for",
            "forwarded",
            "etag",
            "content-type",
            "content-length",
            "content_length",
            "authorization",
            "set-cookie",
            "sec-fetch-site",
            "sec-websocket-key",
            "grpc-status",
            "grpc.x",
            "x-client-cert-dn",
            "date",
            "remote_user",
            "expect",
        ]);
        prop_oneof![3 => name.prop_map(str::to_owned), 1 => "[a-z][a-z_.-]{0,40}"]
            .prop_map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap())
    }

    fn listed(lines: &[String]) -> Listed<'_> {
        Listed::of_lines(lines.iter().map(String::as_bytes))
    }

    proptest! {
        #[test]
        fn a_list_is_one_in_any_case_order_and_lines(lines in lines(), name in names()) {
            let mut turned: Vec<_> = lines.iter().map(|line| line.to_uppercase()).collect();
            turned.reverse();
            let joined = [turned.join(",")];
            for judge in [request_field, response_field] {
                prop_assert_eq!(judge(&name, &listed(&lines)), judge(&name, &listed(&turned)));
                prop_assert_eq!(judge(&name, &listed(&lines)), judge(&name, &listed(&joined)));
            }
        }

        /// A list takes away what is named in it, never gives, and never what all recipients need.
        #[test]
        fn a_list_only_takes_away(lines in lines(), name in names()) {
            let is_named = lines.iter().flat_map(|line| line.split(',')).any(|option| {
                option.trim().eq_ignore_ascii_case(name.as_str())
            });
            let without = request_field(&name, &Listed::default());
            let with = request_field(&name, &listed(&lines));
            if with != without {
                prop_assert!(is_named && with == Fate::Drop && !is_end_to_end(name.as_str()));
            }
            if without == Fate::Forward && is_named {
                prop_assert_eq!(with == Fate::Drop, !is_end_to_end(name.as_str()));
            }
            prop_assert_eq!(without == Fate::Forward, name.as_str().bytes().all(is_plain)
                && !is_hop_by_hop(name.as_str()) && !is_ours(name.as_str()) && !is_written_by_sender(name.as_str()));
        }

        #[test]
        fn what_was_stripped_once_is_clean(
            lines in lines(), fields in prop::collection::vec((names(), "[a-z]{0,3}"), 0..12),
        ) {
            let mut map = HeaderMap::new();
            for line in &lines {
                map.append(CONNECTION, HeaderValue::from_str(line).unwrap());
            }
            for (name, value) in &fields {
                map.append(name.clone(), HeaderValue::from_str(value).unwrap());
            }
            let before = map.clone();
            strip_response(&mut map);
            let listed = Listed::of(&before);
            for name in before.keys() {
                let is_kept = response_field(name, &listed) == Fate::Forward;
                let wanted: Vec<_> = before.get_all(name).iter().filter(|_| is_kept).collect();
                prop_assert_eq!(map.get_all(name).iter().collect::<Vec<_>>(), wanted, "{}", name);
            }
            let once = map.clone();
            strip_response(&mut map);
            prop_assert_eq!(&map, &once);
            let trailers = kept_trailers(before.clone());
            prop_assert!(trailers.keys().all(trailer_field));
            prop_assert!(before.keys().all(|n| !trailer_field(n) || trailers.get_all(n) == before.get_all(n)));
            prop_assert_eq!(kept_trailers(trailers.clone()), trailers);
            // `x_custom` passed in a trailer of a request, and nowhere else.
            let none = Listed::default();
            let passed = kept_request_trailers(before.clone());
            prop_assert!(passed.keys().all(trailer_field));
            prop_assert!(passed.keys().all(|n| request_field(n, &none) == Fate::Forward));
        }

        /// What a trailer may bring, no CGI-like reader takes for a field that we vouch for.
        #[test]
        fn a_trailer_is_judged_as_its_aliases(name in names()) {
            let folded = name.as_str().replace(['_', '.'], "-");
            let folded = HeaderName::from_bytes(folded.as_bytes()).unwrap();
            prop_assert_eq!(trailer_field(&name), trailer_field(&folded));
            if request_field(&folded, &Listed::default()) == Fate::Drop {
                prop_assert!(!trailer_field(&name), "{}", name);
            }
        }
    }
}
