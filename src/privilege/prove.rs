//! What every thread of this process holds, read back from the kernel and held against what was
//! asked for.

use std::fmt;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use ::caps::{CapSet, Capability};
use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

/// What may be held at most: the user, its groups, and of the capability sets the bounding one as
/// far as it could not be emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) bounding: u64,
    /// Whether a filter of system calls is to hold for every thread.
    pub(super) filtered: bool,
}

/// What was read back, at the moment it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Who the process is and how it came to be, in words.
    standing: String,
    threads: Vec<Thread>,
    core_dumps: bool,
    dumpable: bool,
    excess: Vec<String>,
}

/// Of one thread: the lines of `/proc/PID/task/TID/status` (proc_pid_status(5)) that tell of
/// rights.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thread {
    name: String,
    /// Real, effective, saved, and for file systems.
    uids: Vec<u32>,
    gids: Vec<u32>,
    groups: Vec<u32>,
    /// In the order of [`SETS`].
    sets: [u64; 5],
    no_new_privs: bool,
    /// Whether a filter of system calls holds; a kernel that has none does not say.
    filtered: bool,
}

/// The capability sets, with the name of each in `/proc/PID/status` and in words.
const SETS: [(CapSet, &str, &str); 5] = [
    (CapSet::Effective, "CapEff:", "effective"),
    (CapSet::Permitted, "CapPrm:", "permitted"),
    (CapSet::Inheritable, "CapInh:", "inheritable"),
    (CapSet::Ambient, "CapAmb:", "ambient"),
    (CapSet::Bounding, "CapBnd:", "bounding"),
];

/// `SECCOMP_MODE_FILTER` (seccomp(2)).
const FILTER: &str = "2";

/// As many capabilities are told by name; of more, their number.
const FEW: usize = 5;

/// The list of this process's threads. While it is open its place in `/proc` stays the same, which
/// a sandbox by places relies on.
///
/// # Errors
/// When `/proc` is not mounted.
pub(super) fn open_threads() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, "/proc/self/task", flags, Mode::empty())?)
}

/// What is left in the bounding set: from the kernel itself, which may know capabilities that this
/// program does not.
///
/// # Errors
/// When it cannot be read.
pub(super) fn bounding(list: &OwnedFd) -> io::Result<u64> {
    let [.., bounding] = Proof::read(list, String::new(), &Allowed::default())?.union();
    Ok(bounding)
}

impl Proof {
    /// Reads every thread of the list.
    ///
    /// # Errors
    /// When the list or one of the threads cannot be read: what is not known is not proved.
    pub(super) fn read(list: &OwnedFd, standing: String, allowed: &Allowed) -> io::Result<Self> {
        let mut threads = Vec::new();
        for entry in Dir::read_from(list)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            match status(list, &name) {
                Ok(text) => threads.push(Thread::parse(&text).ok_or_else(|| unclear(&name))?),
                // It has ended since it was listed.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let mut proof = Self {
            standing,
            threads,
            core_dumps: getrlimit(Resource::Core).current != Some(0),
            dumpable: dumpable_behavior()? != DumpableBehavior::NotDumpable,
            excess: Vec::new(),
        };
        proof.excess = proof.judge(allowed);
        Ok(proof)
    }

    /// Whether nothing is held that was not asked for.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.excess.is_empty()
    }

    /// Everything that is held and was not asked for, in words.
    #[must_use]
    pub fn excess(&self) -> &[String] {
        &self.excess
    }

    /// How many threads there were.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Each capability set by name with the capabilities that any thread has in it.
    #[must_use]
    pub fn held(&self) -> [(&'static str, Vec<String>); 5] {
        let mut held = self.union().into_iter();
        SETS.map(|(_, _, word)| (word, names(held.next().unwrap_or_default())))
    }

    /// Whether no thread can gain rights by exec.
    #[must_use]
    pub fn no_new_privs(&self) -> bool {
        self.threads.iter().all(|thread| thread.no_new_privs)
    }

    /// Whether the memory of the process, keys among it, could be written to a file in a crash or
    /// be read by other processes of the same user.
    #[must_use]
    pub fn memory_is_open(&self) -> bool {
        self.core_dumps || self.dumpable
    }

    fn union(&self) -> [u64; 5] {
        self.threads.iter().fold([0; 5], |mut all, thread| {
            all.iter_mut().zip(thread.sets).for_each(|(all, one)| *all |= one);
            all
        })
    }

    fn judge(&self, allowed: &Allowed) -> Vec<String> {
        let mut excess = Vec::new();
        if self.threads.is_empty() {
            excess.push("no thread could be read".to_owned());
        }
        for thread in &self.threads {
            thread.judge(allowed, &mut excess);
        }
        if self.core_dumps {
            excess.push("core dumps are allowed (RLIMIT_CORE is not 0)".to_owned());
        }
        if self.dumpable {
            excess.push("the process is dumpable".to_owned());
        }
        excess
    }
}

/// `left root for portcullis (uid 998, gid 998); no capability in any of 5 threads; ...`
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.holds() {
            return write!(
                f,
                "{}; more is held than asked: {}",
                self.standing,
                self.excess.join("; ")
            );
        }
        let threads = match self.threads() {
            1 => "the only thread".to_owned(),
            count => format!("any of {count} threads"),
        };
        write!(f, "{}; no capability in {threads}; no_new_privs; no core dumps", self.standing)?;
        let [.., bounding] = self.union();
        if bounding != 0 {
            f.write_str(
                "; the bounding set could not be emptied, which takes CAP_SETPCAP, and gives nothing \
                 under no_new_privs",
            )?;
        }
        Ok(())
    }
}

impl Thread {
    /// From the text of a `status` file; `None` where a line is missing or makes no sense.
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let numbers = |name: &str| -> Option<Vec<u32>> {
            field(name)?.split_whitespace().map(|word| word.parse().ok()).collect()
        };
        let mut sets = [0; 5];
        for (set, (_, name, _)) in sets.iter_mut().zip(SETS) {
            *set = u64::from_str_radix(field(name)?.trim(), 16).ok()?;
        }
        Some(Self {
            name: field("Name:")?.trim().to_owned(),
            uids: numbers("Uid:")?,
            gids: numbers("Gid:")?,
            groups: numbers("Groups:")?,
            sets,
            no_new_privs: field("NoNewPrivs:")?.trim() == "1",
            filtered: field("Seccomp:").is_some_and(|mode| mode.trim() == FILTER),
        })
    }

    fn judge(&self, allowed: &Allowed, excess: &mut Vec<String>) {
        let mut found = |what: String| excess.push(format!("thread {}: {what}", self.name));
        for ((_, _, word), held) in SETS.into_iter().zip(self.sets) {
            let more = if word == "bounding" { held & !allowed.bounding } else { held };
            if more != 0 {
                let held = match names(more) {
                    many if many.len() > FEW => format!("{} capabilities", many.len()),
                    few => few.join(", "),
                };
                found(format!("{held} in the {word} set"));
            }
        }
        if self.uids.iter().any(|uid| *uid != allowed.uid) || self.uids.is_empty() {
            found(format!("user ids {:?} instead of {}", self.uids, allowed.uid));
        }
        if self.gids.iter().any(|gid| *gid != allowed.gid) || self.gids.is_empty() {
            found(format!("group ids {:?} instead of {}", self.gids, allowed.gid));
        }
        if self.groups.iter().any(|gid| !allowed.groups.contains(gid)) {
            found(format!(
                "supplementary groups {:?} instead of {:?}",
                self.groups, allowed.groups
            ));
        }
        if !self.no_new_privs {
            found("no_new_privs is not set".to_owned());
        }
        if allowed.filtered && !self.filtered {
            found(
                "no filter of system calls, though the kernel said that the sandbox's holds"
                    .to_owned(),
            );
        }
    }
}

fn status(list: &OwnedFd, thread: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(list, format!("{thread}/status"), flags, Mode::empty())?;
    let mut text = String::new();
    std::fs::File::from(file).read_to_string(&mut text)?;
    Ok(text)
}

fn is_gone(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH))
}

fn unclear(thread: &str) -> io::Error {
    io::Error::other(format!("/proc/self/task/{thread}/status does not tell what it should"))
}

/// The capabilities of a set by name; one that is newer than this program by its number.
pub(super) fn names(set: u64) -> Vec<String> {
    let known = ::caps::all();
    let name = |bit: u32| {
        let known =
            known.iter().find(|capability: &&Capability| u32::from(capability.index()) == bit);
        known.map_or_else(|| format!("capability {bit}"), ToString::to_string)
    };
    (0..u64::BITS).filter(|bit| set & (1 << bit) != 0).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tworker 0\nUmask:\t0022\nUid:\t998\t998\t998\t998\n\
        Gid:\t998\t998\t998\t998\nGroups:\t998 42 \nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
        CapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";

    fn allowed() -> Allowed {
        let groups = vec![42, 998];
        Allowed { uid: 998, gid: 998, groups, bounding: 0, filtered: false }
    }

    /// What is wrong with one thread of which this was read.
    fn excess(status: &str, allowed: &Allowed) -> Vec<String> {
        let mut excess = Vec::new();
        Thread::parse(status).unwrap().judge(allowed, &mut excess);
        excess
    }

    fn proof(threads: &[&str]) -> Proof {
        let mut proof = Proof {
            standing: "left root for portcullis (uid 998, gid 998)".to_owned(),
            threads: threads.iter().map(|status| Thread::parse(status).unwrap()).collect(),
            core_dumps: false,
            dumpable: false,
            excess: Vec::new(),
        };
        proof.excess = proof.judge(&allowed());
        proof
    }

    #[test]
    fn everything_beyond_what_is_allowed_is_named() {
        assert_eq!(excess(STATUS, &allowed()), [""; 0]);
        let bind = "0000000000000400";
        for (old, new, word) in [
            ("CapEff:\t0000000000000000", format!("CapEff:\t{bind}"), "the effective set"),
            ("CapPrm:\t0000000000000000", format!("CapPrm:\t{bind}"), "CAP_NET_BIND_SERVICE"),
            ("CapInh:\t0000000000000000", format!("CapInh:\t{bind}"), "the inheritable set"),
            ("CapAmb:\t0000000000000000", format!("CapAmb:\t{bind}"), "the ambient set"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t8000000000000000".into(), "capability 63"),
            ("Uid:\t998\t998\t998", "Uid:\t998\t998\t0".into(), "user ids [998, 998, 0, 998]"),
            ("Gid:\t998", "Gid:\t0".into(), "group ids [0, 998"),
            ("998 42", "998 0".into(), "supplementary groups [998, 0]"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0".into(), "no_new_privs"),
        ] {
            let status = STATUS.replace(old, &new);
            assert_ne!(status, STATUS);
            let excess = excess(&status, &allowed());
            assert_eq!(excess.len(), 1, "{excess:?}");
            assert!(excess[0].contains(word), "{excess:?}");
            assert!(excess[0].starts_with("thread worker 0: "), "{excess:?}");
        }
    }

    #[test]
    fn a_bounding_set_that_could_not_be_emptied_may_not_grow() {
        let status = STATUS.replace("CapBnd:\t0000000000000000", "CapBnd:\t0000000000000401");
        let mut allowed = Allowed { bounding: 0x401, ..allowed() };
        assert_eq!(excess(&status, &allowed), [""; 0]);
        allowed.bounding = 0x400;
        assert_eq!(excess(&status, &allowed), ["thread worker 0: CAP_CHOWN in the bounding set"]);
    }

    /// It was believed that a filter holds once the kernel had said so.
    #[test]
    fn a_filter_that_was_installed_has_to_show() {
        let closed = Allowed { filtered: true, ..allowed() };
        let with = |mode: &str| format!("{STATUS}Seccomp:\t{mode}\nSeccomp_filters:\t1\n");
        assert_eq!(excess(&with("2"), &closed), [""; 0]);
        for status in [&with("0"), &with("1"), STATUS] {
            let excess = excess(status, &closed);
            assert!(excess.len() == 1 && excess[0].contains("no filter"), "{excess:?}");
        }
        assert_eq!(excess(&with("0"), &allowed()), [""; 0]);
    }

    #[test]
    fn what_cannot_be_understood_proves_nothing() {
        for line in STATUS.lines().filter(|line| !line.starts_with("Umask")) {
            let status = STATUS.replace(&format!("{line}\n"), "");
            assert!(Thread::parse(&status).is_none(), "without {line}");
        }
        assert!(Thread::parse(&STATUS.replace("CapEff:\t0", "CapEff:\tx")).is_none());
        assert!(!proof(&[]).holds());
    }

    #[test]
    fn the_proof_reads_as_one_line() {
        assert_eq!(
            proof(&[STATUS, STATUS]).to_string(),
            "left root for portcullis (uid 998, gid 998); no capability in any of 2 threads; \
             no_new_privs; no core dumps"
        );
        let one = STATUS.replace("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000001");
        let proof = proof(&[STATUS, &one]);
        assert!(!proof.holds());
        assert_eq!(proof.held()[1], ("permitted", vec!["CAP_CHOWN".to_owned()]));
        assert!(proof.to_string().contains("more is held than asked: thread worker 0: CAP_CHOWN"));
    }

    /// Every thread is read, also one that came after the list was opened.
    #[test]
    fn the_threads_of_this_process_are_found() {
        let list = open_threads().unwrap();
        let (end, when_ended) = std::sync::mpsc::channel::<()>();
        let (there, when_there) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("stands-by".to_owned());
        let thread = thread.spawn(move || {
            // It names itself before this.
            there.send(()).unwrap();
            when_ended.recv()
        });
        when_there.recv().unwrap();
        let proof = Proof::read(&list, String::new(), &Allowed::default()).unwrap();
        assert!(proof.threads.iter().any(|thread| thread.name == "stands-by"));
        assert!(!proof.holds(), "a test process forbids itself nothing");
        drop(end);
        let _ = thread.unwrap().join();
    }
}
