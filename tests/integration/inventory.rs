//! What listens and who holds it, against what the kernel and `ss` say, in networks of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use portcullis::audit::inventory::{
    self, ExeState, Exposure, Holder, Inventory, Listener, Options, Protocol,
};

use crate::harness::tools::{alone, find, skip};

const ASKED: &str = "PORTCULLIS_INVENTORY";
const ANSWER: &str = "INVENTORY:";
const TIME: &str = "MILLISECONDS:";

/// No test by itself: what the scripts below run where the inventory is to be taken.
#[test]
fn taken_here() {
    let Some(options) = std::env::var_os(ASKED) else { return };
    let start = Instant::now();
    let taken = inventory::take(&Options { all_namespaces: options == "all" }).unwrap();
    println!("\n{TIME}{}", start.elapsed().as_millis());
    println!("{ANSWER}{}", serde_json::to_string(&taken).unwrap());
}

/// Runs a script alone, in which `inventory` (with `all`: of all network namespaces) takes one and
/// `ready FILE` waits for a listener that the `python` before it announces there.
#[track_caller]
fn alone_with(script: &str) -> Option<String> {
    find("python3")?;
    find("setpriv")?;
    let me = std::env::current_exe().unwrap();
    // Anybody may run what is mounted on a file below /run.
    let prologue = format!(
        "touch /run/inventory && mount --bind {} /run/inventory && chmod 1777 /run && cd /run\n\
         inventory() {{ {ASKED}=${{1:-here}} ${{AS:-}} /run/inventory inventory::taken_here \
             --exact --nocapture --test-threads=1; }}\n\
         python() {{ /usr/bin/python3 -c \"$@\" & }}\n\
         ready() {{ until_ok test -e \"$1\"; }}\n\
         trap 'kill $(jobs -p) 2>/dev/null' EXIT\n",
        me.display()
    );
    if !std::path::Path::new("/usr/bin/python3").exists() {
        skip("there is no /usr/bin/python3");
        return None;
    }
    alone(&(prologue + script))
}

/// The inventories in what a script said, in order.
#[track_caller]
fn inventories(said: &str) -> Vec<Inventory> {
    let found: Vec<Inventory> = said
        .lines()
        .filter_map(|line| line.split_once(ANSWER))
        .map(|(_, json)| serde_json::from_str(json).unwrap())
        .collect();
    assert!(!found.is_empty(), "no inventory in {said}");
    found
}

#[track_caller]
fn inventory_of(script: &str) -> Option<Inventory> {
    inventories(&alone_with(script)?).pop()
}

#[track_caller]
fn on(inventory: &Inventory, protocol: Protocol, port: u16) -> &Listener {
    let mut found = inventory.listeners.iter().filter(|l| l.port == port && l.protocol == protocol);
    let first = found.next().unwrap_or_else(|| panic!("nothing on {port}: {inventory:#?}"));
    assert!(found.next().is_none(), "several on {port}: {inventory:#?}");
    first
}

#[track_caller]
fn holder(inventory: &Inventory, port: u16) -> &Holder {
    let listener = on(inventory, Protocol::Tcp, port);
    listener.holder.as_ref().unwrap_or_else(|| panic!("no holder of {port}: {inventory:#?}"))
}

/// Two hundred sockets and some: both protocols and families, wildcards with and without IPv4,
/// several processes, users, and sockets that several hold; and some that strangers cannot reach.
const MANY: &str = r#"
import os, socket, time
from socket import *
keep = []
def make(kind, family, ip, port, only=False, share=False):
    s = socket(family, kind)
    if family == AF_INET6:
        s.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, only)
    if share:
        s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
    s.bind((ip, port))
    if kind == SOCK_STREAM:
        s.listen()
    keep.append(s)
    return s
for n in range(25):
    for kind in (SOCK_STREAM, SOCK_DGRAM):
        make(kind, AF_INET, '127.0.0.%d' % (n + 1), 1000 + n)
        make(kind, AF_INET, '0.0.0.0', 2000 + n)
        make(kind, AF_INET6, '::1', 3000 + n)
        make(kind, AF_INET6, '::', 4000 + n, only=n % 2 == 0)
    if n == 12:
        # The rest belongs to a child as well, and the child has some of its own.
        if os.fork() == 0:
            keep.clear()
            for m in range(20):
                make(SOCK_STREAM, AF_INET, '0.0.0.0', 5000 + m)
                make(SOCK_STREAM, AF_INET6, '::', 5000 + m, only=True)
            os.setuid(65534)
            for m in range(20):
                make(SOCK_DGRAM, AF_INET6, '::', 6000 + m)
            open('child', 'w').close()
            time.sleep(60)
for s in range(4):
    make(SOCK_STREAM, AF_INET, '0.0.0.0', 7000, share=True)
# Nobody else reaches these: one that is connected, and both ends of a connection.
peer = socket(AF_INET, SOCK_DGRAM)
peer.connect(('127.0.0.1', 1000))
one = create_connection(('127.0.0.1', 1000))
two = keep[0].accept()
# Nor this, which is bound and does not listen.
quiet = socket(AF_INET, SOCK_STREAM)
quiet.bind(('127.0.0.1', 7999))
for s in keep:
    if os.fork() == 0:
        time.sleep(60)
    break
open('parent', 'w').close()
time.sleep(60)
"#;

/// A line of `ss`, or of an inventory: protocol, port, address, holders.
type Line = (Protocol, u16, String, BTreeSet<u32>);

#[test]
fn every_socket_is_the_same_as_with_ss() {
    if find("ss").is_none() {
        return;
    }
    let script = format!(
        "cat > many.py <<'EOF'\n{MANY}\nEOF\n/usr/bin/python3 many.py & ready parent; ready child\n\
         ss -Htulpne | sed 's/^/SS:/'; inventory\n"
    );
    let Some(said) = alone_with(&script) else { return };
    let taken = inventories(&said).pop().unwrap();
    let theirs: BTreeSet<Line> =
        said.lines().filter_map(|line| line.strip_prefix("SS:")).map(line_of_ss).collect();
    assert!(theirs.len() >= 200, "{} lines: {said}", theirs.len());
    let ours: BTreeSet<Line> = taken.listeners.iter().flat_map(lines_of).collect();
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let invented: Vec<_> = ours.difference(&theirs).collect();
    assert!(missing.is_empty() && invented.is_empty(), "-{missing:#?}\n+{invented:#?}");

    assert_eq!(on(&taken, Protocol::Udp, 6000).holder.as_ref().unwrap().uid, 65534);
    let both = on(&taken, Protocol::Tcp, 5000);
    assert_eq!(both.addresses, ["0.0.0.0", "::"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert_eq!((both.v6_only, both.exposure), (Some(true), Exposure::Public));
    assert_eq!(taken.unseen, [""; 0]);
}

/// `tcp LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=7,fd=3)) ino:46 sk:5 v6only:1 <->`
fn line_of_ss(line: &str) -> Line {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let protocol = if columns[0] == "tcp" { Protocol::Tcp } else { Protocol::Udp };
    let (ip, port) = columns[4].rsplit_once(':').unwrap();
    let ip = ip.trim_matches(['[', ']']).to_owned();
    let pids = line.split("pid=").skip(1);
    let pids = pids.map(|rest| rest.split(',').next().unwrap().parse().unwrap());
    (protocol, port.parse().unwrap(), ip, pids.collect())
}

/// As `ss` writes addresses: `*` is both families.
fn lines_of(listener: &Listener) -> Vec<Line> {
    let holder = listener.holder.as_ref().unwrap();
    let pids: BTreeSet<u32> = holder.others.iter().copied().chain([holder.pid]).collect();
    let addresses = listener.addresses.iter().map(|ip| match ip {
        IpAddr::V6(ip) if ip.is_unspecified() && listener.v6_only == Some(false) => "*".to_owned(),
        ip => ip.to_string(),
    });
    addresses.map(|ip| (listener.protocol, listener.port, ip, pids.clone())).collect()
}

const SERVE: &str = "import socket,sys,time; s=socket.create_server(('',int(sys.argv[1]))); \
                     open(sys.argv[2],'w').close(); time.sleep(60)";

#[test]
fn an_ordinary_user_sees_less_and_is_told_so() {
    let script = format!(
        "python \"{SERVE}\" 81 root; ready root\n\
         setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c \"{SERVE}\" 8080 own &\n\
         ready own; inventory; AS='setpriv --reuid 65534 --regid 65534 --clear-groups' inventory\n"
    );
    let Some(said) = alone_with(&script) else { return };
    let [root, user] = inventories(&said).try_into().unwrap();
    assert!(root.host.is_root && !user.host.is_root);
    assert!(holder(&root, 81).is_root && !holder(&root, 8080).is_root);
    assert_eq!(root.unseen, [""; 0]);

    let hidden = on(&user, Protocol::Tcp, 81);
    assert_eq!((hidden.uid, hidden.holder.as_ref()), (0, None));
    assert_eq!(holder(&user, 8080).user, holder(&root, 8080).user);
    assert_eq!(holder(&user, 8080).exe, holder(&root, 8080).exe);
    let told = user.unseen.join("\n");
    assert!(told.contains("1 listener (by user: root 1)"), "{told}");
    assert!(told.contains("sudo portcullis audit"), "{told}");
}

#[test]
fn a_deleted_and_a_replaced_program_are_told_from_a_present_one() {
    let run = |name: &str, port: u16| {
        format!(
            "cp /usr/bin/python3 /run/{name}; PYTHONHOME=/usr /run/{name} -c \"{SERVE}\" {port} \
             {name}.ready & ready {name}.ready\n"
        )
    };
    let script = [
        run("kept", 81),
        run("gone", 82),
        run("upgraded", 83),
        "rm gone; cp kept new; mv new upgraded; inventory\n".to_owned(),
    ];
    let Some(taken) = inventory_of(&script.concat()) else { return };
    let state = |port| {
        let holder = holder(&taken, port);
        (holder.exe.as_ref().unwrap().to_str().unwrap().to_owned(), holder.exe_state)
    };
    assert_eq!(state(81), ("/run/kept".to_owned(), ExeState::Present));
    assert_eq!(state(82), ("/run/gone".to_owned(), ExeState::Deleted));
    assert_eq!(state(83), ("/run/upgraded".to_owned(), ExeState::Replaced));
}

#[test]
fn capabilities_are_named_and_so_is_the_package() {
    // The harness hides /var/lib; the package database is there.
    let script = format!(
        "umount /var/lib\n\
         setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps +net_bind_service,+net_raw \
         --ambient-caps +net_bind_service,+net_raw /usr/bin/python3 -c \"{SERVE}\" 80 ready &\n\
         ready ready; inventory; dpkg -S \"$(readlink -f /usr/bin/python3)\" | sed 's/^/DPKG:/'\n"
    );
    let Some(said) = alone_with(&script) else { return };
    let taken = inventories(&said).pop().unwrap();
    let holder = holder(&taken, 80);
    assert_eq!(holder.capabilities, ["CAP_NET_BIND_SERVICE", "CAP_NET_RAW"]);
    assert_eq!((holder.is_root, holder.uid), (false, 65534));
    assert!(holder.command.ends_with(" 80 ready"), "{holder:?}");
    let age = taken.host.taken.duration_since(holder.since.unwrap()).unwrap_or_default();
    assert!(age < Duration::from_secs(60), "{age:?}");
    let package = said.lines().find_map(|line| line.strip_prefix("DPKG:")?.split(':').next());
    if std::path::Path::new("/var/lib/dpkg/info").exists() {
        assert_eq!(holder.package.as_deref(), package, "{said}");
    }
}

#[test]
fn a_process_cannot_hide_by_its_name_nor_write_on_the_terminal() {
    let script = r#"
        python "import socket,time
s=socket.create_server(('',81)); open('/proc/self/comm','wb').write(b'ev\x1b[2J\xff')
open('ready','w').close(); time.sleep(60)"
        ready ready; inventory"#;
    let Some(taken) = inventory_of(script) else { return };
    let holder = holder(&taken, 81);
    assert_eq!(holder.comm, "ev?[2J\u{fffd}");
    assert!(!holder.command.contains(char::is_control), "{holder:?}");
}

#[test]
fn other_network_namespaces_are_seen_when_asked_for_and_named_when_not() {
    let script = format!(
        "ip netns add blue && ip netns exec blue /usr/bin/python3 -c \"{SERVE}\" 81 blue.ready &\n\
         unshare --net /usr/bin/python3 -c \"{SERVE}\" 82 nameless.ready &\n\
         python \"{SERVE}\" 83 here.ready\n\
         for name in blue nameless here; do ready $name.ready; done; inventory; inventory all\n"
    );
    let Some(said) = alone_with(&script) else { return };
    let [here, all] = inventories(&said).try_into().unwrap();
    let ports = |inventory: &Inventory| -> BTreeMap<u16, Option<String>> {
        inventory.listeners.iter().map(|l| (l.port, l.namespace.clone())).collect()
    };
    assert_eq!(ports(&here), BTreeMap::from([(83, None)]));
    let told = here.unseen.join("\n");
    assert!(told.contains("2 other network namespaces") && told.contains("blue"), "{told}");
    assert!(told.contains("--all-namespaces"), "{told}");

    let namespaces = ports(&all);
    assert_eq!(namespaces[&81].as_deref(), Some("blue"));
    assert!(namespaces[&82].as_ref().unwrap().starts_with("net:["), "{namespaces:?}");
    assert_eq!(namespaces[&83], None);
    assert!(all.listeners.iter().all(|listener| listener.holder.is_some()), "{all:#?}");
    assert_eq!(all.host.namespaces.len(), 2);
    assert_eq!(all.unseen, [""; 0]);
}

#[test]
fn a_socket_of_the_first_process_is_a_socket_units() {
    let script = r#"
        mkdir -p /run/systemd/system
        printf '[Socket]\nListenStream=2222\n' > /run/systemd/system/portcullis-test.socket
        export -f inventory
        unshare --pid --fork --mount-proc /usr/bin/python3 -c "import socket,subprocess
s=socket.create_server(('',2222)); t=socket.create_server(('',2223))
subprocess.run(['bash','-c','inventory'])""#;
    let Some(taken) = inventory_of(script) else { return };
    assert_eq!(holder(&taken, 2222).pid, 1);
    assert_eq!(holder(&taken, 2222).socket_unit.as_deref(), Some("portcullis-test.socket"));
    assert_eq!(holder(&taken, 2223).socket_unit, None);
}

/// The promise is of an optimised program: ten thousand sockets within two seconds.
#[test]
fn ten_thousand_sockets_and_two_thousand_processes_take_two_seconds() {
    let limit = if cfg!(debug_assertions) { 10_000 } else { 2_000 };
    let script = r#"
        ulimit -n 30000
        python "import os,socket,signal
keep=[socket.create_server(('127.0.0.1',10000+n),backlog=1) for n in range(10000)]
for n in range(2000):
    if os.fork()==0:
        os.closerange(3,30000); signal.pause()
open('ready','w').close(); signal.pause()"
        ready ready; inventory"#;
    let Some(said) = alone_with(script) else { return };
    let taken = inventories(&said).pop().unwrap();
    assert_eq!(taken.listeners.len(), 10_000);
    assert!(taken.listeners.iter().all(|listener| listener.holder.is_some()));
    let took = said.lines().find_map(|line| line.strip_prefix(TIME)).unwrap();
    assert!(took.parse::<u128>().unwrap() < limit, "{took} ms");
}
