//! Taking an install back: what it has written and nobody has changed, and nothing else.

use std::path::{Path, PathBuf};

use super::super::Stop;
use super::files;
use super::manifest::{Digest, Manifest};
use super::place::{Found, Place};
use super::root::Root;

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
    // All is looked at before anything is removed: a link that leads out of the root ends it here.
    for (path, place, found, ours) in standing(std::mem::take(&mut manifest.files), root)? {
        let why = match found {
            Found::Nothing => continue,
            _ if !files::is_known(&path) => ": no install writes this file",
            Found::File(there, _) if there == ours => {
                if !is_dry {
                    place.remove()?;
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
        let Some(place) = root.place(folder)? else { continue };
        if place.remove_folder()? {
            lines.push(said("removed", "", folder, "/"));
        }
    }
    Ok(lines)
}

/// Removes the drafts of these files that installs have left which were cut short, or only says
/// so; one line for each.
pub(super) fn clear<'a>(
    paths: impl IntoIterator<Item = &'a Path>,
    root: &Root,
    is_dry: bool,
) -> Result<Vec<String>, Stop> {
    let mut lines = Vec::new();
    for path in paths {
        // To where no install can have written, there is nothing to say.
        let Ok(Some(place)) = root.place(path) else { continue };
        for draft in place.leftovers()? {
            if !is_dry {
                draft.remove()?;
            }
            let word = if is_dry { "would remove" } else { "removed" };
            let path = path.with_file_name(draft.name());
            lines.push(format!("{word:<12} {}: of an install that was cut short", path.display()));
        }
    }
    Ok(lines)
}

type Standing = (PathBuf, Place, Found, Digest);

fn standing(
    files: impl IntoIterator<Item = (PathBuf, Digest)>,
    root: &Root,
) -> Result<Vec<Standing>, Stop> {
    let mut all = Vec::new();
    for (path, ours) in files {
        let Some(place) = root.place(&path)? else { continue };
        let found = place.look()?;
        all.push((path, place, found, ours));
    }
    Ok(all)
}

/// A folder is removed only when it is empty, so that this need not be narrow.
fn may_be_removed(folder: &Path) -> bool {
    let is_plain = |part| !matches!(part, std::path::Component::ParentDir);
    folder.is_absolute() && folder.components().all(is_plain)
}
