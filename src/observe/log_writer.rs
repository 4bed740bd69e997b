//! The one thread that writes the access log.
//!
//! A disk that is full or a pipe that nobody reads costs lines, which are counted, and one
//! message; it never costs a request.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::access_log::{Buffer, give_back};
use super::metrics::SharedCounter;
use crate::config::{AccessLog, Log};

/// Buffers of about 64 KiB that may wait to be written: 8 MiB, half a second of a busy server.
const WAITING: usize = 128;

/// How long the writer waits at once for a pipe that takes nothing.
const PIPE_PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The access log of one destination, and the thread behind it.
///
/// A reload that changes `[log]` gives each worker a new [`Buffer`]: of the same writer where only
/// format or mask changed, of a new one where the destination did. The old thread writes what it
/// has been given and ends when its writer and the last of its buffers are dropped.
#[derive(Debug)]
pub struct Writer {
    /// `None` when the access log is off.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    queue: SyncSender<Message>,
    signs: Arc<Signs>,
    lost: Arc<SharedCounter>,
    zone: TimeZone,
    /// Disconnected when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

/// What the thread is asked to do beside writing.
#[derive(Debug, Default)]
struct Signs {
    reopen: AtomicBool,
    finish: AtomicBool,
}

/// What travels to the thread.
#[derive(Debug)]
pub(super) enum Message {
    /// Whole lines, and the way back for the emptied buffer.
    Lines(Vec<u8>, SyncSender<Vec<u8>>),
    /// A look at the signs is due.
    Wake,
}

impl Writer {
    /// Opens `destination` (a file is appended to and made with mode 0640) and starts the thread.
    /// Lines that cannot be written are counted in `lost`.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread be started.
    pub fn start(destination: &AccessLog, lost: Arc<SharedCounter>) -> io::Result<Self> {
        let sink = match destination {
            AccessLog::Off => return Ok(Self { running: None }),
            AccessLog::Stdout => Sink::stdout()?,
            AccessLog::File(path) => Sink::file(path)?,
        };
        let (queue, waiting) = sync_channel(WAITING);
        let (alive, ended) = sync_channel(0);
        let signs = Arc::new(Signs::default());
        let seen = Arc::clone(&signs);
        let counted = Arc::clone(&lost);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write_all_that_comes(&waiting, sink, &seen, &counted);
            drop(alive);
        })?;
        let zone = TimeZone::system();
        Ok(Self { running: Some(Running { queue, signs, lost, zone, ended: Mutex::new(ended) }) })
    }

    /// A buffer for one worker, with the format and the mask of `log`.
    #[must_use]
    pub fn buffer(&self, log: &Log) -> Buffer {
        self.running.as_ref().map_or_else(Buffer::off, |running| {
            let lost = Arc::clone(&running.lost);
            Buffer::new(log, running.zone.clone(), running.queue.clone(), lost)
        })
    }

    /// Lets the thread open its file anew, after a rotation renamed it. Returns at once.
    pub fn reopen(&self) {
        if let Some(running) = &self.running {
            running.signs.reopen.store(true, Ordering::Release);
            running.wake();
        }
    }

    /// Waits, at most until `deadline`, for everything handed over so far to be written. Whether
    /// it was. To be called when the buffers are flushed or dropped; the thread then ends.
    #[must_use]
    pub fn finish(&self, deadline: Instant) -> bool {
        let Some(running) = &self.running else { return true };
        running.signs.finish.store(true, Ordering::Release);
        running.wake();
        let ended = running.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Running {
    fn wake(&self) {
        // A queue without room has messages enough, and the signs are looked at after each.
        let _ = self.queue.try_send(Message::Wake);
    }
}

/// The number of lines in `lines`.
pub(super) fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count().try_into().unwrap_or(u64::MAX)
}

/// Ends when nobody can send any more, or after a finish was asked for and the queue is empty.
fn write_all_that_comes(
    waiting: &Receiver<Message>,
    mut sink: Sink,
    signs: &Signs,
    lost: &SharedCounter,
) {
    loop {
        let message = if signs.finish.load(Ordering::Acquire) {
            waiting.try_recv().ok()
        } else {
            waiting.recv().ok()
        };
        if signs.reopen.swap(false, Ordering::AcqRel) {
            sink.reopen();
        }
        match message {
            Some(Message::Lines(lines, back)) => {
                lost.add(sink.write(&lines));
                give_back(lines, &back);
            }
            Some(Message::Wake) => {}
            None => return,
        }
    }
}

/// An open destination and the state of its trouble.
#[derive(Debug)]
struct Sink {
    file: File,
    /// `None` for standard output.
    path: Option<PathBuf>,
    /// Lines lost since writing began to fail; `None` while it works.
    failing: Option<u64>,
    /// The last thing written was a piece of a line.
    torn: bool,
}

impl Sink {
    fn stdout() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, path: None, failing: None, torn: false })
    }

    fn file(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self { file, path: Some(path.to_owned()), failing: None, torn: false })
    }

    /// For messages.
    fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string())
    }

    fn reopen(&mut self) {
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
    fn write(&mut self, lines: &[u8]) -> u64 {
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

/// Opened without blocking, so that a FIFO without a reader is an error and not a start that hangs.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)
}

/// How long tests wait for the thread.
#[cfg(test)]
const PATIENCE: Duration = Duration::from_secs(10);
