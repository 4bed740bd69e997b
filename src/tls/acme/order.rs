//! One order: every step is kept before the next, so that whoever comes after a kill goes on with
//! it instead of asking for another.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, Error, Identifier,
    NewOrder, Order, OrderStatus, Problem,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::challenge::choose::Solver;
use super::challenge::pending::{Pending, Shown};
use super::failure::{Failure, Kind};
use super::names::{Wanted, stem};
use super::stored::{self, Stored};
use super::vault::{Held, Vault};
use crate::config::KeyType;

/// How long an authority may take to prove the names, and then to sign.
const PATIENCE: Duration = Duration::from_secs(180);

/// The pause between two looks at an order grows from this to that.
const SOON: Duration = Duration::from_millis(250);
const LATER: Duration = Duration::from_secs(5);

/// An order that is older than this is not gone on with: authorities forget them.
const STALE: Duration = Duration::from_secs(86_400);

/// Requests that were refused for their nonce are sent again so often, beside what the library
/// does.
const NONCES: usize = 6;

/// Sends a request again while its nonce is refused (RFC 8555 §6.5): that has had no effect.
macro_rules! with_nonce {
    ($request:expr) => {{
        let mut tries = 0;
        loop {
            match $request.await {
                Err(Error::Api(problem)) if is_bad_nonce(&problem) && tries < NONCES => tries += 1,
                result => break result,
            }
        }
    }};
}

/// What is asked for, and of whom.
pub struct Ask<'a> {
    /// Where steps are kept.
    pub vault: &'a dyn Vault,
    /// The sole right to this certificate.
    pub held: &'a Held,
    /// The certificate.
    pub wanted: &'a Wanted,
    /// The account, and the directory that it is with.
    pub account: &'a Account,
    /// The directory.
    pub directory: &'a str,
    /// The profile, where the authority offers it.
    pub profile: Option<&'a str>,
    /// The certificate that is replaced, where the authority wants to know.
    pub replaces: Option<CertificateIdentifier<'static>>,
    /// How the names are proved.
    pub solver: Solver,
    /// Where that is shown.
    pub pending: &'a Arc<Pending>,
}

/// An order under way, as it is kept.
#[derive(Serialize, Deserialize)]
struct Draft {
    directory: String,
    /// Empty until the authority has answered.
    url: String,
    names: Vec<String>,
    /// Milliseconds since 1970.
    begun: u64,
    /// The certificate's key, PEM.
    key: String,
}

/// The entry of an order under way.
#[must_use]
pub fn entry(names: &[String]) -> String {
    format!("{}.order.json", stem(names))
}

/// Gets a certificate: the text of its entry, and what it says. It is not kept yet.
///
/// # Errors
/// A [`Failure`]; what was begun is gone on with by the next call, or dropped where it is of no
/// use.
pub async fn issue(ask: &Ask<'_>) -> Result<(String, Stored), Failure> {
    let (mut order, key) = match resume(ask).await? {
        Some(resumed) => resumed,
        None => begin(ask).await?,
    };
    let result = finish(ask, &mut order, &key).await;
    // What only was slow, or came too soon, may succeed yet.
    let is_over = |failure: &Failure| matches!(failure.kind, Kind::Unproved | Kind::Refused);
    if result.as_ref().is_err_and(is_over) {
        ask.vault.remove(&entry(&ask.wanted.names), ask.held)?;
    }
    result
}

/// The order that somebody has begun, where it is of use.
async fn resume(ask: &Ask<'_>) -> Result<Option<(Order, KeyPair)>, Failure> {
    let name = entry(&ask.wanted.names);
    let Some(text) = ask.vault.get(&name)? else { return Ok(None) };
    let draft = serde_json::from_slice::<Draft>(&text).ok().filter(|draft| {
        let begun = UNIX_EPOCH.checked_add(Duration::from_millis(draft.begun));
        let age = begun.and_then(|begun| SystemTime::now().duration_since(begun).ok());
        draft.directory == ask.directory
            && !draft.url.is_empty()
            && draft.names == ask.wanted.names
            && age.is_some_and(|age| age < STALE)
    });
    let usable = draft.and_then(|draft| Some((KeyPair::from_pem(&draft.key).ok()?, draft.url)));
    if let Some((key, url)) = usable {
        match with_nonce!(ask.account.order(url.clone())) {
            Ok(mut order) => {
                if is_of_use(ask, &mut order, &key).await? {
                    tracing::info!("site {}: going on with an order", ask.wanted.site);
                    return Ok(Some((order, key)));
                }
            }
            // It is forgotten, or was another account's.
            Err(Error::Api(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    ask.vault.remove(&name, ask.held)?;
    Ok(None)
}

/// Not one that has failed, nor one whose certificate is kept already.
async fn is_of_use(ask: &Ask<'_>, order: &mut Order, key: &KeyPair) -> Result<bool, Failure> {
    match order.state().status {
        OrderStatus::Invalid => Ok(false),
        OrderStatus::Valid => {
            let Ok(Some(chain)) = with_nonce!(order.certificate()) else { return Ok(false) };
            let new = Stored::parse(stored::text(key, &chain).as_bytes());
            let old = stored::read(ask.vault, &ask.wanted.names).ok().flatten();
            let leaf = |stored: &Stored| stored.certified.cert.first().cloned();
            Ok(new.is_ok_and(|new| old.is_none_or(|old| leaf(&old) != leaf(&new))))
        }
        OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing => Ok(true),
    }
}

/// A new order, kept with its key before anything else happens to it.
async fn begin(ask: &Ask<'_>) -> Result<(Order, KeyPair), Failure> {
    let key = new_key(ask.wanted.key_type).await?;
    let names = &ask.wanted.names;
    // A storage that cannot be written is to cost no order.
    keep(ask, "", &key)?;
    let identifiers: Vec<_> = names.iter().map(|name| Identifier::Dns(name.clone())).collect();
    let with = |replaces: Option<CertificateIdentifier<'static>>| {
        let mut new = NewOrder::new(&identifiers);
        if let Some(profile) = ask.profile {
            new = new.profile(profile);
        }
        match replaces {
            Some(replaces) => new.replaces(replaces),
            None => new,
        }
    };
    let mut order = with_nonce!(ask.account.new_order(&with(ask.replaces.clone())));
    // It may know nothing of what is replaced, or have seen that done (RFC 9773 §5).
    if order.is_err() && ask.replaces.is_some() {
        order = with_nonce!(ask.account.new_order(&with(None)));
    }
    let order = order?;
    keep(ask, order.url(), &key)?;
    Ok((order, key))
}

fn keep(ask: &Ask<'_>, url: &str, key: &KeyPair) -> Result<(), Failure> {
    let names = &ask.wanted.names;
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let draft = Draft {
        directory: ask.directory.to_owned(),
        url: url.to_owned(),
        names: names.clone(),
        begun: u64::try_from(begun.as_millis()).unwrap_or_default(),
        key: key.serialize_pem(),
    };
    let text = serde_json::to_vec_pretty(&draft).unwrap_or_default();
    Ok(ask.vault.put(&entry(names), &text, ask.held)?)
}

/// From whatever state the order is in to the certificate.
async fn finish(
    ask: &Ask<'_>,
    order: &mut Order,
    key: &KeyPair,
) -> Result<(String, Stored), Failure> {
    if order.state().status == OrderStatus::Pending {
        let shown = prove(ask, order).await?;
        let status = watch(order, |status| status != OrderStatus::Pending).await?;
        drop(shown);
        if status == OrderStatus::Invalid {
            return Err(why_unproved(ask, order).await);
        }
    }
    if order.state().status == OrderStatus::Ready {
        let request = request(&ask.wanted.names, key).map_err(unsigned)?;
        with_nonce!(order.finalize_csr(&request))?;
    }
    let over = |status| matches!(status, OrderStatus::Valid | OrderStatus::Invalid);
    let status = watch(order, over).await?;
    if status == OrderStatus::Invalid {
        let problem = order.state().error.as_ref().map(Failure::of_problem);
        let silent = || Failure::new(Kind::Refused, "the authority does not say why it refuses");
        return Err(problem.unwrap_or_else(silent));
    }
    let chain = with_nonce!(order.certificate())?;
    let none = || Failure::new(Kind::Unreachable, "the authority has no certificate to give");
    let text = stored::text(key, &chain.ok_or_else(none)?);
    let stored = Stored::parse(text.as_bytes()).map_err(|why| {
        Failure::new(Kind::Refused, format!("what was issued is unusable: {why}"))
    })?;
    if !stored.covers(&ask.wanted.names) {
        let names = stored.facts.names.join(", ");
        let words = format!("what was issued is for other names: {names}");
        return Err(Failure::new(Kind::Refused, words));
    }
    Ok((text, stored))
}

/// Shows a proof for every name that is not proved yet, and tells the authority to look.
async fn prove(ask: &Ask<'_>, order: &mut Order) -> Result<Vec<Shown>, Failure> {
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
            ask.pending.show_certificate(name, digest.as_ref()).map_err(unsigned)
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

/// Looks at the order until it is as wanted.
async fn watch(
    order: &mut Order,
    wanted: impl Fn(OrderStatus) -> bool,
) -> Result<OrderStatus, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = SOON;
    loop {
        let status = order.state().status;
        if wanted(status) || status == OrderStatus::Invalid {
            return Ok(status);
        }
        if Instant::now() > deadline {
            let words = format!("the authority did not finish within {PATIENCE:?}");
            return Err(Failure::new(Kind::Unreachable, words));
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LATER);
        with_nonce!(order.refresh())?;
    }
}

/// What the authority found when it looked.
async fn why_unproved(ask: &Ask<'_>, order: &mut Order) -> Failure {
    let kind = ask.solver.kind();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        // It was read before the authority looked.
        let _ = authorization.refresh().await;
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

fn is_bad_nonce(problem: &Problem) -> bool {
    problem.r#type.as_deref().is_some_and(|name| name.ends_with(":badNonce"))
}

fn unsigned(error: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Storage, format!("the cryptography fails: {error}"))
}

/// The long ones take seconds, which signals and the control socket shall not wait for.
async fn new_key(kind: KeyType) -> Result<KeyPair, Failure> {
    let make = move || match kind {
        KeyType::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyType::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
    };
    let made = tokio::task::spawn_blocking(make).await;
    made.map_err(|error| Failure::new(Kind::Storage, error.to_string()))?.map_err(unsigned)
}

/// A request for a certificate for these names and nothing else.
fn request(names: &[String], key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}
