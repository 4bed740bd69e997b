//! From where an address can be reached.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From where a listener can be reached, as far as its address says; narrow to wide.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Exposure {
    /// This host only.
    Loopback,
    /// A network without a way in from the internet: RFC 1918, RFC 4193 (`fc00::/7`), link-local
    /// (RFC 3927, RFC 4291 §2.5.6), and the shared range 100.64.0.0/10 (RFC 6598).
    Private,
    /// All interfaces, or an address that the internet routes.
    Public,
}

impl Exposure {
    /// Of a socket that listens on this address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            ip if ip.is_loopback() => Exposure::Loopback,
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                let shared = a == 100 && (64..128).contains(&b);
                if ip.is_private() || ip.is_link_local() || shared {
                    Exposure::Private
                } else {
                    Exposure::Public
                }
            }
            IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => {
                Exposure::Private
            }
            IpAddr::V6(_) => Exposure::Public,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_from_where_it_is_reached() {
        let of = |text: &str| Exposure::of(text.parse().unwrap());
        for loopback in ["127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(loopback), Exposure::Loopback, "{loopback}");
        }
        for private in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(of(private), Exposure::Private, "{private}");
        }
        for public in
            ["0.0.0.0", "::", "192.0.2.1", "172.32.0.1", "100.128.0.1", "100.63.0.1", "2001:db8::1"]
        {
            assert_eq!(of(public), Exposure::Public, "{public}");
        }
        assert!(Exposure::Loopback < Exposure::Private && Exposure::Private < Exposure::Public);
    }
}
