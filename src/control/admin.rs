//! The control socket: one question in a line of JSON, one answer in another. Who may open the
//! socket (mode 0600) may ask.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
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
}

impl Plane {
    /// Answers one question.
    pub(super) async fn answer(&mut self, request: Request, sender: &Sender<Request>) {
        let answer = match request.question {
            Question::Reload { dry_run } => match self.reload(dry_run, sender).await {
                Ok(changes) => json!({ "ok": true, "changes": changes }),
                Err(error) => json!({ "ok": false, "error": error }),
            },
            Question::Status => json!({ "ok": true, "status": self.status() }),
            Question::Hsts { host, reset } => match self.set_hsts(&host, reset).await {
                Ok(site) => json!({ "ok": true, "site": site }),
                Err(error) => json!({ "ok": false, "error": error }),
            },
            Question::Renew { name, force } => {
                let renewed = self.renew_by_acme(name.as_deref(), force);
                renewed.unwrap_or_else(|error| json!({ "ok": false, "error": error }))
            }
            Question::Revoke { name, reason, renew } => {
                self.revoke(&name, (reason, renew), request.answer);
                return;
            }
            Question::Metrics => json!({ "ok": true, "metrics": self.metrics() }),
        };
        // Who asked may have gone.
        let _ = request.answer.send(answer);
    }
}

/// Puts a question to the control plane.
pub(super) async fn ask(sender: &Sender<Request>, question: Question) -> Option<Value> {
    let (answer, when_answered) = oneshot::channel();
    sender.send(Request { question, answer }).await.ok()?;
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
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(QUESTION));
    let asked = tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await;
    if !matches!(asked, Ok(Ok(_))) {
        return;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(question) => ask(&sender, question).await,
        Err(error) => Some(json!({ "ok": false, "error": format!("not a question: {error}") })),
    };
    let Some(answer) = answer else { return };
    let text = format!("{answer}\n");
    let _ = tokio::time::timeout(PATIENCE, write.write_all(text.as_bytes())).await;
}
