//! Whoever has a key and abuses it: what is authentic and still wrong, of another network or
//! from another's address. Every counter is checked, nothing comes out, and the next good
//! packet passes.

use pmd_tests::frames::{mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::plays::{BLUE, passes, refused};
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use pmd_tests::wire::{Craft, Encapsulation, Outer, Sa};

const INNER: usize = 90;

/// Blue and red, with peers `b` and `c` in both.
fn two_networks() -> Setup {
    let mut setup = Setup::with_c();
    let mut red = Vn::red();
    red.edges.push("c");
    setup.vns.push(red);
    setup
}

#[test]
fn keys_addresses_and_networks_belong_together() {
    isolated(|| {
        let mut rig = Rig::start(two_networks());
        let frame = pattern(mac(1), mac(2), 0, INNER);
        let sa = |rig: &Rig, vn, peer| rig.setup.inbound(vn, peer);
        let text = rig.overlay("blue", "b", &frame);
        let (b, c) = (rig.from("b"), rig.from("c"));
        let blue_b = sa(&rig, "blue", "b");
        let stranger = Outer {
            src: [192, 0, 2, 99].into(),
            ..b
        };

        // Another SPI, known or not, over this SA's key.
        for (vn, peer, tunnel) in [("red", "b", "red/b"), ("blue", "c", "blue/c")] {
            let spi = sa(&rig, vn, peer).spi;
            let wrong = Sa {
                spi,
                ..blue_b.clone()
            };
            let from = rig.from(peer);
            refused(&mut rig, from.packet(&wrong.seal(1, &text)), |t, len| {
                t.sa_drop(len, tunnel, "auth-failed");
            });
        }
        let unknown = Sa {
            spi: 0x7fff_0001,
            ..blue_b.clone()
        };
        refused(&mut rig, b.packet(&unknown.seal(1, &text)), |t, len| {
            t.underlay_drop(len, "unknown-spi");
        });
        // The salt is part of the key.
        let mut salted = blue_b.clone();
        *salted.key_and_salt.last_mut().expect("a byte") ^= 1;
        refused(&mut rig, b.packet(&salted.seal(1, &text)), |t, len| {
            t.sa_drop(len, "blue/b", "auth-failed");
        });

        // A good packet from the address of another peer, of the edge itself, of nobody.
        let own = Outer {
            src: rig.setup.local,
            ..b
        };
        for from in [c, stranger, own] {
            refused(&mut rig, from.packet(&blue_b.seal(1, &text)), |t, len| {
                t.sa_drop(len, "blue/b", "wrong-peer");
            });
        }
        // A good packet to another address, and to another's MAC.
        let elsewhere = Outer {
            dst: [192, 0, 2, 3].into(),
            ..b
        };
        refused(
            &mut rig,
            elsewhere.packet(&blue_b.seal(1, &text)),
            |t, len| {
                t.underlay_drop(len, "underlay-destination");
            },
        );
        let station = Outer {
            dst_mac: c.src_mac,
            ..b
        };
        refused(
            &mut rig,
            station.packet(&blue_b.seal(1, &text)),
            |t, len| {
                t.underlay_drop(len, "not-for-us");
            },
        );

        // Valid packets of other SAs with blue's VNI inside: red's key of the same peer, and
        // blue's of the other peer, which may send to blue, but not in tenant 2's name.
        let red_b = sa(&rig, "red", "b");
        refused(&mut rig, b.packet(&red_b.seal(1, &text)), |t, len| {
            t.sa_drop(len, "red/b", "wrong-vni");
        });
        let blue_c = sa(&rig, "blue", "c");
        refused(&mut rig, c.packet(&blue_c.seal(1, &text)), |t, len| {
            t.inner_drop(len, ("blue", "c"), INNER, "spoofed-remote");
        });
        // Blue's key with red's VNI, and with one that nobody has.
        for (seq, vni) in [(2, 2002), (3, 77), (4, 0), (5, 0xff_ffff)] {
            let text = Encapsulation::Geneve.datagram(vni, &frame);
            refused(&mut rig, b.packet(&blue_b.seal(seq, &text)), |t, len| {
                t.sa_drop(len, "blue/b", "wrong-vni");
            });
        }
        // Reflected: what this edge sent comes back to it as it was.
        let sent = pattern(mac(2), mac(1), 0, INNER);
        rig.from_vlan(101, &[sent]);
        let ours = rig.settle().underlay.remove(0);
        refused(&mut rig, ours, |t, len| t.underlay_drop(len, "not-for-us"));
        let reflected = rig.setup.outbound("blue", "b").seal(1, &text);
        refused(&mut rig, b.packet(&reflected), |t, len| {
            t.underlay_drop(len, "unknown-spi");
        });
        // None of all this was taken for the real one.
        passes(&mut rig, b.packet(&blue_b.seal(1, &text)), &frame);
        rig.stop();
    });
}

#[test]
fn every_field_of_esp_is_checked() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let frame = pattern(mac(1), mac(2), 0, INNER);
        let text = rig.overlay("blue", "b", &frame);
        let (sa, from) = (rig.setup.inbound("blue", "b"), rig.from("b"));
        // 106 bytes of text and two of trailer are aligned: the RFC's padding is none.
        assert_eq!((text.len() + 2) % 4, 0);
        let mut seq = 0;
        let mut craft = |change: &dyn Fn(&mut Craft)| {
            seq += 1;
            let mut craft = Craft::right(seq);
            change(&mut craft);
            craft
        };
        let mut crafts = Vec::new();
        // The IV is the number: off by one, another high half, freely chosen, zero.
        for iv in [
            |seq: u64| seq + 1,
            |seq| seq ^ 0x8000_0000,
            |_| 0,
            |_| 0x0123_4567_89ab_cdef,
            |seq| seq << 32,
        ] {
            crafts.push((craft(&|c| c.iv = iv(c.seq)), "iv-mismatch"));
        }
        // The low half fits, the high half is not the one that was authenticated.
        crafts.push((craft(&|c| c.iv += 1 << 32), "auth-failed"));
        // Every next header but UDP: tunnels in tunnels, dummies (59), nothing at all.
        for next in (0..=255u8).filter(|next| *next != 17) {
            crafts.push((craft(&|c| c.next_header = next), "esp-next-header"));
        }
        // A pad length that says other than what is there.
        for pad in [1, 2, 3, 4, 15, 105, 106, 107, 128, 255] {
            crafts.push((craft(&|c| c.pad_len = Some(pad)), "esp-padding"));
        }
        for wrong in [
            vec![0, 0, 0, 0],
            vec![1, 2, 3, 0],
            vec![4, 3, 2, 1],
            vec![2, 3, 4, 5],
            vec![1, 2, 3, 4, 5, 6, 7, 9],
        ] {
            crafts.push((craft(&|c| c.padding = Some(wrong.clone())), "esp-padding"));
        }
        // 255 bytes of padding are the most there is, and one wrong byte far inside counts.
        let most: Vec<u8> = (1..=252).collect();
        let mut covert = most.clone();
        covert[100] ^= 0x40;
        crafts.push((craft(&|c| c.padding = Some(covert.clone())), "esp-padding"));
        for (craft, why) in &crafts {
            refused(&mut rig, from.packet(&sa.craft(craft, &text)), |t, len| {
                t.sa_drop(len, "blue/b", why);
            });
        }
        // Padding hidden as TFC padding behind the datagram must be zero to the last byte.
        for at in [0, 1, 63] {
            seq += 1;
            let mut tfc = vec![0; 64];
            tfc[at] = 1;
            let text = [&text[..], &tfc].concat();
            refused(&mut rig, from.packet(&sa.seal(seq, &text)), |t, len| {
                t.sa_drop(len, "blue/b", "tfc-padding");
            });
        }
        // As much padding as there can be, if it counts up; TFC padding of zeros.
        let craft = Craft {
            padding: Some(most),
            ..Craft::right(seq + 1)
        };
        passes(&mut rig, from.packet(&sa.craft(&craft, &text)), &frame);
        let padded = [&text[..], &[0; 300]].concat();
        passes(&mut rig, from.packet(&sa.seal(seq + 2, &padded)), &frame);
        let status = rig.stop();
        let inbound = status
            .sas
            .iter()
            .find(|sa| sa.direction == "inbound")
            .expect("an SA");
        // Numbers are spent by what is authentic; of those with a wrong IV none is.
        assert_eq!((inbound.replayed, inbound.auth_failed), (0, 1));
    });
}

#[test]
fn every_field_of_the_tunnel_header_is_checked() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let frame = pattern(mac(1), mac(2), 0, INNER);
        let right = rig.overlay("blue", "b", &frame);
        let (sa, from) = (rig.setup.inbound("blue", "b"), rig.from("b"));
        let mut seq = 0;
        for bit in 0..16 * 8 {
            let (at, mask) = (bit / 8, 1 << (bit % 8));
            let mut text = right.clone();
            text[at] ^= mask;
            seq += 1;
            let packet = from.packet(&sa.seal(seq, &text));
            let why = match at {
                // UDP: the source port says nothing, the checksum is not needed here.
                0 | 1 | 6 | 7 => None,
                2 | 3 => Some("tunnel-malformed"),
                // Its length: beyond the text, or less. Then the rest is not zero.
                4 | 5 => {
                    let len = u16::from_be_bytes([text[4], text[5]]);
                    match usize::from(len) {
                        16.. if usize::from(len) < right.len() => Some("tfc-padding"),
                        _ => Some("tunnel-malformed"),
                    }
                }
                // Geneve: version; an option length, so that the frame is read as options, the
                // second of which is too long.
                8 if mask >= 0x40 => Some("tunnel-malformed"),
                // One word: a harmless option, and what follows is a frame of nobody's.
                8 if mask == 1 => {
                    refused(&mut rig, packet, |t, len| {
                        t.inner_drop(len, BLUE, INNER - 4, "spoofed-remote");
                    });
                    continue;
                }
                8 => Some("tunnel-malformed"),
                // O; C without options says nothing; reserved bits are ignored (RFC 8926, 3.4).
                9 if mask == 0x80 => Some("tunnel-malformed"),
                9 => None,
                10 | 11 => Some("tunnel-malformed"),
                12..15 => Some("wrong-vni"),
                _ => None,
            };
            match why {
                Some(why) => refused(&mut rig, packet, |t, len| t.sa_drop(len, "blue/b", why)),
                None => passes(&mut rig, packet, &frame),
            }
        }
        rig.stop();
    });
}
