//! A soak: all kinds of clients at once, right ones and rough ones, before applications that fail,
//! while the operator reloads, swaps certificates and rotates logs. It ends with a table, and fails
//! unless nothing grows and every failure has a fault to explain it.
//!
//! A right client before an application in good health gets its own answer, whole, and never a 5xx:
//! bodies and fields carry a marker of the request, which is checked at both ends. What a fault
//! that was put there explains is said beside that fault, in `faults.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on should stop where it stands"
)]
#![allow(unreachable_pub, reason = "the harness reads as a library of its own")]

#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the harness serves more than the soak")]
mod harness;

mod options;
mod dice;
mod content;
mod ledger;
mod world;
mod apps;
mod right;
mod faults;
mod rough;
mod operator;
mod gauge;
mod report;

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use apps::Apps;
use gauge::{Gauge, Sample};
use harness::tools::{own_port, stderr};
use harness::{Client, Proxy, Setup, pki};
use ledger::{Counts, Ledger};
use operator::Operator;
use options::{Options, Spoil, USAGE};
use report::Report;
use world::World;

/// The longest wait for anything, on a machine that has much else to do: who waits for longer is
/// stuck.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What memory and descriptors may grow by in the second half, and what that leaves at least for
/// each minute.
const MEMORY_SLACK: (f64, f64) = (4096.0, 100.0);
const DESCRIPTOR_SLACK: (f64, f64) = (24.0, 1.0);
const THREAD_SLACK: (f64, f64) = (1.0, 0.1);

/// How long connections may take to be gone once their clients are.
const SETTLING: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("soak: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("soak: {:.1} minutes, seed {}", options.time.as_secs_f64() / 60.0, options.seed);
    world::keep_last_words();
    let (report, proxy) = soak(&options);
    let is_well = report.print();
    // The table has said already what this would complain about.
    panic::set_hook(Box::new(|_| {}));
    let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(proxy)));
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn soak(options: &Options) -> (Report, Proxy) {
    let ledger = Arc::new(Ledger::new());
    let mut apps = Apps::start(&ledger, options.spoil == Some(Spoil::Answers));
    let second_port = own_port();
    let mut proxy = operator::setup(0, &apps, second_port).start();
    let metrics = proxy.metrics();
    let mut gauge = Gauge::new(&proxy);
    let before = gauge.read();

    let ports = (proxy.http(), proxy.https());
    let settings = (pki::trusting(&["http/1.1"]), pki::trusting(&["h2"]));
    let world = Arc::new(World::new(ports, settings, options.seed, &ledger));
    let actors = actors(&world, options.spoil);
    let mut operator = Operator::new(&mut proxy, &mut apps, &ledger, (options.seed, second_port));
    let began = Instant::now();
    let mut told = began;
    while began.elapsed() < options.time {
        let turn = Instant::now();
        operator.work();
        let sample = gauge.read();
        if told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            tell(began.elapsed(), &ledger.counts(), sample);
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(turn.elapsed()));
    }
    world.end();
    for actor in actors {
        let _ = actor.join();
    }
    operator.tidy_up();
    let setups = [1, 0].map(|variant| operator::setup(variant, &apps, second_port));
    // The proxy keeps connections to applications for a while, unless those end them.
    drop(apps);
    let left = Instant::now();
    let (after, scraped) = settle(&mut Gauge::new(&proxy), before, || scrape(metrics));
    let settled = left.elapsed();
    let reloads = reload_at_rest(&mut proxy, &setups);
    let end = end(&mut proxy);
    let report = Report {
        seed: options.seed,
        time: options.time,
        counts: ledger.counts(),
        memory: gauge.trend(MEMORY_SLACK.0, MEMORY_SLACK.1, |sample| sample.rss),
        descriptors: gauge
            .trend(DESCRIPTOR_SLACK.0, DESCRIPTOR_SLACK.1, |sample| sample.descriptors),
        threads: gauge.trend(THREAD_SLACK.0, THREAD_SLACK.1, |sample| sample.threads),
        at_rest: (before, after),
        settled,
        reloads,
        connections: scraped["portcullis_connections"],
        panics: scraped["portcullis_panics_total"],
        lines_lost: scraped["portcullis_access_log_lines_lost_total"],
        lines: logged_lines(&proxy),
        end,
    };
    (report, proxy)
}

/// Sends in all clients.
fn actors(world: &Arc<World>, spoil: Option<Spoil>) -> Vec<JoinHandle<()>> {
    let mut actors = Vec::new();
    for (kind, count, turn) in [
        ("h1 keep-alive", 3, right::kept as world::Turn),
        ("h1 close", 2, right::closing),
        ("h1 pipelined", 2, right::pipelined),
        ("h2 streams", 2, right::streams),
        ("gRPC", 2, right::grpc),
        ("WebSocket", 2, right::socket),
        ("WebSocket, held", 3, right::held_socket),
        ("redirect", 1, right::redirected),
        ("TLS", 1, right::handshake),
        ("slow client", 2, right::slow),
        ("faulty application", 3, faults::faulty),
        ("absent application", 1, faults::absent),
        ("restarting application", 2, faults::restarting),
    ] {
        actors.extend(world::play(world, kind, count, true, turn));
    }
    for (kind, count, turn) in [
        ("part", 2, rough::part as world::Turn),
        ("half reader", 1, rough::half_reader),
        ("slow reader", 2, rough::slow_reader),
        ("slow writer", 3, rough::slow_writer),
        ("unread", 1, rough::unread),
        ("garbage", 1, rough::garbage),
        ("socket", 1, rough::socket),
        ("frames", 1, rough::frames),
        ("broken upload", 1, rough::broken_upload),
    ] {
        actors.extend(world::play(world, kind, count, false, turn));
    }
    if spoil == Some(Spoil::Descriptors) {
        actors.extend(world::play(world, "never gone", 1, false, rough::never_gone));
    }
    actors
}

/// The live line.
fn tell(at: Duration, counts: &Counts, sample: Sample) {
    println!(
        "soak: {:>5} s: {} right, {} explained, {} rough, {} operated, {} unexplained; {} KiB, {} \
         descriptors, {} threads",
        at.as_secs(),
        Counts::sum(&counts.right),
        Counts::sum(&counts.explained),
        Counts::sum(&counts.rough),
        Counts::sum(&counts.operated),
        Counts::sum(&counts.unexplained),
        sample.rss,
        sample.descriptors,
        sample.threads,
    );
}

/// Waits until the proxy holds no more than before the load, or too long; what it holds then.
fn settle(
    gauge: &mut Gauge,
    before: Sample,
    scrape: impl Fn() -> BTreeMap<String, f64>,
) -> (Sample, BTreeMap<String, f64>) {
    let deadline = Instant::now() + SETTLING;
    loop {
        let scraped = scrape();
        let sample = gauge.read();
        let is_settled = sample.descriptors <= before.descriptors
            && sample.threads <= before.threads
            && scraped["portcullis_connections"] == 0.0;
        if is_settled || Instant::now() >= deadline {
            return (sample, scraped);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Reloads again and again while nobody is connected, so that what each leaves behind shows in KiB
/// and in descriptors; the first ones are for the allocator to get used to it.
fn reload_at_rest(proxy: &mut Proxy, setups: &[Setup; 2]) -> (Sample, Sample) {
    let mut gauge = Gauge::new(proxy);
    let mut reload = |times: usize| {
        for _ in 0..times {
            for setup in setups {
                proxy.rewrite(|_| setup.clone());
                let output = proxy.reload(&[]);
                assert!(output.status.success(), "{}", stderr(&output));
            }
        }
        gauge.read()
    };
    (reload(30), reload(RELOADS / 2))
}

/// How many reloads at rest are measured.
pub const RELOADS: usize = 100;

/// The sums over all labels.
fn scrape(metrics: std::net::SocketAddr) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    let text = Client::plain(metrics, "localhost").get("/metrics").text();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or_default();
        *sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap_or_default();
    }
    sums
}

/// Stops the proxy; what it said if that did not end well.
fn end(proxy: &mut Proxy) -> Option<String> {
    proxy.signal(rustix::process::Signal::TERM);
    let status = proxy.wait_for_exit();
    let words = proxy.words();
    let panics = words.lines().filter(|line| line.contains("panicked at"));
    let panics: Vec<&str> = panics.take(3).collect();
    if status.success() && panics.is_empty() {
        return None;
    }
    Some(format!("{status} {}", panics.join(" | ")))
}

/// How many lines of the access log are of right requests to healthy applications.
fn logged_lines(proxy: &Proxy) -> u64 {
    let logs = std::fs::read_dir(proxy.path("")).unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let is_log = entry.file_name().to_string_lossy().starts_with("access.log");
        is_log.then(|| std::fs::read(entry.path()).unwrap_or_default())
    });
    logs.map(|bytes| memchr::memmem::find_iter(&bytes, b"/s/w/").count() as u64).sum()
}
