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
mod next;

use std::path::{Path, PathBuf};

use clap::{Args, Command};

use super::{Stop, say};
use crate::exit;
use files::{Content, Layout, UNITS, Variant};
use manifest::Manifest;
use place::Found;
use plan::Action;
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
        let lines = [next::start(&root, variant), next::audit(&root)].concat();
        lines.iter().for_each(|line| say(line));
        return Ok(exit::OK);
    }
    if !args.dry_run {
        root.must_be_writable("install")?;
    }
    let mut manifest = Manifest::load(&root)?;
    let steps = plan::steps(files, &root, &manifest)?;
    let cleared = clear(&root, args.dry_run)?;
    for step in &steps {
        if !args.dry_run && step.action.writes() {
            place::write(step, &root, &mut manifest)?;
        }
        if let Some(line) = step.line(args.dry_run) {
            say(&line);
        }
    }
    let adopted = steps.iter().filter(|step| step.action == Action::Adopt);
    if !args.dry_run && adopted.clone().count() > 0 {
        manifest.adopt(adopted, &root)?;
    }
    let is_as_it_was = !cleared && steps.iter().all(|step| !step.action.changes());
    let refused = steps.iter().any(|step| step.action.refuses());
    if is_as_it_was && !refused {
        say("Nothing to do: everything is in its place.");
    }
    let is_other_enabled = !next::enabled(&root, variant.other()).is_empty();
    if !args.dry_run && (!is_as_it_was || is_other_enabled) {
        next::lines(&steps, &root, variant, &layout).iter().for_each(|line| say(line));
    }
    if refused {
        say("What was kept differs from this version: portcullis install --print shows it.");
    }
    Ok(if refused { exit::FAILED } else { exit::OK })
}

/// Removes what installs have left that were cut short, and says so; returns whether there was any.
fn clear(root: &Root, is_dry: bool) -> Result<bool, Stop> {
    let paths: Vec<PathBuf> = files::known().chain([manifest::PATH.into()]).collect();
    let lines = remove::clear(paths.iter().map(PathBuf::as_path), root, is_dry)?;
    lines.iter().for_each(|line| say(line));
    Ok(!lines.is_empty())
}

fn uninstall(args: &InstallArgs) -> Result<u8, Stop> {
    let root = Root::new(&args.root);
    let Some(manifest) = Manifest::find(&root)? else {
        return uninstall_unrecorded(&root, args.dry_run);
    };
    let units = UNITS.iter().map(|unit| unit.name);
    let enabled: Vec<&str> = units.filter(|unit| root.is_enabled(unit)).collect();
    if !enabled.is_empty() {
        let disable = if root.is_host() {
            format!("{}systemctl disable --now", root.as_root())
        } else {
            format!("systemctl --root={} disable", args.root.display())
        };
        let text = format!("units are enabled; first: {disable} {}", enabled.join(" "));
        return Err(Stop { code: exit::FAILED, text });
    }
    if !args.dry_run {
        root.must_be_writable("install --uninstall")?;
    }
    clear(&root, args.dry_run)?;
    for line in remove::take_back(manifest, &root, args.dry_run)? {
        say(&line);
    }
    for data in ["/var/lib/portcullis", "/var/lib/portcullis-audit", "/var/log/portcullis"] {
        if root.look_at(Path::new(data))? != Found::Nothing {
            say(&format!("{:<12} {data}: what the server has written", "left"));
        }
    }
    Ok(exit::OK)
}

/// Without a record it cannot be told whose a file is, so that none is removed but drafts.
fn uninstall_unrecorded(root: &Root, is_dry: bool) -> Result<u8, Stop> {
    if !is_dry && root.must_be_writable("install --uninstall").is_ok() {
        clear(root, is_dry)?;
    }
    let record = Path::new(manifest::PATH).display();
    let mut standing = Vec::new();
    for path in files::known() {
        if root.look_at(&path)? != Found::Nothing {
            standing.push(path);
        }
    }
    if standing.is_empty() {
        say("Nothing to take back: install has written nothing here.");
        return Ok(exit::OK);
    }
    say(&format!("Nothing to take back: there is no record of an install ({record})."));
    for path in standing {
        say(&format!("{:<12} {}", "left", path.display()));
    }
    say(
        "What is as install writes it is adopted by portcullis install, and can be taken back then.",
    );
    Ok(exit::OK)
}

/// One file as `--print` shows it.
fn print(file: &files::File) {
    let (path, mode) = (file.path.display(), file.mode);
    match &file.content {
        Content::Text(text) => say(&format!("# {path}, mode {mode:04o}\n{text}")),
        Content::Manual(_) => {
            say(&format!("# {path}, mode {mode:04o}: what portcullis man prints\n"));
        }
        Content::Reference(_) => {
            say(&format!("# {path}, mode {mode:04o}: every key with its default\n"));
        }
        Content::Program => say(&format!("# {path}, mode {mode:04o}: this program\n")),
    }
}
