//! Whether the certificates of a file lead from the site's own to an authority that clients know.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// SHA-1 and MD5 with any key, as browsers have refused them for years.
const WEAK: [(&str, &str); 6] = [
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
    ("1.2.840.10040.4.3", "SHA-1"),
    ("1.3.14.3.2.29", "SHA-1"),
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.2", "MD2"),
];

/// The shortest RSA key that is trusted, in bits.
pub(super) const RSA: usize = 2048;

/// What is wrong with a chain, the site's own certificate first: a link that is missing or does not
/// hold, and what is too weak. One sentence each.
///
/// A root at the end is of no use and no harm; that clients know the last one's issuer cannot
/// be seen from here, but where the site's own certificate stands alone, and has not signed itself,
/// an authority in between is missing most likely: the public ones sign nothing with their roots.
#[must_use]
pub fn judge(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let parsed: Vec<_> =
        chain.iter().filter_map(|der| X509Certificate::from_der(der).ok()).collect();
    let mut found = Vec::new();
    for (number, (_, certificate)) in parsed.iter().enumerate() {
        found.extend(weakness(number, certificate));
    }
    for (number, pair) in parsed.windows(2).enumerate() {
        let [(_, below), (_, above)] = pair else { continue };
        let Some(der) = chain.get(number) else { continue };
        let broken = if below.issuer().as_raw() != above.subject().as_raw() {
            "is not issued by"
        } else if is_signed_by(der, &below.signature_value.data, above) == Some(false) {
            "is not signed by"
        } else {
            continue;
        };
        found.push(format!(
            "{} {broken} the one after it in the file, so that clients find no way to an authority \
             that they know; after the site's own certificate comes its issuer's ({}), then \
             that one's, up to the root, which may be left out",
            named(number),
            below.issuer()
        ));
    }
    if let [(_, alone)] = &*parsed
        && alone.issuer().as_raw() != alone.subject().as_raw()
    {
        found.push(format!(
            "the file holds no certificate of an authority between the site's own and a root: \
             unless {} is itself a root that clients know, many refuse it; take the chain that the \
             authority gave (certbot: fullchain.pem)",
            alone.issuer()
        ));
    }
    found
}

fn named(number: usize) -> String {
    match number {
        0 => "the site's own certificate".to_owned(),
        number => format!("certificate {} of the file", number + 1),
    }
}

fn weakness(number: usize, certificate: &X509Certificate<'_>) -> Option<String> {
    use x509_parser::public_key::PublicKey;
    let is_root = certificate.issuer().as_raw() == certificate.subject().as_raw();
    let oid = certificate.signature_algorithm.algorithm.to_id_string();
    let hash = WEAK.iter().find(|(weak, _)| *weak == oid).map(|(_, name)| *name);
    // Nobody looks at a root's signature of itself.
    if let (Some(hash), false) = (hash, is_root && number > 0) {
        let whose = named(number);
        return Some(format!("{whose} is signed with {hash}, which clients refuse"));
    }
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < RSA => Some(format!(
            "{} has an RSA key of {} bits, which clients refuse; they want {RSA}",
            named(number),
            key.key_size()
        )),
        _ => None,
    }
}

/// Whether `signature`, which ends the certificate or revocation list `der`, is one of the key of
/// `by`; `None` where the algorithm is not known here.
pub(in crate::tls) fn is_signed_by(
    der: &[u8],
    signature: &[u8],
    by: &X509Certificate<'_>,
) -> Option<bool> {
    // SEQUENCE { tbsCertificate or tbsCertList, signatureAlgorithm, signatureValue }
    let (outer, _) = element(der)?;
    let (_, rest) = element(outer)?;
    let (signature_algorithm, _) = element(rest)?;
    let tbs = outer.get(..outer.len() - rest.len())?;
    verifies(signature_algorithm, by, tbs, signature)
}

/// Whether the signature of `message` is one of the key of `by`; `None` where the algorithm, which
/// is given by the content of its identifier, is not known here.
pub(in crate::tls) fn verifies(
    signature_algorithm: &[u8],
    by: &X509Certificate<'_>,
    message: &[u8],
    signature: &[u8],
) -> Option<bool> {
    // SubjectPublicKeyInfo ::= SEQUENCE { algorithm, subjectPublicKey }
    let (key_info, _) = element(by.public_key().raw)?;
    let (key_algorithm, _) = element(key_info)?;
    let key = &by.public_key().subject_public_key.data;
    let provider = aws_lc_rs::default_provider();
    let fits = |known: &&&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
        let same = |id: AlgorithmIdentifier, found: &[u8]| id.as_ref() == found;
        same(known.signature_alg_id(), signature_algorithm)
            && same(known.public_key_alg_id(), key_algorithm)
    };
    let known = provider.signature_verification_algorithms.all.iter().find(fits)?;
    Some(known.verify_signature(key, message, signature).is_ok())
}

/// How long the modulus of an RSA key is, in bits; `None` for other keys (RFC 8017 §A.1.2, in a
/// `PrivateKeyInfo` by RFC 5208 §5).
pub(super) fn rsa_bits(key: &PrivateKeyDer<'_>) -> Option<usize> {
    let plain = match key {
        PrivateKeyDer::Pkcs1(key) => key.secret_pkcs1_der(),
        PrivateKeyDer::Pkcs8(key) => {
            let (info, _) = element(key.secret_pkcs8_der())?;
            let (_, rest) = element(info)?;
            let (algorithm, rest) = element(rest)?;
            algorithm.starts_with(&RSA_ENCRYPTION).then_some(element(rest)?.0)?
        }
        _ => return None,
    };
    // RSAPrivateKey ::= SEQUENCE { version, modulus, ... }
    let (parts, _) = element(plain)?;
    let (_, rest) = element(parts)?;
    let (modulus, _) = element(rest)?;
    let start = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = modulus.get(start..)?;
    let unused = usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    Some(modulus.len() * 8 - unused)
}

/// rsaEncryption, an OBJECT IDENTIFIER.
const RSA_ENCRYPTION: [u8; 11] = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];

/// The content of the first element of some DER, and what comes after it (X.690 §8.1).
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&short, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256,
    };

    use super::*;

    struct Made {
        params: CertificateParams,
        key: KeyPair,
    }

    fn authority(name: &str) -> Made {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Made { params, key: KeyPair::generate().unwrap() }
    }

    fn leaf() -> Made {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a.test");
        Made { params, key: KeyPair::generate().unwrap() }
    }

    fn sign(made: &Made, by: &Made) -> CertificateDer<'static> {
        let issuer = Issuer::from_params(&by.params, &by.key);
        made.params.signed_by(&made.key, &issuer).unwrap().der().clone()
    }

    #[test]
    fn a_chain_that_holds_is_right_with_its_root_and_without() {
        let (root, between, own) = (authority("Root"), authority("Between"), leaf());
        let chain = [sign(&own, &between), sign(&between, &root), sign(&root, &root)];
        assert_eq!(judge(&chain), [""; 0]);
        assert_eq!(judge(&chain[..2]), [""; 0]);
    }

    #[test]
    fn a_missing_link_is_told_with_whose_it_is() {
        let (root, between, own) = (authority("Root"), authority("Between"), leaf());
        let alone = judge(&[sign(&own, &between)]);
        assert!(alone.len() == 1 && alone[0].contains("CN=Between"), "{alone:?}");
        let gap = judge(&[sign(&own, &between), sign(&root, &root)]);
        assert!(gap[0].contains("is not issued by") && gap[0].contains("CN=Between"), "{gap:?}");
        let itself = judge(&[sign(&own, &own)]);
        assert_eq!(itself, [""; 0], "it is its own authority");
    }

    /// An authority was renewed with another key and the same name.
    #[test]
    fn a_link_of_the_same_name_that_has_not_signed_is_told() {
        let (root, own) = (authority("Root"), leaf());
        let (between, other) = (authority("Between"), authority("Between"));
        let found = judge(&[sign(&own, &between), sign(&other, &root)]);
        assert!(found.len() == 1 && found[0].contains("is not signed by"), "{found:?}");
    }

    #[test]
    fn the_length_of_an_rsa_key_is_told_in_either_form() {
        let Ok(key) = KeyPair::generate_for(&PKCS_RSA_SHA256) else { return };
        let whole = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        assert_eq!(rsa_bits(&whole), Some(2048));
        let PrivateKeyDer::Pkcs8(der) = &whole else { unreachable!() };
        let (info, _) = element(der.secret_pkcs8_der()).unwrap();
        let (_, rest) = element(info).unwrap();
        let (_, rest) = element(rest).unwrap();
        let plain = PrivateKeyDer::Pkcs1(element(rest).unwrap().0.to_vec().into());
        assert_eq!(rsa_bits(&plain), Some(2048));
        let other = PrivateKeyDer::Pkcs8(KeyPair::generate().unwrap().serialize_der().into());
        assert_eq!(rsa_bits(&other), None);
    }

    #[test]
    fn rsa_signatures_are_verified_too() {
        // Made once by hand would be stale; this is the smallest key that can be made here.
        let Ok(key) = KeyPair::generate_for(&PKCS_RSA_SHA256) else { return };
        let (between, own) = (Made { key, ..authority("Between") }, leaf());
        let chain = [sign(&own, &between), sign(&between, &between)];
        assert_eq!(judge(&chain), [""; 0]);
    }
}
