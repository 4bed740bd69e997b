//! Certificates of clients: whose are believed, and what has been revoked.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertRevocationListError, CertificateError, RootCertStore};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::facts::{Facts, date, moment};
use super::files::{self, FilesError, Kept, chain};
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
/// that is over, not signed by the authority that it names or of none of the authorities: with
/// such files nobody could be let in, or too many.
pub fn load(
    clients: &ClientCertificates,
    now: SystemTime,
    before: &[Kept],
) -> Result<Authorities, FilesError> {
    let wrong = |why: String| FilesError::of_clients(&clients.ca, why);
    let mut roots = RootCertStore::empty();
    let mut known = Vec::new();
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
        known.push(authority.clone());
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
    let (lists, lists_end) = revoked(clients, text, (&known, now), &mut content)?;
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
        rustls::Error::InvalidCertRevocationList(error) => return Some(unusable(error)),
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

/// What is wrong with a list by which a certificate would have to be judged.
fn unusable(error: &CertRevocationListError) -> String {
    let words = match error {
        CertRevocationListError::BadSignature => {
            "the list in client_crl of the authority that has signed it is not signed with that \
             one's key"
        }
        CertRevocationListError::UnsupportedSignatureAlgorithmContext { .. }
        | CertRevocationListError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "a list in client_crl is signed in a way that is not known here, such as with SHA-1"
        }
        CertRevocationListError::IssuerInvalidForCrl => {
            "the authority that has signed it may sign no lists (its key usage lacks cRLSign)"
        }
        _ => return format!("a list in client_crl is of no use: {error:?}"),
    };
    words.to_owned()
}

fn revoked(
    clients: &ClientCertificates,
    list: Option<(&Path, &[u8])>,
    (known, now): (&[CertificateDer<'_>], SystemTime),
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
    for der in &lists {
        content.extend_from_slice(der);
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|error| wrong(format!("it is damaged: {error}")))?;
        is_of_ours |= is_of_one(known, der, &list).map_err(&wrong)?;
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

/// Whether a list is of one of the authorities, which has signed it.
///
/// That of an authority between them and the clients cannot be verified here, because its
/// certificate comes with each client's: a handshake does that.
fn is_of_one(
    known: &[CertificateDer<'_>],
    der: &[u8],
    list: &CertificateRevocationList<'_>,
) -> Result<bool, String> {
    let issuer = list.issuer();
    let parsed = known.iter().filter_map(|der| X509Certificate::from_der(der).ok());
    // An authority that has changed its key stands there twice under one name.
    let verified: Vec<_> = parsed
        .filter(|(_, authority)| authority.subject().as_raw() == issuer.as_raw())
        .map(|(_, authority)| chain::is_signed_by(der, &list.signature_value.data, &authority))
        .collect();
    if verified.is_empty() || verified.contains(&Some(true)) {
        return Ok(!verified.is_empty());
    }
    if !verified.contains(&Some(false)) {
        return Err(format!(
            "the revocation list of {issuer} is signed in a way that is not known here, such as \
             with SHA-1, or it is damaged"
        ));
    }
    Err(format!(
        "the revocation list of {issuer} is not signed by it (damaged, or of another authority \
         with the same name)"
    ))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
        DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
    };
    use rustls::pki_types::pem::PemObject as _;

    use super::*;
    use crate::tls::testing::DAY;

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A list of nobody, in PEM.
    fn list(by: &CertifiedIssuer<'static, KeyPair>) -> String {
        let now = SystemTime::now();
        let list = CertificateRevocationListParams {
            this_update: (now - DAY).into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(vec![1]),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(by).unwrap().pem().unwrap()
    }

    fn loaded(authorities: &[&CertifiedIssuer<'static, KeyPair>], lists: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let [ca, crl] = ["ca.pem", "crl.pem"].map(|name| folder.path().join(name));
        let text: String = authorities.iter().map(|authority| authority.pem()).collect();
        std::fs::write(&ca, text).unwrap();
        std::fs::write(&crl, lists).unwrap();
        let told = |path: PathBuf| format!("{}: ", path.display());
        let start = told(crl.clone());
        let clients = ClientCertificates { ca, crl: Some(crl), required: true };
        let error = load(&clients, SystemTime::now(), &[]).err()?.to_string();
        Some(error.strip_prefix(&start).unwrap_or(&error).to_owned())
    }

    const UNSIGNED: &str = "the revocation list of CN=Ours is not signed by it (damaged, or of \
        another authority with the same name)";

    /// It was taken, and every client was refused from then on.
    #[test]
    fn a_list_that_its_authority_has_not_signed_is_refused() {
        let (ours, namesake, other) = (authority("Ours"), authority("Ours"), authority("Other"));
        assert_eq!(loaded(&[&ours], &list(&ours)), None);
        assert_eq!(loaded(&[&ours], &list(&namesake)).unwrap(), UNSIGNED);
        assert_eq!(loaded(&[&ours], &(list(&ours) + &list(&namesake))).unwrap(), UNSIGNED);
        assert_eq!(loaded(&[&namesake, &ours], &list(&ours)), None, "any of that name will do");
        assert_eq!(loaded(&[&ours], &(list(&ours) + &list(&other))), None, "of one in between");
        assert!(loaded(&[&ours], &list(&other)).unwrap().contains("none of the authorities"));
    }

    #[test]
    fn a_list_of_which_a_byte_has_changed_is_refused() {
        let ours = authority("Ours");
        let der = CertificateRevocationListDer::from_pem_slice(list(&ours).as_bytes()).unwrap();
        for back in 1..=20 {
            let mut bent = der.to_vec();
            let place = bent.len() - back;
            bent[place] ^= 1;
            let bent = STANDARD.encode(bent);
            let pem = format!("-----BEGIN X509 CRL-----\n{bent}\n-----END X509 CRL-----\n");
            assert_eq!(loaded(&[&ours], &pem).unwrap(), UNSIGNED, "{back} from the end");
        }
    }

    #[test]
    fn a_list_that_a_handshake_cannot_use_is_told_for_what_it_is() {
        let told = |error| refusal(&rustls::Error::InvalidCertRevocationList(error)).unwrap();
        assert!(told(CertRevocationListError::BadSignature).contains("not signed with"));
        assert!(told(CertRevocationListError::IssuerInvalidForCrl).contains("cRLSign"));
        assert!(told(CertRevocationListError::UnsupportedDeltaCrl).contains("of no use"));
    }
}
