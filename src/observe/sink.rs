//! Where the lines of the access log end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// How long the writer waits at once for a pipe that takes nothing.
const PIPE_PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// An open destination and the state of its trouble.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    /// `None` for standard output.
    path: Option<PathBuf>,
    /// Lines lost since writing began to fail; `None` while it works.
    failing: Option<u64>,
    /// The last thing written was a piece of a line.
    torn: bool,
}

impl Sink {
    pub(super) fn stdout() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, path: None, failing: None, torn: false })
    }

    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self { file, path: Some(path.to_owned()), failing: None, torn: false })
    }

    /// For messages.
    fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string())
    }

    pub(super) fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => {
                self.file = file;
                self.torn = false;
            }
            Err(error) => tracing::error!(
                path = self.name(),
                errno = error.raw_os_error(),
                %error,
                "the access log cannot be reopened; going on with the old file"
            ),
        }
    }

    /// Writes `lines`; the number of those lost.
    pub(super) fn write(&mut self, lines: &[u8]) -> u64 {
        let mut rest = lines;
        match self.write_rest(&mut rest) {
            Ok(()) => {
                if let Some(lost) = self.failing.take() {
                    let path = self.name();
                    tracing::warn!(path, lost, "the access log is written again");
                }
                0
            }
            Err(error) => {
                let lost = count_lines(rest);
                let path = self.name();
                match &mut self.failing {
                    Some(before) => *before = before.saturating_add(lost),
                    None => {
                        self.failing = Some(lost);
                        tracing::error!(
                            path,
                            errno = error.raw_os_error(),
                            %error,
                            "the access log cannot be written; its lines are lost until it can"
                        );
                    }
                }
                lost
            }
        }
    }

    /// Writes from the front of `rest`, which is left with what was not written.
    fn write_rest(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        if self.torn {
            self.write_some(b"\n")?;
            self.torn = false;
        }
        while !rest.is_empty() {
            let written = self.write_some(rest)?;
            let (done, left) = rest.split_at_checked(written).unwrap_or((rest, b""));
            self.torn = !done.ends_with(b"\n");
            *rest = left;
        }
        Ok(())
    }

    /// Writes at least one byte of `bytes`. Waits for a pipe that is full.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => return Ok(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Whatever comes of it, the next write tells.
                    let mut file = [PollFd::new(&self.file, PollFlags::OUT)];
                    let _ = poll(&mut file, Some(&PIPE_PATIENCE));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The number of lines in `lines`.
pub(super) fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count().try_into().unwrap_or(u64::MAX)
}

/// Opened without blocking, so that a FIFO without a reader is an error and not a start that hangs.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_are_lost_while_writing_fails_and_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut sink = Sink::file(&path).unwrap();
        sink.file = open(Path::new("/dev/full")).unwrap();
        assert_eq!(sink.write(b"one\ntwo\n"), 2);
        assert_eq!(sink.write(b"three\n"), 1);
        assert_eq!(sink.failing, Some(3));
        sink.reopen();
        assert_eq!(sink.write(b"four\n"), 0);
        assert_eq!(sink.failing, None);
        assert_eq!(fs::read(&path).unwrap(), b"four\n");
    }

    #[test]
    fn a_line_after_a_torn_one_is_a_line_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut sink = Sink::file(&path).unwrap();
        assert_eq!(sink.write(b"whole\nhalf a l"), 0);
        assert!(sink.torn);
        assert_eq!(sink.write(b"whole again\n"), 0);
        assert_eq!(fs::read(&path).unwrap(), b"whole\nhalf a l\nwhole again\n");
    }

    #[test]
    fn a_reopen_that_fails_goes_on_with_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let moved = directory.path().join("moved");
        let mut sink = Sink::file(&path).unwrap();
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        sink.reopen();
        assert_eq!(sink.write(b"line\n"), 0);
        assert_eq!(fs::read(&moved).unwrap(), b"line\n");
    }
}
