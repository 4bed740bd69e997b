//! Handshakes of WebSockets.

use http::Request;

use super::*;

/// The example of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn parts(version: Version, fields: &[(&str, &str)]) -> Parts {
    let request = Request::builder().version(version).uri("/");
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

#[test]
fn only_a_whole_and_plain_wish_is_one() {
    const GOOD: [(&str, &str); 3] =
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", KEY)];
    let is_wanted =
        |version, fields: &[(&str, &str)]| Upgrade::wanted(&mut parts(version, fields)).is_some();
    assert!(is_wanted(Version::HTTP_11, &GOOD));
    assert!(!is_wanted(Version::HTTP_10, &GOOD));
    for missing in 0..GOOD.len() {
        let mut fields = GOOD.to_vec();
        fields.remove(missing);
        assert!(!is_wanted(Version::HTTP_11, &fields), "{fields:?}");
    }
    for (name, value) in [
        ("sec-websocket-key", KEY),
        ("content-length", "0"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
    ] {
        let mut fields = GOOD.to_vec();
        fields.push((name, value));
        assert!(!is_wanted(Version::HTTP_11, &fields), "{name}");
    }
    for (place, value, expected) in [
        (0, "keep-alive, Upgrade", true),
        (0, "keep-alive", false),
        (0, "x-upgrade", false),
        (1, "WebSocket", true),
        (1, "h2c, websocket", true),
        (1, "h2c", false),
        (1, "websocket2", false),
    ] {
        let mut fields = GOOD;
        fields[place].1 = value;
        assert_eq!(is_wanted(Version::HTTP_11, &fields), expected, "{value}");
    }
    let mut post = parts(Version::HTTP_11, &GOOD);
    post.method = Method::POST;
    assert!(Upgrade::wanted(&mut post).is_none());
}

#[test]
fn the_application_is_asked_with_the_clients_key() {
    let mut parts = parts(
        Version::HTTP_11,
        &[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", KEY)],
    );
    let mut out = Vec::new();
    Upgrade::wanted(&mut parts).unwrap().write(&mut out);
    let expected =
        format!("connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: {KEY}\r\n");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert!(!parts.headers.contains_key("sec-websocket-key"), "it is written once");
}

#[test]
fn a_101_has_to_agree_to_what_was_asked() {
    let check = |fields: &[(&'static str, &'static str)]| {
        let upgrade = Upgrade { key: HeaderValue::from_static(KEY), http2: None };
        upgrade.check(&mut map(fields)).is_ok()
    };
    let good =
        [("connection", "upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-accept", ACCEPT)];
    assert!(check(&good));
    for (place, value) in
        [(0, "close"), (1, "h2c"), (1, ""), (2, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="), (2, ""), (2, KEY)]
    {
        let mut fields = good;
        fields[place].1 = value;
        assert!(!check(&fields), "{fields:?}");
    }
    for missing in 0..good.len() {
        let mut fields = good.to_vec();
        fields.remove(missing);
        assert!(!check(&fields), "{fields:?}");
    }
    for more in [
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("content-length", "0"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
    ] {
        assert!(!check(&[&good[..], &[more]].concat()), "{more:?}");
    }
}

/// What the application says to us only was passed on with the agreement.
#[test]
fn the_client_sees_of_a_101_what_is_meant_for_it() {
    let upgrade = Upgrade { key: HeaderValue::from_static(KEY), http2: None };
    let mut headers = map(&[
        ("connection", "upgrade, x-inner"),
        ("x-inner", "secret"),
        ("upgrade", "websocket"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("sec-websocket-accept", ACCEPT),
        ("sec-websocket-protocol", "chat"),
        ("set-cookie", "a=1"),
    ]);
    upgrade.check(&mut headers).unwrap();
    let expected = map(&[
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", ACCEPT),
        ("sec-websocket-protocol", "chat"),
        ("set-cookie", "a=1"),
    ]);
    assert_eq!(headers, expected);
}
