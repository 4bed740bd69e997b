//! Stands in for the certificate files that a configuration names: here there are none.

pub mod files {
    use std::io;
    use std::path::Path;

    /// What keeps a pair of files from serving.
    ///
    /// # Errors
    /// Always.
    pub fn load(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    /// The commands that would let us read a file.
    pub fn remedy(path: &Path) -> String {
        format!("chmod o+r {}", path.display())
    }
}
