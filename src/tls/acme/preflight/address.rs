//! Whether a name leads to this host.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::port::{self, Answer};
use crate::tls::acme::challenge::pending::Pending;

/// The port that authorities look at (RFC 8555 §8.3).
const HTTP: u16 = 80;

/// The most addresses that are asked for our token.
const MOST: usize = 4;

/// What is odd about a name that is to be proved at this host, in words.
#[derive(Default)]
pub(super) struct Odd {
    /// About its addresses.
    pub(super) address: Option<String>,
    /// About their port 80.
    pub(super) port: Vec<String>,
}

/// Looks where a name leads; its addresses are asked for a token where there is somewhere to show
/// it.
pub(super) async fn look(name: &str, pending: Option<&Arc<Pending>>) -> Odd {
    let addresses = tokio::net::lookup_host((name, 0)).await;
    let addresses = addresses.map(|all| {
        let mut all: Vec<IpAddr> = all.map(|one| one.ip()).collect();
        all.sort();
        all.dedup();
        all
    });
    let mut asked = JoinSet::new();
    if let (Some(pending), Ok(addresses)) = (pending, &addresses) {
        for address in addresses.iter().take(MOST).copied() {
            let (name, pending) = (name.to_owned(), Arc::clone(pending));
            asked.spawn(async move {
                let place = SocketAddr::new(address, HTTP);
                (address, port::ask(&name, place, &pending).await)
            });
        }
    }
    let mut answers: Vec<(IpAddr, Answer)> = asked.join_all().await;
    answers.sort_by_key(|(address, _)| *address);
    // Whoever has our token leads here, whatever is between.
    let is_ours = |address: IpAddr| answers.contains(&(address, Answer::Ours));
    let is_here = |address| if is_ours(address) { Some(true) } else { is_here(address) };
    let address = judge(name, addresses, is_here);
    let other = |(_, answer): &(IpAddr, Answer)| match answer {
        Answer::Other(words) => Some(words.clone()),
        Answer::Ours | Answer::Unknown => None,
    };
    Odd { address, port: answers.iter().filter_map(other).collect() }
}

/// What is odd about the addresses of `name`.
fn judge(
    name: &str,
    addresses: io::Result<Vec<IpAddr>>,
    is_here: impl Fn(IpAddr) -> Option<bool>,
) -> Option<String> {
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(error) => return Some(unresolved(name, &error)),
    };
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
        let words = told(&["192.0.2.7"]).unwrap();
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
