//! Pairs that only root could read, for the process that takes this one's place.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::{Look, Pair};

/// A pair on its way, in DER by Base64.
#[derive(Serialize, Deserialize)]
struct Left {
    cert: (PathBuf, Look),
    key: (PathBuf, Look),
    chain: Vec<String>,
    secret: String,
}

/// What a successor needs of `pairs`; `None` when it can read all of them itself.
pub fn write<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Option<Vec<u8>> {
    let left: Vec<Left> = pairs.filter_map(leave).collect();
    if left.is_empty() {
        return None;
    }
    serde_json::to_vec(&left).ok()
}

/// The pairs that a predecessor has left.
///
/// # Errors
/// When this is not what [`write()`] has made.
pub fn read(bytes: &[u8]) -> io::Result<Vec<Pair>> {
    let left: Vec<Left> = serde_json::from_slice(bytes)?;
    left.into_iter().map(take).collect()
}

fn leave(pair: &Pair) -> Option<Left> {
    let secret = pair.secret.as_ref().filter(|_| pair.is_out_of_reach())?;
    Some(Left {
        cert: pair.cert.clone(),
        key: pair.key.clone(),
        chain: pair.certified.cert.iter().map(|der| STANDARD.encode(der)).collect(),
        secret: STANDARD.encode(secret.secret_der()),
    })
}

fn take(left: Left) -> io::Result<Pair> {
    let decode = |text: &String| STANDARD.decode(text).map_err(io::Error::other);
    let chain = left.chain.iter().map(|text| decode(text).map(CertificateDer::from));
    let chain = chain.collect::<io::Result<Vec<_>>>()?;
    let secret = PrivateKeyDer::try_from(decode(&left.secret)?).map_err(io::Error::other)?;
    let signing = aws_lc_rs::sign::any_supported_type(&secret).map_err(io::Error::other)?;
    Ok(Pair {
        certified: Arc::new(CertifiedKey::new(chain, signing)),
        cert: left.cert,
        key: left.key,
        secret: Some(Arc::new(secret)),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::tls::files::load_again;
    use crate::tls::testing::Pki;

    #[test]
    fn what_is_left_is_what_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let made = Pki::new().pair(&["a.test"]);
        let path = |end: &str| folder.path().join(format!("a.{end}"));
        fs::write(path("pem"), made.cert).unwrap();
        fs::write(path("key"), made.key).unwrap();
        fs::set_permissions(path("key"), fs::Permissions::from_mode(0o600)).unwrap();
        let pair = load_again(&path("pem"), &path("key"), None).unwrap();
        assert!(write([&pair].into_iter()).is_none(), "it can be read again");

        let secret = PrivateKeyDer::try_from(fs::read(path("key")).unwrap());
        assert!(secret.is_err(), "PEM is no DER");
        let secret = super::super::private_key(&path("key")).unwrap();
        let left = Left {
            cert: pair.cert.clone(),
            key: pair.key.clone(),
            chain: pair.certified.cert.iter().map(|der| STANDARD.encode(der)).collect(),
            secret: STANDARD.encode(secret.secret_der()),
        };
        let taken = read(&serde_json::to_vec(&[left]).unwrap()).unwrap().remove(0);
        assert_eq!((&taken.cert, &taken.key), (&pair.cert, &pair.key));
        assert_eq!(taken.certified.cert, pair.certified.cert);
        assert!(taken.certified.keys_match().is_ok());
        assert!(!format!("{taken:?}").contains(&STANDARD.encode(secret.secret_der())));
    }

    #[test]
    fn what_is_nothing_of_ours_is_an_error() {
        for wrong in ["", "{}", r#"[{"cert": 1}]"#] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
