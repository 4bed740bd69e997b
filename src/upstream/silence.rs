//! How long an application may say nothing within an answer that it has begun.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, header};

/// For answers that are silent for long, and rightly so; but a peer that has vanished must not hold
/// a connection for ever.
const OF_A_STREAM: Duration = Duration::from_secs(3600);

/// The longest silence within one answer, between two reads of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// As a duration it would take up twice the room in each exchange.
    millis: u32,
    /// Whether it is that of an event stream or of gRPC, and not `limits.upstream_timeout`.
    pub is_of_stream: bool,
}

impl Silence {
    /// That of an answer with these fields, where `limits.upstream_timeout` is `limit`.
    ///
    /// A stream of events or messages speaks when there is something to say. One that tells its
    /// length is none: all of it is there.
    #[must_use]
    pub fn within(headers: &HeaderMap, limit: Duration) -> Self {
        let is_of_stream = !headers.contains_key(header::CONTENT_LENGTH)
            && headers.get(header::CONTENT_TYPE).is_some_and(is_stream);
        let longest = if is_of_stream { limit.max(OF_A_STREAM) } else { limit };
        Self { millis: u32::try_from(longest.as_millis()).unwrap_or(u32::MAX), is_of_stream }
    }

    /// How long it may be.
    #[must_use]
    pub fn longest(self) -> Duration {
        Duration::from_millis(self.millis.into())
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.longest();
        if self.is_of_stream {
            return write!(f, "the application's event stream was silent for {longest:?}");
        }
        write!(
            f,
            "the application sent no more of its answer for {longest:?}, over \
             limits.upstream_timeout"
        )
    }
}

/// `text/event-stream`, and `application/grpc` with its kin, whatever their parameters.
fn is_stream(content_type: &http::HeaderValue) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    const GRPC: &[u8] = b"application/grpc";
    let begins = |name: &[u8], ends: &[u8]| {
        let value = content_type.as_bytes();
        value.split_at_checked(name.len()).is_some_and(|(begin, rest)| {
            begin.eq_ignore_ascii_case(name) && rest.first().is_none_or(|byte| ends.contains(byte))
        })
    };
    begins(EVENTS, b"; \t") || begins(GRPC, b"; \t+-")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn within(content_type: &'static str, limit: Duration) -> Silence {
        let value = HeaderValue::from_static(content_type);
        Silence::within(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]), limit)
    }

    #[test]
    fn only_streams_may_be_silent_for_long() {
        for content_type in [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "text/event-stream ;charset=utf-8",
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web-text",
            "application/grpc;x=y",
        ] {
            let silence = within(content_type, LIMIT);
            assert_eq!((silence.longest(), silence.is_of_stream), (OF_A_STREAM, true));
        }
        for content_type in
            ["", "text/plain", "text/event-streams", "application/grpcx", "application/json"]
        {
            let silence = within(content_type, LIMIT);
            assert_eq!((silence.longest(), silence.is_of_stream), (LIMIT, false), "{content_type}");
        }
        assert_eq!(Silence::within(&HeaderMap::new(), LIMIT).longest(), LIMIT);
    }

    #[test]
    fn what_tells_its_length_is_no_stream() {
        let fields = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
            (header::CONTENT_LENGTH, HeaderValue::from_static("1000")),
        ];
        assert_eq!(Silence::within(&HeaderMap::from_iter(fields), LIMIT).longest(), LIMIT);
    }

    #[test]
    fn a_stream_has_no_less_patience_than_others() {
        let day = Duration::from_secs(86_400);
        assert_eq!(within("text/event-stream", day).longest(), day);
    }
}
