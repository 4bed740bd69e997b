//! `portcullis certs`: what certificates there are, and trust in the local authority.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::hsts::HstsArgs;
use super::{ConfigFile, DEFAULT_CONFIG};
use crate::config::{self, Config};
use crate::exit;
use crate::tls::facts::date;
use crate::tls::local_ca::{LocalAuthority, LocalError};
use crate::tls::trust::{TrustError, TrustStore, commands};
use crate::tls::wanted::Found;
use crate::tls::{CertificateError, storage, survey};

/// Where certificates are kept when no configuration says otherwise.
const DEFAULT_STORAGE: &str = "/var/lib/portcullis";

/// Certificates: list them, trust the local authority
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
    /// Show every certificate: names, site, issuer, expiry, where from
    List(ListArgs),
    /// What sites tell browsers by Strict-Transport-Security, and the way back down
    Hsts(HstsArgs),
    /// Make this host trust the local authority (as root; makes the authority where there is none)
    Trust(TrustArgs),
    /// Take the local authority out of this host's trust store (as root)
    Untrust(UntrustArgs),
}

#[derive(Args, Debug)]
struct ListArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct TrustArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Print the root in PEM and change nothing
    #[arg(long)]
    print: bool,
}

#[derive(Args, Debug)]
struct UntrustArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Take out every root that a local authority of Portcullis ever put there
    #[arg(long)]
    all: bool,
}

/// Does what is said and returns the exit code.
#[must_use]
pub fn run(args: &CertsArgs) -> u8 {
    let now = SystemTime::now();
    let done = match &args.verb {
        None => list(&args.list, now),
        Some(CertsVerb::List(args)) => list(args, now),
        Some(CertsVerb::Hsts(args)) => hsts(args),
        Some(CertsVerb::Trust(args)) => trust(args, &TrustStore::system(), now),
        Some(CertsVerb::Untrust(args)) => untrust(args, &TrustStore::system(), now),
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

fn list(args: &ListArgs, now: SystemTime) -> Result<u8, Failure> {
    let config = load_config(&args.file.config)
        .map_err(|message| Failure { message, code: exit::CONFIG })?;
    let found = survey(&config, now);
    if args.json {
        say(&format!("{:#}\n", as_json(&found, now)));
    } else {
        say(&as_text(&found, now));
    }
    let in_order = found.iter().all(|entry| entry.certificate.is_ok() && entry.warnings.is_empty());
    Ok(if in_order { exit::OK } else { exit::FAILED })
}

fn hsts(args: &HstsArgs) -> Result<u8, Failure> {
    let config = load_config(&args.file().config)
        .map_err(|message| Failure { message, code: exit::CONFIG })?;
    let told = args.run(&config);
    let told = told.map_err(|message| Failure { message, code: exit::FAILED })?;
    say(&told);
    Ok(exit::OK)
}

fn as_text(found: &[Found], now: SystemTime) -> String {
    if found.is_empty() {
        return "no certificates: the configuration has no HTTPS listener\n".to_owned();
    }
    let mut rows = vec![["NAMES", "SITE", "ISSUER", "EXPIRES", "FROM"].map(str::to_owned)];
    let mut notes = String::new();
    for entry in found {
        let asked = || entry.hosts.join(", ");
        let [names, issuer, expires] = match &entry.certificate {
            Ok(Some(info)) => {
                let days = info.days_left(now);
                let left = if days < 0 { "expired".into() } else { format!("{days} days left") };
                let expires = format!("{} ({left})", date(info.not_after));
                [info.names.join(", "), info.issuer.clone(), expires]
            }
            Ok(None) => [asked(), "-".to_owned(), "made at first start".to_owned()],
            Err(error) => {
                notes += &format!("error: {error}\n");
                [asked(), "-".to_owned(), "error, see below".to_owned()]
            }
        };
        rows.push([names, entry.site.clone(), issuer, expires, entry.source.to_string()]);
        for warning in &entry.warnings {
            notes += &format!("warning: site {}: {warning}\n", entry.site);
        }
    }
    columns(&rows) + &notes
}

fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column| rows.iter().map(|row| row.get(column).map_or(0, String::len)).max();
    let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let line: String =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn as_json(found: &[Found], now: SystemTime) -> Value {
    let stamp = |moment| jiff::Timestamp::try_from(moment).map(|t| t.to_string()).ok();
    let entry = |entry: &Found| {
        let info = entry.certificate.as_ref().ok().and_then(Option::as_ref);
        json!({
            "site": entry.site,
            "hosts": entry.hosts,
            "source": entry.source.to_string(),
            "state": match &entry.certificate {
                Err(_) => "error",
                Ok(None) => "made at first start",
                Ok(Some(info)) if info.days_left(now) < 0 => "expired",
                Ok(Some(_)) => "present",
            },
            "names": info.map(|info| &info.names),
            "issuer": info.map(|info| &info.issuer),
            "not_before": info.and_then(|info| stamp(info.not_before)),
            "not_after": info.and_then(|info| stamp(info.not_after)),
            "days_left": info.map(|info| info.days_left(now)),
            "error": entry.certificate.as_ref().err().map(CertificateError::reason),
            "warnings": entry.warnings,
        })
    };
    json!({ "version": 1, "certificates": found.iter().map(entry).collect::<Vec<_>>() })
}

fn trust(args: &TrustArgs, store: &TrustStore, now: SystemTime) -> Result<u8, Failure> {
    let path = &args.file.config;
    let storage = storage_of(path)?;
    if args.print {
        let Some(authority) = LocalAuthority::open(&storage, now)? else {
            return Err(none_yet(&storage));
        };
        say(authority.root_pem());
        return Ok(exit::OK);
    }
    let again = format!("portcullis certs trust -c {}", path.display());
    store.check().map_err(|error| {
        // The authority of a user's own storage is not the one that root would find.
        let remedy = match LocalAuthority::open(&storage, now) {
            Ok(Some(mine)) => commands(&format!("{again} --print"), &store.place(&mine)),
            _ => format!("sudo {again}"),
        };
        refused(&error, &remedy)
    })?;
    let authority = LocalAuthority::open_or_create(&storage, now)?;
    let place = store.add(&authority).map_err(|error| refused(&error, &format!("sudo {again}")))?;
    say(&format!(
        "this host now trusts the local authority: {}\n\
         Firefox and Chrome keep stores of their own; import that file there as an authority.\n",
        place.display()
    ));
    Ok(exit::OK)
}

fn untrust(args: &UntrustArgs, store: &TrustStore, now: SystemTime) -> Result<u8, Failure> {
    let roots = if args.all {
        store.installed()
    } else {
        let storage = storage_of(&args.file.config)?;
        match LocalAuthority::open(&storage, now)? {
            Some(authority) => vec![store.place(&authority)],
            None => return Err(none_yet(&storage)),
        }
    };
    let again = format!("sudo portcullis certs untrust -c {}", args.file.config.display());
    let removed = store.remove(&roots).map_err(|error| refused(&error, &again))?;
    if removed.is_empty() {
        say("this host did not trust the local authority; nothing to do\n");
    }
    for root in removed {
        say(&format!("this host no longer trusts {}\n", root.display()));
    }
    Ok(exit::OK)
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        let code = if error.is_permission() { exit::NOT_PERMITTED } else { exit::FAILED };
        Failure { message: error.to_string(), code }
    }
}

fn refused(error: &TrustError, remedy: &str) -> Failure {
    match error {
        TrustError::NotPermitted { .. } => {
            let message = format!("{error}; this does it as root: {remedy}");
            Failure { message, code: exit::NOT_PERMITTED }
        }
        _ => Failure { message: error.to_string(), code: exit::FAILED },
    }
}

fn none_yet(storage: &Path) -> Failure {
    let message = format!(
        "there is no local authority in {} yet; the first start that needs one makes it, and so \
         does `portcullis certs trust`",
        storage.display()
    );
    Failure { message, code: exit::FAILED }
}

/// The storage that the configuration names. Without a configuration it is where `up` and `demo`
/// keep theirs.
fn storage_of(path: &Path) -> Result<PathBuf, Failure> {
    if path == Path::new(DEFAULT_CONFIG) && !path.exists() {
        let system = Path::new(DEFAULT_STORAGE);
        return Ok(if storage::writable(system) {
            system.to_owned()
        } else {
            storage::default_for_user()
        });
    }
    load_config(path)
        .map(|config| config.acme.storage)
        .map_err(|message| Failure { message, code: exit::CONFIG })
}

/// Prints to standard output. A reader that has gone away (`| head`) is no error.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn load_config(path: &Path) -> Result<Config, String> {
    config::load(path).map(|loaded| loaded.config).map_err(|problems| problems.to_string())
}
