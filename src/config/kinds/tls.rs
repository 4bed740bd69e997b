//! Where a certificate comes from.

use super::{Wrong, wrong, wrong_but};
use crate::config::ask::Ask;
use crate::config::file::TlsTable;
use crate::config::problems::Problem;
use crate::config::read::{Node, Reader, Text, Value, read_section};
use crate::config::words;

/// Where a certificate comes from.
#[derive(Debug)]
pub(in crate::config) enum Tls {
    Auto,
    Local,
    Table(Box<TlsTable>),
}

impl Tls {
    pub(in crate::config) const ALLOWED: &'static str = "\"auto\", \"local\", { cert = \"chain.pem\", key = \"key.pem\" }, or for wildcards \
         { on_demand = { ask = \"http://127.0.0.1:9000/allowed\" } }";
}

impl Value for Tls {
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let value = node.get_ref();
        if value.is_table() {
            return read_section(node, reader).map(|table| Self::Table(Box::new(table)));
        }
        let Some(text) = value.as_str() else {
            reader.wrong_type(node, Self::ALLOWED, None);
            return None;
        };
        match &*reader.expand(text, &node.span())? {
            "auto" => Some(Self::Auto),
            "local" => Some(Self::Local),
            other => {
                let nearest = words::nearest(other, &["auto", "local"]);
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

/// Where it is asked whether a name may have a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct AskUrl(pub Ask);

impl Text for AskUrl {
    const ALLOWED: &'static str = "an http or https URL such as \"http://127.0.0.1:9000/allowed\"; \
        `domain=NAME` is added to its query";

    fn parse(text: &str) -> Result<Self, Wrong> {
        match Ask::parse(text) {
            Ok(ask) => Ok(Self(ask)),
            Err(message) => wrong(message),
        }
    }
}

/// Whether clients show certificates of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Authentication {
    Require,
    Request,
}

impl Text for Authentication {
    const ALLOWED: &'static str = "\"require\" or \"request\"";
    const WORDS: &'static [&'static str] = &["require", "request"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "require" => Ok(Self::Require),
            "request" => Ok(Self::Request),
            "required" => wrong_but("`required` is no such setting", "did you mean `require`?"),
            "optional" => wrong_but("`optional` is no such setting", "did you mean `request`?"),
            _ => wrong(format!("`{text}` is no way to ask clients for certificates")),
        }
    }
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum OldestTls {
    V12,
    V13,
}

impl Text for OldestTls {
    const ALLOWED: &'static str = "\"1.2\" or \"1.3\"";
    const WORDS: &'static [&'static str] = &["1.2", "1.3"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "1.2" => Ok(Self::V12),
            "1.3" => Ok(Self::V13),
            "1.0" | "1.1" => wrong(format!("TLS {text} is broken (RFC 8996) and not spoken here")),
            _ => wrong(format!("`{text}` is no version of TLS")),
        }
    }
}

/// A protocol that is agreed on in the handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Protocol {
    Http2,
    Http1,
}

impl Text for Protocol {
    const ALLOWED: &'static str = "\"h2\" and \"http/1.1\"";
    const WORDS: &'static [&'static str] = &["h2", "http/1.1"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "h2" => Ok(Self::Http2),
            "http/1.1" => Ok(Self::Http1),
            "h3" => wrong("HTTP/3 is not spoken in this version"),
            _ => wrong(format!("`{text}` is no protocol that is spoken here")),
        }
    }
}
