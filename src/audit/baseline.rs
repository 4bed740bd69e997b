//! A saved state of the listeners, and what is different now.

mod blurred;
mod pairs;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use blurred::Sides;

use super::inventory::{Exposure, Holder, Listener, Passage, Protocol};

/// What a file of a former report says: any that `--save` or `--json` wrote.
#[derive(Clone, Debug, Deserialize)]
pub struct Baseline {
    /// Of the report's form.
    pub version: u32,
    /// What listened then.
    pub listeners: Vec<Listener>,
}

/// The form that is written and understood.
pub const VERSION: u32 = 1;

/// A report of some hundred thousand listeners, in bytes.
const LONGEST: u64 = 64 << 20;

/// What is different from a baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Comparison {
    /// What listens now and did not then.
    pub new: Vec<Listener>,
    /// What listened then and does not now.
    pub gone: Vec<Listener>,
    /// What listens now as then, but is not the same.
    pub changed: Vec<Change>,
}

/// A listener that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The network namespace; `None` is this one.
    pub namespace: Option<String>,
    /// What changed, such as `user: www-data, was root`.
    pub what: Vec<String>,
}

impl Baseline {
    /// Reads a report.
    ///
    /// # Errors
    /// When the file cannot be read, is no report, or is one of another version; without reading
    /// on when it is no regular file or longer than 64 MiB.
    pub fn load(file: &Path) -> io::Result<Self> {
        let invalid = |why: String| io::Error::new(ErrorKind::InvalidData, why);
        // A pipe without a writer must not keep its opener waiting; of a regular file it says
        // nothing.
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let open = fs::OpenOptions::new().read(true).custom_flags(nonblock).open(file)?;
        if !open.metadata()?.is_file() {
            return Err(invalid("it is no regular file".to_owned()));
        }
        let mut text = Vec::new();
        open.take(LONGEST + 1).read_to_end(&mut text)?;
        if text.len() as u64 > LONGEST {
            return Err(invalid("it is longer than 64 MiB, which no report is".to_owned()));
        }
        let baseline: Self = serde_json::from_slice(&text).map_err(|error| {
            invalid(format!("this is no report that `audit --save` wrote: {error}"))
        })?;
        if baseline.version != VERSION {
            let found = baseline.version;
            return Err(invalid(format!("a report of version {found}, not {VERSION}")));
        }
        Ok(baseline)
    }

    /// What is different now.
    #[must_use]
    pub fn compare(&self, now: &[Listener]) -> Comparison {
        let mut comparison = Comparison::default();
        let Sides { sharp: [then, now], blurred } = Sides::of(&self.listeners, now);
        let mut seen = vec![false; then.len()];
        for (listener, index) in now.iter().zip(pairs::pairs(&then, &now)) {
            let Some((index, old)) = index.and_then(|at| Some((at, then.get(at)?))) else {
                comparison.new.push(Listener::clone(listener));
                continue;
            };
            seen.get_mut(index).into_iter().for_each(|seen| *seen = true);
            comparison.changed.extend(Change::between(old, listener));
        }
        let unseen = then.iter().zip(&seen).filter(|(_, seen)| !**seen);
        comparison.gone = unseen.map(|(old, _)| Listener::clone(old)).collect();
        let changes = blurred.iter().filter_map(|[old, new]| Change::between(old, new));
        comparison.changed.extend(changes);
        comparison
    }
}

impl Change {
    /// `None` when they are the same.
    fn between(old: &Listener, new: &Listener) -> Option<Self> {
        let what = differences(old, new);
        let namespace = new.namespace.clone();
        let change = Self { port: new.port, protocol: new.protocol, namespace, what };
        (!change.what.is_empty()).then_some(change)
    }
}

impl Comparison {
    /// Whether nothing is different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty() && self.changed.is_empty()
    }
}

/// Puts `text` in the place of `file`, whole or not at all, readable for its owner only: it says
/// much about the host.
///
/// # Errors
/// When the folder may not be written.
pub fn save(file: &Path, text: &str) -> io::Result<()> {
    let name = file.file_name().ok_or(ErrorKind::InvalidInput)?;
    // A device or a link that is renamed over is gone for everybody.
    if fs::symlink_metadata(file).is_ok_and(|there| !there.is_file()) {
        let why = "something that is no regular file stands there, and is left alone";
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    let temporary = file.with_file_name(format!(".{}.new", name.to_string_lossy()));
    let _ = fs::remove_file(&temporary);
    let mut new =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = new.write_all(text.as_bytes()).and_then(|()| new.sync_all());
    written.and_then(|()| fs::rename(&temporary, file)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

fn program(holder: &Holder) -> String {
    holder.exe.as_ref().map_or_else(|| holder.comm.clone(), |exe| exe.display().to_string())
}

fn differences(old: &Listener, new: &Listener) -> Vec<String> {
    let mut what = Vec::new();
    let mut compare = |name: &str, old: String, new: String| {
        if old != new {
            what.push(format!("{name}: {new}, was {old}"));
        }
    };
    compare("exposure", exposure(old), exposure(new));
    let addresses = |listener: &Listener| {
        let mut all: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
        all.sort();
        all.join(", ")
    };
    compare("addresses", addresses(old), addresses(new));
    // Not everybody may read the rules.
    if let (Some(old), Some(new)) = (&old.firewall, &new.firewall) {
        compare("firewall", passage(old.passage), passage(new.passage));
    }
    // Who may not look now, or could not then, has nothing to compare.
    if let (Some(old), Some(new)) = (&old.holder, &new.holder) {
        let known = |word: &Option<String>| word.clone().unwrap_or_else(|| "none".to_owned());
        if old.exe.is_some() == new.exe.is_some() {
            compare("program", program(old), program(new));
        }
        compare("user", old.user.clone(), new.user.clone());
        compare("unit", known(&old.unit), known(&new.unit));
        compare("package", known(&old.package), known(&new.package));
        compare("capabilities", old.capabilities.join(" "), new.capabilities.join(" "));
    }
    what
}

fn exposure(listener: &Listener) -> String {
    let word = match listener.exposure {
        Exposure::Loopback => "loopback",
        Exposure::Private => "private",
        Exposure::Public => "public",
    };
    word.to_owned()
}

fn passage(passage: Passage) -> String {
    let word = match passage {
        Passage::Closed => "closed",
        Passage::Partly => "open to some",
        Passage::Forwarded => "forwarded",
        Passage::Open => "open",
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As root, a baseline saved to `/dev/full` took the place of the device.
    #[test]
    fn what_is_no_regular_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for place in [link.as_path(), folder.path()] {
            assert_eq!(save(place, "text").unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
        save(&target, "text").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "text");
    }

    use crate::audit::verdict::testing::{held, holder, local, root, tcp, udp};

    fn baseline(listeners: Vec<Listener>) -> Baseline {
        Baseline { version: VERSION, listeners }
    }

    #[test]
    fn what_is_new_gone_and_changed_is_told_apart() {
        let then = baseline(vec![tcp(22), held(tcp(80), root("nginx")), tcp(25)]);
        let now = [tcp(22), held(tcp(80), holder("nginx")), tcp(6379)];
        let found = then.compare(&now);
        assert_eq!(found.new, [tcp(6379)]);
        assert_eq!(found.gone, [tcp(25)]);
        assert_eq!(found.changed.len(), 1);
        assert!(found.changed[0].what.contains(&"user: nginx, was root".to_owned()));
        assert!(then.compare(&then.listeners).is_empty());
    }

    #[test]
    fn a_listener_that_opens_up_is_changed() {
        let found = baseline(vec![local(8080)]).compare(&[tcp(8080)]);
        assert!(found.changed[0].what[0].contains("exposure: public, was loopback"), "{found:?}");
        assert!(found.new.is_empty() && found.gone.is_empty());
    }

    #[test]
    fn a_restart_and_another_port_by_chance_are_no_change() {
        let mut again = holder("named");
        again.pid = 99;
        let then = baseline(vec![held(udp(40000), holder("named"))]);
        assert!(then.compare(&[held(udp(50001), again)]).is_empty());
        assert!(!then.compare(&[held(udp(50001), holder("other"))]).is_empty());
        assert!(!then.compare(&[held(udp(53), holder("named"))]).is_empty());
    }

    #[test]
    fn a_further_port_by_chance_is_new_however_many_the_program_had() {
        let then = baseline(vec![held(udp(40000), holder("named"))]);
        let now = [50001, 40000, 50002].map(|port| held(udp(port), holder("named")));
        let found = then.compare(&now);
        assert_eq!(found.new, [now[0].clone(), now[2].clone()]);
        assert!(found.gone.is_empty() && found.changed.is_empty(), "{found:?}");
        assert_eq!(baseline(now.to_vec()).compare(&then.listeners).gone.len(), 2);
    }

    #[test]
    fn who_sees_less_than_the_one_that_saved_finds_the_same_listeners() {
        let six = Listener { addresses: vec!["::".parse().unwrap()], ..tcp(80) };
        let as_root = [
            held(udp(40000), holder("named")),
            held(tcp(80), holder("nginx")),
            held(six.clone(), holder("apache2")),
        ];
        let both = [tcp(80).addresses, six.addresses].concat();
        let as_another = [udp(40000), Listener { addresses: both, ..tcp(80) }];
        for (then, now) in [(&as_root[..], &as_another[..]), (&as_another, &as_root)] {
            let found = baseline(then.to_vec()).compare(now);
            assert!(found.is_empty(), "{found:?}");
        }
        let found = baseline(as_root.to_vec()).compare(&[udp(40001)]);
        assert_eq!((found.new.len(), found.gone.len()), (1, 3));
    }

    #[test]
    fn what_is_no_file_or_far_too_long_is_not_read() {
        let why = |file: &Path| Baseline::load(file).unwrap_err().to_string();
        for endless in ["/dev/zero", "/dev/null", "/"] {
            assert!(why(Path::new(endless)).contains("no regular file"), "{endless}");
        }
        let long = tempfile::NamedTempFile::new().unwrap();
        long.as_file().set_len(LONGEST + 1).unwrap();
        assert!(why(long.path()).contains("longer than 64 MiB"));
    }

    #[test]
    fn what_is_saved_is_whole_and_for_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("baseline.json");
        for text in ["{\"version\": 1, \"listeners\": []}", "{\"version\": 9, \"listeners\": []}"] {
            save(&file, text).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Baseline::load(&file).unwrap_err().to_string().contains("version 9"));
        save(&file, "[]").unwrap();
        assert!(Baseline::load(&file).unwrap_err().to_string().contains("no report"));
    }
}
