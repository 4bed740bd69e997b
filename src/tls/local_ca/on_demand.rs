//! Local certificates for names that no wildcard certificate can stand for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use super::LocalAuthority;
use crate::proxy::headers::host::HostPattern;

/// Names kept at once. A stranger who asks for more makes us sign again, which costs about as much
/// as the rest of the handshake, and no more memory.
const KEPT: usize = 256;

/// Signs a leaf for each name under a wildcard such as `*.localhost` when a client first asks for
/// it: clients refuse a wildcard with a single label behind it, as browsers, OpenSSL and webpki do.
///
/// The leafs live in memory, share the key of the wildcard's own leaf, and are gone with the next
/// load of the certificates, which comes long before they expire. The lock is taken in handshakes
/// for such names alone.
#[derive(Debug)]
pub(in crate::tls) struct OnDemand {
    authority: Arc<LocalAuthority>,
    wildcard: Arc<CertifiedKey>,
    leafs: Mutex<HashMap<Box<str>, Arc<CertifiedKey>>>,
}

impl OnDemand {
    /// For the names under a wildcard whose own leaf `wildcard` is from `authority`.
    pub(in crate::tls) fn new(
        authority: &Arc<LocalAuthority>,
        wildcard: &Arc<CertifiedKey>,
    ) -> Self {
        Self { authority: authority.clone(), wildcard: wildcard.clone(), leafs: Mutex::default() }
    }

    /// Whether this wildcard needs it.
    pub(in crate::tls) fn is_for(host: &HostPattern) -> bool {
        matches!(host, HostPattern::Wildcard(parent) if !parent.as_str().contains('.'))
    }

    /// The leaf for `name`, in lower case; the wildcard's own when it cannot be made.
    pub(in crate::tls) fn leaf(&self, name: &str) -> Arc<CertifiedKey> {
        let mut leafs = self.leafs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leafs.get(name) {
            return leaf.clone();
        }
        match self.authority.sign(name, &self.wildcard, SystemTime::now()) {
            Ok(leaf) => {
                if leafs.len() >= KEPT {
                    leafs.clear();
                }
                leafs.insert(name.into(), leaf.clone());
                leaf
            }
            Err(error) => {
                tracing::debug!("no local certificate for {name:?}: {error}");
                self.wildcard.clone()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::facts::Facts;
    use crate::tls::local_ca::names_for;
    use crate::tls::testing::hosts;

    #[test]
    fn only_wildcards_over_a_single_label_need_it() {
        for (name, needed) in
            [("*.localhost", true), ("*.internal", true), ("*.a.internal", false), ("*", false)]
        {
            assert_eq!(OnDemand::is_for(&hosts(&[name])[0]), needed, "{name}");
        }
    }

    #[test]
    fn each_name_is_signed_once_and_what_is_kept_is_bounded() {
        let storage = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority = Arc::new(LocalAuthority::open_or_create(storage.path(), now).unwrap());
        let names = names_for(&hosts(&["*.localhost"]));
        let wildcard = authority.certificate(&names, now).unwrap();
        let on_demand = OnDemand::new(&authority, &wildcard);
        let leaf = on_demand.leaf("app.localhost");
        assert_eq!(Facts::of(&leaf.cert[0]).unwrap().names, ["app.localhost"]);
        leaf.keys_match().unwrap();
        assert!(Arc::ptr_eq(&leaf, &on_demand.leaf("app.localhost")));
        for number in 0..KEPT * 2 {
            on_demand.leaf(&format!("n{number}.localhost"));
        }
        assert!(on_demand.leafs.lock().unwrap().len() <= KEPT);
    }
}
