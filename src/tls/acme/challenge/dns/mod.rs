//! Proofs in the DNS (RFC 8555 §8.4): a TXT record that is written by a signed update of the zone's
//! own server (`update`) or by a program of the operator, waited for until it is seen (`look`),
//! and taken away again.

mod message;
mod tsig;
pub mod lookup;
mod exchange;
mod update;
mod look;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use self::look::{Lookout, Sight};
use self::message::Name;
use self::update::{Server, UpdateError};
use crate::config::{Dns, Writer};
use crate::helper::client::{Line, NoHelp};
use crate::helper::hook::{Action, Ended};
use crate::tls::acme::record_of;

/// Who writes, and who is asked to run what only the helper may.
#[derive(Clone, Copy, Debug)]
pub struct Scribe<'a> {
    /// What the configuration says.
    pub dns: &'a Dns,
    /// The helper, while there is one.
    pub helper: Option<&'a Line>,
}

impl Scribe<'_> {
    /// Writes `value` where it proves `host`.
    ///
    /// # Errors
    /// When it is not written; see [`DnsError::may_have_been_done`].
    pub async fn write(&self, host: &str, value: &str) -> Result<(), DnsError> {
        let record = record_of(host);
        let name = Name::parse(&record).ok_or(DnsError::TooLong)?;
        match &self.dns.writer {
            Writer::Server { address, tsig } => {
                let server = Server::of(*address, tsig, self.dns)?;
                Ok(server.show(&name, value).await?)
            }
            Writer::Hook(_) => self.run(Action::Present, &record, value).await,
        }
    }

    /// Waits until everybody who is asked shows what was written. Where nobody can be asked the
    /// authority is believed to see more.
    ///
    /// # Errors
    /// When it is not seen within the time of the configuration.
    pub async fn wait_for(&self, host: &str, value: &str) -> Result<(), DnsError> {
        let name = Name::parse(&record_of(host)).ok_or(DnsError::TooLong)?;
        let patience = self.dns.propagation;
        let lookout = match &self.dns.writer {
            Writer::Server { address, .. } => Lookout::after(*address, &self.dns.resolvers),
            Writer::Hook(_) => Lookout::by(&self.dns.resolvers),
        };
        match lookout.wait_for(&name, value, patience).await {
            Sight::Seen => Ok(()),
            Sight::Blind => {
                tracing::warn!(
                    "no name server tells whether a record for {name} is seen; the authority is \
                     asked to look all the same"
                );
                Ok(())
            }
            Sight::Unseen(servers) => {
                let servers = servers.iter().map(ToString::to_string).collect();
                Err(DnsError::Unseen { name: name.to_string(), servers, patience })
            }
        }
    }

    /// Takes it away.
    ///
    /// # Errors
    /// When the writer does not do it.
    pub async fn withdraw(&self, host: &str, value: &str) -> Result<(), DnsError> {
        let record = record_of(host);
        match &self.dns.writer {
            Writer::Server { address, tsig } => {
                let name = Name::parse(&record).ok_or(DnsError::TooLong)?;
                let server = Server::of(*address, tsig, self.dns)?;
                Ok(server.withdraw(&name, value).await?)
            }
            Writer::Hook(_) => self.run(Action::Cleanup, &record, value).await,
        }
    }

    async fn run(&self, action: Action, record: &str, value: &str) -> Result<(), DnsError> {
        let Writer::Hook(hook) = &self.dns.writer else { return Ok(()) };
        let program = hook.program.clone();
        let ended = match self.helper {
            Some(helper) => helper.hook(action, record, value, self.dns.propagation).await,
            None => Err(NoHelp::Gone),
        };
        match ended {
            Ok(ended) if ended.is_success() => Ok(()),
            Ok(ended) => Err(DnsError::Hook { program, action, ended }),
            Err(why) => Err(DnsError::NoHook { program, action, why }),
        }
    }
}

/// Why a record is not there, or still is.
#[derive(Debug)]
pub enum DnsError {
    /// The name is too long for the DNS.
    TooLong,
    /// The name server does not do it.
    Update(UpdateError),
    /// The hook failed.
    Hook {
        /// The program.
        program: PathBuf,
        /// What it was to do.
        action: Action,
        /// How it ended.
        ended: Ended,
    },
    /// The hook was not run, or what came of it is not known.
    NoHook {
        /// The program.
        program: PathBuf,
        /// What it was to do.
        action: Action,
        /// Why.
        why: NoHelp,
    },
    /// It was written, but these do not show it.
    Unseen {
        /// The name of the record.
        name: String,
        /// Who does not show it.
        servers: Vec<String>,
        /// How long was waited.
        patience: Duration,
    },
}

impl DnsError {
    /// Whether there is something to be taken away. A hook that failed may have done half of it.
    #[must_use]
    pub fn may_have_been_done(&self) -> bool {
        match self {
            DnsError::TooLong => false,
            DnsError::Update(error) => error.may_have_been_done(),
            DnsError::NoHook { why, .. } => !matches!(why, NoHelp::Refused(_) | NoHelp::Busy),
            DnsError::Hook { .. } | DnsError::Unseen { .. } => true,
        }
    }
}

impl From<UpdateError> for DnsError {
    fn from(error: UpdateError) -> Self {
        Self::Update(error)
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsError::TooLong => f.write_str("the name is too long for the DNS"),
            DnsError::Update(error) => error.fmt(f),
            DnsError::Hook { program, action, ended } => {
                write!(f, "the hook {} ({}) {ended}", program.display(), action.word())
            }
            DnsError::NoHook { program, action, why } => {
                write!(f, "the hook {} ({}) was not run: {why}", program.display(), action.word())
            }
            DnsError::Unseen { name, servers, patience } => write!(
                f,
                "a record for {name} was written, but {} did not show it within {patience:?}; \
                 where they are none that the authority asks, name others in acme.dns.resolvers",
                servers.join(", ")
            ),
        }
    }
}

impl std::error::Error for DnsError {}
