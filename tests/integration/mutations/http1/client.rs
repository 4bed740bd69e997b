//! A client of one connection: it sends its stream and reads the answers, whatever they are.

use super::sent::Sent;
use super::stream::Stream;
use crate::harness::Wire;
use crate::harness::wire::RawAnswer;
use crate::mutations::backend::SERIAL;

/// The answers to a stream.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// Final ones, in their order.
    pub answers: Vec<Answer>,
    /// Interim ones.
    pub interim: usize,
    /// What went wrong at the client itself.
    pub complaint: Option<String>,
}

/// A final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The number of the request that it is an answer to; `None` where the proxy itself answers.
    pub serial: Option<u64>,
    /// Whether it says that it is the last.
    pub closes: bool,
}

/// Sends `stream`, which is read as `sent`, and takes all that comes.
pub fn play(mut wire: Wire, stream: &Stream, sent: &[Sent]) -> Played {
    let mut from = 0;
    for &to in &stream.writes {
        if wire.try_send(&stream.bytes[from..to]).is_err() {
            break;
        }
        from = to;
    }
    let wanted = sent.iter().filter(|one| one.is_whole).count();
    let mut played = Played::default();
    let mut unread = Vec::new();
    let mut is_finished = false;
    loop {
        while played.complaint.is_none() && played.take(&mut unread, sent) {}
        if played.answers.len() >= wanted && !is_finished {
            wire.finish();
            is_finished = true;
        }
        match wire.take_some() {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => unread.extend(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let (got, left) = (played.answers.len(), unread.escape_ascii());
                let what = format!("silence: {wanted} requests, {got} answers, unread {left}");
                played.complaint.get_or_insert(what);
                break;
            }
            // Bytes that nobody has read make a reset of a close.
            Err(_) => return played,
        }
    }
    if !unread.is_empty() && !played.take_last(&unread, sent) {
        let text = format!("an answer without end: {}", unread.escape_ascii());
        played.complaint.get_or_insert(text);
    }
    played
}

impl Played {
    /// Takes what is left when the connection is over, where the last request may have been meant
    /// as a HEAD: an answer without its body, or the body alone.
    fn take_last(&mut self, unread: &[u8], sent: &[Sent]) -> bool {
        let text = String::from_utf8_lossy(unread).into_owned();
        let was_refused = |answer: &Answer| answer.serial.is_none() && answer.status >= 400;
        if !text.contains("HTTP/") {
            return self.answers.last().is_some_and(was_refused);
        }
        let is_unreadable = self.answers.len() >= sent.len();
        let is_it = is_unreadable && text.starts_with("HTTP/1.1 ") && text.ends_with("\r\n\r\n");
        if is_it {
            let status = RawAnswer { head: text, body: Vec::new() }.status();
            self.answers.push(Answer { status, serial: None, closes: true });
        }
        is_it
    }

    /// Takes one answer off `unread`; false when there is no whole one.
    fn take(&mut self, unread: &mut Vec<u8>, sent: &[Sent]) -> bool {
        let Some(end) = memchr::memmem::find(unread, b"\r\n\r\n") else { return false };
        let head = String::from_utf8_lossy(&unread[..end + 4]).into_owned();
        if !head.starts_with("HTTP/1.1 ") && !head.starts_with("HTTP/1.0 ") {
            self.complaint = Some(format!("no answer: {head}"));
            return false;
        }
        let answer = RawAnswer { head, body: Vec::new() };
        let status = answer.status();
        let is_head = sent.get(self.answers.len()).is_some_and(|one| one.method == "HEAD");
        let length = match (answer.field("content-length").map(str::parse::<usize>), is_head) {
            _ if status < 200 => 0,
            (_, true) => 0,
            (Some(Ok(length)), _) => length,
            (wrong, _) => {
                self.complaint = Some(format!("length {wrong:?} in {}", answer.head));
                return false;
            }
        };
        let Some(rest) = unread.len().checked_sub(end + 4 + length) else { return false };
        unread.drain(..unread.len() - rest);
        if status < 200 {
            self.interim += 1;
            return true;
        }
        let serial = answer.field(SERIAL).map(|serial| serial.parse().unwrap());
        let closes = answer.field("connection").is_some_and(|word| word == "close");
        self.answers.push(Answer { status, serial, closes });
        true
    }
}
