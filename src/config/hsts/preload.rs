//! Which names the preload list takes: registered domains with a certificate that everybody trusts
//! (<https://hstspreload.org/#submission-requirements>). The list of public suffixes is not at
//! hand, so that only what cannot be a registered domain is refused.

use crate::config::TlsSource;
use crate::config::problems::Problem;
use crate::proxy::headers::host::HostPattern;

/// Why the list takes none of these hosts.
pub(super) fn unfit(hosts: &[HostPattern], tls: &TlsSource) -> Option<String> {
    if *tls == TlsSource::Local {
        return Some(
            "it wants a certificate that every browser trusts, and with `tls = \"local\"` the local \
             authority signs it"
                .to_owned(),
        );
    }
    let reasons: Option<Vec<String>> = hosts.iter().map(|host| reason(host, hosts)).collect();
    // Exact names tell most.
    let is_exact = |host: &&HostPattern| matches!(host, HostPattern::Exact(_));
    let telling = hosts.iter().position(|host| is_exact(&host)).unwrap_or(0);
    reasons?.into_iter().nth(telling)
}

/// What is said where every name looks like one below a registered domain, and one may yet be
/// registered, as below `co.uk` or `github.io`.
pub(super) fn doubt(hosts: &[HostPattern]) -> Option<Problem> {
    let fit = hosts.iter().filter(|host| reason(host, hosts).is_none());
    let names: Vec<&str> = fit.filter_map(exact).collect();
    let first = names.first().filter(|_| !names.iter().any(|name| looks_registered(name)))?;
    let (_, parent) = first.split_once('.')?;
    Some(
        Problem::warning(format!(
            "the preload list takes registered domains only, and `{first}` looks like a name below \
             one"
        ))
        .help(format!(
            "unless `{parent}` is a public suffix, set `preload` for that domain itself"
        )),
    )
}

fn exact(host: &HostPattern) -> Option<&str> {
    match host {
        HostPattern::Exact(name) if !name.is_ip() => Some(name.as_str()),
        _ => None,
    }
}

/// Why the list does not take this host, one of `all` of a site.
fn reason(host: &HostPattern, all: &[HostPattern]) -> Option<String> {
    let name = match host {
        HostPattern::Any => return Some(DOMAIN.to_owned() + ", and `*` is none"),
        HostPattern::Wildcard(name) => {
            return Some(format!("{DOMAIN}, and `*.{}` is none", name.as_str()));
        }
        HostPattern::Exact(name) if name.is_ip() => {
            return Some(format!("{DOMAIN}, and `{}` is an address", name.as_str()));
        }
        HostPattern::Exact(name) => name.as_str(),
    };
    if is_private(name) {
        return Some(format!(
            "it wants a certificate that every browser trusts, which nobody gets for `{name}`"
        ));
    }
    is_below(name, all).then(|| format!("{DOMAIN}, and `{name}` is a name below one"))
}

const DOMAIN: &str = "it takes registered domains, such as `example.com`";

/// Names of this host (RFC 6761 §6.3), of the link (RFC 6762 §3), and of private networks: a public
/// authority signs for none of them.
fn is_private(name: &str) -> bool {
    let top = name.rsplit('.').next().unwrap_or(name);
    let is_home = name == "home.arpa" || name.ends_with(".home.arpa");
    is_home || matches!(top, "localhost" | "internal" | "local" | "onion") || !name.contains('.')
}

/// Whether a name cannot be a registered domain.
fn is_below(name: &str, all: &[HostPattern]) -> bool {
    let labels = name.split('.').count();
    if labels < 3 {
        return false;
    }
    // No authority signs `*.co.uk`.
    let is_covered = all.iter().any(|other| match other {
        HostPattern::Wildcard(parent) => is_child(name, parent.as_str()),
        _ => false,
    });
    let is_www = name.starts_with("www.") && !looks_registered(name);
    is_covered || is_www || (labels > 3 && !has_deep_suffixes(name))
}

fn is_child(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether public suffixes of three labels are known where the name is: in countries, as
/// `k12.ca.us`, and below short names that are shared out, as `de.eu.org`.
fn has_deep_suffixes(name: &str) -> bool {
    let mut labels = name.rsplit('.');
    let top = labels.next().unwrap_or_default();
    top.len() == 2 || labels.next().is_some_and(|second| second.len() <= 3)
}

/// Whether it has two labels, or three where the middle one is as in `co.uk`.
fn looks_registered(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    match labels.as_slice() {
        [_, _] => true,
        [_, second, top] => second.len() <= 3 && top.len() == 2,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Vec<HostPattern> {
        names.iter().map(|name| HostPattern::parse(name).unwrap()).collect()
    }

    fn told(names: &[&str]) -> (Option<String>, bool) {
        let hosts = hosts(names);
        (unfit(&hosts, &TlsSource::Auto), doubt(&hosts).is_some())
    }

    #[test]
    fn what_can_be_a_registered_domain_is_taken() {
        for names in [
            &["example.com"][..],
            &["example.co.uk"],
            &["www.uk"],
            &["www.example.com", "example.com"],
            &["*.example.com", "example.com"],
            &["a.example.com", "other.de"],
            &["localhost", "example.com"],
            &["xn--mnchen-3ya.de"],
        ] {
            assert_eq!(told(names), (None, false), "{names:?}");
        }
    }

    #[test]
    fn what_may_be_one_is_taken_with_a_word() {
        for name in ["a.github.io", "a.duckdns.org", "shop.asso.fr", "app.example.com"] {
            assert_eq!(told(&[name]), (None, true), "{name}");
        }
        for name in ["a.k12.ca.us", "a.chuo.tokyo.jp", "a.de.eu.org"] {
            assert_eq!(told(&[name]), (None, true), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_one_is_refused_with_the_reason() {
        for (names, why) in [
            (&["*"][..], "`*` is none"),
            (&["*.example.com"], "`*.example.com` is none"),
            (&["127.0.0.1"], "is an address"),
            (&["::1"], "is an address"),
            (&["localhost"], "nobody gets for `localhost`"),
            (&["app.internal"], "nobody gets for `app.internal`"),
            (&["nas.local"], "nobody gets"),
            (&["nas.home.arpa"], "nobody gets"),
            (&["intranet"], "nobody gets"),
            (&["www.example.com"], "`www.example.com` is a name below one"),
            (&["www.example.co.uk"], "is a name below one"),
            (&["a.b.f.test", "*.f.test"], "`a.b.f.test` is a name below one"),
            (&["*.shop.de", "a.shop.de"], "`a.shop.de` is a name below one"),
            (&["a.b.example.com"], "is a name below one"),
        ] {
            let (unfit, _) = told(names);
            assert!(unfit.as_ref().is_some_and(|it| it.contains(why)), "{names:?}: {unfit:?}");
        }
        let local = unfit(&hosts(&["example.com"]), &TlsSource::Local).unwrap();
        assert!(local.contains("the local authority"), "{local}");
    }
}
