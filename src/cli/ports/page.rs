//! Text of a certain width, in colour where that is wanted.

use std::io::IsTerminal;

use rustix::termios::tcgetwinsize;

/// Columns where the width is not known: in a file or a pipe nothing breaks the lines.
const WIDTH: usize = 100;

/// Narrower than this, a table is left to the terminal to break.
const NARROWEST: usize = 60;

/// What the text is written on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// Columns.
    pub(super) width: usize,
    colour: bool,
}

impl Page {
    /// Standard output: as wide as the terminal, up to 100 columns; in colour only there, and only
    /// if `NO_COLOR` is not set (<https://no-color.org>).
    pub(super) fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self::plain(WIDTH);
        }
        let columns = tcgetwinsize(&stdout).map_or(0, |size| usize::from(size.ws_col));
        let width = if columns == 0 { 80 } else { columns.clamp(NARROWEST, WIDTH) };
        let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { width, colour: !declined }
    }

    /// Without colour.
    pub(super) fn plain(width: usize) -> Self {
        Self { width, colour: false }
    }

    pub(super) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn bad(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(super) fn doubtful(&self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(super) fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn faint(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, style: &str, text: &str) -> String {
        match self.colour && !text.is_empty() {
            true => format!("\u{1b}[{style}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    /// Words broken into lines; the first begins with `label`, the others with `indent`. Neither is
    /// counted by more than the length of `indent`, so that `label` may be coloured.
    pub(super) fn paragraph(&self, label: &str, indent: &str, text: &str) -> String {
        let room = self.width.saturating_sub(indent.len()).max(20);
        let (mut out, mut used) = (label.to_owned(), 0);
        for word in text.split_whitespace() {
            let length = word.chars().count();
            match used {
                0 => {}
                _ if used + 1 + length > room => {
                    out.push('\n');
                    out.push_str(indent);
                    used = 0;
                }
                _ => {
                    out.push(' ');
                    used += 1;
                }
            }
            out.push_str(word);
            used += length;
        }
        out.push('\n');
        out
    }
}

/// The text in so many columns: cut with a mark, or filled up.
pub(super) fn cell(text: &str, width: usize) -> String {
    let length = text.chars().count();
    match length.checked_sub(width) {
        None | Some(0) => format!("{text}{}", " ".repeat(width - length)),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_keeps_to_the_width() {
        let page = Page::plain(30);
        let text = page.paragraph("  a  ", "     ", "one two three four five six seven eight");
        assert_eq!(text, "  a  one two three four five\n     six seven eight\n");
        assert!(text.lines().all(|line| line.len() <= 30));
        let long = "x".repeat(50);
        assert_eq!(page.paragraph("> ", "  ", &format!("a {long}")), format!("> a\n  {long}\n"));
    }

    #[test]
    fn a_cell_has_its_width() {
        assert_eq!(cell("abc", 5), "abc  ");
        assert_eq!(cell("abc", 3), "abc");
        assert_eq!(cell("äbcdef", 4), "äbc…");
    }

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        assert_eq!(Page::plain(80).bad("x"), "x");
        let page = Page { width: 80, colour: true };
        assert_eq!(page.bad("x"), "\u{1b}[1;31mx\u{1b}[0m");
        assert_eq!(page.bad(""), "");
    }
}
