//! What the descriptors of this process are for, so that no client takes those of the others.
//!
//! Each client's connection takes one, and has another one kept for it, to an application. Over
//! HTTP/2 it may have a hundred requests open, each of which takes one more: those come out of what
//! is left, and of that a client may take as much as it leaves to others.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

/// Of so many descriptors one is kept for clients yet to come, and of those in use so many may be
/// left before idle connections are closed.
const NEWCOMERS: usize = 8;

/// How often it is looked whether another connection, or another client, has given something back.
const LOOK: Duration = Duration::from_millis(100);

/// The account of the process. Shared by all threads; for a request it is touched where a client
/// has several open at once, and without a lock.
#[derive(Debug)]
pub struct Descriptors {
    /// What there are for connections on either side.
    total: AtomicUsize,
    /// Open connections of clients.
    clients: AtomicUsize,
    /// Requests under way beyond the first of their client's connection.
    further: AtomicUsize,
    /// Open connections to applications, idle ones counted.
    upstreams: AtomicUsize,
    /// How often the system had none left.
    shortages: AtomicUsize,
}

impl Default for Descriptors {
    /// As many as anybody wants.
    fn default() -> Self {
        Self {
            total: usize::MAX.into(),
            clients: AtomicUsize::new(0),
            further: AtomicUsize::new(0),
            upstreams: AtomicUsize::new(0),
            shortages: AtomicUsize::new(0),
        }
    }
}

impl Descriptors {
    /// Has them carry `connections` of clients, with one to an application for each.
    pub fn carry(&self, connections: usize) {
        self.total.store(connections.saturating_mul(2), Ordering::Relaxed);
    }

    /// Open connections of clients.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Whether there are enough for one more client and all that those inside may need.
    #[must_use]
    pub fn carries_another(&self) -> bool {
        let total = self.total.load(Ordering::Relaxed);
        self.spoken_for().saturating_add(2) <= total
    }

    /// Counts a client's connection in.
    pub fn enter(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a client's connection out.
    pub fn leave(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a connection to an application until the result is dropped.
    #[must_use]
    pub fn upstream(self: &Arc<Self>) -> Place {
        self.upstreams.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(self))
    }

    /// Whether so few are left that none is to spare for idle connections.
    #[must_use]
    pub fn is_short(&self) -> bool {
        let total = self.total.load(Ordering::Relaxed);
        let open = self.clients() + self.upstreams.load(Ordering::Relaxed);
        open >= total - total / NEWCOMERS
    }

    /// The system had none left.
    pub fn note_shortage(&self) {
        self.shortages.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the system had none left.
    #[must_use]
    pub fn shortages(&self) -> usize {
        self.shortages.load(Ordering::Relaxed)
    }

    /// What is open on the clients' side, kept for them on the other, or lent beyond that.
    fn spoken_for(&self) -> usize {
        self.clients().saturating_mul(2).saturating_add(self.further.load(Ordering::Relaxed))
    }

    /// Lends one to a client that has `own` of them: not more than it leaves to the others.
    fn lend(&self, own: &AtomicUsize) -> bool {
        let total = self.total.load(Ordering::Relaxed);
        let left = (total - total / NEWCOMERS).saturating_sub(self.spoken_for());
        if own.load(Ordering::Relaxed) >= left {
            return false;
        }
        own.fetch_add(1, Ordering::Relaxed);
        self.further.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn take_back(&self, own: &AtomicUsize) {
        own.fetch_sub(1, Ordering::Relaxed);
        self.further.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection to an application, counted.
#[derive(Debug)]
pub struct Place(Arc<Descriptors>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.upstreams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one connection of a client may use.
#[derive(Clone, Debug, Default)]
pub struct Allowance(Rc<Use>);

#[derive(Debug, Default)]
struct Use {
    descriptors: Arc<Descriptors>,
    /// What is lent to the client, over all of its connections.
    lent: Arc<AtomicUsize>,
    /// Connections to applications in use for this one.
    in_use: Cell<usize>,
    /// Of its requests that wait, one looks out.
    turn: Mutex<()>,
    is_awaited: Cell<bool>,
    given_back: Notify,
}

/// The right to use one connection to an application, given back when it is dropped.
#[derive(Debug)]
pub struct Claim(Rc<Use>);

impl Allowance {
    /// That of a connection of a client to whom `lent` are lent in all.
    #[must_use]
    pub fn new(descriptors: &Arc<Descriptors>, lent: &Arc<AtomicUsize>) -> Self {
        let (descriptors, lent) = (Arc::clone(descriptors), Arc::clone(lent));
        Self(Rc::new(Use { descriptors, lent, ..Use::default() }))
    }

    /// The right to one connection to an application: the first is never refused.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        let Use { descriptors, lent, in_use, .. } = &*self.0;
        if in_use.get() > 0 && !descriptors.lend(lent) {
            return None;
        }
        in_use.set(in_use.get() + 1);
        Some(Claim(Rc::clone(&self.0)))
    }

    /// The same, when there is one: the requests of a connection wait in the order in which they
    /// came, so that many cost no more than one.
    pub async fn wait(&self) -> Claim {
        let Use { turn, is_awaited, given_back, .. } = &*self.0;
        let _turn = turn.lock().await;
        loop {
            if let Some(claim) = self.claim() {
                is_awaited.set(false);
                return claim;
            }
            is_awaited.set(true);
            let _ = timeout(LOOK, given_back.notified()).await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Use { descriptors, lent, in_use, is_awaited, given_back, .. } = &*self.0;
        in_use.set(in_use.get().saturating_sub(1));
        if in_use.get() > 0 {
            descriptors.take_back(lent);
        }
        if is_awaited.get() {
            given_back.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Eleven connections of one client with a hundred requests each took every descriptor.
    #[test]
    fn a_client_leaves_as_many_to_others_as_it_takes() {
        let descriptors = Arc::new(Descriptors::default());
        descriptors.carry(488);
        let greedy = Arc::<AtomicUsize>::default();
        let connections: Vec<_> = (0..11)
            .map(|_| {
                descriptors.enter();
                Allowance::new(&descriptors, &greedy)
            })
            .collect();
        let claims = |connections: &[Allowance]| -> Vec<Claim> {
            let each = connections.iter().cycle().take(connections.len() * 100);
            each.filter_map(Allowance::claim).collect()
        };
        let held = claims(&connections);
        assert_eq!(held.len() - connections.len(), 416);
        assert!(descriptors.carries_another());
        descriptors.enter();
        let other = Allowance::new(&descriptors, &Arc::default());
        assert_eq!(claims(&[other]).len(), 100);
        let newcomers =
            std::iter::repeat_with(|| descriptors.carries_another().then(|| descriptors.enter()));
        assert!(newcomers.take(1000).flatten().count() > 250);
        drop(held);
        assert_eq!(descriptors.further.load(Ordering::Relaxed), 0);
        assert_eq!(greedy.load(Ordering::Relaxed), 0);
    }

    /// A hundred requests on each of a hundred connections of one office.
    #[test]
    fn where_there_are_plenty_nobody_is_refused() {
        let descriptors = Arc::new(Descriptors::default());
        descriptors.carry(10_000);
        let office = Arc::default();
        let held: Vec<_> = (0..100)
            .map(|_| {
                descriptors.enter();
                let connection = Allowance::new(&descriptors, &office);
                (0..70).filter_map(|_| connection.claim()).collect::<Vec<_>>()
            })
            .collect();
        assert!(held.iter().all(|claims| claims.len() == 70));
    }

    #[test]
    fn the_first_is_never_refused() {
        let descriptors = Arc::new(Descriptors::default());
        descriptors.carry(0);
        let allowance = Allowance::new(&descriptors, &Arc::default());
        let first = allowance.claim();
        assert!(first.is_some() && allowance.claim().is_none());
        drop(first);
        assert!(allowance.claim().is_some());
    }

    #[test]
    fn it_is_short_before_there_are_none() {
        let descriptors = Arc::new(Descriptors::default());
        assert!(!descriptors.is_short());
        descriptors.carry(40);
        let mut open: Vec<_> = (0..69).map(|_| descriptors.upstream()).collect();
        assert!(!descriptors.is_short());
        descriptors.enter();
        assert!(descriptors.is_short());
        open.pop();
        assert!(!descriptors.is_short());
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_given_back() {
        let descriptors = Arc::new(Descriptors::default());
        descriptors.carry(0);
        let allowance = Allowance::new(&descriptors, &Arc::default());
        let first = allowance.claim();
        let mut waiting = Box::pin(async { (allowance.wait().await, allowance.wait().await) });
        assert!(timeout(LOOK * 2, &mut waiting).await.is_err());
        // One may have been the first, the other one waits for it.
        drop(first);
        assert!(timeout(LOOK * 2, &mut waiting).await.is_err());
        descriptors.carry(10);
        assert!(timeout(LOOK * 50, waiting).await.is_ok());
    }

    proptest! {
        /// Whatever is claimed and given back, in whichever order, those inside are carried.
        #[test]
        fn nothing_is_lent_that_a_client_may_need(
            steps in prop::collection::vec((0..6_usize, any::<prop::sample::Index>()), 0..300),
            carried in 1..40_usize,
        ) {
            let descriptors = Arc::new(Descriptors::default());
            descriptors.carry(carried);
            let mut connections: Vec<Allowance> = Vec::new();
            let (lent, mut claims) = ([Arc::default(), Arc::default()], Vec::new());
            for (what, which) in steps {
                match what {
                    0 if descriptors.carries_another() => {
                        descriptors.enter();
                        let client = which.index(2);
                        connections.push(Allowance::new(&descriptors, &lent[client]));
                    }
                    1 if !claims.is_empty() => drop(claims.swap_remove(which.index(claims.len()))),
                    _ if connections.is_empty() => {}
                    _ => claims.extend(connections[which.index(connections.len())].claim()),
                }
                prop_assert!(connections.len() + claims.len() <= carried * 2);
                prop_assert!(descriptors.spoken_for() <= carried * 2);
            }
            drop(claims);
            prop_assert_eq!(descriptors.further.load(Ordering::Relaxed), 0);
        }
    }
}
