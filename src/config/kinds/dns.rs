//! What the keys of dns-01 can be.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Wrong, parse_port, wrong, wrong_but};
use crate::config::TsigAlgorithm;
use crate::config::read::Text;
use crate::proxy::headers::host::Host;

/// A name server, by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct NameServer(pub SocketAddr);

impl Text for NameServer {
    const ALLOWED: &'static str =
        "an IP address with a port such as \"192.0.2.53:53\" or \"[2001:db8::53]:53\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => return Ok(Self(address)),
            Ok(_) => return wrong(format!("`{text}` is not a name server: there is no port 0")),
            Err(_) => {}
        }
        let message = format!("`{text}` is not the address of a name server");
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            let whole = SocketAddr::new(ip, 53);
            return wrong_but(message, format!("the port is missing: `\"{whole}\"`"));
        }
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
        if parse_port(host).is_none() && Host::parse(host.as_bytes()).is_ok() {
            return wrong_but(message, "write its IP address: a name would have to be looked up");
        }
        wrong(message)
    }
}

/// A zone of the DNS, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Zone(pub String);

impl Text for Zone {
    const ALLOWED: &'static str = "the name of a zone, such as \"example.org\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(parent) = text.strip_prefix("*.") {
            let message = format!("`{text}` is not the name of a zone");
            return wrong_but(message, format!("write `\"{parent}\"`"));
        }
        match name(text) {
            Some(name) if name.parse::<IpAddr>().is_err() => Ok(Self(name)),
            _ => wrong(format!("`{text}` is not the name of a zone")),
        }
    }
}

/// The name of a TSIG key, in lower case (RFC 8945 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct TsigName(pub String);

impl Text for TsigName {
    const ALLOWED: &'static str = "the name of the key, as the name server knows it";

    fn parse(text: &str) -> Result<Self, Wrong> {
        match name(text) {
            Some(name) => Ok(Self(name)),
            None => wrong(format!("`{text}` is not the name of a key")),
        }
    }
}

fn name(text: &str) -> Option<String> {
    Host::parse(text.as_bytes()).ok().map(|host| host.to_string())
}

impl Text for TsigAlgorithm {
    const ALLOWED: &'static str = "\"hmac-sha256\", \"hmac-sha384\" or \"hmac-sha512\"";
    const WORDS: &'static [&'static str] = &["hmac-sha256", "hmac-sha384", "hmac-sha512"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "hmac-sha256" => Ok(Self::HmacSha256),
            "hmac-sha384" => Ok(Self::HmacSha384),
            "hmac-sha512" => Ok(Self::HmacSha512),
            "hmac-md5" | "hmac-sha1" => wrong_but(
                format!("`{text}` is too weak"),
                "have the key made anew, for `hmac-sha256`",
            ),
            _ => wrong(format!("`{text}` is not an algorithm of TSIG")),
        }
    }
}

/// The secret of a TSIG key. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::config) struct TsigSecret(pub Vec<u8>);

impl std::fmt::Debug for TsigSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TsigSecret")
    }
}

impl Text for TsigSecret {
    const ALLOWED: &'static str = "the secret of the key in base64, as the name server has it";
    const IS_SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Wrong> {
        match BASE64_STANDARD.decode(text) {
            Ok(secret) if secret.len() >= 16 => Ok(Self(secret)),
            Ok(_) => wrong("this secret is too short: it has less than 16 bytes"),
            Err(_) => wrong("this secret is not base64"),
        }
    }
}

/// The path of a program or one of its arguments, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::config) struct Word(pub String);

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Word")
    }
}

impl Text for Word {
    const ALLOWED: &'static str =
        "a program and its arguments, such as [\"/usr/local/bin/hook\", \"--quiet\"]";
    const IS_SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.contains('\0') {
            return wrong("neither a path nor an argument can have a NUL in it");
        }
        Ok(Self(text.to_owned()))
    }
}
