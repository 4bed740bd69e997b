//! Signed updates of a zone (RFC 2136) by its own server, over TCP.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep, timeout};

use super::exchange::{Broken, number, over_tcp};
use super::look::Lookout;
use super::message::{Answer, Change, Name, SOA, TXT, query, update};
use super::tsig::{FUDGE, Key, Unbelieved};
use crate::config::{Dns, Tsig};

/// For one question and its answer, the connection counted.
const EXCHANGE: Duration = Duration::from_secs(10);

/// The pause between two looks at a record grows from this to that.
const SOON: Duration = Duration::from_millis(250);
const LATER: Duration = Duration::from_secs(5);

/// A name server that takes updates.
pub(super) struct Server<'d> {
    dns: &'d Dns,
    address: SocketAddr,
    tsig: &'d Tsig,
    key: Key,
}

/// Where a record is written.
struct Place {
    zone: Name,
    name: Name,
}

impl<'d> Server<'d> {
    pub(super) fn of(
        address: SocketAddr,
        tsig: &'d Tsig,
        dns: &'d Dns,
    ) -> Result<Self, UpdateError> {
        let error = || UpdateError { server: address, led: None, fault: Fault::Name };
        Ok(Self { dns, address, tsig, key: Key::new(tsig).ok_or_else(error)? })
    }

    /// Adds a TXT record where `name` leads, and waits until the server shows it.
    pub(super) async fn show(&self, name: &Name, value: &str) -> Result<(), UpdateError> {
        let place = self.place_of(name).await?;
        self.change(&place, value, Change::Add).await?;
        self.wait_for(&place, value).await
    }

    /// Removes it.
    pub(super) async fn withdraw(&self, name: &Name, value: &str) -> Result<(), UpdateError> {
        let place = self.place_of(name).await?;
        self.change(&place, value, Change::Remove).await
    }

    /// Where `name` leads, and the zone that this is in. A name whose own zone is elsewhere may
    /// lead here: the server does not know that, but others do.
    async fn place_of(&self, name: &Name) -> Result<Place, UpdateError> {
        let (end, zone, refusal) = match self.look_up(name).await {
            Ok((end, zone)) => (end, zone, None),
            Err(error) if matches!(error.fault, Fault::Refused(_)) => {
                (name.clone(), None, Some(error))
            }
            Err(error) => return Err(error),
        };
        if let Some(zone) = zone {
            return self.within(end, zone);
        }
        let lookout = Lookout::by(&self.dns.resolvers);
        let end = if end == *name { lookout.canonical(name).await.unwrap_or(end) } else { end };
        if end == *name {
            let none = || self.error(Fault::NoZone(name.to_string()));
            return Err(refusal.unwrap_or_else(none));
        }
        let led = |error| UpdateError { led: Some((name.to_string(), end.to_string())), ..error };
        let (end, zone) = self.look_up(&end).await.map_err(led)?;
        match zone {
            Some(zone) => self.within(end, zone),
            None => Err(led(self.error(Fault::NoZone(end.to_string())))),
        }
    }

    /// Where `name` leads as far as the server knows, and the zone that this is in: whose start of
    /// authority comes with the answer, be it that there is nothing of that name (RFC 2308 §3).
    async fn look_up(&self, name: &Name) -> Result<(Name, Option<Name>), UpdateError> {
        let answer = self.ask(query(number(), name, SOA)).await?;
        let end = answer.follow(name);
        let mut zones = answer.records.into_iter().filter(|record| record.kind == SOA);
        let zone = zones.find(|record| end.is_within(&record.name)).map(|record| record.name);
        Ok((end, zone))
    }

    /// What is configured is believed, and nothing is written elsewhere.
    fn within(&self, name: Name, zone: Name) -> Result<Place, UpdateError> {
        let Some(wanted) = &self.dns.zone else { return Ok(Place { zone, name }) };
        match Name::parse(wanted).filter(|wanted| name.is_within(wanted)) {
            Some(zone) => Ok(Place { zone, name }),
            None => Err(self.error(Fault::Elsewhere(name.to_string()))),
        }
    }

    async fn change(&self, place: &Place, value: &str, change: Change) -> Result<(), UpdateError> {
        let message = update(number(), &place.zone, &place.name, value, change);
        let answer = self.ask(message).await?;
        // There is no name that could be unknown to an update.
        if answer.code == 0 { Ok(()) } else { Err(self.error(Fault::Refused(answer.code))) }
    }

    /// Looks until the record is there.
    async fn wait_for(&self, place: &Place, value: &str) -> Result<(), UpdateError> {
        let deadline = Instant::now() + self.dns.propagation;
        let mut pause = SOON;
        loop {
            let answer = self.ask(query(number(), &place.name, TXT)).await?;
            let mut records = answer.records.iter().filter(|record| record.name == place.name);
            if records.any(|record| record.is_text(value)) {
                return Ok(());
            }
            if Instant::now() + pause > deadline {
                let fault = Fault::Unseen(place.name.to_string(), self.dns.propagation);
                return Err(self.error(fault));
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(LATER);
        }
    }

    /// Signs a message, sends it, and believes the answer only when it is signed, too.
    async fn ask(&self, mut message: Vec<u8>) -> Result<Answer, UpdateError> {
        let mac = self.key.sign(&mut message, now());
        let exchanged = match timeout(EXCHANGE, over_tcp(self.address, &message)).await {
            Ok(exchanged) => exchanged.map_err(Fault::from),
            Err(_) => Err(Fault::Slow),
        };
        let received = exchanged.map_err(|fault| self.error(fault))?;
        let answer = Answer::parse(&received).filter(|answer| message.starts_with(&answer.id));
        let answer = answer.ok_or_else(|| self.error(Fault::Garbled))?;
        let is_fine = matches!(answer.code, 0 | NAME_UNKNOWN);
        match self.key.verify(&received, &answer, &mac, now()) {
            Ok(()) if is_fine => Ok(answer),
            Ok(()) => Err(self.error(Fault::Refused(answer.code))),
            // Who cannot read or will not serve does not sign either.
            Err(Unbelieved::Unsigned) if !is_fine => Err(self.error(Fault::Refused(answer.code))),
            Err(why) => Err(self.error(Fault::Unbelieved(why, self.tsig.name.clone()))),
        }
    }

    fn error(&self, fault: Fault) -> UpdateError {
        UpdateError { server: self.address, led: None, fault }
    }
}

/// The code for a name that does not exist.
const NAME_UNKNOWN: u8 = 3;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Why a name server has not changed a record, or may not have.
#[derive(Debug)]
pub struct UpdateError {
    server: SocketAddr,
    /// The name that leads, by an alias, to the one that it is about.
    led: Option<(String, String)>,
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
    Elsewhere(String),
    Unseen(String, Duration),
    Unbelieved(Unbelieved, String),
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::TooLong => Fault::Name,
            Broken::Unconnected(error) => Fault::Connect(error),
            Broken::Lost(error) => Fault::Lost(error),
        }
    }
}

impl UpdateError {
    /// Whether a record may stand there.
    pub(super) fn may_have_been_done(&self) -> bool {
        match &self.fault {
            Fault::Lost(_) | Fault::Slow | Fault::Garbled | Fault::Unseen(..) => true,
            Fault::Unbelieved(why, _) => matches!(why, Unbelieved::Unsigned | Unbelieved::Forged),
            Fault::Name | Fault::Connect(_) | Fault::Refused(_) => false,
            Fault::NoZone(_) | Fault::Elsewhere(_) => false,
        }
    }
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, end)) = &self.led {
            write!(f, "{name} leads to {end}, and ")?;
        }
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
            Fault::Elsewhere(name) => {
                write!(
                    f,
                    "is not told to write {name}, which is not in the zone of `acme.dns.zone`"
                )
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

impl std::error::Error for UpdateError {}

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
