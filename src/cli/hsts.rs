//! `portcullis certs hsts`: how far ramps have come, and the way back down.

use std::io::ErrorKind;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ConfigFile;
use crate::config::{Config, Hsts};
use crate::control::client::{self, Question};
use crate::control::hsts::set;
use crate::tls::hsts::book::Book;
use crate::tls::hsts::{Progress, header};

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
        match &self.verb {
            None => Ok(list(config, self.list.json)),
            Some(HstsVerb::List(args)) => Ok(list(config, args.json)),
            Some(HstsVerb::Reset(site)) => {
                let name = change(config, &site.host, true)?;
                Ok(format!(
                    "site {name} sends max-age=0 from now on: browsers that come by forget, the \
                     others remember; leave it so for as long as they were told to\n"
                ))
            }
            Some(HstsVerb::Start(site)) => {
                let name = change(config, &site.host, false)?;
                Ok(format!("site {name} begins anew with what its `hsts` says\n"))
            }
        }
    }
}

/// By the running server; where none runs, in the storage.
fn change(config: &Config, host: &str, reset: bool) -> Result<String, String> {
    let question = Question::Hsts { host: host.to_owned(), reset };
    match client::ask(&config.admin.socket, &question) {
        Ok(answer) => match (answer.get("site"), answer.get("error")) {
            (Some(Value::String(name)), _) => Ok(name.clone()),
            (_, Some(Value::String(error))) => Err(error.clone()),
            _ => Err(format!("the server does not understand: {answer}")),
        },
        Err(error)
            if matches!(
                error.source.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            set(config, host, reset, SystemTime::now())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn list(config: &Config, as_json: bool) -> String {
    let book = Book::of(&config.acme.storage);
    let mut lines = String::new();
    let mut sites = Vec::new();
    for site in config.sites.iter().filter(|site| site.hsts != Hsts::Off) {
        let name = site.name();
        let progress = book.read(&name).filter(|progress| progress.is_of(site.hsts));
        let sent = header(site.hsts, progress.as_ref());
        let sent = sent.as_ref().and_then(|sent| sent.to_str().ok()).unwrap_or_default();
        let is_reset = progress.as_ref().is_some_and(Progress::is_reset);
        let ramp = matches!(site.hsts, Hsts::Ramp { .. }) && !is_reset;
        let step = progress.as_ref().filter(|_| ramp).map(|progress| progress.step().0);
        let left = progress.as_ref().filter(|_| ramp).and_then(Progress::left);
        sites.push(json!({
            "site": name,
            "hsts": site.hsts.to_string(),
            "sent": sent,
            "reset": is_reset,
            "step": step,
            "seconds_to_next_step": left,
        }));
        let how = match (is_reset, step, left) {
            (true, _, _) => "reset".to_owned(),
            (_, Some(step), Some(left)) => {
                format!("step {step} of 5, the next in {} quiet hours", left.div_ceil(3600))
            }
            (_, Some(step), None) => format!("step {step} of 5"),
            _ if ramp => "step 1 of 5".to_owned(),
            _ => "fixed".to_owned(),
        };
        lines.push_str(&format!("{name}: {sent} ({how})\n"));
    }
    if as_json {
        return format!("{:#}\n", json!({ "version": 1, "sites": sites }));
    }
    if lines.is_empty() { "no site has `hsts`\n".to_owned() } else { lines }
}
