//! Revocation by the key of the certificate itself (RFC 8555 §7.6): for whoever has lost the
//! account that it was issued to.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, header};
use instant_acme::Problem;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;

use super::failure::{Failure, Kind};
use super::nonce::{NONCES, is_bad_nonce};
use super::transport::Transport;

/// The key of a certificate.
pub(super) enum Key {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Key {
    /// The key in the PEM text of an entry; `None` where it is none that certificates have.
    pub(super) fn parse(pem: &[u8]) -> Option<Self> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        let der = key.secret_pkcs8_der();
        let ec = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der).ok();
        let p256 = ec(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self::P256);
        let p384 = || ec(&ECDSA_P384_SHA384_FIXED_SIGNING).map(Self::P384);
        p256.or_else(p384).or_else(|| RsaKeyPair::from_pkcs8(der).ok().map(Self::Rsa))
    }

    /// RFC 7518 §3.1.
    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Rsa(_) => "RS256",
        }
    }

    /// RFC 7518 §6.2, §6.3.
    fn jwk(&self) -> Option<Value> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (curve, pair) = match self {
            Self::P256(pair) => ("P-256", pair),
            Self::P384(pair) => ("P-384", pair),
            Self::Rsa(pair) => {
                let (_, key) = RSAPublicKey::from_der(pair.public_key().as_ref()).ok()?;
                let number = |bytes: &[u8]| {
                    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
                    encode(bytes.get(first..).unwrap_or_default())
                };
                let n = number(key.modulus);
                let e = number(key.exponent);
                return Some(json!({ "kty": "RSA", "n": n, "e": e }));
            }
        };
        // An uncompressed point is a byte and two coordinates.
        let (_, both) = pair.public_key().as_ref().split_first()?;
        let (x, y) = both.split_at_checked(both.len() / 2)?;
        Some(json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) }))
    }

    fn sign(&self, input: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) | Self::P384(pair) => {
                Some(pair.sign(&random, input).ok()?.as_ref().to_vec())
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, input, &mut signature).ok()?;
                Some(signature)
            }
        }
    }

    /// A signed request to revoke `leaf`; `None` when signing fails.
    fn request(
        &self,
        (url, nonce): (&str, &str),
        leaf: &[u8],
        reason: Option<u8>,
    ) -> Option<Vec<u8>> {
        let header =
            json!({ "alg": self.algorithm(), "jwk": self.jwk()?, "nonce": nonce, "url": url });
        let mut payload = json!({ "certificate": URL_SAFE_NO_PAD.encode(leaf) });
        if let (Some(reason), Some(payload)) = (reason, payload.as_object_mut()) {
            payload.insert("reason".to_owned(), reason.into());
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let (protected, payload) = (encode(&header), encode(&payload));
        let signature = self.sign(format!("{protected}.{payload}").as_bytes())?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        let body = json!({ "protected": protected, "payload": payload, "signature": signature });
        Some(body.to_string().into_bytes())
    }
}

/// Asks the authority at `directory` to revoke `leaf`; the inner error is what it had against it.
pub(super) async fn revoke(
    (transport, directory): (&Transport, &str),
    key: &Key,
    leaf: &[u8],
    reason: Option<u8>,
) -> Result<Result<(), Problem>, Failure> {
    let strange = |what: &str| Failure::new(Kind::Unreachable, what.to_owned());
    let about = transport.send(request(Method::GET, directory, Vec::new())?).await?;
    let about: Value = serde_json::from_slice(about.body()).unwrap_or_default();
    let url = |name: &str| about.get(name).and_then(Value::as_str);
    let (Some(new_nonce), Some(revoke)) = (url("newNonce"), url("revokeCert")) else {
        return Err(strange("this is no directory of an ACME server that revokes"));
    };
    let mut tries = 0;
    loop {
        let fresh = transport.send(request(Method::HEAD, new_nonce, Vec::new())?).await?;
        let nonce = fresh.headers().get("replay-nonce").and_then(|value| value.to_str().ok());
        let nonce = nonce.ok_or_else(|| strange("its newNonce gives no nonce"))?;
        let body = key.request((revoke, nonce), leaf, reason);
        let body = body.ok_or_else(|| Failure::of_cryptography("the key does not sign"))?;
        let answer = transport.send(request(Method::POST, revoke, body)?).await?;
        if answer.status().is_success() {
            return Ok(Ok(()));
        }
        let problem = serde_json::from_slice::<Problem>(answer.body());
        let problem = problem.map_err(|_| strange("its answer is no ACME"))?;
        if !is_bad_nonce(&problem) || tries >= NONCES {
            return Ok(Err(problem));
        }
        tries += 1;
    }
}

fn request(method: Method, url: &str, body: Vec<u8>) -> Result<Request<Bytes>, Failure> {
    Request::builder()
        .method(method)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/jose+json")
        .body(Bytes::from(body))
        .map_err(|_| Failure::new(Kind::Unreachable, "the directory names a URL that is none"))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
        UnparsedPublicKey, VerificationAlgorithm,
    };

    use super::*;
    use crate::config::KeyType;
    use crate::tls::acme::key::new_key;

    #[tokio::test]
    async fn a_request_is_signed_by_every_kind_of_key_that_certificates_have() {
        let kinds: [(KeyType, &str, &'static dyn VerificationAlgorithm); 3] = [
            (KeyType::P256, "ES256", &ECDSA_P256_SHA256_FIXED),
            (KeyType::P384, "ES384", &ECDSA_P384_SHA384_FIXED),
            (KeyType::Rsa2048, "RS256", &RSA_PKCS1_2048_8192_SHA256),
        ];
        for (kind, algorithm, verifier) in kinds {
            let pem = new_key(kind).await.unwrap().serialize_pem();
            let key = Key::parse(pem.as_bytes()).unwrap();
            let body = key.request(("https://ca.test/revoke", "n"), b"leaf", Some(4)).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let part = |name: &str| body[name].as_str().unwrap().to_owned();
            let decode = |text: String| URL_SAFE_NO_PAD.decode(text).unwrap();
            let input = format!("{}.{}", part("protected"), part("payload"));
            let public = match &key {
                Key::P256(pair) | Key::P384(pair) => pair.public_key().as_ref().to_vec(),
                Key::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            };
            let public = UnparsedPublicKey::new(verifier, public);
            public.verify(input.as_bytes(), &decode(part("signature"))).unwrap();
            let header: Value = serde_json::from_slice(&decode(part("protected"))).unwrap();
            assert_eq!((&header["alg"], &header["nonce"]), (&json!(algorithm), &json!("n")));
            assert!(header["jwk"]["kty"].is_string() && header["kid"].is_null());
            let payload: Value = serde_json::from_slice(&decode(part("payload"))).unwrap();
            assert_eq!(
                (&payload["certificate"], &payload["reason"]),
                (&json!("bGVhZg"), &json!(4))
            );
        }
        assert!(Key::parse(b"junk").is_none());
    }
}
