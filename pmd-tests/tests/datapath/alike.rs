//! Packets of one burst that are alike are recognized by the one before them. Whatever stands between
//! them ends as it does alone, they themselves arrive, and runs of SAs, lengths and chains keep their
//! order.

use std::collections::BTreeMap;

use pmd_tests::frames::udp4;
use pmd_tests::hand::{BLUE, Exit, Hand, inbound, outer};
use pmd_tests::isolate::isolated;
use pmd_tests::wire::{ESP_PORT, Encapsulation};

type Verdicts = BTreeMap<&'static str, u64>;

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

#[test]
fn what_differs_in_one_bit_ends_among_packets_alike_as_it_does_alone() {
    isolated(|| {
        let mut hand = Hand::start();
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
    });
}

#[test]
fn runs_of_sas_and_lengths_keep_their_order() {
    isolated(|| {
        let mut hand = Hand::start();
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
    });
}

#[test]
fn copies_and_padding_among_packets_alike() {
    isolated(|| {
        let mut hand = Hand::start();
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
    });
}
