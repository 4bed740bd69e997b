//! The `Date` of an answer (RFC 9110 §6.6.1), formatted once a second.

use std::cell::RefCell;
use std::time::SystemTime;

use http::HeaderValue;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Remembers the field of the last second. The HTTP library has one, too, which stands still when
/// the clock is set back.
#[derive(Debug, Default)]
pub struct Dates {
    last: RefCell<Option<(i64, HeaderValue)>>,
}

impl Dates {
    /// The field for `time`; `None` for one that has no place in a calendar.
    #[must_use]
    pub fn at(&self, time: SystemTime) -> Option<HeaderValue> {
        let timestamp = Timestamp::try_from(time).ok()?;
        let second = timestamp.as_second();
        if let Some((last, field)) = &*self.last.borrow()
            && *last == second
        {
            return Some(field.clone());
        }
        let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&timestamp).ok()?;
        let field = HeaderValue::try_from(text).ok()?;
        self.last.replace(Some((second, field.clone())));
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// After the clock had been set back it stood still, for years if need be.
    #[test]
    fn it_follows_the_clock_back() {
        let dates = Dates::default();
        let example = 784_111_777;
        for (second, expected) in [
            (example, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (example + 631_152_000, "Thu, 06 Nov 2014 08:49:37 GMT"),
            (example, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (example - 1, "Sun, 06 Nov 1994 08:49:36 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            for millis in [0, 999] {
                let time = UNIX_EPOCH + Duration::from_millis(second * 1000 + millis);
                assert_eq!(dates.at(time).unwrap(), expected);
            }
        }
    }
}
