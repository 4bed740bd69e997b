//! The text of a configuration file and the places in it.

use std::ops::Range;
use std::sync::Arc;

/// A range of bytes of the text.
pub type Span = Range<usize>;

/// A text with a name, and where its lines begin.
#[derive(Clone, Debug)]
pub struct Source {
    name: Arc<str>,
    text: String,
    starts: Vec<usize>,
}

impl Source {
    /// Takes the text; a byte order mark in front of it is no part of it.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let starts = std::iter::once(0)
            .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1))
            .collect();
        Self { name: name.into(), text, starts }
    }

    /// The name of the file, as the operator gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole of the text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of `span`; empty where it is no part of the text.
    #[must_use]
    pub fn slice(&self, span: &Span) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// Line and column of a byte, both from 1; columns count characters.
    #[must_use]
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_of(offset);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.as_bytes().get(start..offset.min(self.text.len()));
        let characters = before.unwrap_or_default().iter().filter(|byte| !is_continuation(**byte));
        (line, characters.count() + 1)
    }

    /// The number, from 1, of the line that a byte is on.
    #[must_use]
    pub fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The bytes of a line (numbered from 1) without its ending.
    #[must_use]
    pub fn line_span(&self, line: usize) -> Span {
        let start = self.starts.get(line.wrapping_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.starts.get(line).map_or(self.text.len(), |next| next - 1);
        let text = self.text.get(start..end).unwrap_or_default();
        start..start + text.strip_suffix('\r').unwrap_or(text).len()
    }

    /// How many lines there are.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.starts.len()
    }
}

/// Whether a byte goes on with a character of UTF-8 that an earlier one began.
fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("f", "ä = 1\r\n\tb = 2\n\nend");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(2), (1, 2), "the two bytes of ä are one column");
        assert_eq!(source.position(8), (2, 1));
        assert_eq!(source.position(9), (2, 2), "a tab is one column");
        assert_eq!(source.position(15), (3, 1));
        assert_eq!(source.position(19), (4, 4), "the end of the text has a place");
        assert_eq!(source.position(9999).0, 4, "and so has what is beyond it");
    }

    #[test]
    fn lines_come_without_their_endings() {
        let source = Source::new("f", "one\r\ntwo\n");
        let lines: Vec<_> = (1..=4).map(|n| source.slice(&source.line_span(n))).collect();
        assert_eq!(lines, ["one", "two", "", ""]);
    }

    #[test]
    fn a_byte_order_mark_takes_no_column() {
        assert_eq!(Source::new("f", "\u{feff}a = 1").text(), "a = 1");
    }

    proptest! {
        #[test]
        fn every_place_is_where_an_editor_says(text in "[a-zé\r\n\t日]{0,40}", offset in 0..60_usize) {
            let source = Source::new("f", &text);
            let lines: Vec<&str> = source.text().split('\n').collect();
            prop_assert_eq!(source.lines(), lines.len());
            for (index, line) in lines.iter().enumerate() {
                let told = source.slice(&source.line_span(index + 1));
                prop_assert_eq!(told, line.strip_suffix('\r').unwrap_or(line));
            }
            let (line, column) = source.position(offset);
            prop_assert!((1..=lines.len()).contains(&line) && column >= 1);
            if source.text().is_char_boundary(offset) {
                let before = &source.text()[..offset];
                prop_assert_eq!(line, before.matches('\n').count() + 1);
                let start = before.rfind('\n').map_or(0, |at| at + 1);
                prop_assert_eq!(column, before[start..].chars().count() + 1);
            }
            let beyond = source.line_span(lines.len() + 1 + offset);
            prop_assert_eq!(source.slice(&beyond), "");
            prop_assert_eq!(source.slice(&(offset..offset + 7)).len() <= 7, true);
        }
    }
}
