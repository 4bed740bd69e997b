//! The strictest reading of a client's bytes (RFC 9112): what of them may ever become a request.

/// A request that stands in a client's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its method.
    pub method: String,
    /// Its target in origin form, or `*`.
    pub target: String,
    /// Its body without the framing, as far as it can be read.
    pub body: Vec<u8>,
    /// Whether the body is all there, and nothing is wrong with it.
    pub is_whole: bool,
    /// Whether it may go to an application at all: its host and target are beyond doubt.
    pub may_pass: bool,
    /// Whether the sender waits to be told to go on.
    pub expects: bool,
}

/// Reads until the bytes end, or are none that every server reads alike.
pub fn read(mut bytes: &[u8]) -> Vec<Sent> {
    let mut requests = Vec::new();
    while let Some((request, rest)) = read_one(bytes) {
        let is_last = !request.is_whole || request.method == "CONNECT";
        requests.push(request);
        if is_last {
            break;
        }
        bytes = rest;
    }
    requests
}

fn read_one(mut bytes: &[u8]) -> Option<(Sent, &[u8])> {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    let (first, mut rest) = read_line(bytes)?;
    let mut words = first.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_old = match (version, words.next()) {
        (b"HTTP/1.1", None) => false,
        (b"HTTP/1.0", None) => true,
        _ => return None,
    };
    if !is_token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let mut fields = Vec::new();
    loop {
        let line;
        (line, rest) = read_line(rest)?;
        if line.is_empty() {
            break;
        }
        fields.push(read_field(line)?);
    }
    let values = |wanted: &[u8]| -> Vec<&[u8]> {
        fields.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| *value).collect()
    };
    let (body, after) = match (&values(b"content-length")[..], &values(b"transfer-encoding")[..]) {
        ([], []) => (Some(Vec::new()), rest),
        ([length], []) => read_counted(length, rest)?,
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !is_old => read_chunks(rest),
        _ => return None,
    };
    let target = plain_target(method, target, &values(b"host"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let sent = Sent {
        method: text(method),
        may_pass: target.is_some() && method != b"CONNECT",
        target: text(&target.unwrap_or_default()),
        is_whole: body.is_some(),
        body: body.unwrap_or_default(),
        expects: !values(b"expect").is_empty(),
    };
    Some((sent, after))
}

/// A line without its CRLF, and what follows; `None` where another byte could end it, too.
fn read_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr3(b'\r', b'\n', b'\0', bytes)?;
    bytes[end..].strip_prefix(b"\r\n").map(|rest| (&bytes[..end], rest))
}

fn read_field(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    let is_clean = value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    (is_token(name) && is_clean).then(|| (name.to_ascii_lowercase(), value))
}

type Read<'a> = (Option<Vec<u8>>, &'a [u8]);

fn read_counted<'a>(length: &[u8], rest: &'a [u8]) -> Option<Read<'a>> {
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: u64 = str::from_utf8(length).ok()?.parse().ok()?;
    let body = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    Some(match body {
        Some((body, rest)) => (Some(body.to_vec()), rest),
        None => (None, &[]),
    })
}

fn read_chunks(rest: &[u8]) -> Read<'_> {
    read_whole_chunks(rest).map_or((None, &[]), |(body, rest)| (Some(body), rest))
}

fn read_whole_chunks(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let line;
        (line, rest) = read_line(rest)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        if !is_extension(&line[digits..]) {
            return None;
        }
        if size == 0 {
            break;
        }
        let (data, after) = rest.split_at_checked(size)?;
        body.extend(data);
        rest = after.strip_prefix(b"\r\n")?;
    }
    loop {
        let line;
        (line, rest) = read_line(rest)?;
        if line.is_empty() {
            return Some((body, rest));
        }
        read_field(line)?;
    }
}

/// Nothing, or what begins with a semicolon and has no control character (RFC 9112 §7.1.1).
fn is_extension(text: &[u8]) -> bool {
    let begins = text.trim_ascii_start().first().is_none_or(|byte| *byte == b';');
    let is_nothing_else = text.is_empty() || !text.trim_ascii().is_empty();
    begins && is_nothing_else && text.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

/// The target as an application is told it; `None` where it, or the host, is in doubt.
pub fn plain_target(method: &[u8], target: &[u8], hosts: &[&[u8]]) -> Option<Vec<u8>> {
    let [host] = hosts else { return None };
    if !is_ours(host) || target.contains(&b'#') {
        return None;
    }
    if target == b"*" {
        return (method == b"OPTIONS").then(|| target.to_vec());
    }
    let mut path = target.to_vec();
    if let Some(at) = memchr::memmem::find(target, b"://").filter(|_| target[0] != b'/') {
        let scheme = target[..at].to_ascii_lowercase();
        let rest = &target[at + 3..];
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        if !matches!(&*scheme, b"http" | b"https") || !is_ours(&rest[..end]) {
            return None;
        }
        path = rest[end..].to_vec();
        if path.first() != Some(&b'/') {
            path.insert(0, b'/');
        }
    }
    (path[0] == b'/' && has_whole_escapes(&path)).then_some(path)
}

/// Whether this names the one site, on any port.
pub fn is_ours(host: &[u8]) -> bool {
    let text = String::from_utf8_lossy(host).to_ascii_lowercase();
    let (name, port) = text.split_once(':').unwrap_or((&text, ""));
    let is_port = port.is_empty()
        || port.len() <= 5
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok();
    is_port && name.strip_suffix('.').unwrap_or(name) == "app.test"
}

/// Whether each `%` of the path begins an escape, and none hides a NUL.
fn has_whole_escapes(target: &[u8]) -> bool {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    path.split(|byte| *byte == b'%').skip(1).all(|after| {
        let is_hex = after.len() >= 2 && after[..2].iter().all(u8::is_ascii_hexdigit);
        is_hex && &after[..2] != b"00"
    })
}

pub fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_tchar)
}

#[test]
fn only_what_is_beyond_doubt_is_a_request() {
    let head = |line: &str, more: &str| format!("{line}\r\nHost: app.test\r\n{more}\r\n");
    let told = |text: &str| -> Vec<String> {
        let name = |one: &Sent| match (one.may_pass, one.is_whole) {
            (false, _) => "refused".to_owned(),
            (true, false) => format!("{} cut", one.target),
            (true, true) => format!("{} {}", one.target, String::from_utf8_lossy(&one.body)),
        };
        read(text.as_bytes()).iter().map(name).collect()
    };
    let get = head("GET /a HTTP/1.1", "");
    let chunked = head("POST /c HTTP/1.1", "Transfer-Encoding: Chunked\r\n");
    for (text, wanted) in [
        (format!("\r\n{get}{get}"), vec!["/a ", "/a "]),
        (format!("{get}GET /b"), vec!["/a "]),
        (head("POST /p HTTP/1.1", "Content-Length: 02\r\n") + "hi" + &get, vec!["/p hi", "/a "]),
        (head("POST /p HTTP/1.1", "Content-Length: 3\r\n") + "hi", vec!["/p cut"]),
        (head("POST /p HTTP/1.1", "Content-Length: +2\r\n") + "hi", vec![]),
        (head("GET http://APP.test?x HTTP/1.1", ""), vec!["/?x "]),
        (head("GET http://evil.test/ HTTP/1.1", "") + &get, vec!["refused", "/a "]),
        (head("GET /%00 HTTP/1.1", ""), vec!["refused"]),
        (head("GET /a HTTP/1.1", "Host: app.test\r\n"), vec!["refused"]),
        (head("GET /a HTTP/1.1", "X: a\nb\r\n"), vec![]),
        (format!("{chunked}2;x\r\nhi\r\n0\r\nx: y\r\n\r\n{get}"), vec!["/c hi", "/a "]),
        (format!("{chunked}2 \r\nhi\r\n0\r\n\r\n{get}"), vec!["/c cut"]),
        (format!("{chunked}2\r\nhi\r\n0\r\nno colon\r\n\r\n"), vec!["/c cut"]),
        (format!("{chunked}2\r\nhi0\r\n\r\n"), vec!["/c cut"]),
    ] {
        assert_eq!(told(&text), wanted, "{text:?}");
    }
}
