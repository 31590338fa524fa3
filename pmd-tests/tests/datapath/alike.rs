//! Packets of one burst that are alike are recognized by the one before them. Whatever stands between
//! them ends as it does alone, they themselves arrive, and runs of SAs, lengths and chains keep their
//! order. With a few SAs, and with so many that what they need is asked for beforehand.

use std::collections::BTreeMap;

use pmd_tests::frames::udp4;
use pmd_tests::hand::{BLUE, Exit, Hand, inbound, outer};
use pmd_tests::isolate::isolated;
use pmd_tests::wire::{ESP_PORT, Encapsulation, Sa};
use vswitch::datapath::command::{Command, InboundSetup};
use vswitch_sa::{Algorithm, Inbound, InboundConfig, KeyMaterial, Spi};
use vswitch_vn::TunnelId;

type Verdicts = BTreeMap<&'static str, u64>;

/// SPIs of SAs of the first tunnel, `b`'s, beside those that there are anyway.
const MORE: std::ops::Range<u32> = 0x3000..0x3040;

/// A worker with its few SAs, or with [`MORE`] of them.
fn start(many: bool) -> Hand {
    let mut hand = Hand::start();
    if many {
        let more = MORE.map(|spi| {
            let algorithm = Algorithm::Aes128Gcm;
            let sa = Sa::new(spi, pmd_tests::wire::Algorithm::Gcm128);
            let key =
                KeyMaterial::from_bytes(pmd_tests::aead::backend(), algorithm, &sa.key_and_salt);
            let config = InboundConfig::new(Spi::new(spi).expect("an SPI"));
            Command::InstallInbound(Box::new(InboundSetup {
                tunnel: TunnelId(0),
                sa: Box::new(Inbound::new(key.expect("a key"), config).expect("an SA")),
                floor: None,
            }))
        });
        assert!(hand.command(more).is_empty());
    }
    hand
}

/// Runs a test with few SAs and with many, each in a process of its own.
macro_rules! few_and_many {
    ($($few:ident, $many:ident: $test:ident;)*) => {
        $(#[test]
        fn $few() {
            isolated(|| $test(start(false)));
        }

        #[test]
        fn $many() {
            isolated(|| $test(start(true)));
        })*
    };
}

few_and_many! {
    what_differs_in_one_bit_ends_among_packets_alike_as_it_does_alone,
    what_differs_in_one_bit_ends_so_too_among_many_sas: one_bit;
    runs_of_sas_and_lengths_keep_their_order,
    runs_of_sas_and_lengths_keep_their_order_among_many_sas: runs;
    copies_and_padding_among_packets_alike,
    copies_and_padding_among_many_sas: copies;
}

/// A packet of peer `n` with a frame of its tenant's for ours.
fn packet(n: u8, seq: u64, len: usize) -> Vec<u8> {
    let from = if n == 2 { 2 } else { 4 };
    let frame = udp4(from, 1, seq as u16, len);
    let payload = Encapsulation::Geneve.datagram(BLUE, &frame);
    outer(n, ESP_PORT).packet(&inbound(n).seal(seq, &payload))
}

/// How many more packets have ended how.
fn ended(hand: &mut Hand, packets: &[&[u8]]) -> Verdicts {
    let before: Verdicts = hand.verdicts().into_iter().collect();
    hand.underlay(packets.iter().copied());
    hand.look(|_, _| ());
    let more = |(name, n): (&'static str, u64)| (name, n - before.get(name).unwrap_or(&0));
    let all = hand.verdicts().into_iter().map(more);
    all.filter(|(_, n)| *n > 0).collect()
}

fn one_bit(mut hand: Hand) {
    let mut seq = 0;
    let mut next = || {
        seq += 1;
        packet(2, seq, 100)
    };
    // Outer Ethernet, IPv4 and UDP, SPI, number and IV.
    for bit in 0..58 * 8 {
        let change = |mut packet: Vec<u8>| {
            packet[bit / 8] ^= 1 << (bit % 8);
            packet
        };
        // Another length before it: nothing is known of it. (A changed number may only be old.)
        let alone = ended(
            &mut hand,
            &[&packet(3, bit as u64 + 1, 80), &change(next())],
        );
        let among = ended(&mut hand, &[&next(), &change(next()), &next()]);
        let mut expected = alone;
        *expected.entry("to-tenant").or_default() += 1;
        assert_eq!(among, expected, "octet {}, bit {}", bit / 8, bit % 8);
    }
    hand.check();
}

fn runs(mut hand: Hand) {
    // Peer and length of each packet; no two neighbours, two, many alike.
    let shapes = [
        (2, 100),
        (3, 100),
        (2, 100),
        (2, 100),
        (2, 260),
        (2, 100),
        (3, 100),
        (3, 100),
        (3, 1400),
        (2, 1400),
        (2, 1400),
        (2, 61),
        (2, 100),
        (2, 100),
        (2, 100),
        (3, 61),
    ];
    let mut seqs = [0; 4];
    let mut frames = Vec::new();
    let packets: Vec<Vec<u8>> = shapes
        .iter()
        .map(|(n, len)| {
            let seq = &mut seqs[usize::from(*n)];
            *seq += 1;
            frames.push(udp4(if *n == 2 { 2 } else { 4 }, 1, *seq as u16, *len));
            packet(*n, *seq, *len)
        })
        .collect();
    hand.underlay(packets.iter().map(Vec::as_slice));
    let mut arrived = Vec::new();
    hand.look(|exit, frame| {
        assert_eq!(exit, Exit::Tenant(0));
        arrived.push(frame.to_vec());
    });
    assert_eq!(arrived, frames);
    // Once more: all of them are replays, alone or among others.
    let replayed = shapes.len() as u64;
    let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    let again = ended(&mut hand, &packets);
    assert_eq!(again, Verdicts::from([("replayed", replayed)]));
    hand.check();
}

fn copies(mut hand: Hand) {
    let one = packet(2, 1, 100);
    // A copy within the burst is found behind the cipher.
    let verdicts = ended(&mut hand, &[&one, &one, &packet(2, 2, 100), &one]);
    assert_eq!(
        verdicts,
        Verdicts::from([("replayed", 2), ("to-tenant", 2)])
    );
    // Ethernet's padding behind some of them.
    let padded = |seq| {
        let mut padded = packet(2, seq, 100);
        padded.extend([0xee; 6]);
        padded
    };
    let packets = [
        packet(2, 3, 100),
        padded(4),
        padded(5),
        packet(2, 6, 100),
        padded(7),
    ];
    let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    assert_eq!(
        ended(&mut hand, &packets),
        Verdicts::from([("to-tenant", 5)])
    );
    hand.check();
}

#[test]
fn each_packet_of_a_burst_has_another_sa() {
    isolated(|| {
        let mut hand = start(true);
        let sas = || MORE.map(|spi| Sa::new(spi, pmd_tests::wire::Algorithm::Gcm128));
        let sealed = |sa: &Sa, seq: u64| {
            let frame = udp4(2, 1, sa.spi as u16, 60 + (sa.spi as usize * 37) % 300);
            let payload = Encapsulation::Geneve.datagram(BLUE, &frame);
            let packet = outer(2, ESP_PORT).packet(&sa.seal(seq, &payload));
            (frame, packet)
        };
        for seq in 1..=3 {
            let (frames, packets): (Vec<_>, Vec<_>) = sas().map(|sa| sealed(&sa, seq)).unzip();
            let mut arrived = Vec::new();
            for burst in packets.chunks(32) {
                hand.underlay(burst.iter().map(Vec::as_slice));
                hand.look(|_, frame| arrived.push(frame.to_vec()));
            }
            assert_eq!(arrived, frames);
        }
        // Every second one goes: its packets are of nobody, and its neighbours' arrive.
        let gone = MORE
            .step_by(2)
            .map(|spi| Command::RemoveInbound(Spi::new(spi).expect("an SPI")));
        hand.command(gone);
        let packets: Vec<_> = sas().map(|sa| sealed(&sa, 4).1).collect();
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).take(32).collect();
        let verdicts = Verdicts::from([("unknown-spi", 16), ("to-tenant", 16)]);
        assert_eq!(ended(&mut hand, &packets), verdicts);
        // Forged ones among others, and those of a wrong sender.
        let mut packets: Vec<_> = sas().map(|sa| sealed(&sa, 5).1).collect();
        packets[1][70] ^= 1;
        packets[3] = outer(3, ESP_PORT).packet(&packets[3][42..]);
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).take(32).collect();
        let verdicts = [
            ("unknown-spi", 16),
            ("to-tenant", 14),
            ("auth-failed", 1),
            ("wrong-peer", 1),
        ];
        assert_eq!(ended(&mut hand, &packets), Verdicts::from(verdicts));
        hand.check();
    });
}
