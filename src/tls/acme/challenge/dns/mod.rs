//! Proofs in the DNS (RFC 8555 §8.4): a TXT record that is written to the zone's own server by a
//! signed update (RFC 2136), over TCP, and taken away again.

mod message;
mod tsig;
pub mod lookup;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use self::message::{Answer, Change, Name, SOA, TXT, query, update};
use self::tsig::{FUDGE, Key, Unbelieved};
use crate::config::Dns;

/// For one question and its answer, the connection counted.
const EXCHANGE: Duration = Duration::from_secs(10);

/// The pause between two looks at a record grows from this to that.
const SOON: Duration = Duration::from_millis(250);
const LATER: Duration = Duration::from_secs(5);

/// A proof that stands in the DNS until it is withdrawn.
#[derive(Debug)]
#[must_use = "it stands there until it is withdrawn"]
pub struct Proof {
    dns: Dns,
    zone: Name,
    name: Name,
    value: String,
}

impl Proof {
    /// Writes `value` at `_acme-challenge.` of `host` (a wildcard's is its parent's) and waits
    /// until the server shows it.
    ///
    /// # Errors
    /// When the server does not take it, or does not show it within the time of `dns`. Nothing is
    /// left there then, as far as the server still listens.
    pub async fn show(dns: &Dns, host: &str, value: &str) -> Result<Self, DnsError> {
        let server = Server::of(dns)?;
        let name = format!("_acme-challenge.{}", host.strip_prefix("*.").unwrap_or(host));
        let name = Name::parse(&name).ok_or(server.error(Fault::Name))?;
        let zone = match &dns.zone {
            Some(zone) => Name::parse(zone).ok_or(server.error(Fault::Name))?,
            None => server.zone_of(&name).await?,
        };
        let proof = Self { dns: dns.clone(), zone, name, value: value.to_owned() };
        let shown = match server.change(&proof, Change::Add).await {
            Ok(()) => server.wait_for(&proof).await,
            Err(error) => Err(error),
        };
        match shown {
            Ok(()) => Ok(proof),
            Err(error) => {
                // The answer may have been lost on the way, and not the update.
                if error.may_have_been_done() {
                    proof.withdraw().await.unwrap_or_else(|later| tracing::debug!("{later}"));
                }
                Err(error)
            }
        }
    }

    /// Takes it away.
    ///
    /// # Errors
    /// When the server does not do it.
    pub async fn withdraw(self) -> Result<(), DnsError> {
        Server::of(&self.dns)?.change(&self, Change::Remove).await
    }
}

/// A name server that takes updates.
struct Server<'d> {
    dns: &'d Dns,
    key: Key,
}

impl<'d> Server<'d> {
    fn of(dns: &'d Dns) -> Result<Self, DnsError> {
        let error = || DnsError { server: dns.server, fault: Fault::Name };
        Ok(Self { dns, key: Key::new(&dns.tsig).ok_or_else(error)? })
    }

    /// The zone that `name` is in: whose start of authority comes with the answer, be it that there
    /// is nothing of that name (RFC 2308 §3).
    async fn zone_of(&self, name: &Name) -> Result<Name, DnsError> {
        let answer = self.ask(query(number(), name, SOA)).await?;
        let mut zones = answer.records.into_iter().filter(|record| record.kind == SOA);
        let zone = zones.find(|record| name.is_within(&record.name));
        zone.map(|record| record.name).ok_or_else(|| self.error(Fault::NoZone(name.to_string())))
    }

    async fn change(&self, proof: &Proof, change: Change) -> Result<(), DnsError> {
        let Proof { zone, name, value, .. } = proof;
        let answer = self.ask(update(number(), zone, name, value, change)).await?;
        // There is no name that could be unknown to an update.
        if answer.code == 0 { Ok(()) } else { Err(self.error(Fault::Refused(answer.code))) }
    }

    /// Looks until the record is there.
    async fn wait_for(&self, proof: &Proof) -> Result<(), DnsError> {
        let deadline = Instant::now() + self.dns.propagation;
        let mut pause = SOON;
        loop {
            let answer = self.ask(query(number(), &proof.name, TXT)).await?;
            let mut records = answer.records.iter().filter(|record| record.name == proof.name);
            if records.any(|record| record.is_text(&proof.value)) {
                return Ok(());
            }
            if Instant::now() + pause > deadline {
                let fault = Fault::Unseen(proof.name.to_string(), self.dns.propagation);
                return Err(self.error(fault));
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(LATER);
        }
    }

    /// Signs a message, sends it, and believes the answer only when it is signed, too.
    async fn ask(&self, mut message: Vec<u8>) -> Result<Answer, DnsError> {
        let mac = self.key.sign(&mut message, now());
        let exchanged = timeout(EXCHANGE, exchange(self.dns.server, &message)).await;
        let received = exchanged.unwrap_or(Err(Fault::Slow)).map_err(|fault| self.error(fault))?;
        let answer = Answer::parse(&received).filter(|answer| message.starts_with(&answer.id));
        let answer = answer.ok_or_else(|| self.error(Fault::Garbled))?;
        let is_fine = matches!(answer.code, 0 | NAME_UNKNOWN);
        match self.key.verify(&received, &answer, &mac, now()) {
            Ok(()) if is_fine => Ok(answer),
            Ok(()) => Err(self.error(Fault::Refused(answer.code))),
            // Who cannot read or will not serve does not sign either.
            Err(Unbelieved::Unsigned) if !is_fine => Err(self.error(Fault::Refused(answer.code))),
            Err(why) => Err(self.error(Fault::Unbelieved(why, self.dns.tsig.name.clone()))),
        }
    }

    fn error(&self, fault: Fault) -> DnsError {
        DnsError { server: self.dns.server, fault }
    }
}

/// The code for a name that does not exist.
const NAME_UNKNOWN: u8 = 3;

/// Each message has its length before it (RFC 1035 §4.2.2).
async fn exchange(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut stream = TcpStream::connect(server).await.map_err(Fault::Connect)?;
    let _ = stream.set_nodelay(true);
    let length = u16::try_from(message.len()).map_err(|_| Fault::Name)?;
    let framed = [&length.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await.map_err(Fault::Lost)?;
    let length = stream.read_u16().await.map_err(Fault::Lost)?;
    let mut received = vec![0; usize::from(length)];
    stream.read_exact(&mut received).await.map_err(Fault::Lost)?;
    Ok(received)
}

/// A number that goes with a message. Each has a connection of its own, so that it need not be
/// secret.
fn number() -> u16 {
    u16::try_from(now() & 0xffff).unwrap_or_default()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Why a record is not there, or still is.
#[derive(Debug)]
pub struct DnsError {
    server: SocketAddr,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Name,
    Connect(io::Error),
    Lost(io::Error),
    Slow,
    Garbled,
    Refused(u8),
    NoZone(String),
    Unseen(String, Duration),
    Unbelieved(Unbelieved, String),
}

impl DnsError {
    fn may_have_been_done(&self) -> bool {
        match &self.fault {
            Fault::Lost(_) | Fault::Slow | Fault::Garbled | Fault::Unseen(..) => true,
            Fault::Unbelieved(why, _) => matches!(why, Unbelieved::Unsigned | Unbelieved::Forged),
            Fault::Name | Fault::Connect(_) | Fault::Refused(_) | Fault::NoZone(_) => false,
        }
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name server {} ", self.server)?;
        match &self.fault {
            Fault::Name => f.write_str("cannot be asked: a name is too long for the DNS"),
            Fault::Connect(error) => {
                write!(f, "is not reached: {error} (does it listen there, over TCP?)")
            }
            Fault::Lost(error) => write!(f, "was lost before it had answered: {error}"),
            Fault::Slow => write!(f, "did not answer within {EXCHANGE:?}"),
            Fault::Garbled => f.write_str("answered what is no DNS"),
            Fault::Refused(code) => f.write_str(&refusal(*code)),
            Fault::NoZone(name) => {
                write!(f, "does not say which zone {name} is in (does it serve that zone?)")
            }
            Fault::Unseen(name, wait) => {
                write!(f, "took a record for {name}, but did not show it within {wait:?}")
            }
            Fault::Unbelieved(why, key) => match why {
                Unbelieved::Unsigned => f.write_str("did not sign its answer"),
                Unbelieved::Forged => f.write_str("answered with a signature that is not its own"),
                Unbelieved::Key => write!(f, "does not know the key `{key}` of `acme.dns.tsig`"),
                Unbelieved::Signature => write!(
                    f,
                    "has another secret or algorithm for the key `{key}` than `acme.dns.tsig`"
                ),
                Unbelieved::Time => {
                    write!(f, "has a clock that differs from this host's by more than {FUDGE} s")
                }
            },
        }
    }
}

impl std::error::Error for DnsError {}

/// What a code means (RFC 1035 §4.1.1, RFC 2136 §2.2).
fn refusal(code: u8) -> String {
    match code {
        1 => "could not read what it was asked".to_owned(),
        2 => "failed, without saying why".to_owned(),
        4 => "takes no updates".to_owned(),
        5 => "refuses: the key may not change this record, or nobody may".to_owned(),
        9 => "does not serve the zone, or the key is not for it".to_owned(),
        10 => "says that the name is not in the zone of `acme.dns.zone`".to_owned(),
        _ => format!("refuses with code {code}"),
    }
}
