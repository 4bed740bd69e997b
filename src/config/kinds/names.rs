//! Names, paths of files, and words of a closed set.

use std::path::PathBuf;

use tracing::level_filters::LevelFilter;

use super::{Wrong, wrong, wrong_but};
use crate::config::read::Text;
use crate::config::{AccessLog, LogFormat, Sandbox};
use crate::proxy::headers::host::HostPattern;
use crate::proxy::route::PathPrefix;

impl Text for HostPattern {
    const ALLOWED: &'static str = "a name such as \"example.com\", \"*.example.com\" for one \
        label more, \"*\" for any other name, or an IP address";

    fn parse(text: &str) -> Result<Self, Wrong> {
        HostPattern::parse(text).or_else(|_| {
            let message = format!("`{text}` is not a host name");
            let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
            let bare = bare.split(['/', '?', '#']).next().unwrap_or_default();
            let bare = bare.rsplit_once(':').map_or(bare, |(host, _)| host);
            if bare != text && HostPattern::parse(bare).is_ok() {
                return wrong_but(message, format!("write the name alone: `\"{bare}\"`"));
            }
            wrong(message)
        })
    }
}

impl Text for PathPrefix {
    const ALLOWED: &'static str = "a path that begins with `/`, such as \"/api\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        PathPrefix::parse(text).map_err(|error| {
            let slashed = format!("/{text}");
            let help = (!text.starts_with('/') && PathPrefix::parse(&slashed).is_ok())
                .then(|| format!("write `\"{slashed}\"`"));
            (format!("`{text}` is not a path: {error}"), help)
        })
    }
}

impl Text for AccessLog {
    const ALLOWED: &'static str = "\"stdout\", \"off\", or the path of a file";
    const WORDS: &'static [&'static str] = &["stdout", "off"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "stdout" => Ok(AccessLog::Stdout),
            "off" => Ok(AccessLog::Off),
            // A word without a slash or a dot is a slip, not a file.
            _ if text.contains(['/', '.']) => Ok(AccessLog::File(FilePath::parse(text)?.0)),
            _ => wrong(format!("`{text}` is not a place for the access log")),
        }
    }
}

impl Text for LogFormat {
    const ALLOWED: &'static str = "\"combined\" or \"json\"";
    const WORDS: &'static [&'static str] = &["combined", "json"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "combined" => Ok(LogFormat::Combined),
            "json" => Ok(LogFormat::Json),
            _ => wrong(format!("`{text}` is not a format of the access log")),
        }
    }
}

impl Text for Sandbox {
    const ALLOWED: &'static str = "\"on\", \"off\" or \"require\"";
    const WORDS: &'static [&'static str] = &["on", "off", "require"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "on" => Ok(Sandbox::On),
            "off" => Ok(Sandbox::Off),
            "require" => Ok(Sandbox::Require),
            "required" => wrong_but("`required` is no such setting", "did you mean `require`?"),
            _ => wrong(format!("`{text}` is no setting of the sandbox")),
        }
    }
}

/// How much the program says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Level(pub LevelFilter);

impl Text for Level {
    const ALLOWED: &'static str = "\"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\"";
    const WORDS: &'static [&'static str] = &["error", "warn", "info", "debug", "trace", "off"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        let level = match text {
            "error" => LevelFilter::ERROR,
            "warn" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            "off" => LevelFilter::OFF,
            "warning" => return wrong_but("`warning` is not a level", "did you mean `warn`?"),
            _ => return wrong(format!("`{text}` is not a level")),
        };
        Ok(Self(level))
    }
}

/// The name of a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Parameter(pub String);

impl Text for Parameter {
    const ALLOWED: &'static str = "names of query parameters, such as \"token\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() || text.contains(['=', '&', '?', '#', ' ']) {
            return wrong(format!("`{text}` is not the name of a query parameter"));
        }
        Ok(Self(text.to_lowercase()))
    }
}

/// The name of a user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct User(pub String);

impl Text for User {
    const ALLOWED: &'static str = "the name or the number of a user in quotes, such as \"portcullis\" or \"998\"; \
        \"root\" lets root stay";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-$@".contains(c);
        match text {
            _ if text.is_empty()
                || text.len() > 256
                || text.starts_with('-')
                || !text.chars().all(plain) =>
            {
                wrong(format!("`{text}` is not the name of a user"))
            }
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// An e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Email(pub String);

impl Text for Email {
    const ALLOWED: &'static str = "an e-mail address such as \"ops@example.com\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let text = text.strip_prefix("mailto:").unwrap_or(text);
        let parts = text.split_once('@');
        let right = parts.is_some_and(|(name, domain)| {
            !name.is_empty() && !domain.is_empty() && !domain.contains('@')
        });
        if !right || !text.chars().all(|c| c.is_ascii_graphic() && !",<>\"".contains(c)) {
            return wrong(format!("`{text}` is not an e-mail address"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The directory of a certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Directory(pub String);

impl Text for Directory {
    const ALLOWED: &'static str = "the https URL of an ACME directory (RFC 8555 §6.1)";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let uri = text.parse::<http::Uri>().ok();
        match uri.as_ref().map(|uri| (uri.scheme_str(), uri.host())) {
            Some((Some("https"), Some(host))) if !host.is_empty() => Ok(Self(text.to_owned())),
            _ => wrong(format!("`{text}` is not an https URL")),
        }
    }
}

/// The path of a file, as written: relative to the folder of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct FilePath(pub PathBuf);

impl Text for FilePath {
    const ALLOWED: &'static str =
        "the path of a file; a relative one begins at the folder of this configuration";

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "" => wrong("the path is empty"),
            _ if text.contains('\0') => wrong("no path has a NUL character"),
            _ if text.starts_with("~/") => {
                wrong_but("`~` is not expanded here", "write the whole path, or `${HOME}/…`")
            }
            _ => Ok(Self(PathBuf::from(text))),
        }
    }
}
