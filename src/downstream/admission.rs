//! How many connections there may be: in all, and of one client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::observe::metrics::Limit;

/// The limits and what is taken of them. Shared by all threads, but touched once a connection,
/// never for a request.
#[derive(Debug)]
pub struct Admission {
    limit: AtomicUsize,
    /// What the process has descriptors for.
    carried: AtomicUsize,
    limit_per_client: AtomicUsize,
    open: AtomicUsize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to one connection, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
    /// The connections of the worker that it was handed to.
    load: Option<Arc<AtomicUsize>>,
}

impl Admission {
    /// At most `limit` connections, `limit_per_client` of them from one client.
    #[must_use]
    pub fn new(limit: usize, limit_per_client: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.into(),
            carried: usize::MAX.into(),
            limit_per_client: limit_per_client.into(),
            open: AtomicUsize::new(0),
            clients: Mutex::default(),
        })
    }

    /// Changes the limits; what is open stays open.
    pub fn change(&self, limit: usize, limit_per_client: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.limit_per_client.store(limit_per_client, Ordering::Relaxed);
    }

    /// Admits no more than `carried` connections, whatever the limit says: each of them may need
    /// another one, to an application, and who is inside comes first.
    pub fn carry(&self, carried: usize) {
        self.carried.store(carried, Ordering::Relaxed);
    }

    /// Open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Admits a connection of `peer`.
    ///
    /// # Errors
    /// The limit that it would exceed.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Permit, Limit> {
        let client = client(peer);
        // Only the acceptor adds, so that nobody slips in between the question and the count.
        let limit = self.limit.load(Ordering::Relaxed).min(self.carried.load(Ordering::Relaxed));
        if self.open() >= limit {
            return Err(Limit::Connections);
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = clients.entry(client).or_insert(0);
        if *of_client >= self.limit_per_client.load(Ordering::Relaxed) {
            return Err(Limit::ConnectionsPerClient);
        }
        *of_client += 1;
        drop(clients);
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Permit { admission: Arc::clone(self), client, load: None })
    }
}

impl Permit {
    /// Counts the connection among those of a worker.
    pub fn assign(&mut self, load: &Arc<AtomicUsize>) {
        load.fetch_add(1, Ordering::Relaxed);
        self.load = Some(Arc::clone(load));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(load) = &self.load {
            load.fetch_sub(1, Ordering::Relaxed);
        }
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        let mut clients = self.admission.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_client) = clients.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// Whom an address stands for: a host in IPv4; in IPv6 a /64, which one client has all of.
fn client(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_dropped_is_given_back() {
        let admission = Admission::new(2, 2);
        let first = admission.admit(ip("192.0.2.1")).unwrap();
        let _second = admission.admit(ip("192.0.2.2")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.3")).unwrap_err(), Limit::Connections);
        drop(first);
        assert!(admission.admit(ip("192.0.2.3")).is_ok());
        assert_eq!(admission.clients.lock().unwrap().len(), 1);
    }

    #[test]
    fn an_ipv6_client_is_a_network_and_a_mapped_address_is_ipv4() {
        let admission = Admission::new(10, 1);
        let _one = admission.admit(ip("2001:db8::1")).unwrap();
        let limit = Limit::ConnectionsPerClient;
        assert_eq!(admission.admit(ip("2001:db8::ffff:2")).unwrap_err(), limit);
        let _other = admission.admit(ip("2001:db8:0:1::1")).unwrap();
        let _mapped = admission.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.1")).unwrap_err(), limit);
    }

    /// With `ulimit -n` lowered at run time, clients took the descriptors that the requests of
    /// others needed.
    #[test]
    fn nobody_is_admitted_whom_the_descriptors_do_not_carry() {
        let admission = Admission::new(10, 10);
        admission.carry(1);
        let first = admission.admit(ip("192.0.2.1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.2")).unwrap_err(), Limit::Connections);
        drop(first);
        assert!(admission.admit(ip("192.0.2.2")).is_ok());
        admission.carry(usize::MAX);
        let all: Vec<_> = (0..12).filter_map(|_| admission.admit(ip("192.0.2.3")).ok()).collect();
        assert_eq!(all.len(), 10);
    }

    #[test]
    fn a_worker_is_told_of_what_it_has() {
        let (admission, load) = (Admission::new(10, 10), Arc::new(AtomicUsize::new(0)));
        let mut permit = admission.admit(ip("192.0.2.1")).unwrap();
        permit.assign(&load);
        assert_eq!(load.load(Ordering::Relaxed), 1);
        drop(permit);
        assert_eq!(load.load(Ordering::Relaxed), 0);
    }
}
