//! What another user may do with a file, tried as that user: modes, access lists and security
//! modules all have their say.

use std::ffi::CString;
use std::path::Path;
use std::thread;

use nix::unistd::getgrouplist;
use rustix::fs::{Access, AtFlags, CWD, Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::privilege::identity::Identity;
use crate::tls::storage;

/// Does `look` as this user, or as this process where there is none. `None` where the kernel does
/// not let it.
pub(super) fn as_user<T: Send>(
    user: Option<&Identity>,
    look: impl FnOnce() -> T + Send,
) -> Option<T> {
    let Some(user) = user else { return Some(look()) };
    // Credentials belong to a thread, and this one ends with what it has become.
    let there = || {
        become_user(user).ok()?;
        Some(look())
    };
    thread::scope(|scope| scope.spawn(there).join().ok().flatten())
}

fn become_user(user: &Identity) -> rustix::io::Result<()> {
    let name = CString::new(user.name.as_str()).unwrap_or_default();
    let groups = getgrouplist(&name, user.gid.into()).unwrap_or_default();
    let groups: Vec<Gid> = groups.into_iter().map(|gid| Gid::from_raw(gid.as_raw())).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// Whether a file may be read.
pub(super) fn may_read(file: &Path) -> bool {
    may(file, Access::READ_OK)
}

/// Whether a file may be written, or made where it is missing.
pub(super) fn may_write(file: &Path) -> bool {
    match file.parent().filter(|_| !file.exists()) {
        Some(folder) => may(folder, Access::WRITE_OK | Access::EXEC_OK),
        None => may(file, Access::WRITE_OK),
    }
}

/// Whether a folder may be written, or made where it is missing.
pub(super) fn may_write_in(folder: &Path) -> bool {
    storage::writable(folder)
}

fn may(path: &Path, access: Access) -> bool {
    rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}
