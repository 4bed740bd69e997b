use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SigningKey as _,
};
use rustls::pki_types::CertificateDer;

use super::der::{
    BIT_STRING, ENUMERATED, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, context,
    element,
};
use super::fault::Fault;
use super::question::{Question, SHA1};
use super::response::{Span, ends, verify};
use super::{drop_revocation, judge, store, store_revocation, sweep};
use crate::config::TlsSource;
use crate::tls::Certificates;
use crate::tls::testing::{DAY, config, site};

const GOOD: &[u8] = &[0x80, 0];
const UNKNOWN: &[u8] = &[0x82, 0];
const ECDSA_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const BASIC: [u8; 9] = [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let (der, pem) = (root.der().clone(), root.pem());
        Self { issuer: Issuer::new(params, key), root: der, pem }
    }

    fn leaf(&self, extensions: Vec<CustomExtension>) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.custom_extensions = extensions;
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + 30 * DAY).into();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn question(&self) -> Question {
        let (leaf, _) = self.leaf(vec![responder("http://ocsp.test/")]);
        Question::of(&[leaf.der().clone(), self.root.clone()]).unwrap()
    }

    /// A certificate that this authority has signed, for the purpose of answering or none.
    fn delegate(&self, is_for_this: bool, ends: SystemTime) -> (Vec<u8>, KeyPair) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Delegate");
        params.not_before = (SystemTime::now() - 2 * DAY).into();
        params.not_after = ends.into();
        if is_for_this {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().to_vec(), key)
    }
}

/// The extension that names a responder (RFC 5280 §4.2.2.1).
fn responder(url: &str) -> CustomExtension {
    let oid = element(OID, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 1]]);
    let access = element(SEQUENCE, &[&oid, &element(0x86, &[url.as_bytes()])]);
    let oid = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
    CustomExtension::from_oid_content(oid, element(SEQUENCE, &[&access]))
}

/// The extension by which clients insist on a response (RFC 7633).
fn insistence() -> CustomExtension {
    let oid = &[1, 3, 6, 1, 5, 5, 7, 1, 24];
    CustomExtension::from_oid_content(oid, element(SEQUENCE, &[&[INTEGER, 1, 5]]))
}

fn time(moment: SystemTime) -> Vec<u8> {
    let text = jiff::Timestamp::try_from(moment).unwrap().strftime("%Y%m%d%H%M%SZ").to_string();
    element(GENERALIZED_TIME, &[text.as_bytes()])
}

/// An answer as it is before it is signed.
struct Answer<'a> {
    question: &'a Question,
    status: Vec<u8>,
    from: SystemTime,
    until: Option<SystemTime>,
}

impl<'a> Answer<'a> {
    fn good(question: &'a Question, now: SystemTime) -> Self {
        Self { question, status: GOOD.to_vec(), from: now - DAY, until: Some(now + DAY) }
    }

    fn signed(&self, by: &KeyPair, delegate: Option<&[u8]>) -> Vec<u8> {
        let [name, key] = self.question.issuer_hashes(&SHA1_FOR_LEGACY_USE_ONLY).unwrap();
        let algorithm = element(SEQUENCE, &[&element(OID, &[&SHA1])]);
        let [name, key] = [name, key].map(|hash| element(OCTET_STRING, &[&hash]));
        let serial = element(INTEGER, &[&self.question.serial]);
        let id = element(SEQUENCE, &[&algorithm, &name, &key, &serial]);
        let until = self.until.map(|until| element(context(0), &[&time(until)]));
        let until = until.unwrap_or_default();
        let single = element(SEQUENCE, &[&id, &self.status, &time(self.from), &until]);
        let whose = element(context(2), &[&element(OCTET_STRING, &[&[0; 20]])]);
        let list = element(SEQUENCE, &[&single]);
        let data = element(SEQUENCE, &[&whose, &time(self.from), &list]);
        let signature = element(BIT_STRING, &[&[0], &by.sign(&data).unwrap()]);
        let algorithm = element(SEQUENCE, &[&element(OID, &[&ECDSA_SHA256])]);
        let certificates = delegate.map(|der| element(context(0), &[&element(SEQUENCE, &[der])]));
        let certificates = certificates.unwrap_or_default();
        let basic = element(SEQUENCE, &[&data, &algorithm, &signature, &certificates]);
        let bytes = [element(OID, &[&BASIC]), element(OCTET_STRING, &[&basic])].concat();
        let bytes = element(context(0), &[&element(SEQUENCE, &[&bytes])]);
        element(SEQUENCE, &[&element(ENUMERATED, &[&[0]]), &bytes])
    }
}

/// Now, in whole seconds, as answers have them.
fn now() -> SystemTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[test]
fn a_good_answer_of_the_issuer_is_believed_for_its_time() {
    let (authority, now) = (Authority::named("A"), now());
    let question = authority.question();
    let answer = Answer::good(&question, now).signed(authority.issuer.key(), None);
    let span = verify(&question, &answer, now).unwrap();
    assert_eq!(span, Span { from: now - DAY, until: now + DAY });
    let late = verify(&question, &answer, now + DAY).unwrap_err();
    assert!(matches!(late, Fault::Over(until) if until == now + DAY), "{late}");
    let early = verify(&question, &answer, now - 2 * DAY).unwrap_err();
    assert!(matches!(early, Fault::Early(_)), "{early}");
}

#[test]
fn a_delegate_is_believed_whom_the_issuer_has_made_one() {
    let (authority, now) = (Authority::named("A"), now());
    let stranger = Authority::named("A");
    let question = authority.question();
    for (by, is_for_this, ends, is_believed) in [
        (&authority, true, now + DAY, true),
        (&authority, false, now + DAY, false),
        (&authority, true, now - DAY, false),
        (&stranger, true, now + DAY, false),
    ] {
        let (delegate, key) = by.delegate(is_for_this, ends);
        let answer = Answer::good(&question, now).signed(&key, Some(&delegate));
        let verified = verify(&question, &answer, now);
        assert_eq!(verified.is_ok(), is_believed, "{verified:?}");
    }
}

#[test]
fn everything_but_good_is_told_for_what_it_is() {
    let (authority, now) = (Authority::named("A"), now());
    let key = authority.issuer.key();
    let question = authority.question();
    let told = |answer: &Answer<'_>| {
        verify(&question, &answer.signed(key, None), now).unwrap_err().to_string()
    };
    let good = || Answer::good(&question, now);
    let revoked = element(context(1), &[&time(now - 9 * DAY)]);
    assert!(told(&Answer { status: revoked, ..good() }).contains("REVOKED"));
    assert!(told(&Answer { status: UNKNOWN.to_vec(), ..good() }).contains("not know"));
    assert!(told(&Answer { until: None, ..good() }).contains("until when"));
    let other = authority.question();
    assert!(told(&Answer { question: &other, ..good() }).contains("not about this"));
    let later = element(SEQUENCE, &[&element(ENUMERATED, &[&[3]])]);
    assert!(verify(&question, &later, now).unwrap_err().to_string().contains("later"));
    let stranger = KeyPair::generate().unwrap();
    let forged = verify(&question, &good().signed(&stranger, None), now).unwrap_err();
    assert!(matches!(forged, Fault::Unsigned), "{forged}");
}

/// Another authority with the name, and the serial number, of ours.
#[test]
fn an_answer_about_another_issuers_certificate_is_not_taken() {
    let (authority, now) = (Authority::named("A"), now());
    let namesake = Authority::named("A");
    let question = authority.question();
    let other = Question { issuer: namesake.root.clone(), ..question.clone() };
    let answer = Answer::good(&other, now).signed(authority.issuer.key(), None);
    assert!(verify(&question, &answer, now).is_err());
}

proptest! {
    /// What is cut or bent is refused, and hurts nobody; what is signed may not change by a bit.
    #[test]
    fn a_bent_answer_is_never_believed(place in 0_usize..100_000, bit in 0_u32..8, cut: bool) {
        let (authority, now) = (Authority::named("A"), now());
        let question = authority.question();
        let mut answer = Answer::good(&question, now).signed(authority.issuer.key(), None);
        let place = place % answer.len();
        if cut {
            answer.truncate(place);
        } else {
            answer[place] ^= 1 << bit;
        }
        prop_assert!(verify(&question, &answer, now).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
        let question = Authority::named("A").question();
        prop_assert!(verify(&question, &bytes, SystemTime::now()).is_err());
    }
}

#[test]
fn only_who_names_a_responder_in_the_clear_is_asked_about() {
    let authority = Authority::named("A");
    let question = |extensions, issuer: &Authority| {
        let (leaf, _) = authority.leaf(extensions);
        Question::of(&[leaf.der().clone(), issuer.root.clone()])
    };
    let named = question(vec![responder("http://[::1]:8080/ocsp")], &authority).unwrap();
    assert_eq!((named.place(), named.name.as_str()), (("::1", 8080), "a.test"));
    assert_eq!(authority.question().place(), ("ocsp.test", 80));
    assert_eq!(question(vec![], &authority), None);
    assert_eq!(question(vec![responder("https://ocsp.test/")], &authority), None);
    assert_eq!(question(vec![responder("ldap://ocsp.test/")], &authority), None);
    let other = Authority::named("B");
    assert_eq!(question(vec![responder("http://ocsp.test/")], &other), None);
}

/// A certificate with these extensions in files, as a site's.
fn files(folder: &Path, authority: &Authority, extensions: Vec<CustomExtension>) -> TlsSource {
    let (leaf, key) = authority.leaf(extensions);
    let [cert, key_path] = ["a.pem", "a.key"].map(|name| folder.join(name));
    fs::write(&cert, leaf.pem() + &authority.pem).unwrap();
    fs::write(&key_path, key.serialize_pem()).unwrap();
    fs::set_permissions(&key_path, fs::Permissions::from_mode(0o600)).unwrap();
    TlsSource::Files { cert, key: key_path }
}

#[test]
fn what_is_stored_is_stapled_until_its_time_is_over() {
    let (folder, now) = (tempfile::tempdir().unwrap(), now());
    let authority = Authority::named("A");
    let source = files(folder.path(), &authority, vec![responder("http://ocsp.test/")]);
    let mut config = config(&folder.path().join("storage"), vec![site(&["a.test"], source)]);
    let stapled =
        |certificates: &Certificates| certificates.table().for_name("a.test").unwrap().ocsp.clone();
    let before = Certificates::load(&config, now).unwrap();
    assert_eq!((stapled(&before), before.next_renewal()), (None, None));
    let question = before.questions().0[0].clone();
    let answer = Answer::good(&question, now).signed(authority.issuer.key(), None);
    store(&config.acme.storage, &question, &answer).unwrap();
    let (after, errors) = Certificates::renew(&config, now, &before, &[]);
    assert!(errors.is_empty());
    assert_eq!(stapled(&after), Some(answer.clone()));
    assert_eq!(after.next_renewal(), Some(now + DAY), "it is taken off then");
    // A file that is broken by now leaves the certificate as it was, but not what is over.
    fs::write(folder.path().join("a.pem"), "damaged").unwrap();
    let (kept, errors) = Certificates::renew(&config, now, &after, &[]);
    assert_eq!((errors.len(), stapled(&kept)), (1, Some(answer)));
    let (late, _) = Certificates::renew(&config, now + DAY, &after, &[]);
    assert_eq!((stapled(&late), late.next_renewal()), (None, None));
    config.server.ocsp = false;
    let (off, _) = Certificates::renew(&config, now, &after, &[]);
    assert!(stapled(&off).is_none() && off.questions().0.is_empty());
}

/// They stayed for ever.
#[test]
fn answers_whose_time_is_over_are_removed_and_nothing_else() {
    let (authority, now, storage) = (Authority::named("A"), now(), tempfile::tempdir().unwrap());
    let keep = |until: SystemTime| {
        let question = authority.question();
        let answer = Answer { until: Some(until), ..Answer::good(&question, now) };
        let answer = answer.signed(authority.issuer.key(), None);
        assert_eq!(ends(&answer), Some(until));
        store(storage.path(), &question, &answer).unwrap();
        storage.path().join("ocsp").join(question.entry())
    };
    let (over, good) = (keep(now - DAY / 2), keep(now + DAY));
    let other = storage.path().join("ocsp/notes.der");
    let damaged = storage.path().join("ocsp").join(format!("{}.der", "0".repeat(64)));
    fs::copy(&over, &other).unwrap();
    fs::write(&damaged, "junk").unwrap();
    sweep(storage.path(), now);
    let there = [&over, &good, &other, &damaged].map(|path| path.exists());
    assert_eq!(there, [false, true, true, true]);
    sweep(Path::new("/nowhere"), now);
}

#[test]
fn a_certificate_that_insists_on_a_response_is_told_where_there_is_none() {
    let (folder, now) = (tempfile::tempdir().unwrap(), now());
    let storage = folder.path().join("storage");
    let authority = Authority::named("A");
    let told = |extensions, ocsp| {
        let source = files(folder.path(), &authority, extensions);
        let mut config = config(&storage, vec![site(&["a.test"], source)]);
        config.server.ocsp = ocsp;
        let certificates = Certificates::load(&config, now).unwrap();
        let certified = certificates.table().for_name("a.test").unwrap();
        if let Some(question) = certificates.questions().0.first() {
            let answer = Answer::good(question, now).signed(authority.issuer.key(), None);
            let before = judge(&certified, ocsp, &storage, now);
            store(&storage, question, &answer).unwrap();
            return (before, judge(&certified, ocsp, &storage, now));
        }
        (judge(&certified, ocsp, &storage, now), None)
    };
    let ours = || responder("http://ocsp.test/");
    let (before, after) = told(vec![ours(), insistence()], true);
    assert!(before.unwrap().contains("none is kept yet") && after.is_none());
    let off = told(vec![ours(), insistence()], false).0.unwrap();
    assert!(off.contains("`server.ocsp` is off"), "{off}");
    let nobody = told(vec![insistence()], true).0.unwrap();
    assert!(nobody.contains("names no responder"), "{nobody}");
    assert_eq!(told(vec![ours()], true), (None, None));
}

/// Only the log said so.
#[test]
fn a_certificate_that_is_revoked_is_told_while_its_responder_says_so() {
    let (folder, now) = (tempfile::tempdir().unwrap(), now());
    let storage = folder.path().join("storage");
    let authority = Authority::named("A");
    let source = files(folder.path(), &authority, vec![responder("http://ocsp.test/")]);
    let config = config(&storage, vec![site(&["a.test"], source)]);
    let certificates = Certificates::load(&config, now).unwrap();
    let certified = certificates.table().for_name("a.test").unwrap();
    let question = &certificates.questions().0[0];
    let revoked = element(context(1), &[&time(now - 9 * DAY)]);
    let word = Answer { status: revoked, ..Answer::good(question, now) };
    store_revocation(&storage, question, &word.signed(&KeyPair::generate().unwrap(), None))
        .unwrap();
    assert_eq!(judge(&certified, true, &storage, now), None, "anybody could say so");
    let word = word.signed(authority.issuer.key(), None);
    store_revocation(&storage, question, &word).unwrap();
    assert!(judge(&certified, true, &storage, now).unwrap().contains("was REVOKED on"));
    assert_eq!(judge(&certified, false, &storage, now), None, "nobody would take it back");
    let calls = certificates.survey(&config, None, now)[0].calls(now);
    assert!(calls[0].contains("REVOKED"), "{calls:?}");
    drop_revocation(&storage, question).unwrap();
    assert_eq!(judge(&certified, true, &storage, now), None);
    store_revocation(&storage, question, &word).unwrap();
    sweep(&storage, now + 2 * DAY);
    assert_eq!(judge(&certified, true, &storage, now), None, "it is not kept for ever");
}
