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
    /// It is as it should be, and no install has put it down: it is ours from now on.
    Adopt,
    /// It is the operator's own, and meant to be.
    Leave,
    /// It is somebody else's: what they did, as the end of a sentence.
    Refuse(&'static str),
    /// It is ours, but for its mode.
    RefuseMode(u32),
}

impl Action {
    /// Whether the file is written.
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Update)
    }

    /// Whether the file or what is known of it changes.
    pub(super) fn changes(self) -> bool {
        self.writes() || self == Self::Adopt
    }

    /// Whether the file stays otherwise than this version has it, against what install is for.
    pub(super) fn refuses(self) -> bool {
        matches!(self, Self::Refuse(_) | Self::RefuseMode(_))
    }
}

impl Step {
    /// What was done, or would be; nothing about what is as it should be.
    pub(super) fn line(&self, is_dry: bool) -> Option<String> {
        let path = self.file.path.display();
        let (done, would, why) = match self.action {
            Action::Fine => return None,
            Action::Write => ("wrote", "would write", String::new()),
            Action::Update => ("updated", "would update", String::new()),
            Action::Adopt => ("adopted", "would adopt", ": it is as install writes it".to_owned()),
            Action::Leave => ("kept", "would keep", ": it is yours".to_owned()),
            Action::Refuse(why) => ("kept", "would keep", format!(": {why}")),
            Action::RefuseMode(mode) => {
                let why = format!(": its mode is {mode:04o}, not {:04o}", self.file.mode);
                ("kept", "would keep", why)
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
        let action = decide(&file, &found, &Digest::of(&bytes), recorded);
        Ok(Step { file, bytes, action })
    };
    files.into_iter().map(decide).collect()
}

fn decide(file: &File, found: &Found, wanted: &Digest, recorded: Option<&Digest>) -> Action {
    let has_mode = |mode: &u32| *mode == file.mode;
    match (found, recorded) {
        (Found::Nothing, _) => Action::Write,
        (Found::File(there, mode), _) if there == wanted && (file.once || has_mode(mode)) => {
            if recorded == Some(wanted) {
                Action::Fine
            } else {
                Action::Adopt
            }
        }
        _ if file.once => Action::Leave,
        (Found::File(there, _), Some(ours)) if there != wanted && there != ours => {
            Action::Refuse("changed since it was installed")
        }
        (Found::File(there, _), None) if there != wanted => {
            Action::Refuse("not written by install")
        }
        (Found::File(_, mode), _) if !has_mode(mode) => Action::RefuseMode(*mode),
        (Found::File(..), _) => Action::Update,
        (Found::Link, _) => Action::Refuse("a symbolic link"),
        (Found::Other, _) => Action::Refuse("not a file"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::Content;
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn file(text: &str) -> Found {
        Found::File(digest(text), 0o644)
    }

    fn decided(found: &Found, recorded: Option<&str>, once: bool) -> Action {
        let content = Content::Text(String::new());
        let file = File { path: "/etc/a".into(), mode: 0o644, content, once };
        decide(&file, found, &digest("new"), recorded.map(digest).as_ref())
    }

    #[test]
    fn what_is_missing_is_written() {
        assert_eq!(decided(&Found::Nothing, None, false), Action::Write);
        assert_eq!(decided(&Found::Nothing, Some("old"), false), Action::Write);
        assert_eq!(decided(&Found::Nothing, None, true), Action::Write);
    }

    #[test]
    fn what_is_there_already_is_put_down_and_needs_nothing_more() {
        for once in [false, true] {
            assert_eq!(decided(&file("new"), Some("new"), once), Action::Fine);
            assert_eq!(decided(&file("new"), None, once), Action::Adopt);
            assert_eq!(decided(&file("new"), Some("old"), once), Action::Adopt);
        }
    }

    #[test]
    fn another_mode_is_somebodys_doing() {
        for (text, recorded) in [("new", Some("new")), ("new", None), ("old", Some("old"))] {
            let found = Found::File(digest(text), 0o600);
            assert_eq!(decided(&found, recorded, false), Action::RefuseMode(0o600));
        }
        let config = Found::File(digest("new"), 0o600);
        assert_eq!(decided(&config, Some("new"), true), Action::Fine);
    }

    #[test]
    fn only_what_nobody_has_changed_is_updated() {
        assert_eq!(decided(&file("old"), Some("old"), false), Action::Update);
        assert!(decided(&file("changed"), Some("old"), false).refuses());
        assert!(decided(&file("changed"), None, false).refuses());
    }

    #[test]
    fn a_masked_unit_stays_masked() {
        assert!(decided(&Found::Link, Some("old"), false).refuses());
        assert!(decided(&Found::Other, None, false).refuses());
    }

    #[test]
    fn the_configuration_is_the_operators_once_it_is_there() {
        for found in [file("old"), file("changed"), Found::Link] {
            assert_eq!(decided(&found, Some("old"), true), Action::Leave);
        }
    }
}
