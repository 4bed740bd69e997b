//! How others read what we forward: decoders of paths and a strict reader of heads, written without
//! a look at the program's own.

/// The segments that a reader of `path` ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// How often it resolved escapes.
    pub decodings: usize,
    pub segments: Vec<Vec<u8>>,
}

/// What readers make of a path that resolve escapes up to twice, and then cut parameters off, take
/// `\` for `/`, or merge slashes, or do none of it; all remove dot segments at last (RFC 3986
/// §5.2.4).
#[must_use]
pub fn readings(path: &[u8]) -> Vec<Reading> {
    let mut list = Vec::new();
    let mut text = path.to_vec();
    for decodings in 0..=2 {
        if decodings > 0 {
            text = percent_decoded(&text);
        }
        for habits in 0..8 {
            let mut text = text.clone();
            if habits & 1 != 0 {
                text = text.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
            }
            let mut segments: Vec<Vec<u8>> = Vec::new();
            for segment in text[1..].split(|byte| *byte == b'/') {
                let parameters = segment.iter().position(|byte| *byte == b';');
                let segment = match parameters {
                    Some(at) if habits & 2 != 0 => &segment[..at],
                    _ => segment,
                };
                match segment {
                    b"." => {}
                    b".." => drop(segments.pop()),
                    b"" if habits & 4 != 0 => {}
                    _ => segments.push(segment.to_vec()),
                }
            }
            list.push(Reading { decodings, segments });
        }
    }
    list
}

/// Resolves escapes; what is none stays.
#[must_use]
pub fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        let is_hex = digits.is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if text[at] == b'%' && is_hex => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

/// A head that only means one thing.
#[derive(Debug)]
pub struct Strict<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub fields: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Strict<'a> {
    /// Reads a request's head.
    ///
    /// # Errors
    /// When anything about it could be read in two ways.
    pub fn read(head: &'a [u8]) -> Result<Self, &'static str> {
        let body = head.strip_suffix(b"\r\n\r\n").ok_or("it does not end with an empty line")?;
        let mut lines = Vec::new();
        let mut rest = body;
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            lines.push(&rest[..end]);
            rest = &rest[end + 2..];
        }
        lines.push(rest);
        if lines.iter().any(|line| line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))) {
            return Err("a line end that is none, or NUL");
        }
        let line = std::str::from_utf8(lines[0]).map_err(|_| "a request line beyond ASCII")?;
        let [method, target, "HTTP/1.1"] = *line.split(' ').collect::<Vec<_>>() else {
            return Err("a request line of other than three words");
        };
        if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err("a target with a byte that it must not have");
        }
        if method.is_empty() || !method.bytes().all(is_token) {
            return Err("a method that is no token");
        }
        let fields = lines[1..].iter().map(|line| field(line)).collect::<Result<_, _>>()?;
        Ok(Self { method, target, fields })
    }

    /// The values of a field.
    pub fn all(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields.iter().filter(|field| field.0 == name).map(|field| field.1).collect()
    }
}

fn field(line: &[u8]) -> Result<(&str, &[u8]), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a line without a colon")?;
    let name = std::str::from_utf8(&line[..colon]).map_err(|_| "a name beyond ASCII")?;
    let is_plain = |byte: u8| is_token(byte) && !byte.is_ascii_uppercase();
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err("a name that is no token in lower case");
    }
    let value = line[colon + 1..].strip_prefix(b" ").ok_or("no space behind the colon")?;
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err("a control character in a value");
    }
    Ok((name, value))
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
