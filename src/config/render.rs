//! Problems as a person reads them: the line, a caret, and what to do.

use std::fmt::Write as _;

use super::problems::{Place, Problem, Problems, Severity};
use super::source::Source;

impl Problems {
    /// The text for people: every problem with its line and a caret, in colour if asked for.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let mut out = String::new();
        for problem in self.list() {
            self.render_one(problem, paint, &mut out);
            out.push('\n');
        }
        if self.unlisted() > 0 {
            let _ = writeln!(out, "{}: and {} more", printable(self.file()), self.unlisted());
        }
        out
    }

    fn render_one(&self, problem: &Problem, paint: Paint, out: &mut String) {
        let place = match &problem.place {
            Some(place) => format!("{}:{}:{}", printable(self.file()), place.line, place.column),
            None => printable(self.file()),
        };
        let (word, style) = match problem.severity {
            Severity::Error => ("error", RED),
            Severity::Warning => ("warning", YELLOW),
        };
        let message = printable(&problem.message);
        let _ = writeln!(out, "{place}: {}: {}", paint.on(style, word), paint.on(BOLD, &message));
        let number = problem.place.as_ref().map(|place| place.line.to_string()).unwrap_or_default();
        let gutter = " ".repeat(number.len());
        if let Some(place) = &problem.place {
            let snippet = Snippet::new(&self.source, place);
            let bar = paint.on(BLUE, "|");
            let _ = writeln!(out, "{gutter} {bar}");
            let _ = writeln!(out, "{} {bar} {}", paint.on(BLUE, &number), snippet.line);
            let _ = writeln!(
                out,
                "{gutter} {bar} {}{}",
                snippet.lead,
                paint.on(style, &snippet.carets)
            );
        }
        let notes =
            [("found", &problem.found), ("allowed", &problem.allowed), ("help", &problem.help)];
        for (word, note) in notes {
            if let Some(note) = note {
                let sign = paint.on(BLUE, "=");
                let _ =
                    writeln!(out, "{gutter} {sign} {}: {}", paint.on(BOLD, word), printable(note));
            }
        }
    }
}

/// A line of the file with carets under the part that is meant.
struct Snippet {
    line: String,
    lead: String,
    carets: String,
}

/// So much of a very long line is shown before the place and from it on, in characters.
const SHOWN_BEFORE: usize = 60;
const SHOWN_AFTER: usize = 120;

impl Snippet {
    fn new(source: &Source, place: &Place) -> Self {
        let span = source.line_span(place.line);
        let before = place.column - 1;
        let skipped = before.saturating_sub(SHOWN_BEFORE);
        let text = source.slice(&span);
        let shown = || text.chars().skip(skipped);
        let marked = source.slice(&(place.span.start..place.span.end.min(span.end)));
        let mut line: String = shown().take(before - skipped + SHOWN_AFTER).map(visible).collect();
        let mut lead: String =
            shown().take(before - skipped).map(|c| if c == '\t' { c } else { ' ' }).collect();
        if skipped > 0 {
            line.insert(0, '…');
            lead.insert(0, ' ');
        }
        if shown().nth(before - skipped + SHOWN_AFTER).is_some() {
            line.push('…');
        }
        Self { line, lead, carets: "^".repeat(marked.chars().count().clamp(1, SHOWN_AFTER)) }
    }
}

/// A character as a terminal may show it: what would command the terminal is replaced.
fn visible(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

fn printable(text: &str) -> String {
    text.chars().map(visible).collect()
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";
const BOLD: &str = "\x1b[1m";

#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn on(self, style: &str, text: &str) -> String {
        if self.colour { format!("{style}{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Span;

    fn at(source: &Source, span: Span) -> Option<Place> {
        let (line, column) = source.position(span.start);
        Some(Place { line, column, span })
    }

    fn rendered(text: &str, span: Span) -> String {
        let source = Source::new("p.toml", text);
        let problem = Problem::error("wrong").found("x").allowed("y").help("z");
        let problem = Problem { place: at(&source, span), ..problem };
        Problems::new(source, vec![problem], 0).to_string()
    }

    #[test]
    fn shows_the_line_and_a_caret() {
        assert_eq!(
            rendered("a = 1\nbad = 2\n", 6..9),
            "p.toml:2:1: error: wrong\n  |\n2 | bad = 2\n  | ^^^\n\
             \x20 = found: x\n  = allowed: y\n  = help: z\n\n"
        );
    }

    #[test]
    fn the_caret_line_copies_tabs() {
        assert!(rendered("\ta\t= é1\r\n", 5..8).contains("1 | \ta\t= é1\n  | \t \t  ^^\n"));
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}bad{}", "x".repeat(100_000), "y".repeat(100_000));
        let shown = rendered(&text, 100_000..100_003);
        assert!(shown.len() < 1000, "{}", shown.len());
        assert!(shown.contains("p.toml:1:100001:"), "{shown}");
        let mut lines = shown.lines().skip(2);
        let line: Vec<char> = lines.next().unwrap().chars().collect();
        let carets: Vec<char> = lines.next().unwrap().chars().collect();
        let first = carets.iter().position(|c| *c == '^').unwrap();
        assert_eq!(line[first..first + 3], ['b', 'a', 'd']);
    }

    #[test]
    fn nothing_of_the_file_commands_the_terminal() {
        assert!(!rendered("a = \x1b[2J\n", 0..1).contains('\x1b'));
    }

    #[test]
    fn colour_only_when_asked_for() {
        let source = Source::new("p.toml", "a\n");
        let problem = Problem { place: at(&source, 0..1), ..Problem::error("wrong") };
        let problems = Problems::new(source, vec![problem], 3);
        assert!(problems.render(true).contains("\x1b[1;31merror\x1b[0m"));
        assert!(!problems.render(false).contains('\x1b'));
        assert!(problems.render(false).ends_with("p.toml: and 3 more\n"));
    }
}
