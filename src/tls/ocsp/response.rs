//! A responder's answer, and whether it may be shown: that the certificate is good, said of this
//! certificate, now, by its issuer or by somebody whom the issuer has made its delegate.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::der::{
    BIT_STRING, ENUMERATED, Element, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, Reader,
    SEQUENCE, context,
};
use super::fault::Fault;
use super::question::{Question, SHA1, SHA2};
use crate::tls::facts::moment;
use crate::tls::files::chain;

/// How far the clocks of a responder and of this host may be apart.
const SLACK: Duration = Duration::from_secs(300);

/// Delegates that are looked at: an answer carries one, or none.
const DELEGATES: usize = 4;

/// From when until when an answer is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// `thisUpdate`
    pub from: SystemTime,
    /// `nextUpdate`
    pub until: SystemTime,
}

/// Reads an answer to `question` as it is at `now`, and verifies it (RFC 6960 §3.2).
///
/// # Errors
/// Everything but a certificate that is good: see [`Fault`]. One without `nextUpdate` counts as
/// none, because nobody could say how long it may be shown.
pub fn verify(question: &Question, answer: &[u8], now: SystemTime) -> Result<Span, Fault> {
    let basic = basic(answer)?;
    let parts = Parts::of(basic).ok_or(Fault::Unreadable("is no basic OCSP response"))?;
    if !parts.is_signed_for(question, now) {
        return Err(Fault::Unsigned);
    }
    let none = Fault::Unreadable("is not about this certificate");
    let single = parts.single(question).ok_or(none)?;
    let (status, span) = single;
    match status.tag {
        GOOD => {}
        REVOKED => {
            let since = Reader(status.content).take(GENERALIZED_TIME).and_then(time);
            return Err(Fault::Revoked(since.unwrap_or(span.0)));
        }
        _ => return Err(Fault::Unknown),
    }
    let (from, until) = span;
    let until = until.ok_or(Fault::Unreadable("does not say until when it is good"))?;
    if from > now + SLACK {
        return Err(Fault::Early(from));
    }
    if until <= now || until <= from {
        return Err(Fault::Over(until));
    }
    Ok(Span { from, until })
}

/// When the last of what an answer says is over, whatever it is about and whoever has signed it;
/// `None` where it does not say.
#[must_use]
pub fn ends(answer: &[u8]) -> Option<SystemTime> {
    let mut data = Reader(Parts::of(basic(answer).ok()?)?.data.content);
    data.optional(context(0));
    data.any()?;
    data.take(GENERALIZED_TIME)?;
    let mut responses = data.inside(SEQUENCE)?;
    let mut last = None;
    while let Some(mut single) = responses.inside(SEQUENCE) {
        // Whom it is about, and the status.
        single.any()?;
        single.any()?;
        single.take(GENERALIZED_TIME)?;
        let until = single.inside(context(0))?.take(GENERALIZED_TIME).and_then(time)?;
        last = last.max(Some(until));
    }
    last
}

/// `CertStatus`: `good [0] IMPLICIT NULL`, `revoked [1] IMPLICIT RevokedInfo`.
const GOOD: u8 = 0x80;
const REVOKED: u8 = context(1);

/// id-pkix-ocsp-basic
const BASIC: [u8; 9] = [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

/// OCSPResponse ::= SEQUENCE { responseStatus ENUMERATED, responseBytes \[0\] EXPLICIT OPTIONAL }
fn basic(answer: &[u8]) -> Result<&[u8], Fault> {
    let cut = Fault::Unreadable("is no OCSP response");
    let mut outer = Reader(answer).inside(SEQUENCE).ok_or(cut)?;
    let status = outer.take(ENUMERATED).map(|status| status.content);
    match status {
        Some([0]) => {}
        Some([1]) => return Err(Fault::Refused("the request is malformed")),
        Some([2]) => return Err(Fault::Refused("an error of its own")),
        Some([3]) => return Err(Fault::Refused("it is to be asked later")),
        Some([5]) => return Err(Fault::Refused("requests are to be signed")),
        Some([6]) => return Err(Fault::Refused("it may not answer for this certificate")),
        _ => return Err(Fault::Unreadable("is no OCSP response")),
    }
    let mut bytes = || {
        let mut bytes = outer.inside(context(0))?.inside(SEQUENCE)?;
        let kind = bytes.take(OID)?;
        let response = bytes.take(OCTET_STRING)?;
        (kind.content == BASIC).then_some(response.content)
    };
    bytes().ok_or(Fault::Unreadable("is of a kind that is not known here"))
}

/// BasicOCSPResponse ::= SEQUENCE { tbsResponseData, signatureAlgorithm, signature,
/// certs \[0\] EXPLICIT SEQUENCE OF Certificate OPTIONAL }
#[derive(Debug)]
struct Parts<'a> {
    data: Element<'a>,
    algorithm: &'a [u8],
    signature: &'a [u8],
    certificates: Reader<'a>,
}

impl<'a> Parts<'a> {
    fn of(basic: &'a [u8]) -> Option<Self> {
        let mut parts = Reader(basic).inside(SEQUENCE)?;
        let data = parts.take(SEQUENCE)?;
        let algorithm = parts.take(SEQUENCE)?.content;
        // The first byte tells how many bits of the last are not used.
        let signature = parts.take(BIT_STRING)?.content.strip_prefix(&[0])?;
        let certificates = parts.inside(context(0)).and_then(|mut list| list.inside(SEQUENCE));
        Some(Self { data, algorithm, signature, certificates: certificates.unwrap_or(Reader(&[])) })
    }

    /// Whether the issuer has signed it, or a delegate that the issuer has signed for this purpose
    /// (RFC 6960 §4.2.2.2). That a delegate may have been revoked is not looked for.
    fn is_signed_for(&self, question: &Question, now: SystemTime) -> bool {
        let Ok((_, issuer)) = X509Certificate::from_der(&question.issuer) else { return false };
        let has_signed = |by: &X509Certificate<'_>| {
            chain::verifies(self.algorithm, by, self.data.whole, self.signature) == Some(true)
        };
        if has_signed(&issuer) {
            return true;
        }
        let mut list = self.certificates;
        let delegates = std::iter::from_fn(|| list.take(SEQUENCE)).take(DELEGATES);
        delegates.into_iter().any(|delegate| {
            let Ok((_, parsed)) = X509Certificate::from_der(delegate.whole) else { return false };
            is_delegate(delegate.whole, &parsed, &issuer, now) && has_signed(&parsed)
        })
    }

    /// ResponseData ::= SEQUENCE { version \[0\] DEFAULT v1, responderID, producedAt, responses,
    /// ... }: the status of the certificate, from when, and until when.
    fn single(
        &self,
        question: &Question,
    ) -> Option<(Element<'a>, (SystemTime, Option<SystemTime>))> {
        let mut data = Reader(self.data.content);
        data.optional(context(0));
        data.any()?;
        data.take(GENERALIZED_TIME)?;
        let mut responses = data.inside(SEQUENCE)?;
        let singles = std::iter::from_fn(|| responses.inside(SEQUENCE));
        singles.into_iter().find_map(|mut single| {
            let is_meant = is_about(question, single.inside(SEQUENCE)?)?;
            let status = single.any()?;
            let from = time(single.take(GENERALIZED_TIME)?)?;
            let until = single
                .inside(context(0))
                .map(|mut until| until.take(GENERALIZED_TIME).and_then(time));
            let until = match until {
                Some(None) => return None,
                Some(until) => until,
                None => None,
            };
            is_meant.then_some((status, (from, until)))
        })
    }
}

/// CertID ::= SEQUENCE { hashAlgorithm, issuerNameHash, issuerKeyHash, serialNumber }
fn is_about(question: &Question, mut id: Reader<'_>) -> Option<bool> {
    let algorithm = id.inside(SEQUENCE)?.take(OID)?.content;
    let by = match algorithm {
        _ if algorithm == SHA1 => &SHA1_FOR_LEGACY_USE_ONLY,
        _ if algorithm == SHA2 => &SHA256,
        _ => return Some(false),
    };
    let [name, key] = question.issuer_hashes(by)?;
    let is_issuer = id.take(OCTET_STRING)?.content == name && id.take(OCTET_STRING)?.content == key;
    let bare = |number: &[u8]| {
        let start = number.iter().take_while(|byte| **byte == 0).count();
        number.get(start..).unwrap_or_default().to_vec()
    };
    Some(is_issuer && bare(id.take(INTEGER)?.content) == bare(&question.serial))
}

fn is_delegate(
    der: &[u8],
    delegate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    now: SystemTime,
) -> bool {
    let validity = delegate.validity();
    let is_for_this = delegate.extended_key_usage().ok().flatten();
    is_for_this.is_some_and(|usage| usage.value.ocsp_signing)
        && delegate.issuer().as_raw() == issuer.subject().as_raw()
        && moment(validity.not_before.timestamp()) <= now + SLACK
        && now <= moment(validity.not_after.timestamp())
        && chain::is_signed_by(der, &delegate.signature_value.data, issuer) == Some(true)
}

fn time(element: Element<'_>) -> Option<SystemTime> {
    let (_, time) = ASN1Time::from_der(element.whole).ok()?;
    Some(moment(time.timestamp()))
}
