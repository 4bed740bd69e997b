//! What HTTP/2 asks of a request beyond what the HTTP library sees to (RFC 9113 §8.2.1, §8.3.1).

use http::request::Parts;
use http::{HeaderMap, Method, header};

use crate::downstream::field_block::Malformed;

/// Whether a request that came over HTTP/2 means the same to everybody.
///
/// # Errors
/// What is wrong with it.
pub fn well_formed(parts: &Parts) -> Result<(), Malformed> {
    well_formed_fields(&parts.headers)?;
    if parts.headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Malformed("more than one content-length"));
    }
    match parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str) {
        Some("*") if parts.method == Method::OPTIONS => Ok(()),
        Some(path) if !path.starts_with('/') => Err(Malformed("a path without a slash")),
        _ => Ok(()),
    }
}

/// Whether fields, of a head or of trailers, mean the same to everybody.
///
/// # Errors
/// What is wrong with them.
pub fn well_formed_fields(fields: &HeaderMap) -> Result<(), Malformed> {
    if has_outer_space(fields) {
        return Err(Malformed("white space around the value of a field"));
    }
    // The library's names of fields may have one, though no token has (RFC 9110 §5.6.2).
    if fields.keys().any(|name| memchr::memchr(b'"', name.as_str().as_bytes()).is_some()) {
        return Err(Malformed("a quotation mark in the name of a field"));
    }
    Ok(())
}

/// Whether a value begins or ends with white space, which HTTP/1 takes for no part of it.
fn has_outer_space(fields: &HeaderMap) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    fields.values().any(|value| {
        let value = value.as_bytes();
        is_space(value.first()) || is_space(value.last())
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<(), Malformed> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        well_formed(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn an_ordinary_request_is_well_formed() {
        let fields = [("x", "a b\tc"), ("y", ""), ("content-length", "5"), ("cookie", "a=b")];
        for target in ["/", "/a?b", "//a", "https://a.test/", "https://a.test"] {
            assert_eq!(check("GET", target, &fields), Ok(()), "{target}");
        }
        assert_eq!(check("OPTIONS", "*", &[]), Ok(()));
    }

    #[test]
    fn what_two_readers_could_differ_about_is_not() {
        for value in [" a", "a ", "\ta", "a\t", " ", "\t"] {
            assert!(check("GET", "/", &[("x", value)]).is_err(), "{value:?}");
        }
        let twice = [("content-length", "5"), ("content-length", "5")];
        assert!(check("POST", "/", &twice).is_err());
        for target in ["*", "https://a.test?b"] {
            assert!(check("GET", target, &[]).is_err(), "{target}");
        }
    }
}
