//! What signs the one request that the library cannot make for a key that is already there: a new
//! account with its contact and its binding (RFC 8555 §7.3, §7.3.4; RFC 7515).

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::config::Eab;

/// The key of an account: ECDSA P-256.
pub(super) struct AccountKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl AccountKey {
    /// A new one; `None` when the system has no randomness.
    pub(super) fn generate() -> Option<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).ok()?;
        Self::parse(pkcs8.as_ref())
    }

    /// One that was kept; `None` when it is none.
    pub(super) fn parse(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
        Some(Self { pair, pkcs8: pkcs8.to_vec() })
    }

    /// As it is kept.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// A signed request for a new account; `None` when signing fails.
    pub(super) fn new_account(
        &self,
        (url, nonce): (&str, &str),
        contact: Option<&str>,
        eab: Option<&Eab>,
    ) -> Option<Vec<u8>> {
        let mut payload = Map::new();
        payload.insert("termsOfServiceAgreed".to_owned(), json!(true));
        if let Some(email) = contact {
            payload.insert("contact".to_owned(), json!([format!("mailto:{email}")]));
        }
        if let Some(eab) = eab {
            payload.insert("externalAccountBinding".to_owned(), self.bind(eab, url)?);
        }
        let payload = Value::Object(payload);
        let protected = json!({ "alg": "ES256", "jwk": self.jwk()?, "nonce": nonce, "url": url });
        let (protected, payload) = (encode(&protected), encode(&payload));
        let input = format!("{protected}.{payload}");
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).ok()?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        let body = json!({ "protected": protected, "payload": payload, "signature": signature });
        Some(body.to_string().into_bytes())
    }

    fn bind(&self, eab: &Eab, url: &str) -> Option<Value> {
        let protected = encode(&json!({ "alg": "HS256", "kid": eab.kid, "url": url }));
        let payload = encode(&self.jwk()?);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &eab.key);
        let tag = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(tag);
        Some(json!({ "protected": protected, "payload": payload, "signature": signature }))
    }

    /// RFC 7518 §6.2: an uncompressed point is a byte and two coordinates.
    fn jwk(&self) -> Option<Value> {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (point.get(1..33)?, point.get(33..65)?);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Some(json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }))
    }
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    fn decode(text: &Value) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_signed_by_its_key_and_bound_by_the_other() {
        let key = AccountKey::generate().unwrap();
        let key = AccountKey::parse(key.pkcs8()).unwrap();
        let eab = Eab { kid: "kid-1".to_owned(), key: vec![7; 32] };
        let url = "https://ca.test/new-account";
        let body = key.new_account((url, "nonce"), Some("ops@a.test"), Some(&eab)).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let input = |body: &Value| {
            let [a, b] = ["protected", "payload"].map(|key| body[key].as_str().unwrap().to_owned());
            format!("{a}.{b}")
        };
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key());
        public.verify(input(&body).as_bytes(), &decode(&body["signature"])).unwrap();
        let payload: Value = serde_json::from_slice(&decode(&body["payload"])).unwrap();
        assert_eq!(payload["contact"][0], "mailto:ops@a.test");
        let bound = &payload["externalAccountBinding"];
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &eab.key);
        hmac::verify(&secret, input(bound).as_bytes(), &decode(&bound["signature"])).unwrap();
        let header: Value = serde_json::from_slice(&decode(&bound["protected"])).unwrap();
        assert_eq!((&header["kid"], &header["url"]), (&json!("kid-1"), &json!(url)));
        let jwk: Value = serde_json::from_slice(&decode(&bound["payload"])).unwrap();
        assert_eq!(jwk, key.jwk().unwrap());
    }

    #[test]
    fn what_is_no_key_is_none() {
        assert!(AccountKey::parse(b"junk").is_none());
    }
}
