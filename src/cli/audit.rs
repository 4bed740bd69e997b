//! `portcullis audit`: what listens here, who holds it, what is wrong with it, and what mends it.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{ConfigFile, Stop};
use crate::audit::baseline::{self, Baseline};
use crate::audit::facts::{self, Sources};
use crate::audit::inventory::{self, Options};
use crate::audit::plan;
use crate::audit::report::{self, Colour, Report};
use crate::audit::verdict::Severity;
use crate::exit;

/// The arguments of `portcullis audit`.
#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// One JSON object instead of text
    #[arg(long, group = "form")]
    json: bool,
    /// Markdown instead of text
    #[arg(long, group = "form")]
    markdown: bool,
    /// One HTML page, to be handed to somebody
    #[arg(long, group = "form")]
    html: bool,
    /// A shell script that mends what was found, for you to read and run; always exits with 0
    #[arg(long, group = "form")]
    plan: bool,
    /// Print the JSON schema of a report
    #[arg(long, group = "form", hide = true)]
    schema: bool,
    /// Keep the report as JSON, for `--baseline`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Say what is new, gone or changed since this report
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Exit with 1 when a finding is as urgent as this, or more
    #[arg(long, value_name = "SEVERITY", default_value = "high", hide_possible_values = true)]
    #[arg(long_help = FAIL_ON)]
    fail_on: Severity,
    /// Other network namespaces too, those of containers; needs root
    #[arg(long)]
    all_namespaces: bool,
}

const FAIL_ON: &str = "Exit with 1 when a finding is as urgent as this, or more: critical, high, \
    medium, low or info";

/// Looks, judges and tells; returns the exit code: 0, 1 when something is as urgent as
/// `--fail-on`.
#[must_use]
pub fn run(args: &AuditArgs) -> u8 {
    if args.schema {
        return print(&format!("{:#}\n", report::schema()));
    }
    match audit(args) {
        Ok(code) => code,
        Err(stop) => stop.tell(),
    }
}

fn audit(args: &AuditArgs) -> Result<u8, Stop> {
    let then = args.baseline.as_deref().map(known).transpose()?;
    let options = Options { all_namespaces: args.all_namespaces };
    let inventory = inventory::take(&options).map_err(|error| Stop {
        code: exit::FAILED,
        text: format!("cannot see what listens here: {error}"),
    })?;
    let inventory = report::showable(inventory);
    let sources = Sources { config: args.file.config.clone(), root: "/".into() };
    let mut facts = facts::gather(&inventory, &sources);
    facts.baseline = then.map(|then| then.compare(&inventory.listeners));
    let report = Report::of(&inventory, &facts);
    if let Some(file) = &args.save {
        baseline::save(file, &report::json(&report)).map_err(|error| Stop {
            code: code(error.kind()),
            text: format!("cannot save {}: {error}", file.display()),
        })?;
    }
    if args.plan {
        return Ok(print(&plan::script(&inventory, &facts, &report.findings)));
    }
    let told = match () {
        () if args.json => report::json(&report),
        () if args.markdown => report::markdown(&report),
        () if args.html => report::html(&report),
        () => report::text(&report, colour()),
    };
    print(&told);
    Ok(if report.has(args.fail_on) { exit::FAILED } else { exit::OK })
}

fn known(file: &Path) -> Result<Baseline, Stop> {
    Baseline::load(file).map_err(|error| Stop {
        code: match error.kind() {
            ErrorKind::PermissionDenied => exit::NOT_PERMITTED,
            _ => exit::USAGE,
        },
        text: format!(
            "cannot compare with {}: {error}; make it with: portcullis audit --save {}",
            file.display(),
            file.display(),
        ),
    })
}

fn code(kind: ErrorKind) -> u8 {
    if kind == ErrorKind::PermissionDenied { exit::NOT_PERMITTED } else { exit::FAILED }
}

/// That nobody reads it is no reason to fail: the exit code is the answer.
fn print(text: &str) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    exit::OK
}

/// Whether standard output is a terminal whose user wants colour (<https://no-color.org>).
fn colour() -> Colour {
    let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if !declined && std::io::stdout().is_terminal() { Colour::On } else { Colour::Off }
}
