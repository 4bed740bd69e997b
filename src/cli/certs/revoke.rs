//! `portcullis certs revoke`: have the authority that issued a certificate revoke it.

use std::io::{self, BufRead, IsTerminal as _, Write as _};
use std::time::SystemTime;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use super::account::{Account, unanswered};
use super::{Failure, say, wrong};
use crate::cli::ConfigFile;
use crate::cli::meant::{Meant, THE_SERVER};
use crate::config::Config;
use crate::control::client::{self, Question};
use crate::exit;
use crate::tls::acme::revoke::{Reason, Revocation, find};
use crate::tls::acme::{Roots, Wanted, demand};
use crate::tls::facts::instant;
use crate::tls::found::Found;

#[derive(Args, Debug)]
pub(super) struct RevokeArgs {
    /// A name of the certificate, or of its site
    name: String,
    /// Why, as RFC 5280 calls it; keyCompromise where somebody else may know the key
    #[arg(long, value_name = "REASON", default_value = "unspecified", value_parser = reasons())]
    reason: String,
    /// Ask for no other certificate: until `certs renew` does, one of this host's own authority is
    /// shown, as by a start that has none
    #[arg(long)]
    no_renew: bool,
    /// Do not ask whether this is meant
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    file: ConfigFile,
}

fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(Reason::ALL.map(|(name, _)| name))
}

/// Revokes by the running server; where none runs, with what is in the storage.
pub(super) fn revoke(args: &RevokeArgs, now: SystemTime) -> Result<u8, Failure> {
    let failed = |message| Failure { message, code: exit::FAILED };
    let reason = Reason::named(&args.reason).unwrap_or_default();
    let how = (reason, !args.no_renew);
    if !args.yes {
        let account = Account::of(&args.file.config, Some(&args.name), now)?;
        let found = account.overview.certificates;
        confirm(&prompt(&args.name, &found, how, now))?;
    }
    let meant = Meant::of(&args.file.config);
    let question = Question::Revoke { name: args.name.clone(), reason, renew: !args.no_renew };
    let (names, directory, is_live) = match client::ask(&meant.config.admin.socket, &question) {
        Ok(answer) => {
            meant.warn(THE_SERVER);
            let (names, directory) = by_the_server(&answer).map_err(failed)?;
            (names, directory, true)
        }
        Err(error) if error.is_nobody() => {
            if meant.says_nothing() {
                return Err(wrong(&meant.problems));
            }
            meant.warn("no server runs, and the rest of the file is gone by");
            let wanted = find(&meant.config, &args.name).map_err(failed)?;
            let revoked = alone(&meant.config, wanted, how).map_err(failed)?;
            (revoked.0, revoked.1, false)
        }
        Err(error) => return Err(unanswered(&error)),
    };
    say(&format!(
        "{directory} has revoked the certificate for {} ({reason})\n{}\n",
        names.join(", "),
        match demand::is_one(&meant.config, &names) {
            true => next_on_demand(&args.name, !args.no_renew),
            false => next(!args.no_renew, is_live).to_owned(),
        }
    ));
    Ok(exit::OK)
}

/// What comes now.
fn next(renews: bool, is_live: bool) -> &'static str {
    match (renews, is_live) {
        (true, true) => {
            "another is asked for now, with a new key; the old one serves until it is there: \
             `portcullis certs list` tells how it goes"
        }
        (true, false) => "no server runs: the next start asks for another, with a new key",
        (false, true) => {
            "the server shows one of this host's own authority from now on, until `portcullis \
             certs renew` asks for another"
        }
        (false, false) => {
            "no server runs: the next start shows one of this host's own authority, until \
             `portcullis certs renew` asks for another"
        }
    }
}

/// The same for a name that clients ask for.
fn next_on_demand(name: &str, renews: bool) -> String {
    if renews {
        return "it is shown to nobody any more; when a client next comes for it `ask` of its site is \
                asked anew, and where that allows it another is got, with a new key"
            .to_owned();
    }
    format!(
        "it is shown to nobody any more, and none is got for it before `portcullis certs renew \
         {name}`"
    )
}

fn by_the_server(answer: &Value) -> Result<(Vec<String>, String), String> {
    let Some(revoked) = answer.get("revoked") else {
        let error = answer.get("error").and_then(Value::as_str);
        return Err(error.unwrap_or("the server gives no reason").to_owned());
    };
    let names = revoked.get("names").and_then(Value::as_array).into_iter().flatten();
    let names = names.filter_map(Value::as_str).map(str::to_owned).collect();
    let directory = revoked.get("directory").and_then(Value::as_str).unwrap_or_default();
    Ok((names, directory.to_owned()))
}

/// Asks the authority from here.
fn alone(
    config: &Config,
    wanted: Wanted,
    how: (Reason, bool),
) -> Result<(Vec<String>, String), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let roots = Roots::read(config, None);
    let revoked = runtime.block_on(Revocation::of(config, &roots, wanted, how).run());
    runtime.shutdown_background();
    revoked.map(|revoked| (revoked.names, revoked.directory))
}

fn prompt(
    name: &str,
    found: &[Found],
    (reason, renews): (Reason, bool),
    now: SystemTime,
) -> String {
    let is_meant = |entry: &&Found| entry.is_named(name) && !entry.chain.is_empty();
    let known = found.iter().find(is_meant);
    let names = known.map_or_else(|| name.to_owned(), |entry| entry.hosts.join(", "));
    let info = known.and_then(|entry| entry.certificate.as_ref().ok()?.as_ref());
    let what = match info {
        Some(info) => {
            let until = instant(info.not_after, now);
            format!("of {}, valid until {until}", info.issuer)
        }
        None => "that is kept for it".to_owned(),
    };
    let then = if renews { "another is asked for at once" } else { "no other is asked for" };
    format!(
        "The certificate for {names} ({what}) will be revoked ({reason}), which cannot be undone; \
         {then}.\nRevoke it? [y/N] "
    )
}

/// Asks on the terminal; where there is none nobody can be asked.
fn confirm(prompt: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let message = "a revocation cannot be undone: say --yes where nobody can be asked";
        return Err(Failure { message: message.to_owned(), code: exit::USAGE });
    }
    let _ = write!(io::stderr(), "{prompt}");
    if is_yes(&mut io::stdin().lock()) {
        return Ok(());
    }
    Err(Failure { message: "nothing was revoked".to_owned(), code: exit::FAILED })
}

fn is_yes(input: &mut impl BufRead) -> bool {
    let mut line = String::new();
    let read = input.read_line(&mut line);
    read.is_ok() && matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (said, is_meant) in
            [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yep\n", false)]
        {
            assert_eq!(is_yes(&mut said.as_bytes()), is_meant, "{said:?}");
        }
    }
}
