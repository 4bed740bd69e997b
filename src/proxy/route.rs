//! From a host and a path to a site and a route.

use std::fmt;

/// A path that begins with `/` and has no `.` or `..` segment, no empty segment, no percent
/// escape of an unreserved character, and no trailing slash but for `/` itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathPrefix(String);

/// Why a text is no path prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError(pub String);

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PathPrefix {
    /// Parses.
    ///
    /// # Errors
    /// When it is no path prefix.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if !text.starts_with('/') || text.contains("//") || text.contains(['?', '#', ' ']) {
            return Err(PathError("a path begins with `/`".to_owned()));
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        Ok(if text.is_empty() { Self::root() } else { Self(text.to_owned()) })
    }

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
