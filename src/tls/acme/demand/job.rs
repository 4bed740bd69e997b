//! What takes time: a question, a certificate, a renewal.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::book::Verdict;
use super::question::{self, Answer};
use super::terms::{Rule, Terms};
use crate::tls::acme::failure::{Failure, Kind};
use crate::tls::acme::standing::Round;

/// For everything that is done for one name, the wait for its turn and for another process counted.
const LIMIT: Duration = Duration::from_secs(900);

/// What is done for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Ask,
    Get,
    /// To be renewed, where it is due and still allowed.
    Renew,
    /// The same whether it is due or not: somebody wants it.
    Force,
}

/// What it has come to.
pub(super) enum Outcome {
    Answered(Answer),
    Got(Result<Round, Failure>),
    Renewed(Result<Round, Failure>),
    /// It is due, and was not allowed.
    Denied(Answer),
}

impl Job {
    /// Does it under these terms.
    pub(super) async fn run(
        self,
        terms: Arc<Terms>,
        rule: Arc<Rule>,
        name: Box<str>,
        renewals: Arc<Semaphore>,
    ) -> Outcome {
        let mut keeper = terms.keeper(&rule, &name);
        let ask = || question::ask(&rule.ask, &name, terms.tls());
        match self {
            Job::Ask => Outcome::Answered(ask().await),
            Job::Get => Outcome::Got(within(keeper.once()).await),
            Job::Force => {
                let _turn = renewals.acquire().await;
                let answer = ask().await;
                if answer.verdict() != Verdict::Yes {
                    return Outcome::Denied(answer);
                }
                Outcome::Renewed(within(keeper.force()).await)
            }
            Job::Renew => {
                let _turn = renewals.acquire().await;
                match within(keeper.survey()).await {
                    Ok(round) if round.due > SystemTime::now() => Outcome::Renewed(Ok(round)),
                    Err(failure) => Outcome::Renewed(Err(failure)),
                    Ok(_) => {
                        let answer = ask().await;
                        if answer.verdict() != Verdict::Yes {
                            return Outcome::Denied(answer);
                        }
                        Outcome::Renewed(within(keeper.once()).await)
                    }
                }
            }
        }
    }
}

async fn within(round: impl Future<Output = Result<Round, Failure>>) -> Result<Round, Failure> {
    let slow = |_| Failure::new(Kind::Unreachable, format!("nothing came of it within {LIMIT:?}"));
    timeout(LIMIT, round).await.map_err(slow)?
}
