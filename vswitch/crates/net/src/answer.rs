//! The answer to a question for a neighbour whose address is known here: an ARP reply (RFC 826)
//! or a neighbour advertisement (RFC 4861, 7.2.4), as the neighbour itself would send it.

use std::net::{IpAddr, Ipv6Addr};

use zerocopy::IntoBytes;

use crate::MacAddr;
use crate::arp::{self, ArpPacket};
use crate::checksum::Checksum;
use crate::ethernet::{EthernetHeader, ethertype};
use crate::frame::{Frame, L3, L4};
use crate::ip::protocol;
use crate::ipv6::{self, Ipv6Header};
use crate::nd::{FLAG_OVERRIDE, FLAG_SOLICITED, Nd, NeighborMessage};
use crate::wire;

/// The longest frame [`build`] writes.
pub const MAX_FRAME: usize = 14 + ipv6::HEADER_LEN + size_of::<NeighborMessage>();

/// Where an answer to a probe without a source address goes (RFC 4861, 7.2.4).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The address that a frame asks for; `None` if it is no question for a neighbour, or one about
/// the asker itself (a gratuitous ARP, RFC 5227, section 3).
pub fn asked(frame: &Frame) -> Option<IpAddr> {
    match (frame.l3, frame.l4) {
        (
            L3::Arp {
                op: arp::REQUEST,
                sender_ip,
                target_ip,
                ..
            },
            _,
        ) if sender_ip != target_ip => Some(target_ip.into()),
        (
            L3::Ipv6 { src, .. },
            L4::Icmpv6 {
                nd: Some(Nd::NeighborSolicit { target, .. }),
                ..
            },
        ) if src != target => Some(target.into()),
        _ => None,
    }
}

/// Writes the answer to `frame`, for which [`asked`] gave an address, into `out`: that `mac` has
/// the address. Returns its length; `None` if it is no such frame, or `out` is too short.
pub fn build(frame: &Frame, mac: MacAddr, out: &mut [u8]) -> Option<usize> {
    let header = |ethertype: u16, dst| EthernetHeader {
        dst,
        src: mac,
        ethertype: ethertype.into(),
    };
    match (frame.l3, frame.l4) {
        (
            L3::Arp {
                op: arp::REQUEST,
                sender_mac,
                sender_ip,
                target_ip,
                ..
            },
            _,
        ) => {
            let at = wire::put(out, 0, &header(ethertype::ARP, frame.src))?;
            let reply = ArpPacket::new(arp::REPLY, (mac, target_ip), (sender_mac, sender_ip));
            wire::put(out, at, &reply)
        }
        (
            L3::Ipv6 { src, .. },
            L4::Icmpv6 {
                nd: Some(Nd::NeighborSolicit { target, .. }),
                ..
            },
        ) => {
            let (dst, flags) = match src.is_unspecified() {
                true => (ALL_NODES, FLAG_OVERRIDE),
                false => (src, FLAG_SOLICITED | FLAG_OVERRIDE),
            };
            let mut message = NeighborMessage::advert(target, mac, flags);
            let len = size_of::<NeighborMessage>() as u16;
            let ip = Ipv6Header {
                version_class_flow: 0x6000_0000.into(),
                payload_len: len.into(),
                next_header: protocol::ICMPV6,
                // RFC 4861, 7.1.2: a receiver discards any other.
                hop_limit: 255,
                src: target.octets(),
                dst: dst.octets(),
            };
            let mut sum = Checksum::new();
            sum.add_pseudo_v6(target, dst, protocol::ICMPV6, u32::from(len));
            sum.add(message.as_bytes());
            message.icmp.checksum = sum.finish().into();
            let at = wire::put(out, 0, &header(ethertype::IPV6, frame.src))?;
            let at = wire::put(out, at, &ip)?;
            wire::put(out, at, &message)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    const HOLDER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);

    fn parse(bytes: &[u8]) -> Frame {
        Frame::parse(bytes, bytes.len()).expect("a frame")
    }

    fn arp_request(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let header = EthernetHeader {
            dst: MacAddr([0xff; 6]),
            src: ASKER,
            ethertype: ethertype::ARP.into(),
        };
        let asked = (MacAddr([0; 6]), target.into());
        let packet = ArpPacket::new(arp::REQUEST, (ASKER, sender.into()), asked);
        [header.as_bytes(), packet.as_bytes()].concat()
    }

    fn solicit(src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
        let header = EthernetHeader {
            dst: MacAddr([0x33, 0x33, 0xff, 0, 0, 2]),
            src: ASKER,
            ethertype: ethertype::IPV6.into(),
        };
        let ip = Ipv6Header {
            version_class_flow: 0x6000_0000.into(),
            payload_len: (size_of::<NeighborMessage>() as u16).into(),
            next_header: protocol::ICMPV6,
            hop_limit: 255,
            src: src.octets(),
            dst: "ff02::1:ff00:2"
                .parse::<Ipv6Addr>()
                .expect("an address")
                .octets(),
        };
        let message = NeighborMessage::solicit(target, ASKER);
        [header.as_bytes(), ip.as_bytes(), message.as_bytes()].concat()
    }

    #[test]
    fn an_arp_request_is_answered_by_the_holder() {
        let question = arp_request([10, 0, 0, 1], [10, 0, 0, 2]);
        let frame = parse(&question);
        assert_eq!(asked(&frame), Some("10.0.0.2".parse().expect("an address")));
        let mut out = [0; MAX_FRAME];
        let len = build(&frame, HOLDER, &mut out).expect("an answer");
        let answer = parse(out.get(..len).expect("its bytes"));
        assert_eq!((answer.src, answer.dst), (HOLDER, ASKER));
        assert_eq!(
            answer.l3,
            L3::Arp {
                op: arp::REPLY,
                sender_mac: HOLDER,
                sender_ip: [10, 0, 0, 2].into(),
                target_mac: ASKER,
                target_ip: [10, 0, 0, 1].into(),
            }
        );
        assert_eq!(asked(&answer), None);
        assert_eq!(build(&frame, HOLDER, &mut [0; 20]), None);
    }

    #[test]
    fn a_solicitation_is_answered_and_a_probe_to_all() {
        let target: Ipv6Addr = "fd00::2".parse().expect("an address");
        for (src, dst) in [
            ("fd00::1", "fd00::1"),
            // Duplicate address detection: the address is taken.
            ("::", "ff02::1"),
        ] {
            let question = solicit(src.parse().expect("an address"), target);
            let frame = parse(&question);
            assert_eq!(asked(&frame), Some(target.into()));
            let mut out = [0; MAX_FRAME];
            let len = build(&frame, HOLDER, &mut out).expect("an answer");
            let bytes = out.get(..len).expect("its bytes");
            let answer = parse(bytes);
            let dst: Ipv6Addr = dst.parse().expect("an address");
            assert_eq!(answer.dst_ip(), Some(dst.into()));
            assert!(matches!(
                answer.l4,
                L4::Icmpv6 { nd: Some(Nd::NeighborAdvert { target: t, target_lla: Some(HOLDER), .. }), .. }
                if t == target
            ));
            let mut sum = Checksum::new();
            sum.add_pseudo_v6(target, dst, protocol::ICMPV6, (len - 54) as u32);
            sum.add(bytes.get(54..).expect("the message"));
            assert_eq!(sum.finish(), 0);
        }
    }

    #[test]
    fn who_asks_for_itself_is_not_answered() {
        let gratuitous = arp_request([10, 0, 0, 1], [10, 0, 0, 1]);
        assert_eq!(asked(&parse(&gratuitous)), None);
    }
}
