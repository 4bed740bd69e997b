//! Who gets certificates for names that clients ask for: one task, on the thread of the keepers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep_until;

use super::book::{Book, Step, Verdict, Why};
use super::job::{Job, Outcome};
use super::question::Answer;
use super::shelf::{Demand, Wish};
use super::terms::{Rule, Terms};
use crate::observe::rate_limited::RateLimited;
use crate::tls::acme::failure::Failure;
use crate::tls::acme::ledger::Ledger;
use crate::tls::acme::standing::Round;
use crate::tls::acme::stored::{self, Stored};

/// Handshakes that may wait for the same name: the other places are for other names.
const WAITING: usize = 32;

/// Renewals at once.
const RENEWALS: usize = 4;

/// How often what is kept is looked at, at the most and at the least.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(60);

/// What the clerk is told.
pub(in crate::tls::acme) enum Order {
    /// To work under these terms from now on.
    Work(Option<Box<Terms>>),
    /// The certificate for this name was revoked: nobody is shown it any more.
    Forget(Box<str>),
    /// Somebody wants the certificate for this name renewed, due or not.
    Renew(Box<str>),
}

/// The clerk.
pub(in crate::tls::acme) struct Clerk {
    demand: Arc<Demand>,
    terms: Option<Arc<Terms>>,
    book: Book,
    /// Who waits for which name.
    waiting: HashMap<Box<str>, Vec<oneshot::Sender<bool>>>,
    kept: HashMap<Box<str>, Kept>,
    jobs: JoinSet<Outcome>,
    /// For which name each job is, and whether it renews what is kept.
    names: HashMap<Id, (Box<str>, Job)>,
    renewals: Arc<Semaphore>,
    refusals: RateLimited,
    next_look: Instant,
}

/// A certificate that lies on the shelf.
#[derive(Debug)]
struct Kept {
    /// When something is to be done about it.
    look: SystemTime,
    not_after: SystemTime,
    life: Duration,
    is_busy: bool,
}

impl Clerk {
    /// One who knows nothing yet, and fills this shelf.
    pub(in crate::tls::acme) fn new(demand: &Arc<Demand>) -> Self {
        let now = Instant::now();
        Self {
            demand: Arc::clone(demand),
            terms: None,
            book: Book::new(1, now),
            waiting: HashMap::new(),
            kept: HashMap::new(),
            jobs: JoinSet::new(),
            names: HashMap::new(),
            renewals: Arc::new(Semaphore::new(RENEWALS)),
            refusals: RateLimited::per_second(),
            next_look: now,
        }
    }

    /// Serves wishes until nobody gives terms any more. What is under way ends with it.
    pub(in crate::tls::acme) async fn run(
        mut self,
        mut wishes: Receiver<Wish>,
        mut orders: UnboundedReceiver<Order>,
    ) {
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some(done) = self.jobs.join_next_with_id() => self.settle(done),
                () = sleep_until(self.next_look.into()) => self.tend(),
                Some(wish) = wishes.recv() => self.take(wish),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Work(terms) => self.adopt(terms.map(|terms| *terms)),
            Order::Forget(name) => {
                self.put_away(&name);
                self.book.forget(&name);
            }
            Order::Renew(name) => {
                let Some(rule) = self.rule(&name) else { return };
                match self.kept.get_mut(&name) {
                    Some(kept) if kept.is_busy => {
                        return tracing::info!("the certificate for {name} is renewed already");
                    }
                    Some(kept) => kept.is_busy = true,
                    None => {}
                }
                self.start(Job::Force, &rule, &name);
            }
        }
    }

    /// Works under these terms from now on; what they do not allow is put away.
    fn adopt(&mut self, terms: Option<Terms>) {
        self.terms = terms.map(Arc::new);
        self.book.begin_anew(self.terms.as_ref().map_or(1, |terms| terms.a_minute()));
        let names: Vec<Box<str>> = self.kept.keys().cloned().collect();
        for name in names {
            if self.rule(&name).is_none() {
                self.put_away(&name);
            }
        }
    }

    fn rule(&self, name: &str) -> Option<Arc<Rule>> {
        self.terms.as_ref()?.rule(name).cloned()
    }

    /// A handshake waits for a certificate.
    fn take(&mut self, Wish { name, answer }: Wish) {
        if self.kept.contains_key(&name) {
            let _ = answer.send(true);
            return;
        }
        let Some(rule) = self.rule(&name) else {
            let _ = answer.send(false);
            return;
        };
        if let Some(is_there) = self.find(&rule, &name) {
            let _ = answer.send(is_there);
            return;
        }
        match self.book.want(&name, Instant::now()) {
            Step::Refuse(why) => {
                let _ = answer.send(false);
                return self.say_refused(&rule, &name, why);
            }
            Step::Ask => self.start(Job::Ask, &rule, &name),
            Step::Get => self.start_getting(&rule, &name),
            Step::Wait => {}
        }
        let waiting = self.waiting.entry(name).or_default();
        waiting.retain(|other| !other.is_closed());
        if waiting.len() < WAITING {
            waiting.push(answer);
        }
    }

    /// Looks into the storage; returns whether there is a certificate that can be shown, and `None`
    /// where there is none and one may be asked for.
    fn find(&mut self, rule: &Rule, name: &str) -> Option<bool> {
        let vault = &*self.terms.as_ref()?.shared().vault;
        let names = [name.to_owned()];
        let ledger = Ledger::read(vault, &names).unwrap_or_default();
        match stored::read(vault, &names) {
            _ if ledger.is_held() => {
                if let Some(suppressed) = self.refusals.pass(Instant::now()) {
                    tracing::info!(
                        suppressed,
                        "site {}: none for {name}: it was revoked, and none is got before \
                         `portcullis certs renew {name}`",
                        rule.site
                    );
                }
                Some(false)
            }
            Ok(stored) if ledger.withdraws(stored.as_ref().and_then(Stored::leaf)) => None,
            Ok(Some(stored)) if stored.covers(&names) && stored.is_valid(SystemTime::now()) => {
                // What is to be done about it is found out by and by.
                self.keep(name, &stored, SystemTime::now() + OFTEN);
                Some(true)
            }
            Ok(_) => None,
            Err(damage) => {
                if let Some(suppressed) = self.refusals.pass(Instant::now()) {
                    tracing::error!(suppressed, "site {}: {damage}", rule.site);
                }
                None
            }
        }
    }

    fn start_getting(&mut self, rule: &Arc<Rule>, name: &str) {
        tracing::info!(
            "site {}: a certificate for {name} is got: a client asks for it, and {} allows it",
            rule.site,
            rule.ask
        );
        self.start(Job::Get, rule, name);
    }

    fn start(&mut self, job: Job, rule: &Arc<Rule>, name: &str) {
        let Some(terms) = self.terms.clone() else { return };
        let renewals = Arc::clone(&self.renewals);
        let work = job.run(terms, Arc::clone(rule), name.into(), renewals);
        let id = self.jobs.spawn(work).id();
        self.names.insert(id, (name.into(), job));
    }

    fn settle(&mut self, done: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match done {
            Ok((id, outcome)) => (id, Some(outcome)),
            // It panicked, which the program's log has.
            Err(error) => (error.id(), None),
        };
        let Some((name, job)) = self.names.remove(&id) else { return };
        match (job, outcome) {
            (Job::Ask, Some(Outcome::Answered(answer))) => self.answered(&name, &answer),
            (Job::Ask, _) => self.answered(&name, &Answer::None("we failed".to_owned())),
            (Job::Get, Some(Outcome::Got(result))) => self.got(&name, result),
            (Job::Get, _) => self.lacks(&name, OFTEN),
            (Job::Renew | Job::Force, outcome) => self.renewed(&name, outcome, job == Job::Force),
        }
    }

    fn answered(&mut self, name: &str, answer: &Answer) {
        let step = self.book.answered(name, answer.verdict(), Instant::now());
        let Some(rule) = self.rule(name) else {
            if step == Step::Get {
                self.book.got(name, Err(OFTEN), Instant::now());
            }
            return self.tell(name, false);
        };
        match step {
            Step::Get => self.start_getting(&rule, name),
            Step::Refuse(why) if answer.verdict() == Verdict::Yes => {
                self.tell(name, false);
                self.say_refused(&rule, name, why);
            }
            _ => {
                self.tell(name, false);
                if let Some(suppressed) = self.refusals.pass(Instant::now()) {
                    let (site, ask) = (&rule.site, &rule.ask);
                    tracing::info!(suppressed, "site {site}: none for {name}: {ask} {answer}");
                }
            }
        }
    }

    fn got(&mut self, name: &str, result: Result<Round, Failure>) {
        let now = SystemTime::now();
        match result {
            Ok(Round { stored: Some(stored), look, is_withdrawn: false, .. })
                if stored.covers_name(name) && stored.is_valid(now) =>
            {
                self.book.got(name, Ok(()), Instant::now());
                if self.rule(name).is_some() {
                    self.keep(name, &stored, look);
                }
                self.tell(name, true);
            }
            // Why is told by who has tried.
            Ok(round) => self.lacks(name, round.due.duration_since(now).unwrap_or_default()),
            Err(failure) => {
                tracing::error!("no certificate for {name}: {failure}");
                self.lacks(name, SELDOM);
            }
        }
    }

    /// There is none, and nobody is to look for one before so long.
    fn lacks(&mut self, name: &str, wait: Duration) {
        self.book.got(name, Err(wait), Instant::now());
        self.tell(name, false);
    }

    fn renewed(&mut self, name: &str, outcome: Option<Outcome>, is_forced: bool) {
        let now = SystemTime::now();
        let is_new = is_forced && self.rule(name).is_some();
        match self.kept.get_mut(name) {
            Some(kept) => {
                kept.is_busy = false;
                kept.look = now + (kept.life / 20).clamp(OFTEN, SELDOM * 60);
            }
            None if is_new => {}
            None => return,
        }
        match outcome {
            Some(Outcome::Renewed(Ok(Round { is_withdrawn: true, .. }))) => self.put_away(name),
            Some(Outcome::Renewed(Ok(Round { stored: Some(stored), look, .. })))
                if stored.covers_name(name) && stored.is_valid(now) =>
            {
                self.keep(name, &stored, look);
            }
            Some(Outcome::Renewed(Err(failure))) => {
                tracing::error!("the certificate for {name} is not renewed: {failure}");
            }
            Some(Outcome::Denied(answer)) => {
                if let Some(suppressed) = self.refusals.pass(Instant::now()) {
                    let who = self.rule(name).map(|rule| rule.ask.to_string());
                    let who = who.unwrap_or_default();
                    tracing::warn!(suppressed, "{name} is not renewed: {who} {answer}");
                }
            }
            _ => {}
        }
        self.next_look = Instant::now();
    }

    /// Lays a certificate on the shelf; something is to be done about it at `look`.
    fn keep(&mut self, name: &str, stored: &Stored, look: SystemTime) {
        if !self.kept.contains_key(name)
            && let Some(other) = self.demand.one_too_many()
        {
            self.put_away(&other);
        }
        self.demand.put(name, &stored.certified);
        let kept = Kept {
            look: look.max(SystemTime::now() + OFTEN),
            not_after: stored.facts.not_after,
            life: stored.life(),
            is_busy: false,
        };
        self.next_look = self.next_look.min(Instant::now() + OFTEN);
        self.kept.insert(name.into(), kept);
    }

    fn put_away(&mut self, name: &str) {
        self.kept.remove(name);
        self.demand.remove(name);
    }

    fn tell(&mut self, name: &str, is_there: bool) {
        for answer in self.waiting.remove(name).unwrap_or_default() {
            let _ = answer.send(is_there);
        }
    }

    /// Looks after what is kept: what has ended is put away, and what is due and was not shown for
    /// a third of its life; the rest of what is due is renewed.
    fn tend(&mut self) {
        let now = SystemTime::now();
        let mut over = Vec::new();
        let mut due = Vec::new();
        for (name, kept) in &self.kept {
            let is_unused = || self.demand.unused(name).is_none_or(|it| it > kept.life / 3);
            if kept.not_after <= now || (kept.look <= now && !kept.is_busy && is_unused()) {
                over.push(name.clone());
            } else if kept.look <= now && !kept.is_busy {
                due.push(name.clone());
            }
        }
        over.iter().for_each(|name| self.put_away(name));
        for name in due {
            if let (Some(rule), Some(kept)) = (self.rule(&name), self.kept.get_mut(&name)) {
                kept.is_busy = true;
                self.start(Job::Renew, &rule, &name);
            }
        }
        let waits = self
            .kept
            .values()
            .filter(|kept| !kept.is_busy)
            .map(|kept| kept.look.min(kept.not_after).duration_since(now).unwrap_or_default());
        self.next_look = Instant::now() + waits.min().unwrap_or(SELDOM).clamp(OFTEN, SELDOM);
    }

    fn say_refused(&self, rule: &Rule, name: &str, why: Why) {
        let why = match why {
            // It was said when it happened.
            Why::Remembered => return,
            Why::Questions => format!("{} is asked too much already", rule.ask),
            Why::Begun => "as many as acme.on_demand_rate allows were begun".to_owned(),
        };
        if let Some(suppressed) = self.refusals.pass(Instant::now()) {
            tracing::warn!(suppressed, "site {}: no certificate for {name} now: {why}", rule.site);
        }
    }
}
