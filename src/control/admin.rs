//! The control socket: one question in a line of JSON, one answer in another. Who may open the
//! socket (mode 0600) may ask.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;

use super::Plane;
use crate::tls::acme::revoke::Reason;

/// The longest question, in bytes.
const QUESTION: u64 = 4096;

/// How long somebody may take to ask, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Conversations at once: whoever asks beyond that waits until others have been answered.
const CONVERSATIONS: usize = 64;

/// What tells that a question is begun with: JSON has room for it before an answer (RFC 8259 §2).
const BEGUN: &[u8] = b" ";

/// How long that may take, for which a socket without anything in it has room.
const SHORTLY: Duration = Duration::from_secs(1);

/// How long to wait after a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);

/// What may be asked.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum Question {
    /// Take the configuration anew, or say what that would change.
    Reload {
        /// Whether to change nothing.
        dry_run: bool,
    },
    /// What the server does.
    Status,
    /// The counters, as Prometheus reads them.
    Metrics,
    /// The certificates that are served, and what is to come of them.
    Certificates {
        /// Whose chain and files are told: a name, or that of a site.
        name: Option<String>,
    },
    /// What sites tell browsers by `Strict-Transport-Security`.
    HstsList,
    /// Lead a site's `hsts` down to nothing, or have it begin anew.
    Hsts {
        /// A host of the site.
        host: String,
        /// Whether down.
        reset: bool,
    },
    /// Ask authorities for certificates now.
    Renew {
        /// A name of the certificate, or of its site; `None` for all.
        name: Option<String>,
        /// Whether for those too that are not due.
        force: bool,
    },
    /// Have a certificate revoked by the authority that issued it.
    Revoke {
        /// A name of the certificate, or of its site.
        name: String,
        /// Why.
        reason: Reason,
        /// Whether another is asked for.
        renew: bool,
    },
}

/// A question on its way to the control plane.
#[derive(Debug)]
pub(super) struct Request {
    /// What is asked.
    pub(super) question: Question,
    /// Where the answer goes.
    pub(super) answer: oneshot::Sender<Value>,
    /// Who waits for it.
    asker: Asker,
}

/// Who waits at the other end of the control socket; `None` for one within this process.
#[derive(Clone, Debug)]
struct Asker(Option<Arc<OwnedWriteHalf>>);

impl Asker {
    /// Tells that the question is begun with, by a blank before the answer, and whether that could
    /// be told. Who has closed his end, or whose process has ended, is found out by the same system
    /// call: it fails with `EPIPE`. So what somebody has given up on while this process could not
    /// answer is not done behind his back when it can.
    async fn is_there(&self) -> bool {
        let Some(stream) = &self.0 else { return true };
        tokio::time::timeout(SHORTLY, send(stream, BEGUN)).await.is_ok_and(|sent| sent.is_ok())
    }
}

async fn send(stream: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Plane {
    /// Answers one question.
    pub(super) async fn answer(&mut self, request: Request, sender: &Sender<Request>) {
        let Request { question, answer: waiting, asker } = request;
        if !asker.is_there().await {
            tracing::warn!("nobody waits any more for the answer to {question:?}: nothing is done");
            return;
        }
        let answer = match question {
            Question::Reload { dry_run } => match self.reload(dry_run, sender).await {
                Ok(changes) => json!({ "ok": true, "changes": changes }),
                Err(error) => json!({ "ok": false, "error": error }),
            },
            Question::Status => json!({ "ok": true, "status": self.status() }),
            Question::HstsList => json!({ "ok": true, "sites": self.hsts() }),
            Question::Hsts { host, reset } => match self.set_hsts(&host, reset).await {
                Ok(site) => json!({ "ok": true, "site": site }),
                Err(error) => json!({ "ok": false, "error": error }),
            },
            Question::Renew { name, force } => {
                let renewed = self.renew_by_acme(name.as_deref(), force);
                renewed.unwrap_or_else(|error| json!({ "ok": false, "error": error }))
            }
            Question::Revoke { name, reason, renew } => {
                self.revoke(&name, (reason, renew), waiting);
                return;
            }
            Question::Certificates { name } => {
                self.tell_certificates(name, waiting);
                return;
            }
            Question::Metrics => json!({ "ok": true, "metrics": self.metrics() }),
        };
        // Who asked may have gone.
        let _ = waiting.send(answer);
    }
}

/// Puts a question of this process to the control plane.
pub(super) async fn ask(sender: &Sender<Request>, question: Question) -> Option<Value> {
    ask_for(Asker(None), sender, question).await
}

async fn ask_for(asker: Asker, sender: &Sender<Request>, question: Question) -> Option<Value> {
    let (answer, when_answered) = oneshot::channel();
    sender.send(Request { question, answer, asker }).await.ok()?;
    when_answered.await.ok()
}

/// Serves the control socket for ever.
pub(super) async fn serve(listener: UnixListener, sender: Sender<Request>) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("the control socket does not work: {error}");
            return;
        }
    };
    let room = Arc::new(Semaphore::new(CONVERSATIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let conversation = converse(stream, sender.clone());
                tokio::spawn(async move {
                    conversation.await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn converse(stream: UnixStream, sender: Sender<Request>) {
    let (read, write) = stream.into_split();
    let write = Arc::new(write);
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(QUESTION));
    let asked = tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await;
    if !matches!(asked, Ok(Ok(_))) {
        return;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(question) => ask_for(Asker(Some(Arc::clone(&write))), &sender, question).await,
        Err(error) => Some(json!({ "ok": false, "error": format!("not a question: {error}") })),
    };
    let Some(answer) = answer else { return };
    let text = format!("{answer}\n");
    let _ = tokio::time::timeout(PATIENCE, send(&write, text.as_bytes())).await;
}
