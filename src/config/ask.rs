//! Where it is asked whether a name may have a certificate.

use std::fmt;

use http::Uri;

/// The place of the one who decides: an http or https URL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    text: String,
    /// Whether it is asked over TLS.
    pub is_https: bool,
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The port, that of the scheme where none is written.
    pub port: u16,
    /// Host and port as they are written, for the field `Host`.
    pub authority: String,
    /// Path and query, as they are written.
    target: String,
}

impl Ask {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri = text.parse::<Uri>();
        let uri = uri.map_err(|error| format!("`{text}` is not a URL: {error}"))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(other) => return Err(format!("`{other}` is not spoken here, but http and https")),
            None => return Err(format!("`{text}` is not an http or https URL")),
        };
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
            return Err(format!("`{text}` names no host"));
        };
        if authority.as_str().contains('@') {
            return Err("a user name in a URL is not sent: put a secret into the query".to_owned());
        }
        // The library drops a fragment without a word.
        if text.contains('#') {
            return Err("a URL that is asked has no `#…`".to_owned());
        }
        if authority.port_u16() == Some(0) || authority.as_str().ends_with(':') {
            return Err(format!("`{text}` has no port that can be asked"));
        }
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(format!("`{text}` names no host"));
        }
        Ok(Self {
            text: text.to_owned(),
            is_https,
            host: host.to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            target: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned(),
        })
    }

    /// What is asked for about `name`, which is a host name and needs no quotes.
    #[must_use]
    pub fn target(&self, name: &str) -> String {
        let joint = match self.target.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some(_) => "&",
        };
        format!("{}{joint}domain={name}", self.target)
    }
}

impl fmt::Display for Ask {
    /// Without the query: a secret may stand in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.split('?').next().unwrap_or_default())
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_added_to_the_query() {
        let target = |url: &str| Ask::parse(url).unwrap().target("a.test");
        assert_eq!(target("http://127.0.0.1:9000"), "/?domain=a.test");
        assert_eq!(target("http://127.0.0.1:9000/allowed"), "/allowed?domain=a.test");
        assert_eq!(target("http://app/allowed?key=x"), "/allowed?key=x&domain=a.test");
        assert_eq!(target("http://app/allowed?"), "/allowed?domain=a.test");
    }

    #[test]
    fn a_place_has_a_host_and_a_port() {
        let place = |url: &str| {
            let ask = Ask::parse(url).unwrap();
            (ask.is_https, ask.host, ask.port, ask.authority)
        };
        let local = (false, "127.0.0.1".to_owned(), 9000, "127.0.0.1:9000".to_owned());
        assert_eq!(place("http://127.0.0.1:9000/x"), local);
        assert_eq!(place("https://App.internal/x").1, "app.internal");
        assert_eq!(place("https://app.internal/x").2, 443);
        assert_eq!(place("http://[::1]/x").1, "::1");
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        for (url, part) in [
            ("ftp://a/", "`ftp` is not spoken"),
            ("127.0.0.1:9000", "not an http or https URL"),
            ("/allowed", "not an http or https URL"),
            ("http://me:pw@a/", "user name"),
            ("http://a/#x", "#"),
            ("http://a:0/", "no port"),
            ("http://a b/", "not a URL"),
        ] {
            let told = Ask::parse(url).unwrap_err();
            assert!(told.contains(part), "{url}: {told}");
        }
    }

    #[test]
    fn a_secret_in_the_query_is_not_shown() {
        let ask = Ask::parse("http://a/x?key=hush").unwrap();
        assert_eq!(
            (ask.to_string(), format!("{ask:?}")),
            ("http://a/x".into(), "Ask(http://a/x)".into())
        );
    }
}
