//! Authorities of certificates, as the program uses them.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Automatic certificates.
#[derive(Clone, Debug, PartialEq)]
pub struct Acme {
    /// Told to the authorities for warnings.
    pub email: Option<String>,
    /// Whom to ask, in this order; at least one.
    pub authorities: Vec<Authority>,
    /// Where keys, certificates and the local authority are kept.
    pub storage: PathBuf,
    /// The kind of key that certificates are for, unless their site says otherwise.
    pub key_type: KeyType,
    /// How names are proved, in this order; empty for whatever can work.
    pub challenges: Vec<ChallengeKind>,
    /// Whether a name that never succeeded is tried at the staging directory first.
    pub staging_first: bool,
    /// How dns-01 writes to the DNS.
    pub dns: Option<Dns>,
    /// How many certificates a minute may be begun for names of on-demand sites, in all.
    pub on_demand_rate: u32,
}

/// An authority that issues certificates by ACME (RFC 8555).
#[derive(Clone, Debug, PartialEq)]
pub struct Authority {
    /// Its directory URL, https.
    pub directory: String,
    /// PEM file of roots to trust for the directory itself; `None` for the system's.
    pub ca: Option<PathBuf>,
    /// What binds the account to one that the authority knows already.
    pub eab: Option<Eab>,
    /// The profile to ask for, where the authority offers it.
    pub profile: Option<String>,
    /// Its directory for trials.
    pub staging_directory: Option<String>,
}

/// External account binding (RFC 8555 §7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Eab {
    /// The identifier of the key.
    pub kid: String,
    /// The HMAC key; it is never shown.
    pub key: Vec<u8>,
}

impl fmt::Debug for Eab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eab").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// How dns-01 writes to the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Who writes.
    pub writer: Writer,
    /// The zone, in lower case; `None` for whichever a name is in.
    pub zone: Option<String>,
    /// Who is asked whether a record is seen; empty for the system's name servers.
    pub resolvers: Vec<SocketAddr>,
    /// The longest wait for a record to be seen, and the longest run of a hook.
    pub propagation: Duration,
}

/// Who writes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A name server, by signed updates (RFC 2136).
    Server {
        /// Its address.
        address: SocketAddr,
        /// What updates are signed with.
        tsig: Tsig,
    },
    /// A program of the operator.
    Hook(Hook),
}

/// A program of the operator that writes records, run by the helper process.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, without its name; they may be secrets and are never shown.
    pub arguments: Vec<String>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("program", &self.program).finish_non_exhaustive()
    }
}

/// A key that updates of a zone are signed with (RFC 8945).
#[derive(Clone, PartialEq, Eq)]
pub struct Tsig {
    /// Its name, in lower case.
    pub name: String,
    /// What it is for.
    pub algorithm: TsigAlgorithm,
    /// The secret; it is never shown.
    pub secret: Vec<u8>,
}

impl fmt::Debug for Tsig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tsig").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The algorithm of a TSIG key (RFC 8945 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// ECDSA on the curve P-256.
    #[default]
    P256,
    /// ECDSA on the curve P-384.
    P384,
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 4096 bits.
    Rsa4096,
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyType::P256 => "p256",
            KeyType::P384 => "p384",
            KeyType::Rsa2048 => "rsa2048",
            KeyType::Rsa4096 => "rsa4096",
        })
    }
}

/// How a name is proved to an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChallengeKind {
    /// A token at `http://NAME/.well-known/acme-challenge/` (RFC 8555 §8.3).
    Http01,
    /// A certificate in a TLS handshake (RFC 8737).
    TlsAlpn01,
    /// A TXT record (RFC 8555 §8.4); the only one for wildcards.
    Dns01,
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChallengeKind::Http01 => "http-01",
            ChallengeKind::TlsAlpn01 => "tls-alpn-01",
            ChallengeKind::Dns01 => "dns-01",
        })
    }
}
