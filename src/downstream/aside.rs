//! The costly steps of handshakes, on a thread beside the worker's own.
//!
//! A key exchange and a signature take a processor a quarter of a millisecond, with an RSA key more
//! than a whole one. On the worker's thread all whom it serves would wait that long for each
//! stranger who says hello; from here, the system's scheduler shares the processors out, and these
//! threads yield to the workers.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use tokio::sync::oneshot;

/// How far the thread yields: where all compete for one processor, it gets a quarter of it, and
/// newcomers get in however busy the host is.
const NICE: i32 = 5;

/// The way to the thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Aside {
    /// Unbounded, but a connection waits for its step before it has another.
    steps: Sender<Step>,
}

type Step = Box<dyn FnOnce() + Send>;

/// The step panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

impl Aside {
    /// Starts the thread of worker `index`.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(index: usize) -> io::Result<Self> {
        let (steps, waiting) = channel::<Step>();
        thread::Builder::new().name(format!("handshakes-{index}")).spawn(move || {
            // Where that is forbidden, it competes as an equal.
            let _ = rustix::process::setpriority_process(None, NICE);
            for step in waiting {
                // Whoever waits for it learns of a panic, and counts it.
                let _ = catch_unwind(AssertUnwindSafe(step));
            }
        })?;
        Ok(Self { steps })
    }

    /// Has the thread do `step`, after those that wait already; not if nobody waits for it any
    /// more when its turn comes.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let (give, take) = oneshot::channel();
        let step = Box::new(move || {
            if !give.is_closed() {
                let _ = give.send(step());
            }
        });
        self.steps.send(step).map_err(|_| Panicked)?;
        take.await.map_err(|_| Panicked)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn steps_are_done_elsewhere() {
        let aside = Aside::start(0).unwrap();
        let here = thread::current().id();
        assert_ne!(aside.run(|| thread::current().id()).await.unwrap(), here);
    }

    #[tokio::test]
    async fn a_step_that_panics_costs_no_other() {
        let aside = Aside::start(0).unwrap();
        let empty: Vec<u8> = Vec::new();
        assert_eq!(aside.run(move || empty[0]).await, Err(Panicked));
        assert_eq!(aside.run(|| 7).await, Ok(7));
    }

    /// Who has given up must not cost the others who wait.
    #[tokio::test]
    async fn what_nobody_waits_for_is_not_done() {
        let (aside, done) = (Aside::start(0).unwrap(), Arc::new(AtomicUsize::new(0)));
        let (go, held) = channel::<()>();
        let first = aside.run(move || held.recv().is_ok());
        let mut first = Box::pin(first);
        assert!(first.as_mut().now_or_never().is_none());
        for _ in 0..3 {
            let done = Arc::clone(&done);
            let step = aside.run(move || done.fetch_add(1, Ordering::SeqCst));
            assert!(Box::pin(step).as_mut().now_or_never().is_none());
        }
        go.send(()).unwrap();
        assert_eq!(first.await, Ok(true));
        assert_eq!(aside.run(|| ()).await, Ok(()));
        assert_eq!(done.load(Ordering::SeqCst), 0);
    }
}
