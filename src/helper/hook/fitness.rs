//! Whether a program can be run as a hook. It is looked at again when it is run.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::Access;

use crate::shell::quote_path;

/// What is to be said of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Nothing.
    Fit,
    /// It can be run, but not only the operator says what it does: why, and what helps.
    Doubtful(String, String),
    /// It cannot be run: why and, where that is clear, what helps.
    Unfit(String, Option<String>),
}

/// Looks at the file at `path`, as the user of this process.
#[must_use]
pub fn of(path: &Path) -> Fitness {
    let shown = path.display();
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) => {
            let words = match error.kind() {
                ErrorKind::NotFound => format!("there is no file `{shown}`"),
                ErrorKind::PermissionDenied => format!("this user may not look at `{shown}`"),
                _ => format!("`{shown}` cannot be looked at: {error}"),
            };
            return Fitness::Unfit(words, None);
        }
    };
    if !about.is_file() {
        return Fitness::Unfit(format!("`{shown}` is not a file"), None);
    }
    let mode = about.permissions().mode();
    let command = |change: &str| format!("chmod {change} {}", quote_path(path));
    if mode & 0o111 == 0 {
        return Fitness::Unfit(format!("nobody may execute `{shown}`"), Some(command("a+rx")));
    }
    if rustix::fs::access(path, Access::EXEC_OK).is_err() {
        return Fitness::Unfit(
            format!("this user may not execute `{shown}`"),
            Some(command("a+rx")),
        );
    }
    if mode & 0o022 != 0 {
        let whom = if mode & 0o002 != 0 { "others" } else { "its group" };
        let words = format!("`{shown}` is writable by {whom}, who then say what this program runs");
        return Fitness::Doubtful(words, command("go-w"));
    }
    Fitness::Fit
}
