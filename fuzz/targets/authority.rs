//! Hosts: what is taken has one spelling, survives being written and read again, and is made of
//! nothing but what a name or an address is made of.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::proxy::headers::authority::AuthorityRef;
use portcullis_fuzz::proxy::headers::host::{Host, HostPattern};

fuzz_target!(|text: &[u8]| {
    if let Ok(authority) = AuthorityRef::parse(text) {
        check_host(&authority.host);
        let mut written = Vec::new();
        authority.write(&mut written);
        assert_eq!(written, authority.to_string().as_bytes());
        assert_eq!(AuthorityRef::parse(&written).as_ref(), Ok(&authority));
        assert_eq!(text.contains(&b'['), authority.host.contains(':'));
        assert!(!text.iter().any(|byte| matches!(byte, b'@' | b'/' | b'\\' | b'?' | b'#' | b'%')));
        assert_eq!(authority.to_host().as_str(), authority.host);
        // Other readers of a URL find the same name there.
        let url: http::Uri = format!("http://{authority}/").parse().expect("a URL");
        assert_eq!(url.authority().map(|it| it.as_str().as_bytes()), Some(&*written));
        assert_eq!(url.port_u16(), authority.port);
    }
    if let Ok(host) = Host::parse(text) {
        check_host(host.as_str());
        assert_eq!(Host::parse(host.as_str().as_bytes()).as_ref(), Ok(&host));
        assert_eq!(Host::parse(host.bracketed().as_bytes()).as_ref(), Ok(&host));
    }
    if let Ok(Ok(pattern)) = std::str::from_utf8(text).map(HostPattern::parse) {
        assert_eq!(HostPattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern));
        match &pattern {
            HostPattern::Exact(host) => assert!(pattern.matches(host)),
            HostPattern::Wildcard(parent) => assert!(!pattern.matches(parent)),
            HostPattern::Any => {}
        }
    }
});

/// What a host in normal form looks like, by rules of its own.
fn check_host(host: &str) {
    if host.contains(':') {
        let address: Ipv6Addr = host.parse().expect("an IPv6 address");
        assert_eq!(address.to_string(), host);
        return;
    }
    assert!(host.len() <= 253);
    for label in host.split('.') {
        assert!((1..=63).contains(&label.len()), "{host:?}");
        let is_good = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
        };
        assert!(label.bytes().all(is_good), "{host:?}");
    }
    let last = host.rsplit('.').next().expect("a label");
    let is_number = u64::from_str_radix(last, 10).is_ok()
        || last.strip_prefix("0x").is_some_and(|hex| u64::from_str_radix(hex, 16).is_ok());
    if is_number {
        host.parse::<Ipv4Addr>().expect("what ends in a number is an address");
    }
}
