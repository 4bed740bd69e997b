//! `portcullis certs trust` and `untrust`: this host, its browsers and the local authority.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;

use super::{Failure, load_config, say};
use crate::cli::{ConfigFile, DEFAULT_CONFIG};
use crate::exit;
use crate::tls::local_ca::LocalAuthority;
use crate::tls::nss::{Browsers, Done, INSTALL};
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

/// Adds the root to the trust store and to the databases of browsers, or prints it.
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
    if let Err(error) = store.check() {
        // The authority of a user's own storage is not the one that root would find.
        let remedy = match LocalAuthority::open(&storage, now) {
            Ok(Some(mine)) => {
                // Browsers take no right of root.
                in_browsers(
                    Browsers::of_invoker().as_ref(),
                    |browsers| browsers.add(&mine),
                    &TRUSTED,
                );
                commands(&format!("{again} --print"), &store.place(&mine))
            }
            _ => format!("sudo {again}"),
        };
        return Err(refused(&error, &remedy));
    }
    let authority = LocalAuthority::open_or_create(&storage, now)?;
    let place = store.add(&authority).map_err(|error| refused(&error, &format!("sudo {again}")))?;
    say(&format!("this host now trusts the local authority: {}\n", place.display()));
    let browsers = Browsers::of_invoker();
    Ok(in_browsers(browsers.as_ref(), |browsers| browsers.add(&authority), &TRUSTED))
}

/// Takes it out again.
pub(super) fn untrust(
    args: &UntrustArgs,
    store: &TrustStore,
    now: SystemTime,
) -> Result<u8, Failure> {
    let authority = if args.all {
        None
    } else {
        let storage = storage_of(&args.file.config)?;
        Some(LocalAuthority::open(&storage, now)?.ok_or_else(|| none_yet(&storage))?)
    };
    let roots = match &authority {
        Some(authority) => vec![store.place(authority)],
        None => store.installed(),
    };
    // Browsers take no right of root.
    let browsers = Browsers::of_invoker();
    let remove = |browsers: &Browsers| browsers.remove(authority.as_ref());
    let code = in_browsers(browsers.as_ref(), remove, &UNTRUSTED);
    let again = format!("sudo portcullis certs untrust -c {}", args.file.config.display());
    let removed = store.remove(&roots).map_err(|error| refused(&error, &again))?;
    if removed.is_empty() {
        say("this host did not trust the local authority; nothing to do\n");
    }
    for root in removed {
        say(&format!("this host no longer trusts {}\n", root.display()));
    }
    Ok(code)
}

/// What is said of a database that was changed, of one that was not, and what is to be done by hand
/// where there is no program for it.
struct Words {
    changed: &'static str,
    unchanged: &'static str,
    by_hand: &'static str,
}

const TRUSTED: Words = Words {
    changed: "now trusts the local authority",
    unchanged: "trusts the local authority already",
    by_hand: "import the root there as an authority (`portcullis certs trust --print`)",
};

const UNTRUSTED: Words = Words {
    changed: "no longer trusts the local authority",
    unchanged: "did not trust the local authority",
    by_hand: "remove the root there by hand",
};

/// Changes the databases of browsers, and says what became of each; 1 where one could not be
/// changed.
fn in_browsers(
    browsers: Option<&Browsers>,
    change: impl FnOnce(&Browsers) -> Vec<Done>,
    words: &Words,
) -> u8 {
    let Some(browsers) = browsers else {
        say("whose browsers are meant cannot be told: this user is not known here\n");
        return exit::OK;
    };
    let user = browsers.user();
    let databases = browsers.databases();
    if databases.is_empty() {
        say(&format!(
            "{user} has no browser with a store of its own here (Firefox, Chrome); after its first \
             start this can be said again\n"
        ));
        return exit::OK;
    }
    if !browsers.can_be_changed() {
        let all: Vec<String> = databases.into_iter().map(|one| one.browser).collect();
        say(&format!(
            "the stores of {user}'s browsers are as they were ({}): certutil is missing, which \
             changes them: {INSTALL}, and say this again; or {}\n",
            all.join("; "),
            words.by_hand
        ));
        return exit::OK;
    }
    let mut code = exit::OK;
    for (database, done) in change(browsers) {
        let browser = database.browser;
        match done {
            Ok(true) => say(&format!("{browser} of {user} {}\n", words.changed)),
            Ok(false) => say(&format!("{browser} of {user} {}\n", words.unchanged)),
            Err(why) => {
                code = exit::FAILED;
                say(&format!("{browser} of {user} is as it was: {why}\n"));
            }
        }
    }
    code
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
