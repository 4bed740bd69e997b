//! What becomes of each file: written, brought up to date, or kept because it is not ours.

use std::path::Path;

use super::super::Stop;
use super::files::File;
use super::manifest::{Digest, Manifest};
use super::place::{self, Found};
use super::root::Root;

/// One file and what becomes of it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) file: File,
    pub(super) bytes: Vec<u8>,
    pub(super) action: Action,
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// There is none.
    Write,
    /// It is as an earlier install has left it.
    Update,
    /// It is as it should be.
    Fine,
    /// It is the operator's own, and meant to be.
    Leave,
    /// It is somebody else's: what they did, as the end of a sentence.
    Refuse(&'static str),
}

impl Action {
    /// Whether the file is written.
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Update)
    }
}

impl Step {
    /// What was done, or would be; nothing about what is as it should be.
    pub(super) fn line(&self, is_dry: bool) -> Option<String> {
        let path = self.file.path.display();
        let (done, would, why) = match self.action {
            Action::Fine => return None,
            Action::Write => ("wrote", "would write", ""),
            Action::Update => ("updated", "would update", ""),
            Action::Leave => ("kept", "would keep", ": it is yours"),
            Action::Refuse(why) => {
                let word = if is_dry { "would keep" } else { "kept" };
                return Some(format!("{word:<12} {path}: {why}"));
            }
        };
        Some(format!("{:<12} {path}{why}", if is_dry { would } else { done }))
    }
}

/// Looks at every file below the root and decides.
pub(super) fn steps(files: Vec<File>, root: &Root, manifest: &Manifest) -> Result<Vec<Step>, Stop> {
    let decide = |file: File| {
        let unread = |error| place::failed("read", Path::new("/proc/self/exe"), &error);
        let bytes = file.content.bytes().map_err(unread)?;
        let found = root.look_at(&file.path)?;
        let recorded = manifest.files.get(&file.path);
        let action = decide(&found, &Digest::of(&bytes), recorded, file.once);
        Ok(Step { file, bytes, action })
    };
    files.into_iter().map(decide).collect()
}

fn decide(found: &Found, wanted: &Digest, recorded: Option<&Digest>, once: bool) -> Action {
    match (found, recorded) {
        (Found::Nothing, _) => Action::Write,
        (Found::File(there), _) if there == wanted => Action::Fine,
        _ if once => Action::Leave,
        (Found::File(there), Some(ours)) if there == ours => Action::Update,
        (Found::File(_), Some(_)) => Action::Refuse("changed since it was installed"),
        (Found::File(_), None) => Action::Refuse("not written by install"),
        (Found::Link, _) => Action::Refuse("a symbolic link"),
        (Found::Other, _) => Action::Refuse("not a file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn decided(found: &Found, recorded: Option<&str>, once: bool) -> Action {
        decide(found, &digest("new"), recorded.map(digest).as_ref(), once)
    }

    #[test]
    fn what_is_missing_is_written() {
        assert_eq!(decided(&Found::Nothing, None, false), Action::Write);
        assert_eq!(decided(&Found::Nothing, Some("old"), false), Action::Write);
        assert_eq!(decided(&Found::Nothing, None, true), Action::Write);
    }

    #[test]
    fn what_is_there_already_needs_nothing() {
        let there = Found::File(digest("new"));
        assert_eq!(decided(&there, None, false), Action::Fine);
        assert_eq!(decided(&there, Some("old"), false), Action::Fine);
    }

    #[test]
    fn only_what_nobody_has_changed_is_updated() {
        let old = Found::File(digest("old"));
        let changed = Found::File(digest("changed"));
        assert_eq!(decided(&old, Some("old"), false), Action::Update);
        assert!(matches!(decided(&changed, Some("old"), false), Action::Refuse(_)));
        assert!(matches!(decided(&changed, None, false), Action::Refuse(_)));
    }

    #[test]
    fn a_masked_unit_stays_masked() {
        assert!(matches!(decided(&Found::Link, Some("old"), false), Action::Refuse(_)));
        assert!(matches!(decided(&Found::Other, None, false), Action::Refuse(_)));
    }

    #[test]
    fn the_configuration_is_the_operators_once_it_is_there() {
        for found in [Found::File(digest("old")), Found::File(digest("changed")), Found::Link] {
            assert_eq!(decided(&found, Some("old"), true), Action::Leave);
        }
    }
}
