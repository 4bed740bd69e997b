//! How urgent a finding is.

use std::fmt;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Serialize;

/// How urgent a finding is; from the least to the most.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know; nothing to do.
    Info,
    /// Untidy, or a second line of defence that is missing.
    Low,
    /// To be mended in the next days.
    Medium,
    /// A stranger may get in, or read along: to be mended today.
    High,
    /// A stranger needs nothing but the address: to be mended now.
    Critical,
}

impl Severity {
    /// Every one, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Info];

    /// One step less urgent; the least stays.
    #[must_use]
    pub fn lower(self) -> Self {
        match self {
            Severity::Critical => Severity::High,
            Severity::High => Severity::Medium,
            Severity::Medium => Severity::Low,
            Severity::Low | Severity::Info => Severity::Info,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Low => "low",
            Severity::Info => "info",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_in_order_and_each_is_one_above_the_next() {
        for pair in Severity::ALL.windows(2) {
            assert!(pair[0] > pair[1]);
            assert_eq!(pair[0].lower(), pair[1]);
        }
        assert_eq!(Severity::Info.lower(), Severity::Info);
    }

    #[test]
    fn the_word_is_the_same_everywhere() {
        for severity in Severity::ALL {
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.name());
            assert_eq!(severity.to_possible_value().unwrap().get_name(), severity.name());
        }
    }
}
