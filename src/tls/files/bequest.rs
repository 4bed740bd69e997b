//! Pairs, and files of rules, that only root could read, for the process that takes this one's
//! place.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::{Kept, Look, Pair};

/// A pair on its way, in DER by Base64.
#[derive(Serialize, Deserialize)]
struct Left {
    cert: (PathBuf, Look),
    key: (PathBuf, Look),
    chain: Vec<String>,
    secret: String,
}

/// A file of rules on its way, by Base64.
#[derive(Serialize, Deserialize)]
struct LeftFile {
    file: (PathBuf, Look),
    content: String,
}

/// Everything that is left.
#[derive(Serialize, Deserialize)]
struct Bequest {
    pairs: Vec<Left>,
    files: Vec<LeftFile>,
}

/// What a successor needs of `pairs` and `files`; `None` when it can read all of them itself.
pub fn write<'a>(
    pairs: impl Iterator<Item = &'a Pair>,
    files: impl Iterator<Item = &'a Kept>,
) -> Option<Vec<u8>> {
    let pairs: Vec<Left> = pairs.filter_map(leave).collect();
    let mut left: Vec<LeftFile> = Vec::new();
    for file in files.filter(|file| file.is_out_of_reach()) {
        // Several rules may be read from one.
        if left.iter().all(|other| other.file.0 != file.path) {
            left.extend(leave_file(file));
        }
    }
    if pairs.is_empty() && left.is_empty() {
        return None;
    }
    serde_json::to_vec(&Bequest { pairs, files: left }).ok()
}

/// The pairs and the files of rules that a predecessor has left.
///
/// # Errors
/// When this is not what [`write()`] has made.
pub fn read(bytes: &[u8]) -> io::Result<(Vec<Pair>, Vec<Kept>)> {
    let Bequest { pairs, files } = serde_json::from_slice(bytes)?;
    let pairs = pairs.into_iter().map(take).collect::<io::Result<_>>()?;
    Ok((pairs, files.into_iter().map(take_file).collect::<io::Result<_>>()?))
}

fn leave_file(kept: &Kept) -> Option<LeftFile> {
    let content = STANDARD.encode(kept.content.as_deref()?);
    Some(LeftFile { file: (kept.path.clone(), kept.look), content })
}

fn take_file(left: LeftFile) -> io::Result<Kept> {
    let content = STANDARD.decode(&left.content).map_err(io::Error::other)?;
    let (path, look) = left.file;
    Ok(Kept { path, look, content: Some(Arc::new(content)) })
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
        let pair = load_again(&path("pem"), &path("key"), None, &[]).unwrap();
        assert!(write([&pair].into_iter(), std::iter::empty()).is_none(), "it can be read again");

        let secret = PrivateKeyDer::try_from(fs::read(path("key")).unwrap());
        assert!(secret.is_err(), "PEM is no DER");
        let secret = super::super::private_key(&path("key"), &[]).unwrap();
        let left = Left {
            cert: pair.cert.clone(),
            key: pair.key.clone(),
            chain: pair.certified.cert.iter().map(|der| STANDARD.encode(der)).collect(),
            secret: STANDARD.encode(secret.secret_der()),
        };
        let (rules, look) = (folder.path().join("ca.pem"), pair.cert.1);
        let kept = Kept { path: rules.clone(), look, content: Some(Arc::new(b"rules".to_vec())) };
        let all = Bequest { pairs: vec![left], files: leave_file(&kept).into_iter().collect() };
        let (mut pairs, files) = read(&serde_json::to_vec(&all).unwrap()).unwrap();
        let taken = pairs.remove(0);
        assert_eq!((&files[0].path, files[0].look), (&rules, look));
        assert_eq!(files[0].content.as_ref().unwrap().as_slice(), b"rules");
        assert_eq!((&taken.cert, &taken.key), (&pair.cert, &pair.key));
        assert_eq!(taken.certified.cert, pair.certified.cert);
        assert!(taken.certified.keys_match().is_ok());
        assert!(!format!("{taken:?}").contains(&STANDARD.encode(secret.secret_der())));
    }

    #[test]
    fn what_is_nothing_of_ours_is_an_error() {
        for wrong in ["", "{}", r#"{"pairs": [{"cert": 1}], "files": []}"#] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
