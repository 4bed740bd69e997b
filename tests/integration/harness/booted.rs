//! A machine in namespaces of its own, booted by the real systemd: this host's files under an
//! overlay that is thrown away, an empty network, its own cgroups. No virtual machine, no image.

use std::path::Path;

use tokio::process::Command;

use super::tools::{self, FUNCTIONS, PORTCULLIS};

/// Runs a shell script as a oneshot service of such a machine, and returns all that it wrote;
/// `portcullis` stands in `/srv/test`. `None`, with a word, where that is not allowed.
#[track_caller]
pub fn booted(script: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        tools::skip("only root may boot a machine in namespaces");
        return None;
    }
    for program in ["unshare", "ip", "systemctl", "busctl"] {
        tools::find(program)?;
    }
    if !Path::new("/lib/systemd/systemd").exists() {
        tools::skip("systemd is not installed");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("script", &format!("{FUNCTIONS}\n{script}\n"));
    put("boot", BOOT);
    let mut machine = Command::new("bash");
    machine.args(["-c", MACHINE, "machine", PORTCULLIS]).current_dir(folder.path());
    let output = tools::run(&mut machine);
    let out = std::fs::read_to_string(folder.path().join("out")).unwrap_or_default();
    if !folder.path().join("done").exists() {
        assert!(out.is_empty(), "the script did not end; it said:\n{out}");
        let said = tools::stdout(&output) + &tools::stderr(&output);
        let last = said.lines().last().unwrap_or("no word");
        tools::skip(&format!("this host does not boot a machine in namespaces: {last}"));
        return None;
    }
    Some(out)
}

/// Boots in a cgroup of its own, waits until the script has ended, and switches the machine off.
const MACHINE: &str = r#"
    cp "$1" portcullis && chmod 755 . portcullis
    groups=$(findmnt -n -o TARGET -t cgroup2 | head -n 1)
    own=$groups$(sed -n 's/^0:://p' /proc/self/cgroup)/portcullis-test-$$
    mkdir "$own" && echo $$ >"$own/cgroup.procs" || exit 1
    unshare --mount --pid --fork --kill-child=KILL --net --ipc --uts --cgroup \
        bash ./boot </dev/null 2>&1 &
    machine=$!
    for _ in $(seq 1800); do
        [ -e done ] || ! kill -0 $machine 2>/dev/null && break
        sleep 0.05
    done
    kill -KILL $machine 2>/dev/null
    wait $machine 2>/dev/null
    echo $$ >"${own%/*}/cgroup.procs"
    for _ in $(seq 100); do
        find "$own" -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.05
    done
"#;

/// Lays out the machine's root, and becomes its first process.
const BOOT: &str = r#"
    set -e
    mount --make-rprivate /
    root=/run/portcullis-machine test=$PWD
    mkdir -p $root && mount -t tmpfs none $root && cd $root
    mkdir upper work new
    mount -t overlay overlay -o lowerdir=/,upperdir=$root/upper,workdir=$root/work new
    cd new
    mkdir -p srv/test && mount --bind "$test" srv/test
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs none dev
    for device in null zero full random urandom tty; do
        touch dev/$device && mount --bind /dev/$device dev/$device
    done
    mkdir dev/shm dev/pts && mount -t devpts -o newinstance devpts dev/pts
    ln -s pts/ptmx dev/ptmx && ln -s /proc/self/fd dev/fd
    for empty in run var/lib/systemd var/lib/portcullis var/log; do
        mkdir -p $empty && mount -t tmpfs none $empty
    done
    : >etc/fstab
    rm -rf etc/systemd/system/*.wants usr/local/bin/portcullis
    printf '[Unit]\nDefaultDependencies=no\nWants=dbus.service\nAfter=dbus.service\n
[Service]\nType=oneshot\nStandardOutput=append:/srv/test/out\nStandardError=append:/srv/test/out
ExecStart=/bin/bash /srv/test/script\nExecStopPost=/bin/touch /srv/test/done\n' \
        >etc/systemd/system/test.service
    ip link set lo up
    mkdir -p srv/old && pivot_root . srv/old && cd / && umount -l srv/old
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=test.service --log-target=console
"#;
