//! What an install has written, with the digest of each file, so that it can be told from what
//! somebody has changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::super::Stop;
use super::place::Place;
use super::plan::Step;
use super::root::Root;
use crate::exit;

/// Beside the configuration, where only root may write: by what stands here root removes files.
pub(super) const PATH: &str = "/etc/portcullis/installed.json";

/// The files and folders that were written; every path is absolute, without the root.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The version of the program that wrote last.
    program: String,
    pub(super) files: BTreeMap<PathBuf, Digest>,
    /// Those that were not there before, in the order in which they were made.
    pub(super) directories: Vec<PathBuf>,
}

/// SHA-256 in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digest(String);

impl Digest {
    /// Of a text.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(bytes);
        Self::from(context)
    }

    /// Of all that is left to read.
    pub(super) fn of_reader(reader: &mut impl Read) -> io::Result<Self> {
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Self::from(context)),
                Ok(count) => context.update(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl From<Context> for Digest {
    fn from(context: Context) -> Self {
        let mut text = String::with_capacity(64);
        for byte in context.finish().as_ref() {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }
}

impl Manifest {
    /// The manifest below this root; an empty one where nothing was installed.
    pub(super) fn load(root: &Root) -> Result<Self, Stop> {
        Ok(Self::find(root)?.unwrap_or_default())
    }

    /// The manifest below this root, if anything was installed.
    pub(super) fn find(root: &Root) -> Result<Option<Self>, Stop> {
        let Some(place) = root.place(Path::new(PATH))? else { return Ok(None) };
        let Some(text) = place.read()? else { return Ok(None) };
        let found: Self = serde_json::from_slice(&text).map_err(|error| Stop {
            code: exit::FAILED,
            text: format!(
                "{} is not what install has written ({error}), so that it cannot be told which \
                 files somebody has changed. Mend it or move it away",
                root.shown(Path::new(PATH)).display()
            ),
        })?;
        Ok(Some(found))
    }

    /// Puts down files that are there already as they would have been written.
    pub(super) fn adopt<'a>(
        &mut self,
        steps: impl IntoIterator<Item = &'a Step>,
        root: &Root,
    ) -> Result<(), Stop> {
        let digests =
            steps.into_iter().map(|step| (step.file.path.clone(), Digest::of(&step.bytes)));
        self.files.extend(digests);
        self.save(root)
    }

    /// Writes it below this root.
    pub(super) fn save(&mut self, root: &Root) -> Result<(), Stop> {
        env!("CARGO_PKG_VERSION").clone_into(&mut self.program);
        let mut made = Vec::new();
        let place = root.made_place(Path::new(PATH), &mut made);
        self.directories.extend(made.iter().cloned());
        place.and_then(|place| self.put(&place)).inspect_err(|_| root.unmake(&made))
    }

    fn put(&self, place: &Place) -> Result<(), Stop> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Stop {
            code: exit::FAILED,
            text: format!("cannot write down what was installed: {error}"),
        })?;
        place.replace(format!("{text}\n").as_bytes(), 0o644)
    }

    /// Removes it below this root.
    pub(super) fn remove(root: &Root) -> Result<(), Stop> {
        root.place(Path::new(PATH))?.map_or(Ok(()), |place| place.remove())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The example of FIPS 180-4: "abc".
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_digest_is_the_same_by_text_and_by_reader() {
        assert_eq!(Digest::of(b"abc").0, ABC);
        assert_eq!(Digest::of_reader(&mut &b"abc"[..]).unwrap().0, ABC);
    }

    #[test]
    fn a_manifest_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert!(Manifest::find(&root).unwrap().is_none());
        let mut manifest = Manifest::default();
        manifest.files.insert("/etc/a".into(), Digest::of(b"abc"));
        manifest.save(&root).unwrap();
        let found = Manifest::find(&root).unwrap().unwrap();
        assert_eq!(found.files, manifest.files);
        assert_eq!(found.directories, [Path::new("/etc"), Path::new("/etc/portcullis")]);
        assert_eq!(found.program, env!("CARGO_PKG_VERSION"));
        Manifest::remove(&root).unwrap();
        assert!(Manifest::find(&root).unwrap().is_none());
    }

    #[test]
    fn a_broken_manifest_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        fs::create_dir_all(folder.path().join("etc/portcullis")).unwrap();
        fs::write(root.shown(Path::new(PATH)), "{").unwrap();
        let stop = Manifest::find(&root).unwrap_err();
        assert_eq!(stop.code, exit::FAILED);
        assert!(stop.text.contains("/etc/portcullis/installed.json is not what"), "{}", stop.text);
    }
}
