//! Paths: the operator's prefixes, and the rules that a client's path must keep.

use std::fmt;

/// A path that begins with `/` and has no `.` or `..` segment, no empty segment, no percent
/// escape of an unreserved character, and no trailing slash but for `/` itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathPrefix(String);

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// It has a byte that no URL has: a control, a space, `#`, `?`, or one beyond ASCII.
    RawByte,
    /// A `%` is not followed by two hexadecimal digits.
    BadEscape,
    /// It has an escaped NUL, where some readers stop.
    Nul,
    /// It climbs above the root for some reader.
    AboveRoot,
    /// Some reader would find it under another route than ours (security by path would be lost).
    Ambiguous,
}

impl PathPrefix {
    /// `/`: everything.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Reads what an operator writes. A trailing slash says nothing, since prefixes end on segment
    /// borders; letters beyond ASCII are escaped, and escapes of ordinary letters resolved.
    ///
    /// # Errors
    ///
    /// As [`PathError`]; [`PathError::Ambiguous`] for `.`, `..` and empty segments, and for `\`,
    /// `;` and escapes of `/`, `\`, `;` and `%`, under which no request could be routed safely.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let inner = text.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        if inner.is_empty() {
            return Ok(Self::root());
        }
        let escaped: Vec<u8> = inner.bytes().flat_map(escape_beyond_ascii).collect();
        check_bytes(&escaped)?;
        let mut normal = String::with_capacity(text.len());
        for segment in escaped.strip_suffix(b"/").unwrap_or(&escaped).split(|&byte| byte == b'/') {
            let decoded = decode(segment);
            if matches!(&*decoded, b"" | b"." | b"..")
                || decoded.iter().any(|byte| matches!(byte, b'/' | b'\\' | b';' | b'%'))
            {
                return Err(PathError::Ambiguous);
            }
            if decoded.iter().any(u8::is_ascii_control) {
                return Err(PathError::RawByte);
            }
            normal.push('/');
            normal.extend(normal_escapes(segment).into_iter().map(char::from));
        }
        Ok(Self(normal))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text between the slashes; none for `/`.
    pub(super) fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.0.as_bytes().split(|&byte| byte == b'/').filter(|segment| !segment.is_empty())
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::NotAbsolute => "the path does not begin with a slash",
            PathError::RawByte => "the path has a byte that must be escaped",
            PathError::BadEscape => "the path has a % without two hexadecimal digits",
            PathError::Nul => "the path has an escaped NUL",
            PathError::AboveRoot => "the path climbs above the root",
            PathError::Ambiguous => "the path can be read as one of another route",
        })
    }
}

impl std::error::Error for PathError {}

/// Refuses bytes that no path has on the wire (RFC 3986 §3.3), broken escapes, and NUL.
///
/// Visible ASCII that should be escaped but often is not (`|`, `"`, `{`, …) passes.
pub(super) fn check_bytes(path: &[u8]) -> Result<(), PathError> {
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                let [high, low, after @ ..] = tail else { return Err(PathError::BadEscape) };
                let value = escape_value(*high, *low).ok_or(PathError::BadEscape)?;
                if value == 0 {
                    return Err(PathError::Nul);
                }
                rest = after;
            }
            b'#' | b'?' => return Err(PathError::RawByte),
            byte if !byte.is_ascii_graphic() => return Err(PathError::RawByte),
            _ => {}
        }
    }
    Ok(())
}

/// Resolves every escape once; a `%` that begins none is kept.
pub(super) fn decode(text: &[u8]) -> Vec<u8> {
    replace_escapes(text, |out, value, _| out.push(value))
}

/// The same escapes in one spelling (RFC 3986 §6.2.2): upper-case digits.
pub(super) fn upper_escapes(text: &[u8]) -> Vec<u8> {
    replace_escapes(text, |out, _, escape| out.extend(escape.map(|byte| byte.to_ascii_uppercase())))
}

/// [`upper_escapes`], and escapes of unreserved characters resolved (RFC 3986 §6.2.2.2).
fn normal_escapes(text: &[u8]) -> Vec<u8> {
    replace_escapes(text, |out, value, escape| {
        if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
            out.push(value);
        } else {
            out.extend(escape.map(|byte| byte.to_ascii_uppercase()));
        }
    })
}

fn replace_escapes(text: &[u8], put: impl Fn(&mut Vec<u8>, u8, [u8; 3])) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match tail {
            [high, low, after @ ..] if *byte == b'%' => match escape_value(*high, *low) {
                Some(value) => {
                    put(&mut out, value, [b'%', *high, *low]);
                    rest = after;
                }
                None => out.push(b'%'),
            },
            _ => out.push(*byte),
        }
    }
    out
}

fn escape_value(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn escape_beyond_ascii(byte: u8) -> Vec<u8> {
    if byte.is_ascii() { vec![byte] } else { format!("%{byte:02X}").into_bytes() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_have_one_spelling() {
        for (text, normal) in [
            ("/", "/"),
            ("/api", "/api"),
            ("/api/", "/api"),
            ("/%61pi", "/api"),
            ("/api/v1", "/api/v1"),
            ("/API", "/API"),
            ("/~user/.well-known", "/~user/.well-known"),
            ("/@scope", "/@scope"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
        ] {
            assert_eq!(PathPrefix::parse(text).unwrap().as_str(), normal, "{text}");
        }
    }

    #[test]
    fn prefixes_that_cannot_be_routed_are_refused() {
        use PathError::*;
        for (text, error) in [
            ("", NotAbsolute),
            ("api", NotAbsolute),
            ("*", NotAbsolute),
            ("//", Ambiguous),
            ("//api", Ambiguous),
            ("/api//", Ambiguous),
            ("/a//b", Ambiguous),
            ("/./a", Ambiguous),
            ("/a/..", Ambiguous),
            ("/a/%2e%2E", Ambiguous),
            ("/a%2fb", Ambiguous),
            ("/a%5Cb", Ambiguous),
            ("/a\\b", Ambiguous),
            ("/a;b", Ambiguous),
            ("/a%3bb", Ambiguous),
            ("/100%25", Ambiguous),
            ("/a b", RawByte),
            ("/a%0d", RawByte),
            ("/a?b", RawByte),
            ("/a#b", RawByte),
            ("/a\nb", RawByte),
            ("/a%", BadEscape),
            ("/a%4", BadEscape),
            ("/a%zz", BadEscape),
            ("/a%00", Nul),
        ] {
            assert_eq!(PathPrefix::parse(text), Err(error), "{text:?}");
        }
    }

    fn texts() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "/", "/", "a", "B", ".", "..", "~", "%41", "%7e", "%7E", "%2e", "%2F", "%5c",
            "%3b", "%25", "%20", "%c3%a9", "%C3", "\u{e9}", "|", "%", "%4", "%zz", " ", ";", "\\",
            "?", "#",
        ]);
        prop::collection::vec(piece, 0..8).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn a_prefix_has_one_spelling_and_means_what_was_written(text in texts()) {
            let Ok(prefix) = PathPrefix::parse(&text) else { return Ok(()) };
            prop_assert_eq!(PathPrefix::parse(prefix.as_str()), Ok(prefix.clone()));
            let plain = |text: &str| decode(text.strip_suffix('/').unwrap_or(text).as_bytes());
            prop_assert_eq!(plain(prefix.as_str()), plain(&text));
            let is_one = |segment: &str| !matches!(segment, "" | "." | "..");
            prop_assert!(text == "/" || prefix.as_str().split('/').skip(1).all(is_one));
            prop_assert!(prefix.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        }

        #[test]
        fn spelling_escapes_anew_changes_no_meaning(text: Vec<u8>) {
            let upper = upper_escapes(&text);
            prop_assert_eq!(decode(&upper), decode(&text));
            prop_assert_eq!(upper_escapes(&upper), upper);
            prop_assert!(decode(&text).len() <= text.len());
        }

        #[test]
        fn what_passes_the_check_decodes_without_a_rest(text in texts()) {
            if check_bytes(text.as_bytes()).is_ok() {
                let escapes = text.matches('%').count();
                prop_assert_eq!(decode(text.as_bytes()).len() + 2 * escapes, text.len());
                prop_assert!(!decode(text.as_bytes()).contains(&0));
            }
        }
    }
}
