//! The bench itself: who takes part, whose turn it is, and how each kind of work is measured.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::runtime::Runtime;

use crate::Result;
use crate::client::Client;
use crate::launch::{self, Cpus};
use crate::load::Loads;
use crate::options::Options;
use crate::origin::{Counts, MIB, Origin};
use crate::peer::Peer;
use crate::proxy::{Place, Proxy};
use crate::report::{Figure, Report};
use crate::usage::{self, Usage};
use crate::work::{Pace, Work};

/// Idle connections held: enough that what one costs stands out from what the process costs.
const HELD: usize = 2000;

/// Starts in one turn, whose median counts: one takes some milliseconds.
const STARTS: usize = 5;

/// How long a load may take to its first request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures what `options` ask for and prints the tables on stdout, the progress on stderr.
pub(crate) fn run(options: &Options) -> Result<()> {
    let cpus = Cpus::take()?;
    launch::raise_descriptors()?;
    let directory = tempfile::Builder::new()
        .prefix("portcullis-peers-")
        .permissions(fs::Permissions::from_mode(0o711))
        .tempdir()?;
    launch::clean_up_on_signals(directory.path())?;
    let mut bench = Bench::prepare(cpus, directory.path(), options.quick)?;
    let mut report = Report::new(options.rounds());
    let contestants = bench.contestants(options, &mut report);
    if contestants.is_empty() {
        return Err("no proxy to measure".into());
    }
    for work in options.works() {
        bench.take_turns(work, &contestants, &mut report);
    }
    println!("{report}");
    Ok(())
}

/// A proxy that is installed and came up once.
struct Contestant {
    peer: Peer,
    program: PathBuf,
}

struct Bench {
    cpus: Cpus,
    pace: Pace,
    directory: PathBuf,
    origin: Origin,
    loads: Loads,
    client: Client,
    runtime: Runtime,
    /// Proxies started so far, so that each has a directory of its own.
    started: usize,
}

impl Bench {
    fn prepare(cpus: Cpus, directory: &Path, quick: bool) -> Result<Bench> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        for (name, text) in
            [("both.pem", certificate.clone() + &key), ("cert.pem", certificate), ("cert.key", key)]
        {
            fs::write(directory.join(name), text)?;
            fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o600))?;
        }
        Ok(Bench {
            cpus,
            pace: if quick { Pace::QUICK } else { Pace::FULL },
            directory: directory.to_path_buf(),
            origin: Origin::start(cpus.load)?,
            loads: Loads::prepare(directory)?,
            client: Client::new()?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            started: 0,
        })
    }

    /// Starts every wanted proxy once; who is missing or does not come up is said and left out.
    fn contestants(&mut self, options: &Options, report: &mut Report) -> Vec<Contestant> {
        let mut contestants = Vec::new();
        for peer in options.proxies() {
            let Some(program) = peer.program(&options.portcullis) else {
                report.note(format!("{} is not installed: skipped.", peer.name()));
                continue;
            };
            let version = peer.version(&program);
            let contestant = Contestant { peer, program };
            match self.start(&contestant) {
                Ok(_) => {
                    report.column(peer, version.as_deref());
                    contestants.push(contestant);
                }
                Err(error) => report.note(format!("{} {error}: skipped.", peer.name())),
            }
        }
        contestants
    }

    /// All rounds of one kind of work; a proxy that fails in one of them is left out of the row.
    fn take_turns(&mut self, work: Work, contestants: &[Contestant], report: &mut Report) {
        let mut present: Vec<&Contestant> = contestants.iter().collect();
        for round in 1..=report.rounds() {
            present.retain(|contestant| match self.calmest(work, contestant) {
                Ok(figure) => {
                    eprintln!("{work:?} {round} {}: {figure}", contestant.peer.name());
                    report.add(work, contestant.peer, figure);
                    true
                }
                Err(error) => {
                    report.drop(work, contestant.peer);
                    report.note(format!("{work:?}: {}: {error}.", contestant.peer.name()));
                    false
                }
            });
        }
    }

    /// One turn of one proxy, taken again if others used its CPU meanwhile.
    fn calmest(&mut self, work: Work, contestant: &Contestant) -> Result<Figure> {
        let mut figure = self.measure(work, contestant)?;
        for _ in 1..self.pace.attempts {
            if figure.is_calm() {
                break;
            }
            let again = self.measure(work, contestant)?;
            figure = if again.disturbed < figure.disturbed { again } else { figure };
        }
        Ok(figure)
    }

    /// One turn of one proxy, from its start to its end.
    fn measure(&mut self, work: Work, contestant: &Contestant) -> Result<Figure> {
        match work {
            Work::Handshake => self.handshakes(contestant, 1),
            Work::Flood => self.handshakes(contestant, 32),
            Work::Idle => self.idle(contestant),
            Work::Start => self.starts(contestant),
            _ => self.load(work, contestant),
        }
    }

    /// Processor time and units of work between two moments in the middle of a steady load. The
    /// origin counts the units, so that opening connections is not mistaken for work.
    fn load(&mut self, work: Work, contestant: &Contestant) -> Result<Figure> {
        let proxy = self.start(contestant)?;
        let processes = proxy.processes();
        let idle = self.origin.counts()?.requests;
        let Pace { warm_up, window, .. } = self.pace;
        let seconds = (warm_up + window).as_secs() + 1;
        let load = self.loads.start(work, proxy.address, self.cpus.load, seconds)?;
        let deadline = Instant::now() + PATIENCE;
        while self.origin.counts()?.requests == idle && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(warm_up);
        let (begun, before, first) =
            (Instant::now(), Usage::of(&processes, self.cpus.proxy)?, self.origin.counts()?);
        thread::sleep(window);
        let (time, after, last) =
            (begun.elapsed(), Usage::of(&processes, self.cpus.proxy)?, self.origin.counts()?);
        load.finish()?;
        Figure::processor(after.since(before), units(work, first, last), time)
    }

    /// A client that waits for each handshake finds the proxy's caches cold, a flood finds them
    /// warm: the first costs half as much again.
    fn handshakes(&mut self, contestant: &Contestant, lanes: usize) -> Result<Figure> {
        let proxy = self.start(contestant)?;
        let processes = proxy.processes();
        let Pace { warm_up, window, .. } = self.pace;
        self.runtime.block_on(self.client.handshakes(proxy.address, lanes, warm_up))?;
        let (begun, before) = (Instant::now(), Usage::of(&processes, self.cpus.proxy)?);
        let done = self.runtime.block_on(self.client.handshakes(proxy.address, lanes, window))?;
        let (time, after) = (begun.elapsed(), Usage::of(&processes, self.cpus.proxy)?);
        Figure::processor(after.since(before), done as f64, time)
    }

    /// What the proxy's memory has grown by once its connections have settled.
    fn idle(&mut self, contestant: &Contestant) -> Result<Figure> {
        let proxy = self.start(contestant)?;
        let before = usage::pss(&proxy.processes())?;
        let held = self.runtime.block_on(self.client.hold(proxy.address, HELD))?;
        thread::sleep(self.pace.settle);
        let after = usage::pss(&proxy.processes())?;
        drop(held);
        Ok(Figure::plain(after.saturating_sub(before) as f64 / HELD as f64))
    }

    fn starts(&mut self, contestant: &Contestant) -> Result<Figure> {
        let mut times = Vec::with_capacity(STARTS);
        for _ in 0..STARTS {
            times.push(self.start(contestant)?.started_in.as_secs_f64() * 1e3);
        }
        Ok(Figure::plain(crate::report::median(times)))
    }

    fn start(&mut self, contestant: &Contestant) -> Result<Proxy> {
        self.started += 1;
        let place = Place {
            cpu: self.cpus.proxy,
            program: &contestant.program,
            directory: self.directory.join(self.started.to_string()),
            certificate: &self.directory,
            origin: self.origin.address(),
        };
        Proxy::start(contestant.peer, &place, &self.client, &self.runtime)
    }
}

/// Large bodies are counted by their bytes: at either moment some are half way.
fn units(work: Work, first: Counts, last: Counts) -> f64 {
    match work {
        Work::Down1 | Work::Down2 => (last.sent - first.sent) as f64 / MIB as f64,
        Work::Up1 => (last.received - first.received) as f64 / MIB as f64,
        _ => (last.requests - first.requests) as f64,
    }
}
