//! Text from strangers, made safe for one line of a log and for the terminal that shows it.
//!
//! What is not printable stays readable but loses its power: control characters (C0, DEL, C1),
//! characters that change the direction of text or take no room, and bytes that are no UTF-8.

/// How an escaped character is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `\xhh` for every byte, as Apache httpd writes unprintable ones; also for quotes and
    /// backslashes, so that no reader that looks for the next quote is led astray.
    Apache,
    /// As [`Style::Apache`], and spaces too: a word of a request line, which readers part at its
    /// spaces.
    ApacheWord,
    /// As a JSON string (RFC 8259 §7). Bytes that are no UTF-8 become the text `\xhh`.
    Json,
}

/// Appends `text`, escaped.
pub(super) fn escape(out: &mut Vec<u8>, text: &[u8], style: Style) {
    if is_plain(text, style) {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            push(out, character, style);
        }
        for byte in chunk.invalid() {
            if style == Style::Json {
                out.push(b'\\');
            }
            push_hex(out, *byte);
        }
    }
}

/// Whether `character` shows as itself wherever it stands.
///
/// The standard library's table of what is printable knows the invisible, the bidirectional, the
/// private and the unassigned.
pub(super) fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        '\0'..='\u{9f}' => false,
        _ => character.escape_debug().len() == 1,
    }
}

/// Nearly all text is; written without a branch per byte so that it is checked many at a time.
fn is_plain(text: &[u8], style: Style) -> bool {
    let lowest = if style == Style::ApacheWord { b'!' } else { b' ' };
    text.iter().fold(true, |plain, byte| {
        plain & (*byte >= lowest) & (*byte < 0x7f) & (*byte != b'"') & (*byte != b'\\')
    })
}

fn push(out: &mut Vec<u8>, character: char, style: Style) {
    let mut bytes = [0; 4];
    let bytes = character.encode_utf8(&mut bytes).as_bytes();
    let (json, special) = (style == Style::Json, matches!(character, '"' | '\\'));
    if special && json {
        out.push(b'\\');
        out.extend_from_slice(bytes);
    } else if special || character == ' ' && style == Style::ApacheWord {
        bytes.iter().for_each(|byte| push_hex(out, *byte));
    } else if is_printable(character) {
        out.extend_from_slice(bytes);
    } else if json {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let [high, low] = unit.to_be_bytes();
            out.extend_from_slice(b"\\u");
            push_digits(out, high);
            push_digits(out, low);
        }
    } else {
        bytes.iter().for_each(|byte| push_hex(out, *byte));
    }
}

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(b"\\x");
    push_digits(out, byte);
}

fn push_digits(out: &mut Vec<u8>, byte: u8) {
    for nibble in [byte >> 4, byte & 0xf] {
        out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &[u8], style: Style) -> String {
        let mut out = Vec::new();
        escape(&mut out, text, style);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_moves_a_terminal_is_escaped() {
        for (text, apache, json) in [
            (&b"/plain?a=1"[..], "/plain?a=1", "/plain?a=1"),
            (b"\x1b]0;x\x07", "\\x1b]0;x\\x07", "\\u001b]0;x\\u0007"),
            (b"a\"b\\c", "a\\x22b\\x5cc", "a\\\"b\\\\c"),
            (b"a\r\nb", "a\\x0d\\x0ab", "a\\u000d\\u000ab"),
            (b"\x7f", "\\x7f", "\\u007f"),
            (b"\x9b", "\\x9b", "\\\\x9b"),
            ("\u{9b}".as_bytes(), "\\xc2\\x9b", "\\u009b"),
            ("\u{202e}".as_bytes(), "\\xe2\\x80\\xae", "\\u202e"),
            ("\u{e0041}".as_bytes(), "\\xf3\\xa0\\x81\\x81", "\\udb40\\udc41"),
            ("\u{2028}".as_bytes(), "\\xe2\\x80\\xa8", "\\u2028"),
            ("zażółć 日本".as_bytes(), "zażółć 日本", "zażółć 日本"),
            (b"\xe6\x97", "\\xe6\\x97", "\\\\xe6\\\\x97"),
        ] {
            assert_eq!(escaped(text, Style::Apache), apache);
            assert_eq!(escaped(text, Style::Json), json);
        }
    }

    proptest! {
        #[test]
        fn nothing_unprintable_and_no_bare_quote_comes_out(text: Vec<u8>) {
            let apache = escaped(&text, Style::Apache);
            prop_assert!(apache.chars().all(|c| is_printable(c) && c != '"'));
            prop_assert!(escaped(&text, Style::Json).chars().all(is_printable));
        }

        #[test]
        fn a_json_string_reads_back(text: String) {
            let json = format!("\"{}\"", escaped(text.as_bytes(), Style::Json));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        /// Nothing is lost and nothing can be forged: what was written tells what it was.
        #[test]
        fn an_escaped_text_reads_back(text: Vec<u8>, words: bool) {
            let style = if words { Style::ApacheWord } else { Style::Apache };
            let escaped = escaped(&text, style);
            prop_assert!(!words || !escaped.contains(' '));
            prop_assert!(escaped.len() <= 4 * text.len());
            let (mut back, mut rest) = (Vec::new(), escaped.as_bytes());
            while let [first, behind @ ..] = rest {
                if *first == b'\\' {
                    let digits = std::str::from_utf8(&behind[1..3]).unwrap();
                    back.push(u8::from_str_radix(digits, 16).unwrap());
                    rest = &behind[3..];
                } else {
                    back.push(*first);
                    rest = behind;
                }
            }
            prop_assert_eq!(back, text);
        }
    }
}
