//! What can be seen from here while an authority is asked: whether a name leads to this host,
//! whether port 80 there answers with our own token, and whether the DNS allows this authority
//! (CAA). It is advice that stands beside a failure, and never keeps anybody from asking nor lets
//! anybody wait: behind a router this host does not see what others see.

mod address;
mod port;
mod caa;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::challenge::choose::Solver;
use super::challenge::dns::lookup;
use super::challenge::pending::Pending;
use super::transport::Transport;
use address::Odd;
use caa::{Asker, Found};

/// For all names of a certificate together, from the beginning.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most names that are looked at: one that is wrong tells enough.
const MOST: usize = 10;

/// What is looked at, and by whom.
pub(super) struct Sight {
    /// The names of the certificate.
    pub(super) names: Vec<String>,
    /// What may prove them.
    pub(super) solvers: Vec<Solver>,
    /// Where a token of our own is shown.
    pub(super) pending: Arc<Pending>,
    /// The way to the authority, and its directory.
    pub(super) transport: Transport,
    pub(super) directory: String,
    /// The URL of the account.
    pub(super) account: String,
}

/// A look that is under way, beside the order. It ends with this.
pub(super) struct Preflight {
    looking: JoinHandle<Seen>,
    seen: Option<Seen>,
    account: String,
}

/// What was seen until the time was up.
#[derive(Default)]
struct Seen {
    names: Vec<Name>,
    /// The names by which CAA records call the authority (RFC 8555 §9.7.6), none where it does not
    /// say; `None` where it could not be asked.
    identities: Option<Vec<String>>,
}

struct Name {
    place: usize,
    name: String,
    odd: Odd,
    caa: Found,
}

impl Preflight {
    /// Begins to look, whatever the names: private authorities sign what nobody in the world can
    /// own, and who runs one has a resolver that knows it.
    pub(super) fn begin(sight: Sight) -> Self {
        let account = sight.account.clone();
        Self { looking: tokio::spawn(look(sight)), seen: None, account }
    }

    /// What is odd when names are proved by `solver`.
    pub(super) async fn words(&mut self, solver: Solver) -> Vec<String> {
        if self.seen.is_none() {
            self.seen = Some((&mut self.looking).await.unwrap_or_default());
        }
        let Some(seen) = self.seen.as_ref() else { return Vec::new() };
        let method = solver.kind().to_string();
        let identities = seen.identities.as_deref();
        let asker = Asker { identities, account: &self.account, method: &method };
        let mut words: Vec<String> = Vec::new();
        for name in &seen.names {
            // Where names are proved in the DNS nobody looks at their addresses.
            let address = name.odd.address.iter().filter(|_| solver != Solver::Dns);
            let port = name.odd.port.iter().filter(|_| solver == Solver::Http);
            let caa = name.caa.judge(&name.name, &asker);
            for word in address.chain(port).cloned().chain(caa) {
                // The records of one domain are those of many names.
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        words
    }
}

impl Drop for Preflight {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(sight: Sight) -> Seen {
    let deadline = Instant::now() + PATIENCE;
    let names = sight.names.iter().filter(|name| !is_onion(name));
    let mut looks = JoinSet::new();
    for (place, name) in names.take(MOST).enumerate() {
        let here = sight.solvers.iter().any(|solver| *solver != Solver::Dns);
        let asks = sight.solvers.contains(&Solver::Http);
        let pending = Some(Arc::clone(&sight.pending)).filter(|_| asks);
        looks.spawn(look_at(place, name.clone(), here, pending));
    }
    let mut seen = Seen::default();
    if looks.is_empty() {
        return seen;
    }
    if let Ok(identities) = timeout_at(deadline, identities(&sight)).await {
        seen.identities = identities;
    }
    // What was found until then is told.
    while let Ok(Some(looked)) = timeout_at(deadline, looks.join_next()).await {
        seen.names.extend(looked.ok());
    }
    seen.names.sort_by_key(|name| name.place);
    seen
}

/// RFC 7686 §2: such a name is looked up nowhere in the DNS.
fn is_onion(name: &str) -> bool {
    name.rsplit('.').next() == Some("onion")
}

async fn look_at(
    place: usize,
    name: String,
    looks_here: bool,
    pending: Option<Arc<Pending>>,
) -> Name {
    let odd = async {
        match looks_here && !name.starts_with("*.") {
            true => address::look(&name, pending.as_ref()).await,
            false => Odd::default(),
        }
    };
    let caa = async {
        let servers = lookup::servers();
        Found::of(name.strip_prefix("*.").unwrap_or(&name), &servers).await
    };
    let (odd, caa) = tokio::join!(odd, caa);
    Name { place, name, odd, caa }
}

/// By which names CAA records call the authority, none where it does not say; `None` where it does
/// not answer.
async fn identities(sight: &Sight) -> Option<Vec<String>> {
    let request = Request::get(&sight.directory).body(Bytes::new()).ok()?;
    let answer = sight.transport.send(request).await.ok()?;
    let about: Value = serde_json::from_slice(answer.body()).ok()?;
    let named = about.pointer("/meta/caaIdentities").and_then(Value::as_array);
    let named = named.into_iter().flatten().filter_map(Value::as_str);
    Some(named.map(str::to_ascii_lowercase).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_roots() -> Arc<rustls::ClientConfig> {
        crate::tls::client::with_roots(rustls::RootCertStore::empty()).unwrap()
    }

    fn seen(names: &[&str]) -> Preflight {
        let odd = |name: &str| Odd {
            address: Some(format!("{name} leads elsewhere")),
            port: vec![format!("port 80 is closed for {name}")],
        };
        let failing = || Found::Failing { domain: "shop.de".to_owned() };
        let names = names.iter().enumerate().map(|(place, name)| Name {
            place,
            name: (*name).to_owned(),
            odd: odd(name),
            caa: failing(),
        });
        let seen = Seen { names: names.collect(), identities: None };
        let looking = tokio::spawn(async { Seen::default() });
        Preflight { looking, seen: Some(seen), account: String::new() }
    }

    #[tokio::test]
    async fn each_way_of_proof_is_told_what_stands_in_its_own_way() {
        let mut seen = seen(&["a.shop.de", "b.shop.de"]);
        let http = seen.words(Solver::Http).await.join("; ");
        let alpn = seen.words(Solver::TlsAlpn).await.join("; ");
        let dns = seen.words(Solver::Dns).await.join("; ");
        assert!(http.contains("a.shop.de leads elsewhere; port 80 is closed for a.shop.de; the"));
        assert!(alpn.contains("b.shop.de leads elsewhere") && !alpn.contains("port 80"), "{alpn}");
        assert!(dns.starts_with("the name server fails when it is asked for the CAA"), "{dns}");
        for words in [http, alpn, dns] {
            assert_eq!(words.matches("CAA").count(), 1, "once for all names: {words}");
        }
    }

    #[tokio::test]
    async fn names_that_nobody_can_own_are_looked_at_too_but_not_those_of_tor() {
        let preflight = |name: &str| {
            Preflight::begin(Sight {
                names: vec![name.to_owned()],
                solvers: vec![Solver::Http, Solver::Dns],
                pending: Arc::default(),
                transport: Transport::new(no_roots()),
                directory: "https://ca.test/dir".to_owned(),
                account: String::new(),
            })
        };
        let words = preflight("shop.invalid").words(Solver::Http).await;
        assert!(words.iter().any(|word| word.contains("shop.invalid")), "{words:?}");
        assert!(preflight("shop.onion").words(Solver::Http).await.is_empty());
    }
}
