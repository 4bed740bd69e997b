//! Whether a file that the configuration names can be what it is named for.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::problems::Problem;
use crate::tls::files::remedy;

/// Whether a file can be read and has something of PEM in it (RFC 7468 §2).
pub(super) fn judge_pem(path: &Path) -> Result<(), Box<Problem>> {
    let shown = path.display();
    let bytes = read(path).map_err(|error| {
        let message = match error.kind() {
            ErrorKind::NotFound => format!("there is no file `{shown}`"),
            ErrorKind::PermissionDenied => format!("this user may not read `{shown}`"),
            ErrorKind::InvalidInput => format!("`{shown}` is not a file"),
            _ => format!("`{shown}` cannot be read: {error}"),
        };
        let hidden = error.kind() == ErrorKind::PermissionDenied;
        let help = hidden.then(|| format!("let it read the file: {}", remedy(path)));
        Box::new(Problem { hidden, help, ..Problem::error(message) })
    })?;
    if memchr::memmem::find(&bytes, b"-----BEGIN ").is_none() {
        let message = format!("`{shown}` is not PEM: it has no `-----BEGIN` line");
        return Err(Box::new(Problem::error(message)));
    }
    Ok(())
}

/// A chain has a few KiB.
const LARGEST: u64 = 1 << 20;

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a named pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
