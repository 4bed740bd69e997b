//! A strict reader of what an app has heard: it shares nothing with the program under test, and
//! takes only what every reader of HTTP/1.1 takes for the same message.

/// A request as it stood on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its fields in their order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// Its body without the framing.
    pub body: Vec<u8>,
    /// Whether all of it was there; only the last of a connection may be cut.
    pub is_whole: bool,
}

impl Heard {
    /// All values of a field.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(key, _)| key == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }
}

/// Names of fields that must end at a proxy (RFC 9110 §7.6.1), and what only a proxy may say.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// What the proxy says once, whatever the client has said.
const OURS: [&str; 4] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"];

/// Reads all that came on one connection.
///
/// # Errors
/// When anything in it could be read in two ways, or does not belong there.
pub fn read(mut bytes: &[u8]) -> Result<Vec<Heard>, String> {
    let mut requests: Vec<Heard> = Vec::new();
    while !bytes.is_empty() {
        if requests.last().is_some_and(|last| !last.is_whole) {
            return Err("bytes behind a request that was cut".to_owned());
        }
        let Some((request, rest)) = read_first(bytes)? else {
            return Err(format!("a head without end: {}", bytes.escape_ascii()));
        };
        requests.push(request);
        bytes = rest;
    }
    Ok(requests)
}

/// Reads the first request, and returns it with what follows it; `None` while its head has no end.
///
/// # Errors
/// As [`read`].
pub fn read_first(bytes: &[u8]) -> Result<Option<(Heard, &[u8])>, String> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let (head, rest) = bytes.split_at(end + 4);
    let mut request = read_head(head).map_err(|why| format!("{why} in {}", head.escape_ascii()))?;
    let rest = read_body(&mut request, rest)
        .map_err(|why| format!("{why} behind {}", head.escape_ascii()))?;
    Ok(Some((request, rest)))
}

fn read_head(head: &[u8]) -> Result<Heard, String> {
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.strip_suffix("\r\n\r\n").unwrap_or(&text).split("\r\n");
    let first = lines.next().unwrap_or_default();
    let words: Vec<&str> = first.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(format!("no request line: {first:?}"));
    };
    let is_path = target.starts_with('/') || target == "*";
    let is_visible = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_token(method) || !is_path || !is_visible {
        return Err(format!("no method and path: {first:?}"));
    }
    let fields = lines.map(read_field).collect::<Result<Vec<_>, _>>()?;
    let (method, target) = (method.to_owned(), target.to_owned());
    let request = Heard { method, target, fields, body: Vec::new(), is_whole: false };
    check_fields(&request)?;
    Ok(request)
}

fn read_field(line: &str) -> Result<(String, String), String> {
    let wrong = || format!("no field: {line:?}");
    let (name, value) = line.split_once(": ").ok_or_else(wrong)?;
    let is_clean = value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    if !is_token(name) || !is_clean || value.trim_matches([' ', '\t']) != value {
        return Err(wrong());
    }
    if name.contains(['_', '.']) {
        return Err(format!("a name that CGI folds: {name}"));
    }
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

fn check_fields(request: &Heard) -> Result<(), String> {
    let only = |name: &str| request.values(name).len() == 1;
    for name in ["host"].iter().chain(&OURS) {
        if !only(name) {
            return Err(format!("{} times {name}", request.values(name).len()));
        }
    }
    let lengths = request.values("content-length");
    let codings = request.values("transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], [] | ["chunked"]) => {}
        ([length], []) if is_number(length) => {}
        _ => return Err(format!("lengths {lengths:?} and codings {codings:?}")),
    }
    let is_upgrade =
        request.values("connection") == ["Upgrade"] && request.values("upgrade") == ["websocket"];
    for name in HOP_BY_HOP {
        let belongs = is_upgrade && matches!(name, "connection" | "upgrade");
        if !belongs && !request.values(name).is_empty() {
            return Err(format!("{name} was passed on"));
        }
    }
    Ok(())
}

fn read_body<'a>(request: &mut Heard, bytes: &'a [u8]) -> Result<&'a [u8], String> {
    if let Some(length) = request.values("content-length").first() {
        let length: usize = length.parse().map_err(|_| "a length beyond measure".to_owned())?;
        let here = length.min(bytes.len());
        request.body = bytes[..here].to_vec();
        request.is_whole = here == length;
        return Ok(&bytes[here..]);
    }
    request.is_whole = true;
    if request.values("transfer-encoding").is_empty() {
        return Ok(bytes);
    }
    read_chunks(request, bytes)
}

fn read_chunks<'a>(request: &mut Heard, mut bytes: &'a [u8]) -> Result<&'a [u8], String> {
    loop {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n") else {
            request.is_whole = false;
            return Ok(&[]);
        };
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let is_hex = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || (line.len() > 1 && line.starts_with('0')) {
            return Err(format!("no chunk size: {line:?}"));
        }
        let size = usize::from_str_radix(&line, 16).map_err(|error| error.to_string())?;
        bytes = &bytes[end + 2..];
        if bytes.len() < size + 2 {
            request.body.extend_from_slice(&bytes[..size.min(bytes.len())]);
            request.is_whole = false;
            return Ok(&[]);
        }
        request.body.extend_from_slice(&bytes[..size]);
        if &bytes[size..size + 2] != b"\r\n" {
            return Err("no CRLF behind a chunk, or trailers".to_owned());
        }
        bytes = &bytes[size + 2..];
        if size == 0 {
            return Ok(bytes);
        }
    }
}

fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn is_number(text: &str) -> bool {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits && (text == "0" || !text.starts_with('0'))
}

#[test]
fn what_can_be_read_in_two_ways_is_not_read() {
    let ours = "host: a\r\nx-forwarded-for: 1\r\nx-forwarded-proto: http\r\n\
                x-forwarded-host: a\r\nx-request-id: 1\r\n";
    let request = |line: &str, more: &str| format!("{line}\r\n{ours}{more}\r\n");
    let get = request("GET / HTTP/1.1", "");
    let chunked = request("POST / HTTP/1.1", "transfer-encoding: chunked\r\n");
    for (text, bodies) in [
        (get.clone(), vec![("", true)]),
        (format!("{get}{get}"), vec![("", true), ("", true)]),
        (request("POST / HTTP/1.1", "content-length: 2\r\n") + "hi", vec![("hi", true)]),
        (request("POST / HTTP/1.1", "content-length: 3\r\n") + "hi", vec![("hi", false)]),
        (format!("{chunked}2\r\nhi\r\n0\r\n\r\n{get}"), vec![("hi", true), ("", true)]),
        (format!("{chunked}2\r\nhi\r\n"), vec![("hi", false)]),
    ] {
        let heard = read(text.as_bytes()).unwrap();
        let bodies: Vec<_> = bodies.iter().map(|(b, whole)| (b.as_bytes(), *whole)).collect();
        let seen: Vec<_> = heard.iter().map(|one| (&*one.body, one.is_whole)).collect();
        assert_eq!(seen, bodies, "{text}");
    }
    for text in [
        request("GET  / HTTP/1.1", ""),
        request("GET p HTTP/1.1", ""),
        request("GET / HTTP/1.0", ""),
        request("GET /#a HTTP/1.1", ""),
        request("GET / HTTP/1.1", "host: a\r\n"),
        request("GET / HTTP/1.1", "x-forwarded-for: 2\r\n"),
        request("GET / HTTP/1.1", "content-length: 05\r\n"),
        request("GET / HTTP/1.1", "content-length: 0\r\ncontent-length: 0\r\n"),
        request("GET / HTTP/1.1", "content-length: 0\r\ntransfer-encoding: chunked\r\n"),
        request("GET / HTTP/1.1", "transfer-encoding: Chunked\r\n"),
        request("GET / HTTP/1.1", "x y: 1\r\n"),
        request("GET / HTTP/1.1", "x_y: 1\r\n"),
        request("GET / HTTP/1.1", "x: a\nb\r\n"),
        request("GET / HTTP/1.1", "connection: close\r\n"),
        request("GET / HTTP/1.1", "upgrade: websocket\r\n"),
        format!("\r\n{get}"),
        format!("{chunked}2;a\r\nhi\r\n0\r\n\r\n"),
        format!("{chunked}02\r\nhi\r\n0\r\n\r\n"),
        format!("{chunked}2\r\nhi\r\n0\r\nx: y\r\n\r\n"),
        "GET / HTTP/1.1\r\nhost: a\r\n".to_owned(),
    ] {
        assert!(read(text.as_bytes()).is_err(), "{text}");
    }
}
