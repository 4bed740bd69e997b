//! A certificate in the storage: its key and its chain in one entry, so that a pair is never half.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::names::stem;
use super::vault::Vault;
use crate::config::KeyType;
use crate::proxy::headers::host::HostPattern;
use crate::tls::facts::Facts;
use crate::tls::files::pem_words;

/// A certificate that can be served.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What is shown to clients.
    pub certified: Arc<CertifiedKey>,
    /// What it says.
    pub facts: Facts,
}

/// The entry of the certificate for these names.
#[must_use]
pub fn entry(names: &[String]) -> String {
    format!("{}.pem", stem(names))
}

/// The text of an entry.
#[must_use]
pub fn text(key: &KeyPair, chain: &str) -> String {
    format!("{}{chain}", key.serialize_pem())
}

/// The certificate that is kept for these names; `None` where there is none.
///
/// # Errors
/// In words, when the entry cannot be read or is damaged.
pub fn read(vault: &dyn Vault, names: &[String]) -> Result<Option<Stored>, Damage> {
    let name = entry(names);
    let text = vault.get(&name).map_err(|error| Damage::Unreadable(error.to_string()))?;
    let parse = |text: Vec<u8>| {
        Stored::parse(&text)
            .map_err(|why| Damage::Damaged(format!("{} is damaged: {why}", vault.place(&name))))
    };
    text.map(parse).transpose()
}

/// Why a certificate that is kept cannot be used, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The storage does not give it.
    Unreadable(String),
    /// What it gives is none.
    Damaged(String),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Damage::Unreadable(words) | Damage::Damaged(words)) = self;
        f.write_str(words)
    }
}

impl Stored {
    /// Reads the key and the chain of one PEM text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| pem_words(&error))?;
        let chain = CertificateDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| pem_words(&error))?;
        let leaf = chain.first().ok_or("it has no certificate")?;
        let facts = Facts::of(leaf).map_err(|error| error.to_string())?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| error.to_string())?;
        Ok(Self { certified: Arc::new(certified), facts })
    }

    /// The certificate itself.
    #[must_use]
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }

    /// How long it lives, from its beginning to its end.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.facts.not_after.duration_since(self.facts.not_before).unwrap_or_default()
    }

    /// Whether clients accept it now.
    #[must_use]
    pub fn is_valid(&self, now: SystemTime) -> bool {
        now < self.facts.not_after
    }

    /// Whether it is for all of these names.
    #[must_use]
    pub fn covers(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.covers_name(name))
    }

    /// Whether it is for this name.
    #[must_use]
    pub fn covers_name(&self, name: &str) -> bool {
        HostPattern::parse(name).is_ok_and(|host| self.facts.covers(&host))
    }

    /// Whether its key is of this kind.
    #[must_use]
    pub fn is_of(&self, key_type: KeyType) -> bool {
        let Some(leaf) = self.certified.cert.first() else { return false };
        let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return false };
        match parsed.public_key().parsed() {
            Ok(PublicKey::EC(point)) => match point.key_size() {
                256 => key_type == KeyType::P256,
                384 => key_type == KeyType::P384,
                _ => false,
            },
            Ok(PublicKey::RSA(key)) => match key.key_size() {
                2048 => key_type == KeyType::Rsa2048,
                4096 => key_type == KeyType::Rsa4096,
                _ => false,
            },
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::acme::vault::Files;
    use crate::tls::testing::Pki;

    fn names() -> Vec<String> {
        vec!["a.test".to_owned(), "b.test".to_owned()]
    }

    #[test]
    fn what_was_kept_is_served() {
        let storage = tempfile::tempdir().unwrap();
        let vault = Files::at(storage.path());
        assert!(read(&vault, &names()).unwrap().is_none());
        let pair = Pki::new().pair(&["a.test", "b.test"]);
        let held = vault.lock("a.test").unwrap().unwrap();
        let both = format!("{}{}", pair.key, pair.cert);
        vault.put(&entry(&names()), both.as_bytes(), &held).unwrap();
        let stored = read(&vault, &names()).unwrap().unwrap();
        assert!(stored.covers(&names()) && stored.is_of(KeyType::P256));
        assert!(!stored.covers(&["c.test".to_owned()]));
        assert!(!stored.is_of(KeyType::Rsa2048) && !stored.is_of(KeyType::P384));
        assert!(stored.is_valid(SystemTime::now()));
        assert!(!stored.is_valid(stored.facts.not_after));
    }

    /// The marker that was missing was told as a list of numbers.
    #[test]
    fn what_is_cut_is_told_in_words() {
        let pair = Pki::new().pair(&["a.test"]);
        let text = format!("{}{}", pair.key, pair.cert);
        for (kept, what) in [(100, "PRIVATE KEY"), (text.len() - 40, "CERTIFICATE")] {
            let told = Stored::parse(&text.as_bytes()[..kept]).unwrap_err();
            assert_eq!(
                told,
                format!("it is cut: there is no -----END {what}----- line after the last BEGIN")
            );
        }
    }

    #[test]
    fn what_is_damaged_is_named() {
        let storage = tempfile::tempdir().unwrap();
        let vault = Files::at(storage.path());
        let held = vault.lock("a.test").unwrap().unwrap();
        let (one, other) = (Pki::new().pair(&["a.test"]), Pki::new().pair(&["a.test"]));
        for text in ["", "junk", &one.cert, &one.key, &format!("{}{}", one.key, other.cert)] {
            vault.put(&entry(&names()), text.as_bytes(), &held).unwrap();
            let damage = read(&vault, &names()).unwrap_err();
            assert!(matches!(damage, Damage::Damaged(_)), "{text}");
            assert!(damage.to_string().contains("acme/a.test.pem is damaged"), "{damage}");
        }
    }
}
