//! Files of rules that only root could read: what was in them, for when they cannot be read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FilesError, Look, content, is_closed};

/// A file as it was read.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it looked like before it was read.
    pub(super) look: Look,
    /// What was in it, where it was read as root and a successor may not be able to.
    pub(super) content: Option<Arc<Vec<u8>>>,
}

impl Kept {
    /// Reads a file. Of one that may not be read any more, and that has not changed as far as one
    /// can see, what was in it is taken from `before`.
    ///
    /// # Errors
    /// When it cannot be read, and is not among `before` or has changed since.
    pub fn read(path: &Path, before: &[Self]) -> Result<(Arc<Vec<u8>>, Self), FilesError> {
        // Looked at first: what changes in between is read again at the next look.
        let look = Look::of(path);
        let error = match content(path) {
            Ok(text) => {
                let text = Arc::new(text);
                let is_root = rustix::process::geteuid().is_root();
                let content = is_root.then(|| Arc::clone(&text));
                return Ok((text, Self { path: path.to_owned(), look, content }));
            }
            Err(error) => error,
        };
        let before = before.iter().find(|kept| kept.path == path && kept.content.is_some());
        match before.and_then(|kept| Some((kept, kept.content.as_ref()?))) {
            _ if !error.is_unreadable() => Err(error),
            Some((kept, text)) if look.has_content_of(kept.look) => {
                Ok((Arc::clone(text), kept.clone()))
            }
            Some(_) => Err(error.changed()),
            None => Err(error),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file may still be what it was, as far as one can see.
    #[must_use]
    pub fn may_still_hold(&self) -> bool {
        Look::of(&self.path).has_content_of(self.look)
    }

    /// Whether this process could not read it again.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        self.content.is_some() && is_closed(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_can_be_read_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, "one").unwrap();
        let (text, kept) = Kept::read(&path, &[]).unwrap();
        assert_eq!((text.as_slice(), kept.may_still_hold()), (&b"one"[..], true));
        fs::write(&path, "another").unwrap();
        assert!(!kept.may_still_hold() && !kept.is_out_of_reach());
        let (text, _) = Kept::read(&path, &[kept]).unwrap();
        assert_eq!(text.as_slice(), b"another");
    }

    #[test]
    fn a_file_that_is_gone_is_an_error_whatever_was_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, "one").unwrap();
        let (content, kept) = Kept::read(&path, &[]).unwrap();
        let kept = Kept { content: Some(content), ..kept };
        fs::remove_file(&path).unwrap();
        assert!(!Kept::read(&path, &[kept]).unwrap_err().is_unreadable());
    }
}
