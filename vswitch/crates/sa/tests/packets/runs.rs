//! Numbers taken for a run of packets at once: the same as one by one, wherever limits are.

use crate::common::{ALL, material, spi};
use proptest::prelude::*;
use vswitch_sa::{Limits, Load, Outbound, OutboundConfig};

/// What a packet was given: its number and whether it met the soft limit, or the error as text.
type Given = Result<(u64, bool), String>;

fn sa(config: OutboundConfig) -> Outbound {
    Outbound::new(material(ALL[0]), config).unwrap()
}

fn one(sa: &mut Outbound, len: usize) -> Given {
    sa.assign(len)
        .map(|assigned| (assigned.seq(), assigned.soft_limit_hit()))
        .map_err(|error| error.to_string())
}

fn state(sa: &Outbound) -> (u64, u64, u64, u64, bool) {
    let counters = sa.counters();
    (
        sa.next_seq(),
        sa.blocks_used(),
        counters.packets,
        counters.bytes,
        sa.is_closed(),
    )
}

/// As a worker does it: at once, or one by one where that is refused.
fn run(sa: &mut Outbound, lens: &[usize]) -> Vec<Given> {
    let mut load = Load::default();
    let fits = lens.iter().all(|len| load.add(*len));
    let before = state(sa);
    let Some(mut numbers) = fits.then(|| sa.assign_run(load)).flatten() else {
        assert_eq!(state(sa), before, "a run that is refused spends nothing");
        return lens.iter().map(|len| one(sa, *len)).collect();
    };
    let given = lens
        .iter()
        .map(|len| {
            let assigned = numbers.next(*len).expect("a number for each packet");
            assert_eq!(assigned.payload_len(), *len);
            Ok((assigned.seq(), assigned.soft_limit_hit()))
        })
        .collect();
    assert_eq!(numbers.next(0), None, "and none for another");
    given
}

proptest! {
    #[test]
    fn a_run_is_as_its_packets_one_by_one(
        runs in prop::collection::vec(prop::collection::vec(0..200usize, 1..65), 1..12),
        reserved in prop_oneof![Just(u64::MAX), 1..400u64],
        soft in prop_oneof![Just(Limits::default().soft), 1..2000u64],
        above in 0..600u64,
        esn in any::<bool>(),
        next in prop_oneof![Just(1), (u64::from(u32::MAX) - 200)..u64::from(u32::MAX)],
        packets in prop_oneof![Just(u64::MAX), 0..400u64],
    ) {
        let config = OutboundConfig {
            limits: Limits { soft, hard: soft.saturating_add(above) },
            esn,
            soft_sequence: next.saturating_add(packets),
            ..OutboundConfig::reserved(spi(), next, next.saturating_add(reserved))
        };
        let (mut fast, mut slow) = (sa(config), sa(config));
        for lens in &runs {
            let expected: Vec<Given> = lens.iter().map(|len| one(&mut slow, *len)).collect();
            prop_assert_eq!(run(&mut fast, lens), expected);
            prop_assert_eq!(state(&fast), state(&slow));
        }
    }
}

#[test]
fn a_run_gives_no_more_bytes_than_it_has() {
    let mut sa = sa(OutboundConfig::ephemeral(spi()));
    let mut load = Load::default();
    assert!(load.add(100));
    assert!(load.add(20));
    assert!(!load.add(1 << 16), "longer than a packet can be");
    let mut numbers = sa.assign_run(load).expect("no limit is near");
    assert!(numbers.next(101).is_some(), "less the number of packets");
    assert_eq!(numbers.next(20), None);
}

#[test]
fn a_soft_limit_that_nobody_heard_of_is_reported_again() {
    // 14 bytes cost two blocks.
    let config = OutboundConfig {
        limits: Limits { soft: 2, hard: 100 },
        ..OutboundConfig::ephemeral(spi())
    };
    let mut sa = sa(config);
    assert!(sa.assign(14).unwrap().soft_limit_hit());
    assert!(!sa.assign(14).unwrap().soft_limit_hit());
    sa.soft_limit_unheard();
    let mut load = Load::default();
    assert!(load.add(14));
    assert_eq!(
        sa.assign_run(load),
        None,
        "one by one, so that it is reported"
    );
    assert!(sa.assign(14).unwrap().soft_limit_hit());
    assert!(!sa.assign(14).unwrap().soft_limit_hit());
}
