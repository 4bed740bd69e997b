//! The text format of Prometheus, version 0.0.4, written and, in tests, read.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::label::Label;

#[cfg(test)]
pub(super) mod reader;

/// The type of a metric.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A page in the making. Every name gets the prefix `portcullis_`.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a metric; its samples follow.
    pub(super) fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP portcullis_{name} {help}"));
        self.line(format_args!("# TYPE portcullis_{name} {kind}"));
    }

    /// A metric of one sample without labels.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl fmt::Display) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    /// A counter with a sample for each value of a label.
    pub(super) fn family<L: Label>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        value: impl Fn(L) -> u64,
    ) {
        self.metric(name, Kind::Counter, help);
        for each in L::ALL {
            self.sample(name, &[(label, each.text())], value(*each));
        }
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.line(format_args!("portcullis_{name}{} {value}", Labels(labels)));
    }

    pub(super) fn text(self) -> String {
        self.0
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// `{site="example.com",route="/"}`.
struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "{" } else { "," })?;
            write!(f, "{name}=\"")?;
            for character in value.chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    _ => f.write_char(character)?,
                }
            }
            f.write_char('"')?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_char('}') }
    }
}

/// Seconds with nine decimals, without the rounding of a floating point number.
pub(super) struct Seconds {
    pub(super) nanoseconds: u128,
}

impl Seconds {
    pub(super) fn since_1970(time: SystemTime) -> Self {
        let nanoseconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self { nanoseconds }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = 1_000_000_000;
        write!(f, "{}.{:09}", self.nanoseconds / second, self.nanoseconds % second)
    }
}
