//! Random packets at full speed: nothing delivered, nothing answered, nothing of a tunnel to
//! the host kernel, and as many buffers as before.
//!
//! How many is [`PACKETS`] or `VSWITCH_FLOOD` (see `docs/testing.md`), the seed
//! `VSWITCH_FLOOD_SEED`; both are printed.

use std::time::Instant;

use pmd_tests::frames::{mac, pattern, udp4, udp6};
use pmd_tests::fuzz::underlay::is_overlay;
use pmd_tests::hand::{BLUE, Exit, Hand, RED, inbound, outer};
use pmd_tests::isolate::isolated;
use pmd_tests::noise::Noise;
use pmd_tests::wire::{ESP_PORT, Encapsulation, Outer};
use vswitch::dpdk::mbuf::BURST;

/// For every run of the tests.
const PACKETS: u64 = 2_000_000;
/// Longest packet of pure noise.
const LONGEST: usize = 1514;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A packet that would pass, and where in it lies what authentication or authority hangs on:
/// with any bit of that changed, it must not.
struct Template {
    packet: Vec<u8>,
    vital: std::ops::Range<usize>,
}

fn templates() -> Vec<Template> {
    let frames = [
        pattern(mac(1), mac(2), 0, 60),
        udp4(2, 1, 0, 90),
        udp6(2, 3, 300),
        pattern(mac(1), mac(2), 0, 1400),
    ];
    let stranger = |dport| Outer {
        // Many bits away from a peer's address.
        src: [203, 0, 113, 200].into(),
        ..outer(2, dport)
    };
    let mut templates = Vec::new();
    for (seq, frame) in (1..).zip(&frames) {
        let geneve = Encapsulation::Geneve;
        let esp = inbound(2).seal(seq, &geneve.datagram(BLUE, frame));
        let packet = outer(2, ESP_PORT).packet(&esp);
        let vital = packet.len() - esp.len()..packet.len();
        templates.push(Template { packet, vital });
        // In the clear: into a protected network, and from a stranger into the clear one.
        for packet in [
            outer(2, 6081).packet(&geneve.wrap(BLUE, frame)),
            outer(2, 4789).packet(&Encapsulation::Vxlan.wrap(BLUE, frame)),
            stranger(6081).packet(&geneve.wrap(RED, frame)),
        ] {
            // The frame itself: whatever it becomes, it is refused.
            let vital = packet.len() - frame.len()..packet.len();
            templates.push(Template { packet, vital });
        }
    }
    templates
}

/// Writes one packet into `out`.
fn make(noise: &mut Noise, templates: &[Template], out: &mut Vec<u8>) {
    out.clear();
    let kind = noise.below(8);
    if kind == 0 {
        // Noise from the first byte on, of any length.
        out.resize(noise.below(LONGEST + 1), 0);
        return noise.fill(out);
    }
    if kind == 1 {
        // Noise behind headers that lead deep: Ethernet to us, then IPv4, then UDP to a tunnel.
        let port = [ESP_PORT, 6081, 4789, 500][noise.below(4)];
        let mut payload = vec![0; noise.below(200)];
        noise.fill(&mut payload);
        *out = outer(2, port).packet(&payload);
        return;
    }
    let template = &templates[noise.below(templates.len())];
    out.extend_from_slice(&template.packet);
    let at = template.vital.start + noise.below(template.vital.len());
    match kind {
        2..=4 => {}
        // Bits of the headers as well.
        5 => {
            for _ in 0..=noise.below(3) {
                let at = noise.below(template.vital.start);
                out[at] ^= 1 << noise.below(8);
            }
        }
        6 => return out.truncate(at),
        _ => noise.fill(&mut out[at..]),
    }
    // From what it was, or noise could make it good again.
    out[at] = template.packet[at] ^ 1 << noise.below(8);
}

#[test]
fn random_packets_are_neither_delivered_nor_leaked() {
    isolated(|| {
        let (packets, seed) = (
            number("VSWITCH_FLOOD", PACKETS),
            number("VSWITCH_FLOOD_SEED", 1),
        );
        println!("{packets} packets, seed {seed}");
        let (mut hand, mut noise, templates) = (Hand::start(), Noise::new(seed), templates());
        let mut burst = vec![Vec::new(); BURST];
        let (mut sent, mut to_kernel, began) = (0, 0, Instant::now());
        while sent < packets {
            for packet in &mut burst {
                make(&mut noise, &templates, packet);
            }
            hand.underlay(burst.iter().map(Vec::as_slice));
            sent += BURST as u64;
            hand.look(|exit, frame| match exit {
                Exit::Kernel => {
                    to_kernel += 1;
                    assert!(!is_overlay(frame), "to the kernel: {frame:02x?}");
                }
                Exit::Tenant(_) | Exit::Underlay | Exit::Colleague => {
                    panic!("to {exit:?}: {frame:02x?}")
                }
            });
            if sent % (1 << 20) < BURST as u64 {
                hand.check();
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        hand.check();
        let verdicts = hand.verdicts();
        let ended: u64 = verdicts.iter().map(|(_, n)| n).sum();
        assert_eq!(ended, sent, "every packet ended, once");
        assert_eq!(hand.worker.counters().received, sent);
        let count = |name| {
            verdicts
                .iter()
                .find(|(v, _)| *v == name)
                .map_or(0, |(_, n)| *n)
        };
        assert_eq!(count("to-kernel"), to_kernel);
        assert_eq!(["to-tenant", "to-underlay", "to-vlan"].map(count), [0; 3]);
        // It went deep, not only to the first check.
        for why in [
            "auth-failed",
            "clear-for-protected",
            "clear-unknown-peer",
            "unknown-spi",
        ] {
            assert!(count(why) > sent / 1000, "{why}: {verdicts:?}");
        }
        println!(
            "{:.2} million packets per second, made and refused",
            sent as f64 / seconds / 1e6
        );
        for (verdict, n) in verdicts {
            println!("{n:>12} {verdict}");
        }

        // And it still does its work.
        let frame = pattern(mac(1), mac(2), 0, 60);
        let esp = inbound(2).seal(1 << 40, &Encapsulation::Geneve.datagram(BLUE, &frame));
        hand.underlay([outer(2, ESP_PORT).packet(&esp).as_slice()]);
        let mut out = Vec::new();
        hand.look(|exit, frame| out.push((exit, frame.to_vec())));
        assert_eq!(out, [(Exit::Tenant(0), frame)]);
        hand.check();
    });
}
