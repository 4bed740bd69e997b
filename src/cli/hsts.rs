//! `portcullis certs hsts`: how far ramps have come, and the way back down.

use std::io::ErrorKind;
use std::path::Path;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ConfigFile;
use crate::config::Config;
use crate::control::client::{self, Question};
use crate::control::hsts::set;
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
    /// The configuration that is meant.
    pub(super) fn file(&self) -> &ConfigFile {
        match &self.verb {
            None => &self.list.file,
            Some(HstsVerb::List(list)) => &list.file,
            Some(HstsVerb::Reset(site) | HstsVerb::Start(site)) => &site.file,
        }
    }

    /// Does it, and says what was done.
    ///
    /// # Errors
    /// In words, when it cannot be done.
    pub(super) fn run(&self, config: &Config) -> Result<String, String> {
        let Some((host, reset)) = self.change() else {
            let as_json = match &self.verb {
                Some(HstsVerb::List(args)) => args.json,
                _ => self.list.json,
            };
            return Ok(list(config, as_json));
        };
        // By the running server; where none runs, in the storage.
        let done = by_server(&config.admin.socket, host, reset)
            .unwrap_or_else(|| set(config, host, reset, SystemTime::now()));
        done.map(|site| said(&site, reset))
    }

    /// The same where the configuration cannot be read, as far as a server at `socket` can do it:
    /// the way back down must not wait for a file to be mended.
    pub(super) fn run_by_server(&self, socket: &Path) -> Option<Result<String, String>> {
        let (host, reset) = self.change()?;
        Some(by_server(socket, host, reset)?.map(|site| said(&site, reset)))
    }

    /// For which host something is to change, and whether that is a reset.
    fn change(&self) -> Option<(&str, bool)> {
        match &self.verb {
            Some(HstsVerb::Reset(site)) => Some((&site.host, true)),
            Some(HstsVerb::Start(site)) => Some((&site.host, false)),
            Some(HstsVerb::List(_)) | None => None,
        }
    }
}

/// The site whose state was changed; `None` where no server runs.
fn by_server(socket: &Path, host: &str, reset: bool) -> Option<Result<String, String>> {
    let question = Question::Hsts { host: host.to_owned(), reset };
    match client::ask(socket, &question) {
        Ok(answer) => Some(match (answer.get("site"), answer.get("error")) {
            (Some(Value::String(name)), _) => Ok(name.clone()),
            (_, Some(Value::String(error))) => Err(error.clone()),
            _ => Err(format!("the server does not understand: {answer}")),
        }),
        Err(error) => match error.source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => None,
            _ => Some(Err(error.to_string())),
        },
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
