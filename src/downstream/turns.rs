//! When all that was to be sent to one client has been: who adds to it waits for that.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// The turns of one connection's driver that ended with nothing left to send.
#[derive(Debug, Default)]
pub(super) struct Turns {
    count: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Turns {
    /// One has ended: who waits for it goes on.
    pub(super) fn end(&self) {
        self.count.set(self.count.get() + 1);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// The number of the last one, unless that is `after`; none while `is_blocked`.
    pub(super) fn poll(
        &self,
        cx: &mut Context<'_>,
        is_blocked: bool,
        after: Option<u64>,
    ) -> Poll<u64> {
        let last = self.count.get();
        if !is_blocked && after != Some(last) {
            return Poll::Ready(last);
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn who_has_had_this_turn_waits_for_the_next() {
        let turns = Turns::default();
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(turns.poll(&mut cx, false, None), Poll::Ready(0));
        assert_eq!(turns.poll(&mut cx, true, None), Poll::Pending);
        let next = poll_fn(|cx| turns.poll(cx, false, Some(0)));
        let (turn, ()) = tokio::join!(next, async { turns.end() });
        assert_eq!(turn, 1);
    }
}
