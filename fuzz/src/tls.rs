//! Stands in for the certificate files that a configuration names: here there are none.

use std::fmt;
use std::path::{Path, PathBuf};

/// There is no such file.
#[derive(Debug)]
pub struct Missing(PathBuf);

impl Missing {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no {}", self.0.display())
    }
}

pub mod files {
    use std::path::Path;
    use std::time::SystemTime;

    use super::Missing;
    use crate::proxy::headers::host::HostPattern;

    /// A chain that is never there.
    #[derive(Debug)]
    pub struct Certified {
        /// Its certificates.
        pub cert: Vec<()>,
    }

    /// What keeps a pair of files from serving.
    ///
    /// # Errors
    /// Always.
    pub fn load(cert: &Path, _: &Path) -> Result<Certified, Missing> {
        Err(Missing(cert.to_owned()))
    }

    /// What is not right with a chain.
    pub fn judge(_: &Certified, _: SystemTime, _: &[HostPattern]) -> Vec<String> {
        Vec::new()
    }

    /// The commands that would let us read a file.
    pub fn remedy(path: &Path) -> String {
        format!("chmod o+r {}", path.display())
    }

    pub mod chain {
        /// What is not right with how its certificates follow each other.
        pub fn judge(_: &[()]) -> Vec<String> {
            Vec::new()
        }
    }
}

pub mod ocsp {
    use std::path::Path;
    use std::time::SystemTime;

    use super::files::Certified;

    /// What is not right with what is stapled to a certificate.
    pub fn judge(_: &Certified, _: bool, _: &Path, _: SystemTime) -> Option<String> {
        None
    }
}

pub mod clients {
    use std::time::SystemTime;

    use super::Missing;
    use crate::config::ClientCertificates;

    /// The authorities of clients.
    ///
    /// # Errors
    /// Always.
    pub fn load(clients: &ClientCertificates, _: SystemTime, _: &[()]) -> Result<(), Missing> {
        Err(Missing(clients.ca.clone()))
    }
}
