//! What the tests are written in: an origin, a proxy in front of it, a client before both.
//!
//! Everything is synchronous on the outside, so that a test reads from top to bottom; inside, one
//! runtime carries the origins and clients of all tests. Nothing sleeps: every wait is for
//! something, and ends the test with its name when it does not come within [`PATIENCE`], which is
//! the crate's own.

pub mod origin;
pub mod script;
pub mod proxy;
pub mod setup;
pub mod client;
pub mod h2_frames;
pub mod wire_tap;
pub mod wire;
pub mod socket;
pub mod strict;
pub mod body;
pub mod pki;
pub mod tools;
pub mod load;
pub mod booted;
pub mod pebble;
pub mod knot;
pub mod responder;
pub mod relay;

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

pub use crate::PATIENCE;
pub use body::Body;
pub use client::{Answer, Client, Connection};
pub use http::{Method, Request, Response};
pub use origin::Origin;
pub use proxy::Proxy;
pub use script::Script;
pub use setup::{Setup, Site};
pub use wire::Wire;

/// The longest wait for something large.
pub const LONG_PATIENCE: Duration = Duration::from_secs(300);

/// The runtime that carries origins and clients.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    })
}

/// Waits for `future`; the test fails with `what` when it takes longer than [`PATIENCE`].
#[track_caller]
pub fn wait<F: Future>(what: &str, future: F) -> F::Output {
    wait_within(PATIENCE, what, future)
}

/// Waits for `future`, for at most `patience`.
#[track_caller]
pub fn wait_within<F: Future>(patience: Duration, what: &str, future: F) -> F::Output {
    match runtime().block_on(async { tokio::time::timeout(patience, future).await }) {
        Ok(output) => output,
        Err(_) => panic!("waited {patience:?} in vain for {what}"),
    }
}

/// Asks `condition` again and again until it holds.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, condition);
}

/// Asks `condition` again and again until it holds, for at most `patience`.
#[track_caller]
pub fn eventually_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
