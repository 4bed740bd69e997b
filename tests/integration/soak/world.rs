//! What all actors share, and the threads that they are.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ClientConfig;

use super::apps::hex;
use super::dice::{Dice, mix};
use super::ledger::Ledger;
use super::right;
use crate::harness::{Client, Wire};

/// The proxy as clients see it, and where they write down what they saw.
pub struct World {
    /// Where plain HTTP is answered.
    pub http: SocketAddr,
    /// Where HTTPS is answered.
    pub https: SocketAddr,
    /// Settings for TLS that remember sessions.
    pub resuming: Arc<ClientConfig>,
    /// Settings for TLS and HTTP/2.
    pub h2: Arc<ClientConfig>,
    /// What all decisions are drawn from.
    pub seed: u64,
    /// What became of everything.
    pub ledger: Arc<Ledger>,
    over: AtomicBool,
    markers: AtomicU64,
}

/// The site that is served over HTTPS and redirected on plain HTTP.
pub const SITE: &str = "app.test";

/// The site that is served on plain HTTP too.
pub const PLAIN_SITE: &str = "plain.test";

impl World {
    /// A proxy that listens there.
    pub fn new(
        (http, https): (SocketAddr, SocketAddr),
        (resuming, h2): (Arc<ClientConfig>, Arc<ClientConfig>),
        seed: u64,
        ledger: &Arc<Ledger>,
    ) -> Self {
        let (over, markers) = (AtomicBool::new(false), AtomicU64::new(mix(seed)));
        Self { http, https, resuming, h2, seed, ledger: ledger.clone(), over, markers }
    }

    /// A marker that no other request has.
    pub fn marker(&self) -> u64 {
        mix(self.markers.fetch_add(1, Ordering::Relaxed))
    }

    /// A path that asks for this, and its marker.
    pub fn path(&self, class: char, action: &str, size: u64) -> (String, u64) {
        let marker = self.marker();
        (format!("/s/{class}/{action}/{}/{size}", hex(marker)), marker)
    }

    /// A client over TLS or, to another site, in the clear.
    pub fn client(&self, is_secure: bool) -> Client {
        if is_secure { Client::secure(self.https, SITE) } else { self.plain_client() }
    }

    /// The name of the site that [`client`](Self::client) asks.
    pub fn host(is_secure: bool) -> &'static str {
        if is_secure { SITE } else { PLAIN_SITE }
    }

    /// Bytes over TLS or, to another site, in the clear.
    pub fn wire(&self, is_secure: bool) -> std::io::Result<Wire> {
        if is_secure {
            Wire::try_tls(self.https, self.resuming.clone(), SITE)
        } else {
            Ok(Wire::connect(self.http))
        }
    }

    /// Whether the load shall end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Ends the load.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Waits that long, or until the load ends.
    pub fn rest(&self, time: Duration) {
        let step = Duration::from_millis(250);
        let mut left = time;
        while !left.is_zero() && !self.is_over() {
            thread::sleep(left.min(step));
            left = left.saturating_sub(step);
        }
    }

    fn plain_client(&self) -> Client {
        Client::plain(self.http, PLAIN_SITE)
    }
}

/// What one actor does again and again.
pub type Turn = fn(&World, &mut Dice);

/// Lets `count` actors play `turn` until the load ends. A turn that cannot go on is an unexplained
/// failure of that kind if they are right clients, and else means nothing. After each rough turn
/// comes a right one: it shows that nobody else was harmed, and holds the load down to what the
/// machine can do.
pub fn play(
    world: &Arc<World>,
    kind: &'static str,
    count: usize,
    is_right: bool,
    turn: Turn,
) -> Vec<JoinHandle<()>> {
    let actor = |number| {
        let world = world.clone();
        thread::spawn(move || {
            let mut dice = Dice::new(world.seed, kind, number);
            // Not all at once.
            world.rest(dice.pause(500));
            while !world.is_over() {
                attempt(&world, kind, is_right, || turn(&world, &mut dice));
                if !is_right {
                    attempt(&world, NEIGHBOUR, true, || right::neighbour(&world, &mut dice));
                }
            }
        })
    };
    (0..count).map(actor).collect()
}

/// What a right client after a rough one is called.
pub const NEIGHBOUR: &str = "after a rough client";

fn attempt(world: &World, kind: &'static str, is_right: bool, turn: impl FnOnce()) {
    let outcome = panic::catch_unwind(AssertUnwindSafe(turn));
    let said = LAST_WORDS.take();
    if outcome.is_err() && is_right {
        let (place, words) = said.split_once(": ").unwrap_or(("", &said));
        world.ledger.unexplained(kind, place, words);
    }
    if outcome.is_err() {
        world.rest(Duration::from_millis(100));
    }
}

thread_local! {
    static LAST_WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a turn says at its end, instead of printing it.
pub fn keep_last_words() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some("main") {
            return usual(info);
        }
        let place = info.location().map_or_else(String::new, |place| {
            let file = place.file().rsplit('/').next().unwrap_or_default();
            format!("{file}:{}", place.line())
        });
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let words = text.or(payload.downcast_ref().copied()).unwrap_or("no word");
        LAST_WORDS.set(format!("{place}: {words}"));
    }));
}
