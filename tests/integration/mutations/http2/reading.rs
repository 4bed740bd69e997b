//! The strictest reading of a stream (RFC 9113 §8): what request it may become, if any.

use super::asked::{Asked, Fields};
use crate::mutations::http1::sent;

/// The request that a stream stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant {
    /// Its method at an application that speaks HTTP/1.1.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its body.
    pub body: Vec<u8>,
    /// All its crumbs of cookies.
    pub cookies: Option<String>,
    /// Whether it came to an end that agrees with what was said before.
    pub is_whole: bool,
}

/// Names of fields that belong to a connection of HTTP/1.1 (RFC 9113 §8.2.2).
pub const OF_CONNECTIONS: &[&[u8]] =
    &[b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];

/// Reads a stream; `None` where its head must not be obeyed.
pub fn read(asked: &Asked) -> Option<Meant> {
    let pseudo = asked.fields.iter().take_while(|(name, _)| name.starts_with(b":")).count();
    let (pseudo, fields) = asked.fields.split_at(pseudo);
    if !are_clean(fields) || !pseudo.iter().all(|(_, value)| is_clean_value(value)) {
        return None;
    }
    let known: &[&[u8]] = &[b":method", b":scheme", b":path", b":authority", b":protocol"];
    if !pseudo.iter().all(|(name, _)| known.contains(&&**name)) {
        return None;
    }
    let one = |name: &str| {
        let mut values = pseudo.iter().filter(|(key, _)| key == name.as_bytes());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(()),
            (first, None) => Ok(first.map(|(_, value)| &**value)),
        }
    };
    let (method, scheme) = (one(":method").ok()??, one(":scheme").ok()??);
    let (path, authority) = (one(":path").ok()??, one(":authority").ok()?);
    let is_socket = match (method, one(":protocol").ok()?) {
        (b"CONNECT", Some(b"websocket")) => true,
        (b"CONNECT", _) | (_, Some(_)) => return None,
        _ => false,
    };
    let hosts: Vec<&[u8]> = values(fields, b"host").into_iter().chain(authority).collect();
    let is_one_place = !hosts.is_empty() && hosts.iter().all(|host| sent::is_ours(host));
    let is_web = matches!(&*scheme.to_ascii_lowercase(), b"http" | b"https");
    if !sent::is_token(method) || !is_web || !is_one_place || hosts.len() > 2 {
        return None;
    }
    if path.contains(&b':') && path.first() != Some(&b'/') {
        return None;
    }
    let is_visible = !path.is_empty() && path.iter().all(u8::is_ascii_graphic);
    let target = is_visible.then(|| sent::plain_target(method, path, &[b"app.test"]))??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let cookies = values(fields, b"cookie");
    Some(Meant {
        method: if is_socket { "GET".to_owned() } else { text(method) },
        target: text(&target),
        body: if is_socket { Vec::new() } else { asked.data.concat() },
        cookies: (!cookies.is_empty()).then(|| text(&cookies.join(&b"; "[..]))),
        is_whole: is_socket || is_whole(asked, fields)?,
    })
}

/// Whether the end is there and agrees with the length; `None` where the length is none.
fn is_whole(asked: &Asked, fields: &[(Vec<u8>, Vec<u8>)]) -> Option<bool> {
    let size = asked.data.iter().map(Vec::len).sum::<usize>();
    let agrees = match &values(fields, b"content-length")[..] {
        [] => true,
        [length] => {
            let length = length.trim_ascii();
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            is_number.then_some(())?;
            str::from_utf8(length).ok()?.parse() == Ok(size)
        }
        _ => return None,
    };
    let trailers_are_clean = asked.trailers.as_ref().is_none_or(|trailers: &Fields| {
        are_clean(trailers) && trailers.iter().all(|(name, _)| !name.starts_with(b":"))
    });
    Some(agrees && asked.ends && trailers_are_clean)
}

fn are_clean(fields: &[(Vec<u8>, Vec<u8>)]) -> bool {
    fields.iter().all(|(name, value)| {
        let is_lower = !name.iter().any(u8::is_ascii_uppercase);
        let belongs = match &**name {
            b"te" => value.trim_ascii().eq_ignore_ascii_case(b"trailers"),
            name => !OF_CONNECTIONS.contains(&name),
        };
        sent::is_token(name) && is_lower && belongs && is_clean_value(value)
    })
}

fn is_clean_value(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

fn values<'a>(fields: &'a [(Vec<u8>, Vec<u8>)], wanted: &[u8]) -> Vec<&'a [u8]> {
    fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| &**value).collect()
}
