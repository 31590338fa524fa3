//! A member that says what is not so: to itself it can do harm, to others none.

use super::*;
use crate::keying::Direction;

/// `b` with SAs from `a`, and an exchange with the liar.
fn scene() -> (Victim, Speaker, Speaker, u32) {
    let mut b = Victim::new();
    let mut a = Speaker::greet(&mut b, "a");
    a.exchange(&mut b, 1);
    let spi = a.sending(&mut b, 0);
    let mut m = Speaker::greet(&mut b, "m");
    m.exchange(&mut b, 2);
    b.orders.clear();
    (b, a, m, spi)
}

#[test]
fn what_was_not_asked_for_is_not_believed() {
    let (mut b, _a, mut m, spi) = scene();
    let algorithm = SaAlgorithm::Aes256Gcm;
    let lies = [
        VnMessage::Offer {
            worker: 0,
            index: 0,
            spi,
            algorithm,
        },
        VnMessage::Installed { spi },
        VnMessage::Share { worker: 0, with: 1 },
        VnMessage::Denied { worker: 0 },
        VnMessage::Switched { spi },
        VnMessage::Retire { spi },
        VnMessage::Want { worker: 64 },
        VnMessage::Want { worker: u16::MAX },
    ];
    for (at, lie) in lies.iter().enumerate() {
        assert_eq!(m.tell(&mut b, lie), [], "{lie:?}");
        assert_eq!(b.keying.counters().lies, at as u64 + 1, "{lie:?}");
    }
    // Of other pairs' SAs neither are these anything.
    m.tell(&mut b, &VnMessage::Gone { spi });
    let spis = vec![spi, 256].try_into().unwrap();
    m.tell(&mut b, &VnMessage::Outbound { spis });
    m.tell(
        &mut b,
        &VnMessage::Outbound {
            spis: Default::default(),
        },
    );
    b.pass(ms(5000));
    assert!(b.orders.is_empty(), "{:?}", b.orders);
    assert_eq!(b.spis("a"), [spi]);
    assert_eq!(b.closed, 0);
}

#[test]
fn an_offer_must_be_what_the_exchange_gives_and_new() {
    let (mut b, _a, mut m, _) = scene();
    b.need("m", 0);
    assert_eq!(m.heard(&b), [VnMessage::Want { worker: 0 }]);
    let pair = &b.keying.pairs[&nve("m")][&vn("red")];
    let exchange = pair.exchange.as_ref().unwrap();
    let red = vn("red");
    let right = |index, algorithm| {
        let name = crate::keying::exchange::SaName {
            sender: "spiffe://localdomain/nve/b",
            receiver: "spiffe://localdomain/nve/m",
            vn: &red,
            worker: 0,
            index,
            algorithm,
        };
        exchange.spi(&name).unwrap()
    };
    let (gcm, gmac) = (SaAlgorithm::Aes256Gcm, SaAlgorithm::Aes256Gmac);
    let (zero, one, weak) = (right(0, gcm), right(1, gcm), right(0, gmac));
    let offers = [
        (0, one, gcm),
        (1, zero, gcm),
        (0, 255, gcm),
        (0, weak, gmac),
    ];
    let offer = |(index, spi, algorithm)| VnMessage::Offer {
        worker: 0,
        index,
        spi,
        algorithm,
    };
    for (lies, lie) in offers.into_iter().enumerate() {
        m.tell(&mut b, &offer(lie));
        assert_eq!(b.keying.counters().lies, lies as u64 + 1, "{lie:?}");
        b.pass(ms(1000)); // Asked again.
        assert_eq!(m.heard(&b), [VnMessage::Want { worker: 0 }], "{lie:?}");
    }
    assert!(b.spis("m").is_empty());
    // The right one; then the same index once more, which would be the same key from its first
    // nonce on.
    m.tell(&mut b, &offer((0, zero, gcm)));
    m.tell(&mut b, &VnMessage::Installed { spi: zero });
    b.carry_out();
    assert_eq!(m.heard(&b), [VnMessage::Switched { spi: zero }]);
    m.tell(&mut b, &VnMessage::Gone { spi: zero });
    b.need("m", 0);
    assert_eq!(m.heard(&b), [VnMessage::Want { worker: 0 }]);
    m.tell(&mut b, &offer((0, zero, gcm)));
    assert_eq!(b.keying.counters().lies, offers.len() as u64 + 1);
    b.pass(ms(1000));
    m.heard(&b);
    m.tell(&mut b, &offer((1, one, gcm)));
    m.tell(&mut b, &VnMessage::Installed { spi: one });
    b.carry_out();
    assert_eq!(m.heard(&b), [VnMessage::Switched { spi: one }]);
}

#[test]
fn wanting_more_than_one_uses_gets_nothing_and_costs_little() {
    let (mut b, _a, mut m, _) = scene();
    m.sending(&mut b, 0);
    b.orders.clear();
    for _ in 0..50 {
        assert_eq!(m.tell(&mut b, &VnMessage::Want { worker: 0 }), []);
    }
    assert!(b.orders.is_empty());
    // One after another, each given back: never an index twice, never more than a few at once.
    let mut seen = Vec::new();
    let mut spi = b.spis("m")[0];
    for _ in 0..20 {
        m.tell(&mut b, &VnMessage::Retire { spi });
        spi = m.sending(&mut b, 0);
        assert!(!seen.contains(&spi));
        seen.push(spi);
        assert!(b.spis("m").len() <= crate::keying::receiving::PER_WORKER);
    }
}

#[test]
fn anothers_exchange_is_no_use() {
    let (mut b, mut a, m, spi) = scene();
    let (id, channel) = a.channel.as_mut().unwrap();
    let stolen = PeerMessage::Sealed {
        vn: vn("red"),
        exchange: *id,
        bytes: channel.seal(&[7]).unwrap().try_into().unwrap(),
    };
    m.say(&mut b, &stolen);
    assert_eq!(b.refusals(), [Refusal::Exchange]);
    let id = *id;
    for why in [Refusal::Exchange, Refusal::NotMember, Refusal::Epoch] {
        let exchange = id;
        let vn = vn("red");
        m.say(&mut b, &PeerMessage::Refuse { vn, exchange, why });
    }
    b.pass(ms(5000));
    assert_eq!(b.spis("a"), [spi]);
    let pair = &b.keying.pairs[&nve("a")][&vn("red")];
    assert_eq!(pair.exchange.as_ref().unwrap().id, id);
}

#[test]
fn what_is_no_message_or_not_at_its_place_ends_the_session() {
    let hello = |version| PeerMessage::Hello {
        version,
        boot: BootId([1; 16]),
    };
    for bytes in [
        vec![],
        vec![0xff; 40],
        encode(&hello(VERSION)).unwrap(),
        [encode(&hello(VERSION)).unwrap(), vec![0]].concat(),
    ] {
        let mut b = Victim::new();
        let m = Speaker::greet(&mut b, "m");
        m.say_bytes(&mut b, bytes);
        assert_eq!((b.closed, b.keying.counters().violations), (1, 1));
        assert_eq!(b.keying.sessions().count(), 0);
        // And what comes behind it is not heard.
        let _ = m.request(&mut b, "red", 10, 1);
        assert_eq!(b.said, []);
    }
    for first in [hello(VERSION + 1), PeerMessage::Bye { vn: vn("red") }] {
        let mut b = Victim::new();
        let (peer, session) = (nve("m"), SessionId(5));
        let binding = [0; 32];
        b.give(Event::SessionUp {
            peer: peer.clone(),
            session,
            binding,
        });
        let bytes = encode(&first).unwrap();
        b.give(Event::Message {
            peer,
            session,
            bytes,
        });
        assert_eq!(b.closed, 1, "{first:?}");
    }
    // Sealed rightly, and nonsense.
    let (mut b, _a, mut m, _) = scene();
    let (exchange, channel) = m.channel.as_mut().unwrap();
    let nonsense = PeerMessage::Sealed {
        vn: vn("red"),
        exchange: *exchange,
        bytes: channel.seal(&[200, 1]).unwrap().try_into().unwrap(),
    };
    m.say(&mut b, &nonsense);
    assert_eq!(b.closed, 1);
}

#[test]
fn more_requests_than_served_are_refused() {
    let config = Config {
        requests_per_second: 3,
        requests_at_once: 3,
        ..Config::default()
    };
    let mut b = Victim::with(config);
    let m = Speaker::greet(&mut b, "m");
    for id in 0..5 {
        let _ = m.request(&mut b, "red", 10, id);
    }
    assert_eq!(b.keying.counters().refused_busy, 2);
    assert_eq!(b.keying.counters().exchanges_answered, 3);
    b.pass(ms(1000));
    let _ = m.request(&mut b, "red", 10, 9);
    assert_eq!(b.refusals(), []);
}

#[test]
fn a_message_that_does_not_open_ends_the_exchange_and_no_sa() {
    let (mut b, _a, mut m, _) = scene();
    let spi = m.sending(&mut b, 3);
    let exchange = m.channel.as_ref().unwrap().0;
    let forged = PeerMessage::Sealed {
        vn: vn("red"),
        exchange,
        bytes: vec![0; 40].try_into().unwrap(),
    };
    m.say(&mut b, &forged);
    assert_eq!(b.refusals(), [Refusal::Exchange]);
    assert_eq!(b.keying.counters().unauthentic, 1);
    let inbound = b
        .keying
        .sas()
        .filter(|sa| sa.direction == Direction::Inbound);
    assert_eq!(inbound.filter(|sa| sa.spi == spi).count(), 1);
    b.pass(ms(100));
    assert!(matches!(b.said[..], [PeerMessage::KeyRequest { .. }]));
}
