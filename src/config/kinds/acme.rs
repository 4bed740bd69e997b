//! What the keys of automatic certificates can be.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Wrong, wrong, wrong_but};
use crate::config::read::Text;
use crate::config::{ChallengeKind, KeyType};

impl Text for KeyType {
    const ALLOWED: &'static str = "\"p256\", \"p384\", \"rsa2048\" or \"rsa4096\"";
    const WORDS: &'static [&'static str] = &["p256", "p384", "rsa2048", "rsa4096"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "p256" => Ok(KeyType::P256),
            "p384" => Ok(KeyType::P384),
            "rsa2048" => Ok(KeyType::Rsa2048),
            "rsa4096" => Ok(KeyType::Rsa4096),
            "rsa" => wrong_but("`rsa` says not how long", "write `\"rsa2048\"`"),
            "ecdsa" => wrong_but("`ecdsa` says not which curve", "write `\"p256\"`"),
            _ => wrong(format!("`{text}` is not a kind of key")),
        }
    }
}

/// A way to prove a name, or whatever can work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum ChallengeWord {
    Auto,
    Kind(ChallengeKind),
}

impl Text for ChallengeWord {
    const ALLOWED: &'static str =
        "\"auto\", or a list of \"http-01\", \"tls-alpn-01\" and \"dns-01\"";
    const WORDS: &'static [&'static str] = &["auto", "http-01", "tls-alpn-01", "dns-01"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "auto" => Ok(Self::Auto),
            "http-01" => Ok(Self::Kind(ChallengeKind::Http01)),
            "tls-alpn-01" => Ok(Self::Kind(ChallengeKind::TlsAlpn01)),
            "dns-01" => Ok(Self::Kind(ChallengeKind::Dns01)),
            _ => wrong(format!("`{text}` is not a challenge")),
        }
    }
}

/// Whether a name is tried at the staging directory first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Staging {
    Off,
    First,
}

impl Text for Staging {
    const ALLOWED: &'static str = "\"off\" or \"first\"";
    const WORDS: &'static [&'static str] = &["off", "first"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "off" => Ok(Self::Off),
            "first" => Ok(Self::First),
            _ => wrong(format!("`{text}` says not when the staging directory is asked")),
        }
    }
}

/// The name of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Profile(pub String);

impl Text for Profile {
    const ALLOWED: &'static str = "the name of a profile of the authority, such as \"shortlived\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
            return wrong(format!("`{text}` is not the name of a profile"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The identifier of a key that an authority gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct KeyId(pub String);

impl Text for KeyId {
    const ALLOWED: &'static str = "the key identifier that the authority gave";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return wrong("this is not a key identifier: it is empty, or has a blank in it");
        }
        Ok(Self(text.to_owned()))
    }
}

/// An HMAC key that an authority gave. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::config) struct HmacKey(pub Vec<u8>);

impl std::fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HmacKey")
    }
}

/// With and without `=` at the end: authorities give it in both ways.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Text for HmacKey {
    const ALLOWED: &'static str = "the HMAC key that the authority gave, in base64url \
        (letters, digits, `-` and `_`)";
    const IS_SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Wrong> {
        match BASE64URL.decode(text) {
            Ok(key) if key.len() >= 16 => Ok(Self(key)),
            Ok(_) => wrong("this HMAC key is too short: part of it is missing"),
            Err(_) if text.contains(['+', '/']) => wrong_but(
                "this HMAC key is not base64url",
                "write `-` for `+` and `_` for `/`: it was encoded in base64",
            ),
            Err(_) => wrong("this HMAC key is not base64url"),
        }
    }
}
