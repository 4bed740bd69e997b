//! For which names an authority is asked, and under which name what it answers is kept.

use aws_lc_rs::digest::{SHA256, digest};

use super::challenge::choose::{self, Solver};
use crate::config::{Config, KeyType, Site, TlsSource};
use crate::proxy::headers::host::HostPattern;
use crate::tls::wanted::is_public;

/// A certificate that is to be got by ACME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The name of its site, for logs and metrics.
    pub site: String,
    /// The names that it is for, in the order of the site; at least one.
    pub names: Vec<String>,
    /// The kind of its key.
    pub key_type: KeyType,
}

/// The most names in one certificate that authorities accept.
pub const MOST: usize = 100;

/// Every certificate that `config` wants from authorities.
#[must_use]
pub fn wanted(config: &Config) -> Vec<Wanted> {
    if config.server.https.is_empty() {
        return Vec::new();
    }
    let of_site = |site: &Site| {
        let names: Vec<String> = asked_for(site, config).iter().map(ToString::to_string).collect();
        let of_names = |names: &[String]| Wanted {
            site: site.name(),
            names: names.to_vec(),
            key_type: site.key_type,
        };
        let groups = provable_together(names, config);
        groups.iter().flat_map(|names| names.chunks(MOST)).map(of_names).collect::<Vec<_>>()
    };
    config.sites.iter().flat_map(of_site).collect()
}

/// All names of a certificate are proved in the same way. Where no way proves all, the wildcards,
/// which take the DNS, have one of their own.
fn provable_together(names: Vec<String>, config: &Config) -> Vec<Vec<String>> {
    let proves_all = |solver: Solver| names.iter().all(|name| solver.can_prove(name, &config.acme));
    if choose::solvers(config).into_iter().any(proves_all) {
        return vec![names];
    }
    let (wildcards, exact) = names.into_iter().partition(|name| name.starts_with("*."));
    vec![exact, wildcards]
}

/// Whether `config` wants any.
#[must_use]
pub fn wants_any(config: &Config) -> bool {
    let is_proved_here = |site: &Site| is_proved_here(site, config);
    !config.server.https.is_empty() && config.sites.iter().any(is_proved_here)
}

/// Whether authorities are asked for any host of `site`, now or when clients come.
#[must_use]
pub fn is_proved_here(site: &Site, config: &Config) -> bool {
    matches!(site.tls, TlsSource::OnDemand(_)) || !asked_for(site, config).is_empty()
}

/// The hosts of `site` for which authorities are asked.
#[must_use]
pub fn asked_for(site: &Site, config: &Config) -> Vec<HostPattern> {
    if site.tls != TlsSource::Auto {
        return Vec::new();
    }
    let is_asked = |host: &&HostPattern| {
        is_public(host)
            && (!is_reserved(host) || !only_lets_encrypt(config))
            && choose::can_prove(host, config)
    };
    site.hosts.iter().filter(is_asked).cloned().collect()
}

/// The hosts of `site` for which a public authority could vouch, and that cannot be proved to one
/// here.
#[must_use]
pub fn unprovable(site: &Site, config: &Config) -> Vec<HostPattern> {
    let is_public = |host: &&HostPattern| {
        is_public(host) && !is_reserved(host) && !choose::can_prove(host, config)
    };
    let hosts = site.hosts.iter().filter(|_| site.tls == TlsSource::Auto);
    hosts.filter(is_public).cloned().collect()
}

/// Whether nobody in the world can own the name (RFC 6761, RFC 2606, RFC 6762, RFC 7686, RFC 8375),
/// or it is a single label: no public authority signs it, and asking would count as a failure. A
/// private one may.
fn is_reserved(host: &HostPattern) -> bool {
    let (HostPattern::Exact(name) | HostPattern::Wildcard(name)) = host else { return true };
    is_reserved_name(name.as_str())
}

/// The same of a name without a wildcard.
pub(super) fn is_reserved_name(name: &str) -> bool {
    let within = |parent: &str| {
        name.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !name.contains('.') || RESERVED.iter().any(|parent| within(parent))
}

const RESERVED: [&str; 10] = [
    "test",
    "example",
    "invalid",
    "local",
    "onion",
    "alt",
    "home.arpa",
    "example.com",
    "example.net",
    "example.org",
];

/// Whether nobody but Let's Encrypt is asked, which signs what the whole world can look up.
#[must_use]
pub fn only_lets_encrypt(config: &Config) -> bool {
    config.acme.authorities.iter().all(|authority| {
        let host = host_and_port(&authority.directory).map(|(host, _)| host).unwrap_or_default();
        host.ends_with(".letsencrypt.org")
    })
}

/// The name of the record that proves `name`; a wildcard's is its parent's (RFC 8555 §8.4).
#[must_use]
pub fn record_of(name: &str) -> String {
    format!("_acme-challenge.{}", name.strip_prefix("*.").unwrap_or(name))
}

/// The host and the port of an https URL.
#[must_use]
pub fn host_and_port(url: &str) -> Option<(String, u16)> {
    let uri = url.parse::<http::Uri>().ok()?;
    let host = uri.host()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host.to_owned(), uri.port_u16().unwrap_or(443)))
}

/// What people call the authority at a directory: its host, and its port where that is another than
/// usual.
#[must_use]
pub fn authority_name(directory: &str) -> String {
    match host_and_port(directory) {
        Some((host, 443)) => host,
        Some((host, port)) => format!("{host}:{port}"),
        None => directory.to_owned(),
    }
}

/// The longest name of a file without what is put behind it, in bytes.
const LONGEST: usize = 180;

/// The name under which a certificate is kept: that of its first name, which no other site has.
#[must_use]
pub fn stem(names: &[String]) -> String {
    let first = names.first().map_or("", String::as_str);
    let plain = first.replace('*', "any@");
    if plain.len() <= LONGEST {
        return plain;
    }
    let start: String = plain.chars().take(LONGEST - 20).collect();
    format!("{start}@{}", hash(first))
}

/// The name under which what belongs to a directory is kept.
#[must_use]
pub fn directory_stem(directory: &str) -> String {
    let host = host_and_port(directory).map(|(host, _)| host).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
    let host: String = host.chars().take(LONGEST - 20).map(plain).collect();
    format!("{host}-{}", hash(directory))
}

fn hash(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::{Dns, Hook, Writer};
    use crate::tls::testing::{config, site};

    fn asked(names: &[&str], directory: &str) -> Vec<String> {
        let mut config = config(Path::new("/s"), vec![site(names, TlsSource::Auto)]);
        config.acme.authorities[0].directory = directory.to_owned();
        wanted(&config).into_iter().flat_map(|want| want.names).collect()
    }

    #[test]
    fn names_that_nobody_can_own_are_asked_of_private_authorities_alone() {
        let names = ["a.test", "www.shop.de", "x.example.com", "box", "10.0.0.1", "a.localhost"];
        let public = "https://acme-v02.api.letsencrypt.org/directory";
        assert_eq!(asked(&names, public), ["www.shop.de"]);
        let private = "https://ca.internal:14000/dir";
        assert_eq!(asked(&names, private), ["a.test", "www.shop.de", "x.example.com", "box"]);
    }

    #[test]
    fn many_names_are_many_certificates() {
        let names: Vec<String> = (0..250).map(|n| format!("n{n}.shop.de")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let wanted = wanted(&config(Path::new("/s"), vec![site(&names, TlsSource::Auto)]));
        assert_eq!(wanted.iter().map(|w| w.names.len()).collect::<Vec<_>>(), [100, 100, 50]);
        assert_eq!(stem(&wanted[1].names), "n100.shop.de");
    }

    #[test]
    fn names_that_no_one_way_proves_are_two_certificates() {
        let names = ["shop.de", "*.other.de", "other.de"];
        let mut config = config(Path::new("/s"), vec![site(&names, TlsSource::Auto)]);
        config.acme.dns = Some(Dns {
            writer: Writer::Hook(Hook { program: "/h".into(), arguments: Vec::new() }),
            zone: Some("other.de".to_owned()),
            resolvers: Vec::new(),
            propagation: Duration::from_secs(1),
        });
        let names = |config: &Config| -> Vec<_> {
            wanted(config).into_iter().map(|wanted| wanted.names.join(" ")).collect()
        };
        assert_eq!(names(&config), ["shop.de other.de", "*.other.de"]);
        config.acme.dns.as_mut().unwrap().zone = None;
        assert_eq!(names(&config), ["shop.de *.other.de other.de"]);
    }

    #[test]
    fn a_stem_is_the_name_of_a_file() {
        assert_eq!(stem(&["*.shop.de".to_owned()]), "any@.shop.de");
        let long = format!("{}.de", "x".repeat(250));
        assert!(stem(std::slice::from_ref(&long)).len() < LONGEST);
        assert_ne!(stem(std::slice::from_ref(&long)), stem(&[format!("{long}x")]));
        let stem = directory_stem("https://ca.internal:14000/dir");
        assert!(stem.starts_with("ca.internal-"), "{stem}");
        assert_ne!(stem, directory_stem("https://ca.internal:14000/staging"));
    }

    #[test]
    fn a_directory_has_a_host_and_a_port() {
        let parts = |url| host_and_port(url).unwrap();
        assert_eq!(parts("https://ca.internal/dir"), ("ca.internal".to_owned(), 443));
        assert_eq!(parts("https://[::1]:14000/dir"), ("::1".to_owned(), 14000));
        assert_eq!(authority_name("https://ca.internal/dir"), "ca.internal");
        assert_eq!(authority_name("https://ca.internal:14000/dir"), "ca.internal:14000");
    }
}
