//! Cipher suites, and whose favourite among them is taken.

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};

/// In which order suites are tried. It is ours, but for what only the client knows: whether its
/// processor has AES instructions. One without them names ChaCha20 first, and would spend several
/// times as long on AES; such a client gets ChaCha20. OpenSSL calls the same `PrioritizeChaCha`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// AES-128, AES-256, ChaCha20.
    AesFirst,
    /// ChaCha20, AES-128, AES-256.
    ChaChaFirst,
}

impl Order {
    /// For a client that offers `suites`: the first that we know decides, because browsers put one
    /// in front that nobody knows (RFC 8701).
    #[must_use]
    pub fn of(suites: &[CipherSuite]) -> Self {
        let is_known = |suite: &&CipherSuite| Kind::of(**suite).is_some();
        match suites.iter().find(is_known).copied().and_then(Kind::of) {
            Some(Kind::ChaCha) => Order::ChaChaFirst,
            Some(Kind::Aes) | None => Order::AesFirst,
        }
    }

    /// The cryptography with suites in this order.
    ///
    /// Of groups the client's favourite is taken, which rustls leaves no choice about, so that
    /// their order here is a statement of intent; that a client which offers the post-quantum group
    /// gets it is tested.
    #[must_use]
    pub fn provider(self) -> CryptoProvider {
        let mut cipher_suites = vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        if self == Order::ChaChaFirst {
            cipher_suites.sort_by_key(|suite| Kind::of(suite.suite()) != Some(Kind::ChaCha));
        }
        CryptoProvider {
            cipher_suites,
            kx_groups: vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
            ],
            ..aws_lc_rs::default_provider()
        }
    }
}

/// What the suites that we have are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Aes,
    ChaCha,
}

impl Kind {
    fn of(suite: CipherSuite) -> Option<Self> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Some(Kind::Aes),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Some(Kind::ChaCha),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AES: CipherSuite = CipherSuite::TLS13_AES_256_GCM_SHA384;
    const CHACHA: CipherSuite = CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256;
    const GREASE: CipherSuite = CipherSuite::Unknown(0x3a3a);
    const CBC: CipherSuite = CipherSuite::TLS_RSA_WITH_AES_128_CBC_SHA;

    #[test]
    fn the_first_suite_that_we_know_tells_who_has_no_aes_instructions() {
        for (suites, order) in [
            (&[][..], Order::AesFirst),
            (&[GREASE, CBC], Order::AesFirst),
            (&[AES, CHACHA], Order::AesFirst),
            (&[CHACHA, AES], Order::ChaChaFirst),
            (&[GREASE, CHACHA, AES], Order::ChaChaFirst),
            (&[GREASE, AES, CHACHA], Order::AesFirst),
        ] {
            assert_eq!(Order::of(suites), order, "{suites:?}");
        }
    }

    #[test]
    fn both_orders_have_the_same_suites_and_all_of_them_are_known() {
        let suites = |order: Order| {
            let suites = order.provider().cipher_suites.into_iter();
            suites.map(|suite| suite.suite()).collect::<Vec<_>>()
        };
        let (aes, chacha) = (suites(Order::AesFirst), suites(Order::ChaChaFirst));
        assert!(aes.iter().all(|suite| Kind::of(*suite).is_some()));
        assert!(aes.iter().all(|suite| chacha.contains(suite)) && aes.len() == chacha.len());
        assert_eq!(Order::of(&aes), Order::AesFirst);
        assert_eq!(Order::of(&chacha), Order::ChaChaFirst);
        assert!(chacha.iter().take(3).all(|suite| Kind::of(*suite) == Some(Kind::ChaCha)));
        assert_eq!(chacha.get(3), aes.first());
    }
}
