//! Capabilities of the calling thread: raise the one that binds, drop all (capabilities(7)).

use std::io;

use ::caps::{CapSet, Capability};

use super::PrivilegeError;

/// Puts `CAP_NET_BIND_SERVICE` into the effective set when the permitted set has it, as after
/// `setcap cap_net_bind_service=p`. Returns whether it is effective now.
///
/// A failure to read or raise is the same as not having it: the bind tells.
pub fn raise_bind() -> bool {
    let bind = Capability::CAP_NET_BIND_SERVICE;
    let has = |set| ::caps::has_cap(None, set, bind).unwrap_or(false);
    has(CapSet::Effective)
        || (has(CapSet::Permitted) && ::caps::raise(None, CapSet::Effective, bind).is_ok())
}

/// The bits of a set of the calling thread, as far as this program knows their names; empty where
/// it cannot be read.
#[must_use]
pub fn bits(set: CapSet) -> u64 {
    let held = ::caps::read(None, set).unwrap_or_default();
    held.iter().fold(0, |bits, capability| bits | capability.bitmask())
}

/// Removes every capability from the bounding set, as far as the kernel allows: it takes
/// `CAP_SETPCAP`, which an unprivileged process does not have and then does not miss, because
/// under `no_new_privs` nothing is gained at exec anyway.
pub fn drop_bounding() {
    let manage = Capability::CAP_SETPCAP;
    if ::caps::has_cap(None, CapSet::Permitted, manage).unwrap_or(false) {
        let _ = ::caps::raise(None, CapSet::Effective, manage);
    }
    for capability in ::caps::read(None, CapSet::Bounding).unwrap_or_default() {
        let _ = ::caps::drop(None, CapSet::Bounding, capability);
    }
}

/// Empties the bounding set where that is allowed, then the ambient, effective, permitted and
/// inheritable sets. Being root does not bring them back: that takes an exec, which under
/// `no_new_privs` gains nothing.
///
/// # Errors
/// When the kernel refuses, or one of the four sets is not empty afterwards.
pub fn drop_all() -> Result<(), PrivilegeError> {
    drop_bounding();
    // The effective set must go before the permitted one, which contains it.
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let failed = |error: ::caps::errors::CapsError| {
            PrivilegeError::refused("drop capabilities", io::Error::other(error.to_string()))
        };
        ::caps::clear(None, set).map_err(failed)?;
        if !::caps::read(None, set).map_err(failed)?.is_empty() {
            return Err(PrivilegeError::StillHeld("a capability"));
        }
    }
    Ok(())
}

/// From here on no exec gains a right by a set-user-id bit or a file capability.
///
/// # Errors
/// When the kernel refuses, which none since Linux 3.5 does.
pub fn set_no_new_privs() -> Result<(), PrivilegeError> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| PrivilegeError::refused("set no_new_privs", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capabilities belong to threads, so that a thread of its own leaves the other tests alone.
    fn alone<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(test).join().unwrap()
    }

    #[test]
    fn nothing_is_left_after_dropping_all() {
        alone(|| {
            drop_all().unwrap();
            for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable]
            {
                assert!(::caps::read(None, set).unwrap().is_empty(), "{set:?}");
            }
            assert!(!raise_bind());
        });
    }

    #[test]
    fn a_permitted_capability_is_raised() {
        let permitted =
            ::caps::has_cap(None, CapSet::Permitted, Capability::CAP_NET_BIND_SERVICE).unwrap();
        let raised = alone(|| {
            ::caps::clear(None, CapSet::Effective).unwrap();
            raise_bind()
        });
        assert_eq!(raised, permitted);
    }

    #[test]
    fn no_new_privs_stays() {
        alone(|| {
            set_no_new_privs().unwrap();
            assert!(rustix::thread::no_new_privs().unwrap());
        });
    }
}
