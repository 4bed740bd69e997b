//! What one HTTP/2 connection may hold of memory, whatever its client does.
//!
//! A client opens a hundred streams, lets each answer flow by single bytes or not at all, and what
//! its applications say piles up here; or it asks with heads of the largest size and lets the
//! applications hang; or it makes tunnels of its streams and reads nothing. Each stream keeps to
//! its own limits, but there are a hundred of them, and thousands of connections. So everything
//! that a connection makes us hold is counted, and beyond `COMFORT` its streams are put on short
//! rations.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::upstream::download::READ;

/// Up to here a connection's answers are read as fast as they come, in bytes.
const COMFORT: usize = 320 * 1024;

/// What a stream may hold when its connection is beyond that: with a hundred streams, less than a
/// MiB in all.
pub const RATION: usize = 4 * 1024;

/// What one direction of a tunnel may take up at a time, in bytes, while its connection is within
/// `COMFORT`; and beyond.
pub const PIECE_OF_TUNNEL: usize = 16 * 1024;
const SCRAP: usize = 1024;

/// The heads of the requests under way on one connection, and the large ones of the answers that
/// its client has not taken, trailers among them; in bytes.
const HEADS: usize = 576 * 1024;

/// Why there is no answer, or no more of it, when [`Budget::hold_head`] finds too much.
pub const CROWDED: &str =
    "the client makes us hold over 576 KiB of header in the answers on its connection";

/// Why a request is refused then.
pub const CROWDED_REQUESTS: &str =
    "the requests that are open on this connection have over 576 KiB of header";

/// What holding a piece costs beside its bytes: the library's frame and its place in a queue.
const PIECE: usize = 256;

/// What a field takes up in the map beside its text; and where there are so many that the map has
/// room for twice as many.
const PLACE: usize = 72;
const PLACE_OF_MANY: usize = 200;
const MANY: usize = 48;

/// The account of one connection.
#[derive(Clone, Debug, Default)]
pub struct Budget(Arc<Counts>);

/// Atomic, because the pieces that count down must be able to change threads; none does.
#[derive(Debug, Default)]
struct Counts {
    /// Everything.
    held: AtomicUsize,
    /// The heads in it.
    heads: AtomicUsize,
}

impl Budget {
    /// Counts the head of a request, or of an answer, until the result is dropped; `None` when
    /// there are too many.
    #[must_use]
    pub fn hold_head(&self, size: usize) -> Option<HeadHold> {
        let size = size + PIECE;
        if self.0.heads.load(Ordering::Relaxed) + size > HEADS {
            return None;
        }
        self.0.heads.fetch_add(size, Ordering::Relaxed);
        self.0.held.fetch_add(size, Ordering::Relaxed);
        Some(HeadHold { budget: self.clone(), size })
    }

    /// How much one direction of a tunnel may take up now, in bytes.
    #[must_use]
    pub fn piece(&self) -> usize {
        if self.0.held.load(Ordering::Relaxed) < COMFORT { PIECE_OF_TUNNEL } else { SCRAP }
    }

    /// Counts `size` bytes of a tunnel until the result is dropped.
    #[must_use]
    pub fn lend(&self, size: usize) -> Loan {
        let size = size + PIECE;
        self.0.held.fetch_add(size, Ordering::Relaxed);
        Loan { budget: self.clone(), size }
    }

    /// Whether `size` more bytes would leave it with at most `most`.
    #[must_use]
    pub fn has_room(&self, size: usize, most: usize) -> bool {
        self.0.held.load(Ordering::Relaxed) + size <= most
    }

    /// Counts `size` bytes, which may come without further asking, until the result is dropped.
    #[must_use]
    pub fn reserve(&self, size: usize) -> Reservation {
        self.0.held.fetch_add(size, Ordering::Relaxed);
        Reservation { budget: self.clone(), size }
    }

    /// The account of one more stream.
    #[must_use]
    pub fn share(&self) -> Share {
        let all = self.clone();
        Share(Arc::new(Account { all, own: AtomicUsize::new(0), waker: Mutex::default() }))
    }

    /// How much of an answer may be read that holds nothing yet, in bytes: plenty, or a ration.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.0.held.load(Ordering::Relaxed) < COMFORT { READ } else { RATION }
    }
}

/// Room that is set aside for what an application may send, or taken up by what it has sent.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    size: usize,
}

impl Reservation {
    /// From now on it is for `size` bytes.
    pub fn resize(&mut self, size: usize) {
        self.budget.0.held.fetch_add(size, Ordering::Relaxed);
        self.budget.0.held.fetch_sub(self.size, Ordering::Relaxed);
        self.size = size;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.held.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// The head of a request under way, or of an answer.
#[derive(Debug)]
pub struct HeadHold {
    budget: Budget,
    size: usize,
}

impl HeadHold {
    /// Whether it is larger than what is kept of it in any case.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.size > RATION
    }

    /// It takes up no more than `size` bytes from now on.
    pub fn resize(&mut self, size: usize) {
        let size = self.size.min(size + PIECE);
        let less = self.size - size;
        self.size = size;
        self.budget.0.heads.fetch_sub(less, Ordering::Relaxed);
        self.budget.0.held.fetch_sub(less, Ordering::Relaxed);
    }

    /// Counts until `headers` are dropped: the library does so once it has written them.
    pub fn go_with(self, headers: &mut HeaderMap) {
        let Some(value) = headers.values_mut().max_by_key(|value| value.len()) else { return };
        let bytes = Bytes::copy_from_slice(value.as_bytes());
        let bytes = Bytes::from_owner(HeldValue { bytes, _hold: self });
        if let Ok(mut own) = HeaderValue::from_maybe_shared(bytes) {
            // Otherwise it could stay in the table of the library's encoder, and count on.
            own.set_sensitive(true);
            *value = own;
        }
    }
}

/// What fields take up, in bytes: their text, and their places in the map.
#[must_use]
pub fn size_of(fields: &HeaderMap) -> usize {
    let text = fields.iter().map(|(name, value)| name.as_str().len() + value.len());
    text.sum::<usize>() + places_of(fields)
}

/// What their places alone take up.
#[must_use]
pub fn places_of(fields: &HeaderMap) -> usize {
    fields.len() * if fields.len() > MANY { PLACE_OF_MANY } else { PLACE }
}

/// A value of a field, and the head that it stands for.
struct HeldValue {
    bytes: Bytes,
    _hold: HeadHold,
}

impl AsRef<[u8]> for HeldValue {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for HeadHold {
    fn drop(&mut self) {
        self.budget.0.heads.fetch_sub(self.size, Ordering::Relaxed);
        self.budget.0.held.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// Bytes of a tunnel that wait for somebody to take them.
#[derive(Debug)]
pub struct Loan {
    budget: Budget,
    size: usize,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.budget.0.held.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// The account of one stream's answer.
#[derive(Clone, Debug)]
pub struct Share(Arc<Account>);

#[derive(Debug)]
struct Account {
    /// Of the whole connection.
    all: Budget,
    own: AtomicUsize,
    /// Whoever waits for `own` to become less.
    waker: Mutex<Option<Waker>>,
}

impl Share {
    /// How much of the answer may be read now, in bytes; when that is a ration, not before the
    /// stream has got rid of the last one.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let room = self.0.all.room();
        if room > RATION || self.0.own.load(Ordering::Relaxed) < RATION {
            return Poll::Ready(room);
        }
        *self.0.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Counts `bytes` until the last reference to them is dropped; as `pinned`, where they are the
    /// last that is left of a buffer as large as that.
    #[must_use]
    pub fn hold(&self, bytes: Bytes, pinned: usize) -> Bytes {
        let size = bytes.len().max(pinned) + PIECE;
        self.hold_as(bytes, size)
    }

    /// The same for bytes for which there is a [`Reservation`]: only what holding them costs
    /// beside is counted.
    #[must_use]
    pub fn hold_reserved(&self, bytes: Bytes) -> Bytes {
        self.hold_as(bytes, PIECE)
    }

    fn hold_as(&self, bytes: Bytes, size: usize) -> Bytes {
        self.0.all.0.held.fetch_add(size, Ordering::Relaxed);
        self.0.own.fetch_add(size, Ordering::Relaxed);
        Bytes::from_owner(Held { bytes, size, account: Arc::clone(&self.0) })
    }
}

/// A piece, and whom it is counted for.
struct Held {
    bytes: Bytes,
    size: usize,
    account: Arc<Account>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.all.0.held.fetch_sub(self.size, Ordering::Relaxed);
        self.account.own.fetch_sub(self.size, Ordering::Relaxed);
        let waker = self.account.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn room(share: &Share) -> Poll<usize> {
        share.poll_room(&mut Context::from_waker(Waker::noop()))
    }

    fn piece(size: usize) -> Bytes {
        Bytes::from(vec![0; size])
    }

    #[test]
    fn a_piece_counts_until_its_last_part_is_gone() {
        let budget = Budget::default();
        let share = budget.share();
        let mut piece = share.hold(piece(1000), 0);
        let part = piece.split_to(10);
        drop(piece);
        assert_eq!(budget.0.held.load(Ordering::Relaxed), 1000 + PIECE);
        drop(part);
        assert_eq!(budget.0.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn beyond_comfort_every_stream_has_its_ration_and_no_more() {
        let budget = Budget::default();
        let (greedy, modest) = (budget.share(), budget.share());
        assert_eq!(room(&greedy), Poll::Ready(READ));
        let held = greedy.hold(piece(COMFORT), 0);
        assert_eq!(room(&greedy), Poll::Pending);
        assert_eq!(room(&modest), Poll::Ready(RATION));
        let ration = modest.hold(piece(RATION), 0);
        assert_eq!(room(&modest), Poll::Pending);
        drop(ration);
        assert_eq!(room(&modest), Poll::Ready(RATION));
        drop(held);
        assert_eq!(room(&greedy), Poll::Ready(READ));
    }

    #[test]
    fn tunnels_share_the_account_and_get_scraps_beyond_comfort() {
        let budget = Budget::default();
        let mut loans = Vec::new();
        while budget.piece() == PIECE_OF_TUNNEL {
            loans.push(budget.lend(PIECE_OF_TUNNEL));
        }
        assert!(loans.len() * PIECE_OF_TUNNEL <= COMFORT);
        assert_eq!((budget.piece(), budget.room()), (SCRAP, RATION));
        drop(loans);
        assert_eq!((budget.piece(), budget.room()), (PIECE_OF_TUNNEL, READ));
        assert_eq!(budget.0.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_waits_is_woken() {
        let budget = Budget::default();
        let share = budget.share();
        let held = share.hold(piece(COMFORT), 0);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(share.poll_room(&mut Context::from_waker(&waker)).is_pending());
        drop(held);
        assert!(woken.0.load(Ordering::Relaxed));
    }

    #[test]
    fn heads_have_a_limit_and_count_with_the_rest() {
        let budget = Budget::default();
        let heads: Vec<_> = (0..40).map_while(|_| budget.hold_head(32 * 1024)).collect();
        assert_eq!(heads.len(), 17);
        let small = budget.hold_head(16 * 1024);
        assert!(small.is_some());
        assert!(budget.0.held.load(Ordering::Relaxed) <= HEADS);
        drop((heads, small));
        assert_eq!(budget.0.held.load(Ordering::Relaxed), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Head(usize),
        Piece(usize, usize),
        Split(prop::sample::Index, prop::sample::Index),
        Copy(prop::sample::Index),
        Drop(prop::sample::Index),
        DropHead(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let index = any::<prop::sample::Index>;
        let step = prop_oneof![
            (0..64 * 1024_usize).prop_map(Step::Head),
            (0..3_usize, 1..200_000_usize).prop_map(|(stream, size)| Step::Piece(stream, size)),
            (index(), index()).prop_map(|(which, at)| Step::Split(which, at)),
            index().prop_map(Step::Copy),
            index().prop_map(Step::Drop),
            index().prop_map(Step::DropHead),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Each piece counts as long as one part of it is left, whatever is done with the parts.
        #[test]
        fn what_is_held_is_the_sum_of_what_is_alive(steps in steps()) {
            let budget = Budget::default();
            let shares: Vec<_> = (0..3).map(|_| budget.share()).collect();
            let mut heads: Vec<HeadHold> = Vec::new();
            // The parts, and for each the piece that it is of.
            let mut parts: Vec<(Bytes, usize)> = Vec::new();
            let mut pieces: Vec<(usize, usize)> = Vec::new();
            for step in steps {
                match step {
                    Step::Head(size) => {
                        let held: usize = heads.iter().map(|head| head.size).sum();
                        let hold = budget.hold_head(size);
                        prop_assert_eq!(hold.is_some(), held + size + PIECE <= HEADS);
                        heads.extend(hold);
                    }
                    Step::Piece(stream, size) => {
                        parts.push((shares[stream].hold(piece(size), 0), pieces.len()));
                        pieces.push((stream, size));
                    }
                    Step::Split(which, at) if !parts.is_empty() => {
                        let place = which.index(parts.len());
                        let (part, of) = &mut parts[place];
                        let at = at.index(part.len() + 1);
                        // What is empty holds on to nothing.
                        if at == 0 || at == part.len() {
                            continue;
                        }
                        let (rest, of) = (part.split_off(at), *of);
                        parts.push((rest, of));
                    }
                    Step::Copy(which) if !parts.is_empty() => parts.push(parts[which.index(parts.len())].clone()),
                    Step::Drop(which) if !parts.is_empty() => drop(parts.swap_remove(which.index(parts.len()))),
                    Step::DropHead(which) if !heads.is_empty() => drop(heads.swap_remove(which.index(heads.len()))),
                    _ => {}
                }
                let alive = |place: &usize| parts.iter().any(|(_, of)| of == place);
                let of = |stream: Option<usize>| {
                    let alive = (0..pieces.len()).filter(alive).map(|place| pieces[place]);
                    let ours = alive.filter(|(of, _)| stream.is_none_or(|stream| *of == stream));
                    ours.map(|(_, size)| size + PIECE).sum::<usize>()
                };
                let in_heads: usize = heads.iter().map(|head| head.size).sum();
                let held = of(None) + in_heads;
                prop_assert_eq!(budget.0.heads.load(Ordering::Relaxed), in_heads);
                prop_assert_eq!(budget.0.held.load(Ordering::Relaxed), held);
                for (stream, share) in shares.iter().enumerate() {
                    let expected = match (held < COMFORT, of(Some(stream)) < RATION) {
                        (true, _) => Poll::Ready(READ),
                        (false, true) => Poll::Ready(RATION),
                        (false, false) => Poll::Pending,
                    };
                    prop_assert_eq!(room(share), expected);
                }
            }
            drop((parts, heads));
            prop_assert_eq!(budget.0.held.load(Ordering::Relaxed), 0);
            prop_assert_eq!(budget.0.heads.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn the_head_of_an_answer_counts_as_long_as_its_fields_live() {
        let budget = Budget::default();
        let mut headers = HeaderMap::new();
        headers.insert("x", HeaderValue::from_static("short"));
        headers.insert("y", HeaderValue::from_static("the longest"));
        let before = headers.clone();
        budget.hold_head(60_000).unwrap().go_with(&mut headers);
        assert_eq!(headers, before);
        assert_eq!(budget.0.held.load(Ordering::Relaxed), 60_000 + PIECE);
        assert!(budget.hold_head(HEADS - 60_000).is_none(), "too many");
        drop(headers);
        assert_eq!(budget.0.held.load(Ordering::Relaxed), 0);
        assert!(budget.hold_head(HEADS - PIECE).is_some());
    }

    /// Nothing of it changes threads today; the account must be right if it ever does.
    #[test]
    fn pieces_may_be_dropped_by_any_thread() {
        let budget = Budget::default();
        let shares: Vec<_> = (0..4).map(|_| budget.share()).collect();
        std::thread::scope(|scope| {
            for share in &shares {
                let (worker, inbox) = std::sync::mpsc::channel::<Bytes>();
                scope.spawn(move || inbox.iter().for_each(drop));
                scope.spawn(move || {
                    for size in 0..2000 {
                        let mut piece = share.hold(piece(size + 1), 0);
                        worker.send(piece.split_to(size / 2)).unwrap();
                    }
                });
            }
        });
        assert_eq!(budget.0.held.load(Ordering::Relaxed), 0);
        assert!(shares.iter().all(|share| share.0.own.load(Ordering::Relaxed) == 0));
    }
}
