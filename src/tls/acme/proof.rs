//! The names of an order, proved: something is shown for each, and the authority told to look.

use instant_acme::{AuthorizationStatus, ChallengeHandle, Error, Order};

use super::challenge::choose::Solver;
use super::challenge::pending::Shown;
use super::failure::{Failure, Kind};
use super::nonce::{NONCES, is_bad_nonce, with_nonce};
use super::order::Ask;

/// Shows a proof for every name that is not proved yet, and tells the authority to look.
pub(super) async fn prove(ask: &Ask<'_>, order: &mut Order) -> Result<Vec<Shown>, Failure> {
    load(order).await?;
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let name = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            _ => return Err(Failure::unproved(None, &name, ask.solver.kind())),
        }
        let Some(mut challenge) = authorization.challenge(ask.solver.protocol()) else {
            let words = format!("the authority offers no {} for {name}", ask.solver.kind());
            return Err(Failure::new(Kind::Unproved, words));
        };
        shown.push(show(ask, &name, &challenge)?);
        match with_nonce!(challenge.set_ready()) {
            Ok(()) => {}
            // It was told before a kill, and has looked already.
            Err(Error::Api(problem)) => tracing::debug!("a challenge is not pending: {problem}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(shown)
}

fn show(ask: &Ask<'_>, name: &str, challenge: &ChallengeHandle<'_>) -> Result<Shown, Failure> {
    let proof = challenge.key_authorization();
    match ask.solver {
        Solver::Http => {
            let shown = ask.pending.show_token(name, &challenge.token, proof.as_str());
            shown.ok_or_else(|| Failure::new(Kind::Refused, "the authority gave an odd token"))
        }
        Solver::TlsAlpn => {
            let digest = proof.digest();
            ask.pending.show_certificate(name, digest.as_ref()).map_err(Failure::of_cryptography)
        }
    }
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
