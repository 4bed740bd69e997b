//! A report to hand to somebody: one page of HTML that needs nothing else.

use std::fmt::Write;

use super::Report;
use super::groups::{Group, groups};
use super::rows::{COLUMNS, protocol, rows};
use crate::audit::inventory::Exposure;
use crate::audit::verdict::Severity;

const STYLE: &str = include_str!("page.css");

/// The report as a page: no script, nothing from elsewhere, light or dark as the reader has it, a
/// table on a desk and cards on a phone.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut out = String::new();
    let name = escaped(&report.host.name);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"robots\" content=\"noindex\">\n\
         <title>What listens on {name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>What listens on {name}</h1>\n<p>{}</p>\n{}</header>\n<main>\n",
        escaped(&report.about()),
        counts(report),
    );
    table(&mut out, report);
    out.push_str("<section>\n<h2>Findings</h2>\n");
    if report.findings.is_empty() {
        out.push_str("<p>None.</p>\n");
    }
    for group in groups(&report.findings) {
        finding(&mut out, &group);
    }
    out.push_str("</section>\n");
    changes(&mut out, report);
    if !report.unseen.is_empty() {
        list(&mut out, "Not seen", &report.unseen);
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        out,
        "</main>\n<footer>portcullis {version}; no command on this page was run</footer>\n\
         </body>\n</html>\n"
    );
    out
}

fn counts(report: &Report) -> String {
    let mut out = String::from("<p class=\"counts\">");
    for severity in Severity::ALL {
        let count = report.findings.iter().filter(|f| f.severity == severity).count();
        if count > 0 {
            let _ = write!(out, "<span class=\"{severity}\">{count} {severity}</span> ");
        }
    }
    if report.findings.is_empty() {
        out.push_str("no findings");
    }
    out + "</p>\n"
}

fn table(out: &mut String, report: &Report) {
    out.push_str("<section>\n<h2>Listeners</h2>\n<table>\n<thead><tr>");
    for column in COLUMNS {
        let _ = write!(out, "<th scope=\"col\">{column}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows(report) {
        let class = match row.exposure {
            Exposure::Loopback => "loopback",
            Exposure::Private => "private",
            Exposure::Public => "public",
        };
        let _ = write!(out, "<tr class=\"{class}\">");
        for (column, cell) in COLUMNS.iter().zip(&row.cells) {
            let class = if cell == "-" { " class=\"none\"" } else { "" };
            let _ = write!(out, "<td data-label=\"{column}\"{class}>{}</td>", escaped(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</section>\n");
}

fn finding(out: &mut String, group: &Group<'_>) {
    let Group { severity, rule, ports, reason, reference, remedies } = group;
    let _ = write!(
        out,
        "<article class=\"{severity}\">\n<h3><span>{severity}</span> {} <code>{rule}</code></h3>\n\
         <p>{}</p>\n",
        escaped(ports),
        escaped(reason),
    );
    if *severity > Severity::Info {
        let _ = write!(
            out,
            "<pre><code>{}</code></pre>\n<p class=\"see\">See: {}</p>\n",
            escaped(&remedies.join("\n")),
            escaped(reference),
        );
    }
    out.push_str("</article>\n");
}

fn changes(out: &mut String, report: &Report) {
    let Some(comparison) = &report.baseline else { return };
    let mut lines = Vec::new();
    for (word, listeners) in [("new", &comparison.new), ("gone", &comparison.gone)] {
        let line = |l: &crate::audit::inventory::Listener| {
            format!("{word}: {}/{}", l.port, protocol(l.protocol))
        };
        lines.extend(listeners.iter().map(line));
    }
    for change in &comparison.changed {
        let (port, protocol) = (change.port, protocol(change.protocol));
        lines.push(format!("changed: {port}/{protocol}, {}", change.what.join("; ")));
    }
    if lines.is_empty() {
        lines.push("Nothing is different.".to_owned());
    }
    list(out, "Against the baseline", &lines);
}

fn list(out: &mut String, title: &str, lines: &[String]) {
    let _ = write!(out, "<section>\n<h2>{title}</h2>\n<ul>\n");
    for line in lines {
        let _ = writeln!(out, "<li>{}</li>", escaped(line));
    }
    out.push_str("</ul>\n</section>\n");
}

/// Text, within elements and within attributes in double quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::report::testing::report;

    #[test]
    fn the_page_needs_nothing_else() {
        let page = html(&report());
        for foreign in ["http:", "https:", "//", "<script", "<link", "<img", "url(", "@import"] {
            assert!(!page.contains(foreign), "{foreign} in {page}");
        }
        assert!(page.contains("width=device-width"));
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media (max-width"));
    }

    #[test]
    fn every_element_that_opens_closes() {
        let page = html(&report());
        for element in ["html", "head", "body", "table", "tr", "td", "article", "section", "pre"] {
            let opened = page.matches(&format!("<{element}>")).count()
                + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
    }

    #[test]
    fn a_name_is_text_and_never_markup() {
        let page = html(&report());
        assert!(page.contains("a|b`&lt;i&gt; (812)") && !page.contains("<i>"), "{page}");
        assert_eq!(escaped("<a href=\"'&\">"), "&lt;a href=&quot;&#39;&amp;&quot;&gt;");
    }
}
