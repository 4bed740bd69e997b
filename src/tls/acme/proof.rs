//! The names of an order, proved: something is shown for each, and the authority told to look.

use instant_acme::{AuthorizationStatus, ChallengeHandle, Error, Order};

use super::challenge::choose::Solver;
use super::challenge::dns::{DnsError, Scribe};
use super::challenge::pending;
use super::failure::{Failure, Kind};
use super::nonce::{NONCES, is_bad_nonce, with_nonce};
use super::order::{Ask, keep_written};

/// Everything that is shown. What stands in the DNS is there until it is withdrawn.
pub(super) struct Shown<'a> {
    here: Vec<pending::Shown>,
    scribe: Option<Scribe<'a>>,
    /// Hosts, and the values that prove them.
    written: Vec<(String, String)>,
}

impl<'a> Shown<'a> {
    /// What somebody has left in the DNS, who was killed.
    pub(super) fn left(scribe: Option<Scribe<'a>>, written: &[(String, String)]) -> Self {
        Self { here: Vec::new(), scribe, written: written.to_vec() }
    }

    /// Waits until everything can be seen that was written.
    async fn wait(&self) -> Result<(), Failure> {
        let Some(scribe) = self.scribe else { return Ok(()) };
        for (host, value) in &self.written {
            scribe.wait_for(host, value).await.map_err(|error| unshown(host, &error))?;
        }
        Ok(())
    }

    /// Takes everything away. What cannot be taken away does no harm: it proves one order.
    pub(super) async fn withdraw(self, site: &str) {
        drop(self.here);
        let Some(scribe) = self.scribe else { return };
        for (host, value) in self.written {
            if let Err(error) = scribe.withdraw(&host, &value).await {
                tracing::warn!("site {site}: a TXT record of an order stays: {error}");
            }
        }
    }
}

/// Shows a proof for every name that is not proved yet, waits until all can be seen, and tells the
/// authority to look.
pub(super) async fn prove(
    ask: &Ask<'_>,
    order: &mut Order,
    shown: &mut Shown<'_>,
) -> Result<(), Failure> {
    load(order).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let name = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            _ => return Err(Failure::unproved(None, &name, ask.solver.kind())),
        }
        let Some(challenge) = authorization.challenge(ask.solver.protocol()) else {
            let words = format!("the authority offers no {} for {name}", ask.solver.kind());
            return Err(Failure::new(Kind::Unproved, words));
        };
        show(ask, &name, &challenge, shown).await?;
    }
    shown.wait().await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let Some(mut challenge) = authorization.challenge(ask.solver.protocol()) else { continue };
        match with_nonce!(challenge.set_ready()) {
            Ok(()) => {}
            // It was told before a kill, and has looked already.
            Err(Error::Api(problem)) => tracing::debug!("a challenge is not pending: {problem}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn show(
    ask: &Ask<'_>,
    name: &str,
    challenge: &ChallengeHandle<'_>,
    shown: &mut Shown<'_>,
) -> Result<(), Failure> {
    let proof = challenge.key_authorization();
    match ask.solver {
        Solver::Http => {
            let token = ask.pending.show_token(name, &challenge.token, proof.as_str());
            let odd = || Failure::new(Kind::Refused, "the authority gave an odd token");
            shown.here.push(token.ok_or_else(odd)?);
        }
        Solver::TlsAlpn => {
            let certificate = ask.pending.show_certificate(name, proof.digest().as_ref());
            shown.here.push(certificate.map_err(Failure::of_cryptography)?);
        }
        Solver::Dns => {
            let Some(scribe) = ask.scribe else {
                return Err(Failure::new(Kind::Unshown, "there is nobody who writes to the DNS"));
            };
            let written = (name.to_owned(), proof.dns_value());
            shown.written.push(written.clone());
            keep_written(ask, &shown.written)?;
            if let Err(error) = scribe.write(name, &written.1).await {
                if !error.may_have_been_done() {
                    shown.written.pop();
                }
                return Err(unshown(name, &error));
            }
        }
    }
    Ok(())
}

fn unshown(name: &str, error: &DnsError) -> Failure {
    Failure::new(Kind::Unshown, format!("{name} could not be proved by dns-01: {error}"))
}

/// Reads every authorization. The library passes over one that it could not read, so that it is
/// begun again then; what was read is not asked for twice.
async fn load(order: &mut Order) -> Result<(), Failure> {
    let mut tries = 0;
    'again: loop {
        let mut all = order.authorizations();
        while let Some(one) = all.next().await {
            match one {
                Ok(_) => {}
                Err(Error::Api(problem)) if is_bad_nonce(&problem) && tries < NONCES => {
                    tries += 1;
                    continue 'again;
                }
                Err(error) => return Err(error.into()),
            }
        }
        return Ok(());
    }
}

/// What the authority found when it looked.
pub(super) async fn why_unproved(ask: &Ask<'_>, order: &mut Order) -> Failure {
    let kind = ask.solver.kind();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        // It was read before the authority looked.
        let _ = with_nonce!(authorization.refresh());
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let errors = authorization.challenges.iter().filter_map(|one| one.error.as_ref());
        if let Some(problem) = errors.into_iter().next() {
            return Failure::unproved(Some(problem), &name, kind);
        }
    }
    let first = ask.wanted.names.first().map_or("", String::as_str);
    let error = order.state().error.clone();
    Failure::unproved(error.as_ref(), first, kind)
}
