//! What tests share: a worker in the test's own thread, clients on loopback, and an application.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Publication, Worker};
use crate::config;
use crate::control::state::State;
use crate::downstream::accept::Accepted;
use crate::downstream::admission::Admission;
use crate::downstream::bind::ListenerKind;
use crate::downstream::connection::{Connection, Tls};
use crate::downstream::descriptors::Allowance;
use crate::downstream::stream::Stream;
use crate::downstream::{http2, serve};
use crate::observe::access_log::Buffer;
use crate::observe::registry::Registry;
use crate::tls::Tickets;

/// How long a test waits for what should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A worker that serves `a.test` on plain HTTP from the application at `app`. Each line of `limits`
/// is one of `[limits]`. For use within a `LocalSet`.
pub(crate) fn worker(app: SocketAddr, limits: &str) -> Rc<Worker> {
    worker_for(&[app.to_string()], limits)
}

/// The same for several applications, or others than those that speak HTTP/1.1.
pub(crate) fn worker_for(apps: &[String], limits: &str) -> Rc<Worker> {
    let text = format!(
        "[server]\nhttp = \"127.0.0.1:80\"\nhttps = []\n[limits]\n{limits}\n[log]\naccess = \"off\"\n\
         [[site]]\nhost = \"a.test\"\nredirect = \"off\"\nto = {apps:?}\n"
    );
    let loaded = config::parse(&text, "test.toml", Path::new("/"), &|_| None);
    let config = loaded.unwrap_or_else(|problems| panic!("{problems}")).config;
    let registry = Registry::new(1, SystemTime::now());
    let state = State::prepare(None, config, 443, &registry).unwrap();
    let first = Publication { state: Arc::new(state), log: Buffer::off() };
    let tickets = Tickets::new().unwrap();
    let worker =
        Worker::new(0, first, registry.worker(0).unwrap(), &tickets, None, Arc::default()).unwrap();
    let wheel = Rc::clone(&worker.wheel);
    tokio::task::spawn_local(async move { wheel.run().await });
    worker
}

/// Has `worker` begin nothing new.
pub(crate) fn drain(worker: &Worker) {
    worker.drain();
}

/// The worker's end of one of its connections, if it has any.
pub(crate) fn a_connection(worker: &Worker) -> Option<Rc<Connection>> {
    worker.connections.borrow().iter().next().map(|(_, connection)| Rc::clone(connection))
}

/// A client's end of a connection.
pub(crate) struct Client(TcpStream);

impl Client {
    /// Connects to `worker`.
    pub(crate) async fn of(worker: &Rc<Worker>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (socket, peer) = listener.accept().await.unwrap();
        let permit = Admission::new(10, 10).admit(peer.ip()).unwrap();
        let socket = socket.into_std().unwrap();
        let accepted = Accepted { socket, peer, kind: ListenerKind::Http, permit };
        tokio::task::spawn_local(serve::serve(Rc::clone(worker), accepted));
        Self(client)
    }

    /// Connects to `worker` as if HTTP/2 had been agreed on under TLS for `a.test`.
    pub(crate) async fn of_http2(worker: &Rc<Worker>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (socket, peer) = listener.accept().await.unwrap();
        let tls = Tls {
            good_under: Cell::new(crate::tls::policy::Policy::plain().tag),
            shown: Box::default(),
            presented: crate::tls::presented::Presented::of(&[]),
            version: "TLSv1.3",
            server_name: Some("a.test".into()),
            local: None,
            http2: true,
        };
        let connection =
            Connection::new(worker, Stream::plain(socket), peer, Some(tls), Allowance::default());
        let worker = Rc::clone(worker);
        tokio::task::spawn_local(async move {
            let _registered = worker.register(&connection);
            http2::serve(&connection).await;
        });
        Self(client)
    }

    /// The socket.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.0
    }

    /// Sends this.
    pub(crate) async fn says(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends this if it can; whether it could.
    pub(crate) async fn tries_to_say(&mut self, text: &str) -> bool {
        self.0.write_all(text.as_bytes()).await.is_ok()
    }

    /// What comes until `mark` does, with it.
    pub(crate) async fn hears(&mut self, mark: &str) -> String {
        let mut heard = Vec::new();
        let hearing = async {
            while !heard.ends_with(mark.as_bytes()) {
                heard.push(self.0.read_u8().await.expect("more to come"));
            }
        };
        let waited = timeout(PATIENCE, hearing).await;
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(waited.is_ok(), "no {mark:?} after {heard:?}");
        heard
    }

    /// How many bytes come next.
    pub(crate) async fn hears_some(&mut self) -> usize {
        let mut bytes = vec![0; 64 * 1024];
        let n = timeout(PATIENCE, self.0.read(&mut bytes)).await.expect("more").unwrap();
        assert!(n > 0, "an end");
        n
    }

    /// Says that it will say nothing more.
    pub(crate) async fn finishes(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Leaves with a reset.
    pub(crate) fn resets(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// All that comes until the connection ends.
    pub(crate) async fn hears_out(&mut self) -> String {
        let mut heard = Vec::new();
        let waited = timeout(PATIENCE, self.0.read_to_end(&mut heard)).await;
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(matches!(waited, Ok(Ok(_))), "{waited:?} after {heard:?}");
        heard
    }

    /// Whether it is still open after `time`, with nothing said.
    pub(crate) async fn is_open_after(&mut self, time: Duration) -> bool {
        timeout(time, self.0.read_u8()).await.is_err()
    }
}

/// An application that answers each request's head with `answer`.
pub(crate) async fn app(answer: &'static str) -> SocketAddr {
    app_with(async move |mut stream, _| {
        let mut heard = Vec::new();
        while let Ok(byte) = stream.read_u8().await {
            heard.push(byte);
            if heard.ends_with(b"\r\n\r\n") {
                heard.clear();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await
}

/// An application that does `script` on each connection, the first of which has the number 0.
pub(crate) async fn app_with(script: impl AsyncFn(TcpStream, usize) + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let script = Rc::new(script);
    tokio::task::spawn_local(async move {
        for number in 0.. {
            let stream = listener.accept().await.unwrap().0;
            let script = Rc::clone(&script);
            tokio::task::spawn_local(async move { script(stream, number).await });
        }
    });
    address
}

/// Where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
