//! What workers and the clerk share: the certificates that were got, and the way to ask for more.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::sign::CertifiedKey;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout_at;

/// Handshakes that may wait for a certificate at once.
const HELD: usize = 512;

/// Certificates in memory; with its chain and its key one has about 6 KiB.
pub(super) const MOST: usize = 4096;

/// Certificates for names that clients ask for. A lock is taken in handshakes for such names alone,
/// for as long as it takes to look one up.
pub struct Demand {
    shelf: RwLock<HashMap<Box<str>, Shown>>,
    places: Semaphore,
    door: Sender<Wish>,
    inbox: Mutex<Option<Receiver<Wish>>>,
    began: Instant,
}

struct Shown {
    certificate: Arc<CertifiedKey>,
    /// When it was last shown, in seconds since the beginning.
    used: AtomicU64,
}

/// A handshake that waits for a certificate.
pub(in crate::tls::acme) struct Wish {
    /// In lower case, without the dot of the root.
    pub(super) name: Box<str>,
    /// Told whether one lies on the shelf.
    pub(super) answer: oneshot::Sender<bool>,
}

impl Demand {
    /// The certificate for `name`, in lower case, where there is one.
    #[must_use]
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        let shown = shelf.get(name)?;
        shown.used.store(self.clock(), Ordering::Relaxed);
        Some(Arc::clone(&shown.certificate))
    }

    /// Asks for a certificate for `name`, in lower case, and waits for it until then; returns
    /// whether there is one. At once `false` when too many wait already.
    pub async fn wait(&self, name: &str, until: Instant) -> bool {
        let Ok(_place) = self.places.try_acquire() else { return false };
        let (answer, answered) = oneshot::channel();
        if self.door.try_send(Wish { name: name.into(), answer }).is_err() {
            return false;
        }
        matches!(timeout_at(until.into(), answered).await, Ok(Ok(true)))
    }

    /// Where wishes arrive; `None` when somebody has taken it already.
    pub(in crate::tls::acme) fn inbox(&self) -> Option<Receiver<Wish>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Shows `certificate` for `name` from now on.
    pub(in crate::tls) fn put(&self, name: &str, certificate: &Arc<CertifiedKey>) {
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        let used = shelf.get(name).map_or(self.clock(), |old| old.used.load(Ordering::Relaxed));
        let shown = Shown { certificate: Arc::clone(certificate), used: used.into() };
        shelf.insert(name.into(), shown);
    }

    /// Shows none for `name` any more.
    pub(super) fn remove(&self, name: &str) {
        self.shelf.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// For how long the certificate for `name` was not shown.
    pub(super) fn unused(&self, name: &str) -> Option<Duration> {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        let used = shelf.get(name)?.used.load(Ordering::Relaxed);
        Some(Duration::from_secs(self.clock().saturating_sub(used)))
    }

    /// The name that was not shown for the longest time, when there is no room for another.
    pub(super) fn one_too_many(&self) -> Option<Box<str>> {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        if shelf.len() < MOST {
            return None;
        }
        let oldest = shelf.iter().min_by_key(|(_, shown)| shown.used.load(Ordering::Relaxed));
        oldest.map(|(name, _)| name.clone())
    }

    fn clock(&self) -> u64 {
        self.began.elapsed().as_secs()
    }
}

impl Default for Demand {
    fn default() -> Self {
        let (door, inbox) = channel(HELD);
        Self {
            shelf: RwLock::default(),
            places: Semaphore::new(HELD),
            door,
            inbox: Mutex::new(Some(inbox)),
            began: Instant::now(),
        }
    }
}

impl fmt::Debug for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demand").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Pki;

    #[test]
    fn what_was_put_there_is_shown_until_it_is_removed() {
        let demand = Demand::default();
        assert!(demand.certificate("a.de").is_none() && demand.unused("a.de").is_none());
        let certificate = Pki::new().certified(&["a.de"]);
        demand.put("a.de", &certificate);
        assert!(Arc::ptr_eq(&demand.certificate("a.de").unwrap(), &certificate));
        assert!(demand.unused("a.de").unwrap() < Duration::from_secs(60));
        demand.remove("a.de");
        assert!(demand.certificate("a.de").is_none());
    }

    #[test]
    fn the_one_that_is_too_many_was_not_shown_for_the_longest_time() {
        let demand = Demand::default();
        let certificate = Pki::new().certified(&["a.de"]);
        for number in 0..MOST {
            assert_eq!(demand.one_too_many(), None);
            demand.put(&format!("n{number}.de"), &certificate);
        }
        for shown in demand.shelf.read().unwrap().values() {
            shown.used.store(9, Ordering::Relaxed);
        }
        let shelf = demand.shelf.read().unwrap();
        shelf.get("n7.de").unwrap().used.store(3, Ordering::Relaxed);
        drop(shelf);
        assert_eq!(demand.one_too_many().as_deref(), Some("n7.de"));
    }

    #[tokio::test]
    async fn handshakes_wait_until_their_deadline_and_not_too_many_of_them() {
        let demand = Arc::new(Demand::default());
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(!demand.wait("a.de", soon).await, "nobody answers");
        let later = Instant::now() + Duration::from_secs(60);
        let mut inbox = demand.inbox().unwrap();
        assert!(demand.inbox().is_none());
        drop(inbox.recv().await);
        let wait = |name: String| {
            let demand = Arc::clone(&demand);
            tokio::spawn(async move { demand.wait(&name, later).await })
        };
        let waiting: Vec<_> = (0..HELD).map(|n| wait(format!("n{n}.de"))).collect();
        let mut wishes = Vec::new();
        for _ in 0..HELD {
            wishes.push(inbox.recv().await.unwrap());
        }
        assert!(!demand.wait("more.de", later).await, "at once");
        for wish in wishes {
            wish.answer.send(true).unwrap();
        }
        for one in waiting {
            assert!(one.await.unwrap());
        }
        assert_eq!(demand.places.available_permits(), HELD);
    }
}
