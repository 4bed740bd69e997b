//! Which system calls the program may make: seccomp.
//!
//! What is not listed fails with EPERM. It does not kill, for three reasons: the server goes on
//! serving whatever a new version of a library tries; the failure shows, in the log or in the error
//! of whoever called; and to somebody who broke in a call that fails is worth no more than a dead
//! process, which a supervisor would start again for another attempt.
//!
//! Among what is missing: `execve` and everything else that makes a process; `ptrace`,
//! `process_vm_readv` and `pidfd_open`; mounts, namespaces, `chroot`; `bpf`, `keyctl`, `io_uring`,
//! `userfaultfd`, `perf_event_open`, modules, `kexec`; every change of user, group or capability;
//! and what changes files by path where Landlock does not see it (`chmod`, `chown`, `setxattr`).
//!
//! The kernel remembers which calls are allowed whatever their arguments (Linux 5.11) and asks the
//! filter about the others only. Of the calls that carry a request's bytes those that send to a
//! socket have a rule, because with one flag they connect too; reading, and writing in several
//! pieces, have none.

mod list;
mod rules;

use std::collections::BTreeMap;
use std::fmt;

use libc::c_long;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, apply_filter};

/// What depends on the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calls {
    /// Whether names are looked up: that takes datagrams to name servers, the kernel's list of
    /// addresses, and libraries that the C library loads.
    pub(super) names: bool,
    /// Whether new listeners are made here, because no helper makes them. On a socket without an
    /// address `listen` takes any free port, past what Landlock says to bind(2).
    pub(super) listens: bool,
}

/// From a call's number to the rules of which one has to hold; without any it is always allowed.
type List = BTreeMap<c_long, Vec<SeccompRule>>;

impl Calls {
    /// Shuts this thread and those that it will make off from all other calls, for good. Returns
    /// how many are left.
    ///
    /// # Errors
    /// What the kernel or the processor lacks, in words.
    pub(super) fn close(self) -> Result<usize, String> {
        let told = |error: &dyn fmt::Display| format!("system calls are not limited: {error}");
        let mut allowed = self.allowed().map_err(|error| told(&error))?;
        let count = allowed.len();
        let unknown: List = list::unknown().map(|call| (call, Vec::new())).collect();
        // Of two filters the stricter answer counts, and of equal ones that of the newer filter:
        // so the newer one allows what the older one denies in its own way.
        allowed.extend(unknown.clone());
        let (allow, lacking) = (SeccompAction::Allow, SeccompAction::Errno(errno(libc::ENOSYS)));
        let older = program(unknown, allow.clone(), lacking)?;
        let newer = program(allowed, SeccompAction::Errno(errno(libc::EPERM)), allow)?;
        apply_filter(&older).map_err(|error| told(&error))?;
        apply_filter(&newer).map_err(|error| told(&error))?;
        Ok(count)
    }

    fn allowed(self) -> Result<List, seccompiler::BackendError> {
        let plain = list::PLAIN.iter().copied().flatten();
        let mut allowed: List = plain.map(|call| (*call, Vec::new())).collect();
        allowed.extend(rules::checked(self.names)?);
        allowed.extend(self.listens.then(|| (libc::SYS_listen, Vec::new())));
        Ok(allowed)
    }
}

/// The program that the kernel runs; `otherwise` is its answer to what is not in the list.
fn program(
    list: List,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, String> {
    let compile = || {
        let processor = std::env::consts::ARCH.try_into()?;
        BpfProgram::try_from(SeccompFilter::new(list, otherwise, listed, processor)?)
    };
    compile().map_err(|error: seccompiler::BackendError| {
        format!("system calls are not limited on this processor: {error}")
    })
}

/// An error number as a filter returns it.
fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_and_waiting_is_never_asked_about() {
        let allowed = Calls { names: false, listens: true }.allowed().unwrap();
        for call in [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_writev,
            libc::SYS_recvfrom,
            libc::SYS_epoll_ctl,
            libc::SYS_accept4,
            libc::SYS_close,
            libc::SYS_futex,
        ] {
            assert_eq!(allowed.get(&call), Some(&Vec::new()), "{call}");
        }
    }

    /// Each of them connects where a flag says so.
    #[test]
    fn what_sends_to_a_socket_has_a_rule() {
        let allowed = Calls { names: true, listens: false }.allowed().unwrap();
        for call in [libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg] {
            assert!(allowed.get(&call).is_some_and(|rules| rules.len() == 1), "{call}");
        }
    }

    #[test]
    fn what_makes_processes_or_rights_is_not_in_the_list() {
        let allowed = Calls { names: true, listens: false }.allowed().unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_pidfd_open,
            libc::SYS_mount,
            libc::SYS_move_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_chroot,
            libc::SYS_pivot_root,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_personality,
            libc::SYS_setuid,
            libc::SYS_setresuid,
            libc::SYS_setgroups,
            libc::SYS_capset,
            libc::SYS_memfd_create,
            libc::SYS_fchmodat,
            libc::SYS_fchownat,
            libc::SYS_setxattr,
            libc::SYS_linkat,
            libc::SYS_listen,
            libc::SYS_seccomp,
            libc::SYS_landlock_restrict_self,
        ] {
            assert!(!allowed.contains_key(&call), "{call}");
        }
    }

    #[test]
    fn the_programs_are_within_the_kernel_s_bounds() {
        let allowed = Calls { names: true, listens: false }.allowed().unwrap();
        let program = program(allowed, SeccompAction::Errno(1), SeccompAction::Allow).unwrap();
        assert!(program.len() < 2048, "{}", program.len());
    }
}
