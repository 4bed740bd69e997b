//! Questions to the kernel that are answered by a list (netlink(7)).

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto,
    socket_with,
};

/// Of `struct nlmsghdr`, in bytes.
const HEADER: usize = 16;

/// `NLM_F_REQUEST | NLM_F_DUMP`.
const LIST: u16 = 0x301;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// More than the kernel puts into one answer.
const BUFFER: usize = 64 << 10;

/// Asks `protocol` (`None`: routes and addresses) one question; `each` gets the body of every
/// entry of the answer.
///
/// # Errors
/// When the kernel does not know the question or a filter forbids to ask.
pub(super) fn list(
    protocol: Option<Protocol>,
    kind: u16,
    body: &[u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let kernel = SocketAddrNetlink::new(0, 0);
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let mut question = Vec::with_capacity(HEADER + body.len());
    question.extend(length.to_ne_bytes());
    question.extend(kind.to_ne_bytes());
    question.extend(LIST.to_ne_bytes());
    // The first question on this socket, asked by whoever has it.
    question.extend(1_u32.to_ne_bytes());
    question.extend(0_u32.to_ne_bytes());
    question.extend(body);
    sendto(&socket, &question, SendFlags::empty(), &kernel)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let (read, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some((kind, body, after)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(refusal(body)),
                _ => each(body),
            }
            rest = after;
        }
    }
}

/// The kind and the body of the first message, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER..length)?;
    Some((u16_at(bytes, 4)?, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn refusal(body: &[u8]) -> io::Error {
    let number = u32_at(body, 0).map_or(0, |number| i32::from_ne_bytes(number.to_ne_bytes()));
    io::Error::from_raw_os_error(number.saturating_neg())
}

/// The value of the attribute `wanted` (`struct nlattr`) among `bytes`.
pub(super) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// The attributes (`struct nlattr`) in `bytes` by their kinds; a torn one ends them.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(4..length)?;
        // Two bits say how the value is written (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
        let kind = u16_at(bytes, 2)? & 0x3fff;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number in the host's byte order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// A number in the host's byte order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_told_apart_and_a_torn_one_is_none() {
        let mut bytes = Vec::new();
        for (kind, body) in [(20_u16, b"abcde".as_slice()), (NLMSG_DONE, b"".as_slice())] {
            bytes.extend((16 + body.len() as u32).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(body);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let (kind, body, rest) = message(&bytes).unwrap();
        assert_eq!((kind, body), (20, b"abcde".as_slice()));
        let (kind, body, rest) = message(rest).unwrap();
        assert_eq!((kind, body, rest.len()), (NLMSG_DONE, b"".as_slice(), 0));
        assert!(message(&bytes[..18]).is_none());
        assert!(message(&[]).is_none());
        assert!(message(&[0; 16]).is_none());
    }

    #[test]
    fn an_attribute_is_found_behind_others() {
        let mut bytes = Vec::new();
        for (kind, value) in [(5_u16, b"x".as_slice()), (11, b"\x01".as_slice())] {
            bytes.extend((4 + value.len() as u16).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        assert_eq!(attribute(&bytes, 11), Some(b"\x01".as_slice()));
        assert_eq!(attribute(&bytes, 12), None);
        assert_eq!(attribute(&[0; 8], 12), None);
    }

    #[test]
    fn a_question_that_the_kernel_does_not_know_is_an_error() {
        assert!(list(None, 0xfff0, &[0; 8], |_| {}).is_err());
    }

    proptest! {
        #[test]
        fn attributes_come_as_they_were_written(
            written in prop::collection::vec((0..0x4000_u16, prop::collection::vec(any::<u8>(), 0..20)), 0..6),
            rest in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut bytes = Vec::new();
            for (kind, value) in &written {
                bytes.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
                bytes.extend(kind.to_ne_bytes());
                bytes.extend(value);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            bytes.extend(rest);
            let told: Vec<_> = attributes(&bytes).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(told, written);
        }

        /// Each takes something away: no walk is endless.
        #[test]
        fn no_bytes_are_walked_for_ever(
            bytes in prop::collection::vec(prop::sample::select(vec![0_u8, 0, 0, 0, 4, 5, 16, 17, 20]), 0..200),
        ) {
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4 + 1);
            let mut rest = &bytes[..];
            while let Some((_, body, behind)) = message(rest) {
                prop_assert!(behind.len() + body.len() + HEADER <= rest.len());
                rest = behind;
            }
        }
    }
}
