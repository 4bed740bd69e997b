//! `${NAME}` in a value: the environment variable of that name.

use std::borrow::Cow;

/// Why a reference to the environment cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvFault {
    /// The reference as written.
    pub reference: String,
    /// What is wrong with it.
    pub message: String,
}

/// Puts the environment into `text`. `$${` is a literal `${`; any other `$` is itself.
///
/// # Errors
///
/// Every reference that cannot be followed.
pub(super) fn expand<'t>(
    text: &'t str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Cow<'t, str>, Vec<EnvFault>> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut faults = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            faults.push(EnvFault {
                reference: "${".to_owned() + after,
                message: "`${` has no closing `}`".to_owned(),
            });
            rest = "";
            break;
        };
        match follow(name, env) {
            Ok(value) => out.push_str(&value),
            Err(message) => {
                faults.push(EnvFault { reference: format!("${{{name}}}"), message });
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    if faults.is_empty() { Ok(Cow::Owned(out)) } else { Err(faults) }
}

fn follow(name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(format!("`{name}` is not the name of an environment variable"));
    }
    env(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Vec<String>> {
        let env = |name: &str| match name {
            "PORT" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${PORT}".to_owned()),
            _ => None,
        };
        match expand(text, &env) {
            Ok(text) => Ok(text.into_owned()),
            Err(faults) => Err(faults.into_iter().map(|fault| fault.reference).collect()),
        }
    }

    #[test]
    fn takes_what_is_set() {
        assert_eq!(expanded("127.0.0.1:${PORT}").unwrap(), "127.0.0.1:8080");
        assert_eq!(expanded("${PORT}${EMPTY}${PORT}").unwrap(), "80808080");
        assert_eq!(expanded("$PORT costs 5$").unwrap(), "$PORT costs 5$");
    }

    #[test]
    fn a_doubled_dollar_is_literal() {
        assert_eq!(expanded("a$${PORT}").unwrap(), "a${PORT}");
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        assert_eq!(expanded("${NESTED}").unwrap(), "${PORT}");
    }

    #[test]
    fn every_reference_that_fails_is_named() {
        assert_eq!(expanded("${A} ${PORT} ${B}").unwrap_err(), ["${A}", "${B}"]);
        assert_eq!(expanded("${}").unwrap_err(), ["${}"]);
        assert_eq!(expanded("${1A}").unwrap_err(), ["${1A}"]);
        assert_eq!(expanded("x${PORT").unwrap_err(), ["${PORT"]);
    }
}
