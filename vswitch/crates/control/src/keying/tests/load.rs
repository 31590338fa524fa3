//! Much at once: what one peer may cost, and how much is asked of it.

use std::collections::VecDeque;

use super::*;
use crate::hybrid;
use crate::keying::Direction;

#[test]
fn a_peer_begins_exchanges_at_a_limited_rate() {
    let mut b = Victim::new();
    let m = Speaker::greet(&mut b, "m");
    let mut asked = 0_u32;
    let mut ask = |b: &mut Victim, times: u32| {
        let mut answered = 0;
        for _ in 0..times {
            asked += 1;
            let mut id = [0; 16];
            id[..4].copy_from_slice(&asked.to_be_bytes());
            let initiator = Initiator::new().unwrap();
            let request = PeerMessage::KeyRequest {
                vn: vn("red"),
                epoch: Epoch(10),
                exchange: ExchangeId(id),
                offer: initiator.offer().clone(),
            };
            m.say(b, &request);
            let response = |said: &PeerMessage| matches!(said, PeerMessage::KeyResponse { .. });
            if b.said.iter().any(response) {
                answered += 1;
            } else {
                assert_eq!(b.refusals(), [Refusal::Busy]);
            }
        }
        answered
    };
    assert_eq!(ask(&mut b, 600), 500);
    b.now += ms(1000);
    assert_eq!(ask(&mut b, 200), 100);
    assert_eq!(b.keying.counters().refused_busy, 200);
    // Another peer's are its own.
    let mut a = Speaker::greet(&mut b, "a");
    a.exchange(&mut b, 1);
}

/// Who has more networks in common than a peer may begin exchanges at once may begin one for each, and goes
/// back to what everybody has when it leaves them.
#[test]
fn a_peer_may_begin_an_exchange_for_each_network_in_common() {
    let mut b = Victim::new();
    let names: Vec<_> = (0..1000).map(|n| format!("n{n}")).collect();
    for name in &names {
        b.members(name, 1, &["b", "m"]);
    }
    let m = Speaker::greet(&mut b, "m");
    let mut asked = 0_u32;
    let mut served = |b: &mut Victim, vn: &str, epoch| {
        asked += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&asked.to_be_bytes());
        let initiator = Initiator::new().unwrap();
        let request = PeerMessage::KeyRequest {
            vn: super::vn(vn),
            epoch: Epoch(epoch),
            exchange: ExchangeId(id),
            offer: initiator.offer().clone(),
        };
        m.say(b, &request);
        b.refusals() != [Refusal::Busy]
    };
    for name in &names {
        assert!(served(&mut b, name, 1));
    }
    // `red` too, and a quarter more; behind that a tenth of it each second.
    let all = (0..1000).filter(|_| served(&mut b, "red", 10)).count();
    assert_eq!(1000 + all, 1001 + 1001 / 4);
    b.now += ms(1000);
    assert_eq!((0..500).filter(|_| served(&mut b, "red", 10)).count(), 125);
    for name in &names {
        b.give(Event::Left {
            vn: super::vn(name),
        });
    }
    b.now += ms(60_000);
    assert_eq!((0..600).filter(|_| served(&mut b, "red", 10)).count(), 500);
}

/// All networks with a peer are due at once, and it takes 2 ms for each.
#[test]
fn networks_wait_in_line_and_none_is_given_up() {
    const VNS: usize = 1000;
    let mut b = Victim::new();
    // As many as these stay in common while those below are left.
    for n in 0..VNS {
        b.members(&format!("x{n}"), 1, &["a", "b"]);
    }
    let names: Vec<_> = (0..VNS).map(|n| format!("n{n}")).collect();
    for name in &names {
        b.members(name, 1, &["a", "b"]);
        b.give(Event::Need {
            vn: vn(name),
            peer: nve("a"),
            worker: 0,
        });
    }
    let a = Speaker::greet(&mut b, "a");
    let mut asked = VecDeque::new();
    let (mut most, begin) = (0, b.now);
    while b.keying.counters().exchanges_begun < VNS as u64 {
        b.pass(ms(2));
        let requests = |said: &PeerMessage| matches!(said, PeerMessage::KeyRequest { .. });
        asked.extend(core::mem::take(&mut b.said).into_iter().filter(requests));
        let Some(PeerMessage::KeyRequest {
            vn,
            epoch,
            exchange,
            offer,
        }) = asked.pop_front()
        else {
            assert!(b.now - begin < ms(5000), "{:?}", b.keying.counters());
            continue;
        };
        let transcript = Transcript {
            initiator: "spiffe://localdomain/nve/b",
            responder: "spiffe://localdomain/nve/a",
            vn: &vn,
            epoch,
            exchange,
            binding: &a.binding,
        };
        let (answer, _) = hybrid::respond(&offer, &transcript).unwrap();
        let response = PeerMessage::KeyResponse {
            vn: vn.clone(),
            exchange,
            answer,
        };
        a.say(&mut b, &response);
        // What comes behind the exchange is not answered here: this network is done.
        b.give(Event::Left { vn });
        most = most.max(b.keying.peers[&nve("a")].turns.under_way());
    }
    assert_eq!(b.keying.counters().exchanges_failed, 0);
    assert_eq!(most, 32);
    assert!(b.now - begin < ms(2500), "{:?}", b.now - begin);
    assert_eq!(b.keying.counters().exchanges_queued, VNS as u64 - 32);
}

#[test]
fn what_is_not_installed_is_reported_once_and_tried_again() {
    let mut b = Victim::new();
    let mut m = Speaker::greet(&mut b, "m");
    m.exchange(&mut b, 1);
    for round in 0..3 {
        let heard = m.tell(&mut b, &VnMessage::Want { worker: 3 });
        assert!(matches!(heard[..], [VnMessage::Offer { .. }]), "{heard:?}");
        let Some(Output::InstallInbound { id, .. }) = b.orders.pop() else {
            panic!("{:?}", b.orders);
        };
        let why = "it does not fit".to_owned();
        b.give(Event::Failed { id, why });
        assert_eq!(m.heard(&b), [VnMessage::Denied { worker: 3 }]);
        assert_eq!(b.keying.counters().install_failures, round + 1);
        assert_eq!(b.keying.sas().count(), 0);
    }
    let report = Report::NotInstalled {
        vn: vn("red"),
        peer: nve("m"),
        direction: Direction::Inbound,
        worker: 3,
        why: "it does not fit".to_owned(),
    };
    assert_eq!(b.reports, [report]);
}

/// A worker that shares asks neither the peer nor us again and again.
#[test]
fn a_worker_that_shares_is_counted_once_and_shown() {
    let mut b = Victim::with(Config {
        workers_per_pair: 1,
        ..Config::default()
    });
    b.need("m", 0);
    for _ in 0..5 {
        b.need("m", 1);
        b.now += ms(250);
    }
    assert_eq!(b.keying.counters().shared, 1);
    let shares: Vec<_> = b.keying.shares().collect();
    assert_eq!((shares.len(), shares[0].worker, shares[0].with), (1, 1, 0));
    // With the SA that it shares, that is over.
    b.members("red", 11, &["a", "b"]);
    assert_eq!(b.keying.shares().count(), 0);
}
