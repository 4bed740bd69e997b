//! Pairs of files in every state.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
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
    for (key, label) in [(rsa, Some("RSA PRIVATE KEY")), (ec, Some("EC PRIVATE KEY")), (ed, None)] {
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
    let strange = files.path("a $(id)\u{1b}[31m.pem");
    let told = FilesError::at(&strange, Fault::EncryptedKey).to_string();
    assert!(told.contains("-in $'") && told.contains(r"a $(id)\033[31m.pem'"), "{told}");
    assert!(!told.contains('\u{1b}'), "{told:?}");
    let told = remedy(&strange);
    assert!(!told.contains('\u{1b}') && told.contains("chmod 640 "), "{told:?}");
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
    let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
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
    let second = std::time::Duration::from_secs(1);
    let expired = judged(names, now - DAY, now - 5 * second, &["a.test"]);
    assert!(expired[0].contains(" seconds ago)"), "{expired:?}");
    says(&judged(names, now + DAY, now + 9 * DAY, &["a.test"])[0], "clock");
    says(&judged(&[], now - DAY, now + DAY, &["a.test"])[0], "no name");
}

/// The bytes of the missing line were listed as numbers.
#[test]
fn half_a_file_is_told_in_words() {
    let (files, pair) = Files::pair();
    let half = pair.cert.len() / 2;
    files.put("c.pem", &pair.cert.as_bytes()[..half], 0o644);
    says(&files.load().unwrap_err().to_string(), "no -----END CERTIFICATE----- line");
    files.put("c.pem", pair.cert.as_bytes(), 0o644);
    files.put("k.pem", &pair.key.as_bytes()[..pair.key.len() / 2], 0o600);
    says(&files.load().unwrap_err().to_string(), "no -----END PRIVATE KEY----- line");
}

#[test]
fn a_short_rsa_key_is_told_with_its_length() {
    let (files, _) = Files::pair();
    let key = files.path("k.pem");
    let openssl = Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("1024").output();
    if !openssl.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no openssl");
        return;
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    says(&files.load().unwrap_err().to_string(), "too weak: RSA 1024, at least 2048");
}

/// A missing right cannot be had by root, so that the looks are made up.
#[test]
fn a_look_tells_whether_to_read_again_and_whether_the_content_may_be_the_same() {
    let (files, pair) = Files::pair();
    let key = files.path("k.pem");
    let first = Look::of(&key);
    assert!(!first.differs_from(first) && first.has_content_of(first));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let permitted = Look::of(&key);
    assert!(permitted.differs_from(first), "it may be readable now");
    assert!(permitted.has_content_of(first));
    files.put("k.pem", pair.key.as_bytes(), 0o600);
    let replaced = Look::of(&key);
    assert!(replaced.differs_from(permitted) && !replaced.has_content_of(permitted));
    fs::remove_file(&key).unwrap();
    let gone = Look::of(&key);
    assert!(gone.differs_from(replaced) && !gone.has_content_of(replaced));
    assert!(!Look::Hidden.differs_from(replaced) && Look::Hidden.has_content_of(replaced));
}

#[test]
fn what_is_wrong_with_a_pair_is_wrong_when_it_is_loaded_again() {
    let (files, pair) = Files::pair();
    let (cert, key) = (files.path("c.pem"), files.path("k.pem"));
    let before = load_again(&cert, &key, None, &[]).unwrap();
    assert_eq!(before.paths(), [&*cert, &*key]);
    files.put("k.pem", b"junk", 0o600);
    load_again(&cert, &key, Some(&before), &[]).unwrap_err();
    files.put("k.pem", pair.key.as_bytes(), 0o644);
    load_again(&cert, &key, Some(&before), &[]).unwrap_err();
    fs::remove_file(&key).unwrap();
    load_again(&cert, &key, Some(&before), &[]).unwrap_err();
}
