//! Certificates for names that clients ask for, under wildcards and `*`.
//!
//! A handshake for such a name looks on the [`shelf`]; where nothing lies there it waits, within
//! its own deadline, for the `clerk`, a task beside the keepers. He looks into the storage,
//! asks the operator's program by a `question` whether the name may have a certificate, and has a
//! keeper get it, as for any other name. What strangers can make him do is limited by the
//! `book`: neither what he remembers nor what he asks grows with what they send. A name is
//! looked at before anybody is troubled with it (`plausible`).

pub mod shelf;
pub(super) mod plausible;
pub(super) mod bucket;
pub(super) mod book;
pub(super) mod question;
pub(super) mod terms;
mod job;
mod kept;
pub(super) mod clerk;

pub use kept::{is_one, kept};
pub use shelf::Demand;
