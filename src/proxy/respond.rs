//! Answers of our own: small, in the format that the client accepts, and silent about the inside.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};

/// A complete answer with the body of [`error_body`]; never stored by a cache.
///
/// A status that demands a further field (405 `Allow`, 426 `Upgrade`, 429 and 503 `Retry-After`)
/// gets it from the caller.
#[must_use]
pub fn problem_response(
    status: StatusCode,
    accept: Option<&HeaderValue>,
    id: &str,
) -> Response<Bytes> {
    let (content_type, body) = error_body(status, accept, id);
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// The content type and the body that tell a client of `status`: a page, JSON (RFC 9457), or plain
/// text, which is also for those who take anything.
///
/// Nothing that the client sent is in it but `id`, of which only letters, digits, `.`, `_` and `-`
/// are shown.
#[must_use]
pub fn error_body(
    status: StatusCode,
    accept: Option<&HeaderValue>,
    id: &str,
) -> (HeaderValue, Bytes) {
    let code = status.as_u16();
    let (title, detail) = (title(status), detail(status));
    let id: String = id
        .chars()
        .filter(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-'))
        .collect();
    let format = accept.map_or(Format::Text, Format::preferred);
    let body = match format {
        Format::Html => page(code, title, detail, &id),
        Format::Json | Format::Problem => format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{code},\
             \"detail\":\"{detail}\",\"request_id\":\"{id}\"}}\n"
        ),
        Format::Text => format!("{code} {title}\n{detail}\nRequest: {id}\n"),
    };
    (HeaderValue::from_static(format.content_type()), body.into())
}

/// The page loads nothing and runs nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// More ranges than this in an `Accept` field are not read.
const MAX_RANGES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Html,
    Json,
    Problem,
    Text,
}

impl Format {
    /// The format with the greatest weight; of equal ones the more exactly named, then the first
    /// (RFC 9110 §12.5.1).
    fn preferred(accept: &HeaderValue) -> Self {
        let mut best = (0, 0, Format::Text);
        let accept = accept.to_str().unwrap_or_default();
        for range in accept.split(',').take(MAX_RANGES) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(weight).unwrap_or(1000);
            let (exactness, format) = match name.as_str() {
                "text/html" | "application/xhtml+xml" => (2, Format::Html),
                "application/problem+json" => (2, Format::Problem),
                "application/json" => (2, Format::Json),
                "text/plain" => (2, Format::Text),
                name if name.ends_with("+json") => (2, Format::Json),
                "application/*" => (1, Format::Json),
                "text/*" => (1, Format::Text),
                "*/*" => (0, Format::Text),
                _ => continue,
            };
            if (weight, exactness) > (best.0, best.1) {
                best = (weight, exactness, format);
            }
        }
        best.2
    }

    fn content_type(self) -> &'static str {
        match self {
            Format::Html => "text/html; charset=utf-8",
            Format::Json => "application/json",
            Format::Problem => "application/problem+json",
            Format::Text => "text/plain; charset=utf-8",
        }
    }
}

/// The weight of `q=0.8` in thousandths (RFC 9110 §12.4.2); what is no weight counts as none.
fn weight(parameter: &str) -> Option<u16> {
    let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let value: f32 = value.trim().parse().ok()?;
    (0.0..=1.0).contains(&value).then_some((value * 1000.0) as u16)
}

fn page(code: u16, title: &str, detail: &str, id: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{code} {title}</title>\n\
         <style>:root{{color-scheme:light dark;font:1.1rem/1.5 system-ui,sans-serif}}\
         body{{max-width:34rem;margin:18vh auto;padding:0 1.5rem}}h1{{font-size:1.6rem}}\
         small{{opacity:.65}}</style>\n<h1>{code} {title}</h1>\n<p>{detail}</p>\n\
         <p><small>Request {id}</small></p>\n</html>\n"
    )
}

fn title(status: StatusCode) -> &'static str {
    match status.as_u16() {
        413 => "Content Too Large",
        499 => "Client Closed Request",
        _ => status.canonical_reason().unwrap_or("Error"),
    }
}

/// A sentence for the reader, who may be anybody; no quotes, `<` or `&`, so that it fits each
/// format.
fn detail(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "The request could not be understood.",
        403 => "This is not allowed.",
        404 => "There is nothing here under this address.",
        405 => "This method is not allowed here.",
        408 => "The request took too long to arrive.",
        413 => "The request body is larger than this server accepts.",
        414 => "The address is longer than this server accepts.",
        417 => "The expectation of the request cannot be met.",
        421 => "This connection was opened for another site. Please try again.",
        426 => "Another protocol is needed here.",
        429 => "Too many requests. Please wait a moment and try again.",
        431 => "The fields of the request are larger than this server accepts.",
        499 => "The client closed the request.",
        500 => "Something went wrong here. Please try again later.",
        501 => "The request asks for something that this server does not do.",
        502 => "The application did not give a usable answer. Please try again in a moment.",
        503 => "The service is not available right now. Please try again in a moment.",
        504 => "The application took too long to answer. Please try again in a moment.",
        508 => "The request goes round in a circle.",
        other if (400..500).contains(&other) => "The request cannot be served.",
        other if other >= 500 => "The request could not be served. Please try again later.",
        _ => "There is nothing more to say.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [u16; 19] = [
        400, 403, 404, 405, 408, 413, 414, 417, 421, 426, 429, 431, 499, 500, 501, 502, 503, 504,
        508,
    ];

    fn content_type(accept: &str) -> String {
        let accept = HeaderValue::from_str(accept).unwrap();
        let (content_type, _) = error_body(StatusCode::NOT_FOUND, Some(&accept), "id");
        content_type.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    #[test]
    fn the_format_is_the_one_that_the_client_prefers() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (accept, expected) in [
            (browser, "text/html"),
            ("*/*", "text/plain"),
            ("", "text/plain"),
            ("image/png", "text/plain"),
            ("text/plain", "text/plain"),
            ("text/*", "text/plain"),
            ("application/json", "application/json"),
            ("Application/JSON; charset=utf-8", "application/json"),
            ("application/problem+json", "application/problem+json"),
            ("application/vnd.api+json", "application/json"),
            ("application/json, text/plain, */*", "application/json"),
            ("application/json;q=0.5, text/html", "text/html"),
            ("text/html;q=0.5, application/json;q=0.6", "application/json"),
            ("text/html;q=0, */*", "text/plain"),
            ("text/html;q=x", "text/html"),
            ("application/grpc", "text/plain"),
        ] {
            assert_eq!(content_type(accept), expected, "{accept}");
        }
        let garbage = HeaderValue::from_bytes(b"text/html\xff").unwrap();
        let (content_type, _) = error_body(StatusCode::NOT_FOUND, Some(&garbage), "id");
        assert_eq!(content_type, "text/plain; charset=utf-8");
    }

    #[test]
    fn every_status_has_a_sentence_and_the_request_in_every_format() {
        let generic = [detail(StatusCode::GONE), detail(StatusCode::INSUFFICIENT_STORAGE)];
        for code in STATUSES {
            let status = StatusCode::from_u16(code).unwrap();
            assert!(!generic.contains(&detail(status)), "{code}");
            assert_ne!(title(status), "Error", "{code}");
            for accept in ["text/html", "application/json", "text/plain"] {
                let accept = HeaderValue::from_static(accept);
                let (_, body) = error_body(status, Some(&accept), "4f-1");
                let text = std::str::from_utf8(&body).unwrap();
                for part in [&code.to_string(), title(status), detail(status), "4f-1"] {
                    assert!(text.contains(part), "{text}");
                }
                assert!(text.len() < 1024, "{} bytes", text.len());
            }
        }
    }

    #[test]
    fn json_is_json() {
        for code in STATUSES {
            let response = problem_response(
                StatusCode::from_u16(code).unwrap(),
                Some(&HeaderValue::from_static("application/problem+json")),
                "a\"\\<b",
            );
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body["status"], code);
            assert_eq!(body["request_id"], "ab");
        }
    }

    #[test]
    fn the_page_is_complete_in_itself() {
        let accept = HeaderValue::from_static("text/html");
        let (_, body) = error_body(StatusCode::BAD_GATEWAY, Some(&accept), "x\"><script>");
        let text = std::str::from_utf8(&body).unwrap();
        for absent in ["<script", "src=", "href=", "http:", "https:", "url(", "ortcullis"] {
            assert!(!text.contains(absent), "{absent}");
        }
    }

    #[test]
    fn the_response_is_never_stored() {
        let response = problem_response(StatusCode::BAD_GATEWAY, None, "id");
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[CONTENT_LENGTH], response.body().len().to_string());
    }
}
