//! The time of a line, formatted once a second.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::LogFormat;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Writes times in one form; remembers the text of the last second.
#[derive(Debug)]
pub(super) struct Clock {
    format: LogFormat,
    zone: TimeZone,
    /// The second that `text` stands for; `None` before the first.
    second: Option<u64>,
    text: Vec<u8>,
}

impl Clock {
    /// Combined lines show the time of `zone` with its offset, JSON lines UTC.
    pub(super) fn new(format: LogFormat, zone: TimeZone) -> Self {
        Self { format, zone, second: None, text: Vec::with_capacity(32) }
    }

    /// Appends `10/Oct/2000:13:55:36 -0700` or `2000-10-10T20:55:36.250Z` (RFC 3339 §5.6).
    /// A time before 1970 is written as 1970.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.render(since.as_secs());
        }
        out.extend_from_slice(&self.text);
        if self.format == LogFormat::Json {
            let millis = since.subsec_millis();
            out.push(b'.');
            digit(out, millis / 100);
            digit(out, millis / 10);
            digit(out, millis);
            out.push(b'Z');
        }
    }

    fn render(&mut self, second: u64) {
        let timestamp = i64::try_from(second)
            .ok()
            .and_then(|second| Timestamp::from_second(second).ok())
            .unwrap_or(Timestamp::MAX);
        self.text.clear();
        match self.format {
            LogFormat::Combined => {
                let offset = self.zone.to_offset(timestamp);
                apache(&mut self.text, offset.to_datetime(timestamp), offset.seconds());
            }
            LogFormat::Json => rfc3339(&mut self.text, TimeZone::UTC.to_datetime(timestamp)),
        }
    }
}

fn apache(out: &mut Vec<u8>, at: DateTime, offset: i32) {
    let month = usize::from(at.month().unsigned_abs()).checked_sub(1);
    two(out, at.day().unsigned_abs().into());
    out.push(b'/');
    out.extend_from_slice(month.and_then(|m| MONTHS.get(m)).unwrap_or(&"???").as_bytes());
    out.push(b'/');
    year(out, at);
    out.push(b':');
    time_of_day(out, at);
    out.extend_from_slice(if offset < 0 { b" -" } else { b" +" });
    two(out, offset.unsigned_abs() / 3600);
    two(out, offset.unsigned_abs() / 60 % 60);
}

fn rfc3339(out: &mut Vec<u8>, at: DateTime) {
    year(out, at);
    out.push(b'-');
    two(out, at.month().unsigned_abs().into());
    out.push(b'-');
    two(out, at.day().unsigned_abs().into());
    out.push(b'T');
    time_of_day(out, at);
}

fn time_of_day(out: &mut Vec<u8>, at: DateTime) {
    two(out, at.hour().unsigned_abs().into());
    out.push(b':');
    two(out, at.minute().unsigned_abs().into());
    out.push(b':');
    two(out, at.second().unsigned_abs().into());
}

fn year(out: &mut Vec<u8>, at: DateTime) {
    let year = u32::from(at.year().unsigned_abs());
    two(out, year / 100);
    two(out, year);
}

fn two(out: &mut Vec<u8>, number: u32) {
    digit(out, number / 10);
    digit(out, number);
}

/// Appends the last decimal digit of `number`.
fn digit(out: &mut Vec<u8>, number: u32) {
    out.push(char::from_digit(number % 10, 10).map_or(b'?', |digit| digit as u8));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::Offset;

    use super::*;

    fn written(clock: &mut Clock, millis: u64) -> String {
        let mut out = Vec::new();
        clock.write(&mut out, UNIX_EPOCH + Duration::from_millis(millis));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn combined_shows_local_time_with_its_offset() {
        let west = TimeZone::fixed(Offset::from_seconds(-7 * 3600).unwrap());
        let mut clock = Clock::new(LogFormat::Combined, west);
        assert_eq!(written(&mut clock, 971_211_336_000), "10/Oct/2000:13:55:36 -0700");
        assert_eq!(written(&mut clock, 971_211_336_999), "10/Oct/2000:13:55:36 -0700");
        assert_eq!(written(&mut clock, 971_211_337_000), "10/Oct/2000:13:55:37 -0700");
        let india = TimeZone::fixed(Offset::from_seconds(5 * 3600 + 1800).unwrap());
        let mut clock = Clock::new(LogFormat::Combined, india);
        assert_eq!(written(&mut clock, 0), "01/Jan/1970:05:30:00 +0530");
    }

    #[test]
    fn json_shows_utc_with_milliseconds() {
        let west = TimeZone::fixed(Offset::from_seconds(-7 * 3600).unwrap());
        let mut clock = Clock::new(LogFormat::Json, west);
        assert_eq!(written(&mut clock, 971_211_336_007), "2000-10-10T20:55:36.007Z");
        assert_eq!(written(&mut clock, 971_211_336_250), "2000-10-10T20:55:36.250Z");
        assert_eq!(written(&mut clock, 1_709_164_800_000), "2024-02-29T00:00:00.000Z");
    }

    #[test]
    fn a_clock_that_is_far_off_is_written_all_the_same() {
        let mut clock = Clock::new(LogFormat::Json, TimeZone::UTC);
        let mut out = Vec::new();
        clock.write(&mut out, UNIX_EPOCH - Duration::from_secs(5));
        assert_eq!(out, b"1970-01-01T00:00:00.000Z");
        assert_eq!(written(&mut clock, u64::MAX).len(), "1970-01-01T00:00:00.000Z".len());
    }
}
