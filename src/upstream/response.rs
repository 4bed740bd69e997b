//! The head of an application's answer, read strictly: what is ambiguous is the application's
//! fault and becomes a 502, never the client's problem.

use std::fmt;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::proxy::headers::hop::{self, Fate};

/// Fields of a head.
const FIELDS: usize = 128;

/// A head with all its fields, in bytes.
pub const HEAD: usize = 64 * 1024;

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// How many bytes of the input it took.
    pub length: usize,
}

/// How a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After this many bytes.
    Length(u64),
    /// As the chunked coding says.
    Chunked,
    /// With the connection.
    Close,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Reads the head at the front of `input`, the answer to a request with `method`; its end-to-end
/// fields are added to `headers`. `None` while it is not whole.
///
/// # Errors
/// When it is no head of HTTP/1, breaks a limit, or says two things about its length.
pub fn parse(
    input: &Bytes,
    method: &Method,
    headers: &mut HeaderMap,
) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, input, &mut fields)
    {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() > HEAD => {
            return Err(Malformed("its head is over 64 KiB"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Malformed("it has more than 128 fields"));
        }
        Err(_) => return Err(Malformed("its head is not HTTP/1")),
    };
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .filter(|status| status.as_u16() < 600)
        .ok_or(Malformed("its status is not one"))?;
    let http11 = response.version == Some(1);
    let facts = Facts::of(response.headers)?;
    if status != StatusCode::SWITCHING_PROTOCOLS {
        for field in response.headers.iter() {
            copy(field, input, &facts, headers)?;
        }
    } else {
        // What an upgrade is about stands in fields that are otherwise the hop's own.
        for field in response.headers.iter() {
            headers.append(name(field)?, value(field, input)?);
        }
    }
    let framing = facts.framing(status, method, http11)?;
    let keep_alive = http11 && !facts.close && framing != Framing::Close && !facts.both;
    // Written anew, so that two readers of `005` cannot differ.
    if let Some(length) = facts.length
        && framing != Framing::Chunked
        && status != StatusCode::NO_CONTENT
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(Some(Head { status, framing, keep_alive, length }))
}

/// What the fields of a head say about the message and the connection.
struct Facts<'a> {
    length: Option<u64>,
    chunked: bool,
    both: bool,
    close: bool,
    /// Names that a `Connection` field lists.
    listed: Vec<&'a str>,
}

impl<'a> Facts<'a> {
    fn of(fields: &[httparse::Header<'a>]) -> Result<Self, Malformed> {
        let mut facts =
            Facts { length: None, chunked: false, both: false, close: false, listed: Vec::new() };
        for field in fields {
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    let length = parse_length(field.value)?;
                    if facts.length.is_some_and(|other| other != length) {
                        return Err(Malformed("it has two lengths"));
                    }
                    facts.length = Some(length);
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if facts.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Malformed("it has a transfer coding other than chunked"));
                    }
                    facts.chunked = true;
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    let value = str::from_utf8(field.value)
                        .map_err(|_| Malformed("its Connection field is not text"))?;
                    for option in value.split(',').map(str::trim) {
                        facts.close |= option.eq_ignore_ascii_case("close");
                        if !matches!(option.len(), 0 | 5 | 10) {
                            facts.listed.push(option);
                        }
                    }
                }
                _ => {}
            }
        }
        facts.both = facts.chunked && facts.length.is_some();
        Ok(facts)
    }

    fn framing(
        &self,
        status: StatusCode,
        method: &Method,
        http11: bool,
    ) -> Result<Framing, Malformed> {
        if self.chunked && !http11 {
            return Err(Malformed("it is HTTP/1.0 with a transfer coding"));
        }
        let bodiless = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || method == Method::HEAD;
        Ok(match self.length {
            _ if bodiless => Framing::Empty,
            _ if self.chunked => Framing::Chunked,
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        })
    }
}

/// Digits only: a sign, a list or white space is read differently elsewhere (RFC 9110 §8.6).
fn parse_length(value: &[u8]) -> Result<u64, Malformed> {
    let wrong = Malformed("its Content-Length is not a number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(wrong);
    }
    str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(wrong)
}

fn copy(
    field: &httparse::Header<'_>,
    input: &Bytes,
    facts: &Facts<'_>,
    headers: &mut HeaderMap,
) -> Result<(), Malformed> {
    let name = name(field)?;
    let listed = facts.listed.iter().any(|listed| name.as_str().eq_ignore_ascii_case(listed));
    if listed
        || name == header::CONTENT_LENGTH
        || hop::response_field(&name, &hop::Listed::default()) != Fate::Forward
    {
        return Ok(());
    }
    headers.append(name, value(field, input)?);
    Ok(())
}

fn name(field: &httparse::Header<'_>) -> Result<HeaderName, Malformed> {
    HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed("a field name is not one"))
}

fn value(field: &httparse::Header<'_>, input: &Bytes) -> Result<HeaderValue, Malformed> {
    HeaderValue::from_maybe_shared(input.slice_ref(field.value))
        .map_err(|_| Malformed("a field value has a control character"))
}
