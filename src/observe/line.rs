//! The two forms of a line of the access log.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::access_log::Entry;
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
        let method_at = out.len();
        capped(out, entry.method.as_bytes(), NAME, Style::Apache);
        one_word(out, method_at);
        out.push(b' ');
        let target_at = out.len();
        url(out, entry.path, TARGET, mask, Style::Apache);
        one_word(out, target_at);
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

/// Makes what was written since `start` one word, as readers part a request line at its spaces.
fn one_word(out: &mut Vec<u8>, start: usize) {
    let Some(written) = out.get(start..) else { return };
    if written.is_empty() {
        out.push(b'-');
    } else if memchr::memchr(b' ', written).is_some() {
        let written = out.split_off(start);
        for byte in written {
            if byte == b' ' {
                out.extend_from_slice(b"\\x20");
            } else {
                out.push(byte);
            }
        }
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

/// An address; of IPv4 also where it came in through an IPv6 socket.
fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => ipv4(out, address),
        IpAddr::V6(address) => ipv6(out, address),
    }
}

fn ipv4(out: &mut Vec<u8>, address: Ipv4Addr) {
    let [a, b, c, d] = address.octets();
    number(out, a);
    for octet in [b, c, d] {
        out.push(b'.');
        number(out, octet);
    }
}

/// The form of RFC 5952 §4: no leading zeros, the longest run of zero groups (the first of equal
/// ones, never a single group) as `::`.
fn ipv6(out: &mut Vec<u8>, address: Ipv6Addr) {
    let groups = address.segments();
    let (mut run, mut length) = (0, 0);
    let mut zeros = 0;
    for (index, group) in groups.iter().enumerate() {
        zeros = if *group == 0 { zeros + 1 } else { 0 };
        if zeros > length {
            (run, length) = (index + 1 - zeros, zeros);
        }
    }
    if length < 2 {
        (run, length) = (groups.len(), 0);
    }
    for (index, group) in groups.into_iter().enumerate() {
        if index == run {
            out.extend_from_slice(b"::");
        } else if index < run || index >= run + length {
            if index > 0 && index != run + length {
                out.push(b':');
            }
            hexadecimal(out, group);
        }
    }
}

fn hexadecimal(out: &mut Vec<u8>, group: u16) {
    let mut seen = false;
    for shift in [12, 8, 4, 0] {
        let digit = u32::from(group >> shift & 0xf);
        seen |= digit != 0 || shift == 0;
        if seen {
            out.push(char::from_digit(digit, 16).map_or(b'?', |digit| digit as u8));
        }
    }
}
