//! When an authority wants a certificate renewed (RFC 9773).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, header};
use instant_acme::CertificateIdentifier;
use rustls::pki_types::{CertificateDer, Der};
use serde_json::Value;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::failure::{Failure, Kind};
use super::schedule::Window;
use super::transport::Transport;

/// How often a window is asked for when the authority does not say, at least, and at most
/// (RFC 9773 §4.3.3).
const USUAL: Duration = Duration::from_secs(6 * 3600);
const LEAST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(86_400);

/// The window for a certificate, where the authority gives one, and how long that holds.
///
/// # Errors
/// When the authority is not reached or answers nonsense.
pub async fn ask(
    transport: &Transport,
    directory: &str,
    leaf: &CertificateDer<'_>,
) -> Result<(Option<Window>, Duration), Failure> {
    let about = get(transport, directory).await?;
    let about: Value = serde_json::from_slice(about.body()).unwrap_or_default();
    let place = about.get("renewalInfo").and_then(Value::as_str);
    let (Some(place), Some(id)) = (place, identifier(leaf)) else { return Ok((None, MOST)) };
    let answer = get(transport, &format!("{}/{id}", place.trim_end_matches('/'))).await?;
    if !answer.status().is_success() {
        return Ok((None, USUAL));
    }
    let hold = answer.headers().get(header::RETRY_AFTER);
    let hold = hold.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let hold = hold.map_or(USUAL, |seconds| Duration::from_secs(seconds).clamp(LEAST, MOST));
    let strange = || Failure::new(Kind::Unreachable, "its renewal information is none");
    let body: Value = serde_json::from_slice(answer.body()).map_err(|_| strange())?;
    let window = window(&body).ok_or_else(strange)?;
    if let Some(page) = body.get("explanationURL").and_then(Value::as_str) {
        let page: String = page.chars().filter(char::is_ascii_graphic).take(300).collect();
        tracing::info!("the authority explains when it wants a certificate renewed: {page}");
    }
    Ok((Some(window), hold))
}

/// How a certificate is called there (RFC 9773 §4.1); `None` where it names no key of its issuer.
#[must_use]
pub fn identifier(leaf: &CertificateDer<'_>) -> Option<CertificateIdentifier<'static>> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let key =
        parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.as_ref(),
            _ => None,
        })?;
    let serial = Der::from_slice(parsed.raw_serial());
    Some(CertificateIdentifier::new(Der::from_slice(key.0), serial).into_owned())
}

/// Its end must not be before its beginning (RFC 9773 §4.2).
fn window(body: &Value) -> Option<Window> {
    let window = body.get("suggestedWindow")?;
    let moment = |key: &str| {
        let text = window.get(key)?.as_str()?;
        text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
    };
    let (start, end) = (moment("start")?, moment("end")?);
    (start <= end).then_some(Window { start, end })
}

async fn get(transport: &Transport, url: &str) -> Result<Response<Bytes>, Failure> {
    let request = Request::get(url).body(Bytes::new());
    let strange = |_| Failure::new(Kind::Unreachable, "the directory names a URL that is none");
    Ok(transport.send(request.map_err(strange)?).await?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_window_is_read() {
        let body = json!({ "suggestedWindow": {
            "start": "2025-01-02T04:00:00Z", "end": "2025-01-03T04:00:00.5Z" } });
        let window = window(&body).unwrap();
        assert_eq!(window.end.duration_since(window.start).unwrap().as_secs(), 86_400);
    }

    #[test]
    fn what_is_no_window_is_none() {
        for body in [
            json!({}),
            json!({ "suggestedWindow": { "start": "2025-01-02T04:00:00Z" } }),
            json!({ "suggestedWindow": {
                "start": "2025-01-03T04:00:00Z", "end": "2025-01-02T04:00:00Z" } }),
            json!({ "suggestedWindow": { "start": "soon", "end": "later" } }),
        ] {
            assert_eq!(window(&body), None, "{body}");
        }
    }

    #[test]
    fn a_certificate_without_the_key_of_its_issuer_has_no_identifier() {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        assert!(identifier(made.cert.der()).is_none());
        assert!(identifier(&CertificateDer::from(vec![1, 2, 3])).is_none());
    }
}
