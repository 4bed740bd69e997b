//! What the storage has of names that clients have asked for.

use std::collections::BTreeSet;

use crate::config::{Config, TlsSource};
use crate::proxy::headers::host::Host;
use crate::tls::acme::names::Wanted;
use crate::tls::acme::vault::{Files, Vault as _};

/// Every name under a site on demand of `config` that has a certificate in the storage, or that one
/// was asked for. A storage that cannot be listed has none.
#[must_use]
pub fn kept(config: &Config) -> Vec<Wanted> {
    if !super::terms::wants(config) {
        return Vec::new();
    }
    let entries = Files::at(&config.acme.storage).list().unwrap_or_default();
    let name = |entry: &String| {
        let is_other = entry.ends_with(".order.json");
        let name = entry.strip_suffix(".pem").or_else(|| entry.strip_suffix(".json"))?;
        Host::parse(name.as_bytes()).ok().filter(|_| !is_other)
    };
    let names: BTreeSet<Host> = entries.iter().filter_map(name).collect();
    let wanted = |host: &Host| {
        let site = config.site(host)?;
        matches!(site.tls, TlsSource::OnDemand(_)).then(|| Wanted {
            site: site.name(),
            names: vec![host.to_string()],
            key_type: site.key_type,
        })
    };
    names.iter().filter_map(wanted).collect()
}

/// Whether a certificate for these names is one that is got when clients ask for it.
#[must_use]
pub fn is_one(config: &Config, names: &[String]) -> bool {
    let [name] = names else { return false };
    let site = Host::parse(name.as_bytes()).ok().and_then(|host| config.site(&host));
    site.is_some_and(|site| matches!(site.tls, TlsSource::OnDemand(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ask;
    use crate::tls::testing::{config, site};

    #[test]
    fn names_of_other_sites_are_not_on_demand() {
        let storage = tempfile::tempdir().unwrap();
        let on_demand = TlsSource::OnDemand(Ask::parse("http://127.0.0.1:1/").unwrap());
        let sites = vec![site(&["*.a.test"], on_demand), site(&["www.a.test"], TlsSource::Auto)];
        let config = config(storage.path(), sites);
        assert_eq!(kept(&config), []);
        let folder = storage.path().join("acme");
        std::fs::create_dir(&folder).unwrap();
        for entry in [
            "x.a.test.pem",
            "x.a.test.json",
            "x.a.test.lock",
            "y.a.test.json",
            "z.a.test.order.json",
            "www.a.test.pem",
            "b.test.pem",
            "account@ca.json",
            "any@.a.test.pem",
        ] {
            std::fs::write(folder.join(entry), "").unwrap();
        }
        let names: Vec<_> = kept(&config).into_iter().flat_map(|wanted| wanted.names).collect();
        assert_eq!(names, ["x.a.test", "y.a.test"]);
    }
}
