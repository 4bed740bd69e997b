//! Asking the kernel for a table over a netlink socket (netlink(7)).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// `NLMSG_ERROR`, `NLMSG_DONE`, and `NLM_F_REQUEST | NLM_F_DUMP` of `linux/netlink.h`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST_DUMP: u16 = 0x1 | 0x300;

/// Octets of the header of a message, and of an attribute.
const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;

/// Both flags of an attribute's kind, that it is nested and in network byte order, are no part of
/// the kind.
const KIND: u16 = 0x3fff;

/// The kernel answers at once or never.
const PATIENCE: Duration = Duration::from_secs(1);

/// A conversation with one part of the kernel.
pub(crate) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// With the part that has this number.
    pub(crate) fn with(part: net::Protocol) -> io::Result<Self> {
        let family = AddressFamily::NETLINK;
        let socket = net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(part))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Netlink { socket })
    }

    /// Asks for a whole table and hands over the body of each row.
    ///
    /// # Errors
    /// What the kernel answers instead, such as `EPERM`, or that it does not answer.
    pub(crate) fn dump(
        &self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend(REQUEST_DUMP.to_ne_bytes());
        // One question a conversation at a time: the sequence number and the sender stay 0.
        request.extend([0; 8]);
        request.extend(body);
        net::send(&self.socket, &request, SendFlags::empty())?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let (_, length) = net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            let received = buffer.get(..length).unwrap_or_default();
            for (kind, body) in messages(received) {
                match kind {
                    DONE => return Ok(()),
                    ERROR => return Err(refusal(body)),
                    _ => each(body),
                }
            }
        }
    }
}

/// The attributes of a row, from where its fixed part ends.
pub(crate) fn attributes(row: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    parts(row, ATTRIBUTE, |header| {
        let (length, kind) = (number16(header)?, number16(header.get(2..)?)?);
        Some((usize::from(length), kind & KIND))
    })
}

fn messages(received: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    parts(received, HEADER, |header| {
        let length = u32::from_ne_bytes(*header.first_chunk()?);
        Some((usize::try_from(length).ok()?, number16(header.get(4..)?)?))
    })
}

/// Splits what is a row of headers with bodies, each padded to four octets. A header that is not
/// understood ends it.
fn parts(
    mut rest: &[u8],
    header: usize,
    read: impl Fn(&[u8]) -> Option<(usize, u16)>,
) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = read(rest.get(..header)?)?;
        let body = rest.get(header..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

fn number16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// The error number is negative in a message.
fn refusal(body: &[u8]) -> io::Error {
    let number = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    io::Error::from_raw_os_error(number.wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_split_at_their_padded_lengths() {
        let [one, two] = [5u16, 8].map(u16::to_ne_bytes);
        let row = [
            &one[..],
            &7u16.to_ne_bytes(),
            &[1, 0, 0, 0],
            &two,
            &(9u16 | 0x8000).to_ne_bytes(),
            &[1, 2, 3, 4],
        ];
        let row = row.concat();
        let found: Vec<_> = attributes(&row).collect();
        assert_eq!(found, [(7, &[1][..]), (9, &[1, 2, 3, 4])]);
    }

    #[test]
    fn a_row_that_is_cut_or_has_no_length_ends() {
        let [short, long] = [0u16, 40].map(u16::to_ne_bytes);
        for length in [short, long] {
            let row = [&length[..], &[7, 0], &[1, 2, 3, 4]].concat();
            assert_eq!(attributes(&row).count(), 0);
        }
        assert_eq!(attributes(&[1, 2]).count(), 0);
    }

    #[test]
    fn the_kernel_says_no_by_a_number() {
        let error = refusal(&(-1i32).to_ne_bytes());
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
