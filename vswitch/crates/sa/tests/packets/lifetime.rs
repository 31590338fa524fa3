//! Sequence numbers, reservations and limits: what must never happen twice, or go on.

use crate::common::{ALL, inbound, material, open, outbound, seal, spi};
use vswitch_sa::reservation::{Direction, Record, next_block};
use vswitch_sa::{
    ConfigError, Inbound, InboundConfig, IvMode, Limits, OpenError, Outbound, OutboundConfig,
    SealError,
};

fn limited(soft: u64, hard: u64) -> Result<Outbound, ConfigError> {
    let config = OutboundConfig {
        limits: Limits { soft, hard },
        ..OutboundConfig::ephemeral(spi())
    };
    Outbound::new(material(ALL[0]), config)
}

#[test]
fn soft_limit_is_reported_once_and_hard_limit_closes() {
    // 14 bytes cost one block of ciphertext and one for the tag.
    let mut sa = limited(6, 11).unwrap();
    let hits: Vec<_> = (0..5)
        .map(|_| sa.assign(14).unwrap().soft_limit_hit())
        .collect();
    assert_eq!(hits, [false, false, true, false, false]);
    assert_eq!(sa.blocks_used(), 10);
    assert!(!sa.is_closed());
    for _ in 0..3 {
        assert_eq!(sa.assign(14), Err(SealError::HardLimit));
    }
    assert!(sa.is_closed());
    assert_eq!((sa.blocks_used(), sa.next_seq()), (10, 6));
    assert_eq!(sa.counters().packets, 5);
    sa.extend_reservation(u64::MAX);
    assert_eq!(sa.assign(0), Err(SealError::HardLimit));
}

#[test]
fn as_many_packets_as_that_want_a_new_key_too() {
    let packets = |soft_sequence| {
        let config = OutboundConfig {
            soft_sequence,
            ..OutboundConfig::ephemeral(spi())
        };
        let mut sa = Outbound::new(material(ALL[0]), config).unwrap();
        let hits: Vec<u64> = (0..6)
            .map(|_| sa.assign(14).unwrap())
            .filter(|assigned| assigned.soft_limit_hit())
            .map(|assigned| assigned.seq())
            .collect();
        assert!(!sa.is_closed());
        hits
    };
    assert_eq!(packets(4), [4], "once");
    assert_eq!(packets(1), [1]);
    assert!(packets(u64::MAX).is_empty());
}

#[test]
fn a_packet_may_end_on_the_hard_limit() {
    let mut sa = limited(1, 4).unwrap();
    assert!(sa.assign(14).unwrap().soft_limit_hit());
    assert!(sa.assign(14).is_ok());
    assert_eq!(sa.assign(0), Err(SealError::HardLimit));
}

#[test]
fn limits_can_only_be_lowered() {
    assert_eq!(Limits::default().hard, 1 << 48);
    assert_eq!(Limits::default().soft, 1 << 47);
    let refused = limited(1, (1 << 48) + 1).err();
    assert_eq!(refused, Some(ConfigError::HardLimit((1 << 48) + 1)));
    let refused = limited(3, 2).err();
    assert_eq!(refused, Some(ConfigError::SoftLimit { soft: 3, hard: 2 }));
}

#[test]
fn without_esn_the_sequence_stops_at_32_bits() {
    let config = OutboundConfig {
        esn: false,
        next: u64::from(u32::MAX) - 1,
        ..OutboundConfig::ephemeral(spi())
    };
    let mut sender = Outbound::new(material(ALL[0]), config).unwrap();
    let config = InboundConfig {
        esn: false,
        ..InboundConfig::new(spi())
    };
    let mut receiver = Inbound::new(material(ALL[0]), config).unwrap();
    for seq in [0xffff_fffe, 0xffff_ffff] {
        let mut packet = seal(&mut sender, b"x", 17).unwrap();
        assert_eq!(open(&mut receiver, &mut packet).unwrap().esn, seq);
    }
    for _ in 0..2 {
        assert_eq!(sender.assign(1), Err(SealError::SequenceExhausted));
    }
}

#[test]
fn the_last_of_64_bits() {
    let config = OutboundConfig {
        next: u64::MAX - 1,
        ..OutboundConfig::ephemeral(spi())
    };
    let mut sender = Outbound::new(material(ALL[0]), config).unwrap();
    let mut packet = seal(&mut sender, b"x", 17).unwrap();
    let opened = open(&mut inbound(ALL[0]), &mut packet).unwrap();
    assert_eq!(opened.esn, u64::MAX - 1);
    assert_eq!(sender.assign(1), Err(SealError::SequenceExhausted));
}

/// Both rules for the IV follow the sequence number from one 2^32 into the next, also
/// when packets arrive out of order around it.
#[test]
fn esn_crosses_32_bits() {
    for algorithm in ALL {
        for iv_mode in [IvMode::EqualsEsn, IvMode::Any] {
            let start = (1 << 32) - 500;
            let config = OutboundConfig {
                next: start,
                ..OutboundConfig::ephemeral(spi())
            };
            let mut sender = Outbound::new(material(algorithm), config).unwrap();
            let config = InboundConfig {
                iv_mode,
                window: 1024,
                floor: start - 1,
                ..InboundConfig::new(spi())
            };
            let mut receiver = Inbound::new(material(algorithm), config).unwrap();
            let mut packets: Vec<_> = (0..1000)
                .map(|_| seal(&mut sender, b"across", 17).unwrap())
                .collect();
            for burst in packets.chunks_mut(40) {
                burst.reverse();
            }
            let mut seen: Vec<_> = packets
                .iter()
                .map(|p| open(&mut receiver, &mut p.clone()).unwrap().esn)
                .collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(start..start + 1000));
            for p in &packets {
                assert_eq!(
                    open(&mut receiver, &mut p.clone()),
                    Err(OpenError::Replayed)
                );
            }
        }
    }
}

/// Kill and restart at any moment: no sequence number is sent twice, whatever the SPI.
#[test]
fn restarts_repeat_no_sequence_number() {
    let mut disk: Option<String> = None;
    let mut sent = std::collections::HashSet::new();
    for life in 0..20u32 {
        let key = material(ALL[0]);
        let name = key.fingerprint();
        let recorded = disk
            .as_deref()
            .map(|t| Record::decode_for(t, Direction::Outbound, name).unwrap());
        let block = next_block(recorded.map(|r| r.sequence), 16).unwrap();
        let spi = (0x1000 + life).try_into().unwrap();
        let mut record = Record {
            direction: Direction::Outbound,
            spi,
            key: name,
            sequence: block.until,
        };
        disk = Some(record.encode());
        let config = OutboundConfig::reserved(spi, block.first, block.until);
        let mut sa = Outbound::new(key, config).unwrap();
        for packet in 0..life * 3 {
            if sa.reservation_left() == 0 {
                assert_eq!(sa.assign(1), Err(SealError::ReservationExhausted));
                let more = next_block(Some(sa.reserved_until()), 16).unwrap();
                record.sequence = more.until;
                disk = Some(record.encode());
                sa.extend_reservation(more.until);
            }
            let seq = sa.assign(1).unwrap().seq();
            assert!(
                sent.insert(seq),
                "life {life} packet {packet} repeats {seq}"
            );
            assert!(seq < record.sequence);
        }
    }
    assert_eq!(sent.len(), 19 * 20 / 2 * 3);
}

#[test]
fn a_reservation_never_shrinks() {
    let config = OutboundConfig::reserved(spi(), 5, 8);
    let mut sa = Outbound::new(material(ALL[0]), config).unwrap();
    sa.extend_reservation(2);
    assert_eq!((sa.reservation_left(), sa.reserved_until()), (3, 8));
    let seqs: Vec<_> = (0..4).map(|_| sa.assign(0).map(|a| a.seq())).collect();
    let spent = Err(SealError::ReservationExhausted);
    assert_eq!(seqs, [Ok(5), Ok(6), Ok(7), spent]);

    let refused = |next, until| {
        let config = OutboundConfig::reserved(spi(), next, until);
        Outbound::new(material(ALL[0]), config).err()
    };
    assert_eq!(refused(0, 5), Some(ConfigError::ZeroSequence));
    let expected = ConfigError::Reservation { next: 6, until: 5 };
    assert_eq!(refused(6, 5), Some(expected));
}

#[test]
fn too_long_spends_nothing() {
    let mut sa = outbound(ALL[0]);
    for len in [65_507, usize::MAX - 40, usize::MAX] {
        assert_eq!(sa.assign(len), Err(SealError::TooLong));
    }
    assert_eq!((sa.next_seq(), sa.blocks_used()), (1, 0));
    assert!(sa.assign(65_000).is_ok());
}

#[test]
fn a_restored_floor_refuses_what_may_have_been_accepted() {
    let mut sender = outbound(ALL[0]);
    let packets: Vec<_> = (0..20)
        .map(|_| seal(&mut sender, b"x", 17).unwrap())
        .collect();
    let mut receiver = inbound(ALL[0]);
    receiver.restore_floor(10);
    for (n, packet) in packets.iter().enumerate() {
        let result = open(&mut receiver, &mut packet.clone()).map(|o| o.esn);
        if n < 10 {
            assert_eq!(result, Err(OpenError::Replayed));
        } else {
            assert_eq!(result, Ok(n as u64 + 1));
        }
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?} {:?}", outbound(ALL[0]), inbound(ALL[0]));
    for secret in ["a0b1c2d3", "160, 177", "101112", "16, 17", "salt", "key"] {
        assert!(!shown.to_lowercase().contains(secret), "{shown}");
    }
}
