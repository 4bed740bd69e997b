//! Disks that are full, and pipes that nobody empties: they cost lines, and never a request.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use super::super::stage::Stage;
use crate::harness::proxy::{folder, open_to_proxy};
use crate::harness::{Client, Origin, Proxy, eventually, tools};

/// In a machine of its own, with disks of 200 KiB.
const FULL: &str = r#"
    mkdir /run/log /run/said /run/store
    for disk in log said store; do mount -t tmpfs -o size=200k,mode=777 none /run/$disk; done
    cat >p.toml <<END
[server]
http = '127.0.0.1:80'
https = []
workers = 2
user = 'nobody'
[log]
access = '/run/log/access.log'
[admin]
metrics = '127.0.0.1:9180'
socket = '/run/control.sock'
[[site]]
host = 'localhost'
to = '127.0.0.1:8080'
redirect = 'off'
END
    serve 8080
    fill() { head -c 1M /dev/zero >/run/$1/filler 2>/dev/null; rm -f /run/$1/spare; }
    lost() { curl -s http://127.0.0.1:9180/metrics | sed -n "s/^portcullis_$1_log_lines_lost_total //p"; }
    is_lost() { [ "$(lost $1)" -gt 0 ]; }
    # asks NUMBER: so many requests, each with a long name; those that were not answered
    asks() {
        for n in $(seq "$1"); do
            printf 'url = http://localhost/%s?%s\noutput = /dev/null\n' "$n" "$long"
        done | curl -s -K - -w '%{http_code}\n' --max-time 5 | grep -vc 404
    }
    long=$(printf 'x%.0s' $(seq 1000))
    ./portcullis run -c p.toml 2>>/run/said/said & pid=$!
    until_ok curl -s -o /dev/null http://localhost/
    fill log; fill said
    echo "unanswered while full: $(asks 300)"
    until_ok is_lost access
    echo "lines lost: $(lost access)"
    # Words that cannot be written either.
    for n in $(seq 20); do kill -HUP $pid; sleep 0.05; done
    until_ok is_lost program
    echo "words lost: $(lost program)"
    echo "unanswered while both are: $(asks 100)"
    # A rotation has no room for the new file's first byte, nor for an inode.
    mv /run/log/access.log /run/log/access.log.1
    mount -o remount,nr_inodes=3 /run/log
    kill -USR1 $pid
    echo "unanswered in a rotation: $(asks 100)"
    mount -o remount,nr_inodes=100 /run/log
    rm /run/log/filler /run/said/filler
    again() { curl -s -o /dev/null http://localhost/again; grep -q again /run/log/access.log 2>/dev/null; }
    until_ok again && echo "the log goes on"
    grep -a -c 'log is written again' /run/said/said
    kill -HUP $pid
    until_ok grep -a -q 'lines of the program log were lost' /run/said/said && echo "the words go on"
    grep -a -c '^[^ ]*Z [A-Z]* ' /run/said/said >/dev/null && echo "words are lines"
    grep -a -v -c -E '^127.0.0.1 - - .*"$' /run/log/access.log
    # The folder of the log goes away as a whole, and comes back.
    kill $pid; wait $pid; echo "exit $?"

    # The storage is full at the start: no certificate of ours can be kept, and one serves that
    # nobody vouches for.
    fill store
    sed -i "s/https = .*/https = '127.0.0.1:443'/; s/^\[log\]/[acme]\nstorage = '\/run\/store\/s'\n[log]/" p.toml
    ./portcullis run -c p.toml >store.said 2>&1 & pid=$!
    until_ok curl -sk -o /dev/null https://localhost/ && echo "a full storage: it serves"
    grep -q 'ERROR.*No space left' store.said && echo "and says what is wrong"
    ./portcullis status -c p.toml | grep -q 'No space left'; echo "needs a person: ${PIPESTATUS[*]}"
    kill $pid; wait $pid
    rm /run/store/filler
    ./portcullis run -c p.toml 2>/dev/null & pid=$!
    until_ok curl -sk -o /dev/null https://localhost/ && echo "the storage is whole"
    kill $pid; wait $pid
"#;

pub fn full(stage: &Stage) {
    let Some(said) = tools::alone(FULL) else {
        return stage.case("skipped", || {});
    };
    println!("    {}", said.trim().replace('\n', "\n    "));
    for wanted in [
        "unanswered while full: 0\n",
        "unanswered while both are: 0\n",
        "unanswered in a rotation: 0\n",
        "the log goes on\n",
        "the words go on\n",
        "words are lines\n",
        "exit 0\n",
        "a full storage: it serves\n",
        "and says what is wrong\n",
        "needs a person: 1 0\n",
        "the storage is whole\n",
    ] {
        stage.case(wanted.trim(), || assert!(said.contains(wanted), "{wanted:?} in {said}"));
    }
    stage.case("no step failed", || assert!(!said.contains("no: "), "{said}"));
}

pub fn nobody_reads(stage: &Stage) {
    let origin = Origin::start();
    origin.route("*", "ok");
    stage.case("standard error that nobody reads", || stuck_words(&origin));
    for (name, stops) in [("standard output that is closed", false), ("and one that is full", true)]
    {
        stage.case(name, || stuck_output(&origin, stops));
    }
    stage.case("a pipe without a reader", || pipe(&origin));
    stage.case("a folder that goes away", || removed_folder(&origin));
}

/// A server whose output is a test's to read, or not.
struct Watched {
    child: std::process::Child,
    folder: tempfile::TempDir,
    http: std::net::SocketAddr,
    metrics: std::net::SocketAddr,
    words: BufReader<std::process::ChildStderr>,
}

impl Watched {
    fn start(origin: &Origin, log: &str) -> Self {
        let folder = folder();
        let setup = Proxy::plain_to(origin).log(log).log("level = 'debug'");
        setup.admin("metrics = '127.0.0.1:0'").write(folder.path());
        fs::create_dir(folder.path().join("log")).unwrap();
        open_to_proxy(&folder.path().join("log"), 0o755);
        let mut command = Command::new(tools::PORTCULLIS);
        command.args(["run", "-c", "portcullis.toml"]).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap());
        let (mut http, mut metrics) = (None, None);
        while http.is_none() || metrics.is_none() {
            let mut line = String::new();
            assert_ne!(words.read_line(&mut line).unwrap(), 0, "it ended");
            let address = |mark: &str| {
                let rest = line.split_once(mark)?.1;
                rest.split(['/', '\n', ' ']).next()?.parse().ok()
            };
            http = http.or_else(|| address("listening http://"));
            metrics = metrics.or_else(|| address("metrics on http://"));
        }
        Self { child, folder, http: http.unwrap(), metrics: metrics.unwrap(), words }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn lost(&self, log: &str) -> u64 {
        let page = Client::plain(self.metrics, "localhost").get("/metrics").text();
        let name = format!("\nportcullis_{log}_log_lines_lost_total ");
        page.split(&name).nth(1).unwrap().lines().next().unwrap().parse().unwrap()
    }

    /// Requests, each answered soon, until `enough`.
    #[track_caller]
    fn ask_until(&self, what: &str, enough: impl Fn(&Self) -> bool) {
        let client = Client::plain(self.http, "app.test");
        let deadline = Instant::now() + Duration::from_secs(60);
        let long = format!("/{}", "x".repeat(4000));
        while !enough(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            let mut connection = client.connect();
            for _ in 0..500 {
                let began = Instant::now();
                assert_eq!(connection.get(&long).status, 200);
                assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            }
        }
    }

    #[track_caller]
    fn stop(&mut self) {
        let began = Instant::now();
        self.signal(Signal::TERM);
        eventually("the end", || self.child.try_wait().unwrap().is_some());
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every thread that had something to say waited for whoever had stopped to read.
fn stuck_words(origin: &Origin) {
    let mut server = Watched::start(origin, "access = 'off'");
    fs::write(server.folder.path().join("portcullis.toml"), "htpp = 1\n".repeat(100)).unwrap();
    server.ask_until("words to be lost", |server| {
        for _ in 0..5 {
            server.signal(Signal::HUP);
            std::thread::park_timeout(Duration::from_millis(50));
        }
        server.lost("program") > 0
    });
    let reader = std::mem::replace(&mut server.words, unread());
    let collected = std::thread::spawn(move || {
        let mut text = String::new();
        let mut reader = reader;
        let _ = reader.read_to_string(&mut text);
        text
    });
    server.ask_until("the words to go on", |server| {
        server.signal(Signal::HUP);
        server.lost("program") > 0
    });
    server.stop();
    let words = collected.join().unwrap();
    assert!(words.contains("lines of the program log were lost"), "{words}");
}

/// A reader in the place of one that is read elsewhere.
fn unread() -> BufReader<std::process::ChildStderr> {
    let mut child = Command::new("true").stderr(Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    child.wait().unwrap();
    BufReader::new(stderr)
}

fn stuck_output(origin: &Origin, stops: bool) {
    let mut server = Watched::start(origin, "access = 'stdout'");
    let output = server.child.stdout.take();
    let kept = stops.then_some(output);
    server.ask_until("lines to be lost", |server| server.lost("access") > 0);
    if let Some(Some(mut output)) = kept {
        // The reader comes back, and so do the lines.
        let lost = server.lost("access");
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = output.read_to_end(&mut text);
            text.iter().filter(|byte| **byte == b'\n').count()
        });
        let mut words = String::new();
        while !words.contains("the access log keeps up again") {
            assert_ne!(server.words.read_line(&mut words).unwrap(), 0, "{words}");
        }
        assert!(words.contains("lines are lost until"), "{words}");
        server.stop();
        assert!(reader.join().unwrap() > 0 && lost > 0);
    } else {
        server.stop();
    }
}

fn pipe(origin: &Origin) {
    let mut server = Watched::start(origin, "access = 'access.log'");
    let path = server.folder.path().join("access.log");
    fs::remove_file(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    open_to_proxy(&path, 0o666);
    server.signal(Signal::USR1);
    let mut words = String::new();
    while !words.contains("cannot be reopened") {
        assert_ne!(server.words.read_line(&mut words).unwrap(), 0, "{words}");
    }
    server.ask_until("a few requests", |_| true);
    let reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // Nobody takes anything out of it, and then nobody has it open.
    server.ask_until("lines to be lost", |server| server.lost("access") > 0);
    drop(reader);
    server.ask_until("a few requests", |_| true);
    server.stop();
}

fn removed_folder(origin: &Origin) {
    let mut server = Watched::start(origin, "access = 'log/access.log'");
    let folder = server.folder.path().join("log");
    fs::rename(&folder, server.folder.path().join("moved")).unwrap();
    server.signal(Signal::USR1);
    server.ask_until("a few requests", |_| true);
    assert_eq!(server.lost("access"), 0);
    server.stop();
}
