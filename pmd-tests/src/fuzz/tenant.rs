//! Tenant input: bursts of frames of one tenant through the whole pipeline. Whatever comes out
//! anywhere is in its sender's own name and in its sender's own network; every buffer comes
//! back.

use super::{Eat, frames, honest, joined};
use crate::discovery::{
    self as disc, NEIGHBOR_ADVERT, NEIGHBOR_SOLICIT, REQUEST, ROUTER_ADVERT, SOURCE_LLA,
    TARGET_LLA, about, arp, chain, fragment, icmp6, lla, nd, on_link, router,
};
use crate::frames::{BROADCAST, Mac, ip4, ip6, mac, pattern, tagged, udp4, udp6};
use crate::hand::{BLUE, Exit, Hand, RED, outbound, outer};
use crate::wire::{Encapsulation, Outer};

/// Whose port each is, in the order of [`crate::hand::PORTS`].
const TENANTS: [u8; 3] = [1, 3, 1];

/// Destinations by the second bits of a choice; the first ones say whether the bytes are a
/// whole frame or what is behind good MAC addresses.
fn destination(choice: u8) -> Option<Mac> {
    Some(match choice & 7 {
        1 => mac(3),
        2 => mac(2),
        3 => mac(4),
        4 => BROADCAST,
        5 => disc::ALL_NODES_MAC,
        6 => mac(1),
        _ => return None,
    })
}

/// Starts a worker.
pub fn start() -> Eat {
    let mut hand = Hand::start();
    Box::new(move |bytes| {
        let frames = frames(bytes);
        let port = frames
            .first()
            .map_or(0, |(choice, _)| usize::from(choice >> 6) % 3);
        let n = TENANTS[port];
        let burst: Vec<Vec<u8>> = frames
            .into_iter()
            .map(|(choice, frame)| match destination(choice) {
                Some(dst) => [&dst[..], &mac(n), frame].concat(),
                None => frame.to_vec(),
            })
            .collect();
        hand.tenant(port, burst.iter().map(Vec::as_slice));
        hand.look(|exit, frame| match exit {
            // The answer to a packet that was too big: from where it was to go.
            Exit::Tenant(back) if back == port => assert!(is_too_big(frame, n), "{frame:02x?}"),
            Exit::Tenant(other) => {
                assert!(other < 2 && port < 2, "from network to network");
                honest::check(frame, n);
            }
            Exit::Underlay => honest::check(&unwrapped(frame, port), n),
            Exit::Kernel | Exit::Colleague => panic!("to {exit:?}: {frame:02x?}"),
        });
        hand.check();
    })
}

/// ICMP "fragmentation needed" or ICMPv6 "packet too big" to tenant `n`.
fn is_too_big(frame: &[u8], n: u8) -> bool {
    let [high, low] = [frame[12], frame[13]];
    frame[..6] == mac(n)
        && match u16::from_be_bytes([high, low]) {
            0x0800 => frame[23] == 1 && frame[34..36] == [3, 4],
            0x86dd => frame[20] == 58 && frame[54] == 2,
            _ => false,
        }
}

/// The tenant's frame in a packet to a peer, after every byte around it was checked.
fn unwrapped(packet: &[u8], port: usize) -> Vec<u8> {
    let (headers, payload) = Outer::parse(packet);
    let to = headers.dst_mac[5];
    let expected = outer(to, headers.dport);
    assert_eq!((headers.src, headers.dst), (expected.dst, expected.src));
    let geneve = Encapsulation::Geneve;
    if port == 2 {
        assert_eq!(headers.dport, geneve.port());
        let frame = payload[8..].to_vec();
        assert_eq!(payload, geneve.wrap(RED, &frame), "tunnel header");
        return frame;
    }
    let (_, text) = outbound(to).open(&payload);
    let frame = text[16..].to_vec();
    assert_eq!(text, geneve.datagram(BLUE, &frame), "tunnel header");
    frame
}

/// One of each kind, good and nearly good.
pub fn seeds() -> Vec<Vec<u8>> {
    let local = disc::link_local(mac(1));
    let advert = about(0x6000_0000, ip6(1), &lla(TARGET_LLA, mac(1)));
    let solicit = about(0, ip6(2), &lla(SOURCE_LLA, mac(1)));
    let message = icmp6(local, disc::ALL_NODES, ROUTER_ADVERT, &router(&[]));
    let (next, behind) = chain(
        &[disc::HOP_BY_HOP, disc::DESTINATION],
        disc::ICMPV6,
        &message,
    );
    let frames = [
        udp4(1, 3, 0, 90),
        udp4(1, 2, crate::frames::DF, 1500),
        udp6(1, 2, 1500),
        udp6(1, 3, 90),
        pattern(BROADCAST, mac(1), 0, 60),
        arp(mac(1), REQUEST, (mac(1), ip4(1)), ip4(3)),
        nd(mac(1), ip6(1), NEIGHBOR_ADVERT, &advert),
        nd(mac(1), local, NEIGHBOR_SOLICIT, &solicit),
        on_link(mac(1), local, next, &behind),
        on_link(
            mac(1),
            local,
            disc::FRAGMENT,
            &fragment(disc::ICMPV6, 0, true, &message),
        ),
        tagged(5, &udp4(1, 3, 0, 90)),
    ];
    let mut seeds = Vec::new();
    for frame in &frames {
        seeds.push(joined([(0, &frame[..])]));
        for destination in 1..7 {
            seeds.push(joined([(destination, &frame[12..])]));
        }
        seeds.push(joined([(2 << 6, &frame[..])]));
    }
    seeds.push(joined(frames.iter().map(|f| (1 << 6, &f[..]))));
    seeds
}
