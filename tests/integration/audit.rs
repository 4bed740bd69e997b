//! `portcullis audit`: verdicts, baseline, forms of the report, and the plan, in networks of their
//! own.

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;

use crate::harness::tools::{self, alone, find, python_with, skip, stderr, stdout};

/// `listen HOST PORT [KIND]`: a socket there that says nothing; `web HOST PORT`: one that answers
/// 200 to everything; `host`: addresses as a server of the internet has them, and no packet leaves.
const PROLOGUE: &str = r#"
trap 'kill $(jobs -p) 2>/dev/null' EXIT
cat >listen.py <<'END'
import socket, sys, time
host, port, kind = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or ["tcp"])[0]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((host, port))
if kind == "tcp": s.listen()
open(f"ready-{port}-{kind}", "w").close()
time.sleep(100)
END
python=/usr/bin/python3
listen() { ${RUN:-} $python listen.py "$@" & until_ok test -e "ready-$2-${3:-tcp}"; }
web() {
    $python -m http.server "$2" --bind "$1" >/dev/null 2>&1 &
    until_ok bash -c "exec 3<>/dev/tcp/127.0.0.1/$2" 2>/dev/null
}
audit() { portcullis audit -c /nowhere.toml "$@"; }
"#;

#[track_caller]
fn scene(script: &str) -> Option<String> {
    if !Path::new("/usr/bin/python3").exists() {
        skip("there is no /usr/bin/python3");
        return None;
    }
    alone(&format!("{PROLOGUE}\n{script}"))
}

/// The JSON object in what a script said.
#[track_caller]
fn report(said: &str) -> Value {
    let (start, end) = (said.find("\n{\n").or(said.find("{\n")), said.rfind("\n}\n"));
    let (Some(start), Some(end)) = (start, end) else { panic!("no report in {said}") };
    serde_json::from_str(&said[start..end + 3]).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// The severity of a rule's finding on a port.
fn severity<'r>(report: &'r Value, rule: &str, port: u16) -> Option<&'r str> {
    let mut findings = report["findings"].as_array().unwrap().iter();
    let found = findings.find(|finding| finding["rule"] == rule && finding["port"] == port)?;
    found["severity"].as_str()
}

#[track_caller]
fn holder(report: &Value, port: u16) -> &Value {
    let mut listeners = report["listeners"].as_array().unwrap().iter();
    let found = listeners.find(|listener| listener["port"] == port);
    &found.unwrap_or_else(|| panic!("nothing on {port}: {report:#}"))["holder"]
}

#[test]
fn what_strangers_should_not_reach_is_found() {
    let script = "listen 0.0.0.0 23; listen 0.0.0.0 6379; listen 0.0.0.0 161 udp\n\
         listen 127.0.0.1 5432; listen :: 27017; web 0.0.0.0 80; web 0.0.0.0 3000\n\
         audit --json; echo exit $?; audit --fail-on critical >/dev/null; echo exit $?";
    let Some(said) = scene(script) else { return };
    let found = report(&said);
    assert_eq!(severity(&found, "clear-text", 23), Some("high"), "{said}");
    assert_eq!(severity(&found, "clear-text", 161), Some("high"), "{said}");
    assert_eq!(severity(&found, "exposed-service", 6379), Some("high"), "{said}");
    assert_eq!(severity(&found, "exposed-service", 27017), Some("high"), "{said}");
    assert_eq!(severity(&found, "exposed-service", 5432), None, "{said}");
    assert_eq!(severity(&found, "plain-http", 80), Some("medium"), "{said}");
    assert_eq!(severity(&found, "plain-application", 3000), Some("medium"), "{said}");
    assert_eq!(severity(&found, "runs-as-root", 3000), Some("medium"), "{said}");
    assert_eq!(severity(&found, "unexpected-program", 80), Some("low"), "{said}");
    assert!(said.contains("exit 1\nexit 0\n"), "{said}");
}

#[test]
fn a_service_that_asks_for_no_password_is_critical() {
    let script = "cat >open.py <<'END'\n\
         import socketserver\n\
         class Redis(socketserver.BaseRequestHandler):\n\
         \x20   def handle(self):\n\
         \x20       if b'PING' in self.request.recv(99): self.request.sendall(b'+PONG\\r\\n*0\\r\\n')\n\
         socketserver.TCPServer(('0.0.0.0', 6379), Redis).serve_forever()\n\
         END\n\
         $python open.py & until_ok bash -c 'exec 3<>/dev/tcp/127.0.0.1/6379' 2>/dev/null\n\
         audit --json; echo exit $?";
    let Some(said) = scene(script) else { return };
    assert_eq!(severity(&report(&said), "exposed-service", 6379), Some("critical"), "{said}");
    assert!(said.contains("exit 1"), "{said}");
}

#[test]
fn an_application_beside_the_proxy_is_found_and_the_proxy_is_right() {
    let script = "web 0.0.0.0 8080; web 127.0.0.1 8081\n\
         cat >p.toml <<'END'\n\
         [acme]\nstorage = \"s\"\n[admin]\nsocket = \"c\"\n\
         [[site]]\nhost = \"app.internal\"\nto = [\"127.0.0.1:8080\", \"127.0.0.1:8081\"]\n\
         END\n\
         portcullis run -c p.toml >log 2>&1 &\n\
         until_ok bash -c 'exec 3<>/dev/tcp/127.0.0.1/443' 2>/dev/null\n\
         portcullis audit -c p.toml --json; cat log >&2";
    let Some(said) = scene(script) else { return };
    let found = report(&said);
    assert_eq!(severity(&found, "round-the-proxy", 8080), Some("high"), "{said}");
    assert_eq!(severity(&found, "round-the-proxy", 8081), None, "{said}");
    assert_eq!(severity(&found, "plain-http", 80), None, "{said}");
    assert_eq!(severity(&found, "unexpected-program", 443), None, "{said}");
    assert_eq!(severity(&found, "tls-version", 443), None, "{said}");
    assert_eq!(severity(&found, "certificate-name", 443), None, "{said}");
    assert_eq!(severity(&found, "certificate-expiry", 443), Some("info"), "{said}");
}

#[test]
fn an_open_connection_shows_whom_a_proxy_fronts() {
    let script = "listen 0.0.0.0 7070\n\
         cat >proxy.py <<'END'\n\
         import socket, time\n\
         out = socket.create_connection(('127.0.0.1', 7070))\n\
         s = socket.create_server(('0.0.0.0', 443)); open('up', 'w').close(); time.sleep(100)\n\
         END\n\
         $python proxy.py & until_ok test -e up; audit --json";
    let Some(said) = scene(script) else { return };
    assert_eq!(severity(&report(&said), "round-the-proxy", 7070), Some("high"), "{said}");
}

#[test]
fn a_program_that_is_gone_and_rights_beyond_need_are_found() {
    if find("setcap").is_none() || find("setpriv").is_none() {
        return;
    }
    let script = "chmod 755 .; mkdir /run/opt; cp -L $python /run/opt/gone; cp -L $python capped\n\
         cp -L $python /run/opt/old; setcap cap_net_bind_service,cap_sys_ptrace=ep capped\n\
         python=/run/opt/gone listen 0.0.0.0 7000; rm /run/opt/gone\n\
         python=/run/opt/old listen 0.0.0.0 7001; cp -L $python new; mv new /run/opt/old\n\
         chmod 1777 .; RUN='setpriv --reuid 65534 --regid 65534 --clear-groups'\n\
         python=./capped listen 0.0.0.0 81\n\
         audit --json";
    let Some(said) = scene(script) else { return };
    let found = report(&said);
    assert_eq!(severity(&found, "replaced-program", 7000), Some("medium"), "{said}");
    assert_eq!(severity(&found, "replaced-program", 7001), Some("medium"), "{said}");
    assert_eq!(severity(&found, "capabilities", 81), Some("high"), "{said}");
    assert_eq!(severity(&found, "runs-as-root", 81), None, "{said}");
}

#[test]
fn a_baseline_shows_what_is_new_gone_and_changed() {
    let script = "listen 0.0.0.0 7000; listen 0.0.0.0 7001; gone=$!; listen 127.0.0.1 7002; in=$!\n\
         audit --save b.json >/dev/null; stat -c 'mode %a' b.json\n\
         audit --baseline b.json --fail-on high | tail -n 2; echo same ${PIPESTATUS[0]}\n\
         kill $gone $in; wait $gone $in; rm ready-*; listen 0.0.0.0 7002; listen 0.0.0.0 7003\n\
         audit --baseline b.json --json; echo changed $?\n\
         audit --baseline b.json --markdown; audit --baseline b.json";
    let Some(said) = scene(script) else { return };
    let found = report(&said);
    assert!(said.contains("mode 600\n"), "{said}");
    assert!(said.contains("Nothing is different from the baseline.\nsame 0\n"), "{said}");
    let ports = |list: &str| -> Vec<u64> {
        let list = found["baseline"][list].as_array().unwrap();
        list.iter().map(|entry| entry["port"].as_u64().unwrap()).collect()
    };
    assert_eq!(ports("new"), [7003], "{said}");
    assert_eq!(ports("gone"), [7001], "{said}");
    assert_eq!(ports("changed"), [7002], "{said}");
    assert_eq!(severity(&found, "not-in-baseline", 7003), Some("high"), "{said}");
    assert_eq!(severity(&found, "not-in-baseline", 7002), Some("high"), "{said}");
    assert_eq!(severity(&found, "not-in-baseline", 7000), None, "{said}");
    assert!(said.contains("\nchanged 1\n") && said.contains("- new: 7003/tcp"), "{said}");
    assert!(said.contains("  gone     7001/tcp"), "{said}");
}

#[test]
fn json_keeps_to_its_schema_whatever_processes_call_themselves() {
    let Some(mut python) = python_with("jsonschema") else { return };
    let script = "cp -L $python $'\\e[31m\"<b>|`$(x)'; cp -L $python $'\\xff\\xfe'\n\
         python=./$'\\e[31m\"<b>|`$(x)' listen 0.0.0.0 7000\n\
         python=./$'\\xff\\xfe' listen 0.0.0.0 7001\n\
         listen 0.0.0.0 23; audit --save b.json >text; audit --html >page; audit --markdown >md\n\
         LC_ALL=C grep -lP '[\\x00-\\x08\\x0b-\\x1f]' text page md\n\
         audit --baseline b.json --json";
    let Some(said) = scene(script) else { return };
    let found = report(&said);
    assert!(said.starts_with('{'), "something controls a terminal: {said}");
    assert!(holder(&found, 7000)["comm"].is_string(), "{said}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("report.json"), found.to_string()).unwrap();
    std::fs::write(folder.path().join("schema.json"), stdout(&tools::portcullis(&SCHEMA))).unwrap();
    let check = "import json, jsonschema\n\
         load = lambda name: json.load(open(name))\n\
         schema = load('schema.json')\n\
         jsonschema.Draft202012Validator.check_schema(schema)\n\
         jsonschema.validate(load('report.json'), schema)\n";
    let output = tools::run(python.args(["-c", check]).current_dir(folder.path()));
    assert!(output.status.success(), "{}", stderr(&output));
}

const SCHEMA: [&str; 2] = ["audit", "--schema"];

#[test]
fn wrong_usage_is_told_apart_from_findings() {
    for arguments in [
        ["audit", "--fail-on", "dangerous"],
        ["audit", "--json", "--html"],
        ["audit", "--baseline", "/no/such/file"],
        ["audit", "--baseline", "/dev/null"],
    ] {
        let output = tools::portcullis(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
    let output = tools::portcullis(&["audit", "--baseline", "/no/such/file"]);
    assert!(stderr(&output).contains("audit --save /no/such/file"), "{}", stderr(&output));
}

#[test]
fn anybody_may_look_and_is_told_what_was_not_seen() {
    if find("setpriv").is_none() {
        return;
    }
    let script = "listen 0.0.0.0 23; chmod 755 .; cp -L portcullis /run/p; chmod 755 /run/p\n\
         setpriv --reuid 65534 --regid 65534 --clear-groups /run/p audit; echo exit $?";
    let Some(said) = scene(script) else { return };
    assert!(said.contains("23/tcp") && said.contains("not as root"), "{said}");
    assert!(said.contains("\nNot seen:\n") && said.contains("sudo portcullis audit"), "{said}");
    assert!(said.contains("Telnet is open to every network"), "{said}");
    assert!(said.contains("exit 1"), "{said}");
}

#[test]
fn no_packet_leaves_the_host() {
    if find("nft").is_none() {
        return;
    }
    let script = "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6\n\
         ip link add out type veth peer name other && ip link set other up && ip link set out up\n\
         ip addr add 198.51.100.7/24 dev out; ip route add default via 198.51.100.1\n\
         nft 'add table inet t; add chain inet t c { type filter hook output priority 0; }; \
         add rule inet t c oifname != \"lo\" counter'\n\
         web 0.0.0.0 80; listen 198.51.100.7 443; listen 198.51.100.7 8443; listen 0.0.0.0 9200\n\
         audit | head -n 8; nft list chain inet t c";
    let Some(said) = scene(script) else { return };
    assert!(said.contains("198.51.100.7"), "{said}");
    assert!(said.contains("counter packets 0 bytes 0"), "{said}");
}

#[test]
fn the_page_renders_in_a_browser_on_a_phone() {
    let Some(browser) = find("chromium") else { return };
    let script = "listen 0.0.0.0 23; RUN='exec -a <img/src=x>' listen 0.0.0.0 6379; audit --html";
    let Some(page) = scene(script) else { return };
    let folder = tempfile::tempdir().unwrap();
    // The browser writes down how wide the page is, and what it would have to scroll.
    let measure = "<script>document.title = document.documentElement.scrollWidth + ' of ' + \
         innerWidth + ', ' + document.images.length + ' images, ' + \
         document.querySelectorAll('article').length + ' findings, ' + \
         getComputedStyle(document.querySelector('tr td')).display</script></body>";
    let open = page.replace("default-src 'none'", "script-src 'unsafe-inline'");
    let file = folder.path().join("page.html");
    std::fs::write(&file, open.replace("</body>", measure)).unwrap();
    let shown = |width: u32| {
        let mut command = Command::new(browser.as_std().get_program());
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command.arg(format!("--window-size={width},800")).arg(&file);
        let output = tools::run(&mut command);
        let dom = stdout(&output);
        let title = dom.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next());
        title.unwrap_or_else(|| panic!("{}\n{dom}", stderr(&output))).to_owned()
    };
    for (width, display) in [(500, "flex"), (1400, "table-cell")] {
        let title = shown(width);
        let (needs, rest) = title.split_once(" of ").unwrap_or_else(|| panic!("{title}"));
        let (has, rest) = rest.split_once(", ").unwrap();
        let number = |text: &str| text.parse::<u32>().unwrap();
        assert!(number(needs) <= number(has), "scrolls sideways at {width}: {title}");
        assert!(rest.starts_with("0 images") && rest.ends_with(display), "{title}");
    }
}

/// A host with a second one beside it: its plan is run twice.
const PLAN: &str = r#"
mkdir /run/etc && cp -a /etc/. /run/etc/ && mount --bind /run/etc /etc
mount -t tmpfs none /var/backups; rm -rf /etc/portcullis /etc/nftables.d
ip netns add other 2>/dev/null || { mkdir -p /run/netns; ip netns add other; }
ip link add out type veth peer name in netns other
ip addr add 198.51.100.7/24 dev out; ip link set out up
ip -n other addr add 198.51.100.8/24 dev in; ip -n other link set in up
listen 0.0.0.0 22; listen 0.0.0.0 23; listen 0.0.0.0 6379; web 0.0.0.0 3000; web 127.0.0.1 5000
reach() {
    ip netns exec other timeout 1 bash -c "exec 3<>/dev/tcp/198.51.100.7/$1" 2>/dev/null &&
        echo "$1 open" || echo "$1 closed"
}
audit --plan >plan.sh; echo "plan $?"
{ shellcheck plan.sh && echo 'shellcheck fine'; } || cat plan.sh
reach 22; reach 6379; [ -e /etc/portcullis ] || echo 'nothing was changed yet'
sh plan.sh; echo "first $?"; cp -a /etc/portcullis/portcullis.toml one.toml
sh plan.sh; echo "second $?"; cmp one.toml /etc/portcullis/portcullis.toml && echo 'the same'
for port in 22 23 6379; do reach $port; done
nft list ruleset | grep -c 'hook prerouting'
exec 3<>/dev/tcp/127.0.0.1/6379 && echo 'open from here'
cat /etc/portcullis/portcullis.toml; portcullis check -c /etc/portcullis/portcullis.toml
audit --json >after.json; grep -c closed after.json
echo mine >/etc/portcullis/portcullis.toml; sh plan.sh >/dev/null; cat /etc/portcullis/portcullis.toml
ls /etc/portcullis
"#;

#[test]
fn a_plan_can_be_run_twice_closes_what_is_open_and_leaves_the_way_in() {
    if find("nft").is_none() || find("shellcheck").is_none() {
        return;
    }
    let Some(said) = scene(PLAN) else { return };
    let order = [
        "plan 0\n",
        "shellcheck fine\n22 open\n6379 open\nnothing was changed yet\n",
        "wrote /etc/nftables.d/portcullis-audit.nft\n",
        "wrote /etc/portcullis/portcullis.toml\n",
        "first 0\n",
        "second 0\nthe same\n22 open\n23 closed\n6379 closed\n1\nopen from here\n",
        "host = \"python3-3000.localhost\"",
        "to = \"127.0.0.1:5000\"",
        "portcullis.toml is right.",
        "mine\nportcullis.toml\nportcullis.toml.proposed\n",
    ];
    let mut rest = said.as_str();
    for part in order {
        let Some(at) = rest.find(part) else { panic!("{part:?} is missing in its place: {said}") };
        rest = &rest[at + part.len()..];
    }
}

/// Services as systemd would hold them, and a `systemctl` that writes down what it is told.
const UNITS: &str = r#"
mkdir /run/etc && cp -a /etc/. /run/etc/ && mount --bind /run/etc /etc
mount -t tmpfs none /var/backups; rm -rf /etc/systemd/system/audit-*
cat >systemctl <<'END'
#!/bin/sh
case $1 in
    list-unit-files) ;;
    is-*) [ ! -e "/run/ended-$3" ] ;;
    *) [ "$1" != disable ] || touch "/run/ended-$3"; echo "systemctl $*" ;;
esac
END
chmod +x systemctl; cp systemctl useradd; sed -i 's/.*/#!\/bin\/sh/;2,$d' useradd
folders=""
unit() { # unit NAME COMMAND: as a service of that name
    for root in /sys/fs/cgroup/systemd /sys/fs/cgroup /sys/fs/cgroup/unified; do
        folder=$root/system.slice/$1
        mkdir -p "$folder" 2>/dev/null && [ -e "$folder/cgroup.procs" ] || continue
        folders="$folders $folder"
        (echo $BASHPID >"$folder/cgroup.procs" && exec "${@:2}") & return
    done
}
trap 'kill $(jobs -p); wait; rmdir $folders; rmdir $(dirname $folder)' EXIT 2>/dev/null
unit audit-telnet.service $python listen.py 0.0.0.0 23
unit audit-app.service $python listen.py 0.0.0.0 81
unit ssh.service $python listen.py 0.0.0.0 22
for port in 22 23 81; do until_ok test -e ready-$port-tcp; done
audit --json | grep -c audit-app.service
audit --plan >plan.sh; shellcheck plan.sh && echo fine; grep '=no' plan.sh
sed -i 's/^\([a-z_]*\)=no /\1=yes /' plan.sh
echo first; sh plan.sh; echo second; sh plan.sh
echo drop-in; cat /etc/systemd/system/audit-app.service.d/50-unprivileged.conf
"#;

#[test]
fn a_plan_ends_units_and_takes_rights_away_once() {
    if find("shellcheck").is_none() {
        return;
    }
    let Some(said) = scene(UNITS) else { return };
    if said.starts_with("0\n") {
        return skip("no cgroup can be made for a service");
    }
    let (plan, rest) = said.split_once("first\n").unwrap_or_else(|| panic!("{said}"));
    let (first, rest) = rest.split_once("second\n").unwrap();
    let (second, drop_in) = rest.split_once("drop-in\n").unwrap();
    assert!(
        plan.contains("fine\n") && plan.contains("unprivileged_audit_app_service=no"),
        "{said}"
    );
    assert!(first.contains("systemctl disable --now audit-telnet.service\n"), "{said}");
    assert!(first.contains("systemctl restart audit-app.service\n"), "{said}");
    assert!(!plan.contains("unprivileged_audit_telnet_service"), "{said}");
    assert!(!first.contains("ssh") && !second.contains("ssh"), "{said}");
    assert!(!second.contains("disable --now") && !second.contains("restart"), "{said}");
    assert!(drop_in.starts_with("[Service]\nUser=audit-app\n"), "{said}");
}

#[test]
fn systemd_understands_the_units() {
    let Some(mut analyze) = find("systemd-analyze") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for name in ["portcullis-audit.service", "portcullis-audit.timer"] {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/systemd").join(name);
        let text = std::fs::read_to_string(kept).unwrap();
        let file = folder.path().join(name);
        // Where the program will be is not where it is in a test.
        std::fs::write(&file, text.replace("/usr/bin/portcullis", tools::PORTCULLIS)).unwrap();
        files.push(file);
    }
    let output = tools::run(analyze.args(["verify", "--man=no"]).args(files));
    let words = stdout(&output) + &stderr(&output);
    assert!(output.status.success() && words.is_empty(), "{words}");
}
