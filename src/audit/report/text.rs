//! A report for a terminal.

use std::fmt::Write;

use super::Report;
use super::groups::{Group, groups};
use super::rows::{COLUMNS, protocol, rows};
use crate::audit::baseline::Comparison;
use crate::audit::inventory::{Exposure, Listener};
use crate::audit::verdict::Severity;

/// Whether the reader's terminal shows colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// It does, and the user wants them.
    On,
    /// No escape sequence is written.
    Off,
}

impl Colour {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Colour::On => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Colour::Off => text.to_owned(),
        }
    }

    fn severity(self, severity: Severity, text: &str) -> String {
        let code = match severity {
            Severity::Critical => "1;97;41",
            Severity::High => "1;31",
            Severity::Medium => "1;33",
            Severity::Low => "36",
            Severity::Info => "2",
        };
        self.paint(code, text)
    }
}

/// The widest that a column may be; what is longer ends in an ellipsis.
const WIDEST: usize = 32;

/// The listeners, the findings with their remedies, and what could not be seen.
#[must_use]
pub fn text(report: &Report, colour: Colour) -> String {
    let mut out = String::new();
    let title = colour.paint("1", &report.host.name);
    let _ = writeln!(out, "What listens on {title} ({})\n", report.about());
    table(&mut out, report, colour);
    let listeners = match report.listeners.len() {
        1 => "1 listener".to_owned(),
        count => format!("{count} listeners"),
    };
    let _ = writeln!(out, "\n{listeners}; {}.", report.counts());
    for group in groups(&report.findings) {
        finding(&mut out, &group, colour);
    }
    if let Some(comparison) = &report.baseline {
        changes(&mut out, comparison);
    }
    if !report.unseen.is_empty() {
        out.push_str("\nNot seen:\n");
        for sentence in &report.unseen {
            let _ = writeln!(out, "  {sentence}");
        }
    }
    out
}

fn table(out: &mut String, report: &Report, colour: Colour) {
    let rows = rows(report);
    let cut = |cell: &str| {
        let is_long = cell.chars().count() > WIDEST;
        let kept = if is_long { WIDEST - 1 } else { WIDEST };
        cell.chars().take(kept).chain(is_long.then_some('…')).collect::<String>()
    };
    let titles = COLUMNS.map(str::to_uppercase);
    let lines: Vec<(Exposure, [String; 7])> =
        rows.iter().map(|row| (row.exposure, row.cells.each_ref().map(|cell| cut(cell)))).collect();
    let mut widths = titles.each_ref().map(|title| title.chars().count());
    for (_, cells) in &lines {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 7]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let _ = writeln!(out, "{}", colour.paint("1", &line(&titles)));
    for (exposure, cells) in &lines {
        let shown = line(cells);
        let shown = match exposure {
            Exposure::Loopback => colour.paint("2", &shown),
            Exposure::Private | Exposure::Public => shown,
        };
        let _ = writeln!(out, "{shown}");
    }
}

fn finding(out: &mut String, group: &Group<'_>, colour: Colour) {
    let Group { severity, rule, ports, reason, reference, remedies } = group;
    let word = colour.severity(*severity, &severity.name().to_uppercase());
    if *severity == Severity::Info {
        let _ = writeln!(out, "\n{word}  {ports}  {rule}\n  {reason}");
        return;
    }
    let remedies = remedies.join("\n        ");
    let _ = writeln!(
        out,
        "\n{word}  {ports}  {rule}\n  {reason}\n  mend: {remedies}\n  see:  {reference}"
    );
}

fn changes(out: &mut String, comparison: &Comparison) {
    if comparison.is_empty() {
        out.push_str("\nNothing is different from the baseline.\n");
        return;
    }
    out.push_str("\nDifferent from the baseline:\n");
    let mut tell = |word: &str, listeners: &[Listener]| {
        for listener in listeners {
            let name = listener.holder.as_ref().map_or("?", |holder| holder.comm.as_str());
            let (port, protocol) = (listener.port, protocol(listener.protocol));
            let _ = writeln!(out, "  {word:<8} {port}/{protocol}  {name}");
        }
    };
    tell("new", &comparison.new);
    tell("gone", &comparison.gone);
    for change in &comparison.changed {
        let (port, protocol) = (change.port, protocol(change.protocol));
        let _ = writeln!(out, "  changed  {port}/{protocol}  {}", change.what.join("; "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::report::testing::report;

    #[test]
    fn the_table_comes_first_and_the_most_urgent_finding_next() {
        let shown = text(&report(), Colour::Off);
        let at = |part: &str| shown.find(part).unwrap_or_else(|| panic!("{part} in:\n{shown}"));
        assert!(at("PORT") < at("23/tcp    telnet") && at("telnet") < at("HIGH"));
        assert!(at("HIGH") < at("LOW") && at("LOW") < at("Not seen:"));
        assert!(shown.contains("mend: systemctl disable --now telnetd.service"), "{shown}");
        assert!(shown.contains("3 listeners; 2 high, 1 low."), "{shown}");
        assert!(shown.lines().all(|line| line.trim_end() == line), "{shown}");
    }

    #[test]
    fn colours_are_for_those_who_want_them() {
        assert!(!text(&report(), Colour::Off).contains('\u{1b}'));
        assert!(text(&report(), Colour::On).contains("\u{1b}[1;31mHIGH"));
    }

    #[test]
    fn what_changed_is_told() {
        let mut report = report();
        report.baseline = Some(Comparison::default());
        assert!(text(&report, Colour::Off).contains("Nothing is different"));
        let new = vec![report.listeners[0].listener.clone()];
        report.baseline = Some(Comparison { new, ..Comparison::default() });
        assert!(text(&report, Colour::Off).contains("  new      23/tcp  telnetd\n"));
    }
}
