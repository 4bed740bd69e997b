//! Whether a record is seen: at all servers of its zone where they are found and answer, else at
//! those that are asked for them. An authority asks the servers of the zone, too.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::exchange::{ask, number};
use super::message::{A, AAAA, Answer, NS, Name, Record, SOA, TXT, query, recursive_query};

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
pub(super) const NAME_UNKNOWN: u8 = 3;

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
            [] => servers(),
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
            if found.as_ref().is_none_or(|zone: &Zone| zone.servers.is_empty()) {
                found = self.zone_of(name).await.or(found);
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
        let mut name = name;
        if let Some(zone) = found {
            let sight = judge(each(&zone.servers, &query(number(), &zone.name, TXT)).await, value);
            if sight != Sight::Blind {
                return sight;
            }
            name = &zone.name;
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

    /// Where `name` leads, and the servers of that zone as far as they are found; `None` where
    /// nobody answers.
    async fn zone_of(&self, name: &Name) -> Option<Zone> {
        let answer = self.resolve(name, SOA).await?;
        let name = answer.follow(name);
        let mut zones = answer.records.iter().filter(|record| record.kind == SOA);
        // The start of the root's authority says only that nobody has the name.
        let zone = zones.find(|zone| name.is_within(&zone.name) && !zone.name.is_root());
        let servers = match zone {
            Some(zone) => self.servers_of(&zone.name).await,
            None => Vec::new(),
        };
        Some(Zone { name, servers })
    }

    async fn servers_of(&self, zone: &Name) -> Vec<SocketAddr> {
        let mut servers = Vec::new();
        let Some(zone) = self.resolve(zone, NS).await else { return servers };
        for server in zone.records.iter().filter(|record| record.kind == NS).take(MOST) {
            let Some(server) = &server.target else { continue };
            for kind in [A, AAAA] {
                let Some(answer) = self.resolve(server, kind).await else { continue };
                let addresses = answer.records.iter().filter_map(Record::address);
                servers.extend(addresses.map(|address| SocketAddr::new(address, self.port)));
            }
        }
        servers.sort();
        servers.dedup();
        servers.truncate(MOST);
        servers
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

/// The name that a record is at in the end, and who knows its zone.
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

/// The name servers that this host asks.
#[must_use]
pub fn servers() -> Vec<SocketAddr> {
    listed(&fs::read_to_string(LIST).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::net::UdpSocket;

    use super::super::message::CNAME;
    use super::*;

    /// What a name server knows: names, types and data.
    type Records = Vec<(&'static str, u16, Vec<u8>)>;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn text(value: &str) -> Vec<u8> {
        [&[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    }

    /// A name server on this address that answers from `records`, which change as it runs.
    async fn server(address: &str, records: &Arc<Mutex<Records>>) -> SocketAddr {
        let socket = UdpSocket::bind(address).await.unwrap();
        let place = socket.local_addr().unwrap();
        let records = Arc::clone(records);
        tokio::spawn(async move {
            let mut received = [0; 512];
            loop {
                let (length, peer) = socket.recv_from(&mut received).await.unwrap();
                let asked = &received[..length];
                let kind = u16::from_be_bytes([asked[length - 4], asked[length - 3]]);
                let answer = answer(asked, kind, &records.lock().unwrap());
                socket.send_to(&answer, peer).await.unwrap();
            }
        });
        place
    }

    fn answer(asked: &[u8], kind: u16, records: &Records) -> Vec<u8> {
        let mut message = asked.to_vec();
        message[2] |= 0x84;
        let question = &asked[12..asked.len() - 4];
        for (owner, of, data) in records {
            if name(owner).wire() != question || ![kind, CNAME].contains(of) {
                continue;
            }
            message[7] += 1;
            message.extend([0xc0, 12]);
            message.extend(of.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend(data);
        }
        if kind == SOA && message[7] == 0 {
            // As with the answer that there is nothing of that type.
            message[9] = 1;
            message.extend(name("shop.test").wire());
            message.extend([0, 6, 0, 1, 0, 0, 0, 60, 0, 1, 0]);
        }
        message
    }

    fn zone() -> Records {
        vec![
            ("shop.test", NS, name("a.shop.test").wire().to_vec()),
            ("shop.test", NS, name("b.shop.test").wire().to_vec()),
            ("a.shop.test", A, vec![127, 0, 0, 2]),
            ("b.shop.test", A, vec![127, 0, 0, 3]),
        ]
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn every_server_of_the_zone_has_to_show_it() {
        let [knows, first, second] =
            [zone(), zone(), zone()].map(|zone| Arc::new(Mutex::new(zone)));
        let resolver = server("127.0.0.1:0", &knows).await;
        let a = server("127.0.0.2:0", &first).await;
        let b = server(&format!("127.0.0.3:{}", a.port()), &second).await;
        let lookout = Lookout { resolvers: vec![resolver], port: a.port() };
        let record = name("_acme-challenge.shop.test");
        let look = |patience| lookout.wait_for(&record, "proof", patience);
        assert_eq!(look(Duration::ZERO).await, Sight::Unseen(vec![a, b]));
        let shown = ("_acme-challenge.shop.test", TXT, text("proof"));
        // What others remember says nothing.
        knows.lock().unwrap().push(shown.clone());
        first.lock().unwrap().push(shown.clone());
        assert_eq!(look(Duration::ZERO).await, Sight::Unseen(vec![b]));
        let later = async {
            tokio::task::yield_now().await;
            second.lock().unwrap().push(shown);
        };
        let (sight, ()) = tokio::join!(look(PATIENCE), later);
        assert_eq!(sight, Sight::Seen);
    }

    #[tokio::test]
    async fn where_the_zone_has_no_server_that_answers_others_are_believed() {
        let mut records = zone();
        records.push(("_acme-challenge.shop.test", CNAME, name("x.shop.test").wire().to_vec()));
        let records = Arc::new(Mutex::new(records));
        let resolver = server("127.0.0.1:0", &records).await;
        let lookout = Lookout { resolvers: vec![resolver], port: 1 };
        let record = name("_acme-challenge.shop.test");
        assert_eq!(lookout.canonical(&record).await, Some(name("x.shop.test")));
        let look = |value| lookout.wait_for(&record, value, Duration::ZERO);
        assert_eq!(look("proof").await, Sight::Unseen(vec![resolver]));
        let shown = ("x.shop.test", TXT, text("proof"));
        records.lock().unwrap().push(shown);
        assert_eq!(look("proof").await, Sight::Seen);
        assert_eq!(look("another").await, Sight::Unseen(vec![resolver]));
    }

    #[tokio::test]
    async fn nobody_who_answers_is_nobody_who_sees() {
        let lookout = Lookout { resolvers: vec!["127.0.0.1:1".parse().unwrap()], port: 1 };
        let record = name("_acme-challenge.shop.test");
        assert_eq!(lookout.wait_for(&record, "proof", Duration::ZERO).await, Sight::Blind);
    }

    #[test]
    fn the_systems_name_servers_are_those_of_its_list() {
        let list = "# nameserver 192.0.2.1\nsearch a.test\nnameserver 192.0.2.2\n\
                    nameserver\t2001:db8::53 \nnameserver fe80::1%eth0\nnameservers 192.0.2.3\n";
        let places = |text: &str| listed(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(places(list), ["192.0.2.2:53", "[2001:db8::53]:53"]);
        assert_eq!(places(""), ["127.0.0.1:53"]);
        assert_eq!(places(&"nameserver 192.0.2.9\n".repeat(9)).len(), 3);
    }
}
