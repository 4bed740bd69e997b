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
use super::names::is_reserved_name;
use super::transport::Transport;
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
    /// The names by which CAA records call the authority (RFC 8555 §9.7.6).
    identities: Vec<String>,
}

struct Name {
    place: usize,
    name: String,
    /// What is odd about its addresses.
    odd: Vec<String>,
    caa: Found,
}

impl Preflight {
    /// Begins to look. Names that nobody can own are passed over: no name server that is asked can
    /// know them.
    pub(super) fn begin(sight: Sight) -> Self {
        let account = sight.account.clone();
        Self { looking: tokio::spawn(look(sight)), seen: None, account }
    }

    /// What is odd when names are proved by `solver`, or `None`.
    pub(super) async fn words(&mut self, solver: Solver) -> Option<String> {
        if self.seen.is_none() {
            self.seen = Some((&mut self.looking).await.unwrap_or_default());
        }
        let seen = self.seen.as_ref()?;
        let method = solver.kind().to_string();
        let asker = Asker { identities: &seen.identities, account: &self.account, method: &method };
        let mut words: Vec<String> = Vec::new();
        for name in &seen.names {
            // Where names are proved in the DNS nobody looks at their addresses.
            words.extend(name.odd.iter().filter(|_| solver != Solver::Dns).cloned());
            words.extend(name.caa.judge(&name.name, &asker));
        }
        words.dedup();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

impl Drop for Preflight {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(sight: Sight) -> Seen {
    let deadline = Instant::now() + PATIENCE;
    let names = sight.names.iter().filter(|name| {
        let name = name.strip_prefix("*.").unwrap_or(name);
        !is_reserved_name(name)
    });
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

async fn look_at(
    place: usize,
    name: String,
    looks_here: bool,
    pending: Option<Arc<Pending>>,
) -> Name {
    let odd = async {
        match looks_here && !name.starts_with("*.") {
            true => address::look(&name, pending.as_ref()).await,
            false => Vec::new(),
        }
    };
    let caa = async {
        let servers = lookup::servers();
        Found::of(name.strip_prefix("*.").unwrap_or(&name), &servers).await
    };
    let (odd, caa) = tokio::join!(odd, caa);
    Name { place, name, odd, caa }
}

/// By which names CAA records call the authority; none where it does not say.
async fn identities(sight: &Sight) -> Vec<String> {
    let Ok(request) = Request::get(&sight.directory).body(Bytes::new()) else { return Vec::new() };
    let Ok(answer) = sight.transport.send(request).await else { return Vec::new() };
    let about: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let named = about.pointer("/meta/caaIdentities").and_then(Value::as_array);
    let named = named.into_iter().flatten().filter_map(Value::as_str);
    named.map(str::to_ascii_lowercase).collect()
}
