//! OCSP stapling: the word of an authority that a certificate is still good, shown beside it, for
//! certificates that name a responder (RFC 6960, RFC 6066 §8).
//!
//! A [`Keeper`] in the control plane asks; no handshake waits for it. What it gets is verified,
//! kept in memory as [`Staples`] and in the storage, and asked for again at half its life. A
//! response whose time is over is not shown any more. What fails is said in the log and changes
//! nothing else, but that a certificate is revoked is kept in the storage, too, to be told by
//! whatever looks at it.

mod der;
pub mod fault;
pub mod question;
pub mod response;
mod ask;
pub mod keeper;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::Mode;
use rustls::sign::CertifiedKey;

use super::storage::{Folder, StorageError};
use fault::Fault;
pub use keeper::Keeper;
use question::{Key, Question, is_entry, is_required_by};
use response::{Span, verify};

/// The folder of the storage. What is in it is no secret, and is verified each time that it is
/// read.
const FOLDER: &str = "ocsp";

/// Responses by their certificates. Nothing on the way of a handshake takes the lock: rustls has a
/// copy beside each certificate.
#[derive(Debug, Default)]
pub struct Staples(Mutex<HashMap<Key, Vec<u8>>>);

/// A response that may be shown.
#[derive(Clone, Debug)]
pub struct Staple {
    /// As it is shown, DER.
    pub response: Vec<u8>,
    /// How long.
    pub span: Span,
}

impl Staples {
    /// What may be shown at `now`, from memory, else from the storage.
    #[must_use]
    pub fn of(&self, question: &Question, storage: &Path, now: SystemTime) -> Option<Staple> {
        let good = |response: Vec<u8>| {
            let span = verify(question, &response, now).ok()?;
            Some(Staple { response, span })
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(staple) = known.get(&question.key).cloned().and_then(good) {
            return Some(staple);
        }
        known.remove(&question.key);
        let folder = Folder::open(storage, FOLDER).ok()??;
        let staple = good(folder.read(&question.entry()).ok()??)?;
        known.insert(question.key, staple.response.clone());
        Some(staple)
    }

    /// Keeps a response that was verified; tells whether it is another than before.
    fn put(&self, question: &Question, response: &[u8]) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(question.key, response.to_vec()).as_deref() != Some(response)
    }

    /// Forgets all that is not about one of these.
    fn retain(&self, questions: &[Arc<Question>]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, _| questions.iter().any(|question| question.key == *key));
    }
}

/// Has the next start begin with this response.
fn store(storage: &Path, question: &Question, response: &[u8]) -> Result<(), StorageError> {
    write(storage, &question.entry(), response)
}

/// Keeps the word that a certificate is revoked, for whoever asks what is wrong.
fn store_revocation(storage: &Path, question: &Question, word: &[u8]) -> Result<(), StorageError> {
    write(storage, &question.revocation_entry(), word)
}

/// A certificate that was on hold is good again.
fn drop_revocation(storage: &Path, question: &Question) -> Result<(), StorageError> {
    let entry = question.revocation_entry();
    let Some(folder) = Folder::open(storage, FOLDER)? else { return Ok(()) };
    if folder.read(&entry)?.is_none() {
        return Ok(());
    }
    folder.remove(&entry, &folder.lock()?)
}

/// That a certificate is revoked, where its responder has said so last; it was verified once, and
/// is verified again.
fn revocation(storage: &Path, question: &Question, now: SystemTime) -> Option<Fault> {
    let folder = Folder::open(storage, FOLDER).ok()??;
    let word = folder.read(&question.revocation_entry()).ok()??;
    verify(question, &word, now).err().filter(|fault| matches!(fault, Fault::Revoked(_)))
}

fn write(storage: &Path, entry: &str, response: &[u8]) -> Result<(), StorageError> {
    let folder = match Folder::open(storage, FOLDER)? {
        Some(folder) => folder,
        None => Folder::create(storage, FOLDER)?,
    };
    let lock = folder.lock()?;
    folder.write(entry, response, Mode::RUSR | Mode::WUSR, &lock)
}

/// Removes responses from the storage whose time is over: those of certificates that are gone would
/// stay for ever. Whatever else is there is left alone, and so is what another server of the same
/// storage can show yet.
fn sweep(storage: &Path, now: SystemTime) {
    let tidy = || -> Result<(), StorageError> {
        let Some(folder) = Folder::open(storage, FOLDER)? else { return Ok(()) };
        let names: Vec<_> = folder.names()?.into_iter().filter(|name| is_entry(name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let lock = folder.lock()?;
        for name in names {
            let response = folder.read(&name)?.unwrap_or_default();
            if response::ends(&response).is_some_and(|end| end < now) {
                folder.remove(&name, &lock)?;
            }
        }
        Ok(())
    };
    if let Err(error) = tidy() {
        tracing::debug!("old OCSP responses stay where they are: {error}");
    }
}

/// One sentence about a certificate that is revoked, as its responder has said last, or that
/// clients refuse without a response (RFC 7633), where none is in the storage, or none is asked
/// for.
#[must_use]
pub fn judge(
    certified: &CertifiedKey,
    is_on: bool,
    storage: &Path,
    now: SystemTime,
) -> Option<String> {
    let leaf = certified.cert.first()?;
    let question = Question::of(&certified.cert);
    let asked = question.as_ref().filter(|_| is_on);
    if let Some(revoked) = asked.and_then(|question| revocation(storage, question, now)) {
        return Some(revoked.to_string());
    }
    if !is_required_by(leaf) {
        return None;
    }
    let is_there = question
        .as_ref()
        .is_some_and(|question| Staples::default().of(question, storage, now).is_some());
    let why = match question {
        _ if !is_on => "`server.ocsp` is off".to_owned(),
        None => "it names no responder on http, or its issuer's certificate does not follow it in \
                 the file"
            .to_owned(),
        Some(_) if is_there => return None,
        Some(question) => {
            let (host, port) = question.place();
            format!("none is kept yet: the running server asks {host}:{port} for it")
        }
    };
    Some(format!(
        "the certificate tells clients to refuse it without a stapled OCSP response (must-staple), \
         and {why}"
    ))
}

#[cfg(test)]
mod tests;
