//! What tests share: the two ends of a connection to an application.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use super::io::Io;

/// The application's end.
pub(crate) struct App(UnixStream);

/// A connection, and the application at its other end.
pub(crate) fn pair() -> (Io, App) {
    let (io, app) = UnixStream::pair().unwrap();
    io.set_nonblocking(true).unwrap();
    app.set_nonblocking(true).unwrap();
    (Io::Unix(tokio::net::UnixStream::from_std(io).unwrap()), App(app))
}

impl App {
    /// What it has been sent since it was last asked.
    pub(crate) fn heard(&mut self) -> String {
        let mut bytes = vec![0; 1 << 20];
        let n = self.0.read(&mut bytes).unwrap_or_default();
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    }

    /// Sends this.
    pub(crate) fn says(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }
}

/// Runs a test that spawns tasks of its own.
pub(crate) fn local<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}
