//! Signaling of one VN, sealed apart from every other: AES-256-GCM under two keys (one a
//! direction) that come from a fresh [`hybrid`](crate::hybrid) exchange of this VN and membership
//! epoch alone. Not from the session: who has the session's secrets, or another VN's channel, reads
//! nothing here. Dropping the channel destroys its keys.
//!
//! A channel belongs to one session, which delivers in order and loses nothing. So the nonce is a
//! counter that does not travel, and a message opens only as the very next one: replayed, reordered,
//! left out or sent back to its author, it fails.

use core::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::hybrid::{Root, Transcript};

/// Bytes that sealing adds.
pub const TAG_LEN: usize = 16;

/// First in the expansion of each key, and in what is authenticated with each message.
const LABEL: &[u8] = b"vswitch vn channel 1";

/// Why a message was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Not the next message of the other side under this channel's keys.
    #[error("not the next message of this channel")]
    Authentication,
    /// The library refused; no message was sealed, no counter used twice.
    #[error("a message could not be sealed")]
    Seal,
    /// No further message: the counter would repeat.
    #[error("the channel is used up")]
    UsedUp,
    /// The keys could not be made.
    #[error("no keys for the channel")]
    Keys,
}

/// Which side of the exchange one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Sent the offer.
    Initiator,
    /// Sent the answer.
    Responder,
}

/// One direction: key, next counter, and what every message is bound to.
struct Lane {
    key: LessSafeKey,
    next: u64,
    context: Vec<u8>,
    #[cfg(test)]
    _live: crate::secret::live::Live,
}

impl Lane {
    fn new(root: &Root, transcript: &Transcript<'_>, from: Side) -> Option<Self> {
        let direction: &[u8] = match from {
            Side::Initiator => b"initiator to responder",
            Side::Responder => b"responder to initiator",
        };
        let epoch = transcript.epoch.0.to_be_bytes();
        let fields: [&[u8]; 7] = [
            LABEL,
            direction,
            transcript.vn.as_str().as_bytes(),
            &epoch,
            &transcript.exchange.0,
            transcript.initiator.as_bytes(),
            transcript.responder.as_bytes(),
        ];
        let mut context = Vec::new();
        for field in fields {
            context.extend_from_slice(&u16::try_from(field.len()).ok()?.to_be_bytes());
            context.extend_from_slice(field);
        }
        let secret = root.expand::<32>(&fields)?;
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret.expose()).ok()?),
            next: 0,
            context,
            #[cfg(test)]
            _live: crate::secret::live::Live::new(),
        })
    }

    /// The next message's nonce and associated data: `context | counter`.
    fn next(&self) -> Result<(Nonce, Vec<u8>), ChannelError> {
        if self.next == u64::MAX {
            return Err(ChannelError::UsedUp);
        }
        let counter = self.next.to_be_bytes();
        let mut nonce = [0; NONCE_LEN];
        let (_, tail) = nonce.split_at_mut(NONCE_LEN - counter.len());
        tail.copy_from_slice(&counter);
        let mut aad = self.context.clone();
        aad.extend_from_slice(&counter);
        Ok((Nonce::assume_unique_for_key(nonce), aad))
    }
}

/// Both directions of a VN's signaling with one other, at one membership epoch.
pub struct VnChannel {
    sending: Lane,
    receiving: Lane,
}

impl fmt::Debug for VnChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "VnChannel({} out, {} in)",
            self.sending.next, self.receiving.next
        )
    }
}

impl VnChannel {
    /// The channel of an exchange, seen from `side`.
    ///
    /// # Errors
    ///
    /// An identity that is longer than 65,535 bytes.
    pub fn new(root: &Root, transcript: &Transcript<'_>, side: Side) -> Result<Self, ChannelError> {
        let other = match side {
            Side::Initiator => Side::Responder,
            Side::Responder => Side::Initiator,
        };
        let lane = |from| Lane::new(root, transcript, from).ok_or(ChannelError::Keys);
        Ok(Self {
            sending: lane(side)?,
            receiving: lane(other)?,
        })
    }

    /// `message`, sealed as the next one: [`TAG_LEN`] bytes longer.
    ///
    /// # Errors
    ///
    /// The channel is used up.
    pub fn seal(&mut self, message: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let lane = &mut self.sending;
        let (nonce, aad) = lane.next()?;
        // Counted first: whatever happens, this nonce is not used again.
        lane.next += 1;
        let mut sealed = Vec::with_capacity(message.len() + TAG_LEN);
        sealed.extend_from_slice(message);
        let result = lane
            .key
            .seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed);
        result.map_err(|_| ChannelError::Seal)?;
        Ok(sealed)
    }

    /// What the other side sealed next. A failure changes nothing: the right message still opens.
    ///
    /// # Errors
    ///
    /// It is not the other side's next message.
    pub fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let lane = &mut self.receiving;
        let (nonce, aad) = lane.next()?;
        let mut opened = sealed.to_vec();
        let plain = lane.key.open_in_place(nonce, Aad::from(aad), &mut opened);
        let len = plain.map_err(|_| ChannelError::Authentication)?.len();
        opened.truncate(len);
        lane.next += 1;
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hybrid::{ExchangeId, Initiator, respond};
    use crate::secret::live;
    use crate::types::{Epoch, VnName};

    fn transcript<'a>(vn: &'a VnName, epoch: u64, exporter: &'a [u8]) -> Transcript<'a> {
        Transcript {
            initiator: "spiffe://lab/nve/a",
            responder: "spiffe://lab/ima/one",
            vn,
            epoch: Epoch(epoch),
            exchange: ExchangeId([9; 16]),
            binding: exporter,
        }
    }

    fn roots(transcript: &Transcript<'_>) -> (Root, Root) {
        let initiator = Initiator::new().unwrap();
        let (answer, theirs) = respond(initiator.offer(), transcript).unwrap();
        (initiator.finish(&answer, transcript).unwrap(), theirs)
    }

    fn pair(transcript: &Transcript<'_>) -> (VnChannel, VnChannel) {
        let (ours, theirs) = roots(transcript);
        (
            VnChannel::new(&ours, transcript, Side::Initiator).unwrap(),
            VnChannel::new(&theirs, transcript, Side::Responder).unwrap(),
        )
    }

    fn vn(name: &str) -> VnName {
        name.parse().unwrap()
    }

    #[test]
    fn messages_open_in_order_both_ways() {
        let red = vn("red");
        let (mut a, mut b) = pair(&transcript(&red, 1, b"exporter"));
        for n in 0..5_u8 {
            let message = vec![n; usize::from(n) * 100];
            let sealed = a.seal(&message).unwrap();
            assert_eq!(sealed.len(), message.len() + TAG_LEN);
            assert_eq!(b.open(&sealed).unwrap(), message);
            let sealed = b.seal(b"answer").unwrap();
            assert_eq!(a.open(&sealed).unwrap(), b"answer");
        }
    }

    #[test]
    fn replay_reordering_reflection_and_tampering_fail_and_break_nothing() {
        let red = vn("red");
        let (mut a, mut b) = pair(&transcript(&red, 1, b"exporter"));
        let failed = Err(ChannelError::Authentication);
        let (first, second) = (a.seal(b"first").unwrap(), a.seal(b"second").unwrap());
        assert_eq!(b.open(&second), failed, "reordered");
        assert_eq!(a.open(&first), failed, "reflected");
        assert_eq!(b.open(&first).unwrap(), b"first");
        assert_eq!(b.open(&first), failed, "replayed");
        for at in 0..second.len() {
            let mut tampered = second.clone();
            tampered[at] ^= 1;
            assert_eq!(b.open(&tampered), failed, "byte {at}");
        }
        for len in 0..second.len() {
            assert_eq!(b.open(&second[..len]), failed, "cut to {len}");
        }
        assert_eq!(b.open(&second).unwrap(), b"second");
    }

    /// The requirement of step 4: one VN's keys, with all that the session itself has, open no other.
    #[test]
    fn one_vns_keys_and_the_exporter_open_no_other_vn() {
        let exporter = [0x55; 32];
        let (red, blue) = (vn("red"), vn("blue"));
        let right = transcript(&red, 1, &exporter);
        let other = transcript(&blue, 1, &exporter);
        let (mut red_a, _) = pair(&right);
        let secret = red_a.seal(b"who is in red").unwrap();

        // The attacker is an honest party of the other VN in the same session: it has that root,
        // that channel and the exporter value, and tries each in red's place.
        let (_, blue_root) = roots(&other);
        let tries = [
            VnChannel::new(&blue_root, &other, Side::Responder),
            VnChannel::new(&blue_root, &right, Side::Responder),
            VnChannel::new(&blue_root, &right, Side::Initiator),
        ];
        for channel in tries {
            let failed = channel.unwrap().open(&secret);
            assert_eq!(failed, Err(ChannelError::Authentication));
        }
        // The exporter value as the key, plainly and expanded as channels' keys are.
        let prk = aws_lc_rs::hkdf::Salt::new(aws_lc_rs::hkdf::HKDF_SHA256, &exporter);
        let expanded = prk.extract(&exporter);
        let mut keys = vec![exporter];
        for direction in [
            b"initiator to responder".as_slice(),
            b"responder to initiator",
        ] {
            let info = [LABEL, direction, b"red"];
            let okm = expanded
                .expand(&info, aws_lc_rs::hkdf::HKDF_SHA256)
                .unwrap();
            let mut key = [0; 32];
            okm.fill(&mut key).unwrap();
            keys.push(key);
        }
        let lane = Lane::new(&blue_root, &right, Side::Initiator).unwrap();
        for key in keys {
            let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
            let (nonce, aad) = lane.next().unwrap();
            let mut bytes = secret.clone();
            assert!(
                key.open_in_place(nonce, Aad::from(aad), &mut bytes)
                    .is_err()
            );
        }
    }

    #[test]
    fn a_channel_is_bound_to_vn_epoch_and_identities() {
        let (red, blue) = (vn("red"), vn("blue"));
        let right = transcript(&red, 1, b"exporter");
        let (ours, theirs) = roots(&right);
        let wrong = [
            Transcript { vn: &blue, ..right },
            Transcript {
                epoch: Epoch(2),
                ..right
            },
            Transcript {
                initiator: "spiffe://lab/nve/c",
                ..right
            },
            Transcript {
                responder: "spiffe://lab/nve/b",
                ..right
            },
            Transcript {
                exchange: ExchangeId([8; 16]),
                ..right
            },
        ];
        for wrong in wrong {
            let mut a = VnChannel::new(&ours, &right, Side::Initiator).unwrap();
            let mut b = VnChannel::new(&theirs, &wrong, Side::Responder).unwrap();
            let sealed = a.seal(b"message").unwrap();
            assert_eq!(
                b.open(&sealed),
                Err(ChannelError::Authentication),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn keys_go_with_the_channel_and_counters_do_not_wrap() {
        let red = vn("red");
        let before = live::count();
        let (mut a, b) = pair(&transcript(&red, 1, b"exporter"));
        assert_eq!(
            live::count(),
            before + 4,
            "roots and expanded bytes are gone already"
        );
        a.sending.next = u64::MAX - 1;
        assert!(a.seal(b"last").is_ok());
        assert_eq!(a.seal(b"one more"), Err(ChannelError::UsedUp));
        drop((a, b));
        assert_eq!(live::count(), before);
    }
}
