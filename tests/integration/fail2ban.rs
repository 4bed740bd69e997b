//! The filters for fail2ban, read by its own `fail2ban-regex` on logs of the real program: what
//! counts, against whom, and that nobody can have somebody else banned.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use tokio::process::Command;

use crate::harness::booted::booted;
use crate::harness::tools::{self, stderr, stdout};
use crate::harness::{Body, Origin, Proxy, Request, Response, Wire, eventually};

/// Every filter in every mode, under the letter that the tables below use.
const FILTERS: [(char, &str); 5] = [
    ('a', "portcullis-auth.conf"),
    ('l', "portcullis-auth.conf[mode=login]"),
    ('s', "portcullis-scan.conf"),
    ('e', "portcullis-scan.conf[mode=errors]"),
    ('b', "portcullis-bad-request.conf"),
];

const FORMATS: [&str; 2] = [r#"format = "combined""#, r#"format = "json""#];

/// Method, path, what the application answers, and which filters count that.
const VISITS: &[(&str, &str, u16, &str)] = &[
    ("GET", "/", 200, ""),
    ("GET", "/gone", 404, "e"),
    ("GET", "/private", 403, "e"),
    ("GET", "/private", 401, "a"),
    ("HEAD", "/private?next=/login", 401, "a"),
    ("GET", "/busy", 429, ""),
    ("GET", "/broken", 500, ""),
    // Logins.
    ("POST", "/login", 200, ""),
    ("POST", "/login", 302, ""),
    ("POST", "/login", 401, "al"),
    ("POST", "/login", 403, "ale"),
    ("POST", "/login", 422, "al"),
    ("POST", "/login", 429, "al"),
    ("POST", "/login", 500, ""),
    ("GET", "/login", 403, "e"),
    ("POST", "/users/Sign_In?next=/", 403, "ale"),
    ("POST", "/api/v1/session.json", 403, "ale"),
    ("POST", "/auth/realms/master", 403, "ale"),
    ("POST", "/oauth2/token", 403, "ale"),
    ("POST", "/wp-login.php", 403, "alse"),
    ("POST", "/blog/login-at-last", 403, "e"),
    ("POST", "/comments?from=/login", 403, "e"),
    ("POST", "/catalogin", 403, "e"),
    ("PUT", "/login", 403, "e"),
    // Scans, and what looks like one.
    ("GET", "/.env", 404, "se"),
    ("GET", "/.env", 200, ""),
    ("GET", "/api/.ENV.production", 403, "se"),
    ("GET", "/.git/config", 404, "se"),
    ("GET", "/.gitlab-ci.yml", 404, "e"),
    ("GET", "/.well-known/security.txt", 404, "e"),
    ("GET", "/blog//wp-login.php?x=1", 404, "se"),
    ("GET", "/wp-login.php", 200, ""),
    ("GET", "/wp-admin/", 302, ""),
    ("GET", "/phpMyAdmin/index.php", 404, "se"),
    ("GET", "/pma/", 404, "se"),
    ("GET", "/pmap", 404, "e"),
    ("POST", "/vendor/phpunit/src/Util/PHP/eval-stdin.php", 405, "se"),
    ("POST", "/cgi-bin/luci", 404, "se"),
    ("GET", "/backup.tar.gz", 404, "se"),
    ("GET", "/var/shop.sql.gz", 410, "se"),
    ("GET", "/search?q=/.env", 404, "e"),
    ("OPTIONS", "/.env", 404, "se"),
];

/// Heads that Portcullis itself refuses, and which filters count that.
const REFUSED: &[(&str, &str)] = &[
    ("GET / HTTP/1.1\r\nHost app.test\r\n\r\n", "b"),
    ("\x16\x03\x01\x02\x00 no HTTP at all\r\n\r\n", "b"),
    // What could be read has a method and a path, and is refused for what it says.
    ("GET / HTTP/1.1\r\nHost: app.test\r\nHost: b\r\n\r\n", "e"),
    // For no site of ours: how scanners call, by the address alone.
    ("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", "e"),
    ("GET /.env HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", "se"),
    ("GET /a/%00 HTTP/1.1\r\nHost: app.test\r\n\r\n", "e"),
];

/// An application that answers with the status in the field `answer`.
fn app() -> Origin {
    let origin = Origin::start();
    origin.handle("*", |request| async move {
        let status = request.headers().get("answer").map_or(b"200".as_slice(), |v| v.as_bytes());
        Response::builder().status(status).body(Body::empty()).unwrap()
    });
    origin
}

fn request(method: &str, path: &str, status: u16) -> Request<Body> {
    let method: Method = method.parse().unwrap();
    let request = Request::builder().method(method).uri(path).header("answer", status);
    request.body(Body::empty()).unwrap()
}

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/fail2ban")
}

/// What `fail2ban-regex` answers about a log, without the complaint that nothing counts.
#[track_caller]
fn fail2ban_regex(options: &[&str], log: &Path, filter: &str) -> String {
    let mut command = tools::find("fail2ban-regex").expect("looked for before");
    let filter = config().join("filter.d").join(filter);
    let output = tools::run(command.args(options).arg(log).arg(filter));
    let said = stdout(&output);
    assert!(!said.contains("ERROR") && !stderr(&output).contains("ERROR"), "{}", stderr(&output));
    said
}

/// Who is counted, and when, for each line that counts.
#[track_caller]
fn counted(log: &Path, filter: &str) -> Vec<(IpAddr, f64)> {
    let rows = fail2ban_regex(&["--out", "<ip> <time>"], log, filter);
    let row = |row: &str| {
        let (host, time) = row.split_once(' ')?;
        Some((host.parse().ok()?, time.parse().ok()?))
    };
    rows.lines().map(|line| row(line).unwrap_or_else(|| panic!("{filter}: {rows}"))).collect()
}

/// Who is counted, in the order of addresses: workers write their lines when they get to it.
#[track_caller]
fn hosts(log: &Path, filter: &str) -> Vec<IpAddr> {
    let mut hosts: Vec<_> = counted(log, filter).into_iter().map(|(host, _)| host).collect();
    hosts.sort();
    hosts
}

/// How many lines count and how many do not, in fail2ban's words.
#[track_caller]
fn summary(log: &Path, filter: &str) -> String {
    let said = fail2ban_regex(&[], log, filter);
    let line = said.lines().find(|line| line.starts_with("Lines: "));
    line.unwrap_or_else(|| panic!("{filter}: {said}")).to_owned()
}

/// Waits until the log has this many lines, and where it lies.
#[track_caller]
fn log_of(proxy: &Proxy, lines: usize) -> PathBuf {
    eventually("the lines", || proxy.access_log().len() >= lines);
    assert_eq!(proxy.access_log().len(), lines);
    proxy.path("access.log")
}

/// The address that the visit of this number comes from.
fn visitor(number: usize) -> IpAddr {
    IpAddr::from([127, 0, 1, u8::try_from(number + 1).unwrap()])
}

#[test]
fn each_filter_counts_its_own_lines_and_no_other() {
    if tools::find("fail2ban-regex").is_none() {
        return;
    }
    let origin = app();
    for format in FORMATS {
        let proxy = Proxy::plain_to(&origin).log(format).start();
        let mut expected: Vec<&str> = Vec::new();
        for (method, path, status, filters) in VISITS {
            let from = visitor(expected.len()).to_string();
            let answer = proxy.plain_client().from(&from).send(request(method, path, *status));
            assert_eq!(answer.status, *status, "{method} {path}");
            expected.push(filters);
        }
        for (head, filters) in REFUSED {
            let mut wire = Wire::connect_from(visitor(expected.len()), proxy.http());
            wire.send(head);
            wire.read_answer();
            expected.push(filters);
        }
        let log = log_of(&proxy, expected.len());
        for (letter, filter) in FILTERS {
            let of_filter = |(_, filters): &(usize, &&str)| filters.contains(letter);
            let wanted: Vec<_> =
                expected.iter().enumerate().filter(of_filter).map(|(n, _)| visitor(n)).collect();
            assert_eq!(hosts(&log, filter), wanted, "{filter}, {format}");
            let (all, matched) = (expected.len(), wanted.len());
            let missed = all - matched;
            let words =
                format!("Lines: {all} lines, 0 ignored, {matched} matched, {missed} missed");
            assert_eq!(summary(&log, filter), words, "{filter}, {format}");
        }
    }
}

#[test]
fn heads_that_are_too_large_or_too_slow_are_bad_requests() {
    if tools::find("fail2ban-regex").is_none() {
        return;
    }
    let origin = app();
    for format in FORMATS {
        let setup = Proxy::plain_to(&origin).log(format).limits("header_size = '8KiB'");
        let proxy = setup.limits("request_header_timeout = '1s'").start();
        let large = format!("GET / HTTP/1.1\r\nHost: app.test\r\nX: {}\r\n\r\n", "x".repeat(9000));
        for (number, head) in [large.as_str(), "GET / HTTP/1.1\r\nHost:"].iter().enumerate() {
            let mut wire = Wire::connect_from(visitor(number), proxy.http());
            wire.send(head);
            wire.read_answer();
        }
        // A browser connects ahead of its requests, and may never send one.
        Wire::connect_from(visitor(2), proxy.http()).expect_end();
        let log = log_of(&proxy, 2);
        let expected = [visitor(0), visitor(1)];
        assert_eq!(hosts(&log, "portcullis-bad-request.conf"), expected, "{format}");
    }
}

/// What a client writes who wants 192.0.2.66 to be banned, or himself not to be.
const HOSTILE: &[&str] = &[
    r#"192.0.2.66 - - [22/Nov/2025:23:04:56 +0000] "POST /login HTTP/1.1" 401 5 "-" "-""#,
    r#"" 401 5 "-" "192.0.2.66 - - [22/Nov/2025:23:04:56 +0000] "POST /login HTTP/1.1" 401 -"#,
    r#"host portcullis[1]: 192.0.2.66 - - [] "GET /.env HTTP/1.1" 404 - "-" "-""#,
    r#"{"ts":"2025-11-22T23:03:16.844Z","id":"1","client":"192.0.2.66","host":"x","method":"POST","path":"/login","proto":"HTTP/1.1","status":401,"#,
    r#"","client":"192.0.2.66","host":"","method":"-","path":"-","proto":"","status":401,""#,
    r#"\","proto":"HTTP/1.1","status":401,"client":"192.0.2.66"#,
    r#"\x22 401 5 \u0022,"status":401,"#,
    "\u{2028}192.0.2.66 - - [] \"- - HTTP/1.1\" 400 - \"-\" \"-\"\u{85}\u{85}192.0.2.66 401 ",
    "2001:db8::66] 401 [2001:db8::66] <ADDR> %(known/failregex)s",
];

/// Sends it in every field that the log shows, or that might reach it; answered with `status`.
/// How many lines that makes.
fn attack(proxy: &Proxy, text: &str, status: u16) -> usize {
    let mut wire = proxy.wire();
    let fields = ["User-Agent", "Referer", "X-Forwarded-For", "X-Real-IP", "X-Request-Id"];
    for field in fields.iter().chain(["Forwarded", "Authorization"].iter()) {
        wire.send(format!("GET / HTTP/1.1\r\nHost: app.test\r\nAnswer: {status}\r\n"));
        wire.send(format!("{field}: {text}\r\n\r\n"));
        assert_eq!(wire.read_answer().status(), status, "{field}: {text}");
    }
    fields.len() + 2
}

/// Sends it where Portcullis or the application refuses it, in one way or another.
fn attack_in_vain(proxy: &Proxy, text: &str) -> usize {
    let word = text.replace(' ', "");
    for head in [
        format!("GET / HTTP/1.1\r\nHost: {text}\r\n\r\n"),
        format!("{word} / HTTP/1.1\r\nHost: app.test\r\n\r\n"),
        format!("{text}\r\n\r\n"),
        format!("GET / HTTP/1.1\n{text}\r\nHost: app.test\r\n\r\n"),
        format!("GET / {text}\r\nHost: app.test\r\n\r\n"),
        format!("GET /?{word} HTTP/1.1\r\nHost: app.test\r\nAnswer: 404\r\n\r\n"),
        format!("POST /{word} HTTP/1.1\r\nHost: app.test\r\nAnswer: 401\r\n\r\n"),
    ] {
        let mut wire = proxy.wire();
        wire.send(&head);
        assert!(wire.read_answer().status() >= 400, "{head}");
    }
    7
}

#[test]
fn nobody_can_have_somebody_else_banned() {
    if tools::find("fail2ban-regex").is_none() {
        return;
    }
    let origin = app();
    for format in FORMATS {
        let proxy = Proxy::plain_to(&origin).log(format).start();
        let welcome: usize = HOSTILE.iter().map(|text| attack(&proxy, text, 200)).sum();
        let log = log_of(&proxy, welcome);
        for (_, filter) in FILTERS {
            assert!(hosts(&log, filter).is_empty(), "{filter}, {format}");
        }
        let denied: usize = HOSTILE.iter().map(|text| attack(&proxy, text, 401)).sum();
        let log = log_of(&proxy, welcome + denied);
        let attacker = IpAddr::from([127, 0, 0, 1]);
        // Who denies that he was refused is counted all the same.
        assert_eq!(hosts(&log, FILTERS[0].1), vec![attacker; denied], "{format}");
        let refused: usize = HOSTILE.iter().map(|text| attack_in_vain(&proxy, text)).sum();
        let log = log_of(&proxy, welcome + denied + refused);
        for (_, filter) in FILTERS {
            let hosts = hosts(&log, filter);
            assert!(hosts.iter().all(|host| *host == attacker), "{filter}, {format}: {hosts:?}");
        }
    }
}

/// Behind a CDN the log has the real client, so that the CDN is not banned for it; of a head that
/// could not be read nobody but the CDN is known, which is why it belongs into `ignoreip`.
#[test]
fn behind_a_trusted_proxy_its_clients_count() {
    if tools::find("fail2ban-regex").is_none() {
        return;
    }
    let origin = app();
    for format in FORMATS {
        let setup = Proxy::plain_to(&origin).log(format);
        let proxy = setup.server("trusted_proxies = ['127.0.0.1']").start();
        let clients = ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.8", "2001:db8:0:0:1:0:0:1"];
        for client in clients {
            let mut request = request("POST", "/login", 401);
            request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
            proxy.plain_client().send(request);
        }
        let log = log_of(&proxy, clients.len());
        let parse = |text: &&str| text.parse::<IpAddr>().unwrap().to_canonical();
        let mut expected: Vec<_> = clients.iter().map(parse).collect();
        expected.sort();
        assert_eq!(hosts(&log, "portcullis-auth.conf"), expected, "{format}");

        let mut wire = proxy.wire();
        wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 192.0.2.7\r\nbad\r\n\r\n");
        wire.read_answer();
        let log = log_of(&proxy, clients.len() + 1);
        let cdn = [IpAddr::from([127, 0, 0, 1])];
        assert_eq!(hosts(&log, "portcullis-bad-request.conf"), cdn, "{format}");
    }
}

/// Whatever the clock on the wall shows: an hour too late and nobody is banned, too early and it
/// lasts for ever.
#[test]
fn times_are_understood_in_every_zone() {
    if tools::find("fail2ban-regex").is_none() {
        return;
    }
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let origin = app();
    for (zone, offset) in [("UTC0", " +0000]"), ("IST-5:30", " +0530]"), ("XST9:30", " -0930]")] {
        for format in FORMATS {
            let setup = Proxy::plain_to(&origin).log(format).environment("TZ", zone);
            let proxy = setup.start();
            let before = now();
            // No date that a client writes is taken for the time.
            let path = "/login?22/Nov/2001:23:04:56+0000&2001-11-22T23:03:16.844Z";
            proxy.plain_client().send(request("POST", path, 401));
            let log = log_of(&proxy, 1);
            assert!(format.contains("json") || proxy.access_log()[0].contains(offset));
            let counted = counted(&log, "portcullis-auth.conf");
            let (_, time) = counted[0];
            assert!(time > before - 2.0 && time < now() + 1.0, "{zone}, {format}: {time}");
        }
    }
}

/// What an operator does: puts the files into /etc/fail2ban and has fail2ban read them.
#[test]
fn fail2ban_accepts_the_jails() {
    let Some(mut client) = tools::find("fail2ban-client") else { return };
    let folder = tempfile::tempdir().unwrap();
    let etc = folder.path().join("fail2ban");
    for from in [Path::new("/etc/fail2ban").to_owned(), config()] {
        let mut copy = Command::new("cp");
        let copied = tools::run(copy.arg("-rT").arg(from).arg(&etc));
        assert!(copied.status.success(), "{}", stderr(&copied));
    }
    let log = folder.path().join("access.log");
    fs::write(&log, "").unwrap();
    let jails = etc.join("jail.d/portcullis.conf");
    let text = fs::read_to_string(&jails).unwrap();
    assert_eq!(text.matches("= /var/log/portcullis/access.log\n").count(), 4);
    let here = text.replace("/var/log/portcullis/access.log", log.to_str().unwrap());
    fs::write(&jails, here).unwrap();
    fs::write(etc.join("jail.d/zz.local"), "[sshd]\nenabled = false\n").unwrap();
    let output = tools::run(client.arg("-c").arg(&etc).arg("-d"));
    let said = stdout(&output);
    assert!(output.status.success(), "{said}{}", stderr(&output));
    for jail in ["auth", "scan", "errors", "bad-request"] {
        assert!(said.contains(&format!("['start', 'portcullis-{jail}']")), "{said}");
    }
    // Not one jail is without its regular expressions, its log, and a rule for the two ports.
    assert_eq!(said.matches("'addfailregex', ['^(").count(), 4, "{said}");
    assert_eq!(said.matches("'addlogpath'").count(), 4, "{said}");
    assert_eq!(said.matches("'addaction', 'nftables-multiport'").count(), 4, "{said}");
    assert!(said.contains("dport \\\\{ $(echo '80,443' "), "{said}");
}

/// With `access = "stdout"` under systemd, between the words of the program itself.
#[test]
fn the_journal_is_read_too() {
    if tools::find("fail2ban-regex").is_none() || tools::python_with("systemd.journal").is_none() {
        return;
    }
    let config = config();
    // The machine sees this host's root file system and no other: the files go with the script.
    let mut files = String::new();
    for entry in fs::read_dir(config.join("filter.d")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        files += &format!("cat >/etc/fail2ban/filter.d/{name} <<'END'\n{text}\nEND\n");
    }
    for format in FORMATS {
        let Some(said) = booted(&format!(
            r#"{files}
            export PATH=/usr/sbin:/usr/bin:/sbin:/bin
            /srv/test/portcullis install >/dev/null
            systemd-sysusers /etc/sysusers.d/portcullis.conf
            systemd-tmpfiles --create /etc/tmpfiles.d/portcullis.conf
            printf '[log]\naccess = "stdout"\n{format}\n[[site]]\nhost = "localhost"\nto = "8080"\nredirect = "off"\n' \
                >/etc/portcullis/portcullis.toml
            systemctl daemon-reload
            serve 8080 2>/dev/null
            systemctl start portcullis.service
            for path in / /.env /.git/HEAD; do curl -s -m 20 -o /dev/null http://localhost$path; done
            printf 'nonsense\r\n\r\n' | timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/80; cat >&3; cat <&3' >/dev/null
            written() {{ journalctl -o cat -u portcullis.service | grep -c 'HTTP/1.1' | grep -qx 4; }}
            until_ok written
            for filter in auth scan scan[mode=errors] bad-request; do
                echo "--- $filter"
                fail2ban-regex -o '<ip>' systemd-journal portcullis-$filter
            done
            echo '--- end'; journalctl -o short -u portcullis.service
            "#
        )) else {
            return;
        };
        let me = "127.0.0.1\n";
        for (filter, times) in
            [("auth", 0), ("scan", 2), ("scan[mode=errors]", 2), ("bad-request", 1)]
        {
            let part = format!("--- {filter}\n{}---", me.repeat(times));
            assert!(said.contains(&part), "{part:?} in {said}");
        }
    }
}
