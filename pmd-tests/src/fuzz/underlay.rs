//! Underlay input: bursts of frames through the whole pipeline. Some are whole frames, some
//! are put behind good headers, and some are sealed with a peer's key first, since no fuzzer
//! guesses an ICV. Nothing is answered, no tenant hears a lie, every buffer comes back.

use super::{Eat, frames, honest, joined};
use crate::discovery::{
    NEIGHBOR_ADVERT, REPLY, ROUTER_ADVERT, TARGET_LLA, about, arp_to, lla, nd, router,
};
use crate::frames::{BROADCAST, ip4, ip6, mac, pattern, udp4, udp6};
use crate::hand::{BLUE, Exit, Hand, RED, inbound, outer};
use crate::wire::{Craft, ESP_PORT, Encapsulation};

/// What the bytes of a frame are.
const WHOLE: u8 = 0;
const ESP: u8 = 1;
/// Sealed as what ESP protects.
const TEXT: u8 = 2;
/// Sealed behind good tunnel headers.
const INNER: u8 = 3;
/// In the clear to Geneve's port.
const CLEAR: u8 = 4;
/// In the clear behind a good Geneve header.
const CLEAR_INNER: u8 = 5;
/// To VXLAN's port.
const VXLAN: u8 = 6;
/// UDP to any port: the first two bytes.
const UDP: u8 = 7;

/// Starts a worker; its sequence numbers go on from input to input.
pub fn start() -> Eat {
    let mut hand = Hand::start();
    let sa = inbound(2);
    let mut seq = 0;
    Box::new(move |bytes| {
        let mut sealed = 0;
        let packets: Vec<Vec<u8>> = frames(bytes)
            .into_iter()
            .map(|(choice, frame)| {
                let mut seal = |text: &[u8]| {
                    (seq, sealed) = (seq + 1, sealed + 1);
                    // What is left of the choice makes the packet's own fields wrong.
                    let craft = match choice >> 3 {
                        1 => Craft {
                            next_header: 59,
                            ..Craft::right(seq)
                        },
                        2 => Craft {
                            pad_len: text.last().copied(),
                            ..Craft::right(seq)
                        },
                        3 => Craft {
                            iv: seq + 1,
                            ..Craft::right(seq)
                        },
                        _ => Craft::right(seq),
                    };
                    outer(2, ESP_PORT).packet(&sa.craft(&craft, text))
                };
                match choice & 7 {
                    WHOLE => frame.to_vec(),
                    ESP => outer(2, ESP_PORT).packet(frame),
                    TEXT => seal(frame),
                    INNER => seal(&Encapsulation::Geneve.datagram(BLUE, frame)),
                    CLEAR => outer(2, 6081).packet(frame),
                    CLEAR_INNER => outer(2, 6081).packet(&Encapsulation::Geneve.wrap(RED, frame)),
                    VXLAN => outer(2, 4789).packet(frame),
                    UDP.. => match frame {
                        [a, b, rest @ ..] => outer(2, u16::from_be_bytes([*a, *b])).packet(rest),
                        _ => outer(3, ESP_PORT).packet(frame),
                    },
                }
            })
            .collect();
        hand.underlay(packets.iter().map(Vec::as_slice));
        let mut delivered = 0;
        hand.look(|exit, frame| match exit {
            Exit::Tenant(2) => honest::check(frame, 2),
            Exit::Tenant(_) => {
                delivered += 1;
                honest::check(frame, 2);
            }
            Exit::Kernel => assert!(!is_overlay(frame), "to the kernel: {frame:02x?}"),
            Exit::Underlay => panic!("answered: {frame:02x?}"),
            Exit::Colleague => panic!("handed over: {frame:02x?}"),
        });
        // A broadcast reaches both of blue's tenants.
        assert!(delivered <= 2 * sealed, "{delivered} of {sealed}");
        hand.check();
    })
}

/// Whether a frame on its way to the host kernel is a packet of a tunnel.
pub fn is_overlay(frame: &[u8]) -> bool {
    let udp = match frame.get(12..14) {
        // A later fragment has no port.
        Some([0x08, 0x00]) if frame[23] == 17 && frame[20] & 0x1f == 0 && frame[21] == 0 => {
            14 + usize::from(frame[14] & 15) * 4
        }
        Some([0x86, 0xdd]) if frame[20] == 17 => 54,
        _ => return false,
    };
    let port = u16::from_be_bytes([frame[udp + 2], frame[udp + 3]]);
    let ike = frame.get(udp + 8..udp + 12) == Some(&[0; 4]);
    [6081, 4789].contains(&port) || port == ESP_PORT && !ike
}

/// One of each kind, good and nearly good.
pub fn seeds() -> Vec<Vec<u8>> {
    let local = crate::discovery::link_local(mac(2));
    let advert = about(0x6000_0000, ip6(2), &lla(TARGET_LLA, mac(2)));
    let inner = [
        udp4(2, 1, 0, 90),
        udp6(2, 3, 90),
        udp4(4, 1, 0, 90),
        pattern(BROADCAST, mac(2), 0, 60),
        arp_to(mac(1), mac(2), REPLY, (mac(2), ip4(2)), ip4(1)),
        nd(mac(2), ip6(2), NEIGHBOR_ADVERT, &advert),
        nd(mac(2), local, ROUTER_ADVERT, &router(&[])),
        pattern(mac(1), mac(2), 0, 1400),
    ];
    let mut seeds = Vec::new();
    for frame in &inner {
        let geneve = Encapsulation::Geneve;
        let esp = inbound(2).seal(1, &geneve.datagram(BLUE, frame));
        let whole = outer(2, ESP_PORT).packet(&esp);
        let port = [&500u16.to_be_bytes()[..], frame].concat();
        seeds.push(joined([
            (WHOLE, &whole[..]),
            (ESP, &esp),
            (TEXT, &geneve.datagram(BLUE, frame)),
            (INNER, frame),
            (CLEAR, &geneve.wrap(RED, frame)),
            (CLEAR_INNER, frame),
            (VXLAN, &Encapsulation::Vxlan.wrap(RED, frame)),
            (UDP, &port),
        ]));
        seeds.push(joined([(INNER, &frame[..])]));
        seeds.push(joined([(TEXT | 2 << 3, &geneve.datagram(BLUE, frame)[..])]));
        seeds.push(joined([(WHOLE, &frame[..])]));
    }
    // Geneve with options; a keepalive, IKE, ESP that is too short.
    let options = [
        &[2, 0, 0x65, 0x58, 0, 3, 0xe9, 0][..],
        &[1, 2, 1, 1, 0, 0, 0, 0],
        &inner[0],
    ];
    seeds.push(joined([(CLEAR, &options.concat()[..])]));
    for short in [&[0xff][..], &[0; 12], &[0, 0, 0x20], &[]] {
        seeds.push(joined([(ESP, short)]));
    }
    seeds
}
