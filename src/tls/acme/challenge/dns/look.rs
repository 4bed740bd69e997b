//! Whether a record is seen: at all servers of its zone where they are found and answer, else at
//! those that are asked for them. An authority asks the servers of the zone, too.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::exchange::{ask, number};
use super::message::{A, AAAA, Answer, NS, Name, SOA, TXT, query, recursive_query};

/// The port of the DNS.
const PORT: u16 = 53;

/// Where the system's name servers are listed (resolv.conf(5)), and how many of them count.
const LIST: &str = "/etc/resolv.conf";
const LISTED: usize = 3;

/// Servers of a zone that are asked at most; thirteen is the most that a zone has by custom.
const MOST: usize = 16;

/// The pause between two looks grows from this to that.
const SOON: Duration = Duration::from_millis(250);
const LATER: Duration = Duration::from_secs(5);

/// The code for a name that does not exist (RFC 1035 §4.1.1).
const NAME_UNKNOWN: u8 = 3;

/// Who looks.
#[derive(Clone, Debug)]
pub(super) struct Lookout {
    resolvers: Vec<SocketAddr>,
    /// The port of the servers of zones.
    port: u16,
}

/// What is seen of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Everybody who answers shows it.
    Seen,
    /// These answer, and do not show it.
    Unseen(Vec<SocketAddr>),
    /// Nobody answers.
    Blind,
}

impl Lookout {
    /// Asks `resolvers`, and where there are none the system's.
    pub(super) fn by(resolvers: &[SocketAddr]) -> Self {
        let resolvers = match resolvers {
            [] => listed(&fs::read_to_string(LIST).unwrap_or_default()),
            some => some.to_vec(),
        };
        Self { resolvers, port: PORT }
    }

    /// Asks `server`, which knows its zones best, before those.
    pub(super) fn after(server: SocketAddr, resolvers: &[SocketAddr]) -> Self {
        let mut lookout = Self::by(resolvers);
        lookout.resolvers.insert(0, server);
        lookout
    }

    /// Looks for a TXT record until it is seen, for as long as `patience`; then says what was seen
    /// last.
    pub(super) async fn wait_for(&self, name: &Name, value: &str, patience: Duration) -> Sight {
        let deadline = Instant::now() + patience;
        let mut pause = SOON;
        let mut found = None;
        loop {
            if found.is_none() {
                found = self.servers_of(name).await;
            }
            let sight = self.look(found.as_ref(), name, value).await;
            if sight == Sight::Seen || Instant::now() + pause > deadline {
                return sight;
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(LATER);
        }
    }

    /// Where the aliases of `name` lead, as far as somebody who is asked knows.
    pub(super) async fn canonical(&self, name: &Name) -> Option<Name> {
        self.resolve(name, SOA).await.map(|answer| answer.follow(name))
    }

    /// Looks once.
    async fn look(&self, found: Option<&Zone>, name: &Name, value: &str) -> Sight {
        if let Some(zone) = found {
            let sight = judge(each(&zone.servers, &query(number(), &zone.name, TXT)).await, value);
            if sight != Sight::Blind {
                return sight;
            }
        }
        // One that does not answer is passed over, as by whoever asks it for addresses.
        for resolver in &self.resolvers {
            let answer = ask(*resolver, &recursive_query(number(), name, TXT)).await;
            let sight = judge(vec![(*resolver, answer.ok())], value);
            if sight != Sight::Blind {
                return sight;
            }
        }
        Sight::Blind
    }

    /// The servers of the zone that `name` leads into; `None` where they are not found.
    async fn servers_of(&self, name: &Name) -> Option<Zone> {
        let answer = self.resolve(name, SOA).await?;
        let name = answer.follow(name);
        let mut zones = answer.records.iter().filter(|record| record.kind == SOA);
        // The start of the root's authority says only that nobody has the name.
        let zone = zones.find(|zone| name.is_within(&zone.name) && !zone.name.is_root())?;
        let zone = self.resolve(&zone.name, NS).await?;
        let mut servers = Vec::new();
        for server in zone.records.iter().filter(|record| record.kind == NS) {
            let Some(server) = &server.target else { continue };
            for kind in [A, AAAA] {
                let Some(answer) = self.resolve(server, kind).await else { continue };
                let addresses = answer.records.iter().filter_map(|record| record.address());
                servers.extend(addresses.map(|address| SocketAddr::new(address, self.port)));
            }
        }
        servers.sort();
        servers.dedup();
        servers.truncate(MOST);
        (!servers.is_empty()).then_some(Zone { name, servers })
    }

    /// The first answer that is one.
    async fn resolve(&self, name: &Name, kind: u16) -> Option<Answer> {
        for resolver in &self.resolvers {
            match ask(*resolver, &recursive_query(number(), name, kind)).await {
                Ok(answer) if is_fine(&answer) => return Some(answer),
                Ok(answer) => tracing::debug!("{resolver} answers {name} with {}", answer.code),
                Err(error) => tracing::debug!("{resolver} does not answer {name}: {error}"),
            }
        }
        None
    }
}

/// The name that a record is at in the end, and who knows it.
struct Zone {
    name: Name,
    servers: Vec<SocketAddr>,
}

fn is_fine(answer: &Answer) -> bool {
    matches!(answer.code, 0 | NAME_UNKNOWN)
}

/// Asks all of them at once.
async fn each(servers: &[SocketAddr], query: &[u8]) -> Vec<(SocketAddr, Option<Answer>)> {
    let mut asked = JoinSet::new();
    for server in servers {
        let (server, query) = (*server, query.to_vec());
        asked.spawn(async move { (server, ask(server, &query).await.ok()) });
    }
    asked.join_all().await
}

/// What those that answer show. One that fails, or is not for the zone, does not count.
fn judge(answers: Vec<(SocketAddr, Option<Answer>)>, value: &str) -> Sight {
    let mut is_seen = false;
    let mut without = Vec::new();
    for (server, answer) in answers {
        let Some(answer) = answer.filter(is_fine) else { continue };
        if answer.records.iter().any(|record| record.is_text(value)) {
            is_seen = true;
        } else {
            without.push(server);
        }
    }
    without.sort();
    match (is_seen, without.is_empty()) {
        (_, false) => Sight::Unseen(without),
        (true, true) => Sight::Seen,
        (false, true) => Sight::Blind,
    }
}

/// The name servers of a resolv.conf(5); without one it is this host.
fn listed(text: &str) -> Vec<SocketAddr> {
    let words = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    };
    let mut servers: Vec<SocketAddr> =
        text.lines().filter_map(words).map(|ip| SocketAddr::new(ip, PORT)).take(LISTED).collect();
    if servers.is_empty() {
        servers.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
    }
    servers
}
