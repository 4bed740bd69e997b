//! What differs between two configurations, in words.

use std::fmt::{Debug, Display};

use crate::config::{Config, Limits, Listen, Server, Site};

/// One sentence for each difference; one that says so if there is none.
#[must_use]
pub(super) fn between(old: &Config, new: &Config) -> Vec<String> {
    let mut words = Vec::new();
    listeners("http", &old.server.http, &new.server.http, &mut words);
    listeners("https", &old.server.https, &new.server.https, &mut words);
    server(&old.server, &new.server, &mut words);
    limits(&old.limits, &new.limits, &mut words);
    changed("log.access", &old.log.access, &new.log.access, &mut words);
    changed("log.format", &old.log.format, &new.log.format, &mut words);
    changed("log.level", &old.log.level, &new.log.level, &mut words);
    changed("log.mask", &old.log.mask, &new.log.mask, &mut words);
    changed("admin.metrics", &old.admin.metrics, &new.admin.metrics, &mut words);
    restart("admin.socket", &old.admin.socket, &new.admin.socket, &mut words);
    changed("acme", &old.acme, &new.acme, &mut words);
    sites(&old.sites, &new.sites, &mut words);
    if words.is_empty() {
        words.push("nothing differs; certificates are read anew".to_owned());
    }
    words
}

fn listeners(key: &str, old: &[Listen], new: &[Listen], words: &mut Vec<String>) {
    for listen in new.iter().filter(|listen| !old.contains(listen)) {
        words.push(format!("listens on {listen} ({key}) too"));
    }
    for listen in old.iter().filter(|listen| !new.contains(listen)) {
        words.push(format!("no longer listens on {listen} ({key}); open connections live on"));
    }
}

fn server(old: &Server, new: &Server, words: &mut Vec<String>) {
    restart("server.workers", &old.workers, &new.workers, words);
    restart("server.user", &old.user, &new.user, words);
    changed("server.grace", &old.grace, &new.grace, words);
    changed("server.trusted_proxies", &old.trusted_proxies, &new.trusted_proxies, words);
    changed("server.proxy_protocol", &old.proxy_protocol, &new.proxy_protocol, words);
    changed("server.via", &old.via, &new.via, words);
}

fn limits(old: &Limits, new: &Limits, words: &mut Vec<String>) {
    /// Compares the fields that are named.
    macro_rules! each {
        ($($field:ident)*) => {
            $(changed(concat!("limits.", stringify!($field)), &old.$field, &new.$field, words);)*
        };
    }
    each!(
        request_header_timeout request_body_idle_timeout idle_timeout tls_handshake_timeout
        upstream_timeout hold header_size header_count target_size body_size connections
        connections_per_client
    );
}

fn sites(old: &[Site], new: &[Site], words: &mut Vec<String>) {
    for site in new {
        match old.iter().find(|other| other.name() == site.name()) {
            None => words.push(format!("site {} is new: {}", site.name(), targets(site))),
            Some(other) if other == site => {}
            Some(other) => differs(other, site, words),
        }
    }
    for site in old.iter().filter(|site| !new.iter().any(|other| other.name() == site.name())) {
        words.push(format!("site {} is gone", site.name()));
    }
}

fn differs(old: &Site, new: &Site, words: &mut Vec<String>) {
    let name = new.name();
    let before = words.len();
    if old.routes != new.routes && targets(old) != targets(new) {
        words.push(format!("site {name}: {} instead of {}", targets(new), targets(old)));
    }
    changed(&format!("site {name}: host"), &shown(&old.hosts), &shown(&new.hosts), words);
    changed(&format!("site {name}: tls"), &old.tls, &new.tls, words);
    changed(&format!("site {name}: hsts"), &old.hsts, &new.hsts, words);
    changed(&format!("site {name}: redirect"), &old.redirect, &new.redirect, words);
    if words.len() == before {
        words.push(format!("site {name}: its routes' timeouts change"));
    }
}

/// Where the requests of a site go.
fn targets(site: &Site) -> String {
    let routes = site.routes.iter().map(|route| {
        let to: Vec<String> = route.to.iter().map(ToString::to_string).collect();
        format!("{} -> {}", route.path, to.join(", "))
    });
    let routes: Vec<String> = routes.collect();
    if routes.is_empty() { "a redirect".to_owned() } else { routes.join("; ") }
}

fn shown<T: Display>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn changed<T: PartialEq + Debug>(key: &str, old: &T, new: &T, words: &mut Vec<String>) {
    if old != new {
        words.push(format!("{key}: {new:?} instead of {old:?}"));
    }
}

fn restart<T: PartialEq + Debug>(key: &str, old: &T, new: &T, words: &mut Vec<String>) {
    if old != new {
        words.push(format!("{key}: {new:?} instead of {old:?}, at the next restart"));
    }
}
