//! One coarse timer wheel per worker, so that a deadline costs a store and not a timer.
//!
//! A [`Deadline`] belongs to a connection or a stream and is set anew for each thing that it waits
//! for. Setting it later than it already stands in the wheel touches nothing: the wheel looks when
//! it gets there, and moves the entry on. What is dropped leaves the wheel at once, so that the
//! wheel holds no more than what lives. A deadline fires at most two ticks late and never early.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How coarse: every limit that an operator may set is at least ten times this.
pub const TICK: Duration = Duration::from_millis(50);

/// Two and a half minutes of ticks; what lies beyond waits in the last slot and is looked at again.
const SLOTS: u64 = 3072;

const NEVER: u64 = u64::MAX;

/// The wheel.
#[derive(Debug)]
pub struct Wheel {
    origin: Instant,
    now: Cell<u64>,
    slots: RefCell<Vec<Slot>>,
    queued: Cell<usize>,
    wanted: Notify,
}

/// What is looked at in one tick.
type Slot = Vec<Rc<Entry>>;

/// A point in time that its owner waits for.
#[derive(Debug)]
pub struct Deadline {
    entry: Rc<Entry>,
    wheel: Rc<Wheel>,
}

#[derive(Debug)]
struct Entry {
    at: Cell<u64>,
    /// The tick in whose slot the entry stands.
    stands: Cell<u64>,
    /// Its place in that slot.
    place: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Wheel {
    /// An empty wheel that starts at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Rc<Self> {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Rc::new(Self {
            origin: now,
            now: Cell::new(0),
            slots: RefCell::new(slots),
            queued: Cell::new(0),
            wanted: Notify::new(),
        })
    }

    /// A deadline of this wheel, not set.
    #[must_use]
    pub fn deadline(self: &Rc<Self>) -> Deadline {
        let entry = Rc::new(Entry {
            at: Cell::new(NEVER),
            stands: Cell::new(NEVER),
            place: Cell::new(0),
            waker: RefCell::new(None),
        });
        Deadline { entry, wheel: Rc::clone(self) }
    }

    /// Turns the wheel for as long as the worker lives; at rest while nothing is set.
    pub async fn run(&self) {
        loop {
            if self.queued.get() == 0 {
                self.wanted.notified().await;
            }
            tokio::time::sleep(TICK).await;
            self.advance(Instant::now());
        }
    }

    /// Wakes the owners of all that is due at `now`.
    pub fn advance(&self, now: Instant) {
        let target = self.ticks(now);
        let first = self.now.get() + 1;
        self.now.set(target.max(self.now.get()));
        // After a long stall one whole turn visits every slot; more would visit them twice.
        for tick in first.max(target.saturating_sub(SLOTS))..=target {
            let Some(due) = self.slots.borrow_mut().get_mut(slot(tick)).map(std::mem::take) else {
                continue;
            };
            self.queued.set(self.queued.get() - due.len());
            due.iter().for_each(|entry| entry.stands.set(NEVER));
            due.iter().for_each(|entry| self.visit(entry));
        }
    }

    fn visit(&self, entry: &Rc<Entry>) {
        let at = entry.at.get();
        if at <= self.now.get() {
            if let Some(waker) = entry.waker.borrow_mut().take() {
                waker.wake();
            }
        } else if at != NEVER {
            self.queue(entry, at);
        }
    }

    /// Puts `entry` where it is looked at when `at` comes, and takes it from where it stood.
    fn queue(&self, entry: &Rc<Entry>, at: u64) {
        self.remove(entry);
        let stands = at.clamp(self.now.get() + 1, self.now.get() + SLOTS - 1);
        if let Some(slot) = self.slots.borrow_mut().get_mut(slot(stands)) {
            entry.stands.set(stands);
            entry.place.set(slot.len());
            slot.push(Rc::clone(entry));
            self.queued.set(self.queued.get() + 1);
        }
    }

    fn remove(&self, entry: &Entry) {
        let stands = entry.stands.replace(NEVER);
        if stands == NEVER {
            return;
        }
        if let Some(slot) = self.slots.borrow_mut().get_mut(slot(stands)) {
            slot.swap_remove(entry.place.get());
            if let Some(moved) = slot.get(entry.place.get()) {
                moved.place.set(entry.place.get());
            }
            if slot.is_empty() {
                *slot = Slot::new();
            }
            self.queued.set(self.queued.get() - 1);
        }
    }

    fn ticks(&self, now: Instant) -> u64 {
        let ticks = now.saturating_duration_since(self.origin).as_millis() / TICK.as_millis();
        u64::try_from(ticks).unwrap_or(NEVER - 1)
    }
}

impl Deadline {
    /// Sets it `after` from now, whatever was set before.
    pub fn set(&self, after: Duration) {
        if self.wheel.queued.get() == 0 {
            // The wheel was at rest, and its idea of now with it.
            self.wheel.now.set(self.wheel.ticks(Instant::now()).max(self.wheel.now.get()));
            self.wheel.wanted.notify_one();
        }
        let ticks = after.as_millis().div_ceil(TICK.as_millis());
        let at = self.wheel.now.get().saturating_add(u64::try_from(ticks).unwrap_or(NEVER / 2) + 1);
        self.entry.at.set(at);
        if at < self.entry.stands.get() {
            self.wheel.queue(&self.entry, at);
        }
    }

    /// Waits for nothing.
    pub fn clear(&self) {
        self.entry.at.set(NEVER);
    }

    /// Whether the time has come.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.entry.at.get() <= self.wheel.now.get()
    }

    /// Ready once the time has come; wakes the task of `cx` then.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_due() {
            return Poll::Ready(());
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until it is due.
    pub async fn wait(&self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.wheel.remove(&self.entry);
    }
}

fn slot(tick: u64) -> usize {
    usize::try_from(tick % SLOTS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wheel() -> (Rc<Wheel>, Instant) {
        let start = Instant::now();
        (Wheel::new(start), start)
    }

    #[test]
    fn fires_within_two_ticks_and_never_early() {
        let (wheel, start) = wheel();
        for millis in [1, 50, 99, 1_000, 10_000, 600_000] {
            let begin = wheel.now.get();
            let deadline = wheel.deadline();
            deadline.set(Duration::from_millis(millis));
            let mut elapsed = Duration::ZERO;
            while !deadline.is_due() {
                elapsed += TICK;
                wheel.advance(start + TICK * u32::try_from(begin).unwrap() + elapsed);
            }
            let wanted = Duration::from_millis(millis);
            assert!(elapsed >= wanted && elapsed <= wanted + 2 * TICK, "{millis}: {elapsed:?}");
        }
    }

    #[test]
    fn setting_again_and_again_keeps_one_place_in_the_wheel() {
        let (wheel, _) = wheel();
        let deadline = wheel.deadline();
        for _ in 0..1000 {
            deadline.set(Duration::from_secs(10));
            deadline.clear();
        }
        assert_eq!(wheel.queued.get(), 1);
    }

    /// Over HTTP/2 each stream has one: they stayed until their time came, a minute's worth of
    /// requests at once, and kept the allocator from giving back what lay before them.
    #[test]
    fn what_is_dropped_leaves_nothing_in_the_wheel() {
        let (wheel, _) = wheel();
        let deadlines: Vec<_> = (0..100).map(|_| wheel.deadline()).collect();
        for (secs, deadline) in (1..).zip(&deadlines) {
            deadline.set(Duration::from_secs(secs % 7));
            deadline.set(Duration::from_secs(secs % 5));
        }
        let (kept, dropped): (Vec<_>, Vec<_>) =
            (0..).zip(deadlines).partition(|(number, _)| number % 3 == 0);
        drop(dropped);
        assert_eq!(wheel.queued.get(), kept.len());
        drop(kept);
        assert!(wheel.slots.borrow().iter().all(|slot| slot.capacity() == 0));
    }

    #[test]
    fn an_earlier_time_overtakes_a_later_one() {
        let (wheel, start) = wheel();
        let deadline = wheel.deadline();
        deadline.set(Duration::from_secs(60));
        deadline.set(Duration::from_millis(100));
        wheel.advance(start + Duration::from_secs(1));
        assert!(deadline.is_due());
    }

    #[test]
    fn a_stall_of_an_hour_fires_everything_once() {
        let (wheel, start) = wheel();
        let deadlines: Vec<_> = (1..200).map(|secs| (secs, wheel.deadline())).collect();
        for (secs, deadline) in &deadlines {
            deadline.set(Duration::from_secs(*secs));
        }
        wheel.advance(start + Duration::from_secs(3600));
        assert!(deadlines.iter().all(|(_, deadline)| deadline.is_due()));
        assert_eq!(wheel.queued.get(), 0);
    }

    struct Woken(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// What a list of times would say of one deadline.
    #[derive(Clone, Copy, Default)]
    struct Expected {
        /// Not before this, and two ticks later at most; in ticks.
        at: Option<u64>,
        waits: bool,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Deadlines set, set anew, cleared, awaited and dropped in any order, the wheel turned by
        /// small steps and by leaps: none is early, none is missed, and whoever waits is woken.
        #[test]
        fn the_wheel_says_what_a_list_would_say(
            steps in prop::collection::vec((0..6_u8, 0..4_usize, 1..400_000_u64), 1..80),
        ) {
            use std::sync::atomic::Ordering;
            let (wheel, start) = wheel();
            // Never at rest: only then is it told what time it is.
            let keeper = wheel.deadline();
            keeper.set(Duration::from_secs(1_000_000));
            let new = || (wheel.deadline(), std::sync::Arc::new(Woken(0.into())));
            let mut all: Vec<_> = (0..4).map(|_| new()).collect();
            let mut expected = [Expected::default(); 4];
            let mut now = wheel.now.get();
            for (what, which, amount) in steps {
                let (deadline, woken) = &all[which];
                match what {
                    0 | 1 => {
                        let after = Duration::from_millis(if what == 0 { amount } else { amount % 500 });
                        deadline.set(after);
                        expected[which].at = Some(now + u64::try_from(after.as_millis().div_ceil(TICK.as_millis())).unwrap());
                    }
                    2 => {
                        deadline.clear();
                        expected[which].at = None;
                    }
                    3 => {
                        let waker = Waker::from(std::sync::Arc::clone(woken));
                        let ready = deadline.poll(&mut Context::from_waker(&waker)).is_ready();
                        expected[which].waits |= !ready;
                    }
                    4 => {
                        all[which] = new();
                        expected[which] = Expected::default();
                    }
                    _ => {
                        now += if amount % 3 == 0 { amount / 50 } else { amount % 5 };
                        wheel.advance(start + TICK * u32::try_from(now).unwrap());
                    }
                }
                for ((deadline, woken), wanted) in all.iter().zip(&mut expected) {
                    let is_due = deadline.is_due();
                    prop_assert!(!is_due || wanted.at.is_some_and(|at| at <= now), "early");
                    prop_assert!(is_due || wanted.at.is_none_or(|at| at + 2 > now), "late");
                    if is_due && wanted.waits {
                        prop_assert!(woken.0.load(Ordering::Relaxed) > 0, "nobody was woken");
                        wanted.waits = false;
                        woken.0.store(0, Ordering::Relaxed);
                    }
                }
                let in_slots: usize = wheel.slots.borrow().iter().map(Vec::len).sum();
                prop_assert_eq!(wheel.queued.get(), in_slots);
            }
            drop((all, keeper));
            prop_assert_eq!(wheel.queued.get(), 0, "who is gone leaves nothing behind");
        }
    }
}
