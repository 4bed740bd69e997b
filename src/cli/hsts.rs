//! `portcullis certs hsts`: how far ramps have come, and the way back down.

use std::path::Path;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::meant::{Meant, THE_SERVER};
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
    /// Does it, and says what was done. What the server can do does not wait for a file to be
    /// mended: it is the way back down.
    ///
    /// # Errors
    /// In words, when it cannot be done.
    pub(super) fn run(&self) -> Result<String, Stop> {
        let Some((site, reset)) = self.change() else {
            let args = match &self.verb {
                Some(HstsVerb::List(args)) => args,
                _ => &self.list,
            };
            return Ok(list(&right(&args.file.config)?, args.json));
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
        Ok(said(&name, reset))
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

fn list(config: &Config, as_json: bool) -> String {
    let sites = Told::all(config);
    if as_json {
        return format!("{:#}\n", json!({ "version": 1, "sites": sites }));
    }
    if sites.is_empty() {
        return "no site has `hsts`\n".to_owned();
    }
    sites.iter().map(|told| format!("{told}\n")).collect()
}
