//! Accepting: one loop per listener, all on one thread, each connection handed to the worker that
//! has the fewest.

use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketFlags;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet};

use super::admission::{Admission, Permit};
use super::bind::{BoundListener, ListenerKind};
use crate::control::files;
use crate::observe::metrics::WorkerMetrics;
use crate::observe::metrics::{Label as _, Limit};
use crate::observe::rate_limited::RateLimited;
use crate::worker::{Mailbox, Message};

/// How long to wait when the system has no descriptor or no memory left: long enough not to spin,
/// short enough that nobody notices once there is.
const PAUSE: Duration = Duration::from_millis(100);

/// The most that a closing listener's queue is asked for: as much as it can hold.
const WAITING: usize = 4096;

/// How long those may take to arrive who were connecting when a listener began to refuse: the way
/// there and back, for nearly everybody.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// Connections taken in one turn, so that one listener does not keep the others waiting.
const TURN: usize = 64;

/// What a client over the limit is told, on plain HTTP.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
    content-length: 21\r\nretry-after: 5\r\nconnection: close\r\n\r\nToo many connections\n";

/// A client that has connected.
#[derive(Debug)]
pub struct Accepted {
    /// Its socket, non-blocking.
    pub socket: TcpStream,
    /// Who it is, as far as the socket knows.
    pub peer: SocketAddr,
    /// What is spoken.
    pub kind: ListenerKind,
    /// Its right to be here.
    pub permit: Permit,
}

/// The thread that accepts.
#[derive(Debug)]
pub struct Acceptor {
    orders: UnboundedSender<Order>,
}

#[derive(Debug)]
enum Order {
    /// Accept on these and on no others: those whose address stays go on without a gap.
    Listen(Vec<Arc<BoundListener>>, oneshot::Sender<()>),
}

/// What all accept loops share.
struct Door {
    admission: Arc<Admission>,
    workers: Vec<Mailbox>,
    metrics: Arc<WorkerMetrics>,
    refusals: RateLimited,
    shortages: RateLimited,
}

impl Acceptor {
    /// Starts the thread; it accepts nothing until it is told where.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(
        admission: Arc<Admission>,
        workers: Vec<Mailbox>,
        metrics: Arc<WorkerMetrics>,
    ) -> io::Result<Self> {
        let (orders, receiver) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("acceptor".to_owned()).spawn(move || {
            let (refusals, shortages) = (RateLimited::per_second(), RateLimited::per_second());
            let door = Door { admission, workers, metrics, refusals, shortages };
            let door = std::rc::Rc::new(door);
            LocalSet::new().block_on(&runtime, obey(&door, receiver));
        })?;
        Ok(Self { orders })
    }

    /// Accepts on `listeners` only, from when this returns; an empty list closes the door. Those
    /// that leave are closed here, after the last who waited is in, if the caller has let go of
    /// them.
    pub async fn listen(&self, listeners: Vec<Arc<BoundListener>>) {
        let (done, when_done) = oneshot::channel();
        if self.orders.send(Order::Listen(listeners, done)).is_ok() {
            let _ = when_done.await;
        }
    }
}

async fn obey(door: &std::rc::Rc<Door>, mut orders: UnboundedReceiver<Order>) {
    let mut loops: Vec<(Arc<BoundListener>, JoinHandle<()>)> = Vec::new();
    while let Some(Order::Listen(listeners, done)) = orders.recv().await {
        let leaves =
            |listener: &Arc<_>| !listeners.iter().any(|other| Arc::ptr_eq(listener, other));
        let leaving: Vec<_> = loops.extract_if(.., |(listener, _)| leaves(listener)).collect();
        let refuses = |(listener, _): &&(Arc<BoundListener>, _)| listener.refuse_newcomers();
        let refusing: Vec<_> = leaving.iter().filter(refuses).collect();
        if refusing.iter().any(|(listener, _)| !listener.address.ip().is_loopback()) {
            tokio::time::sleep(UNDER_WAY).await;
        }
        for (listener, accepting) in leaving {
            accepting.abort();
            // Its task has a descriptor of its own.
            let _ = accepting.await;
            door.admit_waiting(&listener);
            // Closed where nobody else holds it.
            drop(listener);
        }
        for listener in listeners {
            if loops.iter().any(|(running, _)| Arc::ptr_eq(running, &listener)) {
                continue;
            }
            let accepting = accept(std::rc::Rc::clone(door), Arc::clone(&listener));
            loops.push((listener, tokio::task::spawn_local(accepting)));
        }
        let _ = done.send(());
    }
}

/// Accepts on `listener` for ever: what goes wrong with one connection is no reason to stop, and
/// what goes wrong with the system is waited out.
async fn accept(door: std::rc::Rc<Door>, listener: Arc<BoundListener>) {
    #[expect(deprecated, reason = "its successor is unsafe; the socket stays open as long as this")]
    let socket = listener.socket.try_clone().and_then(AsyncFd::new);
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!("cannot accept on {}: {error}", listener.address);
            return;
        }
    };
    loop {
        let Ok(mut ready) = socket.readable().await else { continue };
        // The limit may have been changed from outside since the start.
        door.admission.carry(files::carries());
        for _ in 0..TURN {
            match take(&listener) {
                Ok(Some((socket, peer))) => door.admit(socket, peer, listener.kind),
                Ok(None) => {}
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(error) if is_of_one_client(error) => {}
                Err(error) => {
                    door.admission.descriptors().note_shortage();
                    if let Some(suppressed) = door.shortages.pass(Instant::now()) {
                        tracing::error!(
                            suppressed,
                            "cannot accept on {}: {error}; trying again until it works{}",
                            listener.address,
                            remedy(error)
                        );
                    }
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Whether the client was gone before we came, or never reached us: its own affair (accept(2)).
/// Anything else would come again at once.
fn is_of_one_client(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNABORTED
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::INTR
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::PERM
            | Errno::PROTO
            | Errno::TIMEDOUT
    )
}

fn remedy(error: Errno) -> &'static str {
    match error {
        Errno::MFILE | Errno::NFILE => " (see LimitNOFILE, or lower limits.connections)",
        _ => "",
    }
}

/// One connection from the kernel's queue; `None` where the kernel does not know its peer.
fn take(listener: &BoundListener) -> Result<Option<(TcpStream, SocketAddr)>, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, peer) = rustix::net::acceptfrom_with(&listener.socket, flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok(peer.map(|peer| (TcpStream::from(socket), peer)))
}

impl Door {
    /// Takes in who has connected to a listener that is about to be closed.
    fn admit_waiting(&self, listener: &BoundListener) {
        for _ in 0..WAITING {
            match take(listener) {
                Ok(Some((socket, peer))) => self.admit(socket, peer, listener.kind),
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }

    fn admit(&self, socket: TcpStream, peer: SocketAddr, kind: ListenerKind) {
        let mut permit = match self.admission.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(limit) => return self.refuse(socket, peer, kind, limit),
        };
        // One that has died has nothing to do, and would be given everything.
        let alive = self.workers.iter().filter(|worker| !worker.sender.is_closed());
        let idlest = alive.min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        let Some(worker) = idlest else { return };
        permit.assign(&worker.load);
        let accepted = Accepted { socket, peer, kind, permit };
        // A worker that stops just now lets the client see a closed connection.
        let _ = worker.sender.send(Message::Connection(accepted));
    }

    fn refuse(&self, mut socket: TcpStream, peer: SocketAddr, kind: ListenerKind, limit: Limit) {
        self.metrics.limits.count(limit);
        if let Some(suppressed) = self.refusals.pass(Instant::now()) {
            let key = limit.text();
            let client = peer.ip().to_canonical();
            tracing::warn!(%client, suppressed, "a connection was refused: over limits.{key}");
        }
        if kind == ListenerKind::Http {
            // Fits into any socket's buffer; who does not take it misses only the reason.
            match socket.write(TOO_MANY) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => {}
                _ => drop(socket.shutdown(std::net::Shutdown::Write)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::config::Listen;

    fn listener() -> BoundListener {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let listen = Listen::Addr(socket.local_addr().unwrap());
        BoundListener::own(ListenerKind::Http, listen, socket).unwrap()
    }

    fn mailbox() -> (Mailbox, UnboundedReceiver<Message>) {
        let (sender, receiver) = unbounded_channel();
        (Mailbox { sender, load: Arc::new(AtomicUsize::new(0)) }, receiver)
    }

    fn door(workers: Vec<Mailbox>, limit: usize) -> Door {
        Door {
            admission: Admission::new(limit, limit),
            workers,
            metrics: Arc::default(),
            refusals: RateLimited::per_second(),
            shortages: RateLimited::per_second(),
        }
    }

    /// Connects, and has the door judge.
    fn knock(door: &Door, listener: &BoundListener) -> TcpStream {
        let client = TcpStream::connect(listener.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        door.admit_waiting(listener);
        client
    }

    fn is_given(mail: &mut UnboundedReceiver<Message>) -> Option<Accepted> {
        match mail.try_recv() {
            Ok(Message::Connection(accepted)) => Some(accepted),
            _ => None,
        }
    }

    #[test]
    fn the_worker_with_the_fewest_gets_the_next() {
        let ((first, mut firsts), (second, mut seconds)) = (mailbox(), mailbox());
        let (door, listener) = (door(vec![first, second], 10), listener());
        let _clients: Vec<_> = (0..3).map(|_| knock(&door, &listener)).collect();
        let (one, _three) = (is_given(&mut firsts).unwrap(), is_given(&mut firsts).unwrap());
        let two = is_given(&mut seconds).unwrap();
        assert_eq!(two.peer.ip(), listener.address.ip());
        drop(one);
        drop(two);
        let _client = knock(&door, &listener);
        assert!(is_given(&mut seconds).is_some(), "it has none any more");
    }

    /// It had no connections at all, and so it was given each that came.
    #[test]
    fn a_worker_that_has_died_is_given_nothing() {
        let ((dead, mail), (alive, mut mails)) = (mailbox(), mailbox());
        drop(mail);
        let (door, listener) = (door(vec![dead, alive], 10), listener());
        let _clients: Vec<_> = (0..3).map(|_| knock(&door, &listener)).collect();
        assert_eq!((0..3).filter_map(|_| is_given(&mut mails)).count(), 3);
    }

    #[test]
    fn who_is_one_too_many_is_told() {
        let (worker, mut mail) = mailbox();
        let (door, listener) = (door(vec![worker], 1), listener());
        let _first = knock(&door, &listener);
        let mut second = knock(&door, &listener);
        let mut heard = String::new();
        second.read_to_string(&mut heard).unwrap();
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nconnection: close"),
            "{head}"
        );
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
        drop(is_given(&mut mail).unwrap());
        let _third = knock(&door, &listener);
        assert!(is_given(&mut mail).is_some(), "there is room again");
    }

    /// Who connected while a stop closed the door was reset, with a request on the way.
    #[test]
    fn who_comes_before_the_door_closes_is_let_in_and_later_ones_are_refused() {
        let (worker, mut mail) = mailbox();
        let (door, listener) = (door(vec![worker], 10), listener());
        let waiting = TcpStream::connect(listener.address).unwrap();
        assert!(listener.refuse_newcomers());
        let refused = TcpStream::connect(listener.address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        door.admit_waiting(&listener);
        drop(listener);
        let mut accepted = is_given(&mut mail).unwrap();
        (&waiting).write_all(b"whole").unwrap();
        accepted.socket.set_nonblocking(false).unwrap();
        let mut heard = [0; 5];
        accepted.socket.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"whole");
    }

    /// systemd, or a successor, would have stopped to serve with it.
    #[test]
    fn a_socket_that_others_have_is_left_open_to_all() {
        let listener = listener();
        listener.is_shared.store(true, Ordering::Relaxed);
        assert!(!listener.refuse_newcomers());
        TcpStream::connect(listener.address).unwrap();
    }

    /// Such a loop spun: every error but those of a shortage was taken for the client's.
    #[test]
    fn an_error_of_the_listener_itself_is_no_clients_affair() {
        let listener = listener();
        assert_eq!(take(&listener).unwrap_err(), Errno::AGAIN);
        socket2::SockRef::from(&listener.socket).shutdown(std::net::Shutdown::Both).unwrap();
        let error = take(&listener).unwrap_err();
        assert!(error != Errno::AGAIN && !is_of_one_client(error), "{error}");
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::BADF] {
            assert!(!is_of_one_client(error), "{error}");
        }
        for error in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO, Errno::PERM] {
            assert!(is_of_one_client(error), "{error}");
        }
    }
}
