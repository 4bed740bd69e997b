//! One order: every step is kept before the next, so that whoever comes after a kill goes on with
//! it instead of asking for another.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::{
    Account, CertificateIdentifier, Error, Identifier, NewOrder, Order, OrderStatus,
};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::challenge::choose::Solver;
use super::challenge::dns::Scribe;
use super::challenge::pending::Pending;
use super::failure::{Failure, Kind};
use super::key::{new_key, request};
use super::names::{Wanted, stem};
use super::nonce::{NONCES, is_bad_nonce, with_nonce};
use super::proof::{Shown, prove, why_unproved};
use super::stored::{self, Stored};
use super::vault::{Held, Vault};
use crate::tls::facts::date;

/// How long an authority may take to prove the names, and then to sign.
const PATIENCE: Duration = Duration::from_secs(180);

/// The pause between two looks at an order grows from this to that.
const SOON: Duration = Duration::from_millis(250);
const LATER: Duration = Duration::from_secs(5);

/// An order that is older than this is not gone on with: authorities forget them.
const STALE: Duration = Duration::from_secs(86_400);

/// How far an authority's clock may be before ours.
const SKEW: Duration = Duration::from_secs(600);

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
    /// Who writes records into the DNS.
    pub scribe: Option<Scribe<'a>>,
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
    /// What stands in the DNS for it, or may: a host and the value that proves it.
    #[serde(default)]
    written: Vec<(String, String)>,
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
    let is_over =
        |failure: &Failure| matches!(failure.kind, Kind::Unproved | Kind::Refused | Kind::Unusable);
    if result.as_ref().is_err_and(is_over) {
        ask.vault.remove(&entry(&ask.wanted.names), ask.held)?;
    }
    result
}

/// The order that somebody has begun, where it is of use.
async fn resume(ask: &Ask<'_>) -> Result<Option<(Order, KeyPair)>, Failure> {
    let name = entry(&ask.wanted.names);
    let Some(text) = ask.vault.get(&name)? else { return Ok(None) };
    let draft = serde_json::from_slice::<Draft>(&text).ok();
    if let Some(draft) = &draft {
        Shown::left(ask.scribe, &draft.written).withdraw(&ask.wanted.site).await;
        if !draft.written.is_empty() {
            keep_written(ask, &[])?;
        }
    }
    let draft = draft.filter(|draft| {
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
    let is_refused = |error: &Error| Failure::of(error).kind == Kind::Refused;
    if ask.replaces.is_some() && order.as_ref().is_err_and(is_refused) {
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
        written: Vec::new(),
    };
    put(ask, &draft)
}

fn put(ask: &Ask<'_>, draft: &Draft) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(draft).unwrap_or_default();
    Ok(ask.vault.put(&entry(&ask.wanted.names), &text, ask.held)?)
}

/// Keeps what stands in the DNS, so that whoever comes after a kill takes it away.
pub(super) fn keep_written(ask: &Ask<'_>, written: &[(String, String)]) -> Result<(), Failure> {
    let text = ask.vault.get(&entry(&ask.wanted.names))?.unwrap_or_default();
    let Ok(draft) = serde_json::from_slice::<Draft>(&text) else { return Ok(()) };
    put(ask, &Draft { written: written.to_vec(), ..draft })
}

/// From whatever state the order is in to the certificate.
async fn finish(
    ask: &Ask<'_>,
    order: &mut Order,
    key: &KeyPair,
) -> Result<(String, Stored), Failure> {
    if order.state().status == OrderStatus::Pending {
        let mut shown = Shown::left(ask.scribe, &[]);
        let proved = match prove(ask, order, &mut shown).await {
            Ok(()) => watch(order, |status| status != OrderStatus::Pending).await,
            Err(failure) => Err(failure),
        };
        shown.withdraw(&ask.wanted.site).await;
        if ask.solver == Solver::Dns {
            keep_written(ask, &[])?;
        }
        let status = proved?;
        if status == OrderStatus::Invalid {
            return Err(why_unproved(ask, order).await);
        }
    }
    if order.state().status == OrderStatus::Ready {
        let request = request(&ask.wanted.names, key)?;
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
    let unusable = |why: String| Failure::new(Kind::Unusable, format!("what was issued {why}"));
    let stored = Stored::parse(text.as_bytes());
    let stored = stored.map_err(|why| unusable(format!("is unusable: {why}")))?;
    useful(&stored, &ask.wanted.names, SystemTime::now()).map_err(unusable)?;
    Ok((text, stored))
}

/// Nothing takes the place of a good one that clients would not accept; says why they would not.
fn useful(stored: &Stored, names: &[String], now: SystemTime) -> Result<(), String> {
    let (begin, end) = (stored.facts.not_before, stored.facts.not_after);
    if !stored.covers(names) {
        return Err(format!("is for other names: {}", stored.facts.names.join(", ")));
    }
    if end <= now {
        return Err(format!("has expired, on {}: is the clock of this host right?", date(end)));
    }
    if begin > now + SKEW {
        let on = date(begin);
        return Err(format!("is not valid before {on}: is the clock of this host right?"));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Pki;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A good one was replaced by one that had expired, or was to come.
    #[test]
    fn what_clients_would_not_accept_takes_no_place() {
        let pair = Pki::new().pair(&["a.test"]);
        let stored = Stored::parse(format!("{}{}", pair.key, pair.cert).as_bytes()).unwrap();
        let judged = |name: &str, now| useful(&stored, &[name.to_owned()], now);
        let (begin, end) = (stored.facts.not_before, stored.facts.not_after);
        assert_eq!(judged("a.test", begin), Ok(()));
        assert_eq!(judged("a.test", begin - SKEW), Ok(()), "clocks differ");
        assert!(judged("a.test", begin - DAY).unwrap_err().contains("is not valid before"));
        assert!(judged("a.test", end).unwrap_err().contains("has expired"));
        assert!(judged("b.test", begin).unwrap_err().contains("for other names: a.test"));
    }
}
