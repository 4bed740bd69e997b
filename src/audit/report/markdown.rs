//! A report for issues and wikis: Markdown as CommonMark and GitHub have it.

use std::fmt::Write;

use super::Report;
use super::groups::groups;
use super::rows::{COLUMNS, protocol, rows};
use crate::audit::verdict::Severity;

/// The report as Markdown.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# What listens on {}\n", escaped(&report.host.name));
    let _ = writeln!(out, "{}. {}.\n", escaped(&report.about()), sentence(&report.counts()));
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let _ = writeln!(out, "{}", line(&COLUMNS.map(ToOwned::to_owned)));
    let _ = writeln!(out, "{}", line(&COLUMNS.map(|_| "---".to_owned())));
    for row in rows(report) {
        let _ = writeln!(out, "{}", line(&row.cells.each_ref().map(|cell| escaped(cell))));
    }
    out.push_str("\n## Findings\n");
    if report.findings.is_empty() {
        out.push_str("\nNone.\n");
    }
    for group in groups(&report.findings) {
        let (severity, ports) = (sentence(group.severity.name()), escaped(&group.ports));
        let _ = writeln!(out, "\n### {severity}: {ports}, {}\n", group.rule);
        let _ = writeln!(out, "{}", escaped(group.reason));
        if group.severity > Severity::Info {
            let remedies = group.remedies.join("\n");
            let fence = fence(&remedies);
            let _ = writeln!(out, "\n{fence}sh\n{remedies}\n{fence}\n");
            let _ = writeln!(out, "See: {}.", escaped(group.reference));
        }
    }
    changes(&mut out, report);
    if !report.unseen.is_empty() {
        out.push_str("\n## Not seen\n\n");
        for sentence in &report.unseen {
            let _ = writeln!(out, "- {}", escaped(sentence));
        }
    }
    out
}

fn changes(out: &mut String, report: &Report) {
    let Some(comparison) = &report.baseline else { return };
    out.push_str("\n## Against the baseline\n\n");
    if comparison.is_empty() {
        out.push_str("Nothing is different.\n");
    }
    for (word, listeners) in [("new", &comparison.new), ("gone", &comparison.gone)] {
        for listener in listeners {
            let _ = writeln!(out, "- {word}: {}/{}", listener.port, protocol(listener.protocol));
        }
    }
    for change in &comparison.changed {
        let (port, protocol) = (change.port, protocol(change.protocol));
        let _ = writeln!(out, "- changed: {port}/{protocol}, {}", escaped(&change.what.join("; ")));
    }
}

/// With a capital.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

/// No character of it means anything but itself.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if "\\`*_[]<>|#~&!".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// Longer than any run of backticks in the text.
fn fence(text: &str) -> String {
    let runs = text.split(|c| c != '`').map(str::len);
    "`".repeat(runs.max().unwrap_or(0).max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::report::testing::report;

    #[test]
    fn it_is_a_table_and_a_list_of_findings() {
        let shown = markdown(&report());
        assert!(shown.starts_with("# What listens on test\n"), "{shown}");
        assert!(shown.contains("| 23/tcp | telnet | everywhere |"), "{shown}");
        assert!(shown.contains("### High: 23/tcp, clear-text\n"), "{shown}");
        assert!(shown.contains("```sh\nsystemctl disable --now telnetd.service\n```"), "{shown}");
        assert!(shown.contains("## Not seen\n"), "{shown}");
    }

    #[test]
    fn a_name_cannot_break_the_table_or_the_page() {
        let shown = markdown(&report());
        assert!(shown.contains("a\\|b\\`\\<i\\> (812)"), "{shown}");
        assert_eq!(fence("a ``` b"), "````");
        assert_eq!(fence("a"), "```");
    }
}
