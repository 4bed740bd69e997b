//! One message in one packet, with the descriptors that belong to it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest packet, in bytes: a report on many mistakes of a file is the longest there is.
const LARGEST: usize = 64 * 1024;

/// The most descriptors that a packet carries; the kernel allows 253 (`SCM_MAX_FD`).
pub(super) const DESCRIPTORS: usize = 250;

/// Two ends; a packet keeps its borders, and each end notices that the other is gone.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends `message` with `descriptors`.
pub(super) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors));
    if bytes.len() > LARGEST || !fits {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too much for one packet"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes the next message and its descriptors; `None` when the other end is gone.
pub(super) fn receive<M: DeserializeOwned>(
    socket: impl AsFd,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LARGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(socket, &mut parts, &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet was cut"));
    }
    let text = bytes.get(..received.bytes).unwrap_or_default();
    Ok(Some((serde_json::from_slice(text)?, descriptors)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_comes_whole_with_its_descriptors_in_their_order() {
        let (here, there) = pair().unwrap();
        let (first, mut far_first) = UnixStream::pair().unwrap();
        let (second, mut far_second) = UnixStream::pair().unwrap();
        send(&here, &"one", &[first.as_fd(), second.as_fd()]).unwrap();
        send(&here, &"two", &[]).unwrap();
        drop((first, second));
        let (text, descriptors) = receive::<String>(&there).unwrap().unwrap();
        assert_eq!((text.as_str(), descriptors.len()), ("one", 2));
        for (descriptor, word) in descriptors.into_iter().zip(["a", "b"]) {
            UnixStream::from(descriptor).write_all(word.as_bytes()).unwrap();
        }
        let (mut a, mut b) = (String::new(), String::new());
        far_first.read_to_string(&mut a).unwrap();
        far_second.read_to_string(&mut b).unwrap();
        assert_eq!((a.as_str(), b.as_str()), ("a", "b"));
        assert_eq!(receive::<String>(&there).unwrap().unwrap().0, "two");
        drop(here);
        assert!(receive::<String>(&there).unwrap().is_none());
    }

    #[test]
    fn as_many_descriptors_as_promised_and_no_more() {
        let (here, there) = pair().unwrap();
        let many = vec![here.as_fd(); DESCRIPTORS];
        send(&here, &"many", &many).unwrap();
        let (_, descriptors) = receive::<String>(&there).unwrap().unwrap();
        assert_eq!(descriptors.len(), DESCRIPTORS);
        assert!(send(&here, &"more", &vec![here.as_fd(); DESCRIPTORS + 5]).is_err());
        assert!(send(&here, &"x".repeat(LARGEST), &[]).is_err());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (here, there) = pair().unwrap();
        send(&here, &"text", &[]).unwrap();
        assert!(receive::<u64>(&there).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_sent_comes_in_its_order_and_no_descriptor_is_lost(
            messages in prop::collection::vec((prop::collection::vec(any::<String>(), 0..4), 0..6_usize), 1..8),
        ) {
            let (here, there) = pair().unwrap();
            for (words, count) in &messages {
                send(&here, words, &vec![here.as_fd(); *count]).unwrap();
            }
            for (words, count) in &messages {
                let (told, descriptors) = receive::<Vec<String>>(&there).unwrap().unwrap();
                prop_assert_eq!((&told, descriptors.len()), (words, *count));
            }
        }

        #[test]
        fn bytes_that_are_no_message_are_an_error(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
            let (here, there) = pair().unwrap();
            rustix::io::write(&here, &bytes).unwrap();
            let told = receive::<Vec<String>>(&there);
            prop_assert_eq!(told.is_ok(), serde_json::from_slice::<Vec<String>>(&bytes).is_ok());
        }
    }
}
