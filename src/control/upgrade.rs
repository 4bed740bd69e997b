//! USR2: a new program takes the sockets over, and this process ends once that serves. Until then,
//! and if it never does, this one goes on as if nothing had been asked.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tokio::time::timeout;

use super::Plane;
use super::files::ControlSocket;
use super::notify::Notifier;
use crate::downstream::bind::ListenerKind;
use crate::helper::client::Line;
use crate::helper::ready;

/// How long a new program may take until it serves: it reads every certificate first.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is said to whoever wants something that an upgrade under way stands against.
pub(super) const UNDER_WAY: &str = "an upgrade is under way: wait until the log says how it ended";

/// The pid of the new process that serves, or why none does.
type Outcome = Result<u32, String>;

/// An upgrade under way.
pub(super) type Attempt = JoinHandle<Outcome>;

/// Waits until an upgrade has come to its end; for ever when none is under way.
pub(super) async fn outcome(attempt: &mut Option<Attempt>) -> Outcome {
    let Some(running) = attempt else { return std::future::pending().await };
    let outcome = running.await;
    *attempt = None;
    outcome.unwrap_or_else(|error: JoinError| Err(error.to_string()))
}

impl Plane {
    /// Has the new program started, unless that is under way already.
    pub(super) fn begin_upgrade(&mut self) {
        if self.attempt.is_some() {
            tracing::warn!("{UNDER_WAY}");
            return;
        }
        match self.start_upgrade() {
            Ok(attempt) => self.attempt = Some(attempt),
            Err(error) => self.note_failure(error),
        }
    }

    fn start_upgrade(&self) -> Result<Attempt, String> {
        if std::process::id() == 1 {
            return Err("this is process 1, with which its container ends: start a new container \
                        in place of this one"
                .to_owned());
        }
        let helper = self.helper.clone().filter(|helper| !helper.is_gone());
        let helper = helper.ok_or("there is no helper process to start it: restart")?;
        let failed = |error: io::Error| format!("the sockets cannot be passed: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let ours = tokio::net::UnixStream::from_std(ours).map_err(failed)?;
        let mut sockets = self.sockets().map_err(failed)?;
        if let Some(keys) = self.state.certificates.bequest(self.state.roots.files()) {
            sockets.push(("keys".to_owned(), leave(keys).map_err(failed)?));
        }
        sockets.push((ready::NAME.to_owned(), theirs.into()));
        Ok(tokio::spawn(attempt(helper, sockets, ours)))
    }

    /// What a successor is passed, each under the name by which it is found.
    fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let mut sockets = Vec::new();
        for listener in &self.listeners {
            let name = match listener.kind {
                ListenerKind::Http => "http",
                ListenerKind::Https => "https",
            };
            sockets.push((name.to_owned(), listener.socket.try_clone()?.into()));
        }
        if let Some(metrics) = &self.metrics {
            sockets.push(("metrics".to_owned(), metrics.try_clone()?.into()));
        }
        if let Some(control) = &self.socket {
            sockets.push(("control".to_owned(), control.listener()?.into()));
        }
        if let Some(manager) = self.notifier.socket()? {
            sockets.push(("notify".to_owned(), manager));
        }
        Ok(sockets)
    }

    /// Whether an upgrade has succeeded: then this process is to end.
    pub(super) fn is_replaced(&mut self, outcome: Outcome) -> bool {
        match outcome {
            Ok(pid) => {
                tracing::info!(
                    "upgraded: process {pid} serves, and this one ends once what is open has ended"
                );
                self.hand_over_to(pid);
                true
            }
            Err(error) => {
                self.note_failure(error);
                false
            }
        }
    }

    /// Leaves everything that both processes hold to process `pid`.
    fn hand_over_to(&mut self, pid: u32) {
        for listener in &self.listeners {
            listener.is_shared.store(true, Ordering::Relaxed);
        }
        let serving = [self.answering.take(), self.scraping.take()];
        let serving: Vec<_> = serving.into_iter().flatten().collect();
        serving.iter().for_each(AbortHandle::abort);
        if let Some(left) = self.socket.take().map(ControlSocket::leave) {
            // Who answered on it has a descriptor of his own.
            tokio::spawn(async move {
                while !serving.iter().all(AbortHandle::is_finished) {
                    tokio::task::yield_now().await;
                }
                left.tidy();
            });
        }
        self.notifier.successor(pid);
        // What this process does from now on is not the service's state any more.
        self.notifier = Notifier::default();
    }

    fn note_failure(&mut self, error: String) {
        tracing::error!("the upgrade failed, and this process goes on serving:");
        error.lines().for_each(|line| tracing::error!("{line}"));
        self.upgrade_error = Some(error);
    }

    /// Ends a new program that nobody waits for any more, because this one is to stop.
    pub(super) async fn abandon_upgrade(&mut self) {
        let Some(attempt) = self.attempt.take() else { return };
        attempt.abort();
        if let Some(helper) = &self.helper {
            match helper.abandon().await {
                Ok(how) => tracing::warn!("the upgrade is given up: {how}"),
                Err(error) => tracing::warn!("the upgrade cannot be given up: {error}"),
            }
        }
    }
}

async fn attempt(
    helper: Line,
    sockets: Vec<(String, OwnedFd)>,
    ours: tokio::net::UnixStream,
) -> Outcome {
    let pid = helper.upgrade(sockets).await.map_err(|error| error.to_string())?;
    tracing::info!("upgrading: process {pid} has been started");
    let heard = timeout(PATIENCE, hear(ours)).await;
    if heard.as_deref() == Ok(ready::YES) {
        if let Err(error) = helper.release().await {
            tracing::warn!("the helper does not let process {pid} go: {error}");
        }
        helper.dismiss().await;
        return Ok(pid);
    }
    let how = match helper.abandon().await {
        Ok(how) => how,
        Err(error) => error.to_string(),
    };
    Err(match heard.as_deref().map(str::trim) {
        Ok("") => format!("process {pid} said nothing; {how}"),
        Ok(words) => format!("{words}\n(process {pid}: {how})"),
        Err(_) => format!("process {pid} was not ready in {PATIENCE:?}; {how}"),
    })
}

/// A socket on which `keys` can be read, once.
fn leave(keys: Vec<u8>) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut ours = tokio::net::UnixStream::from_std(ours)?;
    // Who does not read them has no use for them.
    tokio::spawn(async move { timeout(PATIENCE, ours.write_all(&keys)).await });
    Ok(theirs.into())
}

/// What the new program says: that it is ready, or all of its reason why not.
async fn hear(mut socket: tokio::net::UnixStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while bytes != ready::YES.as_bytes() && bytes.len() < ready::LONGEST {
        match socket.read(&mut buffer).await {
            Ok(count @ 1..) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            // It is gone, or it has become something that does not speak with us.
            Ok(0) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    async fn heard(words: &str, ends: bool) -> String {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.write_all(words.as_bytes()).unwrap();
        let _open = (!ends).then_some(theirs);
        let ours = tokio::net::UnixStream::from_std(ours).unwrap();
        timeout(Duration::from_secs(10), hear(ours)).await.unwrap()
    }

    #[tokio::test]
    async fn who_is_ready_need_not_hang_up() {
        assert_eq!(heard(ready::YES, false).await, ready::YES);
        assert_eq!(heard(ready::YES, true).await, ready::YES);
    }

    #[tokio::test]
    async fn a_reason_is_heard_to_its_end() {
        assert_eq!(heard("line one\nline two", true).await, "line one\nline two");
        assert_eq!(heard("", true).await, "");
        assert_eq!(heard(&"x".repeat(2 * ready::LONGEST), false).await.len(), ready::LONGEST);
    }

    #[tokio::test]
    async fn nothing_under_way_is_never_over() {
        let mut none = None;
        let waited = timeout(Duration::from_millis(1), outcome(&mut none)).await;
        assert!(waited.is_err());
        let mut attempt: Option<Attempt> = Some(tokio::spawn(async { Ok(7) }));
        assert_eq!(outcome(&mut attempt).await, Ok(7));
        assert!(attempt.is_none());
    }
}
