//! The part that Landlock closes: files, TCP ports, signals and abstract sockets.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
};

use super::Closed;
use super::files::Grants;
use super::needs::Needs;
use super::system::RESOLV_CONF;

/// The newest interface whose rights are asked for: those were tried. Later ones would limit
/// datagrams and unix sockets by path.
const NEWEST: ABI = ABI::V6;

/// Closes it around this thread and those that it will make, as far as the kernel can.
pub(super) fn close(needs: &Needs) -> Result<Closed, RulesetError> {
    let mut grants = Grants::of(needs);
    let opened = grants.open();
    let mut scope = BitFlags::from(Scope::Signal);
    if !needs.abstract_sockets {
        scope |= Scope::AbstractUnixSocket;
    }
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(scope)?
        .create()?
        .no_new_privs(true);
    if needs.abstract_sockets {
        let text = "abstract unix sockets are not limited, because NOTIFY_SOCKET is one";
        grants.notes.push(text.to_owned());
    }
    let mut held = Vec::new();
    for opened in opened {
        rules = rules.add_rule(PathBeneath::new(&opened.fd, opened.rights))?;
        if opened.is_fleeting {
            held.push(opened.fd);
        }
    }
    for port in needs.bind.keys() {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    for port in needs.connect.keys() {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    let status = rules.restrict_self()?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => ABI::Unsupported,
    };
    Ok(describe(needs, grants, held, abi, status.landlock))
}

/// Whether what is not among `reads` can be listed all the same: the root folder, which is too
/// broad for any configuration. Where this user may not do it anyway, nothing is shown.
pub(super) fn is_open(reads: &[String]) -> bool {
    !reads.iter().any(|path| path == "/") && std::fs::read_dir("/").is_ok()
}

fn describe(
    needs: &Needs,
    mut grants: Grants,
    held: Vec<landlock::PathFd>,
    abi: ABI,
    status: LandlockStatus,
) -> Closed {
    let shown = |wanted: BitFlags<AccessFs>| {
        let paths = grants.paths.iter().filter(|(_, rights)| rights.intersects(wanted));
        paths.map(|(path, _)| path.display().to_string()).collect()
    };
    let version = match status {
        LandlockStatus::Available { kernel_abi: Some(newer), .. } => u32::try_from(newer).ok(),
        LandlockStatus::Available { effective_abi, .. } => Some(effective_abi as u32),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    };
    Closed {
        landlock: version,
        files: abi >= ABI::V1,
        ports: abi >= ABI::V4,
        reads: shown(AccessFs::ReadFile | AccessFs::ReadDir),
        writes: shown(AccessFs::WriteFile | AccessFs::RemoveFile),
        binds: needs.bind.keys().copied().collect(),
        connects: needs.connect.keys().copied().collect(),
        names: needs.names.is_some(),
        missing: missing(abi, status),
        notes: std::mem::take(&mut grants.notes),
        watched: needs.places.iter().find(|place| place.path == Path::new(RESOLV_CONF)).cloned(),
        grants,
        _held: held,
        ..Closed::default()
    }
}

/// What a kernel of this interface cannot limit.
fn missing(abi: ABI, status: LandlockStatus) -> Vec<String> {
    let lacks = match status {
        LandlockStatus::NotImplemented => {
            "files and ports are not limited: this kernel has no Landlock (Linux 5.13, built with \
             CONFIG_SECURITY_LANDLOCK), or a filter of system calls that was there before (of a \
             container, or a unit's SystemCallFilter) refuses it"
        }
        LandlockStatus::NotEnabled => {
            "files and ports are not limited: Landlock is switched off in this kernel (put \
             `landlock` into the list after `lsm=` on its command line)"
        }
        LandlockStatus::Available { .. } => "",
    };
    let mut missing: Vec<String> =
        Some(lacks.to_owned()).into_iter().filter(|lacks| !lacks.is_empty()).collect();
    if !missing.is_empty() {
        return missing;
    }
    let since = [
        (
            ABI::V3,
            "files below a writable folder can be truncated in any way (Linux 6.2 limits it)",
        ),
        (ABI::V4, "TCP ports are not limited (Linux 6.7 can)"),
        (ABI::V5, "commands to devices are not limited (Linux 6.10 can)"),
        (ABI::V6, "signals and abstract unix sockets are not limited (Linux 6.12 can)"),
    ];
    missing.extend(
        since.into_iter().filter(|(least, _)| abi < *least).map(|(_, text)| text.to_owned()),
    );
    missing
}
