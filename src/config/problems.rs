//! Mistakes and their places, and how they are told.

use std::fmt::{self, Write as _};

use serde_json::json;

use super::source::{Source, Span};

/// One mistake, or one thing worth a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps the configuration from being used.
    pub severity: Severity,
    /// Where; `None` where it is about the file as a whole.
    pub place: Option<Place>,
    /// What is wrong, one sentence without its full stop.
    pub message: String,
    /// What stands there, where the message does not say so.
    pub found: Option<String>,
    /// What may stand there.
    pub allowed: Option<String>,
    /// What to do about it; the nearest known word where one is close.
    pub help: Option<String>,
    /// Whether it says that something is missing: no news in a text that was not read whole.
    pub(super) absence: bool,
}

/// Whether a problem keeps the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The bytes that are meant.
    pub span: Span,
}

impl Problem {
    /// An error without any of the optional parts.
    #[must_use]
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: None,
            message: message.into(),
            found: None,
            allowed: None,
            help: None,
            absence: false,
        }
    }

    /// A warning without any of the optional parts.
    #[must_use]
    pub(super) fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// An error that says that something is missing.
    #[must_use]
    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self { absence: true, ..Self::error(message) }
    }

    /// Says what stands there.
    #[must_use]
    pub(super) fn found(self, found: impl Into<String>) -> Self {
        Self { found: Some(found.into()), ..self }
    }

    /// Says what may stand there.
    #[must_use]
    pub(super) fn allowed(self, allowed: impl Into<String>) -> Self {
        Self { allowed: Some(allowed.into()), ..self }
    }

    /// Says what to do.
    #[must_use]
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Says what to do, if there is something to say.
    #[must_use]
    pub(super) fn maybe_help(self, help: Option<String>) -> Self {
        Self { help: help.or(self.help), ..self }
    }
}

/// Everything that is wrong with one file, in the order of its lines.
#[derive(Clone, Debug)]
pub struct Problems {
    source: Source,
    list: Vec<Problem>,
    unlisted: usize,
    not_permitted: bool,
}

impl Problems {
    /// Orders `list`; `unlisted` more were found and not kept.
    pub(super) fn new(source: Source, mut list: Vec<Problem>, unlisted: usize) -> Self {
        list.sort_by_key(|problem| problem.place.as_ref().map_or(0, |place| place.span.start));
        Self { source, list, unlisted, not_permitted: false }
    }

    /// One problem with a file of which there is nothing to show.
    pub(super) fn unreadable(name: &str, problem: Problem, not_permitted: bool) -> Self {
        Self { not_permitted, ..Self::new(Source::new(name, ""), vec![problem], 0) }
    }

    /// The problems, in the order of the file's lines.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The name of the file, as the operator gave it.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// Whether the file could not be read for want of a right, which has its own exit code.
    #[must_use]
    pub fn not_permitted(&self) -> bool {
        self.not_permitted
    }

    /// Every problem as an object of `file`, `line`, `column`, `message`, `found`, `allowed` and
    /// `help`; what there is not is `null`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let object = |problem: &Problem| {
            json!({
                "file": self.file(),
                "line": problem.place.as_ref().map(|place| place.line),
                "column": problem.place.as_ref().map(|place| place.column),
                "message": problem.message,
                "found": problem.found,
                "allowed": problem.allowed,
                "help": problem.help,
            })
        };
        self.list.iter().map(object).collect()
    }

    /// The text for people: every problem with its line and a caret, in colour if asked for.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let mut out = String::new();
        for problem in &self.list {
            self.render_one(problem, paint, &mut out);
            out.push('\n');
        }
        if self.unlisted > 0 {
            let _ = writeln!(out, "{}: and {} more", printable(self.file()), self.unlisted);
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

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

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
            "p.toml:2:1: error: wrong\n  |\n2 | bad = 2\n  | ^^^\n  = found: x\n  = allowed: y\n  = help: z\n\n"
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
