//! Properties of packets between two associations: whatever the length and the layout;
//! and whatever is changed on the way is refused.

use crate::common::{ALL, backend, inbound, material, open, outbound, seal, spi};
use proptest::prelude::*;
use vswitch_aead::{Job, Outcome};
use vswitch_sa::{
    Inbound, InboundConfig, IvMode, OpenError, Outbound, OutboundConfig, PREFIX_LEN, SealError,
    sealed_len,
};

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 7) >> 1) as u8).collect()
}

/// Cuts a packet into mutable segments; the last takes the rest.
fn cut<'a>(mut all: &'a mut [u8], lengths: &[usize]) -> Vec<&'a mut [u8]> {
    let mut out = Vec::new();
    for len in lengths {
        let (now, later) = all.split_at_mut((*len).min(all.len()));
        out.push(now);
        all = later;
    }
    out.push(all);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 128 }))]

    #[test]
    fn any_length(
        len in prop_oneof![0..200usize, 0..9200usize],
        next_header: u8,
        algorithm in prop::sample::select(ALL.to_vec()),
        seq in prop_oneof![Just(1u64), 1..u64::MAX - 1],
    ) {
        let config = OutboundConfig { next: seq, ..OutboundConfig::ephemeral(spi()) };
        let mut sender = Outbound::new(material(algorithm), config).unwrap();
        let mut receiver = inbound(algorithm);
        let mut packet = seal(&mut sender, &payload(len), next_header).unwrap();
        prop_assert_eq!(packet.len(), sealed_len(len));
        prop_assert_eq!(packet[8..16].to_vec(), seq.to_be_bytes().to_vec());
        prop_assert_eq!(&packet[4..8], &packet[12..16]);
        let clear = packet[PREFIX_LEN..][..len] == payload(len)[..];
        prop_assert!(clear != algorithm.is_confidential() || len < 8);
        let copy = packet.clone();
        let opened = open(&mut receiver, &mut packet).unwrap();
        prop_assert_eq!(&packet[opened.payload.clone()], &payload(len)[..]);
        prop_assert_eq!((opened.next_header, opened.esn), (next_header, seq));
        prop_assert_eq!(receiver.counters(), sender.counters());
        prop_assert_eq!(receiver.counters().bytes, len as u64);
        prop_assert_eq!(open(&mut receiver, &mut copy.clone()), Err(OpenError::Replayed));
    }

    #[test]
    fn segments_equal_contiguous(
        len in 0..3000usize,
        cuts in prop::collection::vec(0..900usize, 0..4),
        receive in prop::collection::vec(0..400usize, 0..6),
        algorithm in prop::sample::select(ALL.to_vec()),
    ) {
        let backend = backend();
        let expected = seal(&mut outbound(algorithm), &payload(len), 17).unwrap();

        // ESP header and IV in the first segment, trailer and ICV in the last.
        let mut lengths = vec![PREFIX_LEN];
        let mut left = len;
        for c in &cuts {
            let take = (*c).min(left);
            lengths.push(take);
            left -= take;
        }
        let mut sender = outbound(algorithm);
        let assigned = sender.assign(len).unwrap();
        let mut packet = vec![0xee; sealed_len(len)];
        packet[PREFIX_LEN..][..len].copy_from_slice(&payload(len));
        {
            let mut segments = cut(&mut packet, &lengths);
            let mut job = sender.seal_job_segments(assigned, &mut segments, 17).unwrap();
            backend.seal(core::slice::from_mut(&mut job));
            prop_assert_eq!(job.outcome(), Outcome::Sealed);
        }
        prop_assert_eq!(&packet, &expected);

        // Received in segments cut anywhere behind the IV, even within the ICV.
        let mut lengths = receive.clone();
        lengths.insert(0, PREFIX_LEN + receive.first().map_or(3, |r| r % 5));
        lengths.push(packet.len().saturating_sub(lengths.iter().sum::<usize>() + 9));
        let mut receiver = inbound(algorithm);
        let first = lengths[0];
        let candidate = receiver.precheck_segments(&packet[..first], packet.len()).unwrap();
        let authenticated = {
            let mut segments = cut(&mut packet, &lengths);
            let mut job = receiver.open_job_segments(&candidate, &mut segments).unwrap();
            backend.open(core::slice::from_mut(&mut job));
            candidate.verdict(&job).unwrap()
        };
        let segments = cut(&mut packet, &lengths);
        let opened = receiver.accept_segments(authenticated, &segments).unwrap();
        prop_assert_eq!(&packet[opened.payload], &payload(len)[..]);
        prop_assert_eq!(opened.next_header, 17);
    }
}

/// Which bits are flipped: each, but under Miri one in so many.
const BITS: usize = if cfg!(miri) { 61 } else { 1 };

#[test]
fn every_bit_flip_is_refused() {
    for algorithm in ALL {
        for len in [0, 1, 45] {
            let sent = seal(&mut outbound(algorithm), &payload(len), 17).unwrap();
            for bit in (0..sent.len() * 8).step_by(BITS) {
                let mut receiver = inbound(algorithm);
                let mut packet = sent.clone();
                packet[bit / 8] ^= 1 << (bit % 8);
                let refused = open(&mut receiver, &mut packet).unwrap_err();
                let expected = match bit / 8 {
                    0..4 => OpenError::WrongSpi,
                    4..8 | 12..16 => OpenError::IvMismatch,
                    _ => OpenError::Forged,
                };
                assert_eq!(refused, expected, "{algorithm} bit {bit}");
                if refused == OpenError::Forged && algorithm.is_confidential() {
                    let data = &packet[PREFIX_LEN..packet.len() - 16];
                    assert!(data.iter().all(|b| *b == 0));
                }
                // The forgery left no trace: the packet itself is still accepted.
                assert_eq!(receiver.highest(), 0);
                assert!(open(&mut receiver, &mut sent.clone()).is_ok());
            }
        }
    }
}

/// With a free IV the IV is not covered by a rule, only by the ICV (it is in the nonce).
#[test]
fn every_bit_flip_is_refused_with_a_free_iv() {
    for algorithm in ALL {
        for esn in [false, true] {
            let config = OutboundConfig {
                esn,
                ..OutboundConfig::ephemeral(spi())
            };
            let mut sender = Outbound::new(material(algorithm), config).unwrap();
            let sent = seal(&mut sender, &payload(30), 17).unwrap();
            let config = InboundConfig {
                esn,
                iv_mode: IvMode::Any,
                ..InboundConfig::new(spi())
            };
            for bit in (0..sent.len() * 8).step_by(BITS) {
                let mut receiver = Inbound::new(material(algorithm), config).unwrap();
                let mut packet = sent.clone();
                packet[bit / 8] ^= 1 << (bit % 8);
                assert!(open(&mut receiver, &mut packet).is_err(), "bit {bit}");
            }
            let mut receiver = Inbound::new(material(algorithm), config).unwrap();
            assert!(open(&mut receiver, &mut sent.clone()).is_ok());
        }
    }
}

#[test]
fn malformed_before_the_key_is_touched() {
    let receiver = inbound(ALL[0]);
    let sent = seal(&mut outbound(ALL[0]), &payload(20), 17).unwrap();
    for len in 0..36 {
        assert_eq!(receiver.precheck(&sent[..len]), Err(OpenError::Truncated));
    }
    for len in [37, 38, 39, 41] {
        assert_eq!(receiver.precheck(&sent[..len]), Err(OpenError::Misaligned));
    }
    let cut = receiver.precheck_segments(&sent[..15], sent.len());
    assert_eq!(cut, Err(OpenError::Layout));
    let mut zero = sent.clone();
    zero[4..16].fill(0);
    assert_eq!(receiver.precheck(&zero), Err(OpenError::Replayed));
}

/// Two copies of one packet in one batch: both pass the first check and the ICV, exactly
/// one is accepted.
#[test]
fn two_copies_in_one_batch() {
    for algorithm in ALL {
        let sent = seal(&mut outbound(algorithm), &payload(100), 17).unwrap();
        let mut receiver = inbound(algorithm);
        let mut packets = [sent.clone(), sent.clone(), sent];
        let candidates = packets.each_ref().map(|p| receiver.precheck(p).unwrap());
        let mut jobs: Vec<Job<'_>> = packets
            .iter_mut()
            .zip(&candidates)
            .map(|(p, c)| receiver.open_job(c, p, |job| job).unwrap())
            .collect();
        backend().open(&mut jobs);
        let verdicts: Vec<_> = candidates
            .into_iter()
            .zip(&jobs)
            .map(|(c, j)| c.verdict(j).unwrap())
            .collect();
        drop(jobs);
        let accepted: Vec<_> = verdicts
            .into_iter()
            .zip(&packets)
            .map(|(v, p)| receiver.accept(v, p).map(|o| o.esn))
            .collect();
        let again = Err(OpenError::Replayed);
        assert_eq!(accepted, [Ok(1), again, again]);
        assert_eq!(receiver.counters().packets, 1);
    }
}

/// A verdict belongs to its packet's job, and a job that no backend saw is no proof.
#[test]
fn verdicts_cannot_be_borrowed() {
    let mut sender = outbound(ALL[0]);
    let mut one = seal(&mut sender, &payload(10), 17).unwrap();
    let two = seal(&mut sender, &payload(10), 17).unwrap();
    let receiver = inbound(ALL[0]);
    let first = receiver.precheck(&one).unwrap();
    let second = receiver.precheck(&two).unwrap();
    let mut foreign = one.clone();
    let mut job = receiver.open_job(&first, &mut one, |job| job).unwrap();
    assert_eq!(
        receiver.precheck(&two).unwrap().verdict(&job),
        Err(OpenError::Forged)
    );
    backend().open(core::slice::from_mut(&mut job));
    assert_eq!(second.verdict(&job), Err(OpenError::Forged));
    assert!(first.verdict(&job).is_ok());

    // The same number on another association is another packet.
    let config = InboundConfig::new(0x2000.try_into().unwrap());
    let other = Inbound::new(material(ALL[0]), config).unwrap();
    foreign[..4].copy_from_slice(&0x2000u32.to_be_bytes());
    let candidate = other.precheck(&foreign).unwrap();
    assert_eq!(candidate.verdict(&job), Err(OpenError::Forged));
}

/// A burst on one association, sealed in one batch.
#[test]
fn a_batch_of_one_association_repeats_no_nonce() {
    let mut sender = outbound(ALL[1]);
    let mut receiver = inbound(ALL[1]);
    let mut packets: Vec<Vec<u8>> = (0..64)
        .map(|n| {
            let mut packet = vec![0; sealed_len(n * 23)];
            packet[PREFIX_LEN..][..n * 23].copy_from_slice(&payload(n * 23));
            packet
        })
        .collect();
    let assigned: Vec<_> = (0..64).map(|n| sender.assign(n * 23).unwrap()).collect();
    let mut jobs: Vec<Job<'_>> = packets
        .iter_mut()
        .zip(assigned)
        .map(|(p, a)| sender.seal_job(a, p, 17, |job| job).unwrap())
        .collect();
    backend().seal(&mut jobs);
    let nonces: std::collections::HashSet<_> = jobs.iter().map(|j| j.nonce()).collect();
    assert_eq!(nonces.len(), 64);
    drop(jobs);
    for (n, packet) in packets.iter_mut().enumerate().rev() {
        let opened = open(&mut receiver, packet).unwrap();
        assert_eq!(opened.esn, n as u64 + 1);
        assert_eq!(packet[opened.payload], payload(n * 23));
    }
}

#[test]
fn wrong_buffers_are_refused() {
    let mut sender = outbound(ALL[0]);
    let assigned = sender.assign(10).unwrap();
    let mut packet = vec![0; sealed_len(10) + 4];
    let refused = sender.seal_job(assigned, &mut packet, 17, |_| ()).err();
    assert_eq!(refused, Some(SealError::BufferLength));

    let mut other = Outbound::new(
        material(ALL[0]),
        OutboundConfig::ephemeral(0x2000.try_into().unwrap()),
    )
    .unwrap();
    let foreign = other.assign(10).unwrap();
    let mut packet = vec![0; sealed_len(10)];
    let refused = sender.seal_job(foreign, &mut packet, 17, |_| ()).err();
    assert_eq!(refused, Some(SealError::WrongAssociation));

    for lengths in [&[15][..], &[16, 20], &[16, 10, 8], &[sealed_len(10)]] {
        let assigned = sender.assign(10).unwrap();
        let mut packet = vec![0; sealed_len(10)];
        let mut segments = cut(&mut packet, lengths);
        let refused = sender.seal_job_segments(assigned, &mut segments, 17).err();
        assert_eq!(refused, Some(SealError::Layout), "{lengths:?}");
    }
}
