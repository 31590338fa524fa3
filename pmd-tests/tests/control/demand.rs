//! What a worker does about keys that are made on demand: frames wait for them, in a queue that one
//! network cannot take from another; SAs that are not used are told of, in both directions; and an
//! install that is not possible is never passed over in silence.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pmd_tests::frames::{ip4, mac, udp4};
use pmd_tests::hand::{Exit, Hand, LOCAL, MAC, inbound, outbound, peer};
use pmd_tests::isolate::isolated;
use pmd_tests::wire::Sa;
use vswitch::datapath::command::{Command, Event, InboundSetup, OutboundSetup, Path, PortSetup};
use vswitch::datapath::demand::{IN_ALL, PER_TUNNEL, Terms};
use vswitch::datapath::source_port;
use vswitch_net::{Encapsulation, MacAddr, Vni};
use vswitch_sa::{Algorithm, Inbound, InboundConfig, KeyMaterial, Outbound, OutboundConfig, Spi};
use vswitch_vn::{
    Change, Destination, Mapping, Peer, PeerId, PortId, PortKind, Protection, TunnelId, VnConfig,
    VnId,
};

/// The protected network that [`Hand`] has, and one more.
const BLUE: VnId = VnId(0);
const GREEN: VnId = VnId(2);
/// Green's tenant 1.
const GREEN_PORT: PortId = PortId(3);
/// Tunnels from here on are made by a test.
const FIRST: u32 = 10;

fn material(algorithm: Algorithm) -> KeyMaterial {
    let bytes = vec![7; algorithm.key_len() + 4];
    KeyMaterial::from_bytes(pmd_tests::aead::backend(), algorithm, &bytes).expect("a key")
}

fn spi(spi: u32) -> Spi {
    Spi::new(spi).expect("an SPI")
}

fn seals(tunnel: TunnelId, number: u32, algorithm: Algorithm) -> Command {
    let config = OutboundConfig::ephemeral(spi(number));
    Command::InstallOutbound(Box::new(OutboundSetup {
        tunnel,
        sa: Box::new(Outbound::new(material(algorithm), config).expect("an SA")),
        source_port: source_port(number),
        low_water: 0,
    }))
}

fn opens(tunnel: TunnelId, number: u32, algorithm: Algorithm) -> Command {
    let config = InboundConfig::new(spi(number));
    Command::InstallInbound(Box::new(InboundSetup {
        tunnel,
        sa: Box::new(Inbound::new(material(algorithm), config).expect("an SA")),
        floor: None,
    }))
}

fn on_demand(hand: &mut Hand, idle: u32, tunnels: impl IntoIterator<Item = u32>) {
    let terms = Terms {
        idle,
        control_port: 4600,
    };
    let tunnels = tunnels.into_iter().map(TunnelId).map(Command::OnDemand);
    hand.command([Command::Terms(Some(terms))].into_iter().chain(tunnels));
}

#[test]
fn an_sa_that_does_not_fit_its_network_is_refused_aloud() {
    isolated(|| {
        let mut hand = Hand::start();
        // Readable packets, of a network that is confidential; and of a tunnel that is gone.
        let events = hand.command([
            seals(TunnelId(0), 0x5001, Algorithm::Aes256Gmac),
            opens(TunnelId(0), 0x5002, Algorithm::Aes256Gmac),
            opens(TunnelId(77), 0x5003, Algorithm::Aes256Gcm),
            opens(TunnelId(0), 0x5004, Algorithm::Aes256Gcm),
            Command::Barrier(9),
        ]);
        let told: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Refused(0, spi, outbound) => Some((spi.get(), *outbound)),
                Event::Done(0, 9) => Some((9, false)),
                _ => None,
            })
            .collect();
        // Behind the barrier it would be too late: the order would count as done.
        let expected = [(0x5001, true), (0x5002, false), (0x5003, false), (9, false)];
        assert_eq!(told, expected);
        // The SA before goes on.
        hand.tenant(0, [&udp4(1, 2, 0, 100)[..]]);
        let mut spis = Vec::new();
        hand.look(|_, packet| spis.push(u32::from_be_bytes(packet[42..46].try_into().unwrap())));
        assert_eq!(spis, [outbound(2).spi]);
        hand.check();
    });
}

#[test]
fn sas_that_are_not_used_are_told_of_in_both_directions() {
    isolated(|| {
        let mut hand = Hand::start();
        on_demand(&mut hand, 3, [0]);
        let ours: [&Sa; 2] = [&outbound(2), &inbound(2)];
        let mut told = Vec::new();
        for second in 1..=12 {
            if second <= 2 {
                hand.tenant(0, [&udp4(1, 2, 0, 100)[..]]);
                hand.look(|_, _| {});
            }
            for event in hand.command([Command::Housekeeping]) {
                let (direction, tunnel, spi) = match event {
                    Event::IdleSa(0, tunnel, spi) => (0, tunnel, spi),
                    Event::IdleInbound(0, tunnel, spi) => (1, tunnel, spi),
                    _ => continue,
                };
                assert_eq!((tunnel, spi.get()), (TunnelId(0), ours[direction].spi));
                told.push((second, direction));
            }
        }
        // Not those of tunnels with manual keys; and what is sent with goes first.
        assert_eq!(told, [(5, 0), (8, 0), (8, 1), (11, 0)]);
        hand.check();
    });
}

/// Networks, peers, mappings and tunnels: `many` of blue's, each with one address, and one of green's.
fn crowd(hand: &mut Hand, many: u8) {
    let mut config = VnConfig::new(Vni::new(3003).expect("a VNI"), 1422);
    config.protection = Protection::Confidential;
    let port = vswitch_vn::Port {
        vn: GREEN,
        kind: PortKind::Tenant,
        learning: false,
    };
    let mut changes = vec![
        Change::AddVn { id: GREEN, config },
        Change::AddPort {
            id: GREEN_PORT,
            port,
        },
    ];
    let blues = (0..many).map(|n| (BLUE, FIRST + u32::from(n), 100 + n));
    for (vn, id, n) in blues.chain([(GREEN, FIRST + u32::from(many), 2)]) {
        let tunnel = TunnelId(id);
        // Green's is at `b`, who is there already.
        let at = if vn == GREEN { PeerId(0) } else { PeerId(id) };
        if vn == BLUE {
            changes.push(Change::AddPeer {
                id: at,
                peer: Peer {
                    addresses: Arc::from([peer(n)]),
                    encapsulation: Encapsulation::Geneve,
                },
            });
        }
        changes.push(Change::AddTunnel {
            id: tunnel,
            vn,
            peer: at,
            flood: false,
        });
        changes.push(Change::AddMapping {
            vn,
            mac: MacAddr(mac(n)),
            mapping: Mapping {
                ips: Arc::from([IpAddr::V4(ip4(n))]),
                destination: Destination::Tunnel(tunnel),
                generation: 1,
            },
        });
    }
    hand.command([
        Command::Tables(changes.into()),
        Command::Port(Box::new(PortSetup {
            id: GREEN_PORT,
            bindings: None,
            bum_rate: 1000,
            trunk: None,
            vid: 0,
        })),
        Command::Paths(
            PeerId(0),
            Arc::from([Path {
                underlay: 0,
                src_mac: MacAddr(MAC),
                dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
                src: LOCAL,
                dst: peer(2),
                mtu: 1500,
            }]),
        ),
    ]);
}

#[test]
fn peers_without_a_key_take_no_place_from_another_network() {
    isolated(|| {
        const MANY: u8 = 20;
        let mut hand = Hand::start();
        crowd(&mut hand, MANY);
        let green = FIRST + u32::from(MANY);
        on_demand(&mut hand, 600, FIRST..=green);
        let no_key = |hand: &Hand| {
            let all = hand.verdicts();
            all.iter()
                .find(|(v, _)| *v == "no-key")
                .map_or(0, |(_, n)| *n)
        };
        // One tunnel's are few.
        let frame = |n| udp4(1, 100 + n, 0, 100);
        let burst = |hand: &mut Hand, n| {
            let frame = frame(n);
            for _ in 0..4 {
                hand.tenant(0, std::iter::repeat_n(&frame[..], 10));
            }
        };
        burst(&mut hand, 0);
        assert_eq!(no_key(&hand), 40 - u64::from(PER_TUNNEL));
        for n in 1..MANY {
            burst(&mut hand, n);
        }
        assert_eq!(hand.worker.held(), IN_ALL as u64);
        let before = no_key(&hand);
        // All places are taken by blue's, and green's five wait all the same.
        let frame = udp4(1, 2, 0, 100);
        hand.port(GREEN_PORT, std::iter::repeat_n(&frame[..], 5));
        assert_eq!(hand.worker.held(), IN_ALL as u64);
        assert_eq!(no_key(&hand), before + 5);
        hand.look(|_, _| panic!("without a key"));
        hand.command([seals(TunnelId(green), 0x6001, Algorithm::Aes256Gcm)]);
        let mut sent = 0;
        hand.look(|exit, _| {
            assert_eq!(exit, Exit::Underlay);
            sent += 1;
        });
        assert_eq!((sent, no_key(&hand)), (5, before + 5));
        // The others' time ends.
        std::thread::sleep(Duration::from_millis(1100));
        hand.command([Command::Housekeeping]);
        assert_eq!(hand.worker.held(), 0);
        hand.check();
    });
}

/// What follows from a limit of keys: the worker has none of its own and uses another's, whose it is
/// told; it goes on asking for its own, now and then.
#[test]
fn a_worker_without_a_key_hands_over_to_the_one_that_has_it() {
    isolated(|| {
        let mut hand = Hand::start();
        let tunnel = TunnelId(0);
        on_demand(&mut hand, 600, [0]);
        hand.command([Command::RemoveOutbound(tunnel)]);
        let frame = udp4(1, 2, 0, 100);
        let send = |hand: &mut Hand| hand.tenant(0, std::iter::repeat_n(&frame[..], 5));
        let exits = |hand: &mut Hand| {
            let mut seen = Vec::new();
            hand.look(|exit, _| seen.push(exit));
            seen
        };
        // Nobody has one: they wait.
        send(&mut hand);
        assert_eq!((hand.worker.held(), exits(&mut hand).len()), (5, 0));
        // Worker 1 has: those that waited go there, and those that come.
        let asked = hand.command([Command::OutboundOwner(tunnel, Some(1))]);
        assert!(
            asked
                .iter()
                .any(|event| matches!(event, Event::NeedKey(0, t) if *t == tunnel))
        );
        assert_eq!(exits(&mut hand), [Exit::Colleague; 5]);
        std::thread::sleep(Duration::from_millis(300));
        send(&mut hand);
        assert_eq!(exits(&mut hand), [Exit::Colleague; 5]);
        let asked = hand.command([]);
        let asks = asked
            .iter()
            .filter(|event| matches!(event, Event::NeedKey(..)));
        assert_eq!(asks.count(), 1, "once in a while, not for each frame");
        // With one of its own it needs nobody.
        hand.command([seals(tunnel, 0x7001, Algorithm::Aes256Gcm)]);
        send(&mut hand);
        assert_eq!(exits(&mut hand), [Exit::Underlay; 5]);
        // It is taken away again, and then the other's too.
        hand.command([Command::RemoveOutbound(tunnel)]);
        send(&mut hand);
        assert_eq!(exits(&mut hand), [Exit::Colleague; 5]);
        hand.command([Command::OutboundOwner(tunnel, None)]);
        send(&mut hand);
        assert_eq!((hand.worker.held(), exits(&mut hand).len()), (5, 0));
        hand.command([seals(tunnel, 0x7002, Algorithm::Aes256Gcm)]);
        assert_eq!(exits(&mut hand), [Exit::Underlay; 5]);
        hand.check();
    });
}

#[test]
fn what_a_limit_keeps_from_a_key_is_dropped_for_that() {
    isolated(|| {
        let mut hand = Hand::start();
        let tunnel = TunnelId(0);
        on_demand(&mut hand, 600, [0]);
        let frame = udp4(1, 2, 0, 100);
        let in_vain = |hand: &mut Hand| {
            hand.tenant(0, [&frame[..]]);
            std::thread::sleep(Duration::from_millis(1100));
            hand.command([Command::Housekeeping]);
            assert_eq!(hand.worker.held(), 0);
            let verdicts = hand.verdicts();
            ["sa-hard-limit", "no-key"].map(|name| {
                let all = verdicts.iter();
                all.filter(|(v, _)| *v == name)
                    .map(|(_, n)| *n)
                    .sum::<u64>()
            })
        };
        hand.command([Command::RemoveOutbound(tunnel), Command::Limit(tunnel)]);
        assert_eq!(in_vain(&mut hand), [1, 0]);
        // With another key that is over; without it, it is for want of one.
        hand.command([seals(tunnel, 0x7001, Algorithm::Aes256Gcm)]);
        hand.command([Command::RemoveOutbound(tunnel)]);
        assert_eq!(in_vain(&mut hand), [1, 1]);
        hand.check();
    });
}
