//! What two edges say to one another. In the clear of their session: who runs ([`PeerMessage::Hello`])
//! and the key exchanges of VNs; everything else is about one VN and sealed by the channel of its
//! exchange ([`VnMessage`] in [`PeerMessage::Sealed`]).

use serde::{Deserialize, Serialize};

use super::{Bounded, MessageError, decode, encode};
use crate::hybrid::{ANSWER_LEN, Answer, ExchangeId, OFFER_LEN, Offer};
use crate::types::{BootId, Epoch, VnName};
use crate::vnchannel::TAG_LEN;

/// The protocol's version, said first.
pub const VERSION: u16 = 1;
/// Workers an edge may have, as far as this protocol goes: they are numbered below this.
pub const MAX_WORKERS: u16 = 64;
/// SAs that one edge can be sending with to one other in one VN: of each worker the one in use and
/// the one being installed.
pub const MAX_OUTBOUND: usize = 2 * MAX_WORKERS as usize;
/// Longest encoding of a [`VnMessage`], in bytes: a full [`VnMessage::Outbound`], with five bytes
/// a number at most (LEB128) and three for the rest.
pub const MAX_VN_MESSAGE: usize = 5 * MAX_OUTBOUND + 3;

/// Which AES mode an SA's VN asks for (RFC 4106, RFC 4543): part of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SaAlgorithm {
    /// AES-256-GCM with a 16-byte ICV: confidential.
    Aes256Gcm,
    /// AES-256-GMAC: integrity alone.
    Aes256Gmac,
}

/// Why a request was refused. A stranger is not told whether the VN exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// Not both of us are members of such a VN, as far as is known here.
    NotMember,
    /// Members, but of an epoch too far from the one known here.
    Epoch,
    /// More requests than are served.
    Busy,
    /// The offer is no key.
    Offer,
    /// No such exchange here (any more): begin another.
    Exchange,
}

/// In the session's own protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// First, from both sides, once a session.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// This run of the sender: another than before, and its former SAs are gone.
        boot: BootId,
    },
    /// Begins an exchange.
    KeyRequest {
        /// The network.
        vn: VnName,
        /// Its epoch, as the sender knows it.
        epoch: Epoch,
        /// Drawn by the sender.
        exchange: ExchangeId,
        /// The sender's share.
        offer: Offer,
    },
    /// Ends it; from here on the exchange's channel is used.
    KeyResponse {
        /// The request's.
        vn: VnName,
        /// The request's.
        exchange: ExchangeId,
        /// The sender's share.
        answer: Answer,
    },
    /// A request that is not served, or a sealed message that nobody here can open.
    Refuse {
        /// Of which network.
        vn: VnName,
        /// Whose.
        exchange: ExchangeId,
        /// Why.
        why: Refusal,
    },
    /// A [`VnMessage`].
    Sealed {
        /// About which network.
        vn: VnName,
        /// By whose channel.
        exchange: ExchangeId,
        /// The message, sealed.
        bytes: Bounded<u8, { MAX_VN_MESSAGE + TAG_LEN }>,
    },
    /// The sender has no SA of this VN with the receiver any more and wants none.
    Bye {
        /// The network.
        vn: VnName,
    },
}

/// About one VN, sealed by its channel. "Sender" and "receiver" are those of the SA's packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VnMessage {
    /// First under every channel, from both sides: the SPIs with which the sender does or may still
    /// send. Others of this VN and pair are not needed any more.
    Outbound {
        /// SPIs of the other side's choosing.
        spis: Bounded<u32, MAX_OUTBOUND>,
    },
    /// Sender: a worker needs an SA.
    Want {
        /// The sender's worker.
        worker: u16,
    },
    /// Receiver: the SA it is about to install.
    Offer {
        /// The wanting worker.
        worker: u16,
        /// The index from which it is expanded.
        index: u16,
        /// What the index gives.
        spi: u32,
        /// The VN's.
        algorithm: SaAlgorithm,
    },
    /// Receiver: no SA for this worker, use another's.
    Share {
        /// The wanting worker.
        worker: u16,
        /// A worker that has an SA.
        with: u16,
    },
    /// Receiver: no SA for this worker now.
    Denied {
        /// The wanting worker.
        worker: u16,
    },
    /// Receiver: its owner has the SA; send.
    Installed {
        /// The offered SA.
        spi: u32,
    },
    /// Sender: uses this SA from now on, the worker's former one no more.
    Switched {
        /// The installed SA.
        spi: u32,
    },
    /// Sender: does not use this SA any more, without another in its place.
    Retire {
        /// Which.
        spi: u32,
    },
    /// Receiver: has removed this SA.
    Gone {
        /// Which.
        spi: u32,
    },
}

/// Parses a [`PeerMessage`], and a [`VnMessage`] too, as the fuzz target `peer_message` does.
/// What parses must encode to the same bytes.
///
/// # Errors
///
/// Says what did not hold.
pub fn check_parsers(bytes: &[u8]) -> Result<(), String> {
    fn same<T: Serialize>(message: Result<T, MessageError>, bytes: &[u8]) -> Result<(), String> {
        let Ok(message) = message else {
            return Ok(());
        };
        match encode(&message) {
            Ok(again) if again == bytes => Ok(()),
            Ok(again) => Err(format!("{bytes:02x?} parses, and encodes as {again:02x?}")),
            Err(error) => Err(format!("{bytes:02x?} parses, and does not encode: {error}")),
        }
    }
    same(decode::<PeerMessage>(bytes), bytes)?;
    let message = decode::<VnMessage>(bytes);
    if message.is_ok() && bytes.len() > MAX_VN_MESSAGE {
        return Err(format!("a VN's message of {} bytes", bytes.len()));
    }
    same(message, bytes)
}

/// Encodings of one message of each kind: where a fuzzer begins.
#[must_use]
pub fn samples() -> Vec<Vec<u8>> {
    let Ok(vn) = VnName::try_from("red".to_owned()) else {
        return Vec::new();
    };
    let exchange = ExchangeId([1; 16]);
    let offer = Offer::try_from([2; OFFER_LEN].as_slice());
    let answer = Answer::try_from([3; ANSWER_LEN].as_slice());
    let bytes = Bounded::try_from(vec![4; TAG_LEN + 3]).unwrap_or_default();
    let spis = Bounded::try_from(vec![256, u32::MAX]).unwrap_or_default();
    let mut peer = vec![
        PeerMessage::Hello {
            version: VERSION,
            boot: BootId([5; 16]),
        },
        PeerMessage::Refuse {
            vn: vn.clone(),
            exchange,
            why: Refusal::Exchange,
        },
        PeerMessage::Sealed {
            vn: vn.clone(),
            exchange,
            bytes,
        },
        PeerMessage::Bye { vn: vn.clone() },
    ];
    peer.extend(offer.map(|offer| PeerMessage::KeyRequest {
        vn: vn.clone(),
        epoch: Epoch(7),
        exchange,
        offer,
    }));
    peer.extend(answer.map(|answer| PeerMessage::KeyResponse {
        vn,
        exchange,
        answer,
    }));
    let (worker, index, spi) = (3, 1, 0xdead_beef);
    let algorithm = SaAlgorithm::Aes256Gcm;
    let sealed = [
        VnMessage::Outbound { spis },
        VnMessage::Want { worker },
        VnMessage::Offer {
            worker,
            index,
            spi,
            algorithm,
        },
        VnMessage::Share { worker, with: 0 },
        VnMessage::Denied { worker },
        VnMessage::Installed { spi },
        VnMessage::Switched { spi },
        VnMessage::Retire { spi },
        VnMessage::Gone { spi },
    ];
    let peer = peer.iter().filter_map(|message| encode(message).ok());
    peer.chain(sealed.iter().filter_map(|message| encode(message).ok()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exchange() -> impl Strategy<Value = ExchangeId> {
        any::<[u8; 16]>().prop_map(ExchangeId)
    }

    fn vn() -> impl Strategy<Value = VnName> {
        "[a-z][a-z0-9.-]{0,62}".prop_map(|name| name.parse().unwrap())
    }

    fn peer_message() -> impl Strategy<Value = PeerMessage> {
        prop_oneof![
            (any::<u16>(), any::<[u8; 16]>()).prop_map(|(version, boot)| PeerMessage::Hello {
                version,
                boot: BootId(boot)
            }),
            (vn(), any::<u64>(), exchange(), any::<u8>()).prop_map(
                |(vn, epoch, exchange, byte)| PeerMessage::KeyRequest {
                    vn,
                    epoch: Epoch(epoch),
                    exchange,
                    offer: [byte; OFFER_LEN].as_slice().try_into().unwrap(),
                }
            ),
            (vn(), exchange(), any::<u8>()).prop_map(|(vn, exchange, byte)| {
                PeerMessage::KeyResponse {
                    vn,
                    exchange,
                    answer: [byte; ANSWER_LEN].as_slice().try_into().unwrap(),
                }
            }),
            (vn(), exchange()).prop_map(|(vn, exchange)| PeerMessage::Refuse {
                vn,
                exchange,
                why: Refusal::Epoch,
            }),
            (
                vn(),
                exchange(),
                proptest::collection::vec(any::<u8>(), 0..MAX_VN_MESSAGE + TAG_LEN)
            )
                .prop_map(|(vn, exchange, bytes)| PeerMessage::Sealed {
                    vn,
                    exchange,
                    bytes: bytes.try_into().unwrap(),
                }),
            vn().prop_map(|vn| PeerMessage::Bye { vn }),
        ]
    }

    fn vn_message() -> impl Strategy<Value = VnMessage> {
        let numbers = (any::<u16>(), any::<u16>(), any::<u32>());
        prop_oneof![
            proptest::collection::vec(any::<u32>(), 0..=MAX_OUTBOUND).prop_map(|spis| {
                VnMessage::Outbound {
                    spis: spis.try_into().unwrap(),
                }
            }),
            numbers.prop_map(|(worker, index, spi)| VnMessage::Offer {
                worker,
                index,
                spi,
                algorithm: SaAlgorithm::Aes256Gmac,
            }),
            any::<u16>().prop_map(|worker| VnMessage::Want { worker }),
            any::<u32>().prop_map(|spi| VnMessage::Switched { spi }),
        ]
    }

    proptest! {
        #[test]
        fn peer_messages_come_back(message in peer_message()) {
            let bytes = encode(&message).unwrap();
            prop_assert_eq!(decode::<PeerMessage>(&bytes).unwrap(), message);
        }

        #[test]
        fn vn_messages_come_back_within_their_bound(message in vn_message()) {
            let bytes = encode(&message).unwrap();
            prop_assert!(bytes.len() <= MAX_VN_MESSAGE);
            prop_assert_eq!(decode::<VnMessage>(&bytes).unwrap(), message);
        }

        #[test]
        fn arbitrary_bytes_are_taken_canonically_or_not_at_all(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            check_parsers(&bytes).unwrap();
        }

        #[test]
        fn so_are_messages_with_a_byte_changed_or_cut(
            which in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<bool>(),
        ) {
            let samples = samples();
            let mut bytes = which.get(&samples).clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            check_parsers(&bytes).unwrap();
        }
    }

    #[test]
    fn there_is_a_sample_of_every_kind() {
        let samples = samples();
        assert_eq!(samples.len(), 6 + 9);
        let firsts = |range: &[Vec<u8>]| {
            let mut firsts: Vec<_> = range.iter().map(|bytes| bytes[0]).collect();
            firsts.sort_unstable();
            firsts
        };
        assert_eq!(firsts(&samples[..6]), (0..6).collect::<Vec<_>>());
        assert_eq!(firsts(&samples[6..]), (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn more_than_the_bound_is_no_message() {
        let full = VnMessage::Outbound {
            spis: vec![u32::MAX; MAX_OUTBOUND].try_into().unwrap(),
        };
        let bytes = encode(&full).unwrap();
        assert_eq!(bytes.len(), MAX_VN_MESSAGE);
        let long = postcard::to_stdvec(&(0_u8, vec![256_u32; MAX_OUTBOUND + 1])).unwrap();
        assert!(decode::<VnMessage>(&long).is_err());
    }
}
