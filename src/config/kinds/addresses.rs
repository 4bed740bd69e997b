//! Where to listen, where to forward, whom to trust.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::{Wrong, parse_port, wrong, wrong_but};
use crate::config::Listen;
use crate::config::read::Text;
use crate::config::target::Target;

impl Text for Listen {
    const ALLOWED: &'static str = "\":80\" for every address, or an IP address with a port \
        such as \"127.0.0.1:80\" or \"[::1]:80\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(port) = text.strip_prefix(':')
            && let Some(port) = parse_port(port)
        {
            return Ok(Listen::Any(port));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Listen::Addr(address));
        }
        let message = format!("`{text}` is not an address to listen on");
        if let Some(port) = parse_port(text) {
            return wrong_but(message, format!("write `\":{port}\"` for every address"));
        }
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            return wrong_but(
                message,
                format!("the port is missing: `\"{}\"`", SocketAddr::new(ip, 80)),
            );
        }
        match text.rsplit_once(':') {
            Some(("*", port)) if parse_port(port).is_some() => {
                wrong_but(message, format!("write `\":{port}\"` for every address"))
            }
            Some(("localhost", port)) if parse_port(port).is_some() => wrong_but(
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

impl Text for Target {
    const ALLOWED: &'static str = Target::ALLOWED;

    fn parse(text: &str) -> Result<Self, Wrong> {
        Target::parse(text).map_err(|error| (error.0, None))
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        Err(Some(format!("write `\"{number}\"`, in quotes, for the port of this host")))
    }
}

/// Where the metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Metrics {
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
            Some(port) => wrong_but(
                message,
                format!("write `\"127.0.0.1:{port}\"`: the figures are not for strangers"),
            ),
            None => wrong(message),
        }
    }
}
