//! One line per request, collected by each worker and handed over in large pieces.

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;

use super::clock::Clock;
use super::line;
use super::log_writer::{Message, count_lines};
use super::mask::Mask;
use super::metrics::SharedCounter;
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
    lost: Arc<SharedCounter>,
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
        lost: Arc<SharedCounter>,
    ) -> Self {
        let (give_back, emptied) = sync_channel(RETURNED);
        Self {
            lines: Vec::with_capacity(CAPACITY),
            format: log.format,
            mask: Mask::new(&log.mask),
            clock: Clock::new(log.format, zone),
            queue: Some(Queue { full, emptied, give_back, lost }),
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
            queue.lost.add(count_lines(&lines));
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
