//! A protected packet on its way over a hostile underlay: every single bit of the whole frame
//! changed, outer headers included, and the frame cut at every length. Every counter is
//! checked. What the outer headers may say without harm is delivered: nothing of them is
//! believed, since the ICV covers SPI, sequence number and payload, and the SA says the peer.

use pmd_tests::frames::{internet_checksum, mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;
use pmd_tests::tally::Tally;

/// Bytes of the tenant's frame.
const INNER: usize = 90;
const TUNNEL: &str = "blue/b";

/// How a packet ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The change does not matter: delivered.
    Delivered,
    /// Charged to the underlay port.
    Port(&'static str),
    /// Charged to the SA's tunnel too.
    Sa(&'static str),
}

use End::{Delivered, Port, Sa};

/// Not overlay traffic any more: the host kernel's, which this rig has no tap for.
const KERNEL: End = Port("no-exception-port");
const MALFORMED: End = Port("malformed");

impl End {
    fn note(self, tally: &mut Tally, len: usize) {
        match self {
            Delivered => tally.delivered(len, ("blue", "b"), "blue-1", INNER),
            Port(why) => tally.underlay_drop(len, why),
            Sa(why) => tally.sa_drop(len, TUNNEL, why),
        }
    }
}

/// Where the layers of a packet begin.
#[derive(Clone, Copy)]
struct Layout {
    udp: usize,
    esp: usize,
}

const V4: Layout = Layout { udp: 34, esp: 42 };
const V6: Layout = Layout { udp: 54, esp: 62 };

/// Ethernet, UDP and ESP are the same over both families. `packet` is the changed one.
fn common(layout: Layout, packet: &[u8], at: usize, mask: u8) -> End {
    let Layout { udp, esp } = layout;
    match at {
        // To a group: taken up, as the kernel would.
        0 if mask == 1 => Delivered,
        0..6 => Port("not-for-us"),
        6..12 => Delivered,
        // Another protocol, to our MAC.
        12..14 => KERNEL,
        // NAT may change the source port (RFC 3948); the destination port makes it ESP.
        _ if (udp..udp + 2).contains(&at) => Delivered,
        _ if (udp + 2..udp + 4).contains(&at) => KERNEL,
        _ if (udp + 4..udp + 6).contains(&at) => {
            let len = usize::from(u16::from_be_bytes([packet[udp + 4], packet[udp + 5]]));
            if len < 8 || len > packet.len() - udp {
                return MALFORMED;
            }
            esp_of_length(len - 8)
        }
        // Not verified: the ICV says more.
        _ if (udp + 6..udp + 8).contains(&at) => Delivered,
        _ => match at - esp {
            0..4 => Port("unknown-spi"),
            // Number and IV contradict one another.
            4..8 | 12..16 => Sa("iv-mismatch"),
            _ => Sa("auth-failed"),
        },
    }
}

/// An ESP packet that lost its end. Without SPI and number there is no SA to charge.
fn esp_of_length(len: usize) -> End {
    match len {
        0..8 => Port("esp-truncated"),
        // Header, IV, the shortest text, ICV.
        8..36 => Sa("esp-truncated"),
        _ if !len.is_multiple_of(4) => Sa("esp-truncated"),
        _ => Sa("auth-failed"),
    }
}

/// A changed bit of IPv4, the header checksum made right again.
fn ipv4(packet: &[u8], at: usize, mask: u8) -> End {
    match at - 14 {
        // Version; header length 4, 1, 7 (then ESP's number is the UDP length: zero).
        0 if mask != 8 => MALFORMED,
        // Header length 13: the UDP header is read inside the ciphertext.
        0 => {
            let udp = 14 + 13 * 4;
            let field = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
            let len = field(udp + 4);
            match field(udp + 2) {
                _ if len < 8 || len > packet.len() - udp => MALFORMED,
                4500 | 4789 | 6081 => panic!("one key in 20,000: run it again"),
                _ => KERNEL,
            }
        }
        // DSCP and ECN, identification, TTL: nothing is derived from them.
        1 | 4 | 5 | 8 => Delivered,
        // Total length: beyond the frame, or less than UDP says.
        2 | 3 => MALFORMED,
        // The reserved bit and DF.
        6 if mask >= 0x40 => Delivered,
        // MF, fragment offset.
        6 | 7 => Port("underlay-fragment"),
        9 => KERNEL,
        10 | 11 => panic!("the checksum was to be right"),
        12..16 => Sa("wrong-peer"),
        _ => Port("underlay-destination"),
    }
}

/// A changed bit of IPv6.
fn ipv6(at: usize, mask: u8) -> End {
    match at - 14 {
        0 if mask >= 0x10 => MALFORMED,
        // Traffic class and flow label, hop limit.
        0..4 | 7 => Delivered,
        4 | 5 => MALFORMED,
        6 => KERNEL,
        8..24 => Sa("wrong-peer"),
        _ => Port("underlay-destination"),
    }
}

/// Sends what `change` makes of a packet, bit by bit, each with a number of its own. `change`
/// returns `None` for bits that are not its business.
fn each_bit(setup: Setup, layout: Layout, change: impl Fn(&mut [u8], usize, u8) -> Option<End>) {
    let mut rig = Rig::start(setup);
    let mut seq = 0;
    let len = rig
        .sealed("blue", "b", 1, &pattern(mac(1), mac(2), 0, INNER))
        .len();
    assert_eq!(len, layout.esp + 8 + 8 + 108 + 16);
    let (mut delivered, mut changed) = (0, 0);
    for first in (0..len * 8).step_by(256) {
        let (mut tally, mut packets, mut expected) = (Tally::new(), Vec::new(), Vec::new());
        for bit in first..(first + 256).min(len * 8) {
            let (at, mask) = (bit / 8, 1 << (bit % 8));
            let frame = pattern(mac(1), mac(2), bit as u8, INNER);
            let mut packet = rig.sealed("blue", "b", seq + 1, &frame);
            packet[at] ^= mask;
            let Some(end) = change(&mut packet, at, mask) else {
                continue;
            };
            seq += 1;
            end.note(&mut tally, packet.len());
            if end == Delivered {
                expected.push((101, frame));
            }
            packets.push(packet);
        }
        rig.from_underlay(&packets);
        let out = rig.settle();
        tally.check(&out.changes);
        assert_eq!(out.trunk, expected, "as they were sent, in order");
        assert!(out.underlay.is_empty(), "nothing is answered");
        (delivered, changed) = (delivered + expected.len(), changed + packets.len());
    }
    assert!(delivered > 0 && delivered < changed);
    // A forged high number did not move the window, and nothing spent a number.
    let frame = pattern(mac(1), mac(2), 0, INNER);
    let packet = rig.sealed("blue", "b", seq + 1, &frame);
    rig.from_underlay(&[packet]);
    assert_eq!(rig.settle().trunk, [(101, frame)]);
    let status = rig.stop();
    let sa = status.sas.iter().find(|sa| sa.direction == "inbound");
    let sa = sa.expect("an SA");
    assert_eq!((sa.sequence, sa.packets), (seq + 1, delivered as u64 + 1));
    println!("{changed} bits changed, {delivered} without effect");
}

#[test]
fn every_bit_over_ipv4() {
    isolated(|| {
        each_bit(Setup::new(), V4, |packet, at, mask| {
            Some(match at {
                // Whatever it was, the header checksum is wrong.
                14..34 => MALFORMED,
                _ => common(V4, packet, at, mask),
            })
        });
    });
}

#[test]
fn every_bit_of_the_ipv4_header_by_somebody_who_corrects_the_checksum() {
    isolated(|| {
        each_bit(Setup::new(), V4, |packet, at, mask| {
            if !(14..34).contains(&at) || at == 24 || at == 25 {
                return None;
            }
            let header = usize::from(packet[14] & 15) * 4;
            packet[24..26].fill(0);
            let sum = internet_checksum(&[&packet[14..14 + header.max(20)]]);
            packet[24..26].copy_from_slice(&sum.to_be_bytes());
            Some(ipv4(packet, at, mask))
        });
    });
}

#[test]
fn every_bit_over_ipv6() {
    isolated(|| {
        each_bit(Setup::over_ipv6(), V6, |packet, at, mask| {
            Some(match at {
                14..54 => ipv6(at, mask),
                _ => common(V6, packet, at, mask),
            })
        });
    });
}

fn every_length(setup: Setup) {
    let mut rig = Rig::start(setup);
    let frame = pattern(mac(1), mac(2), 0, INNER);
    let payload = rig.overlay("blue", "b", &frame);
    let (sa, from) = (rig.setup.inbound("blue", "b"), rig.from("b"));
    let esp = sa.seal(1, &payload);
    let whole = from.packet(&esp);
    let (mut tally, mut packets) = (Tally::new(), Vec::new());
    // The datagram is cut and its headers agree; a byte of 0xff would be a keepalive.
    assert_ne!(esp[0], 0xff);
    for len in 0..esp.len() {
        let packet = from.packet(&esp[..len]);
        esp_of_length(len).note(&mut tally, packet.len());
        packets.push(packet);
    }
    // The frame is cut and its headers contradict it.
    for len in 0..whole.len() {
        MALFORMED.note(&mut tally, len);
        packets.push(whole[..len].to_vec());
    }
    rig.from_underlay(&packets);
    let out = rig.settle();
    tally.check(&out.changes);
    assert!(out.underlay.is_empty() && out.trunk.is_empty());

    // Bytes behind the IP packet are Ethernet's padding, bytes behind the datagram are not ESP.
    let mut tally = Tally::new();
    let padded = [&whole[..], &[0xa5; 9]].concat();
    Delivered.note(&mut tally, padded.len());
    rig.from_underlay(&[padded]);
    let out = rig.settle();
    tally.check(&out.changes);
    assert_eq!(out.trunk, [(101, frame)]);
    rig.stop();
}

#[test]
fn every_length_over_ipv4() {
    isolated(|| every_length(Setup::new()));
}

#[test]
fn every_length_over_ipv6() {
    isolated(|| every_length(Setup::over_ipv6()));
}
