//! Certificates of clients: whose are believed, and what has been revoked.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::facts::{Facts, date, moment};
use super::files::{self, FilesError, Kept};
use crate::config::ClientCertificates;

/// What certificates of clients are held against.
#[derive(Debug)]
pub struct Authorities {
    /// The rules as rustls asks for them; a certificate may be missing where it is not required.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// When the last of the authorities expires.
    pub ends: SystemTime,
    /// When the first of the lists is over; nobody is let in then.
    pub lists_end: Option<SystemTime>,
    /// What the rules were made from, to tell one set of them from another.
    pub(super) content: Vec<u8>,
    /// The files that they were read from.
    pub(super) files: Vec<Kept>,
}

/// Reads the authorities and what they have revoked; `before` is what was in files that may not be
/// read any more.
///
/// A certificate is refused when the lists say nothing about it or about an authority between it
/// and the root, and when a list is over: who cannot be told from the revoked is not let in.
///
/// # Errors
/// A file that is missing, unreadable or damaged, authorities that have all expired, and a list
/// that is over or of none of the authorities: with such files nobody could be let in, or too many.
pub fn load(
    clients: &ClientCertificates,
    now: SystemTime,
    before: &[Kept],
) -> Result<Authorities, FilesError> {
    let wrong = |why: String| FilesError::of_clients(&clients.ca, why);
    let mut roots = RootCertStore::empty();
    let mut subjects = Vec::new();
    let mut content = Vec::new();
    let mut ended = None;
    let mut ends = now;
    let (text, kept) = Kept::read(&clients.ca, before)?;
    let mut files = vec![kept];
    for authority in files::certificates(&clients.ca, &text)? {
        content.extend_from_slice(&authority);
        let facts = Facts::of(&authority).map_err(|error| wrong(error.to_string()))?;
        if facts.not_after < now {
            ended = Some(facts.not_after);
            continue;
        }
        ends = ends.max(facts.not_after);
        subjects.push(subject(&authority).map_err(&wrong)?);
        roots.add(authority).map_err(|error| {
            wrong(format!("it holds a certificate that is no authority: {error}"))
        })?;
    }
    if let (true, Some(ended)) = (roots.is_empty(), ended) {
        let why = format!("the authority of the clients expired on {}", date(ended));
        return Err(wrong(why));
    }
    let text = match &clients.crl {
        Some(path) => {
            let (text, kept) = Kept::read(path, before)?;
            files.push(kept);
            Some((path, text))
        }
        None => None,
    };
    let text = text.as_ref().map(|(path, text)| (path.as_path(), text.as_slice()));
    let (lists, lists_end) = revoked(clients, text, (&subjects, now), &mut content)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(lists)
        .enforce_revocation_expiration();
    if !clients.required {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| {
        let path = clients.crl.as_ref().unwrap_or(&clients.ca);
        FilesError::of_clients(path, error.to_string())
    })?;
    Ok(Authorities { verifier, ends, lists_end, content, files })
}

/// Why a handshake ended at the certificate of the client, for the operator; `None` where it ended
/// elsewhere.
#[must_use]
pub fn refusal(error: &rustls::Error) -> Option<String> {
    let error = match error {
        rustls::Error::NoCertificatesPresented => return Some("none was shown".to_owned()),
        rustls::Error::InvalidCertificate(error) => error,
        _ => return None,
    };
    let words = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet"
        }
        CertificateError::Revoked => "it was revoked",
        CertificateError::UnknownIssuer => {
            "no authority in client_ca has signed it, or what is between them was not shown"
        }
        CertificateError::UnknownRevocationStatus => {
            "no list in client_crl is of the authority that has signed it"
        }
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => "a list in client_crl is over",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its extended key usage is not that of a client"
        }
        CertificateError::Other(other) if other.to_string() == "UnsupportedCertVersion" => {
            "it is of X.509 version 1, not 3: `openssl x509 -req` makes that without `-extfile`"
        }
        _ => return Some(format!("it is not accepted: {error}")),
    };
    Some(words.to_owned())
}

fn revoked(
    clients: &ClientCertificates,
    list: Option<(&Path, &[u8])>,
    (subjects, now): (&[Vec<u8>], SystemTime),
    content: &mut Vec<u8>,
) -> Result<(Vec<CertificateRevocationListDer<'static>>, Option<SystemTime>), FilesError> {
    let Some((path, text)) = list else { return Ok((Vec::new(), None)) };
    let wrong = |why: String| FilesError::of_clients(path, why);
    let lists = CertificateRevocationListDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("it is damaged: {}", files::pem_words(&error))))?;
    if lists.is_empty() {
        return Err(wrong("it holds no revocation list (-----BEGIN X509 CRL-----)".to_owned()));
    }
    let mut is_of_ours = false;
    let mut first = None;
    for list in &lists {
        content.extend_from_slice(list);
        let (_, list) = CertificateRevocationList::from_der(list)
            .map_err(|error| wrong(format!("it is damaged: {error}")))?;
        is_of_ours |= subjects.iter().any(|subject| subject == list.issuer().as_raw());
        let Some(next) = list.next_update() else {
            return Err(wrong("it does not say until when it holds (nextUpdate)".to_owned()));
        };
        let next = moment(next.timestamp());
        first = Some(first.map_or(next, |first: SystemTime| first.min(next)));
        if next < now {
            let on = date(next);
            return Err(wrong(format!("the revocation list was to be replaced until {on}")));
        }
    }
    if !is_of_ours {
        let why = format!("it is of none of the authorities in {}", clients.ca.display());
        return Err(wrong(why));
    }
    Ok((lists, first))
}

fn subject(authority: &CertificateDer<'_>) -> Result<Vec<u8>, String> {
    let (_, certificate) =
        X509Certificate::from_der(authority).map_err(|error| error.to_string())?;
    Ok(certificate.subject().as_raw().to_vec())
}
