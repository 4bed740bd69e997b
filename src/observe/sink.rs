//! Where the lines of the access log end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// How long the writer waits at once for a pipe that takes nothing.
const PIPE_PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How often to try to open a file again that could not be opened after a rotation.
const RETRY: Duration = Duration::from_secs(1);

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
    /// The file is that from before a rotation, and when to try for the new one again.
    stale: Option<Instant>,
}

impl Sink {
    pub(super) fn stdout() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, path: None, failing: None, torn: false, stale: None })
    }

    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let path = Some(path.to_owned());
        Ok(Self { file, path, failing: None, torn: false, stale: None })
    }

    /// For messages.
    fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string())
    }

    /// Opens the file anew, after a rotation. Where that cannot be done now, because the disk is
    /// full or the folder is gone, it is tried again as lines come, once a second.
    pub(super) fn reopen(&mut self, now: Instant) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => {
                self.file = file;
                self.torn = false;
                if self.stale.take().is_some() {
                    tracing::warn!(path = self.name(), "the access log is reopened at last");
                }
            }
            Err(error) => {
                if self.stale.is_none() {
                    tracing::error!(
                        path = self.name(),
                        errno = error.raw_os_error(),
                        %error,
                        "the access log cannot be reopened; going on with the old file until it can"
                    );
                }
                self.stale = Some(now + RETRY);
            }
        }
    }

    /// Writes `lines`; the number of those lost.
    pub(super) fn write(&mut self, lines: &[u8], now: Instant) -> u64 {
        if self.stale.is_some_and(|at| at <= now) {
            self.reopen(now);
        }
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

    fn write(sink: &mut Sink, lines: &[u8]) -> u64 {
        sink.write(lines, Instant::now())
    }

    #[test]
    fn lines_are_lost_while_writing_fails_and_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut sink = Sink::file(&path).unwrap();
        sink.file = open(Path::new("/dev/full")).unwrap();
        assert_eq!(write(&mut sink, b"one\ntwo\n"), 2);
        assert_eq!(write(&mut sink, b"three\n"), 1);
        assert_eq!(sink.failing, Some(3));
        sink.reopen(Instant::now());
        assert_eq!(write(&mut sink, b"four\n"), 0);
        assert_eq!(sink.failing, None);
        assert_eq!(fs::read(&path).unwrap(), b"four\n");
    }

    #[test]
    fn a_line_after_a_torn_one_is_a_line_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut sink = Sink::file(&path).unwrap();
        assert_eq!(write(&mut sink, b"whole\nhalf a l"), 0);
        assert!(sink.torn);
        assert_eq!(write(&mut sink, b"whole again\n"), 0);
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
        sink.reopen(Instant::now());
        assert_eq!(write(&mut sink, b"line\n"), 0);
        assert_eq!(fs::read(&moved).unwrap(), b"line\n");
    }

    /// Lines went into the file that was rotated away for ever.
    #[test]
    fn a_file_that_could_not_be_reopened_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let (folder, moved) = (directory.path().join("log"), directory.path().join("moved"));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("access.log");
        let mut sink = Sink::file(&path).unwrap();
        fs::rename(&folder, &moved).unwrap();
        let start = Instant::now();
        sink.reopen(start);
        assert_eq!(sink.write(b"one\n", start + RETRY), 0);
        fs::create_dir(&folder).unwrap();
        assert_eq!(sink.write(b"two\n", start + RETRY), 0, "not so soon");
        assert_eq!(sink.write(b"three\n", start + 2 * RETRY), 0);
        assert_eq!(sink.stale, None);
        assert_eq!(fs::read(moved.join("access.log")).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read(&path).unwrap(), b"three\n");
    }
}
