//! Certificates that get and renew themselves (RFC 8555).
//!
//! [`manager`] has a task for each certificate, its keeper, on one thread for all. When one is due
//! by its [`schedule`], its [`ledger`] and the [`budget`] let it, a keeper asks the authorities in
//! their order: with an [`account`], by an [`order`] whose every step is stored in the [`vault`]
//! before the next, proved by a [`challenge`]. What it stores is taken up by whoever loads
//! certificates: this module shows nothing to clients itself but challenges.

pub mod names;
pub mod vault;
pub mod stored;
pub mod schedule;
pub mod ledger;
pub mod budget;
pub mod failure;
pub mod transport;
pub mod roots;
mod jose;
pub mod account;
pub mod challenge;
mod nonce;
mod key;
mod proof;
mod preflight;
pub mod order;
pub mod renewal_info;
mod attempt;
mod by_key;
pub mod revoke;
pub mod standing;
pub mod tries;
pub mod damage;
mod bell;
mod keeper;
pub mod demand;
pub mod manager;

pub use challenge::pending::Pending;
pub use demand::Demand;
pub use manager::Manager;
pub use names::{Wanted, host_and_port, record_of, wanted, wants_any};
pub use roots::Roots;
pub use standing::Standing;
