//! Taking an install back: what it has written and nobody has changed, and nothing else.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::super::Stop;
use super::files;
use super::manifest::Manifest;
use super::place::{self, Found, Root};

/// Removes, or only says what it would; one line for each file and folder.
pub(super) fn take_back(
    mut manifest: Manifest,
    root: &Root,
    is_dry: bool,
) -> Result<Vec<String>, Stop> {
    let mut lines = Vec::new();
    let said = |done: &str, would: &str, path: &Path, why: &str| {
        format!("{:<12} {}{why}", if is_dry { would } else { done }, path.display())
    };
    for (path, ours) in std::mem::take(&mut manifest.files) {
        let place = root.join(&path);
        let found = place::look_at(&place).map_err(|e| place::failed("read", &place, &e))?;
        let why = match found {
            Found::Nothing => continue,
            _ if !files::is_known(&path) => ": no install writes this file",
            Found::File(there) if there == ours => {
                if !is_dry {
                    fs::remove_file(&place).map_err(|e| place::failed("remove", &place, &e))?;
                }
                lines.push(said("removed", "would remove", &path, ""));
                continue;
            }
            _ => ": changed since it was installed",
        };
        lines.push(said("kept", "would keep", &path, why));
    }
    if is_dry {
        return Ok(lines);
    }
    // Whoever changed a file has it for himself from now on.
    Manifest::remove(root)?;
    for folder in manifest.directories.iter().rev().filter(|folder| may_be_removed(folder)) {
        let place = root.join(folder);
        match fs::remove_dir(&place) {
            Ok(()) => lines.push(said("removed", "", folder, "/")),
            Err(error)
                if [ErrorKind::NotFound, ErrorKind::DirectoryNotEmpty].contains(&error.kind()) => {}
            Err(error) => return Err(place::failed("remove", &place, &error)),
        }
    }
    Ok(lines)
}

/// A folder is removed only when it is empty, so that this need not be narrow.
fn may_be_removed(folder: &Path) -> bool {
    let is_plain = |part| !matches!(part, std::path::Component::ParentDir);
    folder.is_absolute() && folder.components().all(is_plain)
}
