//! The two forms of a line of the access log.

use std::time::Duration;

use super::access_log::Entry;
use super::address::address;
use super::clock::Clock;
use super::escape::{Style, escape};
use super::mask::Mask;

/// The most that is shown of a request target, in bytes before escaping.
const TARGET: usize = 8 * 1024;

/// The most that is shown of another field with free text.
const FIELD: usize = 1024;

/// The most that is shown of a name: a host has at most 253 bytes (RFC 1035 §2.3.4).
const NAME: usize = 256;

/// Appends a line in the combined format of Apache httpd, without the two names that no proxy
/// knows (`%l`, `%u`): `client - - [time] "METHOD target PROTO" status bytes "referer" "agent"`.
///
/// As there, nothing is `-`, no bytes are `-`, and a request that was not understood is `"-"`.
pub(super) fn combined(out: &mut Vec<u8>, entry: &Entry<'_>, clock: &mut Clock, mask: &Mask) {
    address(out, entry.client);
    out.extend_from_slice(b" - - [");
    clock.write(out, entry.time);
    out.extend_from_slice(b"] \"");
    if entry.method.is_empty() {
        out.push(b'-');
    } else {
        capped(out, entry.method.as_bytes(), NAME, Style::ApacheWord);
        out.push(b' ');
        let target = if entry.path.is_empty() { b"-" } else { entry.path };
        url(out, target, TARGET, mask, Style::ApacheWord);
        out.push(b' ');
        out.extend_from_slice(entry.proto.as_bytes());
    }
    out.extend_from_slice(b"\" ");
    number(out, entry.status);
    out.push(b' ');
    if entry.bytes_out == 0 {
        out.push(b'-');
    } else {
        number(out, entry.bytes_out);
    }
    out.extend_from_slice(b" \"");
    match entry.referer {
        Some(referer) => url(out, referer, FIELD, mask, Style::Apache),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" \"");
    capped(out, entry.user_agent.unwrap_or(b"-"), FIELD, Style::Apache);
    out.extend_from_slice(b"\"\n");
}

/// Appends a line that is a JSON object. Every line has every key; what is not known is null.
pub(super) fn json(out: &mut Vec<u8>, entry: &Entry<'_>, clock: &mut Clock, mask: &Mask) {
    out.extend_from_slice(b"{\"ts\":\"");
    clock.write(out, entry.time);
    out.extend_from_slice(b"\",\"id\":");
    text(out, Some(entry.id.as_bytes()), NAME);
    out.extend_from_slice(b",\"client\":\"");
    address(out, entry.client);
    out.extend_from_slice(b"\",\"host\":");
    text(out, Some(entry.host.as_bytes()), NAME);
    out.extend_from_slice(b",\"method\":");
    text(out, Some(entry.method.as_bytes()), NAME);
    out.extend_from_slice(b",\"path\":\"");
    url(out, entry.path, TARGET, mask, Style::Json);
    out.extend_from_slice(b"\",\"proto\":");
    text(out, Some(entry.proto.as_bytes()), NAME);
    out.extend_from_slice(b",\"status\":");
    number(out, entry.status);
    out.extend_from_slice(b",\"bytes_in\":");
    number(out, entry.bytes_in);
    out.extend_from_slice(b",\"bytes_out\":");
    number(out, entry.bytes_out);
    out.extend_from_slice(b",\"duration_ms\":");
    milliseconds(out, Some(entry.duration));
    out.extend_from_slice(b",\"upstream\":");
    text(out, entry.upstream.map(str::as_bytes), NAME);
    out.extend_from_slice(b",\"upstream_ms\":");
    milliseconds(out, entry.upstream_time);
    out.extend_from_slice(b",\"tls\":");
    text(out, entry.tls.map(str::as_bytes), NAME);
    out.extend_from_slice(b",\"ua\":");
    text(out, entry.user_agent, FIELD);
    out.extend_from_slice(b",\"referer\":");
    match entry.referer {
        Some(referer) => {
            out.push(b'"');
            url(out, referer, FIELD, mask, Style::Json);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"error\":");
    text(out, entry.error.map(str::as_bytes), FIELD);
    out.extend_from_slice(b"}\n");
}

/// A JSON string, or null.
fn text(out: &mut Vec<u8>, value: Option<&[u8]>, cap: usize) {
    match value {
        Some(value) => {
            out.push(b'"');
            capped(out, value, cap, Style::Json);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// At most `cap` bytes of `value`; `[+12]` says that 12 more were there.
fn capped(out: &mut Vec<u8>, value: &[u8], cap: usize, style: Style) {
    let (shown, cut) = value.split_at_checked(cap).unwrap_or((value, b""));
    escape(out, shown, style);
    mark(out, cut.len());
}

/// As [`capped`], with the values of masked parameters hidden.
fn url(out: &mut Vec<u8>, value: &[u8], cap: usize, mask: &Mask, style: Style) {
    let (shown, cut) = value.split_at_checked(cap).unwrap_or((value, b""));
    mask.pieces(shown, |piece| escape(out, piece, style));
    mark(out, cut.len());
}

fn mark(out: &mut Vec<u8>, cut: usize) {
    if cut > 0 {
        out.extend_from_slice(b"[+");
        number(out, cut);
        out.push(b']');
    }
}

fn number(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds with three decimals, or null.
fn milliseconds(out: &mut Vec<u8>, value: Option<Duration>) {
    let Some(value) = value else {
        out.extend_from_slice(b"null");
        return;
    };
    let micros = value.as_micros();
    number(out, u64::try_from(micros / 1000).unwrap_or(u64::MAX));
    // Four digits of which the first, always 1, becomes the point: no padding to think of.
    let point = out.len();
    number(out, 1000 + u16::try_from(micros % 1000).unwrap_or(999));
    if let Some(first) = out.get_mut(point) {
        *first = b'.';
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, UNIX_EPOCH};

    use jiff::tz::{Offset, TimeZone};
    use proptest::prelude::*;

    use super::*;
    use crate::config::LogFormat;

    fn entry() -> Entry<'static> {
        Entry {
            time: UNIX_EPOCH + Duration::from_millis(971_211_336_007),
            id: "01hx",
            client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            host: "example.com",
            method: "GET",
            path: b"/apache_pb.gif?a=1",
            proto: "HTTP/1.1",
            status: 200,
            bytes_in: 17,
            bytes_out: 2326,
            duration: Duration::from_micros(12_045),
            upstream: Some("127.0.0.1:8080"),
            upstream_time: Some(Duration::from_micros(999)),
            tls: Some("TLSv1.3"),
            user_agent: Some(b"curl/8.5.0"),
            referer: Some(b"https://example.com/start?token=s3cret"),
            error: None,
        }
    }

    fn bare() -> Entry<'static> {
        Entry {
            host: "",
            method: "",
            path: b"",
            status: 400,
            bytes_out: 0,
            upstream: None,
            upstream_time: None,
            tls: None,
            user_agent: None,
            referer: None,
            error: Some("the request line is no HTTP"),
            ..entry()
        }
    }

    fn written(format: LogFormat, entry: &Entry<'_>) -> String {
        let zone = TimeZone::fixed(Offset::from_seconds(-7 * 3600).unwrap());
        let mut clock = Clock::new(format, zone);
        let mask = Mask::new(&["token".to_owned()]);
        let mut out = Vec::new();
        match format {
            LogFormat::Combined => combined(&mut out, entry, &mut clock, &mask),
            LogFormat::Json => json(&mut out, entry, &mut clock, &mask),
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn combined_is_what_apache_writes() {
        assert_eq!(
            written(LogFormat::Combined, &entry()),
            "192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] \"GET /apache_pb.gif?a=1 HTTP/1.1\" 200 \
             2326 \"https://example.com/start?token=***\" \"curl/8.5.0\"\n"
        );
        assert_eq!(
            written(LogFormat::Combined, &bare()),
            "192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] \"-\" 400 - \"-\" \"-\"\n"
        );
    }

    #[test]
    fn json_has_every_key_in_every_line() {
        assert_eq!(
            written(LogFormat::Json, &entry()),
            "{\"ts\":\"2000-10-10T20:55:36.007Z\",\"id\":\"01hx\",\"client\":\"192.0.2.7\",\
             \"host\":\"example.com\",\"method\":\"GET\",\"path\":\"/apache_pb.gif?a=1\",\
             \"proto\":\"HTTP/1.1\",\"status\":200,\"bytes_in\":17,\"bytes_out\":2326,\
             \"duration_ms\":12.045,\"upstream\":\"127.0.0.1:8080\",\"upstream_ms\":0.999,\
             \"tls\":\"TLSv1.3\",\"ua\":\"curl/8.5.0\",\
             \"referer\":\"https://example.com/start?token=***\",\"error\":null}\n"
        );
        assert_eq!(
            written(LogFormat::Json, &bare()),
            "{\"ts\":\"2000-10-10T20:55:36.007Z\",\"id\":\"01hx\",\"client\":\"192.0.2.7\",\
             \"host\":\"\",\"method\":\"\",\"path\":\"\",\"proto\":\"HTTP/1.1\",\"status\":400,\
             \"bytes_in\":17,\"bytes_out\":0,\"duration_ms\":12.045,\"upstream\":null,\
             \"upstream_ms\":null,\"tls\":null,\"ua\":null,\"referer\":null,\
             \"error\":\"the request line is no HTTP\"}\n"
        );
    }

    #[test]
    fn a_request_line_stays_three_words_in_quotes() {
        let forged =
            Entry { method: "GE T", path: b"/\" 200 5 \"-\" \"x\"\n203.0.113.9 - -", ..entry() };
        let line = written(LogFormat::Combined, &forged);
        let request = line.split('"').nth(1).unwrap();
        assert_eq!(
            request,
            "GE\\x20T /\\x22\\x20200\\x205\\x20\\x22-\\x22\\x20\\x22x\\x22\\x0a203.0.113.9\
             \\x20-\\x20- HTTP/1.1"
        );
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let long = vec![b'a'; 64 * 1024];
        let entry = Entry { path: &long, user_agent: Some(&long), referer: Some(&long), ..entry() };
        for format in [LogFormat::Combined, LogFormat::Json] {
            let line = written(format, &entry);
            assert!(line.len() < TARGET + 2 * FIELD + 1024, "{}", line.len());
            assert!(line.contains(&format!("a[+{}]", long.len() - TARGET)));
            assert_eq!(line.matches(&format!("a[+{}]", long.len() - FIELD)).count(), 2);
        }
    }

    #[test]
    fn a_cut_never_uncovers_a_masked_value() {
        for filler in TARGET - 20..TARGET {
            let path = format!("/?{}&token=s3cret", "a".repeat(filler));
            let entry = Entry { path: path.as_bytes(), ..entry() };
            assert!(!written(LogFormat::Combined, &entry).contains("s3"));
        }
    }

    proptest! {
        #[test]
        fn any_request_gives_one_line_that_reads_back(
            path: Vec<u8>, agent: Option<Vec<u8>>, referer: Option<Vec<u8>>,
            id: String, host: String, method: String, error: Option<String>,
            status: u16, bytes: u64, time: Duration,
        ) {
            let entry = Entry {
                id: &id, host: &host, method: &method, path: &path, status,
                bytes_in: bytes, bytes_out: bytes, duration: time, upstream_time: Some(time),
                user_agent: agent.as_deref(), referer: referer.as_deref(),
                error: error.as_deref(), ..entry()
            };
            let line = written(LogFormat::Combined, &entry);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            prop_assert_eq!(line.matches('"').count(), 6);
            let line = written(LogFormat::Json, &entry);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read.as_object().unwrap().len(), 17);
            prop_assert_eq!(&read["status"], &status);
            prop_assert_eq!(&read["bytes_out"], &bytes);
            if method.len() <= NAME {
                prop_assert_eq!(&read["method"], &method);
            }
        }
    }
}
