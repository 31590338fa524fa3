//! What a worker sees that somebody should know of: counted by reason and by whom it concerns,
//! with the head of the first packet, and told to the control side once a second. Nothing is
//! allocated while packets pass, and nothing waits.

use vswitch_vn::{PortId, TunnelId};

use super::forward::Origin;
use super::verdict::Verdict;
use crate::dpdk::mbuf::Mbuf;

/// What kind of event a drop is to whoever watches over the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A packet of a known association whose integrity check value is wrong.
    AuthenticationFailure,
    /// A packet received before, or too old to tell.
    Replay,
    /// A source address that is not the sender's.
    SpoofedSource,
    /// A frame that no tenant may send.
    ForbiddenFrame,
    /// A protected packet with another network's VNI.
    VniMismatch,
    /// A packet from an address that is not the peer's.
    WrongSender,
    /// A packet in the clear where there must be none.
    ClearPacket,
    /// ESP with an SPI that nobody here knows.
    UnknownSpi,
    /// An authentic packet that is not as the protocols want it.
    ProtocolViolation,
    /// More than a limit admits.
    LimitReached,
}

impl Kind {
    /// The name in the security log.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::AuthenticationFailure => "authentication-failure",
            Kind::Replay => "replay",
            Kind::SpoofedSource => "spoofed-source",
            Kind::ForbiddenFrame => "forbidden-frame",
            Kind::VniMismatch => "vni-mismatch",
            Kind::WrongSender => "wrong-sender",
            Kind::ClearPacket => "clear-packet",
            Kind::UnknownSpi => "unknown-spi",
            Kind::ProtocolViolation => "protocol-violation",
            Kind::LimitReached => "limit-reached",
        }
    }

    /// Of which kind a drop is; `None` if it is of no concern.
    pub const fn of(verdict: Verdict) -> Option<Kind> {
        Some(match verdict {
            Verdict::AuthFailed => Kind::AuthenticationFailure,
            Verdict::Replayed | Verdict::TooOld => Kind::Replay,
            Verdict::SpoofedMac
            | Verdict::SpoofedIp
            | Verdict::SpoofedArp
            | Verdict::SpoofedNd
            | Verdict::SpoofedRemote
            | Verdict::SpoofedRemoteIp => Kind::SpoofedSource,
            Verdict::LlcFrame
            | Verdict::RogueRouter
            | Verdict::UnexpectedVlan
            | Verdict::ChecksumOffload => Kind::ForbiddenFrame,
            Verdict::WrongVni => Kind::VniMismatch,
            Verdict::WrongPeer | Verdict::ClearUnknownPeer => Kind::WrongSender,
            Verdict::ClearForProtected | Verdict::ClearUnknownVni => Kind::ClearPacket,
            Verdict::UnknownSpi | Verdict::SpiReserved => Kind::UnknownSpi,
            Verdict::IvMismatch
            | Verdict::EspPadding
            | Verdict::EspNextHeader
            | Verdict::TunnelMalformed
            | Verdict::GeneveCritical
            | Verdict::TfcPadding => Kind::ProtocolViolation,
            Verdict::BumRate
            | Verdict::KernelRate
            | Verdict::SaHardLimit
            | Verdict::SaReservation => Kind::LimitReached,
            _ => return None,
        })
    }
}

/// Whom it concerns: somebody configured, so that a stranger cannot make up many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A tenant's or VLAN's port.
    Port(PortId),
    /// A pair of VN and peer.
    Tunnel(TunnelId),
    /// An inbound association.
    Inbound {
        /// Its SPI.
        spi: u32,
        /// Its tunnel.
        tunnel: TunnelId,
    },
    /// An underlay port.
    Underlay(u16),
}

impl From<Origin> for Subject {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Port(port) => Subject::Port(port),
            Origin::Tunnel(tunnel) => Subject::Tunnel(tunnel),
        }
    }
}

impl Subject {
    fn hash(self) -> usize {
        let (kind, id) = match self {
            Subject::Port(port) => (1, port.index()),
            Subject::Tunnel(tunnel) => (2, tunnel.index()),
            Subject::Inbound { spi, .. } => (3, spi as usize),
            Subject::Underlay(port) => (4, usize::from(port)),
        };
        (id ^ kind << 28).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Bytes kept of a packet: Ethernet to UDP, IPv6 and tags included.
const HEAD: usize = 96;
/// Different sightings between two reports; a power of two.
const PLACES: usize = 128;
/// Places that one may be in.
const NEAR: usize = 8;

/// Drops for one reason on account of one subject.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// Why.
    pub verdict: Verdict,
    /// Whom it concerns.
    pub subject: Subject,
    /// How many packets.
    pub count: u64,
    head: [u8; HEAD],
    head_len: u8,
    /// Length of the first packet in bytes.
    pub len: u32,
}

impl Sighting {
    /// How the first of the packets began.
    pub fn head(&self) -> &[u8] {
        let len = usize::from(self.head_len);
        self.head.get(..len).unwrap_or(&self.head)
    }
}

/// Those of one worker since its last report.
pub struct Sightings {
    places: Box<[Option<Sighting>; PLACES]>,
    any: bool,
    /// Packets for which there was no place.
    unplaced: u64,
}

/// What a worker reports.
#[derive(Debug, Default)]
pub struct Seen {
    /// What there was a place for.
    pub sightings: Vec<Sighting>,
    /// How many packets there was none for.
    pub unplaced: u64,
}

impl Default for Sightings {
    fn default() -> Self {
        Sightings {
            places: Box::new([const { None }; PLACES]),
            any: false,
            unplaced: 0,
        }
    }
}

impl Sightings {
    /// Notes a packet that ends, if its end is of any concern.
    #[inline]
    pub fn note(&mut self, verdict: Verdict, subject: impl Into<Subject>, packet: &Mbuf) {
        if Kind::of(verdict).is_some() {
            self.count(verdict, subject.into(), packet.head(), packet.len());
        }
    }

    #[cold]
    fn count(&mut self, verdict: Verdict, subject: Subject, head: &[u8], len: usize) {
        self.any = true;
        let first = (subject.hash() >> 32) ^ verdict as usize;
        for i in 0..NEAR {
            let Some(place) = self.places.get_mut((first + i) % PLACES) else {
                continue;
            };
            match place {
                Some(seen) if seen.verdict == verdict && seen.subject == subject => {
                    seen.count += 1;
                    return;
                }
                Some(_) => {}
                None => {
                    let mut kept = [0; HEAD];
                    let n = head.len().min(HEAD);
                    for (to, from) in kept.iter_mut().zip(head) {
                        *to = *from;
                    }
                    *place = Some(Sighting {
                        verdict,
                        subject,
                        count: 1,
                        head: kept,
                        head_len: n as u8,
                        len: len as u32,
                    });
                    return;
                }
            }
        }
        self.unplaced += 1;
    }

    /// Hands over what there is, at a burst boundary; `None` if there is nothing. What could
    /// not be told is given back by [`Self::restore`].
    pub fn take(&mut self) -> Option<Box<Seen>> {
        if !std::mem::take(&mut self.any) {
            return None;
        }
        let sightings = self.places.iter_mut().filter_map(Option::take).collect();
        Some(Box::new(Seen {
            sightings,
            unplaced: std::mem::take(&mut self.unplaced),
        }))
    }

    /// Goes on with what [`Self::take`] gave, right after it.
    pub fn restore(&mut self, seen: Seen) {
        self.any = true;
        self.unplaced += seen.unplaced;
        for (place, sighting) in self.places.iter_mut().zip(seen.sightings) {
            // Not where it was, so it may come to have a second entry: the counts still add up.
            *place = Some(sighting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_by_reason_and_subject_and_the_first_packet_is_kept() {
        let mut seen = Sightings::default();
        assert!(seen.take().is_none());
        let port = Subject::Port(PortId(7));
        seen.count(Verdict::SpoofedMac, port, &[1; 200], 300);
        seen.count(Verdict::SpoofedMac, port, &[2; 60], 60);
        seen.count(Verdict::SpoofedIp, port, &[3; 60], 60);
        seen.count(Verdict::SpoofedMac, Subject::Port(PortId(8)), &[], 0);
        let taken = seen.take().unwrap();
        assert_eq!(taken.sightings.len(), 3);
        let first = taken
            .sightings
            .iter()
            .find(|s| s.verdict == Verdict::SpoofedMac && s.subject == port)
            .unwrap();
        assert_eq!((first.count, first.len), (2, 300));
        assert_eq!(first.head(), [1; HEAD]);
        assert!(seen.take().is_none());

        seen.restore(*taken);
        let again = seen.take().unwrap();
        assert_eq!(again.sightings.iter().map(|s| s.count).sum::<u64>(), 4);
    }

    #[test]
    fn what_has_no_place_is_counted() {
        let mut seen = Sightings::default();
        for id in 0..10_000_u32 {
            let subject = Subject::Inbound {
                spi: id,
                tunnel: TunnelId(0),
            };
            seen.count(Verdict::AuthFailed, subject, &[0; 60], 60);
        }
        let taken = seen.take().unwrap();
        assert!(taken.sightings.len() > PLACES / 2);
        let counted: u64 = taken.sightings.iter().map(|s| s.count).sum();
        assert_eq!(counted + taken.unplaced, 10_000);
    }
}
