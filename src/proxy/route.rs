//! From a host and a path to a site and a route.

use std::fmt;

/// A path that begins with `/` and has no `.` or `..` segment, no empty segment, no percent
/// escape of an unreserved character, and no trailing slash but for `/` itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// `/`: everything.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
