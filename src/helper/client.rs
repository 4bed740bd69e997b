//! The server's side: the helper's start, and the line on which it is asked.

use std::env;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use serde::de::DeserializeOwned;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::hook::{Action, Ended};
use super::launch::without_protocol;
use super::{Answered, Asked, Granted, HELPER, Question, Refused, packet, program};
use crate::config::Listen;
use crate::control::ConfigOrigin;
use crate::downstream::bind::ListenerKind;

/// Questions that may wait for their turn; what comes on top is refused.
const WAITING: usize = 64;

/// How long an answer may take: a slow disk and the end of an unwanted program are counted in.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to look whether a helper that was sent home has gone.
const POLL: Duration = Duration::from_millis(5);

/// A started helper that nobody attends to yet. When this is dropped the helper ends.
#[derive(Debug)]
pub struct Helper {
    process: Child,
    pair: OwnedFd,
    questions: Receiver<Call>,
    line: Line,
}

/// Where the helper is asked. Clones may be on other threads than the one that attends to it.
#[derive(Clone, Debug)]
pub struct Line {
    calls: Sender<Call>,
    gone: Arc<AtomicBool>,
    dismissed: Arc<Notify>,
}

/// A question with its descriptors, and where the answer goes.
#[derive(Debug)]
struct Call {
    question: Question,
    descriptors: Vec<OwnedFd>,
    answer: oneshot::Sender<Result<(Granted, Option<OwnedFd>), NoHelp>>,
}

/// Why there is no help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoHelp {
    /// The helper says no, or the kernel does.
    Refused(Refused),
    /// The helper has died.
    Gone,
    /// It does not answer in time.
    Late,
    /// Too much waits for it.
    Busy,
}

impl fmt::Display for NoHelp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoHelp::Refused(refused) => refused.fmt(f),
            NoHelp::Gone => f.write_str(GONE),
            NoHelp::Late => write!(f, "the helper did not answer in {PATIENCE:?}"),
            NoHelp::Busy => f.write_str("too much waits for the helper"),
        }
    }
}

/// What follows from a helper that has died.
pub const GONE: &str = "the helper process has died: what the sandbox forbids to the server itself \
    (a reload, an upgrade by USR2, a hook) takes a restart";

impl From<NoHelp> for io::Error {
    fn from(error: NoHelp) -> Self {
        match &error {
            NoHelp::Refused(Refused { errno: Some(errno), .. }) => {
                io::Error::from_raw_os_error(*errno)
            }
            _ => io::Error::other(error.to_string()),
        }
    }
}

impl Line {
    /// Has the helper end, and waits until it has. What it has started is from then on a child of
    /// the process that adopts orphans: systemd waits in a stop only for a main process that is its
    /// own child when it is told of it.
    pub async fn dismiss(&self) {
        self.dismissed.notify_one();
        let _ = timeout(PATIENCE, self.calls.closed()).await;
    }
}

impl Helper {
    /// Starts it: to be called when every right is given up, before the sandbox closes and before
    /// there is a thread. Nothing is waited for.
    ///
    /// # Errors
    /// When there can be no further process, or this program may not be executed again.
    pub fn start(origin: &ConfigOrigin) -> io::Result<Self> {
        let (pair, theirs) = packet::pair()?;
        rustix::io::ioctl_fionbio(&pair, true)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("portcullis: helper").arg(HELPER).arg(program::path()?);
        match origin {
            ConfigOrigin::File(path) => command.arg(path),
            ConfigOrigin::CommandLine => command.arg(""),
        };
        // Of its own group, so that Ctrl-C leaves it alone.
        command.args(env::args_os()).stdin(Stdio::from(theirs)).process_group(0);
        let process = without_protocol(&mut command).spawn()?;
        let (calls, questions) = channel(WAITING);
        let line = Line { calls, gone: Arc::default(), dismissed: Arc::default() };
        Ok(Self { process, pair, questions, line })
    }

    /// Where it is asked.
    #[must_use]
    pub fn line(&self) -> Line {
        self.line.clone()
    }

    /// Carries questions and answers until the helper dies, which is told once.
    pub async fn attend(mut self) {
        let Line { gone, dismissed, .. } = self.line;
        tokio::select! {
            () = carry(self.pair, &mut self.questions, &gone) => {}
            () = dismissed.notified() => {
                gone.store(true, Ordering::Relaxed);
                // The pair is closed by now, which ends it.
                while self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
                    tokio::time::sleep(POLL).await;
                }
                return;
            }
        }
        let how = self.process.try_wait().ok().flatten();
        let how = how.map_or_else(String::new, |status| format!(" ({status})"));
        tracing::error!("{GONE}{how}");
    }
}

/// Carries until the other end is gone; whoever waits is told so.
async fn carry(pair: OwnedFd, questions: &mut Receiver<Call>, gone: &AtomicBool) {
    if let Err(error) = converse(pair, questions).await {
        tracing::error!("no word reaches the helper: {error}");
    }
    gone.store(true, Ordering::Relaxed);
    questions.close();
    while let Some(call) = questions.recv().await {
        let _ = call.answer.send(Err(NoHelp::Gone));
    }
}

async fn converse(pair: OwnedFd, questions: &mut Receiver<Call>) -> io::Result<()> {
    let pair = wakeful(pair)?;
    let mut number = 0;
    loop {
        tokio::select! {
            Some(call) = questions.recv() => {
                number += 1;
                let asked = Asked { number, question: call.question };
                let answer = ask(&pair, &asked, &call.descriptors);
                let answer = timeout(PATIENCE, answer).await.unwrap_or(Ok(Err(NoHelp::Late)));
                let is_gone = answer.is_err();
                // Who asked may have lost patience.
                let _ = call.answer.send(answer.unwrap_or(Err(NoHelp::Gone)));
                if is_gone {
                    return Ok(());
                }
            }
            answer = next::<Answered>(&pair) => if answer.is_none() { return Ok(()) },
        }
    }
}

#[expect(deprecated, reason = "its successor is unsafe; nobody else has this descriptor")]
fn wakeful(pair: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(pair)
}

type Reply = Result<(Granted, Option<OwnedFd>), NoHelp>;

/// Asks one question; an error when the other end is gone.
async fn ask(
    pair: &AsyncFd<OwnedFd>,
    asked: &Asked,
    descriptors: &[OwnedFd],
) -> Result<Reply, NoHelp> {
    let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    if let Err(error) = packet::send(pair.get_ref(), asked, &descriptors) {
        return match Errno::from_io_error(&error) {
            Some(Errno::PIPE | Errno::CONNRESET) => Err(NoHelp::Gone),
            Some(Errno::AGAIN) => Ok(Err(NoHelp::Busy)),
            _ => Ok(Err(NoHelp::Refused(error.into()))),
        };
    }
    loop {
        let (answered, descriptors) = next::<Answered>(pair).await.ok_or(NoHelp::Gone)?;
        // An answer that came too late is let go, and its descriptor with it.
        if answered.number == asked.number {
            let granted = answered.answer.map_err(NoHelp::Refused);
            return Ok(granted.map(|granted| (granted, descriptors.into_iter().next())));
        }
    }
}

/// The next message; `None` when the other end is gone.
async fn next<M: DeserializeOwned>(pair: &AsyncFd<OwnedFd>) -> Option<(M, Vec<OwnedFd>)> {
    loop {
        let mut ready = pair.readable().await.ok()?;
        match packet::receive(pair.get_ref()) {
            Ok(answer) => return answer,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) if error.raw_os_error().is_some() => return None,
            Err(_) => {}
        }
    }
}

impl Line {
    /// To whoever is at the other end of the pair.
    #[cfg(test)]
    pub(super) fn over(pair: OwnedFd) -> Self {
        rustix::io::ioctl_fionbio(&pair, true).unwrap();
        let (calls, mut questions) = channel(WAITING);
        let line = Self { calls, gone: Arc::default(), dismissed: Arc::default() };
        let gone = Arc::clone(&line.gone);
        tokio::spawn(async move { carry(pair, &mut questions, &gone).await });
        line
    }

    /// Whether the helper has died.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// The configuration file, open for reading.
    ///
    /// # Errors
    /// The kernel's, for whoever opens the file; else see [`NoHelp`].
    pub async fn open_config(&self) -> Result<File, NoHelp> {
        self.descriptor(Question::Config).await.map(File::from)
    }

    /// A file of certificates or keys that the configuration file names, open for reading.
    ///
    /// # Errors
    /// The kernel's, for whoever opens the file; else see [`NoHelp`].
    pub async fn open(&self, path: &Path) -> Result<File, NoHelp> {
        self.descriptor(Question::File { path: path.to_owned() }).await.map(File::from)
    }

    /// A listener of the file, bound; `beside` others of this process that are about to leave.
    ///
    /// # Errors
    /// Why it cannot be had, as [`crate::downstream::bind::BindError::explain`] tells it.
    pub async fn bind(
        &self,
        kind: ListenerKind,
        listen: Listen,
        beside: bool,
    ) -> Result<TcpListener, NoHelp> {
        let (kind, listen) = (kind.to_string(), listen.to_string());
        self.descriptor(Question::Bind { kind, listen, beside }).await.map(TcpListener::from)
    }

    /// The listener of `admin.metrics` of the file, bound.
    ///
    /// # Errors
    /// See [`NoHelp`].
    pub async fn bind_metrics(&self) -> Result<TcpListener, NoHelp> {
        self.descriptor(Question::Metrics).await.map(TcpListener::from)
    }

    /// A connection to the application that the file calls `host`, which has begun and may fail
    /// yet.
    ///
    /// # Errors
    /// See [`NoHelp`].
    pub async fn connect(&self, host: &str, address: SocketAddr) -> Result<TcpStream, NoHelp> {
        let question = Question::Connect { host: host.to_owned(), address };
        self.descriptor(question).await.map(TcpStream::from)
    }

    /// Runs the hook of the file, which may take as long as `patience`, and waits until it has
    /// ended. One that nobody waits for any more is ended, unless it removes something.
    ///
    /// # Errors
    /// See [`NoHelp`]. That the hook failed is none.
    pub async fn hook(
        &self,
        action: Action,
        name: &str,
        value: &str,
        patience: Duration,
    ) -> Result<Ended, NoHelp> {
        let (name, value) = (name.to_owned(), value.to_owned());
        let asked = self.descriptor(Question::Hook { action, name, value }).await?;
        let failed = |error: io::Error| NoHelp::Refused(error.into());
        rustix::io::ioctl_fionbio(&asked, true).map_err(|errno| failed(errno.into()))?;
        let asked = wakeful(asked).map_err(failed)?;
        // Who runs it has the same deadline, and some time to end it.
        match timeout(patience + PATIENCE, next::<Ended>(&asked)).await {
            Ok(Some((ended, _))) => Ok(ended),
            Ok(None) => {
                let text = "the process that runs the hook has died before it";
                Err(NoHelp::Refused(Refused::because(text)))
            }
            Err(_) => Err(NoHelp::Late),
        }
    }

    /// Starts the new program with these sockets under these names; its pid.
    ///
    /// # Errors
    /// See [`NoHelp`].
    pub async fn upgrade(&self, sockets: Vec<(String, OwnedFd)>) -> Result<u32, NoHelp> {
        let (names, descriptors): (_, Vec<_>) = sockets.into_iter().unzip();
        if descriptors.len() > packet::DESCRIPTORS {
            let text = format!("{} sockets are more than can be passed", descriptors.len());
            return Err(NoHelp::Refused(Refused::because(text)));
        }
        match self.ask(Question::Upgrade { names }, descriptors).await? {
            (Granted::Started { pid }, _) => Ok(pid),
            _ => Err(nonsense()),
        }
    }

    /// Lets the new program live on whatever becomes of this process.
    ///
    /// # Errors
    /// See [`NoHelp`].
    pub async fn release(&self) -> Result<(), NoHelp> {
        match self.ask(Question::Release, Vec::new()).await? {
            (Granted::Released, _) => Ok(()),
            _ => Err(nonsense()),
        }
    }

    /// Ends the new program if it has not ended; how it ended, in words.
    ///
    /// # Errors
    /// See [`NoHelp`].
    pub async fn abandon(&self) -> Result<String, NoHelp> {
        match self.ask(Question::Abandon, Vec::new()).await? {
            (Granted::Ended { how }, _) => Ok(how),
            _ => Err(nonsense()),
        }
    }

    async fn descriptor(&self, question: Question) -> Result<OwnedFd, NoHelp> {
        self.ask(question, Vec::new()).await?.1.ok_or_else(nonsense)
    }

    async fn ask(&self, question: Question, descriptors: Vec<OwnedFd>) -> Reply {
        let (answer, when_answered) = oneshot::channel();
        self.calls.try_send(Call { question, descriptors, answer }).map_err(
            |error| match error {
                tokio::sync::mpsc::error::TrySendError::Full(_) => NoHelp::Busy,
                tokio::sync::mpsc::error::TrySendError::Closed(_) => NoHelp::Gone,
            },
        )?;
        // Those before it have their own patience.
        when_answered.await.unwrap_or(Err(NoHelp::Gone))
    }
}

fn nonsense() -> NoHelp {
    NoHelp::Refused(Refused::because("the helper's answer belongs to another question"))
}
