//! The one thread that writes the access log.
//!
//! A disk that is full or a pipe that nobody reads costs lines, which are counted, and one
//! message; it never costs a request.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use jiff::tz::TimeZone;

use super::access_log::{Buffer, give_back};
use super::backlog::Backlog;
use super::metrics::SharedCounter;
use super::sink::Sink;
use crate::config::{AccessLog, Log};

/// Buffers of about 64 KiB that may wait to be written: 8 MiB, half a second of a busy server.
const WAITING: usize = 128;

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
    backlog: Arc<Backlog>,
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
        let backlog = Arc::new(Backlog::new(Arc::clone(&lost)));
        let seen_behind = Arc::clone(&backlog);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write_all_that_comes(&waiting, sink, &seen, (&lost, &seen_behind));
            drop(alive);
        })?;
        let zone = TimeZone::system();
        Ok(Self {
            running: Some(Running { queue, signs, backlog, zone, ended: Mutex::new(ended) }),
        })
    }

    /// A buffer for one worker, with the format and the mask of `log`.
    #[must_use]
    pub fn buffer(&self, log: &Log) -> Buffer {
        self.running.as_ref().map_or_else(Buffer::off, |running| {
            let backlog = Arc::clone(&running.backlog);
            Buffer::new(log, running.zone.clone(), running.queue.clone(), backlog)
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

/// Ends when nobody can send any more, or after a finish was asked for and the queue is empty.
fn write_all_that_comes(
    waiting: &Receiver<Message>,
    mut sink: Sink,
    signs: &Signs,
    (lost, backlog): (&SharedCounter, &Backlog),
) {
    loop {
        let mut message = waiting.try_recv().ok();
        if message.is_none() && !signs.finish.load(Ordering::Acquire) {
            backlog.caught_up();
            message = waiting.recv().ok();
        }
        if signs.reopen.swap(false, Ordering::AcqRel) {
            sink.reopen(Instant::now());
        }
        match message {
            Some(Message::Lines(lines, back)) => {
                lost.add(sink.write(&lines, Instant::now()));
                give_back(lines, &back);
            }
            Some(Message::Wake) => {}
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::config::LogFormat;
    use crate::observe::access_log::tests::entry;
    use crate::observe::sink::count_lines;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn log(path: &Path) -> Log {
        Log {
            access: AccessLog::File(path.to_owned()),
            format: LogFormat::Combined,
            level: tracing::level_filters::LevelFilter::INFO,
            mask: Vec::new(),
        }
    }

    fn start(log: &Log) -> (Writer, Arc<SharedCounter>) {
        let lost = Arc::new(SharedCounter::default());
        (Writer::start(&log.access, Arc::clone(&lost)).unwrap(), lost)
    }

    fn lines(path: &Path) -> usize {
        fs::read_to_string(path).unwrap_or_default().lines().count()
    }

    fn until(what: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !what() {
            assert!(Instant::now() < deadline, "in vain");
            thread::yield_now();
        }
    }

    #[test]
    fn every_worker_s_lines_are_in_the_file_after_a_finish() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(&directory.path().join("access.log"));
        let AccessLog::File(path) = &log.access else { unreachable!() };
        fs::write(path, "before\n").unwrap();
        let (writer, lost) = start(&log);
        thread::scope(|scope| {
            for _ in 0..3 {
                let mut buffer = writer.buffer(&log);
                scope.spawn(move || (0..2000).for_each(|_| buffer.record(&entry())));
            }
        });
        assert!(writer.finish(Instant::now() + PATIENCE));
        assert_eq!(lines(path), 6001);
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn a_new_file_is_not_for_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(&directory.path().join("access.log"));
        let AccessLog::File(path) = &log.access else { unreachable!() };
        let (_writer, _) = start(&log);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o137, 0);
    }

    #[test]
    fn after_a_rotation_lines_go_to_the_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(&directory.path().join("access.log"));
        let AccessLog::File(path) = &log.access else { unreachable!() };
        let rotated = path.with_extension("log.1");
        let (writer, lost) = start(&log);
        let mut buffer = writer.buffer(&log);
        buffer.record(&entry());
        buffer.flush();
        until(|| lines(path) == 1);
        fs::rename(path, &rotated).unwrap();
        buffer.record(&entry());
        buffer.flush();
        until(|| lines(&rotated) == 2);
        writer.reopen();
        until(|| path.exists());
        buffer.record(&entry());
        drop(buffer);
        assert!(writer.finish(Instant::now() + PATIENCE));
        assert_eq!((lines(&rotated), lines(path)), (2, 1));
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let log = log(Path::new("/dev/full"));
        let (writer, lost) = start(&log);
        let mut buffer = writer.buffer(&log);
        (0..1000).for_each(|_| buffer.record(&entry()));
        drop(buffer);
        assert!(writer.finish(Instant::now() + PATIENCE));
        assert_eq!(lost.get(), 1000);
    }

    #[test]
    fn a_pipe_that_nobody_empties_blocks_no_worker_and_a_stop_only_until_its_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let log = log(&path);
        assert!(Writer::start(&log.access, Arc::default()).is_err(), "nobody reads");
        let reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let (writer, lost) = start(&log);
        let mut buffer = writer.buffer(&log);
        let before = Instant::now();
        while lost.get() == 0 {
            buffer.record(&entry());
            assert!(before.elapsed() < PATIENCE);
        }
        assert!(!writer.finish(Instant::now() + Duration::from_millis(20)));
        drop(reader);
    }

    #[test]
    fn off_is_off() {
        let log = Log { access: AccessLog::Off, ..log(Path::new("/nowhere")) };
        let (writer, lost) = start(&log);
        let mut buffer = writer.buffer(&log);
        assert!(!buffer.is_on());
        buffer.record(&entry());
        buffer.flush();
        writer.reopen();
        assert!(writer.finish(Instant::now()));
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_at_once() {
        let destination = AccessLog::File("/nonexistent/access.log".into());
        let error = Writer::start(&destination, Arc::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// Each line is at the reader or among the lost: several workers hand over small pieces, and
    /// the reader takes its time, so that the queue is full most of the time.
    #[test]
    fn every_line_is_written_or_counted_as_lost() {
        use std::io::Read as _;
        const WORKERS: u64 = 3;
        const LINES: u64 = 10_000;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let opener = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let log = log(&path);
        let (writer, lost) = start(&log);
        let mut reader = fs::File::open(&path).unwrap();
        drop(opener);
        let reading = thread::spawn(move || {
            let (mut seen, mut room, mut last) = (0, vec![0; 4 * 1024], b'\n');
            while let Some(got) = Some(reader.read(&mut room).unwrap()).filter(|n| *n > 0) {
                seen += count_lines(&room[..got]);
                last = room[got - 1];
                thread::yield_now();
            }
            (seen, last)
        });
        thread::scope(|scope| {
            for worker in 0..WORKERS {
                let mut buffer = writer.buffer(&log);
                scope.spawn(move || {
                    for line in 0..LINES {
                        buffer.record(&entry());
                        if (line * 7 + worker) % 13 == 0 {
                            buffer.flush();
                        }
                    }
                });
            }
        });
        assert!(writer.finish(Instant::now() + PATIENCE));
        let (written, last) = reading.join().unwrap();
        assert_eq!(last, b'\n', "a line was cut");
        assert_eq!(written + lost.get(), WORKERS * LINES, "{} lost", lost.get());
    }
}
