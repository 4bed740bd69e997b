//! The task of one certificate: it waits until the certificate is due, and has it got.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use super::attempt::{Attempt, Failed, Issued, Unreached};
use super::bell::Bell;
use super::challenge::choose::Solver;
use super::challenge::pending::Pending;
use super::failure::{Failure, Kind};
use super::ledger::{self, Ledger};
use super::names::{Wanted, stem};
use super::order;
use super::renewal_info;
use super::roots::Roots;
use super::schedule;
use super::standing::{self, Fault, Round, Standing};
use super::stored::{self, Damage, Stored};
use super::transport::Transport;
use super::vault::{Held, Vault};
use crate::config::Acme;
use crate::helper::client::Line;
use crate::observe::metrics::{AcmeOutcome, WorkerMetrics};
use crate::tls::facts::{date, span};

/// How long to wait when the storage does not work.
const BROKEN: Duration = Duration::from_secs(30);

/// What all keepers share.
pub(super) struct Shared {
    pub(super) vault: Box<dyn Vault>,
    pub(super) acme: Acme,
    pub(super) solvers: Vec<Solver>,
    pub(super) roots: Roots,
    pub(super) pending: Arc<Pending>,
    /// Where hooks are run, if anywhere.
    pub(super) helper: Option<Line>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) unreached: Unreached,
    /// How many may ask at once.
    pub(super) turns: Arc<Semaphore>,
    /// Told when what is kept is not what is served.
    pub(super) news: UnboundedSender<()>,
    /// Whether the local authority stands in where there is no certificate.
    pub(super) stands_in: bool,
}

/// The task of one certificate.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) wanted: Wanted,
    pub(super) bell: Arc<Bell>,
    pub(super) standing: Arc<Mutex<Standing>>,
    /// Whether nothing was tried yet by this keeper: what kept an authority out of reach may have
    /// been mended.
    pub(super) is_eager: bool,
    /// What is served.
    pub(super) served: Option<CertificateDer<'static>>,
    /// Why the storage did not work at the last attempt.
    pub(super) fault: Option<Fault>,
}

impl Keeper {
    /// One who does not wait for what is to come, but does what he is told once. He waits out every
    /// failure.
    pub(super) fn for_a_time(shared: &Arc<Shared>, wanted: Wanted) -> Self {
        Self {
            shared: Arc::clone(shared),
            wanted,
            bell: Arc::default(),
            standing: Arc::default(),
            is_eager: false,
            served: None,
            fault: None,
        }
    }

    /// Looks how the certificate stands; asks the authority when it wants it renewed, where that
    /// is to be known.
    pub(super) async fn survey(&mut self) -> Result<Round, Failure> {
        let (round, now) = (self.round()?, SystemTime::now());
        match &round.stored {
            Some(stored) if round.due > now && round.look <= now => {
                self.ask_for_window(stored).await?;
                self.round()
            }
            _ => Ok(round),
        }
    }

    /// Has the certificate got, where it is due, and returns when it no longer is: when it was got,
    /// by whomever, or could not be.
    pub(super) async fn once(&mut self) -> Result<Round, Failure> {
        loop {
            let pause = self.turn().await?;
            let round = self.round()?;
            if round.due > SystemTime::now() {
                return Ok(round);
            }
            tokio::time::sleep(pause.min(Duration::from_secs(1))).await;
        }
    }

    /// Has the certificate got whether it is due or not, and returns how it stands then.
    pub(super) async fn force(&mut self) -> Result<Round, Failure> {
        self.bell.force();
        loop {
            let pause = self.turn().await?;
            if !self.bell.is_forced() {
                return self.round();
            }
            tokio::time::sleep(pause.min(Duration::from_secs(1))).await;
        }
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let (stored, ledger) = self.look()?;
        let due = self.due(stored.as_ref(), &ledger);
        let leaf = stored.as_ref().and_then(|stored| stored.certified.cert.first());
        let is_withdrawn = ledger.withdraws(leaf);
        Ok(Round { stored, due, look: due.min(ledger.window_until()), is_withdrawn })
    }

    /// Goes on for ever.
    pub(super) async fn run(mut self) {
        loop {
            let pause = match self.turn().await {
                Ok(pause) => {
                    if self.fault.take().is_some() {
                        self.standing().fault = None;
                    }
                    pause
                }
                Err(failure) => {
                    self.suffer(&failure);
                    BROKEN
                }
            };
            let _ = timeout(pause, self.bell.rung()).await;
        }
    }

    /// Looks, and does what is due; returns how long there is nothing to do.
    async fn turn(&mut self) -> Result<Duration, Failure> {
        let now = SystemTime::now();
        let (stored, ledger) = self.look()?;
        let due = self.due(stored.as_ref(), &ledger);
        self.tell(stored.as_ref(), &ledger, due, false);
        let life = stored.as_ref().map(Stored::life);
        let is_forced = self.bell.is_forced();
        if due > now && !is_forced {
            let poll = schedule::poll(life);
            if let Some(stored) = stored.filter(|_| ledger.window_is_old(now)) {
                self.ask_for_window(&stored).await?;
                // It may be due now.
                return Ok(Duration::from_secs(1));
            }
            return Ok(due.duration_since(now).unwrap_or_default().min(poll));
        }
        let turns = Arc::clone(&self.shared.turns);
        let _turn = turns.acquire().await;
        let Some(held) = self.lock()? else { return Ok(Duration::from_secs(1)) };
        // Another process may have been here while we waited.
        let (stored, mut ledger) = self.look()?;
        if self.due(stored.as_ref(), &ledger) > SystemTime::now() && !is_forced {
            return Ok(Duration::ZERO);
        }
        if is_forced {
            ledger.request();
            ledger.write(&*self.shared.vault, &self.wanted.names, &held)?;
        }
        self.bell.is_heard();
        self.is_eager = false;
        self.tell(stored.as_ref(), &ledger, due, true);
        self.attempt(stored.as_ref(), &mut ledger, (&held, is_forced)).await?;
        drop(held);
        Ok(Duration::ZERO)
    }

    /// The storage does not work: nobody is asked to any purpose before it does, and who looks is
    /// told.
    fn suffer(&mut self, failure: &Failure) {
        let now = SystemTime::now();
        self.shared.metrics.acme.count(AcmeOutcome::Storage);
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let serving = match standing.not_after {
            Some(end) if now < end => format!("; the old one serves until {}", date(end)),
            _ => String::new(),
        };
        tracing::error!(
            "site {}: no certificate for {}: {failure}{serving}; the next try is in {BROKEN:?}",
            self.wanted.site,
            self.wanted.names.join(", "),
        );
        let fault = Fault { at: now, words: failure.words.clone(), next: now + BROKEN };
        standing.is_asking = false;
        standing.fault = Some(fault.clone());
        drop(standing);
        self.fault = Some(fault);
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> Result<Option<Held>, Failure> {
        Ok(self.shared.vault.lock(&stem(&self.wanted.names))?)
    }

    /// What is kept. What is damaged is set aside; what is new is told.
    fn look(&mut self) -> Result<(Option<Stored>, Ledger), Failure> {
        let vault = &*self.shared.vault;
        let mut ledger = Ledger::read(vault, &self.wanted.names)?;
        if ledger.is_damaged()
            && let Some(held) = self.lock()?
        {
            vault.set_aside(&ledger::entry(&self.wanted.names), &held)?;
            ledger.write(vault, &self.wanted.names, &held)?;
        }
        let stored = match stored::read(vault, &self.wanted.names) {
            Ok(stored) => stored,
            Err(Damage::Damaged(words)) => {
                tracing::error!("site {}: {words}; it is set aside and got anew", self.wanted.site);
                if let Some(held) = self.lock()? {
                    vault.set_aside(&stored::entry(&self.wanted.names), &held)?;
                }
                None
            }
            Err(Damage::Unreadable(words)) => {
                return Err(Failure::new(Kind::Storage, words));
            }
        };
        let leaf = stored.as_ref().and_then(|stored| stored.certified.cert.first());
        // What cannot be read serves on; what was revoked for good does not.
        let is_withdrawn = ledger.is_held() && self.served.is_some();
        if leaf != self.served.as_ref() && (stored.is_some() || is_withdrawn) {
            self.served = leaf.cloned();
            // Nobody listens any more when the program ends.
            let _ = self.shared.news.send(());
        }
        Ok((stored, ledger))
    }

    /// When the certificate is to be asked for.
    fn due(&self, stored: Option<&Stored>, ledger: &Ledger) -> SystemTime {
        standing::due(&self.wanted, stored, ledger, self.is_eager)
    }

    async fn attempt(
        &self,
        stored: Option<&Stored>,
        ledger: &mut Ledger,
        (held, is_forced): (&Held, bool),
    ) -> Result<(), Failure> {
        let shared = &self.shared;
        let names = &self.wanted.names;
        ledger.names.clone_from(names);
        let result = Attempt {
            vault: &*shared.vault,
            held,
            wanted: &self.wanted,
            acme: &shared.acme,
            solvers: &shared.solvers,
            roots: &shared.roots,
            pending: &shared.pending,
            helper: shared.helper.as_ref(),
            unreached: &shared.unreached,
            is_forced,
            ledger,
        }
        .run()
        .await;
        let now = SystemTime::now();
        match result {
            Ok(Issued { directory, text, stored }) => {
                let kept = shared.vault.put(&stored::entry(names), text.as_bytes(), held);
                kept.map_err(|error| {
                    let words = format!("{directory} has issued one that is not kept: {error}");
                    Failure::new(Kind::Storage, words)
                })?;
                let left = stored.facts.not_after.duration_since(now).unwrap_or_default();
                ledger.succeed(&directory, names, now);
                ledger.rest(left, now);
                ledger.write(&*shared.vault, names, held)?;
                shared.vault.remove(&order::entry(names), held)?;
                shared.metrics.acme.count(AcmeOutcome::Issued);
                tracing::info!(
                    "site {}: {directory} has issued a certificate for {}, valid until {}",
                    self.wanted.site,
                    names.join(", "),
                    date(stored.facts.not_after)
                );
                let dates = (stored.facts.not_before, stored.facts.not_after);
                if schedule::renewal(dates, None, &stem(names)) <= now {
                    tracing::warn!(
                        "site {}: a third of its life or less is left of it already: is the clock \
                         of this host right? It is renewed in {}",
                        self.wanted.site,
                        span(ledger.rests_until().duration_since(now).unwrap_or_default())
                    );
                }
            }
            // What follows from it could not be remembered.
            Err(Failed { failure, .. }) if failure.kind == Kind::Storage => return Err(failure),
            Err(Failed { directory, failure }) => {
                let earliest = failure.retry_after.map(|wait| now + wait);
                let what = (directory.as_str(), failure.words.as_str());
                let life = stored.map(Stored::life);
                let wait = ledger.fail(what, failure.cost(), life, earliest, now);
                ledger.tried(&failure.ways);
                ledger.write(&*shared.vault, names, held)?;
                shared.metrics.acme.count(failure.outcome());
                self.complain(stored, &failure, &directory, (ledger, wait));
            }
        }
        Ok(())
    }

    fn complain(
        &self,
        stored: Option<&Stored>,
        failure: &Failure,
        directory: &str,
        (ledger, wait): (&Ledger, Duration),
    ) {
        let due = self.due(stored, ledger);
        let serving = match stored {
            Some(stored) if stored.is_valid(SystemTime::now()) => {
                format!("the old one serves until {}", date(stored.facts.not_after))
            }
            Some(_) => "the old one has expired".to_owned(),
            None if self.shared.stands_in => {
                "one of the local authority serves, which browsers do not trust".to_owned()
            }
            None => "its handshakes are refused".to_owned(),
        };
        // One that was forced may have come long before its time.
        let next = if due > ledger.next_try() {
            format!(
                "it is not due before {}, and nobody is asked until then: `portcullis certs \
                 renew` asks again",
                date(due)
            )
        } else {
            format!("the next try is in {}", span(wait))
        };
        tracing::error!(
            "site {}: no certificate for {}: {directory}: {failure}; {serving}; {next}",
            self.wanted.site,
            self.wanted.names.join(", "),
        );
    }

    /// Asks the authority when it wants the certificate renewed. That it does not say is no
    /// failure.
    async fn ask_for_window(&self, stored: &Stored) -> Result<(), Failure> {
        let Some(held) = self.lock()? else { return Ok(()) };
        let shared = &self.shared;
        let mut ledger = Ledger::read(&*shared.vault, &self.wanted.names)?;
        let authority = ledger.directory.as_ref().and_then(|directory| {
            shared.acme.authorities.iter().find(|authority| authority.directory == *directory)
        });
        let life = stored.life();
        let (window, hold) = match (authority, stored.certified.cert.first()) {
            (Some(authority), Some(leaf)) => match shared.roots.of(authority.ca.as_ref()) {
                Ok(tls) => {
                    let transport = Transport::new(tls);
                    let asked = renewal_info::ask(&transport, &authority.directory, leaf).await;
                    asked.unwrap_or_else(|failure| {
                        tracing::debug!("site {}: {failure}", self.wanted.site);
                        (ledger.window(), life / 20)
                    })
                }
                Err(_) => (None, life / 20),
            },
            _ => (None, life),
        };
        // A window that comes too late is of no use.
        let hold = hold.min(life / 10).max(Duration::from_secs(5));
        ledger.windowed(window, hold, SystemTime::now());
        ledger.write(&*shared.vault, &self.wanted.names, &held)?;
        Ok(())
    }

    fn tell(&self, stored: Option<&Stored>, ledger: &Ledger, due: SystemTime, is_asking: bool) {
        let standing = Standing::of(&self.wanted, stored, ledger, due);
        *self.standing() = Standing { is_asking, fault: self.fault.clone(), ..standing };
    }
}
