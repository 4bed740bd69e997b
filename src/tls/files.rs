//! Certificates and keys from PEM files.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::OFlags;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::facts::{Facts, date, days_between};
use super::storage::read_regular;
use crate::proxy::headers::host::HostPattern;

/// Reads a chain (the site's own certificate first) and its key (PKCS#8, SEC1 or PKCS#1), which must
/// match. Neither file may be larger than 1 MiB or anything but a regular file.
///
/// A key file that every user of the host may open is refused; one that its group may read is not,
/// because 0640 with a group of its own is how a key is shared with a program that is not root.
///
/// # Errors
/// A [`FilesError`] that names the file and, where there is one, the command that mends it. A
/// certificate whose time is over is no error here: see [`judge`].
pub fn load(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, FilesError> {
    let chain = chain(cert)?;
    let key_der = private_key(key)?;
    let signing = aws_lc_rs::sign::any_supported_type(&key_der)
        .map_err(|error| FilesError::at(key, Fault::UnsupportedKey(error.to_string())))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let later = certified.cert.iter().skip(1).any(|certificate| {
                let alone = CertifiedKey::new(vec![certificate.clone()], certified.key.clone());
                alone.keys_match().is_ok()
            });
            let fault =
                if later { Fault::LeafNotFirst } else { Fault::Mismatch { cert: cert.to_owned() } };
            Err(FilesError::at(if later { cert } else { key }, fault))
        }
        Err(error) => Err(FilesError::at(cert, Fault::BrokenCertificate(1, error.to_string()))),
    }
}

/// What is wrong with a certificate that can be served all the same: not yet valid, expired, or
/// without some of the names of its site. One sentence each; none when all is well.
#[must_use]
pub fn judge(certified: &CertifiedKey, now: SystemTime, hosts: &[HostPattern]) -> Vec<String> {
    let facts = certified.cert.first().map(Facts::of);
    let facts = match facts {
        Some(Ok(facts)) => facts,
        Some(Err(error)) => return vec![format!("the certificate is {error}")],
        None => return vec!["there is no certificate".to_owned()],
    };
    let mut found = Vec::new();
    if now > facts.not_after {
        let days = -days_between(now, facts.not_after);
        let on = date(facts.not_after);
        found.push(format!("the certificate expired on {on} ({days} days ago)"));
    } else if now < facts.not_before {
        found.push(format!(
            "the certificate is not valid before {}; is this host's clock right?",
            date(facts.not_before)
        ));
    }
    let missing: Vec<_> =
        hosts.iter().filter(|host| !facts.covers(host)).map(ToString::to_string).collect();
    if !missing.is_empty() {
        let covered = if facts.names.is_empty() {
            "no name (it has no subject alternative names, which clients require)".to_owned()
        } else {
            facts.names.join(", ")
        };
        found.push(format!("the certificate is for {covered}; not for {}", missing.join(", ")));
    }
    found
}

/// Why a pair of files is no certificate.
#[derive(Debug)]
pub struct FilesError {
    path: PathBuf,
    fault: Fault,
}

/// What is wrong with the file of a [`FilesError`].
#[derive(Debug)]
enum Fault {
    Missing,
    Unreadable {
        source: io::Error,
        uid: u32,
    },
    NoCertificate {
        hint: &'static str,
    },
    /// Which one, counted from 1, and why.
    BrokenCertificate(usize, String),
    NoKey {
        hint: &'static str,
    },
    SeveralKeys(usize),
    BrokenPem(String),
    EncryptedKey,
    UnsupportedKey(String),
    OpenToOthers {
        mode: u32,
    },
    Mismatch {
        cert: PathBuf,
    },
    LeafNotFirst,
}

impl FilesError {
    fn at(path: &Path, fault: Fault) -> Self {
        Self { path: path.to_owned(), fault }
    }

    /// The file at fault.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a right on the file is what is wrong: missing for us, or too many for others.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match &self.fault {
            Fault::Unreadable { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Fault::OpenToOthers { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.fault {
            Fault::Missing => write!(f, "{path}: there is no such file"),
            Fault::Unreadable { source, uid } => {
                write!(f, "{path} cannot be read by uid {uid}: {source}")
            }
            Fault::NoCertificate { hint } => {
                write!(f, "{path} holds no PEM certificate (-----BEGIN CERTIFICATE-----){hint}")
            }
            Fault::BrokenCertificate(number, why) => {
                write!(f, "{path}: certificate {number} of the file is damaged: {why}")
            }
            Fault::NoKey { hint } => {
                write!(f, "{path} holds no PEM private key (-----BEGIN PRIVATE KEY-----){hint}")
            }
            Fault::SeveralKeys(count) => {
                write!(f, "{path} holds {count} private keys; leave the one of the certificate")
            }
            Fault::BrokenPem(why) => write!(f, "{path} is damaged: {why}"),
            Fault::EncryptedKey => write!(
                f,
                "{path} holds an encrypted key, and there is nobody to ask for its passphrase; \
                 decrypt it with: openssl pkey -in {path} -out NEW_FILE"
            ),
            Fault::UnsupportedKey(why) => write!(
                f,
                "{path} holds a key that cannot be used ({why}); RSA from 2048 bits, ECDSA \
                 P-256, P-384, P-521 and Ed25519 can"
            ),
            Fault::OpenToOthers { mode } => write!(
                f,
                "{path} is a private key that every user of this host may open (mode {mode:04o}); \
                 mend it with: chmod 600 {path}"
            ),
            Fault::Mismatch { cert } => write!(
                f,
                "{path} is not the key of the certificate in {}; they come from different pairs",
                cert.display()
            ),
            Fault::LeafNotFirst => write!(
                f,
                "{path} has the site's own certificate after another one; it must come first, \
                 then those of the authorities"
            ),
        }
    }
}

impl std::error::Error for FilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    let text = read(path, open(path)?)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| FilesError::at(path, Fault::BrokenPem(error.to_string())))?;
    if chain.is_empty() {
        let hint = match &*text {
            [] => ": it is empty",
            [0x30, ..] => ": it looks like DER; convert it with openssl x509 -inform DER",
            _ if contains(&text, b"PRIVATE KEY-----") => {
                ": it holds a private key; are `cert` and `key` exchanged?"
            }
            _ => "",
        };
        return Err(FilesError::at(path, Fault::NoCertificate { hint }));
    }
    for (index, certificate) in chain.iter().enumerate() {
        Facts::of(certificate).map_err(|error| {
            FilesError::at(path, Fault::BrokenCertificate(index + 1, error.to_string()))
        })?;
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FilesError> {
    let file = open(path)?;
    let mode = file.metadata().map_or(0, |metadata| metadata.mode() & 0o7777);
    let text = read(path, file)?;
    if mode & 0o007 != 0 {
        return Err(FilesError::at(path, Fault::OpenToOthers { mode }));
    }
    if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(&text, b"Proc-Type: 4,ENCRYPTED")
    {
        return Err(FilesError::at(path, Fault::EncryptedKey));
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| FilesError::at(path, Fault::BrokenPem(error.to_string())))?;
    let count = keys.len();
    match keys.pop() {
        Some(key) if count == 1 => Ok(key),
        Some(_) => Err(FilesError::at(path, Fault::SeveralKeys(count))),
        None => {
            let hint = match &*text {
                [] => ": it is empty",
                [0x30, ..] => ": it looks like DER; convert it with openssl pkey -inform DER",
                _ if contains(&text, b"BEGIN CERTIFICATE-----") => {
                    ": it holds a certificate; are `cert` and `key` exchanged?"
                }
                _ => "",
            };
            Err(FilesError::at(path, Fault::NoKey { hint }))
        }
    }
}

/// Opens without waiting: a pipe that nobody writes to must not hold up a start or a reload.
fn open(path: &Path) -> Result<File, FilesError> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened.map_err(|error| unreadable(path, error))
}

fn read(path: &Path, file: File) -> Result<Vec<u8>, FilesError> {
    read_regular(file).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, source: io::Error) -> FilesError {
    let uid = rustix::process::geteuid().as_raw();
    let fault = match source.kind() {
        io::ErrorKind::NotFound => Fault::Missing,
        _ => Fault::Unreadable { source, uid },
    };
    FilesError::at(path, fault)
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(text, what).is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;
    use crate::tls::testing::{DAY, Pair, Pki, hosts};

    /// A directory with `c.pem` and `k.pem`.
    struct Files {
        directory: TempDir,
    }

    impl Files {
        fn of(cert: &str, key: &str) -> Self {
            let files = Self { directory: tempfile::tempdir().unwrap() };
            files.put("c.pem", cert.as_bytes(), 0o644);
            files.put("k.pem", key.as_bytes(), 0o600);
            files
        }

        fn pair() -> (Self, Pair) {
            let pair = Pki::new().pair(&["a.test"]);
            (Self::of(&pair.cert, &pair.key), pair)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn put(&self, name: &str, content: &[u8], mode: u32) {
            // One without the write bit is in the way of everybody but root.
            let _ = fs::remove_file(self.path(name));
            fs::write(self.path(name), content).unwrap();
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn load(&self) -> Result<Arc<CertifiedKey>, FilesError> {
            load(&self.path("c.pem"), &self.path("k.pem"))
        }

        /// The message of the error, which must name the file at fault.
        fn refused(&self, file: &str) -> String {
            let error = self.load().unwrap_err();
            assert_eq!(error.path(), self.path(file));
            let message = error.to_string();
            assert!(message.contains(self.path(file).to_str().unwrap()), "{message}");
            message
        }
    }

    #[track_caller]
    fn says(message: &str, words: &str) {
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }

    #[test]
    fn a_chain_is_loaded_with_its_order_kept() {
        let pki = Pki::new();
        let pair = pki.pair(&["a.test"]);
        let other = Pki::new().pair(&["intermediate.test"]);
        let files = Files::of(&format!("{}{}", pair.cert, other.cert), &pair.key);
        assert_eq!(files.load().unwrap().cert.len(), 2);
        files.put("c.pem", format!("{}{}", other.cert, pair.cert).as_bytes(), 0o644);
        says(&files.refused("c.pem"), "must come first");
    }

    #[test]
    fn a_pair_in_one_file_is_loaded() {
        let (files, pair) = Files::pair();
        let both = format!("{}\r\nsome words\r\n{}", pair.key, pair.cert);
        files.put("k.pem", both.as_bytes(), 0o600);
        load(&files.path("k.pem"), &files.path("k.pem")).unwrap();
    }

    /// PKCS#1 and SEC1 keys have no maker in our dependencies: OpenSSL converts ours.
    #[test]
    fn keys_of_every_encoding_are_loaded() {
        let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let ec = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let now = SystemTime::now();
        for (key, label) in
            [(rsa, Some("RSA PRIVATE KEY")), (ec, Some("EC PRIVATE KEY")), (ed, None)]
        {
            let pair = Pki::new().pair_valid(&["a.test"], &key, now - DAY, now + DAY);
            let files = Files::of(&pair.cert, &pair.key);
            files.load().unwrap();
            let Some(label) = label else { continue };
            let converted = Command::new("openssl")
                .args(["pkey", "-traditional", "-in"])
                .arg(files.path("k.pem"))
                .output();
            let Ok(converted) = converted else {
                eprintln!("openssl is not installed: {label} not tested");
                continue;
            };
            assert!(String::from_utf8_lossy(&converted.stdout).contains(label));
            files.put("k.pem", &converted.stdout, 0o600);
            files.load().unwrap();
        }
    }

    #[test]
    fn a_key_that_everybody_may_open_is_refused_with_the_command_that_mends_it() {
        let (files, pair) = Files::pair();
        for mode in [0o644, 0o604, 0o602, 0o601, 0o777] {
            files.put("k.pem", pair.key.as_bytes(), mode);
            let message = files.refused("k.pem");
            says(&message, &format!("chmod 600 {}", files.path("k.pem").display()));
            assert!(files.load().unwrap_err().is_permission());
        }
        for mode in [0o600, 0o400, 0o640, 0o440] {
            files.put("k.pem", pair.key.as_bytes(), mode);
            files.load().unwrap();
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (files, _) = Files::pair();
        files.put("k.pem", Pki::new().pair(&["a.test"]).key.as_bytes(), 0o600);
        says(&files.refused("k.pem"), "c.pem; they come from different pairs");
    }

    #[test]
    fn missing_files_are_named() {
        let (files, _) = Files::pair();
        fs::remove_file(files.path("k.pem")).unwrap();
        says(&files.refused("k.pem"), "no such file");
        fs::remove_file(files.path("c.pem")).unwrap();
        says(&files.refused("c.pem"), "no such file");
    }

    #[test]
    fn a_file_that_may_not_be_read_is_named_with_the_user() {
        if rustix::process::geteuid().is_root() {
            eprintln!("root reads every file: not tested");
            return;
        }
        let (files, pair) = Files::pair();
        files.put("k.pem", pair.key.as_bytes(), 0o000);
        says(&files.refused("k.pem"), "cannot be read by uid");
        assert!(files.load().unwrap_err().is_permission());
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        let (files, pair) = Files::pair();
        for (content, words) in [
            (&b""[..], "it is empty"),
            (b"\x30\x82\x01\x01", "looks like DER"),
            (b"hello", "no PEM certificate"),
            (pair.key.as_bytes(), "exchanged?"),
            (&pair.cert.as_bytes()[..200], "is damaged"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1"),
        ] {
            files.put("c.pem", content, 0o644);
            says(&files.refused("c.pem"), words);
        }
    }

    #[test]
    fn what_is_no_single_key_is_said_to_be_none() {
        let (files, pair) = Files::pair();
        let two = format!("{0}{0}", pair.key);
        let pkcs8 =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n\
                   AAAA\n-----END RSA PRIVATE KEY-----\n";
        let junk = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (content, words) in [
            ("", "it is empty"),
            ("hello", "no PEM private key"),
            (&*pair.cert, "exchanged?"),
            (&*two, "2 private keys"),
            (pkcs8, "encrypted key"),
            (old, "encrypted key"),
            (junk, "cannot be used"),
        ] {
            files.put("k.pem", content.as_bytes(), 0o600);
            says(&files.refused("k.pem"), words);
        }
    }

    #[test]
    fn what_is_no_file_of_a_sane_size_is_refused_at_once() {
        let (files, _) = Files::pair();
        files.put("c.pem", &vec![b'\n'; 10 << 20], 0o644);
        says(&files.refused("c.pem"), "larger than 1 MiB");
        fs::remove_file(files.path("c.pem")).unwrap();
        fs::create_dir(files.path("c.pem")).unwrap();
        says(&files.refused("c.pem"), "a directory");
        fs::remove_dir(files.path("c.pem")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, files.path("c.pem"), fifo, 0o600.into(), 0).unwrap();
        says(&files.refused("c.pem"), "a pipe");
    }

    #[test]
    fn a_certificate_is_judged_by_its_dates_and_names() {
        let now = SystemTime::now();
        let judged = |names: &[&str], from, to, asked: &[&str]| {
            let key = rcgen::KeyPair::generate().unwrap();
            let pair = Pki::new().pair_valid(names, &key, from, to);
            judge(&Files::of(&pair.cert, &pair.key).load().unwrap(), now, &hosts(asked))
        };
        let names = &["a.test", "*.b.test", "192.0.2.1", "2001:db8::1"];
        let fine = &["a.test", "www.b.test", "*.b.test", "192.0.2.1", "2001:db8::1", "*"];
        assert_eq!(judged(names, now - DAY, now + DAY, fine), [""; 0]);
        let poor = &["b.test", "deep.www.b.test", "*.a.test", "192.0.2.2"];
        let found = judged(names, now - DAY, now + DAY, poor);
        assert_eq!(found.len(), 1);
        says(&found[0], "not for b.test, deep.www.b.test, *.a.test, 192.0.2.2");
        let expired = judged(names, now - 9 * DAY, now - 3 * DAY, &["a.test"]);
        says(&expired[0], "(3 days ago)");
        says(&judged(names, now + DAY, now + 9 * DAY, &["a.test"])[0], "clock");
        says(&judged(&[], now - DAY, now + DAY, &["a.test"])[0], "no name");
    }
}
