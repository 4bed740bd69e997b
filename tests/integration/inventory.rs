//! What listens and who holds it, against what the kernel and `ss` say, in networks of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use portcullis::audit::inventory::{
    self, ExeState, Exposure, Holder, Inventory, Listener, Options, Passage, Protocol,
};

use Passage::{Closed, Forwarded, Open, Partly};

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
    // On a very busy machine the time for the package lists ends, which is then told.
    if !taken.unseen.iter().any(|told| told.contains("dpkg -S")) {
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

/// A stranger beyond a cable, who tries each of these TCP ports after the inventory is taken.
#[track_caller]
fn behind(firewall: &str, ports: &[u16]) -> Option<(Inventory, BTreeSet<u16>)> {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let ports = ports.join(",");
    let script = format!(
        r#"
        ip netns add stranger && ip link add wire type veth peer name beyond netns stranger
        ip address add 10.77.0.1/24 dev wire && ip link set wire up
        ip -n stranger address add 10.77.0.2/24 dev beyond && ip -n stranger link set beyond up
        ip -n stranger link set lo up
        python "import socket,time
keep=[socket.create_server(('',port)) for port in ({ports})]
udp=[socket.socket(socket.AF_INET,socket.SOCK_DGRAM) for port in (53,54)]
for s,port in zip(udp,(53,54)): s.bind(('',port))
open('ready','w').close(); time.sleep(60)"
        ready ready
        {firewall}
        inventory
        ip netns exec stranger /usr/bin/python3 -c "import socket,threading
open_ones=[]
def knock(port):
    try: socket.create_connection(('10.77.0.1',port),3); open_ones.append(port)
    except OSError: pass
tries=[threading.Thread(target=knock,args=(port,)) for port in ({ports})]
[t.start() for t in tries]; [t.join() for t in tries]
for port in open_ones: print('CONNECTED:%d'%port)"
        "#
    );
    let said = alone_with(&script)?;
    let connected = said.lines().filter_map(|line| line.strip_prefix("CONNECTED:")?.parse().ok());
    let connected = connected.collect();
    let taken = inventories(&said).pop()?;
    let unable = ["not supported", "not permitted", "No such file"];
    if unable.iter().any(|word| said.contains(word)) {
        skip("this kernel lacks what the test needs of a network");
        return None;
    }
    Some((taken, connected))
}

/// What the inventory says of a port, and what a stranger met there.
#[track_caller]
fn passages(
    (taken, connected): &(Inventory, BTreeSet<u16>),
    ports: &[u16],
) -> Vec<(u16, Passage, bool)> {
    let passage = |port| on(taken, Protocol::Tcp, port).firewall.as_ref().unwrap().passage;
    ports.iter().map(|port| (*port, passage(*port), connected.contains(port))).collect()
}

#[test]
fn the_rules_of_nftables_are_told_as_a_stranger_meets_them() {
    if find("nft").is_none() {
        return;
    }
    let rules = r#"nft -f - <<'EOF'
table inet filter {
    set admins {
        type ipv4_addr
        elements = { 10.0.0.1 }
    }
    set web {
        type inet_service
        elements = { 80, 443 }
    }
    chain other {
        tcp dport 4000 return
        ip saddr 10.77.0.0/24 tcp dport 4001 accept
        meta mark 7 return
        tcp dport { 4000, 4002 } drop
    }
    chain input {
        type filter hook input priority filter; policy drop;
        iif lo accept
        iifname "lo" accept
        ct state vmap { established : accept, related : accept, invalid : drop }
        ct state established,related accept
        ip saddr @admins tcp dport 5432 accept
        iifname "eth9" tcp dport 67 accept
        tcp dport { 22, 8000-8010 } accept
        tcp dport @web counter log accept
        tcp dport 25 reject
        meta l4proto { tcp, udp } th dport 53 accept
        tcp dport 1000-1010 accept
        tcp dport != 3000-9000 tcp dport >= 9500 accept
        tcp dport vmap { 7 : drop, 9 : accept, 4000 : jump other, 4001 : jump other, 4002 : jump other }
        tcp dport { 4000, 4002 } accept
        ip6 nexthdr tcp tcp dport 2222 accept
    }
    chain late {
        type filter hook input priority 100; policy accept;
        tcp dport 443 drop
    }
    chain forward {
        type nat hook prerouting priority dstnat; policy accept;
        tcp dport 3306 redirect to :80
    }
}
EOF"#;
    let expected = [
        (7, Closed, false),
        (9, Open, true),
        (22, Open, true),
        (25, Closed, false),
        (53, Open, true),
        (67, Partly, false),
        (80, Open, true),
        (443, Closed, false),
        (1005, Open, true),
        (2222, Closed, false),
        (3306, Forwarded, true),
        (4000, Open, true),
        (4001, Partly, true),
        (4002, Open, false),
        (5432, Partly, false),
        (7999, Closed, false),
        (8005, Open, true),
        (9400, Closed, false),
        (9600, Open, true),
    ];
    let ports = expected.map(|(port, ..)| port);
    let Some(met) = behind(rules, &ports) else { return };
    assert_eq!(passages(&met, &ports), expected, "{:#?}", met.0);
    let udp = |port| on(&met.0, Protocol::Udp, port).firewall.as_ref().unwrap();
    assert_eq!((udp(53).passage, udp(54).passage), (Open, Closed));
    assert_eq!(udp(54).rule, "inet filter input, policy drop");
    assert_eq!(met.0.unseen, [""; 0]);
}

/// The way of ufw and of many a script: what iptables writes into nftables on Debian.
#[test]
fn the_rules_of_iptables_are_told_as_a_stranger_meets_them() {
    if find("iptables-nft").is_none() {
        return;
    }
    let rules = "\
        iptables-nft -P INPUT DROP
        iptables-nft -N before; iptables-nft -N local; iptables-nft -A INPUT -j before
        iptables-nft -A before -i lo -j ACCEPT
        iptables-nft -A before -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        iptables-nft -A before -m conntrack --ctstate INVALID -j DROP
        iptables-nft -A before -j local
        iptables-nft -A local -m addrtype --dst-type LOCAL -j RETURN
        iptables-nft -A local -m limit --limit 3/min -j RETURN
        iptables-nft -A local -j DROP
        iptables-nft -A INPUT -p tcp --dport 22 -m comment --comment 'the way in' -j ACCEPT
        iptables-nft -A INPUT -p tcp -m multiport --dports 80,443,8000:8010 -j ACCEPT
        iptables-nft -A INPUT -p tcp --dport 9000:9010 -j REJECT
        iptables-nft -A INPUT -p tcp -s 10.0.0.1 --dport 5432 -j ACCEPT
        iptables-nft -t nat -A PREROUTING -p tcp --dport 3306 -j DNAT --to-destination 10.77.0.1:80";
    let expected = [
        (22, Open, true),
        (25, Closed, false),
        (443, Open, true),
        (80, Open, true),
        (3306, Forwarded, true),
        (5432, Partly, false),
        (8005, Open, true),
        (9005, Closed, false),
    ];
    let ports = expected.map(|(port, ..)| port);
    let Some(met) = behind(rules, &ports) else { return };
    assert_eq!(passages(&met, &ports), expected, "{:#?}", met.0);
}

#[test]
fn without_a_firewall_every_port_is_open_and_an_ordinary_user_does_not_know() {
    let script = format!(
        "python \"{SERVE}\" 81 ready; ready ready; inventory\n\
         AS='setpriv --reuid 65534 --regid 65534 --clear-groups' inventory\n"
    );
    let Some(said) = alone_with(&script) else { return };
    let [root, user] = inventories(&said).try_into().unwrap();
    if let Some(firewall) = &on(&root, Protocol::Tcp, 81).firewall {
        assert_eq!(firewall.passage, Open);
    }
    assert_eq!(on(&user, Protocol::Tcp, 81).firewall, None);
    let told = user.unseen.join("\n");
    assert!(told.contains("sudo nft list ruleset"), "{told}");
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
