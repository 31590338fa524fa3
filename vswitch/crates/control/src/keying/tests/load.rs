//! Much at once: what one peer may cost, and how much is asked of it.

use std::collections::VecDeque;

use super::*;
use crate::hybrid;
use crate::keying::Direction;

/// The n-th exchange of a peer.
fn request(n: u32) -> PeerMessage {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    let initiator = Initiator::new().unwrap();
    PeerMessage::KeyRequest {
        vn: vn("red"),
        epoch: Epoch(10),
        exchange: ExchangeId(id),
        offer: initiator.offer().clone(),
    }
}

fn has_response(b: &Victim) -> bool {
    let response = |said: &PeerMessage| matches!(said, PeerMessage::KeyResponse { .. });
    b.said.iter().any(response)
}

#[test]
fn a_peer_begins_exchanges_at_a_limited_rate() {
    let mut b = Victim::new();
    let m = Speaker::greet(&mut b, "m");
    let mut asked = 0_u32;
    let mut ask = |b: &mut Victim, times: u32| {
        let mut answered = 0;
        for _ in 0..times {
            asked += 1;
            m.say(b, &request(asked));
            if has_response(b) {
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

/// With its session a peer loses everything but what it has spent.
#[test]
fn who_comes_anew_may_ask_for_no_more() {
    let mut b = Victim::new();
    let mut asked = 0_u32;
    let mut served = 0;
    let begin = b.now;
    for _ in 0..20 {
        let m = Speaker::greet(&mut b, "m");
        for _ in 0..100 {
            asked += 1;
            m.say(&mut b, &request(asked));
            served += usize::from(has_response(&b));
        }
        b.give(Event::SessionDown {
            peer: nve("m"),
            session: m.session,
        });
        assert!(b.keying.peers.is_empty() && b.keying.pairs.is_empty());
    }
    assert_eq!((b.now, served), (begin, 500));
    b.now += ms(60_000);
    Speaker::greet(&mut b, "m").exchange(&mut b, 1);
}

/// So with SAs, each asked for in an exchange of its own session.
#[test]
fn who_comes_anew_may_ask_for_no_more_keys() {
    let config = Config {
        requests_per_second: 10,
        requests_at_once: 10,
        ..Config::default()
    };
    let mut b = Victim::with(config);
    let mut offered = 0;
    for n in 0..8 {
        let mut m = Speaker::greet(&mut b, "m");
        m.exchange(&mut b, n);
        for worker in 0..40 {
            let heard = m.tell(&mut b, &VnMessage::Want { worker });
            let offer = |it: &VnMessage| matches!(it, VnMessage::Offer { .. });
            offered += usize::from(heard.iter().any(offer));
        }
        // It leaves nothing behind.
        let leave = PeerMessage::Bye { vn: vn("red") };
        m.say(&mut b, &leave);
        b.give(Event::SessionDown {
            peer: nve("m"),
            session: m.session,
        });
    }
    // Ten a second, sixteen for each: those of four sessions, of which 16 workers each get their own.
    assert_eq!((offered, b.keying.counters().denied), (4 * 16, 4 * 40));
}

#[test]
fn what_is_spent_is_remembered_of_as_many_as_asked_of_late() {
    let mut b = Victim::new();
    let (version, boot) = (VERSION, BootId([1; 16]));
    let hello = encode(&PeerMessage::Hello { version, boot }).unwrap();
    let request = PeerMessage::KeyRequest {
        vn: vn("red"),
        epoch: Epoch(10),
        exchange: ExchangeId([1; 16]),
        offer: Initiator::new().unwrap().offer().clone(),
    };
    let request = encode(&request).unwrap();
    for n in 0..6000 {
        let (peer, session) = (nve(&format!("s{n}")), SessionId(n));
        b.give(Event::SessionUp {
            peer: peer.clone(),
            session,
            binding: [9; 32],
        });
        for bytes in [&hello, &request] {
            let (peer, bytes) = (peer.clone(), bytes.clone());
            b.give(Event::Message {
                peer,
                session,
                bytes,
            });
        }
        assert_eq!(b.refusals(), [Refusal::NotMember]);
        b.give(Event::SessionDown { peer, session });
        b.pass(ms(10));
    }
    let kept = b.keying.allowances.len();
    assert!((1..=1200).contains(&kept), "{kept}");
}

/// One peer takes all that it gets, in as many networks as it likes; then a second one does. Every other
/// still gets what is kept for it.
#[test]
fn no_peer_takes_what_is_kept_for_others() {
    let config = Config {
        max_sas: 200,
        ample_sas: 150,
        ..Config::default()
    };
    let mut b = Victim::with(config);
    let others: Vec<String> = (0..8).map(|n| format!("o{n}")).collect();
    let mut red: Vec<&str> = others.iter().map(String::as_str).collect();
    red.extend(["a", "b", "m"]);
    b.members("red", 11, &red);
    let names: Vec<String> = (0..200).map(|n| format!("n{n}")).collect();
    for name in &names {
        b.members(name, 11, &["a", "b", "m"]);
    }
    // a, m and eight others: ten for each of them are kept.
    let takes = |b: &mut Victim, name: &str, networks: &[String]| {
        let mut speaker = Speaker::greet(b, name);
        let mut offered = 0;
        for (id, network) in (0..).zip(networks) {
            speaker.network = (vn(network), 11);
            speaker.exchange(b, id);
            let workers = if networks.len() == 1 { 16 } else { 1 };
            for worker in 0..workers {
                let heard = speaker.tell(b, &VnMessage::Want { worker });
                let offer = |it: &VnMessage| matches!(it, VnMessage::Offer { .. });
                offered += usize::from(heard.iter().any(offer));
            }
        }
        offered
    };
    let (first, second) = (takes(&mut b, "m", &names), takes(&mut b, "a", &names));
    assert_eq!((first, second), (10 + 50, 10 + 20));
    let denied = b.keying.counters().denied_share;
    assert_eq!(denied, 2 * 200 - 90);
    let crowding = [("m", 60), ("a", 30)].map(|(peer, has)| {
        let peer = nve(peer);
        Report::Crowding { peer, has }
    });
    assert_eq!(b.reports, crowding);
    for name in &others {
        // Ten workers of the one network that it shares.
        let got = takes(&mut b, name, &["red".to_owned()]);
        assert!(got >= 10, "{name}: {got}");
    }
    assert!(b.keying.receivers <= 200, "{}", b.keying.receivers);
    assert_eq!(b.keying.counters().denied_share, denied);
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
