//! Both services under the real systemd, from `install` to `install --uninstall`.

use crate::harness::booted::booted;

/// Installs, names a site, and tells how to ask it.
const INSTALL: &str = r#"
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin
    install() {
        /srv/test/portcullis install "$@" >/dev/null
        systemd-sysusers /etc/sysusers.d/portcullis.conf
        systemd-tmpfiles --create /etc/tmpfiles.d/portcullis.conf
        printf '[log]\naccess = "/var/log/portcullis/access.log"\n[[site]]\nhost = "localhost"\nto = "8080"\n' \
            >/etc/portcullis/portcullis.toml
        systemctl daemon-reload
    }
    portcullis=/usr/local/bin/portcullis
    ask() {
        curl -m 20 -s -o /dev/null -w '%{http_code} ' http://localhost/
        curl -m 20 -sk -o /dev/null -w '%{http_code}\n' https://localhost/
    }
    main() { systemctl show --property MainPID --value "$1"; }
    held() { sed -n 's/^\(Uid\|Cap.*\|NoNewPrivs\|Seccomp\):\t/\1 /p' /proc/$(main $1)/status; }
    mark() { echo "--- $1"; }
    serve 8080 2>/dev/null
"#;

/// What the script wrote after this mark.
#[track_caller]
fn part<'a>(said: &'a str, mark: &str) -> &'a str {
    let start = said.split(&format!("--- {mark}\n")).nth(1);
    let start = start.unwrap_or_else(|| panic!("no {mark:?} in {said}"));
    start.split("\n--- ").next().unwrap_or(start)
}

#[test]
fn the_service_binds_gives_up_its_right_and_lives_on() {
    let Some(said) = booted(&format!(
        r#"{INSTALL}
        install
        mark start; systemctl enable --now portcullis.service; echo "code $?"; ask
        mark held; held portcullis.service
        mark status; $portcullis status; echo "code $?"
        mark reload; systemctl reload portcullis.service; echo "code $?"
        mark 'wrong reload'; cp /etc/portcullis/portcullis.toml /run/right
        echo nonsense >>/etc/portcullis/portcullis.toml
        systemctl reload portcullis.service; echo "code $?"; ask; cp /run/right /etc/portcullis/portcullis.toml
        mark rotate; logrotate --state /run/state --force /etc/logrotate.d/portcullis; echo "code $?"
        until_ok test -e /var/log/portcullis/access.log; ls /var/log/portcullis
        mark upgrade; before=$(main portcullis.service)
        systemctl --kill-who=main --signal=USR2 kill portcullis.service
        other() {{ [ "$(main portcullis.service)" != $before ] && ! kill -0 $before 2>/dev/null; }}
        until_ok other && echo "upgraded, $(systemctl is-active portcullis.service)"; ask
        mark 'after upgrade'; systemctl reload portcullis.service; echo "code $?"; held portcullis.service
        mark stop; systemctl stop portcullis.service; echo "code $?"
        systemctl show --property Result,ExecMainStatus portcullis.service
        mark 'wrong start'
        echo nonsense >>/etc/portcullis/portcullis.toml
        systemctl start portcullis.service; echo "code $?"
        systemctl show --property ExecMainStatus,NRestarts,ActiveState portcullis.service
        mark uninstall; $portcullis install --uninstall; echo "code $?"
        systemctl disable --now portcullis.service; /srv/test/portcullis install --uninstall; echo "code $?"
        mark end; journalctl --no-pager -o cat -u portcullis.service
        "#
    )) else {
        return;
    };
    for (mark, lines) in [
        ("start", &["code 0", "308 200"][..]),
        ("held", &["CapPrm 0000000000000000", "CapAmb 0000000000000000", "NoNewPrivs 1"]),
        ("status", &["given up", "code 0"]),
        ("reload", &["code 0"]),
        ("wrong reload", &["code 1", "308 200"]),
        ("rotate", &["code 0", "access.log\naccess.log.1"]),
        ("upgrade", &["upgraded, active", "308 200"]),
        ("after upgrade", &["code 0", "CapPrm 0000000000000000"]),
        // It is waited for after an upgrade too, and not killed.
        ("stop", &["code 0", "Result=success", "ExecMainStatus=0"]),
        // A wrong file is no reason to try again and again.
        ("wrong start", &["code 1", "ExecMainStatus=78", "NRestarts=0", "=failed"]),
        ("uninstall", &["code 1", "code 0"]),
    ] {
        for line in lines {
            assert!(part(&said, mark).contains(line), "{line:?} after {mark:?} in {said}");
        }
    }
}

#[test]
fn the_service_by_sockets_never_has_a_capability_and_restarts_unnoticed() {
    let Some(said) = booted(&format!(
        r#"{INSTALL}
        install && install --sockets
        systemctl enable --now portcullis.service; ask
        mark switch; systemctl disable portcullis.service
        systemctl enable --now portcullis-sockets.service; echo "code $?"; ask
        systemctl is-active portcullis.service
        mark held; held portcullis-sockets.service
        mark status; $portcullis status; echo "code $?"
        mark reload; systemctl reload portcullis-sockets.service; echo "code $?"
        mark restart
        (while [ ! -e /run/enough ]; do curl -m 20 -sk -o /dev/null -w '%{{http_code}}\n' https://localhost/; done) >/run/codes &
        until_ok grep -qs 200 /run/codes
        for _ in 1 2 3; do systemctl restart portcullis-sockets.service; ask; done
        touch /run/enough; wait %+; echo "answers: [$(sort -u /run/codes | tr '\n' ' ')]"
        mark upgrade; before=$(main portcullis-sockets.service)
        systemctl --kill-who=main --signal=USR2 kill portcullis-sockets.service
        other() {{ [ "$(main portcullis-sockets.service)" != $before ] && ! kill -0 $before 2>/dev/null; }}
        until_ok other && echo "upgraded, $(systemctl is-active portcullis-sockets.service)"; ask
        mark back; systemctl start portcullis.service; echo "code $?"; ask
        systemctl is-active portcullis-sockets.service portcullis-http.socket
        mark end; journalctl --no-pager -o cat -u portcullis-sockets.service
        "#
    )) else {
        return;
    };
    for (mark, lines) in [
        ("switch", &["code 0", "308 200", "inactive"][..]),
        (
            "held",
            &[
                "CapPrm 0000000000000000",
                "CapEff 0000000000000000",
                "CapBnd 0000000000000000",
                "CapAmb 0000000000000000",
            ],
        ),
        ("status", &["no capability", "code 0"]),
        ("reload", &["code 0"]),
        ("restart", &["308 200\n308 200\n308 200\nanswers: [200 ]"]),
        ("upgrade", &["upgraded, active", "308 200"]),
        ("back", &["code 0", "308 200", "inactive\ninactive"]),
    ] {
        for line in lines {
            assert!(part(&said, mark).contains(line), "{line:?} after {mark:?} in {said}");
        }
    }
}
