//! When responders are asked: one task in the control plane for all certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::ask::ask;
use super::fault::Fault;
use super::question::Question;
use super::response::{Span, verify};
use super::{Staples, drop_revocation, revocation, store, store_revocation, sweep};
use crate::tls::facts::{instant, span};
use crate::tls::storage::StorageError;

/// The shortest time between two questions about one certificate, and the first pause after a
/// failure; each failure doubles it.
const SHORTEST: Duration = Duration::from_secs(60);

/// The longest pause after failures.
const LONGEST: Duration = Duration::from_secs(3600);

/// Asks for as long as it lives, and tells when there is something new to be shown.
#[derive(Debug)]
pub struct Keeper {
    sender: UnboundedSender<()>,
    news: UnboundedReceiver<()>,
    kept: Option<(Vec<Arc<Question>>, AbortHandle)>,
}

impl Default for Keeper {
    fn default() -> Self {
        let (sender, news) = unbounded_channel();
        Self { sender, news, kept: None }
    }
}

impl Keeper {
    /// Asks these from now on, and nothing else. Where they are the same as before, nothing is
    /// disturbed.
    ///
    /// To be called on the runtime of the control plane.
    pub fn keep(&mut self, questions: &[Arc<Question>], staples: &Arc<Staples>, storage: &Path) {
        if self.kept.as_ref().is_some_and(|(kept, _)| kept == questions) {
            return;
        }
        self.stop();
        staples.retain(questions);
        sweep(storage, SystemTime::now());
        if questions.is_empty() {
            return;
        }
        let turn = |question: &Arc<Question>| Turn {
            question: Arc::clone(question),
            due: SystemTime::UNIX_EPOCH,
            failures: 0,
        };
        let task = Task {
            turns: questions.iter().map(turn).collect(),
            staples: Arc::clone(staples),
            storage: storage.to_owned(),
            news: self.sender.clone(),
            is_kept: true,
        };
        self.kept = Some((questions.to_vec(), tokio::spawn(task.run()).abort_handle()));
    }

    /// Waits until there is something new to be shown.
    pub async fn changed(&mut self) {
        // It cannot end: a sender is held here.
        let _ = self.news.recv().await;
        while self.news.try_recv().is_ok() {}
    }

    /// Asks nobody any more.
    pub fn stop(&mut self) {
        if let Some((_, task)) = self.kept.take() {
            task.abort();
        }
    }
}

struct Task {
    turns: Vec<Turn>,
    staples: Arc<Staples>,
    storage: PathBuf,
    news: UnboundedSender<()>,
    /// Whether the storage takes what there is, as far as is known.
    is_kept: bool,
}

struct Turn {
    question: Arc<Question>,
    due: SystemTime,
    failures: u32,
}

impl Task {
    async fn run(mut self) {
        let now = SystemTime::now();
        for turn in &mut self.turns {
            // It may have been taken back.
            if revocation(&self.storage, &turn.question, now).is_some() {
                continue;
            }
            if let Some(staple) = self.staples.of(&turn.question, &self.storage, now) {
                turn.due = half_way(staple.span, now);
            }
        }
        loop {
            for place in 0..self.turns.len() {
                self.take_turn(place).await;
            }
            let first = self.turns.iter().map(|turn| turn.due).min();
            let wait = first.and_then(|due| due.duration_since(SystemTime::now()).ok());
            // A clock may be set.
            tokio::time::sleep(wait.unwrap_or_default().clamp(PAUSE, LONGEST)).await;
        }
    }

    async fn take_turn(&mut self, place: usize) {
        let Some(turn) = self.turns.get_mut(place) else { return };
        if SystemTime::now() < turn.due {
            return;
        }
        let question = Arc::clone(&turn.question);
        let answer = ask(&question).await;
        let now = SystemTime::now();
        let verified = answer.and_then(|answer| match verify(&question, &answer, now) {
            Ok(span) => Ok((span, answer)),
            Err(fault) => {
                if let Fault::Revoked(_) = fault {
                    told(store_revocation(&self.storage, &question, &answer));
                }
                Err(fault)
            }
        });
        match verified {
            Ok((span, answer)) => {
                turn.failures = 0;
                turn.due = half_way(span, now);
                told(drop_revocation(&self.storage, &question));
                self.show(&question, span, &answer);
            }
            Err(fault) => {
                let pause = pause_after(turn.failures);
                turn.failures += 1;
                turn.due = now + pause;
                let shown = self.staples.of(&question, &self.storage, now);
                let shown = match shown {
                    Some(staple) => {
                        let until = instant(staple.span.until, now);
                        format!("the one before is shown until {until}")
                    }
                    None => "none is shown".to_owned(),
                };
                let (host, port) = question.place();
                tracing::error!(
                    "no OCSP response for {} from {host}:{port}: {fault}; {shown}, the next try is \
                     in {}",
                    question.name,
                    span(pause)
                );
            }
        }
    }

    fn show(&mut self, question: &Question, span: Span, answer: &[u8]) {
        if !self.staples.put(question, answer) {
            return;
        }
        let until = instant(span.until, SystemTime::now());
        tracing::info!("{}: an OCSP response is shown until {until}", question.name);
        let stored = store(&self.storage, question, answer);
        if let (Err(error), true) = (&stored, self.is_kept) {
            tracing::info!("{error}; OCSP responses are kept in memory alone");
        }
        self.is_kept = stored.is_ok();
        sweep(&self.storage, SystemTime::now());
        let _ = self.news.send(());
    }
}

/// What the log says anyway is not always kept beside it.
fn told(kept: Result<(), StorageError>) {
    if let Err(error) = kept {
        tracing::info!("whether a certificate is revoked is told in the log alone: {error}");
    }
}

/// Between two looks at what is due.
const PAUSE: Duration = Duration::from_secs(1);

/// When to ask again for what is good for this `span`: at half its life, and, where that is past
/// because the responder makes its answers beforehand, half-way to its end.
fn half_way(span: Span, now: SystemTime) -> SystemTime {
    let between = |from: SystemTime| {
        let life = span.until.duration_since(from).unwrap_or_default();
        from + life / 2
    };
    let due = between(span.from);
    let due = if due > now { due } else { between(now) };
    due.max(now + SHORTEST)
}

/// How long to wait after so many failures and one more.
fn pause_after(failures: u32) -> Duration {
    let doubled = SHORTEST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
    doubled.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::DAY;

    #[test]
    fn half_of_a_life_is_waited_for_and_then_half_of_what_is_left() {
        let now = SystemTime::now();
        let span = Span { from: now - DAY, until: now + 3 * DAY };
        assert_eq!(half_way(span, now), now + DAY);
        let stale = Span { from: now - 3 * DAY, until: now + DAY };
        assert_eq!(half_way(stale, now), now + DAY / 2);
        let ending = Span { from: now - DAY, until: now + SHORTEST / 2 };
        assert_eq!(half_way(ending, now), now + SHORTEST, "nobody is asked all the time");
    }

    #[test]
    fn failures_are_tried_again_after_a_minute_to_an_hour() {
        let pauses: Vec<_> = [0, 1, 5, 6, 40].map(|it| pause_after(it).as_secs() / 60).into();
        assert_eq!(pauses, [1, 2, 32, 60, 60]);
    }
}
