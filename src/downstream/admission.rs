//! How many connections there may be: in all, and of one client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::descriptors::{Allowance, Descriptors};
use crate::observe::metrics::Limit;

/// The limits and what is taken of them. Shared by all threads, but touched once a connection,
/// never for a request.
#[derive(Debug)]
pub struct Admission {
    limit: AtomicUsize,
    limit_per_client: AtomicUsize,
    descriptors: Arc<Descriptors>,
    clients: Mutex<HashMap<IpAddr, Client>>,
}

/// What a client has.
#[derive(Debug, Default)]
struct Client {
    connections: usize,
    /// See [`Allowance`].
    lent: Arc<AtomicUsize>,
}

/// The right to one connection, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
    lent: Arc<AtomicUsize>,
    /// The connections of the worker that it was handed to.
    load: Option<Arc<AtomicUsize>>,
}

impl Admission {
    /// At most `limit` connections, `limit_per_client` of them from one client.
    #[must_use]
    pub fn new(limit: usize, limit_per_client: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.into(),
            limit_per_client: limit_per_client.into(),
            descriptors: Arc::default(),
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
        self.descriptors.carry(carried);
    }

    /// The account of descriptors.
    #[must_use]
    pub fn descriptors(&self) -> &Arc<Descriptors> {
        &self.descriptors
    }

    /// Open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.descriptors.clients()
    }

    /// Admits a connection of `peer`.
    ///
    /// # Errors
    /// The limit that it would exceed.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Permit, Limit> {
        let client = client(peer);
        // Only the acceptor adds, so that nobody slips in between the question and the count.
        let limit = self.limit.load(Ordering::Relaxed);
        if self.open() >= limit || !self.descriptors.carries_another() {
            return Err(Limit::Connections);
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = clients.entry(client).or_default();
        if of_client.connections >= self.limit_per_client.load(Ordering::Relaxed) {
            if of_client.connections == 0 {
                clients.remove(&client);
            }
            return Err(Limit::ConnectionsPerClient);
        }
        of_client.connections += 1;
        let lent = Arc::clone(&of_client.lent);
        drop(clients);
        self.descriptors.enter();
        Ok(Permit { admission: Arc::clone(self), client, lent, load: None })
    }
}

impl Permit {
    /// Counts the connection among those of a worker.
    pub fn assign(&mut self, load: &Arc<AtomicUsize>) {
        load.fetch_add(1, Ordering::Relaxed);
        self.load = Some(Arc::clone(load));
    }

    /// What the connection may use towards applications.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        Allowance::new(&self.admission.descriptors, &self.lent)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(load) = &self.load {
            load.fetch_sub(1, Ordering::Relaxed);
        }
        self.admission.descriptors.leave();
        let mut clients = self.admission.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_client) = clients.get_mut(&self.client) {
            of_client.connections -= 1;
            if of_client.connections == 0 {
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
    use proptest::prelude::*;

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

    /// Each stranger who was refused cost an entry, for good.
    #[test]
    fn who_may_have_none_leaves_nothing_behind() {
        let admission = Admission::new(10, 0);
        assert!(admission.admit(ip("192.0.2.1")).is_err());
        assert!(admission.clients.lock().unwrap().is_empty());
    }

    /// What a model with a plain list says: nobody beyond a limit, nobody refused below it.
    fn expected(open: &[IpAddr], peer: IpAddr, limit: usize, per_client: usize) -> Option<Limit> {
        let same = open.iter().filter(|other| client(**other) == client(peer)).count();
        if open.len() >= limit {
            Some(Limit::Connections)
        } else if same >= per_client {
            Some(Limit::ConnectionsPerClient)
        } else {
            None
        }
    }

    proptest! {
        #[test]
        fn who_comes_and_goes_is_counted_as_in_a_list(
            steps in prop::collection::vec((0..12_u8, any::<prop::sample::Index>()), 0..60),
            (limit, per_client) in (0..8_usize, 0..4_usize),
        ) {
            let admission = Admission::new(limit, per_client);
            let (mut permits, mut open): (Vec<Permit>, Vec<IpAddr>) = Default::default();
            for (what, which) in steps {
                if what < 4 && !open.is_empty() {
                    let place = which.index(open.len());
                    drop(permits.swap_remove(place));
                    open.swap_remove(place);
                } else {
                    let peer = ip(["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "2001:db8::1",
                        "2001:db8::2", "2001:db8:0:1::1"][usize::from(what) % 6]);
                    let told = admission.admit(peer);
                    prop_assert_eq!(told.as_ref().err().copied(), expected(&open, peer, limit, per_client));
                    open.extend(told.is_ok().then_some(peer));
                    permits.extend(told);
                }
                prop_assert_eq!(admission.open(), open.len());
                let clients: std::collections::HashSet<_> = open.iter().copied().map(client).collect();
                prop_assert_eq!(admission.clients.lock().unwrap().len(), clients.len());
            }
            drop(permits);
            prop_assert_eq!((admission.open(), admission.clients.lock().unwrap().len()), (0, 0));
        }
    }

    /// One thread admits, as the acceptor does, four others drop what they were handed.
    #[test]
    fn what_other_threads_give_back_is_counted_once() {
        use std::sync::mpsc::channel;
        let (limit, per_client) = (64, 7);
        let admission = Admission::new(limit, per_client);
        let loads: Vec<Arc<AtomicUsize>> = (0..4).map(|_| Arc::default()).collect();
        let (mut admitted, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4_u64)
                .map(|seed| {
                    let (worker, inbox) = channel::<Permit>();
                    scope.spawn(move || {
                        let (mut held, mut random) = (Vec::new(), seed + 1);
                        while let Ok(permit) = inbox.recv() {
                            held.push(permit);
                            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            let kept = usize::try_from(random >> 60).unwrap();
                            let place = usize::try_from(random >> 33).unwrap() % held.len();
                            if held.len() > kept {
                                drop(held.swap_remove(place));
                            }
                        }
                    });
                    worker
                })
                .collect();
            for turn in 0..20_000_usize {
                match admission.admit(IpAddr::from([192, 0, 2, u8::try_from(turn % 13).unwrap()])) {
                    Ok(mut permit) => {
                        permit.assign(&loads[turn % 4]);
                        workers[turn % 4].send(permit).unwrap();
                        admitted += 1;
                    }
                    Err(_) => refused += 1,
                }
                assert!(admission.open() <= limit);
                assert!(
                    admission
                        .clients
                        .lock()
                        .unwrap()
                        .values()
                        .all(|of| of.connections <= per_client)
                );
            }
        });
        assert_eq!(admitted + refused, 20_000);
        assert!(admitted > 64, "nothing was given back");
        assert_eq!((admission.open(), admission.clients.lock().unwrap().len()), (0, 0));
        assert!(loads.iter().all(|load| load.load(Ordering::Relaxed) == 0));
    }
}
