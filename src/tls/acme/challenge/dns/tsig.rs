//! Signatures of messages by a shared secret (RFC 8945).

use aws_lc_rs::hmac::{self, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};

use super::message::{ANY, Answer, Name, Reader, TSIG};
use crate::config::{Tsig, TsigAlgorithm};

/// How far two clocks may be apart, in seconds (RFC 8945 §10).
pub(super) const FUDGE: u16 = 300;

/// A key that signs messages.
pub(super) struct Key {
    name: Name,
    algorithm: Name,
    key: hmac::Key,
}

/// What a server has to say of a signature, or why its own is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbelieved {
    /// The answer has no signature.
    Unsigned,
    /// The answer's signature is not of this key, or not of this answer.
    Forged,
    /// The server does not know the key.
    Key,
    /// The server has another secret, or another algorithm.
    Signature,
    /// The clocks differ.
    Time,
}

impl Key {
    /// The key of the configuration; `None` when its name is too long for one.
    pub(super) fn new(tsig: &Tsig) -> Option<Self> {
        let (algorithm, name) = match tsig.algorithm {
            TsigAlgorithm::HmacSha256 => (HMAC_SHA256, "hmac-sha256"),
            TsigAlgorithm::HmacSha384 => (HMAC_SHA384, "hmac-sha384"),
            TsigAlgorithm::HmacSha512 => (HMAC_SHA512, "hmac-sha512"),
        };
        Some(Self {
            name: Name::parse(&tsig.name)?,
            algorithm: Name::parse(name)?,
            key: hmac::Key::new(algorithm, &tsig.secret),
        })
    }

    /// Signs `message` at `now` (seconds since 1970); returns the signature, which the answer's
    /// covers.
    pub(super) fn sign(&self, message: &mut Vec<u8>, now: u64) -> Vec<u8> {
        let id = message.get(..2).map(<[u8]>::to_vec).unwrap_or_default();
        let time = time_and_fudge(now);
        let signed = [&**message, &self.variables(&time, &[0; 4])].concat();
        let mac = hmac::sign(&self.key, &signed).as_ref().to_vec();
        let data = [self.algorithm.wire(), &time, &prefixed(&mac), &id, &[0; 4]].concat();
        message.extend(self.name.wire());
        message.extend(TSIG.to_be_bytes());
        message.extend(ANY.to_be_bytes());
        message.extend([0; 4]);
        message.extend(prefixed(&data));
        if let Some(count) = message.get_mut(11) {
            *count = 1;
        }
        mac
    }

    /// Verifies the answer `message` to what was signed with `request` (RFC 8945 §5.3).
    pub(super) fn verify(
        &self,
        message: &[u8],
        answer: &Answer,
        request: &[u8],
        now: u64,
    ) -> Result<(), Unbelieved> {
        let record = answer.records.last().filter(|record| record.kind == TSIG);
        let record = record.ok_or(Unbelieved::Unsigned)?;
        let signature = Signature::parse(&record.data).ok_or(Unbelieved::Forged)?;
        match signature.error {
            0 => {}
            17 => return Err(Unbelieved::Key),
            18 => return Err(Unbelieved::Time),
            // BADSIG, BADTRUNC, and whatever else there may be.
            _ => return Err(Unbelieved::Signature),
        }
        if record.name != self.name || signature.algorithm != self.algorithm {
            return Err(Unbelieved::Forged);
        }
        // The message as it was before the signature: one record less, and its first number.
        let mut plain = message.get(..record.start).unwrap_or_default().to_vec();
        let count = plain.get(10..12).and_then(|count| <[u8; 2]>::try_from(count).ok());
        let less = u16::from_be_bytes(count.unwrap_or_default()).saturating_sub(1);
        for (byte, value) in plain.iter_mut().skip(10).zip(less.to_be_bytes()) {
            *byte = value;
        }
        for (byte, value) in plain.iter_mut().zip(signature.id) {
            *byte = value;
        }
        let variables = self.variables(signature.time, signature.rest);
        let signed = [&*prefixed(request), &plain, &variables].concat();
        hmac::verify(&self.key, &signed, signature.mac).map_err(|_| Unbelieved::Forged)?;
        let apart = signature.seconds().abs_diff(now);
        if apart > u64::from(FUDGE) { Err(Unbelieved::Time) } else { Ok(()) }
    }

    /// What is signed beside the message (RFC 8945 §4.3.3).
    fn variables(&self, time: &[u8], rest: &[u8]) -> Vec<u8> {
        let class_and_ttl = [0, 255, 0, 0, 0, 0];
        [self.name.wire(), &class_and_ttl, self.algorithm.wire(), time, rest].concat()
    }
}

/// The data of a signature (RFC 8945 §4.2).
struct Signature<'a> {
    algorithm: Name,
    /// The time and the fudge.
    time: &'a [u8],
    mac: &'a [u8],
    id: [u8; 2],
    error: u16,
    /// The error, and the other data with its length.
    rest: &'a [u8],
}

impl<'a> Signature<'a> {
    fn parse(data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { message: data, at: 0 };
        let algorithm = reader.name()?;
        let time = reader.take(8)?;
        let length = reader.u16()?;
        let mac = reader.take(usize::from(length))?;
        let id = reader.take(2)?.try_into().ok()?;
        let rest = data.get(reader.at..)?;
        let error = reader.u16()?;
        Some(Self { algorithm, time, mac, id, error, rest })
    }

    fn seconds(&self) -> u64 {
        self.time.iter().take(6).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

/// Forty-eight bits of seconds, and the fudge.
fn time_and_fudge(now: u64) -> Vec<u8> {
    now.to_be_bytes().into_iter().skip(2).chain(FUDGE.to_be_bytes()).collect()
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::super::message::{TXT, query};
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn key(secret: &[u8]) -> Key {
        let algorithm = TsigAlgorithm::HmacSha256;
        let tsig = Tsig { name: "k.test".to_owned(), algorithm, secret: secret.to_vec() };
        Key::new(&tsig).unwrap()
    }

    /// An answer, signed as a server does: over the signature of the request, too.
    fn answer(key: &Key, request: &[u8], now: u64) -> Vec<u8> {
        let mut message = query(7, &Name::parse("a.test").unwrap(), TXT);
        message[2] = 0x84;
        let time = time_and_fudge(now);
        let signed = [&*prefixed(request), &message, &key.variables(&time, &[0; 4])].concat();
        let mac = hmac::sign(&key.key, &signed);
        let data =
            [key.algorithm.wire(), &time, &prefixed(mac.as_ref()), &[0, 7], &[0; 4]].concat();
        message[11] = 1;
        let head = [key.name.wire(), &[0, 250, 0, 255, 0, 0, 0, 0]].concat();
        [message, head, prefixed(&data)].concat()
    }

    fn verdict(key: &Key, message: &[u8], request: &[u8], now: u64) -> Result<(), Unbelieved> {
        key.verify(message, &Answer::parse(message).unwrap(), request, now)
    }

    #[test]
    fn an_answer_is_believed_when_it_is_of_the_key_and_to_the_request() {
        let key = key(&[1; 32]);
        let good = answer(&key, b"request", NOW);
        assert_eq!(verdict(&key, &good, b"request", NOW), Ok(()));
        assert_eq!(verdict(&key, &good, b"another", NOW), Err(Unbelieved::Forged));
        assert_eq!(verdict(&key, &good, b"request", NOW + 301), Err(Unbelieved::Time));
        let other = answer(&self::key(&[2; 32]), b"request", NOW);
        assert_eq!(verdict(&key, &other, b"request", NOW), Err(Unbelieved::Forged));
        let mut bent = good.clone();
        bent[3] = 3;
        assert_eq!(verdict(&key, &bent, b"request", NOW), Err(Unbelieved::Forged));
    }

    #[test]
    fn an_answer_without_a_signature_is_told_as_such() {
        let mut plain = query(7, &Name::parse("a.test").unwrap(), TXT);
        plain[2] = 0x84;
        assert_eq!(verdict(&key(&[1; 32]), &plain, b"", NOW), Err(Unbelieved::Unsigned));
    }

    #[test]
    fn a_signature_stands_last_and_is_counted() {
        let mut message = query(7, &Name::parse("a.test").unwrap(), TXT);
        let mac = key(&[1; 32]).sign(&mut message, NOW);
        assert_eq!((mac.len(), message[11]), (32, 1));
        assert!(message.windows(8).any(|bytes| bytes == b"\x01k\x04test\0"));
        assert!(message.ends_with(&[0, 7, 0, 0, 0, 0]));
    }
}
