//! Requests without a pause from several tasks, beside whatever a test does meanwhile.

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinHandle;

use super::{Body, Client, Connection, PATIENCE, Proxy, Request, runtime, wait_within};

/// A load that lasts until it is stopped: in the clear and over TLS, HTTP/1.1 and 2, on
/// connections that are kept and on new ones.
pub struct Load {
    over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Begins to ask for `/` of `app.test`.
    pub fn start(proxy: &Proxy) -> Self {
        let kept = [proxy.plain_client(), proxy.client(), proxy.client().http2()];
        let fresh = [proxy.plain_client(), proxy.client()];
        Self::by(kept.map(|c| (c, true)).into_iter().chain(fresh.map(|c| (c, false))))
    }

    /// The same by these clients, each on a connection that is kept or on new ones.
    pub fn by(clients: impl IntoIterator<Item = (Client, bool)>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for (client, keep) in clients {
            tasks.push(runtime().spawn(hammer(client, keep, over.clone(), answers.clone())));
        }
        Self { over, answers, tasks }
    }

    /// How many requests were answered with 200 so far.
    pub fn answers(&self) -> usize {
        self.answers.load(Ordering::SeqCst)
    }

    /// Ends it: how many requests were answered with 200, and what became of the others.
    #[track_caller]
    pub fn stop(self) -> (usize, Vec<String>) {
        self.over.store(true, Ordering::SeqCst);
        let all = futures_util::future::join_all(self.tasks);
        let failures = wait_within(PATIENCE, "the load to stop", all);
        let failures = failures.into_iter().flat_map(Result::unwrap).collect();
        (self.answers.load(Ordering::SeqCst), failures)
    }
}

async fn hammer(
    client: Client,
    keep: bool,
    over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut failures = Vec::new();
    let mut connection: Option<Connection> = None;
    while !over.load(Ordering::SeqCst) {
        let mut current = match connection.take() {
            Some(connection) => connection,
            None => match client.open().await {
                Ok(connection) => connection,
                Err(error) => {
                    failures.push(format!("connecting: {error}"));
                    tokio::task::yield_now().await;
                    continue;
                }
            },
        };
        let pending = current.begin(Request::get("/").body(Body::empty()).unwrap());
        let mut head = pin!(pending.finish());
        let told = tokio::select! {
            biased;
            head = &mut head => Some(head),
            () = current.ended() => None,
        };
        let (head, kept) = match told {
            Some(head) => (head, Some(current)),
            // A request that is given to the library while the connection ends may stay in between:
            // it is let go with the sender.
            None => {
                drop(current);
                (head.await, None)
            }
        };
        let outcome = match head {
            Ok(streaming) => streaming.collect().await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(answer) if answer.status == 200 => {
                answers.fetch_add(1, Ordering::SeqCst);
                // A connection that the other side is about to close takes no further request.
                let lasts = answer.header("connection").as_deref() != Some("close");
                if let Some(mut kept) = kept.filter(|_| keep && lasts) {
                    connection = kept.takes_more().await.then_some(kept);
                }
            }
            // The library had not sent it yet when the other side ended the connection in good order.
            Err(error) if error.is_canceled() || is_left_out(&error) => {}
            other => failures.push(format!("{other:?}")),
        }
    }
    failures
}

/// Whether the other side said by GOAWAY that it had taken no such stream: the library gives this
/// error to a request that it had not sent by then, or that is behind the last one taken (RFC 9113
/// §6.8). Those that were taken are answered.
fn is_left_out(error: &hyper::Error) -> bool {
    let why = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    why.is_some_and(|why| {
        why.is_go_away() && why.is_remote() && why.reason() == Some(h2::Reason::NO_ERROR)
    })
}
