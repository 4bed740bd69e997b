//! `portcullis certs trust` and `untrust`: this host and the local authority.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;

use super::{Failure, load_config, say};
use crate::cli::{ConfigFile, DEFAULT_CONFIG};
use crate::exit;
use crate::tls::local_ca::LocalAuthority;
use crate::tls::storage;
use crate::tls::trust::{TrustError, TrustStore, commands};

/// Where certificates are kept when no configuration says otherwise.
const DEFAULT_STORAGE: &str = "/var/lib/portcullis";

#[derive(Args, Debug)]
pub(super) struct TrustArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Print the root in PEM and change nothing
    #[arg(long)]
    print: bool,
}

#[derive(Args, Debug)]
pub(super) struct UntrustArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Take out every root that a local authority of Portcullis ever put there
    #[arg(long)]
    all: bool,
}

/// Adds the root to the trust store, or prints it.
pub(super) fn trust(args: &TrustArgs, store: &TrustStore, now: SystemTime) -> Result<u8, Failure> {
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

/// Takes it out again.
pub(super) fn untrust(
    args: &UntrustArgs,
    store: &TrustStore,
    now: SystemTime,
) -> Result<u8, Failure> {
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
    load_config(path).map(|config| config.acme.storage)
}
