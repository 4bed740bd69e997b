//! One line per request, collected by each worker and handed over in large pieces.

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;

use super::backlog::Backlog;
use super::clock::Clock;
use super::line;
use super::log_writer::Message;
use super::mask::Mask;
use super::sink::count_lines;
use crate::config::{Log, LogFormat};

/// A worker hands its lines over when there are more bytes than this.
const HAND_OVER: usize = 64 * 1024;

/// Room for the line that crosses [`HAND_OVER`], so that a buffer seldom grows.
const CAPACITY: usize = HAND_OVER + 8 * 1024;

/// A buffer that a storm of long lines has grown beyond this is not used again.
const KEEP: usize = 4 * HAND_OVER;

/// Emptied buffers on their way back to a worker.
const RETURNED: usize = 4;

/// What is known of a request when it is over. Everything a peer chose is escaped when written.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When the request was received.
    pub time: SystemTime,
    /// The request id, as in `X-Request-Id`.
    pub id: &'a str,
    /// The client, after trusted proxies were looked through.
    pub client: IpAddr,
    /// The host that was asked for; empty where none was understood.
    pub host: &'a str,
    /// The method; empty where no request line was understood.
    pub method: &'a str,
    /// The request target as received: path and query.
    pub path: &'a [u8],
    /// `HTTP/1.1` and its like.
    pub proto: &'static str,
    /// The status as sent; 499 where the client went away first.
    pub status: u16,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// From the request's head to the last byte of the response.
    pub duration: Duration,
    /// The address of the application that answered or was tried last.
    pub upstream: Option<&'a str>,
    /// From the choice of the application to the first byte of its answer.
    pub upstream_time: Option<Duration>,
    /// `TLSv1.3` and its like; `None` on plain HTTP.
    pub tls: Option<&'static str>,
    /// The `User-Agent` field.
    pub user_agent: Option<&'a [u8]>,
    /// The `Referer` field.
    pub referer: Option<&'a [u8]>,
    /// What went wrong, for the operator.
    pub error: Option<&'a str>,
}

/// The lines of one worker that are not handed over yet.
///
/// Made by [`Writer::buffer`](super::log_writer::Writer::buffer); what it holds when dropped is
/// handed over.
#[derive(Debug)]
pub struct Buffer {
    lines: Vec<u8>,
    format: LogFormat,
    mask: Mask,
    clock: Clock,
    queue: Option<Queue>,
}

/// The way to the writer's thread and back.
#[derive(Debug)]
struct Queue {
    full: SyncSender<Message>,
    emptied: Receiver<Vec<u8>>,
    give_back: SyncSender<Vec<u8>>,
    backlog: Arc<Backlog>,
}

impl Buffer {
    /// A buffer that keeps nothing: the access log is off.
    #[must_use]
    pub fn off() -> Self {
        Self {
            lines: Vec::new(),
            format: LogFormat::Combined,
            mask: Mask::default(),
            clock: Clock::new(LogFormat::Combined, TimeZone::UTC),
            queue: None,
        }
    }

    pub(super) fn new(
        log: &Log,
        zone: TimeZone,
        full: SyncSender<Message>,
        backlog: Arc<Backlog>,
    ) -> Self {
        let (give_back, emptied) = sync_channel(RETURNED);
        Self {
            lines: Vec::with_capacity(CAPACITY),
            format: log.format,
            mask: Mask::new(&log.mask),
            clock: Clock::new(log.format, zone),
            queue: Some(Queue { full, emptied, give_back, backlog }),
        }
    }

    /// Whether anything is written at all; a caller may save itself the [`Entry`].
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Appends the line for `entry`; hands over when enough has gathered. Never blocks.
    pub fn record(&mut self, entry: &Entry<'_>) {
        if self.queue.is_none() {
            return;
        }
        match self.format {
            LogFormat::Combined => {
                line::combined(&mut self.lines, entry, &mut self.clock, &self.mask);
            }
            LogFormat::Json => line::json(&mut self.lines, entry, &mut self.clock, &self.mask),
        }
        if self.lines.len() > HAND_OVER {
            self.flush();
        }
    }

    /// Hands over what has gathered: to be called every second and before a stop. Never blocks:
    /// when the writer is too far behind, the lines are dropped and counted as lost.
    pub fn flush(&mut self) {
        let Some(queue) = &self.queue else { return };
        if self.lines.is_empty() {
            return;
        }
        let empty = queue.emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(CAPACITY));
        let lines = mem::replace(&mut self.lines, empty);
        let sent = queue.full.try_send(Message::Lines(lines, queue.give_back.clone()));
        if let Err(TrySendError::Full(unsent) | TrySendError::Disconnected(unsent)) = sent
            && let Message::Lines(mut lines, _) = unsent
        {
            queue.backlog.drop_lines(count_lines(&lines));
            lines.clear();
            give_back(lines, &queue.give_back);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Lets a worker use the room of `lines` again, unless there is too much of it.
pub(super) fn give_back(mut lines: Vec<u8>, to: &SyncSender<Vec<u8>>) {
    if lines.capacity() <= KEEP {
        lines.clear();
        // The worker has enough of them, or is gone: the room is simply freed.
        let _ = to.try_send(lines);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::config::AccessLog;
    use crate::observe::metrics::SharedCounter;

    /// A usual request.
    pub(in crate::observe) fn entry() -> Entry<'static> {
        Entry {
            time: UNIX_EPOCH + Duration::from_secs(971_211_336),
            id: "01hx",
            client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            host: "example.com",
            method: "GET",
            path: b"/index.html?lang=en",
            proto: "HTTP/1.1",
            status: 200,
            bytes_in: 0,
            bytes_out: 1024,
            duration: Duration::from_micros(250),
            upstream: Some("127.0.0.1:8080"),
            upstream_time: Some(Duration::from_micros(180)),
            tls: Some("TLSv1.3"),
            user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101"),
            referer: Some(b"https://example.com/"),
            error: None,
        }
    }

    fn buffer(room: usize) -> (Buffer, Receiver<Message>, Arc<SharedCounter>) {
        let log = Log {
            access: AccessLog::Stdout,
            format: LogFormat::Combined,
            level: tracing::level_filters::LevelFilter::INFO,
            mask: Vec::new(),
        };
        let (full, waiting) = sync_channel(room);
        let lost = Arc::new(SharedCounter::default());
        let backlog = Arc::new(Backlog::new(Arc::clone(&lost)));
        (Buffer::new(&log, TimeZone::UTC, full, backlog), waiting, lost)
    }

    fn received(waiting: &Receiver<Message>) -> Option<(Vec<u8>, SyncSender<Vec<u8>>)> {
        match waiting.try_recv() {
            Ok(Message::Lines(lines, back)) => Some((lines, back)),
            _ => None,
        }
    }

    #[test]
    fn lines_are_handed_over_in_large_pieces_or_when_flushed() {
        let (mut buffer, waiting, lost) = buffer(8);
        buffer.record(&entry());
        assert!(received(&waiting).is_none());
        buffer.flush();
        assert_eq!(count_lines(&received(&waiting).unwrap().0), 1);
        buffer.flush();
        assert!(received(&waiting).is_none(), "nothing is nothing to hand over");
        while buffer.lines.is_empty() || buffer.lines.len() + 1024 < HAND_OVER {
            buffer.record(&entry());
        }
        assert!(received(&waiting).is_none());
        (0..10).for_each(|_| buffer.record(&entry()));
        assert!(received(&waiting).unwrap().0.len() > HAND_OVER);
        drop(buffer);
        assert!(received(&waiting).is_some(), "what is left is handed over at the end");
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn a_writer_that_is_behind_or_gone_costs_lines_which_are_counted() {
        let (mut buffer, waiting, lost) = buffer(1);
        for _ in 0..3 {
            buffer.record(&entry());
            buffer.record(&entry());
            buffer.flush();
        }
        assert_eq!(lost.get(), 4);
        assert_eq!(count_lines(&received(&waiting).unwrap().0), 2);
        drop(waiting);
        buffer.record(&entry());
        drop(buffer);
        assert_eq!(lost.get(), 5);
    }

    #[test]
    fn room_is_used_again() {
        let (mut buffer, waiting, _) = buffer(8);
        buffer.record(&entry());
        buffer.flush();
        let (lines, back) = received(&waiting).unwrap();
        let room = lines.as_ptr();
        give_back(lines, &back);
        buffer.record(&entry());
        buffer.flush();
        assert_eq!(buffer.lines.as_ptr(), room);
        assert!(buffer.lines.is_empty());
    }
}
