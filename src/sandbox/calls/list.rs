//! The system calls that a serving process makes, by purpose, whatever their arguments.
//!
//! Found by tracing the program over its whole life, and completed by what the C libraries call in
//! their place on other kernels. What is missing on purpose stands in the module above.

use libc::c_long;

/// Allowed with any argument.
pub(super) const PLAIN: &[&[c_long]] =
    &[BYTES, SOCKETS, WAITING, FILES, MEMORY, THREADS, SIGNALS, TIME, WHO_WE_ARE, OLD_NAMES, LIBC];

/// Newer than what the C libraries need, or replaced by something older that is checked. They are
/// told that the kernel lacks these and go another way; EPERM would be taken as final.
///
/// `clone3` hides its flags in memory, where a filter cannot look. 452 is `fchmodat2`, and from 463
/// on is what was not there yet when this list was written.
pub(super) fn unknown() -> impl Iterator<Item = c_long> {
    [libc::SYS_clone3, libc::SYS_openat2, 452, libc::SYS_mseal].into_iter().chain(463..512)
}

/// Reading and writing what is open.
const BYTES: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_pipe2,
];

const SOCKETS: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_accept,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_shutdown,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
];

const WAITING: &[c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
];

/// Landlock limits where these reach. Modes, owners and times of files by path are missing, because
/// it does not limit those; here they take an open file.
const FILES: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fstatfs,
    // Which files change: names and times of what may be listed, and nothing of what is in it.
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
];

const MEMORY: &[c_long] =
    &[libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_getrandom];

const THREADS: &[c_long] = &[
    libc::SYS_gettid,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // How a process ended that was started before the list held.
    libc::SYS_wait4,
    libc::SYS_waitid,
];

const SIGNALS: &[c_long] = &[
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
];

/// Where the clock is not read without a call.
const TIME: &[c_long] = &[libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_gettimeofday];

/// Questions about this process and this host, and no change.
const WHO_WE_ARE: &[c_long] = &[
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_sysinfo,
];

/// What tables of newer processors have no longer.
#[cfg(target_arch = "x86_64")]
const OLD_NAMES: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_getrlimit,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_time,
];
/// `renameat` and `getrlimit` of the generic table, which not every library's list of names has.
#[cfg(not(target_arch = "x86_64"))]
const OLD_NAMES: &[c_long] = &[38, 163];

/// How musl raises a signal in the thread that it is in, `abort` counted.
#[cfg(target_env = "musl")]
const LIBC: &[c_long] = &[libc::SYS_tkill];
#[cfg(not(target_env = "musl"))]
const LIBC: &[c_long] = &[];
