//! Renewals that somebody asks for.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::Plane;
use crate::config::{Config, Site, TlsSource};
use crate::proxy::headers::host::Host;
use crate::tls::acme::vault::Files;
use crate::tls::acme::{Standing, demand};

impl Plane {
    /// Has certificates by ACME renewed, and answers which, and which are not due.
    pub(super) fn renew_by_acme(&self, name: Option<&str>, force: bool) -> Result<Value, String> {
        let now = SystemTime::now();
        let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let renewed = self.acme.renew(name.as_deref(), force, now);
        if renewed.is_empty() {
            if let Some(answer) = self.renew_on_demand(name.as_deref(), force, now) {
                return answer;
            }
            return Err(refusal(name.as_deref(), &self.state.config, &self.acme.standings()));
        }
        let of = |wanted: bool| {
            let those = renewed.iter().filter(move |(_, is_asked)| *is_asked == wanted);
            those.map(|(standing, _)| standing.as_json(now)).collect::<Vec<_>>()
        };
        for (standing, _) in renewed.iter().filter(|(_, is_asked)| *is_asked) {
            tracing::info!("site {}: a renewal was asked for", standing.site);
        }
        Ok(json!({ "ok": true, "asked": of(true), "not_due": of(false) }))
    }
}

impl Plane {
    /// The same for a name that clients have asked for; `None` where it is none.
    fn renew_on_demand(
        &self,
        name: Option<&str>,
        force: bool,
        now: SystemTime,
    ) -> Option<Result<Value, String>> {
        let (name, config) = (name?, &self.state.config);
        let wanted = demand::kept(config).into_iter().find(|one| one.names == [name])?;
        let standing = match Standing::read(&Files::at(&config.acme.storage), &wanted) {
            Ok(standing) => standing,
            Err(error) => return Some(Err(error.to_string())),
        };
        let told = json!([standing.as_json(now)]);
        if !force && !standing.is_wanting(now) {
            return Some(Ok(json!({ "ok": true, "asked": [], "not_due": told })));
        }
        tracing::info!("site {}: a renewal for {name} was asked for", standing.site);
        self.acme.renew_on_demand(name);
        Some(Ok(json!({ "ok": true, "asked": told, "not_due": [], "on_demand": true })))
    }
}

/// Why nothing is renewed.
fn refusal(name: Option<&str>, config: &Config, standings: &[Standing]) -> String {
    let known: Vec<&str> =
        standings.iter().flat_map(|standing| &standing.names).map(String::as_str).collect();
    let known = match known.as_slice() {
        [] => "no certificate of this server is got by ACME".to_owned(),
        names => format!("got by ACME: {}", names.join(", ")),
    };
    let Some(name) = name else { return known };
    let is_of = |site: &&Site| {
        site.name() == name || site.hosts.iter().any(|host| host.to_string() == name)
    };
    let is_on_demand = |site: &&Site| matches!(site.tls, TlsSource::OnDemand(_));
    // Its names stand nowhere.
    let under = || config.site(&Host::parse(name.as_bytes()).ok()?).filter(is_on_demand);
    match config.sites.iter().find(is_of).or_else(under).map(|site| &site.tls) {
        None => format!("no certificate is for {name:?}; {known}"),
        Some(TlsSource::Files { cert, .. }) => format!(
            "the certificate for {name} is read from {}: whoever writes that file renews it, and \
             the server takes the new one up by itself",
            cert.display()
        ),
        Some(TlsSource::OnDemand(_)) => format!(
            "no certificate was got for {name} yet: under a site on demand a name has one got when \
             clients come for it, and renewed by itself while they do"
        ),
        Some(TlsSource::Local | TlsSource::Auto) => format!(
            "the certificate for {name} is signed by the local authority, which renews it by itself"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::Ask;
    use crate::tls::testing::{config, site};

    #[test]
    fn what_is_not_renewed_by_acme_is_told_with_who_renews_it() {
        let files = TlsSource::Files { cert: PathBuf::from("/c.pem"), key: PathBuf::from("/k") };
        let ask = Ask::parse("http://127.0.0.1:9000/").unwrap();
        let sites = vec![
            site(&["files.de"], files),
            site(&["local.de"], TlsSource::Local),
            site(&["*.shop.de"], TlsSource::OnDemand(ask)),
        ];
        let config = config(Path::new("/s"), sites);
        let standing = Standing { names: vec!["a.de".to_owned()], ..Standing::default() };
        let told = |name| refusal(name, &config, std::slice::from_ref(&standing));
        assert!(told(Some("files.de")).contains("/c.pem"));
        assert!(told(Some("local.de")).contains("the local authority"));
        assert!(told(Some("a.shop.de")).contains("no certificate was got for a.shop.de yet"));
        assert!(told(Some("*.shop.de")).contains("on demand"));
        assert!(told(Some("b.de")).ends_with("got by ACME: a.de"));
        assert_eq!(refusal(None, &config, &[]), "no certificate of this server is got by ACME");
    }
}
