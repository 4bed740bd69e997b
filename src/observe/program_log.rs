//! What the program itself has to say: one line per event on standard error.
//!
//! `2026-05-04T03:02:01.000Z LEVEL message key=value`; where the journal reads standard error it
//! knows the time itself and is told the severity as sd-daemon(3) asks: `<4>WARN message`.

use std::env;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry, reload};

use super::clock::Clock;
use super::escape::is_printable;
use super::metrics::SharedCounter;
use super::program_writer::{self, Line};
use crate::config::LogFormat;

/// The most that is shown of a message and of each of its fields, in bytes before escaping.
const PIECE: usize = 8 * 1024;

/// The filter of the one subscriber that a process has.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// The way to the thread that writes, once there is one.
static WRITER: OnceLock<Writer> = OnceLock::new();

struct Writer {
    queue: SyncSender<Line>,
    lost: Arc<SharedCounter>,
}

/// From now on a thread of its own writes what is said, so that standard error taking nothing
/// costs lines, which are counted in `lost`, and never the time of whoever says something. A panic
/// is said in the same way. To be called when rights are given up, because it starts a thread.
///
/// # Errors
/// When the system has no thread.
pub fn detach(lost: Arc<SharedCounter>) -> io::Result<()> {
    let style = Style::of_stderr();
    let behind = move |lines: u64| {
        let text = format!("{lines} lines of the program log were lost: nothing took them");
        Lines::new(style).assemble(Level::WARN, &text, SystemTime::now())
    };
    let queue = program_writer::start(io::stderr(), Arc::clone(&lost), behind)?;
    if WRITER.set(Writer { queue, lost }).is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("unnamed").to_owned();
            // The message may hold a stranger's words; they are escaped like all others.
            tracing::error!("thread {name} {}", panic.to_string());
        }));
    }
    Ok(())
}

/// Waits, at most for `patience`, until all that was said so far is written: to be called before
/// the process ends.
pub fn finish(patience: Duration) {
    if let Some(writer) = WRITER.get() {
        program_writer::finish(&writer.queue, patience);
    }
}

/// Begins to write events of at least `level` to standard error. A second call changes the level.
pub fn init(level: LevelFilter) {
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = Lines::new(Style::of_stderr());
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = FILTER.set(handle);
    } else {
        set_level(level);
    }
}

/// Changes what is written from now on.
pub fn set_level(level: LevelFilter) {
    if let Some(filter) = FILTER.get() {
        // Fails only when the subscriber is gone, and with it everything that could be said.
        let _ = filter.reload(targets(level));
    }
}

/// Libraries have their say from warnings on; all of it only at the finest level.
fn targets(level: LevelFilter) -> Targets {
    let others = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    Targets::new()
        .with_default(others)
        // It warns of frames, each of which a stranger may send a million times.
        .with_target("h2", if level == LevelFilter::TRACE { level } else { LevelFilter::OFF })
        .with_target(env!("CARGO_CRATE_NAME"), level)
}

/// How lines begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// With the severity, for the journal.
    Journal,
    /// With the time.
    Plain,
    /// With the time, and colours.
    Colour,
}

impl Style {
    fn of_stderr() -> Self {
        let stderr = io::stderr();
        let journal = env::var("JOURNAL_STREAM").ok();
        if let (Some(journal), Ok(stat)) = (journal, rustix::fs::fstat(&stderr))
            && journal == format!("{}:{}", stat.st_dev, stat.st_ino)
        {
            return Self::Journal;
        }
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if stderr.is_terminal() && !no_colour { Self::Colour } else { Self::Plain }
    }
}

/// Writes each event as a line.
struct Lines {
    style: Style,
    clock: Mutex<Clock>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = self.line(event, SystemTime::now());
        match WRITER.get() {
            Some(writer) => {
                if writer.queue.try_send(Line::Text(line)).is_err() {
                    writer.lost.add(1);
                }
            }
            // There is nobody left to tell of a standard error that cannot be written.
            None => drop(io::stderr().lock().write_all(&line)),
        }
    }
}

impl Lines {
    fn new(style: Style) -> Self {
        Self { style, clock: Mutex::new(Clock::new(LogFormat::Json, TimeZone::UTC)) }
    }

    fn line(&self, event: &Event<'_>, now: SystemTime) -> Vec<u8> {
        let mut words = Words::default();
        event.record(&mut words);
        words.message.push_str(&words.fields);
        self.assemble(*event.metadata().level(), &words.message, now)
    }

    fn assemble(&self, level: Level, text: &str, now: SystemTime) -> Vec<u8> {
        let mut line = Vec::with_capacity(256);
        if self.style != Style::Journal {
            self.clock.lock().unwrap_or_else(PoisonError::into_inner).write(&mut line, now);
            line.push(b' ');
        }
        line.extend_from_slice(opening(self.style, level).as_bytes());
        line.extend_from_slice(text.as_bytes());
        line.push(b'\n');
        line
    }
}

/// The severity, with a space behind it.
fn opening(style: Style, level: Level) -> &'static str {
    match (style, level) {
        (Style::Journal, Level::ERROR) => "<3>ERROR ",
        (Style::Journal, Level::WARN) => "<4>WARN ",
        (Style::Journal, Level::INFO) => "<6>INFO ",
        (Style::Journal, Level::DEBUG) => "<7>DEBUG ",
        (Style::Journal, Level::TRACE) => "<7>TRACE ",
        (Style::Plain, Level::ERROR) => "ERROR ",
        (Style::Plain, Level::WARN) => "WARN ",
        (Style::Plain, Level::INFO) => "INFO ",
        (Style::Plain, Level::DEBUG) => "DEBUG ",
        (Style::Plain, Level::TRACE) => "TRACE ",
        (Style::Colour, Level::ERROR) => "\x1b[31mERROR\x1b[0m ",
        (Style::Colour, Level::WARN) => "\x1b[33mWARN\x1b[0m ",
        (Style::Colour, Level::INFO) => "\x1b[32mINFO\x1b[0m ",
        (Style::Colour, Level::DEBUG) => "\x1b[34mDEBUG\x1b[0m ",
        (Style::Colour, Level::TRACE) => "\x1b[35mTRACE\x1b[0m ",
    }
}

/// The fields of an event as text in which nothing moves a terminal.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field.name(), value);
    }
}

impl Words {
    fn push(&mut self, name: &str, value: &str) {
        if name == "message" {
            escape(&mut self.message, value, false);
            return;
        }
        self.fields.push(' ');
        self.fields.push_str(name);
        self.fields.push('=');
        let quoted = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
        if !quoted && (value.is_empty() || value.contains([' ', '"', '='])) {
            self.fields.push('"');
            escape(&mut self.fields, value, true);
            self.fields.push('"');
        } else {
            escape(&mut self.fields, value, false);
        }
    }
}

/// Appends `text` with the spelling of Rust for what is not printable: `\n`, `\u{202e}`; of a text
/// that is far too long the beginning, and `[+12]` for 12 bytes that were left out.
fn escape(out: &mut String, text: &str, in_quotes: bool) {
    let mut end = text.len().min(PIECE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (shown, cut) = text.split_at(end);
    for character in shown.chars() {
        if !is_printable(character) || in_quotes && matches!(character, '"' | '\\') {
            // Writing to a String does not fail.
            let _ = write!(out, "{}", character.escape_default());
        } else {
            out.push(character);
        }
    }
    if !cut.is_empty() {
        let _ = write!(out, "[+{}]", cut.len());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// Keeps the lines instead of writing them.
    #[derive(Clone)]
    struct Kept(Arc<(Lines, Mutex<String>)>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let line = self.0.0.line(event, UNIX_EPOCH + Duration::from_millis(1500));
            self.0.1.lock().unwrap().push_str(std::str::from_utf8(&line).unwrap());
        }
    }

    fn said(style: Style, level: LevelFilter, say: impl FnOnce()) -> String {
        let kept = Kept(Arc::new((Lines::new(style), Mutex::default())));
        let subscriber = tracing_subscriber::registry().with(targets(level)).with(kept.clone());
        tracing::subscriber::with_default(subscriber, say);
        kept.0.1.lock().unwrap().clone()
    }

    #[test]
    fn a_line_is_plain_words() {
        let say = || {
            tracing::warn!(path = "/var/log/a b", errno = 28, gone = ?None::<u8>, "no room");
            tracing::info!(address = %"127.0.0.1:80", empty = "", "listening {}", "https");
        };
        assert_eq!(
            said(Style::Plain, LevelFilter::INFO, say),
            "1970-01-01T00:00:01.500Z WARN no room path=\"/var/log/a b\" errno=28 gone=None\n\
             1970-01-01T00:00:01.500Z INFO listening https address=127.0.0.1:80 empty=\"\"\n"
        );
        assert_eq!(
            said(Style::Journal, LevelFilter::INFO, || tracing::error!("no room")),
            "<3>ERROR no room\n"
        );
        assert_eq!(
            said(Style::Colour, LevelFilter::INFO, || tracing::error!("no room")),
            "1970-01-01T00:00:01.500Z \x1b[31mERROR\x1b[0m no room\n"
        );
    }

    #[test]
    fn a_stranger_s_words_stay_in_their_line() {
        let say = || {
            let host = "a\x1b]0;x\x07\u{202e}\u{9b}\n<0>EMERG";
            tracing::info!(host, debug = ?host, quoted = "a \"b\"", "no site for {host}");
        };
        assert_eq!(
            said(Style::Journal, LevelFilter::INFO, say),
            "<6>INFO no site for a\\u{1b}]0;x\\u{7}\\u{202e}\\u{9b}\\n<0>EMERG \
             host=a\\u{1b}]0;x\\u{7}\\u{202e}\\u{9b}\\n<0>EMERG \
             debug=\"a\\u{1b}]0;x\\u{7}\\u{202e}\\u{9b}\\n<0>EMERG\" quoted=\"a \\\"b\\\"\"\n"
        );
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let say = || tracing::info!(agent = "\u{9b}".repeat(40_000), "{}", "é".repeat(40_000));
        let line = said(Style::Journal, LevelFilter::INFO, say);
        assert!(line.len() < 8 * PIECE, "{}", line.len());
        assert_eq!(line.matches(&format!("[+{}]", 80_000 - PIECE)).count(), 2);
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn libraries_are_quiet_below_warnings() {
        let say = || {
            tracing::debug!("ours");
            tracing::debug!(target: "rustls::conn", "theirs");
            tracing::warn!(target: "rustls::conn", "their warning");
        };
        let lines = said(Style::Journal, LevelFilter::DEBUG, say);
        assert_eq!(lines, "<7>DEBUG ours\n<4>WARN their warning\n");
        assert_eq!(said(Style::Journal, LevelFilter::OFF, say), "");
        assert_eq!(said(Style::Journal, LevelFilter::TRACE, say).lines().count(), 3);
    }

    /// Each of them was a line in the log, and a client sent a hundred thousand.
    #[test]
    fn frames_that_http2_wonders_about_are_no_news() {
        let say = || tracing::warn!(target: "h2::proto::ping_pong", "recv PING ack");
        assert_eq!(said(Style::Journal, LevelFilter::DEBUG, say), "");
        assert_eq!(said(Style::Journal, LevelFilter::TRACE, say).lines().count(), 1);
    }
}
