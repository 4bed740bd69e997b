//! What can be seen from here before an authority looks: whether a name leads to this host. It is
//! advice that stands beside a failure, and never keeps anybody from asking: behind a router this
//! host does not know the addresses that others reach it at.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use tokio::time::timeout;

use super::names::is_reserved_name;

/// For all names of a certificate together.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most names that are looked at: one that is wrong tells enough.
const MOST: usize = 10;

/// What is odd about names that are to be proved at this host, or `None`. Names that nobody can own
/// are passed over: no name server that is asked can know them.
pub(super) async fn look(names: &[String]) -> Option<String> {
    let mut found = Vec::new();
    let all = async {
        for name in names.iter().filter(|name| !is_reserved_name(name)).take(MOST) {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await;
            let addresses = addresses.map(|all| all.map(|one| one.ip()).collect::<Vec<_>>());
            found.extend(judge(name, addresses, is_here));
        }
    };
    // What was found until then is told.
    let _ = timeout(PATIENCE, all).await;
    (!found.is_empty()).then(|| found.join("; "))
}

/// What is odd about the addresses of `name`.
fn judge(
    name: &str,
    addresses: io::Result<Vec<IpAddr>>,
    is_here: impl Fn(IpAddr) -> Option<bool>,
) -> Option<String> {
    let mut addresses = match addresses {
        Ok(addresses) => addresses,
        Err(error) => return Some(unresolved(name, &error)),
    };
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() {
        return Some(format!("{name} has no address in the DNS"));
    }
    let (here, elsewhere): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.into_iter().partition(|address| is_here(*address) != Some(false));
    let list = elsewhere.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (here.is_empty(), elsewhere.is_empty()) {
        (_, true) => None,
        (false, false) => Some(format!(
            "{name} leads to this host, but to {list} too, where the authority may look as well"
        )),
        (true, false) => Some(format!(
            "{name} leads to {list}, which is no address of this host (fine behind a router or \
             balancer that forwards to it; from here it cannot be told)"
        )),
    }
}

/// Only that there is no such name is told as such: the sandbox or a resolver that is down may be
/// in the way of any other answer.
fn unresolved(name: &str, error: &io::Error) -> String {
    let words = error.to_string();
    let is_unknown = ["Name or service not known", "No address associated", "does not exist"];
    if is_unknown.iter().any(|known| words.contains(known)) {
        return format!("{name} has no address in the DNS, as far as this host can see");
    }
    format!("whether {name} leads to this host could not be told: {words}")
}

/// Whether the address is this host's: only then a socket can have it. Nothing is sent.
fn is_here(address: IpAddr) -> Option<bool> {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => Some(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(addresses: &[&str]) -> Option<String> {
        let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
        let is_here = |address: IpAddr| match address {
            IpAddr::V4(address) => Some(address.octets()[0] == 10),
            IpAddr::V6(_) => None,
        };
        judge("a.de", Ok(addresses), is_here)
    }

    #[test]
    fn a_name_that_leads_here_needs_no_word() {
        assert_eq!(told(&["10.0.0.1"]), None);
        assert_eq!(told(&["10.0.0.1", "2001:db8::1"]), None, "nobody knows: nothing is claimed");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_told_with_what_may_be_fine() {
        let words = told(&["192.0.2.7", "192.0.2.7"]).unwrap();
        assert!(words.starts_with("a.de leads to 192.0.2.7, which is no address of"), "{words}");
        assert!(words.contains("from here it cannot be told"), "{words}");
        let words = told(&["192.0.2.7", "10.0.0.1"]).unwrap();
        assert!(words.contains("leads to this host, but to 192.0.2.7 too"), "{words}");
        assert_eq!(told(&[]).unwrap(), "a.de has no address in the DNS");
    }

    #[test]
    fn a_resolver_that_is_down_is_not_a_name_that_is_missing() {
        let told = |words: &str| judge("a.de", Err(io::Error::other(words)), |_| None).unwrap();
        let known = "failed to lookup address information: Name or service not known";
        assert!(told(known).contains("has no address in the DNS"));
        let down = "failed to lookup address information: Temporary failure in name resolution";
        assert!(told(down).contains("could not be told: failed to lookup"));
    }

    #[test]
    fn an_address_is_here_when_a_socket_can_have_it() {
        assert_eq!(is_here("127.0.0.1".parse().unwrap()), Some(true));
        assert_eq!(is_here("192.0.2.1".parse().unwrap()), Some(false));
    }
}
