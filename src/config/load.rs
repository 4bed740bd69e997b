//! From a file to a configuration, or to all that is wrong with it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use toml::de::DeTable;

use super::problems::Problem;
use super::read::{Reader, Section};
use super::report::Report;
use super::source::Source;
use super::{Config, Problems, file, resolve, syntax};

/// A configuration that may be used, and what is worth a second look in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Empty, mostly.
    pub warnings: Problems,
}

/// A configuration of 10,000 sites has a few MiB; what is larger is not one.
const LARGEST: u64 = 16 << 20;

/// Reads and judges the file at `path`. Relative paths in it begin at its folder; `${NAME}` is
/// taken from the environment of this process. Certificate files are read; nothing is written and
/// no port is opened.
///
/// # Errors
///
/// Everything that is wrong with it, an unreadable file too.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    load_where(path, File::open(path), Hidden::IsWrong)
}

/// The same of a file that a running program serves from. It may have read certificates as root
/// before it became who it is: that one may not be read now is no mistake, and is left to whoever
/// loads them.
///
/// # Errors
///
/// As [`load`].
pub fn load_again(path: &Path) -> Result<Loaded, Problems> {
    load_opened(path, File::open(path))
}

/// What can be had of a file that may be wrong, and what is wrong with it: its sites with at least
/// a name, and the built-in defaults for what it says wrongly or not at all. Nothing is to be
/// served from that: it is for whoever looks for what a right file has left, or for the server that
/// runs. That certificate files may not be read is no mistake, as for [`load_again`].
#[must_use]
pub fn load_as_far(path: &Path) -> (Config, Problems) {
    let name = path.display().to_string();
    let bytes = match File::open(path).and_then(read) {
        Ok(bytes) => bytes,
        Err(error) => return (Config::defaults(), unreadable(&name, &error)),
    };
    let source = Source::new(&name, &String::from_utf8_lossy(&bytes));
    let mut report = Report::new(&source);
    let mended = syntax::mend(&source, &mut report);
    let (tree, _) = DeTable::parse_recoverable(&mended);
    let env = |name: &str| std::env::var(name).ok();
    let mut reader = Reader { report: &mut report, env: &env };
    let file = file::File::read_keys(tree.get_ref(), &mut reader);
    let base = path.parent().unwrap_or(Path::new(""));
    let mut config = resolve::assemble(&file, base, &mut report);
    config.sites.retain(|site| !site.hosts.is_empty());
    report.forget_hidden();
    (config, report.finish().0)
}

/// [`load_again`] of a file that somebody else has opened, or failed to open.
///
/// # Errors
///
/// As [`load`].
pub fn load_opened(path: &Path, file: io::Result<File>) -> Result<Loaded, Problems> {
    load_where(path, file, Hidden::IsFine)
}

fn load_where(path: &Path, file: io::Result<File>, hidden: Hidden) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let bytes = file.and_then(read).map_err(|error| unreadable(&name, &error))?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let problem = Problem::error("this is UTF-16, not UTF-8").help("save the file as UTF-8");
        return Err(Problems::unreadable(&name, problem, false));
    }
    let base = path.parent().unwrap_or(Path::new(""));
    let env = |name: &str| std::env::var(name).ok();
    let text = String::from_utf8_lossy(&bytes);
    let bad = std::str::from_utf8(&bytes).err().map(|error| error.valid_up_to());
    judge(&text, (&name, base), &env, bad, hidden)
}

/// [`parse`] for a running program, as [`load_again`] is [`load`] for one.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse_again(
    text: &str,
    name: &str,
    base: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    judge(text, (name, base), env, None, Hidden::IsFine)
}

/// Judges `text`, which is called `name` in what is said of it. Relative paths begin at `base`;
/// `${NAME}` is taken from `env`.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(
    text: &str,
    name: &str,
    base: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    judge(text, (name, base), env, None, Hidden::IsWrong)
}

/// What is said of certificate files that this process may not read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hidden {
    IsWrong,
    IsFine,
}

fn judge(
    text: &str,
    (name, base): (&str, &Path),
    env: &dyn Fn(&str) -> Option<String>,
    not_utf8: Option<usize>,
    hidden: Hidden,
) -> Result<Loaded, Problems> {
    let source = Source::new(name, text);
    let mut report = Report::new(&source);
    if let Some(at) = not_utf8 {
        // The byte order mark is no part of the source, and U+FFFD stands for the bad byte.
        let at = at - (text.len() - source.text().len());
        let problem = Problem::error("this is not UTF-8").help("save the file as UTF-8");
        report.add_syntax(&(at..at + char::REPLACEMENT_CHARACTER.len_utf8()), problem);
    }
    let mended = syntax::mend(&source, &mut report);
    let (tree, _) = DeTable::parse_recoverable(&mended);
    let mut reader = Reader { report: &mut report, env };
    let file = file::File::read_keys(tree.get_ref(), &mut reader);
    let config = resolve::resolve(&file, base, &mut report);
    if hidden == Hidden::IsFine {
        report.forget_hidden();
    }
    let (errors, warnings) = report.finish();
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded { config, warnings }),
        _ => Err(errors),
    }
}

fn read(file: File) -> io::Result<Vec<u8>> {
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if about.len() > LARGEST {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn unreadable(name: &str, error: &io::Error) -> Problems {
    let problem = match error.kind() {
        ErrorKind::NotFound => Problem::error("there is no such file").help(
            "name the configuration with `-c FILE`, \
                   or front one app without a file: `portcullis up`",
        ),
        ErrorKind::PermissionDenied => Problem::error("this user may not read the file").help(
            "read it as its owner or as root, \
                   or allow it: `chmod o+r` (a configuration holds no secrets)",
        ),
        ErrorKind::IsADirectory => Problem::error("this is a directory, not a file"),
        ErrorKind::FileTooLarge => {
            Problem::error("this is no configuration: it is larger than 16 MiB")
        }
        _ => Problem::error(format!("the file cannot be read: {error}")),
    };
    Problems::unreadable(name, problem, error.kind() == ErrorKind::PermissionDenied)
}
