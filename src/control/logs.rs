//! The access log, opened by whoever serves.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::config::{AccessLog, Log};
use crate::observe::log_writer::Writer;
use crate::observe::registry::Registry;
use crate::privilege::explain::Host;
use crate::shell::quote_path;

/// Opens the log; `who` is the user that the process is by now, whose name it may no longer be able
/// to look up.
///
/// # Errors
/// When it cannot be opened, with the command that mends it where a right is missing.
pub(super) fn open(log: &Log, registry: &Registry, who: &str) -> io::Result<Arc<Writer>> {
    let writer = Writer::start(&log.access, registry.lines_lost());
    writer.map(Arc::new).map_err(|error| match &log.access {
        // No thread could be started for it; of that the start has better words.
        _ if error.kind() == io::ErrorKind::WouldBlock => error,
        AccessLog::File(path) => {
            let mut text = format!("the access log {} cannot be opened: {error}", path.display());
            if error.kind() == io::ErrorKind::PermissionDenied {
                text.push_str(&permit(path, who));
            }
            io::Error::new(error.kind(), text)
        }
        _ => error,
    })
}

/// The command that lets this process, which may have been root before, write a log.
fn permit(path: &Path, who: &str) -> String {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // Where the file cannot be seen it is the folder that must be given.
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("/"),
    };
    let place = if path.exists() { path } else { folder };
    format!(
        "; it is opened as {who}, who serves; to let that user write there: {}",
        Host::read().as_root(&[format!("chown {uid}:{gid} {}", quote_path(place))])
    )
}
