//! Cases by the thousand, played by several clients at once before one proxy as it is shipped.

use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

use super::SEEDS;
use super::backend::{Backend, Seen};
use crate::harness::{Client, Proxy, Wire, eventually, pki};

/// Clients at once.
const CLIENTS: usize = 6;

/// As many complaints are shown.
const SHOWN: usize = 12;

/// Plays a case of a seed; it is given what connects, over TLS or not.
pub type Player = dyn Fn(&Campaign, &mut dyn FnMut(bool) -> Wire, u64, u32) -> Play + Sync;

/// Tells what is wrong with a case whose requests were seen so.
pub type Judge = dyn FnOnce(&[Seen]) -> Vec<String> + Send;

/// What is played.
pub struct Trial<'a> {
    /// What is spoken.
    pub protocol: &'a str,
    /// Cases of each seed.
    pub cases: u32,
    /// Bent requests that have to be looked at by the proxy in all.
    pub wanted: usize,
    /// Of a hundred of those, so many have to pass: what refuses everything shows nothing.
    pub passing: usize,
    /// Plays a case over a connection, in the clear or over TLS.
    pub play: &'a Player,
}

/// A case that was played.
pub struct Play {
    /// What was sent.
    pub shown: String,
    /// What is wrong, once it is known what the application has seen of it.
    pub judge: Box<Judge>,
}

/// The figures of a run.
#[derive(Default)]
pub struct Campaign {
    bent: AtomicUsize,
    next: AtomicU32,
}

impl Campaign {
    /// Counts requests that were bent, and that the proxy has looked at.
    pub fn count(&self, bent: usize) {
        self.bent.fetch_add(bent, Ordering::SeqCst);
    }
}

/// Plays all seeds and judges what came of it.
#[track_caller]
pub fn run(trial: &Trial<'_>) {
    let backend = Backend::start();
    let proxy = Proxy::plain_to(&backend).admin("metrics = '127.0.0.1:0'").start();
    let campaign = Campaign::default();
    let (plan, began) = (Plan::of(trial.cases), Instant::now());
    let played: Mutex<Vec<(u32, Play)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = campaign.next.fetch_add(1, Ordering::SeqCst);
                    let Some((seed, case)) = plan.case(number) else { break };
                    let mut wire = |is_sealed| connect(&proxy, trial.protocol, number, is_sealed);
                    let play = (trial.play)(&campaign, &mut wire, seed, case);
                    played.lock().unwrap().push((number, play));
                }
            });
        }
    });
    let took = began.elapsed();
    expect_health(&proxy);
    drop(proxy);
    eventually("the application's connections to end", || backend.connections() == 0);
    let (bent, passed) = (campaign.bent.into_inner(), backend.count());
    println!(
        "{}: {bent} bent requests on {} connections in {took:?}, {passed} requests passed, seeds {:?}",
        trial.protocol,
        played.lock().unwrap().len(),
        plan.seeds
    );
    let mut complaints: Vec<String> = backend.violations();
    complaints.iter().take(SHOWN).for_each(|complaint| println!("not strict: {complaint}"));
    for (number, play) in played.into_inner().unwrap() {
        let found = (play.judge)(&backend.take(address(number)));
        if !found.is_empty() || plan.only.is_some() {
            let (seed, case) = plan.case(number).unwrap();
            let (found, shown) = (found.join("\n  "), play.shown);
            println!("MUTATION_SEED={seed} MUTATION_CASE={case}\n  {found}\n  {shown}");
            complaints.push(found);
        }
    }
    complaints.retain(|complaint| !complaint.is_empty());
    let shown = complaints[..complaints.len().min(SHOWN)].join("\n");
    assert!(complaints.is_empty(), "{} complaints\n{shown}", complaints.len());
    assert!(plan.is_partial || bent >= trial.wanted, "only {bent} bent requests");
    assert!(
        plan.is_partial || passed as usize * 100 > bent * trial.passing,
        "only {passed} requests passed"
    );
}

/// Which cases are played.
pub struct Plan {
    seeds: Vec<u64>,
    cases: u32,
    only: Option<u32>,
    is_partial: bool,
}

impl Plan {
    /// So many of each seed, or what the environment says.
    pub fn of(cases_each: u32) -> Self {
        let variable = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        // The hasher of each process has keys of its own.
        let drawn = RandomState::new().hash_one(std::process::id());
        let seed = variable("MUTATION_SEED");
        let seeds = seed.map_or_else(|| [SEEDS, &[drawn]].concat(), |seed| vec![seed]);
        let only = variable("MUTATION_CASE").map(|case| case as u32);
        let cases = variable("MUTATION_CASES").map(|cases| cases as u32);
        let is_partial = seed.is_some() || cases.is_some();
        let cases = if only.is_some() { 1 } else { cases.unwrap_or(cases_each) };
        Self { seeds, cases, only, is_partial }
    }

    /// The seed and the case of the client with this number.
    pub fn case(&self, number: u32) -> Option<(u64, u32)> {
        let seed = self.seeds.get((number / self.cases) as usize)?;
        Some((*seed, self.only.unwrap_or(number % self.cases)))
    }
}

/// Every client has an address of its own.
pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number)
}

fn connect(proxy: &Proxy, protocol: &str, number: u32, is_sealed: bool) -> Wire {
    let from = address(number).into();
    if !is_sealed {
        return Wire::connect_from(from, proxy.http());
    }
    let wire = Wire::connect_from(from, proxy.https());
    wire.try_seal(pki::trusting(&[protocol]), "app.test").unwrap()
}

/// No panic was caught, and whoever asks is answered.
#[track_caller]
fn expect_health(proxy: &Proxy) {
    for _ in 0..12 {
        assert_eq!(proxy.plain_client().get("/probe").status, 200);
        assert_eq!(proxy.client().http2().get("/probe").status, 200);
    }
    let metrics = Client::plain(proxy.metrics(), "localhost").get("/metrics").text();
    let panics: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("portcullis_panics_total")).collect();
    assert!(!panics.is_empty() && panics.iter().all(|line| line.ends_with(" 0")), "{panics:?}");
}
