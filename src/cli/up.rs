//! `portcullis up`: one application behind HTTPS, without a file.

mod answer;
mod discover;
pub(super) mod front;
mod places;
mod ports;

use std::path::Path;

use clap::Args;

use self::front::{Front, Urls};
use super::run::Inherited;
use super::{Stop, say};
use crate::config::Target;
use crate::downstream::passed::Passed;
use crate::exit;

/// The arguments of `portcullis up`.
#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    /// The application: 8080, 127.0.0.1:8080, http://10.0.0.5:3000, https://…, h2c://…,
    /// unix:/run/app.sock [default: the one on this host that speaks HTTP]
    pub target: Option<String>,
    /// A name to answer for, repeatable [default: localhost, for this host only]
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    #[command(flatten)]
    pub(super) listen: ListenArgs,
}

/// Where `up` and `demo` listen.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ListenArgs {
    /// The address for plain HTTP, which redirects, or none [default: 80, else 8000]
    #[arg(long, value_name = "ADDR")]
    pub(super) http: Option<String>,
    /// The address for HTTPS, or none [default: 443, else 8443]
    #[arg(long, value_name = "ADDR")]
    pub(super) https: Option<String>,
    /// Fail when 80 and 443 cannot be had, instead of serving on other ports
    #[arg(long)]
    pub(super) strict: bool,
}

/// Serves until a signal; returns the exit code.
#[must_use]
pub fn run(args: &UpArgs) -> u8 {
    let inherited = Inherited::take();
    let (target, front) = match plan(args, &inherited.passed) {
        Ok(plan) => plan,
        Err(stop) => return inherited.tell(&stop),
    };
    let root = front.root_certificate();
    front.serve(inherited, |urls| announce(urls, &target, &root))
}

fn plan(args: &UpArgs, passed: &Passed) -> Result<(Target, Front), Stop> {
    let target = match &args.target {
        Some(text) => Target::parse(text)
            .map_err(|error| Stop { code: exit::USAGE, text: error.to_string() })?,
        None => {
            let (target, found) = discover::application(passed)?;
            say(&found);
            target
        }
    };
    let front = Front::new(&target, &args.host, &args.listen, passed)?;
    front.notes.iter().for_each(|note| say(note));
    Ok((target, front))
}

fn announce(urls: &Urls, target: &Target, root: &Path) {
    for url in urls.main() {
        say(&format!("{url} -> {target}"));
    }
    if let (false, Some(url)) = (urls.https.is_empty(), urls.http.first()) {
        say(&format!("{url} redirects there"));
    }
    if !urls.https.is_empty() && root.exists() {
        say(&format!("The certificate is from this host's own authority, {}.", root.display()));
        say("To have browsers here trust it: portcullis certs trust");
    }
    say("To stop: Ctrl-C");
}
