//! Who the client is: whatever a client or a trusted proxy says, what the application is told about
//! it is made of addresses and names alone, ends with the peer, and begins with the client.
//!
//! The first byte says whether the peer is trusted, the rest is a head.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::messages::Plain;
use portcullis_fuzz::proxy::headers::authority::request_authority;
use portcullis_fuzz::proxy::headers::forwarded::Forwarded;
use portcullis_fuzz::proxy::headers::hop::{Fate, Listed, request_field};
use portcullis_fuzz::readers::Strict;

/// Fields that end at this hop (RFC 9110 §7.6.1), or that no client may write.
const NEVER: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
    "http2-settings",
    "transfer-encoding",
    "content-length",
    "host",
    "expect",
    "forwarded",
    "proxy",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
];

fuzz_target!(|input: &[u8]| {
    let [habits, text @ ..] = input else { return };
    let Some((uri, fields)) = head(text) else { return };
    let version = if habits & 4 != 0 { Version::HTTP_2 } else { Version::HTTP_11 };
    let Ok(authority) = request_authority(version, &uri, &fields) else { return };
    let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a network")];
    let is_trusted = habits & 1 != 0;
    let peer: IpAddr =
        if is_trusted { Ipv4Addr::new(10, 0, 0, 1) } else { Ipv4Addr::new(192, 0, 2, 1) }.into();
    let forwarded = Forwarded::of(peer, &fields, &trusted, habits & 2 != 0, &authority);

    let mut written = b"GET / HTTP/1.1\r\nhost: ".to_vec();
    authority.write(&mut written);
    written.extend_from_slice(b"\r\n");
    let listed = Listed::of(&fields);
    for (name, value) in &fields {
        if request_field(name, &listed) == Fate::Forward {
            let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat();
            written.extend_from_slice(&line);
        }
    }
    forwarded.write(&mut written);
    written.extend_from_slice(b"\r\n");
    let strict = Strict::read(&written)
        .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&written)));

    for name in ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
        assert_eq!(strict.all(name).len(), 1, "{name}");
    }
    for (name, _) in &strict.fields[1..strict.fields.len() - 3] {
        assert!(!NEVER.contains(name) && !name.contains(['_', '.']), "{name} is forwarded");
    }
    let told = std::str::from_utf8(strict.all("x-forwarded-for")[0]).expect("text");
    let told: Vec<IpAddr> = told.split(", ").map(|it| it.parse().expect("an address")).collect();
    assert_eq!(told.last(), Some(&peer));
    assert!(is_trusted || told.len() == 1, "hearsay is passed on: {told:?}");
    // What stands behind the client is trusted, every one.
    assert_eq!(told[0], forwarded.client().address);
    assert!(told[1..].iter().all(|address| trusted[0].contains(address)));
    let mut inserted = HeaderMap::new();
    forwarded.insert(&mut inserted);
    for (name, value) in &inserted {
        assert_eq!(strict.all(name.as_str()), [value.as_bytes()]);
    }
});

/// Target and fields, where there are any.
fn head(text: &[u8]) -> Option<(Uri, HeaderMap)> {
    let plain = Plain::read(text);
    let mut fields = HeaderMap::new();
    for (name, value) in plain.fields {
        let name = HeaderName::from_bytes(&name).ok()?;
        fields.append(name, HeaderValue::from_bytes(&value).ok()?);
    }
    Some((Uri::try_from(plain.target).ok()?, fields))
}
