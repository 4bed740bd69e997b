//! What a plain HTTP request gets.

use super::{Wrong, parse_port, wrong};
use crate::config::Redirect;
use crate::config::read::Text;
use crate::proxy::headers::host::Host;

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
            Some(port @ 1..) => Ok(format!("{}:{port}", host.bracketed())),
            _ => wrong(format!("`{port}` is not a port")),
        },
    }
}
