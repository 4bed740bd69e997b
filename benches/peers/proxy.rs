//! A proxy that is up, in a directory of its own.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use procfs::process::Process;
use tokio::runtime::Runtime;

use crate::Result;
use crate::client::Client;
use crate::configuration::{self, Site};
use crate::launch::{self, Running};
use crate::peer::Peer;

/// How long a proxy may take to its first 200.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts to get the first 200.
const STEP: Duration = Duration::from_micros(200);

/// Where everything is that a proxy needs.
pub(crate) struct Place<'a> {
    pub(crate) cpu: usize,
    pub(crate) program: &'a Path,
    /// Belongs to this run of this proxy; removed with it.
    pub(crate) directory: PathBuf,
    /// Holds `cert.pem`, `cert.key` and `both.pem`.
    pub(crate) certificate: &'a Path,
    pub(crate) origin: SocketAddr,
}

/// A running proxy; dropping it ends it and removes its directory.
pub(crate) struct Proxy {
    /// Where it terminates TLS.
    pub(crate) address: SocketAddr,
    /// From exec to the first 200.
    pub(crate) started_in: Duration,
    running: Running,
    _directory: Scratch,
}

impl Proxy {
    /// Starts `peer` and waits for its first 200.
    ///
    /// # Errors
    ///
    /// Fails with the proxy's last words when it ends before, and with the client's last error
    /// when it does not come up in time.
    pub(crate) fn start(
        peer: Peer,
        place: &Place<'_>,
        client: &Client,
        runtime: &Runtime,
    ) -> Result<Proxy> {
        let directory = Scratch::new(&place.directory)?;
        let [listen, metrics] = free_addresses()?;
        let site = Site {
            directory: &place.directory,
            listen,
            metrics,
            origin: place.origin,
            certificate: place.certificate,
            root: rustix::process::geteuid().is_root(),
        };
        let arguments = configuration::write(peer, &site)?;
        let stderr = place.directory.join("stderr");
        let mut command = launch::on_cpu(place.cpu, place.program)?;
        command.args(arguments);
        command.env("GOMAXPROCS", "1").env("HOME", &place.directory).current_dir(&place.directory);
        command.stdin(File::open("/dev/null")?).stderr(File::create(&stderr)?);
        command.stdout(File::create(place.directory.join("stdout"))?);
        let running = Running::start(&mut command)?;
        let mut proxy =
            Proxy { address: listen, started_in: Duration::ZERO, running, _directory: directory };
        proxy.started_in = proxy.first_answer(&stderr, client, runtime)?;
        Ok(proxy)
    }

    /// The proxy's processes.
    pub(crate) fn processes(&self) -> Vec<Process> {
        self.running.tree()
    }

    fn first_answer(
        &mut self,
        stderr: &Path,
        client: &Client,
        runtime: &Runtime,
    ) -> Result<Duration> {
        let begun = launch::monotonic();
        loop {
            let answer = runtime.block_on(client.get(self.address));
            let now = launch::monotonic();
            let error = match answer {
                Ok(_) => return Ok(now - launch::executed(stderr).unwrap_or(begun)),
                Err(error) => error,
            };
            if let Some(status) = self.running.child().try_wait()? {
                let words = launch::last_words(stderr).unwrap_or("not a word".to_owned());
                return Err(format!("did not come up ({status}): {words}").into());
            }
            if now - begun > PATIENCE {
                return Err(format!("did not come up in {PATIENCE:?}: {error}").into());
            }
            thread::sleep(STEP);
        }
    }
}

/// A directory that anybody may write to, as some proxies leave root behind, and that goes away.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(path: &Path) -> Result<Scratch> {
        fs::create_dir(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o777))?;
        Ok(Scratch { path: path.to_path_buf() })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Two addresses that nobody listens on at the moment.
fn free_addresses() -> Result<[SocketAddr; 2]> {
    let [one, other] = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    Ok([one?.local_addr()?, other?.local_addr()?])
}
