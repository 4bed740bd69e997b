//! `portcullis check`: is the file right, and what would it do? Opens no port and writes nothing.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::SystemTime;

use serde_json::json;

use crate::config::{self, Config, Listen, Loaded, Problems, Redirect, Site};
use crate::{exit, tls};

/// Judges the file at `file` and returns the exit code: 0, 78 when it is wrong, 77 when it may not
/// be read. With `json` everything is one object on standard output; without it problems go to
/// standard error and standard output has a word only when all is well.
#[must_use]
pub fn run(file: &Path, json: bool) -> u8 {
    let mut loaded = config::load(file);
    if let Ok(Loaded { config, warnings }) = &mut loaded {
        let local = tls::local_authority(config, SystemTime::now()).into_iter();
        for told in local.chain(tls::overview::damaged(config)) {
            warnings.warn(told);
        }
    }
    let text = if json { as_json(&loaded).to_string() + "\n" } else { as_text(file, &loaded) };
    // Whoever closed the pipe has seen enough; the code is the answer.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if !json {
        let (Err(told) | Ok(Loaded { warnings: told, .. })) = &loaded;
        let _ = std::io::stderr().write_all(told.render(colour()).as_bytes());
        if let Err(problems) = &loaded {
            let _ = writeln!(std::io::stderr(), "{}", count(problems));
        }
    }
    match loaded {
        Ok(_) => exit::OK,
        Err(problems) if problems.not_permitted() => exit::NOT_PERMITTED,
        Err(_) => exit::CONFIG,
    }
}

/// Prints the JSON schema of the file, for editors, and returns the exit code.
#[must_use]
pub fn print_schema() -> u8 {
    let written = writeln!(std::io::stdout(), "{:#}", config::schema());
    if written.is_ok() { exit::OK } else { exit::FAILED }
}

/// Whether standard error is a terminal whose user wants colour (<https://no-color.org>).
fn colour() -> bool {
    let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !declined && std::io::stderr().is_terminal()
}

fn count(problems: &Problems) -> String {
    let number = problems.list().len() + problems.unlisted();
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} problem{plural} in {}", problems.file())
}

fn as_json(loaded: &Result<Loaded, Problems>) -> serde_json::Value {
    let (ok, problems, warnings) = match loaded {
        Ok(loaded) => (true, json!([]), loaded.warnings.to_json()),
        Err(problems) => (false, problems.to_json(), json!([])),
    };
    json!({ "version": 1, "ok": ok, "problems": problems, "warnings": warnings })
}

fn as_text(file: &Path, loaded: &Result<Loaded, Problems>) -> String {
    match loaded {
        Ok(loaded) => format!("{} is right. {}\n", file.display(), summary(&loaded.config)),
        Err(_) => String::new(),
    }
}

/// So many sites are named; of more, the number.
const NAMED: usize = 5;

/// What the configuration would do, in a sentence or two.
fn summary(config: &Config) -> String {
    let listeners = [("HTTP", &config.server.http), ("HTTPS", &config.server.https)];
    let listeners: Vec<_> = listeners
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(scheme, list)| format!("{scheme} on {}", addresses(list)))
        .collect();
    let mut sites: Vec<_> = config.sites.iter().take(NAMED).map(site).collect();
    if config.sites.len() > NAMED {
        sites.push(format!("and {} more", config.sites.len() - NAMED));
    }
    let plural = if config.sites.len() == 1 { "site" } else { "sites" };
    let number = config.sites.len();
    format!("It serves {}; {number} {plural}: {}.", listeners.join(", "), sites.join("; "))
}

fn addresses(list: &[Listen]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

fn site(site: &Site) -> String {
    let hosts: Vec<_> = site.hosts.iter().map(ToString::to_string).collect();
    let hosts = hosts.join(", ");
    if let Redirect::To(url) = &site.redirect {
        return format!("{hosts} redirects to {url}");
    }
    let alone = site.routes.len() == 1;
    let route = |route: &config::Route| {
        let to: Vec<_> = route.to.iter().map(ToString::to_string).collect();
        let to = to.join(", ");
        match route.path.as_str() {
            "/" if alone => format!("-> {to}"),
            "/" => format!("all else -> {to}"),
            path => format!("{path} -> {to}"),
        }
    };
    let routes: Vec<_> = site.routes.iter().map(route).collect();
    format!("{hosts} {}", routes.join(", "))
}
