//! What is seen from here when a name cannot be proved: in namespaces of its own, with a name server
//! and an authority at the real ports, because both know no others.

use crate::harness::setup::write_file;
use crate::harness::{pki, proxy, tools};

/// Pebble, which looks for every name where nobody is, and Knot, which knows better. `$home` is the
/// folder of the files of Pebble.
const WORLD: &str = r#"
    echo 'nameserver 127.0.0.1' >$home/resolv.conf
    mount --bind $home/resolv.conf /etc/resolv.conf || exit 99
    mkdir -p /run/knot /run/p
    cat >/run/knot/knot.conf <<'END'
server:
    rundir: "/run/knot"
    listen: 127.0.0.1@53
database:
    storage: "/run/knot"
zone:
  - domain: shop.de
    file: /run/knot/shop
  - domain: blog.de
    file: /run/knot/blog
END
    zone() { printf '$ORIGIN %s.\n$TTL 60\n@ SOA ns h 1 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n%s\n' "$@"; }
    zone shop.de '@ CAA 0 issue ";"
www A 127.0.0.1' >/run/knot/shop
    zone blog.de '@ A 127.0.0.9' >/run/knot/blog
    knotd -c /run/knot/knot.conf >/run/knot/said 2>&1 &
    until_ok kdig @127.0.0.1 +tcp +short shop.de CAA >/dev/null
    pebble-challtestsrv -http01 "" -https01 "" -tlsalpn01 "" -defaultIPv6 "" \
        -defaultIPv4 127.0.0.10 -dns01 127.0.0.1:8053 -management 127.0.0.1:8055 >/dev/null 2>&1 &
    cd $home
    PEBBLE_VA_NOSLEEP=1 pebble -config pebble.json -dnsserver 127.0.0.1:8053 >/dev/null 2>&1 &
    until_ok bash -c "exec 3<>/dev/tcp/127.0.0.1/14000" 2>/dev/null
    cat >/run/p/p.toml <<END
[server]
http = "127.0.0.1:80"
https = "127.0.0.1:443"
[admin]
socket = "/run/p/x.sock"
[log]
access = "off"
[acme]
directory = "https://localhost:14000/dir"
ca = "$home/roots.pem"
storage = "/var/lib/p"
challenges = "http-01"
[[site]]
host = "www.shop.de"
to = "127.0.0.1:8080"
[[site]]
host = "blog.de"
to = "127.0.0.1:8080"
END
    portcullis run -c /run/p/p.toml >/run/p/said 2>&1 & server=$!
    until_ok grep -q 'no certificate for www.shop.de' /run/p/said
    until_ok grep -q 'no certificate for blog.de' /run/p/said
"#;

#[test]
fn beside_a_failure_stands_what_the_dns_and_port_80_say_here() {
    for program in ["pebble", "pebble-challtestsrv", "knotd", "kdig"] {
        let Some(_) = tools::find(program) else { return };
    }
    let folder = proxy::folder();
    let pair = pki::issue(&["localhost", "127.0.0.1"]);
    write_file(&folder.path().join("cert.pem"), &pair.cert, 0o644);
    write_file(&folder.path().join("key.pem"), &pair.key, 0o644);
    write_file(&folder.path().join("roots.pem"), &pki::root_pem(), 0o644);
    let pebble = r#"{ "pebble": { "listenAddress": "127.0.0.1:14000",
        "managementListenAddress": "127.0.0.1:15000", "certificate": "cert.pem",
        "privateKey": "key.pem", "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "" } }"#;
    write_file(&folder.path().join("pebble.json"), pebble, 0o644);
    let home = folder.path().display();
    let script = format!(
        "home={home}; {WORLD}\n cat /run/p/said; echo LIST; portcullis certs list -c /run/p/p.toml; \
         echo STATUS; portcullis status -c /run/p/p.toml; kill $server; wait $server"
    );
    let Some(said) = tools::alone(&script) else { return };
    let (log, rest) = said.split_once("LIST").unwrap_or_else(|| panic!("{said}"));
    let (list, status) = rest.split_once("STATUS").unwrap();
    for (place, text) in [("log", log), ("list", list), ("status", status)] {
        let of = |name: &str| {
            let wanted = format!("{name} could not be proved by http-01");
            let line = text.lines().find(|line| line.contains(&wanted));
            line.unwrap_or_else(|| panic!("{place}: {name}: {said}"))
        };
        // Port 80 of its address answers with our own token: only the DNS is in the way.
        let shop = of("www.shop.de");
        assert!(shop.contains("; seen from here: a CAA record of shop.de allows no"), "{shop}");
        assert!(!shop.contains("port 80 of") && !shop.contains("leads to"), "{shop}");
        let blog = of("blog.de");
        let words = "; seen from here: port 80 of 127.0.0.9 does not answer for blog.de";
        assert!(blog.contains(words), "{blog}");
        assert!(!blog.contains("CAA"), "{blog}");
    }
}
