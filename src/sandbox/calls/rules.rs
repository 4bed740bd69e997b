//! The system calls whose arguments are looked at.

use std::process;

use libc::{c_int, c_long};
use seccompiler::{
    BackendError, SeccompCmpArgLen as Length, SeccompCmpOp as Compare,
    SeccompCondition as Condition, SeccompRule as Rule,
};

type Checked = Vec<(c_long, Vec<Rule>)>;

/// The calls and the rules of which one has to hold for each; `names` is whether names are looked
/// up.
pub(super) fn checked(names: bool) -> Result<Checked, BackendError> {
    let us = process::id();
    Ok(vec![
        // Threads of this process, and nothing else: no process, no new namespace.
        (libc::SYS_clone, all_of(&[masked(0, THREAD | NAMESPACES, THREAD)?])?),
        (libc::SYS_kill, all_of(&[is(0, us)?])?),
        (libc::SYS_tgkill, all_of(&[is(0, us)?])?),
        (libc::SYS_socket, sockets(names)?),
        // Pairs for signals that arrive, as the runtime makes them.
        (libc::SYS_socketpair, all_of(&[is(0, bits(libc::AF_UNIX))?])?),
        (libc::SYS_setsockopt, options()?),
        (libc::SYS_sendto, all_of(&[without(3, CONNECTS)?])?),
        (libc::SYS_sendmsg, all_of(&[without(2, CONNECTS)?])?),
        (libc::SYS_sendmmsg, all_of(&[without(3, CONNECTS)?])?),
        (libc::SYS_ioctl, one_of(1, IOCTLS.iter().copied())?),
        (libc::SYS_prctl, prctls()?),
        // The limits of this process only.
        (libc::SYS_prlimit64, all_of(&[is(0, 0)?])?),
        // A thread's own priority: handshakes yield to those who are served.
        (libc::SYS_setpriority, all_of(&[is(0, 0)?, is(1, 0)?])?),
        (libc::SYS_mmap, mappings(names)?),
        (libc::SYS_mprotect, all_of(&[without(2, libc::PROT_EXEC)?])?),
    ])
}

const THREAD: u32 = libc::CLONE_THREAD.cast_unsigned();
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();

/// TCP, applications' unix sockets and, for names, what the resolver of the C library opens. Other
/// protocols of the same families (MPTCP, SCTP, ICMP) would get past Landlock's ports.
fn sockets(names: bool) -> Result<Vec<Rule>, BackendError> {
    let mut rules = all_of(&[is(0, bits(libc::AF_UNIX))?, is(2, 0)?])?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [0, libc::IPPROTO_TCP] {
            let stream = masked(1, TYPE, bits(libc::SOCK_STREAM))?;
            rules.extend(all_of(&[is(0, bits(family))?, is(2, bits(protocol))?, stream])?);
        }
        for protocol in [0, libc::IPPROTO_UDP].into_iter().filter(|_| names) {
            let datagram = masked(1, TYPE, bits(libc::SOCK_DGRAM))?;
            rules.extend(all_of(&[is(0, bits(family))?, is(2, bits(protocol))?, datagram])?);
        }
    }
    if names {
        let routes = is(2, bits(libc::NETLINK_ROUTE))?;
        rules.extend(all_of(&[is(0, bits(libc::AF_NETLINK))?, routes])?);
    }
    Ok(rules)
}

/// With this flag a call that sends connects first, past what Landlock says to connect(2).
const CONNECTS: c_int = libc::MSG_FASTOPEN;

/// The type of a socket without its flags.
const TYPE: u32 = 0xf;

/// The first ones are set on every connection.
const OPTIONS: &[(c_int, c_int)] = &[
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    // It only ever takes connections away from a socket.
    (libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX),
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
];

fn options() -> Result<Vec<Rule>, BackendError> {
    let rule =
        |&(level, name): &(c_int, c_int)| Rule::new(vec![is(2, bits(name))?, is(1, bits(level))?]);
    OPTIONS.iter().map(rule).collect()
}

/// Blocking or not, closed on exec, and what a terminal is. The numbers are those of the generic
/// table, which all processors here share.
const IOCTLS: &[u32] = &[
    0x5421, // FIONBIO
    0x5451, // FIOCLEX
    0x541b, // FIONREAD
    0x5401, // TCGETS
    0x5413, // TIOCGWINSZ
];

/// Names of threads and mappings, and questions.
fn prctls() -> Result<Vec<Rule>, BackendError> {
    let plain = [
        libc::PR_SET_NAME,
        libc::PR_GET_NAME,
        libc::PR_SET_VMA,
        libc::PR_GET_DUMPABLE,
        libc::PR_GET_NO_NEW_PRIVS,
        libc::PR_GET_SECCOMP,
        libc::PR_GET_SECUREBITS,
        libc::PR_CAPBSET_READ,
    ];
    let mut rules = one_of(0, plain.into_iter().map(bits))?;
    let question = is(1, bits(libc::PR_CAP_AMBIENT_IS_SET))?;
    rules.extend(all_of(&[is(0, bits(libc::PR_CAP_AMBIENT))?, question])?);
    Ok(rules)
}

/// Nothing is executable that may be written. New code comes from files alone, and only where the C
/// library has to load the libraries with which it looks up names.
fn mappings(names: bool) -> Result<Vec<Rule>, BackendError> {
    let mut rules = all_of(&[without(2, libc::PROT_EXEC)?])?;
    if names && !cfg!(target_env = "musl") {
        rules.extend(all_of(&[without(2, libc::PROT_WRITE)?, without(3, libc::MAP_ANONYMOUS)?])?);
    }
    Ok(rules)
}

/// One rule, all conditions of which have to hold.
fn all_of(conditions: &[Condition]) -> Result<Vec<Rule>, BackendError> {
    Ok(vec![Rule::new(conditions.to_vec())?])
}

/// A rule for each value that the argument may have.
fn one_of(argument: u8, values: impl Iterator<Item = u32>) -> Result<Vec<Rule>, BackendError> {
    values.map(|value| Rule::new(vec![is(argument, value)?])).collect()
}

/// The kernel reads the lower half of each of these arguments.
fn is(argument: u8, value: u32) -> Result<Condition, BackendError> {
    Condition::new(argument, Length::Dword, Compare::Eq, value.into())
}

fn masked(argument: u8, mask: u32, value: u32) -> Result<Condition, BackendError> {
    Condition::new(argument, Length::Dword, Compare::MaskedEq(mask.into()), value.into())
}

fn without(argument: u8, flag: c_int) -> Result<Condition, BackendError> {
    masked(argument, bits(flag), 0)
}

fn bits(value: c_int) -> u32 {
    value.cast_unsigned()
}
