//! Which certificate is shown: by the name that the client asks for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::acme::Demand;
use super::local_ca::LocalAuthority;
use super::local_ca::on_demand::OnDemand;
use crate::proxy::headers::host::HostPattern;

/// The fatal alert `unrecognized_name` (RFC 6066 §3) as the plaintext record that answers a
/// ClientHello (RFC 8446 §5.1, §6). rustls itself sends `access_denied` when a [`Resolver`] has no
/// certificate; whoever reads the ClientHello first can send this instead and close.
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Every certificate by the names of its site. Built once per configuration, read by all workers.
#[derive(Debug, Default)]
pub struct Table {
    exact: HashMap<Box<str>, Shown>,
    /// By the name behind `*.`.
    wildcard: HashMap<Box<str>, Shown>,
    /// Where the wildcard's certificate would be refused, by the name behind `*.`.
    on_demand: HashMap<Box<str>, Arc<OnDemand>>,
    addresses: HashMap<IpAddr, Shown>,
    any: Option<Shown>,
}

/// What is shown to who asks for a name, and under which rules.
#[derive(Clone, Debug)]
struct Shown {
    certificate: Certificate,
    /// The place of the rules among those of the configuration.
    policy: usize,
}

#[derive(Clone, Debug)]
enum Certificate {
    /// This one, for all names.
    One(Arc<CertifiedKey>),
    /// One for each name that was asked for, as far as they were got.
    OnDemand(Arc<Demand>),
}

impl Shown {
    /// The one that is for all names.
    fn one(&self) -> Option<&Arc<CertifiedKey>> {
        match &self.certificate {
            Certificate::One(certificate) => Some(certificate),
            Certificate::OnDemand(_) => None,
        }
    }
}

impl Table {
    /// Shows `certificate` to clients that ask for one of `hosts`, under the rules at the place
    /// `policy`.
    pub fn insert(
        &mut self,
        hosts: &[HostPattern],
        certificate: &Arc<CertifiedKey>,
        policy: usize,
    ) {
        let certificate = Certificate::One(certificate.clone());
        self.show(hosts, &Shown { certificate, policy });
    }

    /// Shows to clients that ask for a name under one of `hosts` what was got for this name.
    pub(super) fn show_on_demand(
        &mut self,
        hosts: &[HostPattern],
        demand: &Arc<Demand>,
        policy: usize,
    ) {
        let certificate = Certificate::OnDemand(demand.clone());
        self.show(hosts, &Shown { certificate, policy });
    }

    fn show(&mut self, hosts: &[HostPattern], shown: &Shown) {
        for host in hosts {
            match host {
                HostPattern::Any => self.any = Some(shown.clone()),
                HostPattern::Wildcard(parent) => {
                    self.wildcard.insert(parent.as_str().into(), shown.clone());
                }
                HostPattern::Exact(host) => match host.as_str().parse::<IpAddr>() {
                    Ok(address) => {
                        self.addresses.insert(address, shown.clone());
                    }
                    Err(_) => {
                        self.exact.insert(host.as_str().into(), shown.clone());
                    }
                },
            }
        }
    }

    /// Puts others in the place of certificates, each once: what is the same stays the same.
    pub(super) fn replace(&mut self, other: impl FnMut(&CertifiedKey) -> Option<CertifiedKey>) {
        let mut other = other;
        // With the old one, whose place in memory nobody else gets as long as it is here.
        let mut done: HashMap<*const CertifiedKey, [Arc<CertifiedKey>; 2]> = HashMap::new();
        let maps = [&mut self.exact, &mut self.wildcard].into_iter().flat_map(HashMap::values_mut);
        for shown in maps.chain(self.addresses.values_mut()).chain(&mut self.any) {
            let Some(old) = shown.one().map(Arc::clone) else { continue };
            let [_, new] = done.entry(Arc::as_ptr(&old)).or_insert_with(|| {
                let new = other(&old).map_or_else(|| Arc::clone(&old), Arc::new);
                [old, new]
            });
            shown.certificate = Certificate::One(Arc::clone(new));
        }
    }

    /// Has the names under those of `hosts` that are wildcards over a single label signed one by
    /// one; see [`OnDemand`].
    pub(super) fn sign_on_demand(
        &mut self,
        hosts: &[HostPattern],
        certificate: &Arc<CertifiedKey>,
        authority: &Arc<LocalAuthority>,
    ) {
        for host in hosts.iter().filter(|host| OnDemand::is_for(host)) {
            if let HostPattern::Wildcard(parent) = host {
                let on_demand = Arc::new(OnDemand::new(authority, certificate));
                self.on_demand.insert(parent.as_str().into(), on_demand);
            }
        }
    }

    /// Shows for `hosts` what `before` shows for them.
    pub(super) fn inherit(&mut self, hosts: &[HostPattern], before: &Self, policy: usize) {
        for host in hosts {
            let certificate = match host {
                HostPattern::Any => before.any.as_ref(),
                HostPattern::Wildcard(parent) => {
                    let on_demand = before.on_demand.get(parent.as_str());
                    if let Some(on_demand) = on_demand {
                        self.on_demand.insert(parent.as_str().into(), on_demand.clone());
                    }
                    before.wildcard.get(parent.as_str())
                }
                HostPattern::Exact(host) => match host.as_str().parse::<IpAddr>() {
                    Ok(address) => before.addresses.get(&address),
                    Err(_) => before.exact.get(host.as_str()),
                },
            };
            if let Some(shown) = certificate {
                let shown = Shown { policy, ..shown.clone() };
                self.show(std::slice::from_ref(host), &shown);
            }
        }
    }

    /// The certificate for a server name: of the site with this name, else of the site with the
    /// wildcard one label up, else of the site `"*"`. Upper case and a trailing dot do not matter.
    #[must_use]
    pub fn for_name(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = normal(name);
        let shown = self.shown(&name)?;
        let parent = parent(&name).filter(|_| !self.exact.contains_key(&*name));
        match parent.and_then(|parent| self.on_demand.get(parent)) {
            Some(on_demand) => Some(on_demand.leaf(&name)),
            None => match &shown.certificate {
                Certificate::One(certificate) => Some(certificate.clone()),
                Certificate::OnDemand(demand) => demand.certificate(&name),
            },
        }
    }

    /// Where the certificate for a server name is got when a client asks for it, and may not be
    /// there yet.
    #[must_use]
    pub fn on_demand(&self, name: &str) -> Option<&Arc<Demand>> {
        match &self.shown(&normal(name))?.certificate {
            Certificate::One(_) => None,
            Certificate::OnDemand(demand) => Some(demand),
        }
    }

    /// Whether [`Table::on_demand`] is of any use.
    pub(super) fn has_on_demand(&self) -> bool {
        self.any.iter().chain(self.wildcard.values()).any(|shown| shown.one().is_none())
    }

    /// The place of the rules for a server name; `None` when there is no certificate for it.
    #[must_use]
    pub fn policy_for_name(&self, name: &str) -> Option<usize> {
        self.shown(&normal(name)).map(|shown| shown.policy)
    }

    /// By a name as the table spells it.
    fn shown(&self, name: &str) -> Option<&Shown> {
        let wildcard = || self.wildcard.get(parent(name)?);
        self.exact.get(name).or_else(wildcard).or(self.any.as_ref())
    }

    /// Whether there is a certificate for a server name, or may be one when a client asks for it.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.policy_for_name(name).is_some()
    }

    /// The certificate for a client that names no server, as clients do that connect to an IP
    /// address: of the site whose host is the address that they reached, else of the site `"*"`.
    /// Behind address translation the address that they reached is not the one that they meant;
    /// where a single certificate is for IP addresses at all, it is shown last of all.
    #[must_use]
    pub fn for_address(&self, local: Option<IpAddr>) -> Option<&Arc<CertifiedKey>> {
        self.shown_at(local)?.one()
    }

    /// The place of the rules for such a client.
    #[must_use]
    pub fn policy_for_address(&self, local: Option<IpAddr>) -> Option<usize> {
        self.shown_at(local).map(|shown| shown.policy)
    }

    fn shown_at(&self, local: Option<IpAddr>) -> Option<&Shown> {
        local
            .and_then(|local| self.addresses.get(&local.to_canonical()))
            .or(self.any.as_ref().filter(|any| any.one().is_some()))
            .or_else(|| self.only_address_certificate())
    }

    /// The addresses for which [`Table::for_address`] may differ.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.keys().copied()
    }

    fn only_address_certificate(&self) -> Option<&Shown> {
        let mut all = self.addresses.values();
        let first = all.next()?;
        let is_same = |other: &Shown| {
            let is_same = |(first, other): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(first, other);
            first.one().zip(other.one()).is_some_and(is_same) && first.policy == other.policy
        };
        all.all(is_same).then_some(first)
    }
}

/// Answers rustls from a [`Table`].
#[derive(Debug)]
pub struct Resolver {
    table: Arc<Table>,
    /// For a client that names no server.
    nameless: Option<Arc<CertifiedKey>>,
}

impl Resolver {
    /// A resolver for connections to `local`, where that is known.
    #[must_use]
    pub fn new(table: &Arc<Table>, local: Option<IpAddr>) -> Self {
        Self { table: table.clone(), nameless: table.for_address(local).cloned() }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.server_name() {
            Some(name) => self.table.for_name(name),
            None => self.nameless.clone(),
        }
    }
}

/// The name as the table spells it; borrowed when it is spelt so already, as it mostly is.
fn normal(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// The name behind the first label.
fn parent(name: &str) -> Option<&str> {
    name.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Pki, hosts};

    fn table(sites: &[&[&str]]) -> (Table, Vec<Arc<CertifiedKey>>) {
        let pki = Pki::new();
        let mut table = Table::default();
        let mut certificates = Vec::new();
        for names in sites {
            let certificate = pki.certified(&["x.test"]);
            table.insert(&hosts(names), &certificate, 0);
            certificates.push(certificate);
        }
        (table, certificates)
    }

    /// Which of the sites it is.
    fn index(certificates: &[Arc<CertifiedKey>], one: Option<&Arc<CertifiedKey>>) -> Option<usize> {
        one.map(|one| certificates.iter().position(|c| Arc::ptr_eq(c, one)).unwrap())
    }

    #[test]
    fn the_nearest_name_wins() {
        let (table, all) = table(&[&["a.test", "b.test"], &["*.a.test"], &["api.a.test"]]);
        for (name, site) in [
            ("a.test", Some(0)),
            ("b.test", Some(0)),
            ("www.a.test", Some(1)),
            ("api.a.test", Some(2)),
            ("deep.www.a.test", None),
            ("www.b.test", None),
            ("test", None),
            (".a.test", None),
            ("", None),
        ] {
            assert_eq!(index(&all, table.for_name(name).as_ref()), site, "{name}");
            assert_eq!(table.knows(name), site.is_some(), "{name}");
        }
    }

    #[test]
    fn every_spelling_of_a_name_is_that_name() {
        let (table, all) = table(&[&["a.test"], &["*.b.test"]]);
        for (name, site) in [("A.TEST", 0), ("a.test.", 0), ("A.tesT.", 0), ("WWW.B.Test.", 1)] {
            assert_eq!(index(&all, table.for_name(name).as_ref()), Some(site), "{name}");
        }
        assert!(table.for_name("a.test..").is_none());
    }

    #[test]
    fn only_a_site_for_any_name_answers_strangers() {
        let (strict, _) = table(&[&["a.test"]]);
        assert!(strict.for_name("stranger.test").is_none());
        assert!(strict.for_address(None).is_none());
        let (open, all) = table(&[&["a.test"], &["*"]]);
        assert_eq!(index(&all, open.for_name("stranger.test").as_ref()), Some(1));
        assert_eq!(index(&all, open.for_name(&"x".repeat(300)).as_ref()), Some(1));
        assert_eq!(index(&all, open.for_address(None)), Some(1));
    }

    #[test]
    fn what_is_got_on_demand_is_shown_for_the_name_alone() {
        let (mut table, all) = table(&[&["www.a.test"], &["*.b.test"]]);
        let demand = Arc::new(Demand::default());
        assert!(!table.has_on_demand());
        table.show_on_demand(&hosts(&["*.a.test", "*"]), &demand, 3);
        assert!(table.has_on_demand());
        for (name, is_on_demand) in [
            ("www.a.test", false),
            ("x.a.test", true),
            ("X.a.test.", true),
            ("x.b.test", false),
            ("stranger.test", true),
        ] {
            assert_eq!(table.on_demand(name).is_some(), is_on_demand, "{name}");
            assert_eq!(table.for_name(name).is_none(), is_on_demand, "{name}");
            assert_eq!(table.policy_for_name(name), Some(if is_on_demand { 3 } else { 0 }));
        }
        assert!(table.for_address(None).is_none() && table.policy_for_address(None).is_none());
        demand.put("x.a.test", &all[0]);
        assert_eq!(index(&all, table.for_name("X.a.test").as_ref()), Some(0));
        assert!(table.for_name("y.a.test").is_none());
        let mut next = Table::default();
        next.inherit(&hosts(&["*.a.test"]), &table, 5);
        assert!(next.for_name("x.a.test").is_some());
    }

    #[test]
    fn a_client_without_a_name_gets_the_site_of_the_address_it_reached() {
        let (table, all) = table(&[&["192.0.2.1"], &["2001:db8::1"], &["*"]]);
        let reached = |address: &str| Some(address.parse::<IpAddr>().unwrap());
        assert_eq!(index(&all, table.for_address(reached("192.0.2.1"))), Some(0));
        assert_eq!(index(&all, table.for_address(reached("::ffff:192.0.2.1"))), Some(0));
        assert_eq!(index(&all, table.for_address(reached("2001:db8::1"))), Some(1));
        assert_eq!(index(&all, table.for_address(reached("192.0.2.9"))), Some(2));
    }

    #[test]
    fn behind_address_translation_the_only_certificate_for_addresses_is_shown() {
        let behind = Some("10.0.0.5".parse::<IpAddr>().unwrap());
        let (one, all) = table(&[&["203.0.113.5", "2001:db8::5", "a.test"]]);
        assert_eq!(index(&all, one.for_address(behind)), Some(0));
        let (two, _) = table(&[&["203.0.113.5"], &["203.0.113.6"]]);
        assert!(two.for_address(behind).is_none());
    }
}
