//! What differs between two configurations, in words.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::time::Duration;

use crate::config::size::Size;
use crate::config::{
    AccessLog, Admin, Config, Limits, Listen, Log, LogFormat, Redirect, Server, Site, TlsSource,
};
use crate::proxy::path::PathPrefix;

/// One sentence for each difference; one that says so if there is none.
#[must_use]
pub(super) fn between(old: &Config, new: &Config) -> Vec<String> {
    let mut words = Vec::new();
    listeners("http", &old.server.http, &new.server.http, &mut words);
    listeners("https", &old.server.https, &new.server.https, &mut words);
    server(&old.server, &new.server, &mut words);
    limits(&old.limits, &new.limits, &mut words);
    changed("log.access", &access(&old.log), &access(&new.log), &mut words);
    changed("log.format", &format(&old.log), &format(&new.log), &mut words);
    changed("log.level", &old.log.level, &new.log.level, &mut words);
    changed("log.mask", &list(&old.log.mask), &list(&new.log.mask), &mut words);
    let metrics = |admin: &Admin| or_off(admin.metrics.as_ref());
    changed("admin.metrics", &metrics(&old.admin), &metrics(&new.admin), &mut words);
    let socket = |admin: &Admin| admin.socket.display().to_string();
    restart("admin.socket", &socket(&old.admin), &socket(&new.admin), &mut words);
    if old.acme != new.acme {
        words.push("the keys of [acme] change".to_owned());
    }
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
    let workers = |server: &Server| match server.workers {
        Some(number) => number.to_string(),
        None => "auto".to_owned(),
    };
    restart("server.workers", &workers(old), &workers(new), words);
    restart("server.user", &or_off(old.user.as_ref()), &or_off(new.user.as_ref()), words);
    restart("server.sandbox", &old.sandbox.to_string(), &new.sandbox.to_string(), words);
    changed("server.grace", &time(old.grace), &time(new.grace), words);
    let trusted = |server: &Server| list(&server.trusted_proxies);
    changed("server.trusted_proxies", &trusted(old), &trusted(new), words);
    changed("server.proxy_protocol", &old.proxy_protocol, &new.proxy_protocol, words);
    changed("server.via", &old.via, &new.via, words);
    changed("server.key_log", &old.key_log, &new.key_log, words);
    changed("server.ocsp", &old.ocsp, &new.ocsp, words);
}

fn limits(old: &Limits, new: &Limits, words: &mut Vec<String>) {
    /// Compares the fields that are named, shown by a function.
    macro_rules! each {
        ($shown:expr, $($field:ident)*) => {
            $(changed(
                concat!("limits.", stringify!($field)),
                &$shown(old.$field),
                &$shown(new.$field),
                words,
            );)*
        };
    }
    each!(time, request_header_timeout request_body_idle_timeout idle_timeout);
    each!(time, tls_handshake_timeout upstream_timeout hold);
    each!(|size| Size(size as u64), header_size target_size);
    each!(|size: Option<u64>| or_off(size.map(Size).as_ref()), body_size request_body_rate);
    each!(|count| count, header_count connections connections_per_client);
}

fn sites(old: &[Site], new: &[Site], words: &mut Vec<String>) {
    let before: HashMap<String, &Site> = old.iter().map(|site| (site.name(), site)).collect();
    for site in new {
        match before.get(&site.name()) {
            None => words.push(format!("site {} is new: {}", site.name(), targets(site))),
            Some(other) if *other == site => {}
            Some(other) => differs(other, site, words),
        }
    }
    let after: HashSet<String> = new.iter().map(Site::name).collect();
    for name in old.iter().map(Site::name).filter(|name| !after.contains(name)) {
        words.push(format!("site {name} is gone"));
    }
}

fn differs(old: &Site, new: &Site, words: &mut Vec<String>) {
    let name = new.name();
    let before = words.len();
    if old.routes != new.routes && targets(old) != targets(new) {
        words.push(format!("site {name}: {} instead of {}", targets(new), targets(old)));
    }
    changed(&format!("site {name}: host"), &list(&old.hosts), &list(&new.hosts), words);
    changed(&format!("site {name}: tls"), &tls(&old.tls), &tls(&new.tls), words);
    if old.tls != new.tls && tls(&old.tls) == tls(&new.tls) {
        // A key file, or a query in which a secret may stand.
        words.push(format!("site {name}: what is not shown of its `tls` changes"));
    }
    changed(&format!("site {name}: key_type"), &old.key_type, &new.key_type, words);
    changed(&format!("site {name}: hsts"), &old.hsts.to_string(), &new.hsts.to_string(), words);
    if old.policy != new.policy {
        words.push(format!("site {name}: its rules of TLS towards clients change"));
    }
    changed(&format!("site {name}: redirect"), &redirect(old), &redirect(new), words);
    if times(old, new) != times(new, old) {
        words.push(format!("site {name}: its routes' timeouts change"));
    }
    if words.len() == before {
        words.push(format!("site {name}: something changes that is not shown"));
    }
}

/// The timeouts of those of its routes that are there before and after.
fn times<'a>(site: &'a Site, of: &Site) -> Vec<(&'a PathPrefix, Duration, Duration)> {
    let routes =
        site.routes.iter().filter(|route| of.routes.iter().any(|it| it.path == route.path));
    routes.map(|route| (&route.path, route.upstream_timeout, route.hold)).collect()
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

fn list<T: Display>(list: &[T]) -> String {
    let words: Vec<String> = list.iter().map(ToString::to_string).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn or_off<T: Display>(value: Option<&T>) -> String {
    value.map_or_else(|| "off".to_owned(), ToString::to_string)
}

fn time(duration: Duration) -> String {
    format!("{duration:?}")
}

fn access(log: &Log) -> String {
    match &log.access {
        AccessLog::Off => "off".to_owned(),
        AccessLog::Stdout => "stdout".to_owned(),
        AccessLog::File(path) => path.display().to_string(),
    }
}

fn format(log: &Log) -> &'static str {
    match log.format {
        LogFormat::Combined => "combined",
        LogFormat::Json => "json",
    }
}

fn tls(source: &TlsSource) -> String {
    match source {
        TlsSource::Auto => "auto".to_owned(),
        TlsSource::Local => "local".to_owned(),
        TlsSource::Files { cert, .. } => cert.display().to_string(),
        TlsSource::OnDemand(ask) => format!("on demand, as {ask} says"),
    }
}

fn redirect(site: &Site) -> String {
    match &site.redirect {
        Redirect::Https => "https".to_owned(),
        Redirect::Off => "off".to_owned(),
        Redirect::To(url) => url.clone(),
    }
}

fn changed<T: PartialEq + Display>(key: &str, old: &T, new: &T, words: &mut Vec<String>) {
    if old != new {
        words.push(format!("{key}: {new} instead of {old}"));
    }
}

fn restart<T: PartialEq + Display>(key: &str, old: &T, new: &T, words: &mut Vec<String>) {
    if old != new {
        words.push(format!("{key}: {new} instead of {old}, at the next restart"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn told(old: &str, new: &str) -> Vec<String> {
        let read = |keys: &str| {
            let text = format!("[[site]]\nhost = 'a.test'\n{keys}\n");
            let read = config::parse(&text, "test.toml", Path::new("/etc/p"), &|_| None);
            read.unwrap_or_else(|problems| panic!("{problems}")).config
        };
        between(&read(old), &read(new))
    }

    /// It was said that the timeouts of the routes change.
    #[test]
    fn each_key_of_a_site_is_told_by_its_name() {
        let to = "to = '3000'";
        let with = |line: &str| format!("{to}\n{line}");
        assert_eq!(told(to, to), ["nothing differs; certificates are read anew"]);
        for (line, words) in [
            ("key_type = 'p384'", "site a.test: key_type: p384 instead of p256"),
            ("hsts = '1d'", "site a.test: hsts: 1d instead of off"),
            ("tls_min = '1.3'", "site a.test: its rules of TLS towards clients change"),
            ("tls = 'local'", "site a.test: tls: local instead of auto"),
            ("redirect = 'off'", "site a.test: redirect: off instead of https"),
            ("upstream_timeout = '7s'", "site a.test: its routes' timeouts change"),
        ] {
            assert_eq!(told(to, &with(line)), [words], "{line}");
        }
        let both = told(to, "to = '4000'\nupstream_timeout = '7s'");
        assert_eq!(both.len(), 2, "the timeouts beside another change: {both:?}");
        assert_eq!(told(to, "to = '4000'").len(), 1);
    }
}
