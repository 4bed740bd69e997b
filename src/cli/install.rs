//! `portcullis install`: the service, its user, its folders and a first configuration, written
//! where the system looks for them, and taken back by `--uninstall`.
//!
//! A manifest holds what was written. A file that somebody has changed since, or that somebody
//! else has put there, is never overwritten and never removed.

mod files;
mod manifest;
mod plan;
mod root;
mod walk;
mod place;
mod remove;

use std::path::{Path, PathBuf};

use clap::{Args, Command};

use super::{Stop, say};
use crate::exit;
use files::{Content, Layout, UNITS, Variant};
use manifest::Manifest;
use place::Found;
use plan::{Action, Step};
use root::Root;

/// The arguments of `portcullis install`.
#[derive(Args, Clone, Debug)]
pub struct InstallArgs {
    /// Print the files with their paths, and write nothing
    #[arg(long, conflicts_with_all = ["dry_run", "uninstall"])]
    print: bool,
    /// Say what would be written, kept or taken back, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take back what an earlier install has written
    #[arg(long, conflicts_with = "sockets")]
    uninstall: bool,
    /// Have systemd bind the ports: the service then has no capability at all
    #[arg(long)]
    sockets: bool,
    /// Work below this folder, for images and packages
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Writes, prints or takes back; returns the exit code: 0; 1 when a file was left as somebody else
/// has made it; 77 when this user may not write there. `program` is the whole command line, for
/// the manual page.
#[must_use]
pub fn run(args: &InstallArgs, program: Command) -> u8 {
    let done = if args.uninstall { uninstall(args) } else { install(args, program) };
    done.unwrap_or_else(|stop| stop.tell())
}

fn install(args: &InstallArgs, program: Command) -> Result<u8, Stop> {
    let root = Root::new(&args.root);
    let layout = Layout::around(&root)?;
    let variant = if args.sockets { Variant::Sockets } else { Variant::Capability };
    let files = files::all(variant, &layout, program)?;
    if args.print {
        files.iter().for_each(print);
        return Ok(exit::OK);
    }
    if let Some(unit) = root.packaged_unit() {
        say(&format!("A package has installed the service already: {}", unit.display()));
        say(&format!("  systemctl enable --now {}", variant.service()));
        return Ok(exit::OK);
    }
    if !args.dry_run {
        root.must_be_writable("install")?;
    }
    let mut manifest = Manifest::load(&root)?;
    let steps = plan::steps(files, &root, &manifest)?;
    for step in &steps {
        if !args.dry_run && step.action.writes() {
            place::write(step, &root, &mut manifest)?;
        }
        if let Some(line) = step.line(args.dry_run) {
            say(&line);
        }
    }
    if !steps.iter().any(|step| step.action.writes()) {
        say("Nothing to do: everything is in its place.");
    } else if !args.dry_run {
        say_next(&steps, &root, variant, &layout);
    }
    let refused = steps.iter().any(|step| matches!(step.action, Action::Refuse(_)));
    if refused {
        say("What was kept differs from this version: portcullis install --print shows it.");
    }
    Ok(if refused { exit::FAILED } else { exit::OK })
}

fn uninstall(args: &InstallArgs) -> Result<u8, Stop> {
    let root = Root::new(&args.root);
    let Some(manifest) = Manifest::find(&root)? else {
        say("Nothing to take back: install has written nothing here.");
        return Ok(exit::OK);
    };
    let units = UNITS.iter().map(|unit| unit.name);
    let enabled: Vec<&str> = units.filter(|unit| root.is_enabled(unit)).collect();
    if !enabled.is_empty() {
        let disable = if root.is_host() {
            format!("{}systemctl disable --now", root.as_root())
        } else {
            format!("systemctl --root={} disable", args.root.display())
        };
        let text = format!("the service is enabled; first: {disable} {}", enabled.join(" "));
        return Err(Stop { code: exit::FAILED, text });
    }
    if !args.dry_run {
        root.must_be_writable("install --uninstall")?;
    }
    for line in remove::take_back(manifest, &root, args.dry_run)? {
        say(&line);
    }
    for data in ["/var/lib/portcullis", "/var/log/portcullis"] {
        if root.look_at(Path::new(data))? != Found::Nothing {
            say(&format!("{:<12} {data}: what the server has written", "left"));
        }
    }
    Ok(exit::OK)
}

/// One file as `--print` shows it.
fn print(file: &files::File) {
    let path = file.path.display();
    match &file.content {
        Content::Text(text) => say(&format!("# {path}, mode {:04o}\n{text}", file.mode)),
        Content::Manual(_) => say(&format!("# {path}: what portcullis man prints\n")),
        Content::Reference(_) => say(&format!("# {path}: every key with its default\n")),
        Content::Program => say(&format!("# {path}, mode {:04o}: this program\n", file.mode)),
    }
}

/// The commands that come after, in their order.
fn say_next(steps: &[Step], root: &Root, variant: Variant, layout: &Layout) {
    if !root.is_host() {
        return;
    }
    let sudo = root.as_root();
    let service = variant.service();
    let updated = |name: &Path| {
        steps.iter().any(|step| step.file.path == name && step.action == Action::Update)
    };
    say("\nNext:");
    say(&format!("  {sudo}systemd-sysusers {}", files::SYSUSERS));
    say(&format!("  {sudo}systemd-tmpfiles --create {}", files::TMPFILES));
    say(&format!("  {} check        after an edit of {}", layout.program.display(), files::CONFIG));
    say(&format!("  {sudo}systemctl daemon-reload"));
    if updated(&layout.program) {
        say(&format!("  {sudo}systemctl kill --kill-who=main --signal=USR2 {service}"));
    } else {
        say(&format!("  {sudo}systemctl enable --now {service}"));
    }
    if !Path::new("/run/systemd/system").is_dir() {
        say("systemd does not run on this host: the last two are for when it does.");
    }
}
