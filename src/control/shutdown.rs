//! The end: nothing new begins, what is open may end within `server.grace`.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Plane;
use super::signals::Signals;
use crate::exit;
use crate::worker::Message;

/// How long the log may take to be written once everything has ended.
const LOG: Duration = Duration::from_secs(2);

/// How often to look whether the workers' threads have ended.
const POLL: Duration = Duration::from_millis(2);

impl Plane {
    /// Stops; returns the exit code. Another signal stops at once.
    pub(super) async fn shut_down(mut self, signals: &mut Signals) -> u8 {
        let grace = self.state.config.server.grace;
        tracing::info!("stopping: what is open has {grace:?}");
        let open = self.admission.open();
        self.notifier.stopping(&format!("stopping: {open} connections have {grace:?}"));
        // The acceptor is the last to hold them, and closes them when nobody waits there any more.
        self.listeners.clear();
        self.acceptor.listen(Vec::new()).await;
        let drained = self.tell(Message::Drain);
        tokio::select! {
            () = all(drained) => tracing::info!("stopped: everything had ended"),
            () = tokio::time::sleep(grace) => {
                tracing::warn!("stopped: {} connections had not ended", self.admission.open());
            }
            () = signals.stop() => {
                tracing::warn!("stopped at once: {} connections cut", self.admission.open());
            }
        }
        for (mailbox, _) in &self.workers {
            let _ = mailbox.sender.send(Message::Stop);
        }
        let ended = async {
            while !self.workers.iter().all(|(_, thread)| thread.is_finished()) {
                tokio::time::sleep(POLL).await;
            }
        };
        // A worker that hangs must not keep us.
        let _ = tokio::time::timeout(LOG, ended).await;
        if !self.log.finish(Instant::now() + LOG) {
            tracing::warn!("the access log could not be written to its end");
        }
        exit::OK
    }

    /// Sends every worker a message; what they answer.
    fn tell(&self, message: fn(oneshot::Sender<()>) -> Message) -> Vec<oneshot::Receiver<()>> {
        let tell_one = |sender: &tokio::sync::mpsc::UnboundedSender<Message>| {
            let (done, when_done) = oneshot::channel();
            sender.send(message(done)).is_ok().then_some(when_done)
        };
        self.workers.iter().filter_map(|(mailbox, _)| tell_one(&mailbox.sender)).collect()
    }
}

async fn all(answers: Vec<oneshot::Receiver<()>>) {
    for answer in answers {
        // A worker that is gone has nothing left to end.
        let _ = answer.await;
    }
}
