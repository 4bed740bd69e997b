//! From a text that may be broken to one that can be read: every break is reported, then painted
//! over with blanks, so that the rest of the file is judged too and all places stay true.

use std::borrow::Cow;

use toml::de::{DeTable, Error};

use super::problems::Problem;
use super::report::Report;
use super::source::{Source, Span};

/// So often a text is read again after a break that hid what follows it.
const PASSES: usize = 16;
/// A large text is read again less often: it is not a configuration that a person wrote.
const LARGE: usize = 1 << 20;
const PASSES_LARGE: usize = 2;
/// Of a large text so much is tried first, and given up on with so many breaks: reading all of
/// something else, a picture or a log, would cost gigabytes for its errors alone.
const SAMPLE: usize = 1 << 16;
const HOPELESS: usize = 500;

/// Reports every break of the syntax and returns the text without them, of the same length.
pub(super) fn mend<'s>(source: &'s Source, report: &mut Report<'_>) -> Cow<'s, str> {
    let mut text = Cow::Borrowed(source.text());
    let large = text.len() > LARGE;
    if large {
        let end = source.line_span(source.line_of(SAMPLE)).start;
        let start = text.get(..end).filter(|start| !start.is_empty());
        // A first line longer than the sample was not written by a person either.
        let hopeless =
            start.is_none_or(|start| DeTable::parse_recoverable(start).1.len() > HOPELESS);
        if hopeless {
            let help = "is it the right file? Its beginning is not TOML";
            report.add_syntax(&(0..0), Problem::error("this is no configuration").help(help));
            return Cow::Borrowed("");
        }
    }
    for _ in 0..if large { PASSES_LARGE } else { PASSES } {
        let (_, errors) = DeTable::parse_recoverable(&text);
        if errors.is_empty() || report.is_full() {
            break;
        }
        let blank = report_breaks(source, errors, report);
        let mut bytes = text.into_owned().into_bytes();
        for span in blank {
            paint(&mut bytes, &span);
        }
        text = Cow::Owned(String::from_utf8(bytes).unwrap_or_default());
    }
    text
}

/// Reports what one reading found, as far as it can be trusted, and returns what to paint over.
fn report_breaks(source: &Source, mut errors: Vec<Error>, report: &mut Report<'_>) -> Vec<Span> {
    let start = |error: &Error| error.span().map_or(0, |span| span.start);
    errors.sort_by_key(start);
    // Of a line the first break counts: the others follow from it.
    errors.dedup_by_key(|error| source.line_of(start(error)));
    let mut blank = Vec::new();
    for (index, error) in errors.iter().enumerate() {
        if report.is_full() {
            report.count(errors.len() - index);
            break;
        }
        let fault = Fault::new(source, error);
        report.add_syntax(&fault.span, fault.problem);
        blank.push(fault.blank);
        if fault.hides_the_rest {
            break;
        }
    }
    blank
}

/// Blanks, of the same length, with the line endings kept.
fn paint(bytes: &mut [u8], span: &Span) {
    for byte in bytes.get_mut(span.clone()).unwrap_or_default() {
        if !matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// One break: what to say, and how much of the text cannot be trusted for it.
struct Fault {
    span: Span,
    problem: Problem,
    blank: Span,
    hides_the_rest: bool,
}

impl Fault {
    fn new(source: &Source, error: &Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let line = source.line_of(span.start);
        let line_span = source.line_span(line);
        let message = error.message();
        if message == "duplicate key" {
            // The section behind a header that occurs twice is still worth judging.
            let blank = if is_header(source.slice(&line_span)) { 0..0 } else { line_span };
            let problem = Problem::error(format!("`{}` is set twice", source.slice(&span)));
            return Self { span, problem, blank, hides_the_rest: false };
        }
        if message.starts_with("unclosed table") || message.starts_with("unclosed array table") {
            let problem = Problem::error("this header is not closed")
                .help(format!("write `{}`", closed(source.slice(&line_span))));
            return Self {
                span: line_span,
                problem,
                blank: section(source, line),
                hides_the_rest: true,
            };
        }
        if ["array", "inline table", "multi-line"].iter().any(|word| message.contains(word)) {
            return Self::in_several_lines(source, span, message);
        }
        if let Some((value, problem)) = bare_value(source, &line_span, message) {
            return Self { span: value, problem, blank: line_span, hides_the_rest: false };
        }
        let problem = Problem::error(message).maybe_help(key_value_help(source.slice(&line_span)));
        Self { span, problem, blank: line_span, hides_the_rest: false }
    }

    /// A list, an inline table or a text of several lines: its end is anybody's guess, so that the
    /// whole section is given up and the following ones are read anew.
    fn in_several_lines(source: &Source, span: Span, message: &str) -> Self {
        let line = source.line_of(span.start);
        // Something before a header was not closed, where there is something before it.
        let at_header = line > 1 && is_header(source.slice(&source.line_span(line)));
        let blank = section(source, if at_header { line - 1 } else { line });
        let before = source.slice(&(blank.start..span.start));
        let opened = before.rfind(['[', '{']).filter(|at| {
            let rest = before.get(at + 1..).unwrap_or_default();
            rest.contains('\n')
                && before.get(..*at).is_some_and(|text| text.trim_end().ends_with('='))
        });
        let wants_more = message.starts_with("missing ") || message.starts_with("unclosed");
        match opened.filter(|_| wants_more) {
            Some(at) => {
                let start = blank.start + at;
                let list = source.slice(&(start..start + 1)) == "[";
                let (what, end) = if list { ("list", "]") } else { ("table", "}") };
                let problem = Problem::error(format!(
                    "this {what} is not closed with `{end}`, or lacks a comma"
                ));
                Self { span: start..start + 1, problem, blank, hides_the_rest: true }
            }
            None => Self { span, problem: Problem::error(message), blank, hides_the_rest: true },
        }
    }
}

/// The commonest slip: `to = 127.0.0.1:8080` without quotes.
fn bare_value(source: &Source, line: &Span, message: &str) -> Option<(Span, Problem)> {
    let text = source.slice(line);
    let scalar = [
        "string values must be quoted",
        "invalid float",
        "invalid integer",
        "invalid date",
        "invalid time",
    ];
    if !scalar.iter().any(|start| message.starts_with(start)) {
        return None;
    }
    let (key, rest) = text.split_once('=')?;
    let value = rest.split_once(" #").map_or(rest, |(value, _)| value).trim();
    if value.is_empty() || value.starts_with(['"', '\'', '[', '{']) {
        return None;
    }
    let start = line.start + key.len() + 1 + (rest.len() - rest.trim_start().len());
    let lower = value.to_ascii_lowercase();
    let help = match &*lower {
        "true" | "false" => format!("write `{} = {lower}`", key.trim()),
        _ => format!("write `{} = \"{}\"`", key.trim(), value.trim_end_matches(['"', '\'', ';'])),
    };
    Some((start..start + value.len(), Problem::error("a text needs quotes around it").help(help)))
}

fn key_value_help(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with("//") || line.starts_with(';') {
        return Some("a comment begins with `#`".to_owned());
    }
    if line.contains('=') {
        return None;
    }
    Some("a line is `key = value`, `[section]` or `# comment`".to_owned())
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

fn closed(line: &str) -> String {
    let name = line.split('#').next().unwrap_or_default().trim();
    let inner = name.trim_matches(['[', ']', ' ']);
    if name.starts_with("[[") { format!("[[{inner}]]") } else { format!("[{inner}]") }
}

/// The section that `line` is in: its header up to the next one.
fn section(source: &Source, line: usize) -> Span {
    let header = |number: &usize| is_header(source.slice(&source.line_span(*number)));
    let first = (1..=line).rev().find(header).unwrap_or(1);
    let last = (line + 1..=source.lines()).find(header).map_or(source.lines(), |next| next - 1);
    source.line_span(first).start..source.line_span(last).end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "[server]\n",
            "[[site]]\n",
            "[server\n",
            "host = \"a\"\n",
            "host = \"a\n",
            "to = 8080\n",
            "to = [\n",
            "to = [1, 2\n",
            "]\n",
            "}\n",
            "a = {\n",
            "'''\n",
            "\"\"\"",
            "# é\n",
            "x\n",
            "= 1\r\n",
            "a.b = 1\n",
            "host = \"b\"\n",
            "\u{7f}\n",
            "\t\n",
            "\r",
            "日 = 1\n",
            "a = 1",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// The rest of the file is judged at its true places.
        #[test]
        fn only_blanks_stand_in_the_place_of_a_break(text in texts()) {
            let source = Source::new("f", &text);
            let mut report = Report::new(&source);
            let mended = mend(&source, &mut report);
            prop_assert_eq!(mended.len(), source.text().len());
            for (before, after) in source.text().bytes().zip(mended.bytes()) {
                prop_assert!(before == after || after == b' ' && !matches!(before, b'\r' | b'\n'));
            }
            let was_right = DeTable::parse_recoverable(source.text()).1.is_empty();
            let (errors, _) = report.finish();
            prop_assert_eq!(was_right, errors.is_empty());
            if was_right {
                prop_assert_eq!(mended, source.text());
            }
        }
    }
}
