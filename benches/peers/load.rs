//! Load generators from Debian, and whether they were content.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::launch::{self, Running};
use crate::origin::MIB;
use crate::peer;
use crate::work::Work;

/// How long a load generator may go on after its time is over.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes every OpenSSL program speak what our own client speaks: wrk has no options for it.
const OPENSSL: &str = "\
openssl_conf = init
[init]
ssl_conf = modules
[modules]
system_default = tls
[tls]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
";

/// Files that load generators read, in the bench's directory.
pub(crate) struct Loads {
    directory: PathBuf,
}

/// A load under way.
pub(crate) struct Load {
    running: Running,
    output: PathBuf,
    work: Work,
}

impl Loads {
    /// Writes the files.
    pub(crate) fn prepare(directory: &Path) -> Result<Loads> {
        fs::write(directory.join("openssl.cnf"), OPENSSL)?;
        fs::write(directory.join("upload"), vec![b'u'; MIB])?;
        Ok(Loads { directory: directory.to_path_buf() })
    }

    /// The program that makes the load of `work`, and the Debian package that has it.
    pub(crate) fn tool(work: Work) -> Option<(&'static str, &'static str)> {
        match work {
            Work::H1 => Some(("wrk", "wrk")),
            Work::H2 | Work::Down1 | Work::Down2 | Work::Up1 => Some(("h2load", "nghttp2-client")),
            Work::Handshake | Work::Flood | Work::Idle | Work::Start => None,
        }
    }

    /// Starts the load of `work` on the proxy at `address` for `seconds`.
    pub(crate) fn start(
        &self,
        work: Work,
        address: SocketAddr,
        cpu: usize,
        seconds: u64,
    ) -> Result<Load> {
        let (tool, package) = Loads::tool(work).ok_or("this work needs no load generator")?;
        let program = peer::installed(tool)
            .ok_or_else(|| format!("{tool} is not installed (Debian: {package})"))?;
        let output = self.directory.join("load");
        let upload = self.directory.join("upload").display().to_string();
        let shape: &[&str] = match work {
            Work::H2 => &["-c", "32", "-m", "10"],
            Work::Down1 => &["-c", "16", "-m", "1", "--h1"],
            Work::Down2 => &["-c", "8", "-m", "2"],
            Work::Up1 => &["-c", "16", "-m", "1", "--h1", "-d", &upload],
            _ => &["-t", "1", "-c", "64"],
        };
        let time = if tool == "wrk" { "-d" } else { "-D" };
        let path = if matches!(work, Work::Down1 | Work::Down2) { "/1m" } else { "/" };
        let mut command = launch::on_cpu(cpu, program)?;
        command.args(shape).arg(time).arg(seconds.to_string());
        command.arg(format!("https://localhost:{}{path}", address.port()));
        command.env("OPENSSL_CONF", self.directory.join("openssl.cnf"));
        let file = File::create(&output)?;
        command.stdin(File::open("/dev/null")?).stdout(file.try_clone()?).stderr(file);
        Ok(Load { running: Running::start(&mut command)?, output, work })
    }
}

impl Load {
    /// Waits for the load to end and reads its report.
    ///
    /// # Errors
    ///
    /// Fails when a single request failed or was not answered with a 2xx: the work of failing is
    /// not the work that is measured.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.running.child().try_wait()?.is_some() {
            return Err("the load ended before the measurement did".into());
        }
        let status = self.running.wait(PATIENCE)?;
        let report = fs::read_to_string(&self.output)?;
        if !status.success() {
            return Err(format!("the load generator ended with {status}: {}", report.trim()).into());
        }
        let complaint = match self.work {
            Work::H1 => complaint_of_wrk(&report),
            Work::H2 | Work::Down2 => complaint_of_h2load(&report, "h2"),
            _ => complaint_of_h2load(&report, "http/1.1"),
        };
        complaint.map_or(Ok(()), |complaint| Err(complaint.into()))
    }
}

/// wrk is silent about errors when there are none.
fn complaint_of_wrk(report: &str) -> Option<String> {
    let bad = |line: &&str| line.starts_with("Socket errors") || line.starts_with("Non-2xx");
    let complaint = report.lines().map(str::trim).find(bad);
    complaint.map(|line| format!("wrk: {line}"))
}

/// h2load tells failures in a line of counts, and what was negotiated in another.
fn complaint_of_h2load(report: &str, protocol: &str) -> Option<String> {
    let line = |start: &str| report.lines().find(|line| line.starts_with(start));
    let spoken = line("Application protocol: ").unwrap_or("no application protocol");
    if !spoken.ends_with(protocol) {
        return Some(format!("h2load: {spoken}, not {protocol}"));
    }
    let counts = line("requests: ").unwrap_or_default();
    let answers = line("status codes: ").unwrap_or("no answers");
    let clean = counts.contains(" 0 failed, 0 errored, 0 timeout")
        && answers.contains(" 0 3xx, 0 4xx, 0 5xx");
    (!clean).then(|| format!("h2load: {counts}; {answers}"))
}
