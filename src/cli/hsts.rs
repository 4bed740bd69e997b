//! `portcullis certs hsts`: how far ramps have come, and the way back down.

use std::path::Path;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::meant::{Answer, Meant, THE_SERVER};
use super::{ConfigFile, Stop};
use crate::config::{self, Config};
use crate::control::client::{self, Question};
use crate::control::hsts::set;
use crate::exit;
use crate::tls::hsts::told::Told;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct HstsArgs {
    #[command(subcommand)]
    verb: Option<HstsVerb>,
    #[command(flatten)]
    list: HstsList,
}

#[derive(Debug, Subcommand)]
enum HstsVerb {
    /// Show what every site tells browsers, and how far its ramp has come
    List(HstsList),
    /// Send max-age=0 from now on, so that browsers that come by forget, until `hsts` is changed
    Reset(HstsSite),
    /// Begin anew, after a reset or in the middle of a ramp
    Start(HstsSite),
}

#[derive(Args, Debug)]
struct HstsList {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct HstsSite {
    /// A host of the site
    host: String,
    #[command(flatten)]
    file: ConfigFile,
}

impl HstsArgs {
    /// Does it, and says what was done, and with which code to end. What the server can do does not
    /// wait for a file to be mended: it is the way back down.
    ///
    /// # Errors
    /// In words, when it cannot be done.
    pub(super) fn run(&self) -> Result<(String, u8), Stop> {
        let Some((site, reset)) = self.change() else {
            let args = match &self.verb {
                Some(HstsVerb::List(args)) => args,
                _ => &self.list,
            };
            return list(&args.file.config, args.json);
        };
        let (file, host) = (&site.file.config, &site.host);
        let meant = Meant::of(file);
        let question = Question::Hsts { host: host.clone(), reset };
        let failed = |text| Stop { code: exit::FAILED, text };
        let name = match client::ask(&meant.config.admin.socket, &question) {
            Ok(answer) => {
                meant.warn(THE_SERVER);
                by_the_server(&answer).map_err(failed)?
            }
            // In the storage, which a wrong file may not name.
            Err(error) if error.is_nobody() => {
                set(&right(file)?, host, reset, SystemTime::now()).map_err(failed)?
            }
            Err(error) => return Err(Stop { code: error.code(), text: error.to_string() }),
        };
        Ok((said(&name, reset), exit::OK))
    }

    /// For which site something is to change, and whether that is a reset.
    fn change(&self) -> Option<(&HstsSite, bool)> {
        match &self.verb {
            Some(HstsVerb::Reset(site)) => Some((site, true)),
            Some(HstsVerb::Start(site)) => Some((site, false)),
            Some(HstsVerb::List(_)) | None => None,
        }
    }
}

/// The configuration, which has to be right here.
fn right(file: &Path) -> Result<Config, Stop> {
    let loaded = config::load(file).map(|loaded| loaded.config);
    loaded.map_err(|problems| Stop { code: exit::CONFIG, text: problems.to_string() })
}

/// The site whose state was changed.
fn by_the_server(answer: &Value) -> Result<String, String> {
    match (answer.get("site"), answer.get("error")) {
        (Some(Value::String(name)), _) => Ok(name.clone()),
        (_, Some(Value::String(error))) => Err(error.clone()),
        _ => Err(format!("the server does not understand: {answer}")),
    }
}

fn said(site: &str, reset: bool) -> String {
    if reset {
        format!(
            "site {site} sends max-age=0 from now on: browsers that come by forget, the others \
             remember; leave it so for as long as they were told to\n"
        )
    } else {
        format!("site {site} begins anew with what its `hsts` says\n")
    }
}

/// Shows what the running server tells, else what lies in the storage; 1 where something needs a
/// person, as `status` has it.
fn list(file: &Path, as_json: bool) -> Result<(String, u8), Stop> {
    let (sites, shortfall, by) = match Meant::of(file).ask(&Question::HstsList, "sites")? {
        Answer::Server(sites) => {
            let unread = |error: serde_json::Error| Stop {
                code: exit::FAILED,
                text: format!("the server tells of hsts in other words: {error}"),
            };
            (serde_json::from_value::<Vec<Told>>(sites).map_err(unread)?, None, "server")
        }
        Answer::Storage(config, shortfall) => (Told::all(&config), shortfall, "storage"),
    };
    let calls: Vec<String> = sites.iter().filter_map(Told::call).collect();
    let code = match shortfall {
        _ if sites.iter().any(|told| told.is_closed) => exit::NOT_PERMITTED,
        Some(code) => code,
        None if calls.is_empty() => exit::OK,
        None => exit::FAILED,
    };
    if as_json {
        let all = json!({ "version": 1, "told_by": by, "sites": sites, "needs_a_person": calls });
        return Ok((format!("{all:#}\n"), code));
    }
    if sites.is_empty() {
        return Ok(("no site sends `Strict-Transport-Security`\n".to_owned(), code));
    }
    let calls = calls.iter().map(|call| format!("needs a person: {call}\n"));
    Ok((sites.iter().map(|told| format!("{told}\n")).chain(calls).collect(), code))
}
