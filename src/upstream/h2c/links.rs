//! The HTTP/2 connections of one worker to one application.
//!
//! A client that takes nothing leaves what the application says in the window of its stream. So
//! the window of a connection is as large as those of all its streams together: whatever some
//! clients leave lying, the others' streams go on. And what a stream's window may hold is set
//! aside beforehand in the account of the client's connection: the first streams get a large one,
//! the hundredth a small one, and each size has connections of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};

use super::Error;
use crate::downstream::budget::{Budget, Reservation};
use crate::upstream::connect;
use crate::upstream::h1::Accounted;
use crate::upstream::pool::{Backend, IDLE_AGE};

/// The windows of streams, in bytes, and up to where a client's connection is so well off that its
/// next stream gets one; the last has no such bound. Two pieces as large as that one fit one of the
/// library's buffers of 8 KiB, which lives as long as either.
const WINDOWS: [(u32, usize); 3] =
    [(256 * 1024, 320 * 1024), (32 * 1024, 352 * 1024), (3840, usize::MAX)];

/// Streams on one connection. Many applications take no more than 100 or 128.
const STREAMS: u32 = 100;

/// The library ends a connection when small pieces pile up on it. The share of one stalled
/// stream must not be enough for that, nor those of a hundred: pieces of four bytes may fill all
/// windows.
const SMALL_PIECES: usize = 64;

/// What the library may hold of a request's body before the application takes it, in bytes.
const UNSENT: usize = 64 * 1024;

/// The largest head of an answer, in bytes, by the sum of RFC 9113 §6.5.2.
const HEAD: u32 = 16 * 1024;

/// The connections.
#[derive(Debug, Default)]
pub struct Links(RefCell<Vec<Rc<Link>>>);

/// One of them.
#[derive(Debug)]
pub struct Link {
    sender: SendRequest<Bytes>,
    window: u32,
    streams: Arc<AtomicUsize>,
    /// It has ended, or is not to be trusted with further requests.
    is_retired: Cell<bool>,
    /// [`Links::tidy`]s since a stream was last seen on it.
    rested: Cell<u32>,
}

/// A stream that may be opened.
#[derive(Debug)]
pub struct Call {
    /// On this connection.
    pub link: Rc<Link>,
    /// What it takes up.
    pub grant: Grant,
}

/// A stream's place on its connection, and the room that its window takes in the account of its
/// client, until nothing of its answer is held any more.
#[derive(Debug)]
pub struct Grant {
    streams: Arc<AtomicUsize>,
    _window: Option<Reservation>,
}

impl Links {
    /// A place on a connection that there is, for a request of the client with this account.
    #[must_use]
    pub fn call(&self, budget: Option<&Budget>) -> Option<Call> {
        let mut links = self.0.borrow_mut();
        links.retain(|link| !link.is_over());
        let window = window(budget);
        let link = links.iter().find(|link| link.window == window && link.has_room())?;
        Some(Call::on(link, budget))
    }

    /// Makes a connection if need be, which others may use as well, and which is `accounted`
    /// for until it ends.
    ///
    /// # Errors
    /// When none can be made.
    pub async fn connect(
        backend: &Backend,
        budget: Option<&Budget>,
        accounted: Accounted,
    ) -> Result<Call, Error> {
        let io = connect::connect(backend).await.map_err(Error::Connect)?;
        // Many may have set out at once; only as many connections are kept as are needed, and no
        // other ever gets buffers.
        if let Some(call) = backend.h2c.call(budget) {
            return Ok(call);
        }
        let window = window(budget);
        let connection_window = window * STREAMS;
        let (sender, connection) = Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(connection_window)
            .data_frame_budget(connection_window as usize * SMALL_PIECES)
            .initial_max_send_streams(STREAMS as usize)
            .max_send_buffer_size(UNSENT)
            .max_header_list_size(HEAD)
            .enable_push(false)
            .handshake(io)
            .await
            .map_err(Error::Http)?;
        let link = Rc::new(Link {
            sender,
            window,
            streams: Arc::default(),
            is_retired: Cell::new(false),
            rested: Cell::new(0),
        });
        let ended = Rc::downgrade(&link);
        tokio::task::spawn_local(async move {
            let _accounted = accounted;
            if let Err(error) = connection.await {
                tracing::debug!("an HTTP/2 connection to an application ended: {error}");
            }
            if let Some(link) = ended.upgrade() {
                link.is_retired.set(true);
            }
        });
        backend.h2c.0.borrow_mut().push(Rc::clone(&link));
        Ok(Call::on(&link, budget))
    }

    /// Sends no further requests over `link`.
    pub fn retire(&self, link: &Rc<Link>) {
        self.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, link));
        link.is_retired.set(true);
    }

    /// Closes what has ended or been idle for too long. To be called once in `interval`.
    pub fn tidy(&self, interval: Duration) {
        self.0.borrow_mut().retain(|link| {
            let is_idle = link.streams.load(Ordering::Relaxed) == 0;
            link.rested.set(if is_idle { link.rested.get() + 1 } else { 0 });
            !link.is_over() && interval * link.rested.get() < IDLE_AGE
        });
    }

    /// Closes what is idle, all but one, so that there are descriptors for what is not.
    pub fn release(&self) {
        let mut is_one_kept = false;
        self.0.borrow_mut().retain(|link| {
            let is_idle = link.streams.load(Ordering::Relaxed) == 0;
            !is_idle || !std::mem::replace(&mut is_one_kept, true)
        });
    }

    #[cfg(test)]
    pub(crate) fn is_connected(&self) -> bool {
        !self.0.borrow().is_empty()
    }
}

impl Link {
    /// What sends requests.
    #[must_use]
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }

    fn has_room(&self) -> bool {
        let most = self.sender.current_max_send_streams().min(STREAMS as usize);
        self.streams.load(Ordering::Relaxed) < most
    }

    /// Whether it has ended or is about to, or is idle and takes no streams.
    fn is_over(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.is_retired.get()
            || matches!(self.sender().poll_ready(&mut cx), Poll::Ready(Err(_)))
            || (self.streams.load(Ordering::Relaxed) == 0
                && self.sender.current_max_send_streams() == 0)
    }
}

impl Call {
    fn on(link: &Rc<Link>, budget: Option<&Budget>) -> Self {
        link.streams.fetch_add(1, Ordering::Relaxed);
        link.rested.set(0);
        let grant = Grant {
            streams: Arc::clone(&link.streams),
            _window: budget.map(|budget| budget.reserve(link.window as usize)),
        };
        Call { link: Rc::clone(link), grant }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The window of the next stream of a client with this account; over HTTP/1.1, where there is one
/// answer at a time, it has none.
fn window(budget: Option<&Budget>) -> u32 {
    let [(most, _), ..] = WINDOWS;
    let [.., (least, _)] = WINDOWS;
    let Some(budget) = budget else { return most };
    let fits = |(window, up_to): &(u32, usize)| budget.has_room(*window as usize, *up_to);
    WINDOWS.into_iter().find(fits).map_or(least, |(window, _)| window)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_of_a_hundred_streams_fit_the_account() {
        let budget = Budget::default();
        let mut held = Vec::new();
        let windows: Vec<u32> = (0..100)
            .map(|_| {
                let window = window(Some(&budget));
                held.push(budget.reserve(window as usize));
                window
            })
            .collect();
        assert_eq!(windows[0], 256 * 1024, "who asks for one thing gets it fast");
        assert_eq!(windows[99], 3840);
        assert!(windows.iter().sum::<u32>() < 768 * 1024, "{windows:?}");
        drop(held);
        assert_eq!(window(Some(&budget)), 256 * 1024);
    }
}
