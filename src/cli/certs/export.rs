//! `portcullis certs export`: a certificate in PEM, and its key where that is asked for.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::account::Account;
use super::show::named;
use super::{Failure, say};
use crate::cli::ConfigFile;
use crate::exit;
use crate::tls::files::pem_words;

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// A name of the certificate, or of its site
    name: String,
    /// Write the certificate and its chain there instead of to standard output
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Write the private key there, for its owner alone (mode 0600)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    file: ConfigFile,
}

/// Writes them; of two files that are asked for neither is written where one may not be.
pub(super) fn export(args: &ExportArgs, now: SystemTime) -> Result<u8, Failure> {
    let failed = |message| Failure { message, code: exit::FAILED };
    let account = Account::of(&args.file.config, Some(&args.name), now)?;
    let found = named(account.overview.certificates, &args.name)?;
    let [entry] = found.as_slice() else {
        let hosts: Vec<String> = found.iter().map(|entry| entry.hosts.join(", ")).collect();
        let (name, all) = (&args.name, hosts.join(" | "));
        return Err(failed(format!("{name} has several certificates, name one of: {all}")));
    };
    for path in [&args.cert, &args.key].into_iter().flatten() {
        may_be_written(path, args.force).map_err(failed)?;
    }
    let chain: String = entry.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    let key = match &args.key {
        Some(path) => {
            let source = entry.places.as_ref().map(|(_, key)| key.as_path());
            let source = source.ok_or_else(|| failed("its key is kept nowhere".to_owned()))?;
            Some((path, private_key(source, &entry.chain)?))
        }
        None => None,
    };
    match &args.cert {
        Some(path) => write(path, &chain, 0o644, args.force)?,
        None => say(&chain),
    }
    // Last: where the chain cannot be written, no key is left about.
    if let Some((path, key)) = key {
        write(path, &key, 0o600, args.force)?;
    }
    Ok(exit::OK)
}

/// Whether a file may be put there: over nothing without `force`, and never over what is no file.
fn may_be_written(path: &Path, force: bool) -> Result<(), String> {
    if path == Path::new("-") {
        return Err(
            "`-` names no file here: without --cert the chain goes to standard output, and a \
                    key only goes to a file"
                .to_owned(),
        );
    }
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() && !there.is_symlink() => {
            Err(format!("{} is no regular file, and is left as it is", path.display()))
        }
        Ok(_) if !force => Err(there(path)),
        _ => Ok(()),
    }
}

/// The private key alone of a file that may hold more, which is that of `chain`: the file may have
/// changed since the server read it.
fn private_key(path: &Path, chain: &[CertificateDer<'static>]) -> Result<String, Failure> {
    let text = fs::read(path).map_err(|error| unusable("read", path, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| unusable("read", path, &io::Error::other(pem_words(&error))))?;
    let (chain, both) = (chain.to_vec(), key.clone_key());
    if CertifiedKey::from_der(chain, both, &aws_lc_rs::default_provider()).is_err() {
        let path = path.display();
        let message = format!("{path} is not the key of the certificate that is served");
        return Err(Failure { message, code: exit::FAILED });
    }
    let label = match &key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    Ok(pem(label, key.secret_der()))
}

/// Writes a new file. What is to be replaced is removed first, so that its mode and who has it open
/// matter no more.
fn write(path: &Path, text: &str, mode: u32, force: bool) -> Result<(), Failure> {
    if force {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unusable("replace", path, &error));
            }
            _ => {}
        }
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure { message: there(path), code: exit::FAILED },
        _ => unusable("write", path, &error),
    })
}

fn there(path: &Path) -> String {
    format!("{} is there already; --force replaces it", path.display())
}

fn unusable(what: &str, path: &Path, error: &io::Error) -> Failure {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
    let code = if is_denied { exit::NOT_PERMITTED } else { exit::FAILED };
    Failure { message: format!("cannot {what} {}: {error}", path.display()), code }
}

/// RFC 7468 §2.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        text += &String::from_utf8_lossy(line);
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_written_for_its_owner_alone_and_over_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "mine").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = write(&path, "key", 0o600, false).unwrap_err();
        assert!(refused.message.contains("--force"), "{}", refused.message);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        write(&path, "key", 0o600, true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// `--cert /dev/null --force` as root made a file of the device.
    #[test]
    fn what_is_no_file_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/null"), Path::new("-")] {
            assert!(may_be_written(path, true).is_err(), "{}", path.display());
        }
        assert!(may_be_written(&folder.path().join("new"), false).is_ok());
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (link, other) = (folder.path().join("link"), folder.path().join("other"));
        fs::write(&other, "theirs").unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        write(&link, "key", 0o600, false).unwrap_err();
        write(&link, "key", 0o600, true).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
    }

    #[test]
    fn the_key_comes_without_the_chain_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        fs::write(&path, key.serialize_pem() + &cert.pem()).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let chain = |key| vec![params.self_signed(key).unwrap().der().clone()];
        let refused = private_key(&path, &chain(&other)).unwrap_err();
        assert!(refused.message.contains("is not the key of"), "{}", refused.message);
        let text = private_key(&path, &chain(&key)).unwrap();
        assert!(!text.contains("CERTIFICATE"));
        assert_eq!(
            PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap().secret_der(),
            key.serialized_der()
        );
    }
}
