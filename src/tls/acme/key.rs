//! The key of a certificate, and the request that it signs.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize};

use super::failure::{Failure, Kind};
use crate::config::KeyType;

/// Makes a key. The long ones take seconds, which signals and the control socket shall not wait
/// for.
pub(super) async fn new_key(kind: KeyType) -> Result<KeyPair, Failure> {
    let make = move || match kind {
        KeyType::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyType::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
    };
    let made = tokio::task::spawn_blocking(make).await;
    made.map_err(|error| Failure::new(Kind::Storage, error.to_string()))?
        .map_err(Failure::of_cryptography)
}

/// A request for a certificate for these names and nothing else.
pub(super) fn request(names: &[String], key: &KeyPair) -> Result<Vec<u8>, Failure> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(Failure::of_cryptography)?;
    params.distinguished_name = DistinguishedName::new();
    let signed = params.serialize_request(key).map_err(Failure::of_cryptography)?;
    Ok(signed.der().to_vec())
}
