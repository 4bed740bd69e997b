//! What the sample application answers: the request as it was received, for people and for curl.

use std::fmt::Write as _;

use http::header::ACCEPT;
use http::request::Parts;

const PAGE: &str = include_str!("page.html");

/// Whether the client would rather have HTML than plain text.
pub(super) fn wants_html(request: &Parts) -> bool {
    let accept = request.headers.get_all(ACCEPT).iter();
    accept.filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"))
}

/// The page of the browser.
pub(super) fn html(request: &Parts, body: u64) -> String {
    let mut rows = String::new();
    for (name, value) in &request.headers {
        let value = escape(&String::from_utf8_lossy(value.as_bytes()));
        let from = if is_ours(name.as_str()) { " class=\"ours\"" } else { "" };
        let _ = writeln!(rows, "<tr{from}><th>{name}</th><td>{value}</td></tr>");
    }
    let line = escape(&request_line(request));
    let body = if body == 0 { String::new() } else { format!("and a body of {body} bytes") };
    // What the client sent goes in last, so that no placeholder can hide in it.
    PAGE.replacen("{{body}}", &body, 1)
        .split_once("{{request}}")
        .and_then(|(head, rest)| {
            let (middle, tail) = rest.split_once("{{headers}}")?;
            Some([head, &line, middle, &rows, tail].concat())
        })
        .unwrap_or_default()
}

/// The answer to curl.
pub(super) fn text(request: &Parts, body: u64) -> String {
    let mut text = format!("{}\n", request_line(request));
    for (name, value) in &request.headers {
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    if body > 0 {
        let _ = writeln!(text, "\n({body} bytes of body)");
    }
    text
}

fn request_line(request: &Parts) -> String {
    format!("{} {} {:?}", request.method, request.uri, request.version)
}

/// Fields that the proxy writes, whatever the client sent.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-forwarded-") || name == "x-request-id"
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(name: &str, value: &str) -> Parts {
        let request = Request::get("/a?b=1&c").header(name, value).body(()).unwrap();
        request.into_parts().0
    }

    #[test]
    fn what_the_client_sent_is_shown_and_cannot_be_markup() {
        let page = html(&request("x-evil", "<script>alert('x')</script>{{headers}}"), 5);
        assert!(page.contains("GET /a?b=1&amp;c HTTP/1.1"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;{{headers}}"));
        assert!(!page.contains("<script>alert('x')"));
        assert!(page.contains("a body of 5 bytes"));
    }

    #[test]
    fn the_fields_of_the_proxy_stand_out() {
        assert!(html(&request("x-forwarded-for", "192.0.2.1"), 0).contains("<tr class=\"ours\">"));
        assert!(!html(&request("accept", "*/*"), 0).contains("<tr class=\"ours\">"));
    }

    #[test]
    fn curl_gets_text_and_a_browser_html() {
        assert!(!wants_html(&request("accept", "*/*")));
        assert!(wants_html(&request("accept", "text/html,application/xhtml+xml")));
        assert_eq!(text(&request("accept", "*/*"), 0), "GET /a?b=1&c HTTP/1.1\naccept: */*\n");
    }
}
