//! How a server ends, and how it comes back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::stage::Stage;
use crate::harness::load::Load;
use crate::harness::{Body, Client, Origin, Proxy, Response, eventually, tools};

pub fn privilege(stage: &Stage) {
    let proxy = Proxy::to(&stage.origin).start();
    let read = |pid: u32| -> BTreeMap<String, String> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    };
    stage.case("the process", || {
        let status = read(proxy.pid());
        assert!(!status["Uid"].split('\t').any(|uid| uid == "0"), "{}", status["Uid"]);
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status[set], "0".repeat(16), "{set}");
        }
        let bounding = u64::from_str_radix(&status["CapBnd"], 16).unwrap();
        let was_root = rustix::process::geteuid().is_root();
        assert!(!was_root || bounding & !0x400 == 0, "{bounding:x}");
        assert_eq!(status["NoNewPrivs"], "1");
    });
    stage.case("its children", || {
        let children = format!("/proc/{pid}/task/{pid}/children", pid = proxy.pid());
        let children = fs::read_to_string(children).unwrap_or_default();
        for child in children.split_whitespace() {
            let status = read(child.parse().unwrap());
            assert_eq!((&*status["CapEff"], &*status["NoNewPrivs"]), ("0000000000000000", "1"));
            assert!(!status["Uid"].split('\t').any(|uid| uid == "0"), "{}", status["Uid"]);
        }
    });
    stage.case("no program may be given another user's rights", || {
        let mode = fs::metadata(tools::PORTCULLIS).unwrap().mode();
        assert_eq!(mode & 0o6000, 0);
    });
    stage.case("keys that others may read", || {
        let key = proxy.path("certs/app.test.key");
        let text = fs::read_to_string(&key).unwrap();
        crate::harness::setup::write_file(&key, &text, 0o644);
        let output = proxy.reload(&[]);
        assert!(!output.status.success());
        assert!(tools::stderr(&output).contains("app.test.key"), "{}", tools::stderr(&output));
    });
}

/// A request that the app has begun to answer is answered to its end; those that come later find
/// a port that is closed, and none is cut.
pub fn terminated(stage: &Stage) {
    let origin = Origin::start();
    let (release, held) = tokio::sync::watch::channel(false);
    origin.handle("/slow", move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|is_released| *is_released).await.unwrap();
            Response::new(Body::from("whole"))
        }
    });
    origin.route("*", "ok");
    let mut proxy = Proxy::plain_to(&origin).server("grace = '20s'").start();
    let slow: Vec<_> = [proxy.plain_client(), proxy.client(), proxy.client().http2()]
        .into_iter()
        .map(|client| {
            let request = crate::harness::Request::get("/slow").body(()).unwrap();
            let mut connection = client.connect();
            let pending = connection.begin(request);
            (connection, pending)
        })
        .collect();
    eventually("the app to have them", || {
        origin.requests().iter().filter(|request| request.target.ends_with("/slow")).count() == 3
    });
    let load = Load::start(&proxy);
    eventually("some load", || load.answers() > 200);
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    proxy.expect_words("stopping: ");
    release.send_replace(true);
    let status = proxy.wait_for_exit();
    let took = began.elapsed();
    let (answers, failures) = load.stop();
    stage.case("it ends well, in time", || {
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(20), "{took:?}");
        println!("    ended {took:?} after SIGTERM, {answers} requests answered");
    });
    stage.case("what was begun is whole", || {
        for (connection, pending) in slow {
            assert_eq!(pending.answer().text(), "whole");
            drop(connection);
        }
    });
    stage.case("nothing that was sent is lost", || {
        let lost: Vec<_> =
            failures.iter().filter(|failure| !failure.starts_with("connecting: ")).collect();
        assert!(lost.is_empty(), "{} of {answers}: {:?}", lost.len(), lost.first());
    });
}

/// With a control socket, half a certificate and a torn log line left behind.
pub fn killed(stage: &Stage) {
    let origin = Origin::start();
    origin.route("*", "ok");
    let folder = crate::harness::proxy::folder();
    let place = std::net::SocketAddr::from(([127, 0, 0, 1], tools::own_port()));
    let setup = Proxy::plain_to(&origin).server(&format!("http = '{place}'"));
    let setup = setup.first_site(|site| site.key("tls = 'local'"));
    setup.write(folder.path());
    let start = || {
        let mut command = Command::new(tools::PORTCULLIS);
        command.args(["run", "-c", "portcullis.toml"]).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Child(command.spawn().unwrap())
    };
    let client = Client::plain(place, "app.test");
    let mut longest = Duration::ZERO;
    for round in 0..5 {
        let began = Instant::now();
        let mut child = start();
        eventually("it to serve", || {
            assert_eq!(child.0.try_wait().unwrap(), None, "round {round}");
            std::net::TcpStream::connect(place).is_ok()
        });
        assert_eq!(client.get("/").status, 200);
        longest = longest.max(began.elapsed());
        stage.case(&format!("round {round}: the control socket answers"), || {
            let file = folder.path().join("portcullis.toml");
            eventually("an answer", || {
                let status = tools::portcullis(&["status", "-c", file.to_str().unwrap(), "--json"]);
                let told = serde_json::from_slice::<serde_json::Value>(&status.stdout);
                told.is_ok_and(|told| told["pid"] == child.0.id())
            });
        });
        let mut open: Vec<_> = (0..20).map(|_| client.connect()).collect();
        open.iter_mut().for_each(|connection| drop(connection.get("/")));
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        // As if it had been killed in the midst of writing.
        for torn in ["storage/local/.leaf.new", "storage/local/.root.pem.new"] {
            let torn = folder.path().join(torn);
            if torn.parent().unwrap().exists() {
                fs::write(&torn, "-----BEGIN CERT").unwrap();
            }
        }
    }
    println!("    at most {longest:?} from the start after SIGKILL to the first answer");
    stage.case("the log has whole lines", || {
        let log = fs::read_to_string(folder.path().join("access.log")).unwrap();
        assert!(log.lines().all(|line| line.ends_with('"')), "{log}");
    });
}

/// A process that is killed when a test fails.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Too little room is the end of a start or of the process, which a service manager starts again;
/// never a server that is there and does not answer.
pub fn out_of_memory(stage: &Stage) {
    let Some(_) = tools::find("prlimit") else {
        return stage.case("skipped", || {});
    };
    let folder = crate::harness::proxy::folder();
    let place = std::net::SocketAddr::from(([127, 0, 0, 1], tools::own_port()));
    let setup = Proxy::plain_to(&stage.origin).server(&format!("http = '{place}'"));
    setup.write(folder.path());
    let client = Client::plain(place, "app.test");
    for megabytes in [8_u64, 24, 32, 40, 48, 64] {
        stage.case(&format!("{megabytes} MiB"), || {
            let mut command = Command::new("prlimit");
            command.arg(format!("--as={}", megabytes << 20)).arg(tools::PORTCULLIS);
            command.args(["run", "-c", "portcullis.toml"]).current_dir(folder.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = Child(command.spawn().unwrap());
            let mut ended = None;
            eventually("it to serve or to end", || {
                ended = child.0.try_wait().unwrap();
                ended.is_some() || std::net::TcpStream::connect(place).is_ok()
            });
            let mut open = Vec::new();
            while ended.is_none() && open.len() < 300 {
                match client.try_connect() {
                    Ok(mut connection) => {
                        let body = Body::of_size(200_000);
                        let request = crate::harness::Request::post("/").body(body).unwrap();
                        let pending = connection.begin(request);
                        open.push((connection, pending));
                    }
                    Err(_) => break,
                }
            }
            drop(open);
            eventually("an answer or an end", || {
                ended = ended.or_else(|| child.0.try_wait().unwrap());
                ended.is_some() || answers(place)
            });
            assert!(ended.is_none_or(|status| !status.success()), "{ended:?}");
        });
    }
}

fn answers(place: std::net::SocketAddr) -> bool {
    let Ok(stream) = std::net::TcpStream::connect(place) else { return false };
    let mut wire = crate::harness::Wire::over(stream);
    let asked = wire.try_send("GET /p HTTP/1.1\r\nHost: app.test\r\n\r\n");
    asked.is_ok()
        && wire
            .try_read_until("\r\n\r\n", Duration::from_secs(5))
            .is_some_and(|head| head.contains(" 200 "))
}
