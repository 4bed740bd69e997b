//! `portcullis certs`: what certificates there are, and what can be done with them.

mod account;
mod list;
mod outlook;
mod renew;
mod revoke;
mod show;
mod export;
mod trust;

use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use clap::{Args, Subcommand};

use super::Stop;
use super::hsts::HstsArgs;
use crate::config::{self, Config, Problems};
use crate::exit;
use crate::tls::local_ca::LocalError;
use crate::tls::trust::TrustStore;
use export::ExportArgs;
use list::ListArgs;
use renew::RenewArgs;
use revoke::RevokeArgs;
use show::ShowArgs;
use trust::{TrustArgs, UntrustArgs};

/// Certificates: list, show, export, renew and revoke them, trust the local authority
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CertsArgs {
    #[command(subcommand)]
    verb: Option<CertsVerb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum CertsVerb {
    /// Show every certificate: names, issuer, key, expiry, where from, renewal, last error
    List(ListArgs),
    /// Show everything that a certificate and its chain say, and where they lie
    Show(ShowArgs),
    /// Print a certificate and its chain in PEM; the private key goes to a file of its own
    Export(ExportArgs),
    /// Have the running server ask for certificates by ACME now: what is due or has failed
    Renew(RenewArgs),
    /// Have the authority that issued a certificate revoke it, and ask for another with a new key
    Revoke(RevokeArgs),
    /// What sites tell browsers by Strict-Transport-Security, and the way back down
    Hsts(HstsArgs),
    /// Make this host and your browsers trust the local authority (as root, with sudo; makes the
    /// authority where there is none)
    Trust(TrustArgs),
    /// Take the local authority out of the stores of this host and of your browsers (as root)
    Untrust(UntrustArgs),
}

/// Does what is said and returns the exit code.
#[must_use]
pub fn run(args: &CertsArgs) -> u8 {
    let now = SystemTime::now();
    let done = match &args.verb {
        None => list::list(&args.list, now),
        Some(CertsVerb::List(args)) => list::list(args, now),
        Some(CertsVerb::Show(args)) => show::show(args, now),
        Some(CertsVerb::Export(args)) => export::export(args, now),
        Some(CertsVerb::Renew(args)) => renew::renew(args, now),
        Some(CertsVerb::Revoke(args)) => revoke::revoke(args, now),
        Some(CertsVerb::Hsts(args)) => hsts(args),
        Some(CertsVerb::Trust(args)) => trust::trust(args, &TrustStore::system(), now),
        Some(CertsVerb::Untrust(args)) => trust::untrust(args, &TrustStore::system(), now),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "portcullis: {}", failure.message);
            failure.code
        }
    }
}

/// What is told to the operator, and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

fn hsts(args: &HstsArgs) -> Result<u8, Failure> {
    let (told, code) = args.run()?;
    say(&told);
    Ok(code)
}

impl From<Stop> for Failure {
    fn from(Stop { text, code }: Stop) -> Self {
        Failure { message: text, code }
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        let code = if error.is_permission() { exit::NOT_PERMITTED } else { exit::FAILED };
        Failure { message: error.to_string(), code }
    }
}

/// Prints to standard output. A reader that has gone away (`| head`) is no error.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn load_config(path: &Path) -> Result<Config, Failure> {
    config::load(path).map(|loaded| loaded.config).map_err(|problems| wrong(&problems))
}

fn wrong(problems: &Problems) -> Failure {
    Failure { message: problems.to_string(), code: exit::CONFIG }
}
