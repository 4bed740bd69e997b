//! Session tickets: how a client comes back without a full handshake.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;

use super::policy::Tag;

/// The keys under which sessions are handed to clients for safekeeping (RFC 5077, RFC 8446 §2.2).
///
/// One value lives as long as the program: all workers share it, so that a client may come back to
/// any of them, and a reload keeps it, so that a reload costs no client a full handshake. The keys
/// never leave memory. A new one is made every six hours and the one before it still opens tickets,
/// so a stolen key opens at most twelve hours of them. The lock inside is read once or twice in a
/// handshake and never on the path of a request.
///
/// A ticket of one site is no use on another: rustls seals the server name into it and falls back
/// to a full handshake when the name differs (RFC 6066 §3).
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// Makes the first keys.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new() -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self(Ticketer::new()?)))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

/// Tickets that are good under one set of rules only: one that a site without certificates of
/// clients gave out opens nothing on a site that requires them, nor one from before a change of
/// the authorities, whatever name and address the client says.
#[derive(Debug)]
pub struct BoundTickets {
    tickets: Arc<Tickets>,
    tag: Tag,
}

impl BoundTickets {
    /// Under the rules that `tag` stands for.
    #[must_use]
    pub fn new(tickets: &Arc<Tickets>, tag: Tag) -> Arc<Self> {
        Arc::new(Self { tickets: Arc::clone(tickets), tag })
    }
}

impl ProducesTickets for BoundTickets {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.encrypt(&[&self.tag, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let plain = self.tickets.decrypt(cipher)?;
        plain.strip_prefix(&self.tag).map(<[u8]>::to_vec)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_what_was_sealed_and_lives_twelve_hours() {
        let tickets = Tickets::new().unwrap();
        let sealed = tickets.encrypt(b"session").unwrap();
        assert_eq!(tickets.decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets.lifetime(), 12 * 60 * 60);
    }

    #[test]
    fn a_ticket_of_another_program_is_refused() {
        let sealed = Tickets::new().unwrap().encrypt(b"session").unwrap();
        assert_eq!(Tickets::new().unwrap().decrypt(&sealed), None);
    }

    #[test]
    fn a_ticket_is_good_under_the_rules_that_it_was_given_under_alone() {
        let tickets = Tickets::new().unwrap();
        let open = BoundTickets::new(&tickets, [1; 16]);
        let closed = BoundTickets::new(&tickets, [2; 16]);
        let sealed = open.encrypt(b"session").unwrap();
        assert_eq!(open.decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        assert_eq!(closed.decrypt(&sealed), None);
    }

    /// All workers share the keys: what one seals every other opens, at the same time.
    #[test]
    fn what_one_worker_seals_every_other_opens() {
        let tickets = Tickets::new().unwrap();
        let (seal, sealed) = std::sync::mpsc::channel::<(u32, Vec<u8>)>();
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let (seal, tickets) = (seal.clone(), Arc::clone(&tickets));
                scope.spawn(move || {
                    for number in (0..600_u32).filter(|number| number % 3 == worker) {
                        let ticket = tickets.encrypt(&number.to_be_bytes()).unwrap();
                        seal.send((number, ticket)).unwrap();
                    }
                });
            }
            drop(seal);
            let mut seen = 0;
            for (number, mut ticket) in sealed {
                assert_eq!(tickets.decrypt(&ticket).as_deref(), Some(&number.to_be_bytes()[..]));
                let place = number as usize % ticket.len();
                ticket[place] ^= 1;
                assert_eq!(tickets.decrypt(&ticket), None, "one bit decides");
                seen += 1;
            }
            assert_eq!(seen, 600);
        });
    }
}
