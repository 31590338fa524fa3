//! Recorded packets played again, late, twice at once and in another order; and numbers at
//! the end of what there is. Every counter is checked.

use pmd_tests::frames::{mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;
use pmd_tests::tally::{Tally, sealed_len};

const INNER: usize = 80;
/// Width of the replay window, in packets.
const WINDOW: u64 = 1024;
const BLUE: (&str, &str) = ("blue", "b");

fn frame(seq: u64) -> Vec<u8> {
    pattern(mac(1), mac(2), seq as u8, INNER)
}

/// Plays packets of these numbers at once; each must end as it says: delivered, or why not.
#[track_caller]
fn play(rig: &mut Rig, numbers: &[(u64, Option<&'static str>)]) {
    let (mut tally, mut expected) = (Tally::new(), Vec::new());
    let packets: Vec<_> = numbers
        .iter()
        .map(|(seq, _)| rig.sealed("blue", "b", *seq, &frame(*seq)))
        .collect();
    for ((seq, refused), packet) in numbers.iter().zip(&packets) {
        match refused {
            Some(why) => tally.sa_drop(packet.len(), "blue/b", why),
            None => {
                tally.delivered(packet.len(), BLUE, "blue-1", INNER);
                expected.push((101, frame(*seq)));
            }
        }
    }
    rig.from_underlay(&packets);
    let out = rig.settle();
    tally.check(&out.changes);
    assert_eq!(out.trunk, expected, "in the order in which they came");
    assert!(out.underlay.is_empty(), "nothing is answered");
}

fn good(numbers: impl Iterator<Item = u64>) -> Vec<(u64, Option<&'static str>)> {
    numbers.map(|seq| (seq, None)).collect()
}

fn bad(why: &'static str, numbers: impl Iterator<Item = u64>) -> Vec<(u64, Option<&'static str>)> {
    numbers.map(|seq| (seq, Some(why))).collect()
}

#[test]
fn replays_inside_at_the_edge_of_and_far_outside_the_window() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        // Backwards through a whole window: late, and each the first of its number.
        let top = 3 * WINDOW;
        play(&mut rig, &good(std::iter::once(top)));
        for part in (top - WINDOW + 1..top)
            .rev()
            .collect::<Vec<_>>()
            .chunks(500)
        {
            play(&mut rig, &good(part.iter().copied()));
        }
        // All of them again: inside. Then the edge, one beyond it, and far outside.
        for part in (top - WINDOW + 1..=top).collect::<Vec<_>>().chunks(500) {
            play(&mut rig, &bad("replayed", part.iter().copied()));
        }
        play(
            &mut rig,
            &[
                (top - WINDOW + 1, Some("replayed")),
                (top - WINDOW, Some("too-old")),
            ],
        );
        play(&mut rig, &bad("too-old", [1, 2, 64, WINDOW].into_iter()));
        play(&mut rig, &bad("replayed", std::iter::once(0)));
        // One more moves the edge by one.
        play(&mut rig, &[(top + 1, None)]);
        play(&mut rig, &[(top - WINDOW + 1, Some("too-old"))]);
        // Far ahead: what is checked after it is far outside, in the same burst too.
        play(&mut rig, &[(1 << 40, None), (top + 2, Some("too-old"))]);
        play(&mut rig, &[(top + 1, Some("too-old"))]);
        let status = rig.stop();
        let sa = status
            .sas
            .iter()
            .find(|sa| sa.direction == "inbound")
            .expect("an SA");
        assert_eq!((sa.sequence, sa.packets), (1 << 40, WINDOW + 2));
        // WINDOW again, two at the edge, four old ones, zero, one at the new edge, two.
        assert_eq!((sa.replayed, sa.auth_failed), (WINDOW + 10, 0));
    });
}

#[test]
fn copies_in_one_burst() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let copy = Some("replayed");
        play(&mut rig, &[(5, None), (5, copy)]);
        // A whole burst of one packet, and copies between others.
        let mut burst = vec![(6, None)];
        burst.extend([(6, copy); 31]);
        play(&mut rig, &burst);
        play(
            &mut rig,
            &[
                (9, None),
                (8, None),
                (9, copy),
                (7, None),
                (8, copy),
                (10, None),
                (7, copy),
            ],
        );
        // Copies and something else under one number: the first that is authentic wins.
        let forged = {
            let mut packet = rig.sealed("blue", "b", 11, &frame(11));
            *packet.last_mut().expect("a byte") ^= 1;
            packet
        };
        let packet = rig.sealed("blue", "b", 11, &frame(11));
        let len = packet.len();
        let mut tally = Tally::new();
        tally.sa_drop(len, "blue/b", "auth-failed");
        tally.delivered(len, BLUE, "blue-1", INNER);
        tally.sa_drop(len, "blue/b", "replayed");
        tally.sa_drop(len, "blue/b", "auth-failed");
        rig.from_underlay(&[forged.clone(), packet.clone(), packet, forged.clone()]);
        let out = rig.settle();
        tally.check(&out.changes);
        assert_eq!(out.trunk, [(101, frame(11))]);
        // Once the number is known, a forgery is not even opened.
        let mut tally = Tally::new();
        tally.sa_drop(len, "blue/b", "replayed");
        rig.from_underlay(&[forged]);
        tally.check(&rig.settle().changes);
        rig.stop();
    });
}

#[test]
fn reordering_within_the_window_is_accepted() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        // A permutation of a window: 389 has no divisor in common with it.
        let order: Vec<u64> = (0..WINDOW).map(|i| 1 + i * 389 % WINDOW).collect();
        for part in order.chunks(512) {
            play(&mut rig, &good(part.iter().copied()));
        }
        play(&mut rig, &bad("replayed", order[..512].iter().copied()));
        // The boundary of 32 bits, back and forth.
        let boundary = 1 << 32;
        let order = [
            boundary + 3,
            boundary - 3,
            boundary,
            boundary - 1,
            boundary + 1,
        ];
        play(&mut rig, &good(order.into_iter()));
        play(&mut rig, &bad("replayed", order.into_iter()));
        rig.stop();
    });
}

#[test]
fn a_copy_on_another_workers_queue() {
    isolated(|| {
        let mut rig = Rig::start(Setup {
            workers: 2,
            underlay_queues: 2,
            ..Setup::new()
        });
        for seq in 1..=40 {
            let packet = rig.sealed("blue", "b", seq, &frame(seq));
            let len = packet.len();
            let mut tally = Tally::new();
            tally.delivered(len, BLUE, "blue-1", INNER);
            tally.sa_drop(len, "blue/b", "replayed");
            tally.handed_over();
            rig.from_underlay_on(0, std::slice::from_ref(&packet));
            rig.from_underlay_on(1, &[packet]);
            let out = rig.settle();
            tally.check(&out.changes);
            assert_eq!(out.trunk, [(101, frame(seq))]);
        }
        rig.stop();
    });
}

#[test]
fn the_last_number_there_is() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        play(&mut rig, &good([1, u64::MAX - 1, u64::MAX].into_iter()));
        // It does not wrap: nothing is accepted any more.
        play(
            &mut rig,
            &bad("replayed", [u64::MAX, u64::MAX - 1, 0].into_iter()),
        );
        play(
            &mut rig,
            &bad("too-old", [1, 2, u64::MAX - WINDOW].into_iter()),
        );
        play(&mut rig, &good(std::iter::once(u64::MAX - WINDOW + 1)));
        rig.stop();
    });
}

#[test]
fn at_the_hard_limit_every_counter_says_so() {
    isolated(|| {
        // 100 bytes of frame, 16 of headers, 2 of trailer, 2 of padding are 8 blocks, and one
        // for the tag: of 90 blocks ten packets fit, to the block.
        let mut rig = Rig::start(Setup {
            hard_limit: Some(90),
            ..Setup::new()
        });
        let frames: Vec<_> = (0..12).map(|i| pattern(mac(2), mac(1), i, 100)).collect();
        let mut tally = Tally::new();
        for i in 0..12 {
            tally.admitted("blue-1", "blue", 100, 1);
            match i {
                0..10 => tally.to_peer("blue/b", 100, sealed_len(100)),
                _ => tally.not_sent("blue/b", "sa-hard-limit"),
            }
        }
        rig.from_vlan(101, &frames);
        let out = rig.settle();
        tally.check(&out.changes);
        assert_eq!(out.underlay.len(), 10);
        // A number beyond the limit is not spent: the last one sent is the tenth.
        assert_eq!(rig.opened("blue", "b", &out.underlay[9]).0, 10);
        let status = rig.stop();
        let sa = status
            .sas
            .iter()
            .find(|sa| sa.direction == "outbound")
            .expect("an SA");
        assert_eq!((sa.packets, sa.blocks, sa.hard_limit), (10, 90, 90));
    });
}
