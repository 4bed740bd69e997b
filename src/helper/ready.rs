//! What a successor tells its predecessor: that it is ready, or why it cannot be.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::launch;

/// The name of the socket among those that are passed.
pub const NAME: &str = launch::READY;

/// What says that it is ready. Anything else is a reason why not. Programs of different versions
/// speak it with each other: it stays as it is.
pub const YES: &str = "READY=1\n";

/// The longest reason, in bytes.
pub const LONGEST: usize = 16 * 1024;

/// For a predecessor that does not read.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the predecessor, of a process that was started to take its place; for every other
/// one it leads nowhere.
#[derive(Debug, Default)]
pub struct Ready(Option<UnixStream>);

impl Ready {
    /// The predecessor's socket, where it has passed one.
    #[must_use]
    pub fn new(passed: Option<OwnedFd>) -> Self {
        let socket = passed.map(UnixStream::from);
        if let Some(socket) = &socket {
            let _ = socket.set_nonblocking(false);
            let _ = socket.set_write_timeout(Some(PATIENCE));
        }
        Self(socket)
    }

    /// Whether there is a predecessor.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.0.is_some()
    }

    /// From now on this process serves.
    pub fn yes(self) {
        self.say(YES);
    }

    /// This process will not serve.
    pub fn no(self, why: &str) {
        self.say(why.get(..LONGEST).unwrap_or(why));
    }

    fn say(self, text: &str) {
        if let Some(mut socket) = self.0 {
            // A predecessor that is gone has nothing to be told.
            let _ = socket.write_all(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn heard(say: impl FnOnce(Ready)) -> String {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        say(Ready::new(Some(ours.into())));
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn one_word_means_yes_and_the_rest_is_a_reason() {
        assert_eq!(heard(Ready::yes), YES);
        assert_eq!(heard(|ready| ready.no("the file is wrong")), "the file is wrong");
        assert_eq!(heard(drop), "", "as when it was killed");
    }

    #[test]
    fn who_replaces_nobody_tells_nobody() {
        assert!(!Ready::default().is_awaited());
        Ready::default().yes();
    }
}
