//! Who trusts the local authority: this host, and the browsers of whoever says so, whose stores are
//! changed with the real certutil, in namespaces with users and stores of their own.

use crate::harness::tools;

/// A user with a database for Chrome and a profile of Firefox, a store of roots for this host, and a
/// file. `as_alice COMMAND` runs it as her; `sudo_alice COMMAND` as root for her.
const WORLD: &str = r#"
    mkdir -p /run/alice /run/p && cp "$(readlink -f portcullis)" /run/p/portcullis
    cp /etc/passwd /run/p/passwd && echo 'alice:x:1234:1234::/run/alice:/bin/sh' >>/run/p/passwd
    mount --bind /run/p/passwd /etc/passwd || exit 99
    mount -t tmpfs -o mode=0755 none /usr/local/share/ca-certificates || exit 99
    mount -t tmpfs -o mode=0755 none /etc/ssl/certs || exit 99
    chown -R 1234:1234 /run/alice; chmod -R a+rX /run/p
    as_alice() { setpriv --reuid=1234 --regid=1234 --clear-groups env HOME=/run/alice "$@"; }
    sudo_alice() { env HOME=/root SUDO_UID=1234 SUDO_GID=1234 SUDO_USER=alice "$@" 2>&1; echo "exit $?"; }
    chrome=/run/alice/.pki/nssdb firefox=/run/alice/.mozilla/firefox/x.default
    for place in $chrome $firefox; do
        as_alice mkdir -p $place; as_alice certutil -N -d sql:$place --empty-password
    done
    listed() { for place in $chrome $firefox; do as_alice certutil -L -d sql:$place; done; }
    cat >/run/p/p.toml <<'END'
[server]
http = "127.0.0.1:8000"
https = "127.0.0.1:8443"
[admin]
socket = "/run/alice/x.sock"
[acme]
storage = "/var/lib/p"
[[site]]
host = "localhost"
to = "127.0.0.1:8080"
END
"#;

fn alone(script: &str) -> Option<String> {
    for program in ["certutil", "setpriv", "update-ca-certificates"] {
        tools::find(program)?;
    }
    tools::alone(&format!("{WORLD}\n{script}"))
}

#[track_caller]
fn part<'s>(said: &'s str, from: &str, to: &str) -> &'s str {
    let rest = said.split_once(from).unwrap_or_else(|| panic!("{from}: {said}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("{to}: {said}")).0
}

#[test]
fn who_calls_sudo_has_his_browsers_changed_as_himself() {
    let script = r#"
        echo TRUST; sudo_alice portcullis certs trust -c /run/p/p.toml; echo LIST; listed
        echo OWNERS; find /run/alice ! -user 1234; find /root/.pki 2>/dev/null
        echo AGAIN; sudo_alice portcullis certs trust -c /run/p/p.toml
        echo UNTRUST; sudo_alice portcullis certs untrust -c /run/p/p.toml; echo LEFT; listed; echo END
    "#;
    let Some(said) = alone(script) else { return };
    let trust = part(&said, "TRUST", "LIST");
    for words in [
        "this host now trusts the local authority: /usr/local/share/ca-certificates/portcullis-local-",
        "Chrome, Chromium of alice now trusts the local authority",
        "Firefox, profile x.default of alice now trusts the local authority",
        "exit 0",
    ] {
        assert!(trust.contains(words), "{words}: {said}");
    }
    let list = part(&said, "LIST", "OWNERS");
    assert_eq!(list.matches("portcullis-local-").count(), 2, "{said}");
    assert_eq!(part(&said, "OWNERS", "AGAIN").trim(), "", "nothing there is root's: {said}");
    assert!(part(&said, "AGAIN", "UNTRUST").contains("exit 0"), "{said}");
    let untrust = part(&said, "UNTRUST", "LEFT");
    assert!(untrust.contains("Firefox, profile x.default of alice no longer trusts"), "{said}");
    assert!(untrust.contains("this host no longer trusts") && untrust.contains("exit 0"), "{said}");
    assert!(!part(&said, "LEFT", "END").contains("portcullis-local-"), "{said}");
}

#[test]
fn without_root_the_browsers_trust_and_without_certutil_it_is_told() {
    let script = r#"
        sed -i 's,/var/lib/p,/run/alice/storage,' /run/p/p.toml
        as_alice /run/p/portcullis run -c /run/p/p.toml >/run/p/said 2>&1 & server=$!
        until_ok test -e /run/alice/storage/local/root.pem; kill $server; wait $server
        echo TRUST; as_alice /run/p/portcullis certs trust -c /run/p/p.toml 2>&1; echo "exit $?"
        echo LIST; listed
        mount --bind /dev/null "$(command -v certutil)"
        echo ABSENT; sudo_alice portcullis certs untrust --all
        echo NOBODY; rm -r $chrome $firefox; sudo_alice portcullis certs trust -c /run/p/p.toml; echo END
    "#;
    let Some(said) = alone(script) else { return };
    let trust = part(&said, "TRUST", "LIST");
    assert!(trust.contains("Chrome, Chromium of alice now trusts"), "{said}");
    assert!(trust.contains("uid 1234 may not write") && trust.contains("exit 77"), "{said}");
    assert_eq!(part(&said, "LIST", "ABSENT").matches("portcullis-local-").count(), 2, "{said}");
    let absent = part(&said, "ABSENT", "NOBODY");
    assert!(absent.contains("certutil is missing") && absent.contains("libnss3-tools"), "{said}");
    assert!(absent.contains("Firefox, profile x.default"), "{said}");
    let nobody = part(&said, "NOBODY", "END");
    assert!(nobody.contains("alice has no browser with a store of its own here"), "{said}");
}
