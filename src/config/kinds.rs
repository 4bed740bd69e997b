//! The kinds of value that a key can have, each with what is allowed in words.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

use super::duration::Period;
use super::file::CertFiles;
use super::problems::Problem;
use super::read::{Node, Reader, Text, Value, integer, read_section};
use super::size::Size;
use super::target::Target;
use super::{AccessLog, Listen, LogFormat, Redirect};
use crate::proxy::headers::host::{Host, HostPattern};
use crate::proxy::route::PathPrefix;

/// What is wrong and, where that is clear, what to do.
type Wrong = (String, Option<String>);

fn wrong<T>(message: impl Into<String>) -> Result<T, Wrong> {
    Err((message.into(), None))
}

fn wrong_but<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Wrong> {
    Err((message.into(), Some(help.into())))
}

impl Text for Size {
    const ALLOWED: &'static str = Size::ALLOWED;

    fn parse(text: &str) -> Result<Self, Wrong> {
        Size::parse(text)
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        u64::try_from(number).map(Size).map_err(|_| None)
    }
}

impl Text for Period {
    const ALLOWED: &'static str = Period::ALLOWED;

    fn parse(text: &str) -> Result<Self, Wrong> {
        Period::parse(text)
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        Err(Some(format!("write it with its unit and in quotes: `\"{number}s\"`")))
    }
}

/// A whole number of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Count(pub u64);

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Value for Count {
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        if let Some(count) = integer(node.get_ref()).and_then(|number| u64::try_from(number).ok()) {
            return Some(Self(count));
        }
        let text = node.get_ref().as_str().filter(|text| text.parse::<u64>().is_ok());
        let help = text.map(|text| format!("write `{text}`, without quotes"));
        reader.wrong_type(node, "a whole number, not below 0", help);
        None
    }
}

/// A number of workers, or as many as fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workers {
    Auto,
    Number(u64),
}

impl Text for Workers {
    const ALLOWED: &'static str = "\"auto\" or a whole number from 1 to 1024";
    const WORDS: &'static [&'static str] = &["auto"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "auto" => Ok(Self::Auto),
            _ if text.parse::<u64>().is_ok() => wrong_but(
                "a number of workers is written without quotes",
                format!("write `{text}`"),
            ),
            _ => wrong(format!("`{text}` is not a number of workers")),
        }
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        match u64::try_from(number) {
            Ok(number @ 1..=1024) => Ok(Self::Number(number)),
            Ok(0) => Err(Some("write `\"auto\"` for one worker per CPU".to_owned())),
            _ => Err(None),
        }
    }
}

/// A size, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodySize {
    Off,
    AtMost(Size),
}

impl Text for BodySize {
    const ALLOWED: &'static str = "\"off\" for no limit, or a size from 1: a number of bytes, or a whole number with B, KiB, MiB, GiB (1024) or KB, MB, GB (1000)";
    const WORDS: &'static [&'static str] = &["off"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "off" => Ok(Self::Off),
            _ => match Size::parse(text)? {
                Size(0) => wrong_but(
                    "a limit of 0 would refuse every body",
                    "write `\"off\"` for no limit",
                ),
                size => Ok(Self::AtMost(size)),
            },
        }
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        match u64::try_from(number) {
            Ok(0) => {
                Err(Some("0 would refuse every body; write `\"off\"` for no limit".to_owned()))
            }
            Ok(number) => Ok(Self::AtMost(Size(number))),
            Err(_) => Err(None),
        }
    }
}

/// How long browsers shall insist on HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hsts {
    Off,
    For(Period),
}

impl Text for Hsts {
    const ALLOWED: &'static str = "\"off\" or a duration such as \"1y\"";
    const WORDS: &'static [&'static str] = &["off"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "off" => Ok(Self::Off),
            "ramp" => wrong_but(
                "\"ramp\" is not available in this version",
                "use a duration: `\"1h\"` to begin with, `\"1y\"` when all is well",
            ),
            _ => match Period::parse(text)? {
                Period(age) if age.as_millis() % 1000 != 0 => {
                    wrong("browsers count this duration in whole seconds")
                }
                age if age > Period::s(100 * 365 * 86_400) => {
                    wrong(format!("`{text}` is more than a hundred years"))
                }
                age => Ok(Self::For(age)),
            },
        }
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        Period::from_integer(number).map(Self::For)
    }
}

impl Text for Listen {
    const ALLOWED: &'static str = "\":80\" for every address, or an IP address with a port such as \"127.0.0.1:80\" or \"[::1]:80\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(port) = text.strip_prefix(':')
            && let Ok(port) = parse_port(port)
        {
            return Ok(Listen::Any(port));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Listen::Addr(address));
        }
        let message = format!("`{text}` is not an address to listen on");
        if let Ok(port) = parse_port(text) {
            return wrong_but(message, format!("write `\":{port}\"` for every address"));
        }
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            return wrong_but(
                message,
                format!("the port is missing: `\"{}\"`", SocketAddr::new(ip, 80)),
            );
        }
        match text.rsplit_once(':') {
            Some(("*", port)) if parse_port(port).is_ok() => {
                wrong_but(message, format!("write `\":{port}\"` for every address"))
            }
            Some(("localhost", port)) if parse_port(port).is_ok() => wrong_but(
                message,
                format!("write `\"127.0.0.1:{port}\"`, `\"[::1]:{port}\"` or both"),
            ),
            Some((_, port)) if port.parse::<u64>().is_ok_and(|port| port > 65_535) => {
                wrong(format!("`{port}` is not a port: the highest is 65535"))
            }
            _ => wrong(message),
        }
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        Err(u16::try_from(number).ok().map(|port| format!("write `\":{port}\"`")))
    }
}

/// A port in digits only: no sign, no blank.
fn parse_port(text: &str) -> Result<u16, ()> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| ())
    } else {
        Err(())
    }
}

impl Text for IpNet {
    const ALLOWED: &'static str =
        "a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", or an IP address";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Ok(ip) = text.parse::<std::net::IpAddr>() {
            return Ok(ip.into());
        }
        let Ok(network) = text.parse::<IpNet>() else {
            return wrong(format!("`{text}` is not a network"));
        };
        if network.trunc() != network {
            let help = format!(
                "write `\"{}\"`, or `\"{}\"` for that address alone",
                network.trunc(),
                network.addr()
            );
            return wrong_but(
                format!("`{text}` is an address inside a network, not a network"),
                help,
            );
        }
        Ok(network)
    }
}

impl Text for HostPattern {
    const ALLOWED: &'static str = "a name such as \"example.com\", \"*.example.com\" for one label more, \"*\" for any other name, or an IP address";

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
        PathPrefix::parse(text).or_else(|error| {
            let slashed = format!("/{text}");
            let help = (!text.starts_with('/') && PathPrefix::parse(&slashed).is_ok())
                .then(|| format!("write `\"{slashed}\"`"));
            Err((format!("`{text}` is not a path: {error}"), help))
        })
    }
}

impl Text for Target {
    const ALLOWED: &'static str = Target::ALLOWED;

    fn parse(text: &str) -> Result<Self, Wrong> {
        Target::parse(text).map_err(|error| (error.0, None))
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        Err(Some(format!("write `\"{number}\"`, in quotes, for the port of this host")))
    }
}

impl Text for Redirect {
    const ALLOWED: &'static str =
        "\"https\", \"off\", or a URL such as \"https://www.example.com\"";
    const WORDS: &'static [&'static str] = &["https", "off"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "https" => return Ok(Redirect::Https),
            "off" => return Ok(Redirect::Off),
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong(format!("`{text}` is not a redirect"));
        };
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return wrong(format!("a redirect goes to http or https, not to `{scheme}`"));
        }
        if rest.contains(['?', '#']) {
            return wrong("the query is the request's own: the URL has none, and no fragment");
        }
        let plain = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
        if !rest.chars().all(plain) {
            return wrong("the URL has a character that must be percent-encoded");
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return wrong("a user name in the URL would be told to every client");
        }
        let authority = parse_authority(authority)?;
        Ok(Redirect::To(format!("{scheme}://{authority}{}", path.trim_end_matches('/'))))
    }
}

/// The host and port of a URL, in their normal form.
fn parse_authority(text: &str) -> Result<String, Wrong> {
    let after_bracket = text.rfind(']').unwrap_or_default();
    let colon = text.rfind(':').filter(|at| *at >= after_bracket);
    let (host, port) =
        colon.map_or((text, None), |at| (text.get(..at).unwrap_or_default(), text.get(at + 1..)));
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let Ok(host) = Host::parse(bare.as_bytes()) else {
        return wrong(format!("`{host}` is not a host name"));
    };
    match port {
        None => Ok(host.bracketed().into_owned()),
        Some(port) => match parse_port(port) {
            Ok(port @ 1..) => Ok(format!("{}:{port}", host.bracketed())),
            _ => wrong(format!("`{port}` is not a port")),
        },
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

/// How much the program says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level(pub LevelFilter);

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
pub(super) struct Parameter(pub String);

impl Text for Parameter {
    const ALLOWED: &'static str = "names of query parameters, such as \"token\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() || text.contains(['=', '&', '?', '#', ' ']) {
            return wrong(format!("`{text}` is not the name of a query parameter"));
        }
        Ok(Self(text.to_lowercase()))
    }
}

/// Where the metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metrics {
    Off,
    At(SocketAddr),
}

impl Text for Metrics {
    const ALLOWED: &'static str =
        "\"off\", or an IP address with a port such as \"127.0.0.1:9180\"";
    const WORDS: &'static [&'static str] = &["off"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::At(address));
        }
        let message = format!("`{text}` is not an address");
        match parse_port(text.strip_prefix(':').unwrap_or(text)) {
            Ok(port) => wrong_but(
                message,
                format!("write `\"127.0.0.1:{port}\"`: the figures are not for strangers"),
            ),
            Err(()) => wrong(message),
        }
    }
}

/// The name of a user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User(pub String);

impl Text for User {
    const ALLOWED: &'static str = "the name of a user who is not root";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-$@".contains(c);
        match text {
            "root" | "0" => wrong("`root` would keep every right of this host"),
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
pub(super) struct Email(pub String);

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
pub(super) struct Directory(pub String);

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
pub(super) struct FilePath(pub PathBuf);

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

/// Where a certificate comes from.
#[derive(Debug)]
pub(super) enum Tls {
    Auto,
    Local,
    Files(CertFiles),
}

impl Tls {
    pub(super) const ALLOWED: &'static str =
        "\"auto\", \"local\", or { cert = \"chain.pem\", key = \"key.pem\" }";
}

impl Value for Tls {
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let value = node.get_ref();
        if value.is_table() {
            return read_section(node, reader).map(Self::Files);
        }
        let Some(text) = value.as_str() else {
            reader.wrong_type(node, Self::ALLOWED, None);
            return None;
        };
        match &*reader.expand(text, &node.span())? {
            "auto" => Some(Self::Auto),
            "local" => Some(Self::Local),
            other => {
                let nearest = super::words::nearest(other, &["auto", "local"]);
                let help = nearest.map(|word| format!("did you mean `{word}`?"));
                let problem = Problem::error(format!("`{other}` is not a source of certificates"))
                    .found(format!("\"{other}\""))
                    .allowed(Self::ALLOWED);
                reader.report.add(&node.span(), problem.maybe_help(help));
                None
            }
        }
    }
}
