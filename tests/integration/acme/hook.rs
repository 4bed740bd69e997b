//! Names that are proved by a program of the operator, which writes to a name server of another
//! make.

use std::path::PathBuf;

use super::*;
use crate::harness::knot::{KEY, Knot};
use crate::harness::pebble::Pebbles;
use crate::harness::proxy::open_to_proxy;
use crate::harness::setup::write_file;
use crate::harness::{Setup, eventually, tools};

const RECORD: &str = "_acme-challenge.shop.test";

/// An authority that believes a name server, and a folder for programs that write to it.
struct Stage {
    knot: Knot,
    pebble: Pebble,
    folder: tempfile::TempDir,
}

impl Stage {
    fn set() -> Option<Self> {
        tools::find("knsupdate")?;
        let knot = Knot::start(NAME)?;
        // Every order is to be proved.
        let pebbles = Pebbles::new().with("PEBBLE_AUTHZREUSE", "0").resolver(knot.place());
        let pebble = pebbles.start()?;
        Some(Self { knot, pebble, folder: storage() })
    }

    /// A program that notes that it was run, does `first`, and then what it is told.
    fn hook(&self, name: &str, first: &str) -> PathBuf {
        let path = self.path(name);
        let (runs, port, (key, secret)) = (self.path("runs"), self.knot.place().port(), KEY);
        let text = format!(
            "#!/bin/sh\n\
             echo \"$PORTCULLIS_ACTION $PORTCULLIS_NAME $1\" >> {runs}\n\
             {first}\n\
             case $PORTCULLIS_ACTION in present) what=add;; cleanup) what=delete;; esac\n\
             printf 'server 127.0.0.1 {port}\\nzone {NAME}.\\nupdate %s %s. 60 TXT \"%s\"\\nsend\\n' \
                 $what \"$PORTCULLIS_NAME\" \"$PORTCULLIS_VALUE\" |\n\
             knsupdate -y hmac-sha256:{key}:{secret} >&2\n",
            runs = runs.display(),
        );
        write_file(&path, &text, 0o755);
        path
    }

    /// A proxy's configuration with this hook and what else stands in `[acme.dns]`.
    fn by(&self, hook: &Path, keys: &str, site: Site) -> Setup {
        let setup = self.pebble.setup(site).acme("challenges = 'dns-01'");
        setup.acme(&self.dns(hook, keys))
    }

    fn dns(&self, hook: &Path, keys: &str) -> String {
        let (hook, place) = (hook.display(), self.knot.place());
        let resolvers = format!("resolvers = '{place}'");
        let keys = if keys.contains("resolvers") { keys.to_owned() } else { resolvers + keys };
        format!("dns = {{ exec = ['{hook}', 'one argument'], {keys} }}")
    }

    /// What was run, a line for each time.
    fn runs(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("runs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn expect_nothing_left(&self) {
        eventually("the record to go", || self.knot.ask(RECORD, "TXT").is_empty());
    }
}

const PRESENT: &str = "present _acme-challenge.shop.test one argument";
const CLEANUP: &str = "cleanup _acme-challenge.shop.test one argument";

/// Both names have their record at the same place. The program finds nothing of ours.
#[test]
fn a_wildcard_is_proved_by_a_hook_and_nothing_is_left() {
    let Some(stage) = Stage::set() else { return };
    let found = stage.path("found");
    // The shell itself looks at its mask: it blocks everything while it starts another program.
    let look = format!(
        "{{ env; pwd; for fd in 0 1 2 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$fd; done; \
         while read -r line; do case $line in SigBlk*) echo \"$line\";; esac; done </proc/$$/status; \
         }} > {}",
        found.display()
    );
    let hook = stage.hook("hook", &look);
    let origin = app();
    let site = Site::named(NAME).and("*.shop.test").to(&origin);
    let proxy = stage.by(&hook, "", site).environment("TOKEN", "hush").start();
    let root = stage.pebble.issuer();
    for name in [NAME, "www.shop.test"] {
        let client = Client::plain(proxy.https(), name).trusting(root.clone(), name);
        eventually_within(LONG_PATIENCE, "a certificate of the authority", || {
            client.try_connect().is_ok()
        });
    }
    stage.expect_nothing_left();
    assert_eq!(stage.runs(), [PRESENT, PRESENT, CLEANUP, CLEANUP]);
    let found = std::fs::read_to_string(found).unwrap();
    let is_shells = |line: &&str| line.starts_with("PWD=") || line.starts_with("_=");
    let mut lines: Vec<_> = found.lines().filter(|line| !is_shells(line)).collect();
    lines.retain(|line| !["OLDPWD", "SHLVL"].iter().any(|own| line.starts_with(own)));
    let variables: Vec<_> = lines.iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(variables.len(), 5, "{found}");
    assert!(!found.contains("hush") && !found.contains("socket:"), "{found}");
    assert!(found.contains("SigBlk:") && found.contains("0000000000000000"), "{found}");
    assert!(lines.contains(&"/") && lines.contains(&"/dev/null"), "{found}");
}

#[test]
fn a_hook_that_fails_is_told_in_its_own_words() {
    let Some(stage) = Stage::set() else { return };
    let hook = stage
        .hook("hook", "[ $PORTCULLIS_ACTION = present ] && echo 'no such account' >&2 && exit 3");
    let proxy = stage.by(&hook, "", site(&app())).start();
    let words = format!(
        "the hook {} (present) ended with exit status 3; it said: no such account",
        hook.display()
    );
    proxy.expect_words(&words);
    expect_call(&proxy, "no such account");
    let file = proxy.path("portcullis.toml");
    let list = tools::portcullis(&["certs", "list", "-c", file.to_str().unwrap()]);
    assert!(tools::stdout(&list).contains("no such account"), "{}", tools::stdout(&list));
    assert_eq!(stage.runs()[..2], [PRESENT, CLEANUP], "half of it may have been done");
    assert_eq!(stage.pebble.issued(), 0);
}

/// Its children go with it, and what it has written too.
#[test]
fn a_hook_that_hangs_is_ended() {
    let Some(stage) = Stage::set() else { return };
    let pids = stage.path("pids");
    let hang = format!(
        "if [ $PORTCULLIS_ACTION = present ]; then trap '' TERM; sleep 601 & echo $! $$ > {}; \
         echo thinking >&2; sleep 602; fi",
        pids.display()
    );
    let hook = stage.hook("hook", &hang);
    let proxy = stage.by(&hook, ", propagation = '2s'", site(&app())).start();
    proxy.expect_words(
        "did not end within 2s (acme.dns.propagation) and was killed; it said: thinking",
    );
    eventually("the record to be removed", || stage.runs().contains(&CLEANUP.to_owned()));
    let pids = std::fs::read_to_string(pids).unwrap();
    for pid in pids.split_whitespace() {
        // The next try may run already, under other numbers.
        eventually("it to be gone", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.contains(") S") && !stat.contains(") R")
        });
    }
}

#[test]
fn a_hook_that_talks_and_leaves_a_child_behind_works() {
    let Some(stage) = Stage::set() else { return };
    let talk = "head -c 8000000 /dev/zero | tr '\\0' x >&2; head -c 8000000 /dev/zero; \
                setsid sleep 30 & sleep 600 &";
    let hook = stage.hook("hook", talk);
    let proxy = stage.by(&hook, "", site(&app())).start();
    expect_issued(&proxy, &stage.pebble);
    stage.expect_nothing_left();
}

#[test]
fn a_hook_that_a_reload_brings_is_the_one_that_runs() {
    let Some(stage) = Stage::set() else { return };
    let (bad, good) = (stage.hook("bad", "exit 1"), stage.hook("good", "echo good >&2"));
    let origin = app();
    let mut proxy = stage.by(&bad, "", site(&origin)).start();
    proxy.expect_words("ended with exit status 1, and said nothing");
    proxy.rewrite(|setup| setup.acme(&stage.dns(&good, "")));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", tools::stderr(&output));
    expect_issued(&proxy, &stage.pebble);
    stage.expect_nothing_left();
}

/// The new program has a helper of its own.
#[test]
fn an_upgraded_program_runs_its_hook() {
    let Some(stage) = Stage::set() else { return };
    let hook = stage.hook("hook", "");
    let proxy = stage.by(&hook, "", site(&app())).start();
    expect_issued(&proxy, &stage.pebble);
    proxy.upgrade();
    let file = proxy.path("portcullis.toml");
    let file = file.to_str().unwrap();
    let renewed = tools::portcullis(&["certs", "renew", "--force", "-c", file]);
    assert!(renewed.status.success(), "{}", tools::stderr(&renewed));
    eventually_within(LONG_PATIENCE, "a second certificate", || stage.pebble.issued() == 2);
    stage.expect_nothing_left();
    assert_eq!(stage.runs().len(), 4);
}

/// Nobody could be asked whether it is seen, and so it stood there for a while.
#[test]
fn a_record_that_a_kill_has_left_is_taken_away() {
    let Some(stage) = Stage::set() else { return };
    let hook = stage.hook("hook", "");
    let (origin, kept) = (app(), storage());
    let nobody = format!("resolvers = '127.0.0.1:{}'", tools::own_port());
    let setup = |keys: &str| stage.by(&hook, keys, site(&origin)).acme(&kept_in(kept.path()));
    let mut proxy = setup(&nobody).start();
    eventually("the record to be there", || !stage.knot.ask(RECORD, "TXT").is_empty());
    proxy.kill();
    let proxy = setup("").start();
    expect_issued(&proxy, &stage.pebble);
    stage.expect_nothing_left();
    assert_eq!(stage.runs(), [PRESENT, CLEANUP, PRESENT, CLEANUP]);
}

/// The servers that are asked show nothing: the authority is not asked to look.
#[test]
fn a_record_that_is_not_seen_costs_no_attempt() {
    let Some(stage) = Stage::set() else { return };
    let hook = stage.hook("hook", "[ $PORTCULLIS_ACTION = present ] && exit 0");
    let proxy = stage.by(&hook, ", propagation = '1s'", site(&app())).start();
    let place = stage.knot.place();
    proxy.expect_words(&format!("was written, but {place} did not show it within 1s"));
    assert!(!stage.pebble.words().contains("validations"), "{}", stage.pebble.words());
}

#[test]
fn what_is_wrong_with_a_hook_is_found_by_check() {
    let Some(stage) = Stage::set() else { return };
    let hook = stage.hook("hook", "");
    open_to_proxy(&hook, 0o777);
    let setup = stage.by(&hook, "", site(&app()));
    setup.write(stage.folder.path());
    let file = stage.path("portcullis.toml");
    let check = || {
        let output = tools::portcullis(&["check", "-c", file.to_str().unwrap()]);
        (output.status.code(), tools::stdout(&output) + &tools::stderr(&output))
    };
    let (code, told) = check();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("is writable by others, who then say what this program runs"), "{told}");
    open_to_proxy(&hook, 0o644);
    let (code, told) = check();
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("nobody may execute `") && told.contains("chmod a+rx"), "{told}");
    std::fs::remove_file(&hook).unwrap();
    let (_, told) = check();
    assert!(told.contains("there is no file `"), "{told}");
}
