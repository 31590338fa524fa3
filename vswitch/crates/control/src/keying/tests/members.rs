//! Who is served, and what is left of who is not any more.

use super::*;
use crate::keying::{Direction, Output};
use crate::secret::live;

#[test]
fn a_stranger_is_refused_alike_whatever_it_asks_for() {
    let mut b = Victim::new();
    let m = Speaker::greet(&mut b, "m");
    let s = Speaker::greet(&mut b, "stranger");
    let before = live::count();
    for (speaker, name) in [(&m, "blue"), (&m, "green"), (&s, "red"), (&s, "green")] {
        let _ = speaker.request(&mut b, name, 5, 1);
        assert_eq!(b.refusals(), [Refusal::NotMember], "{name}");
        assert_eq!(b.said.len(), 1);
    }
    assert_eq!(b.keying.counters().refused_membership, 4);
    assert!(b.keying.pairs.is_empty() && b.orders.is_empty());
    assert_eq!(live::count(), before);
}

#[test]
fn an_epoch_is_served_if_it_is_this_the_next_or_shortly_before() {
    let served = |b: &Victim| matches!(b.said.first(), Some(PeerMessage::KeyResponse { .. }));
    for (epoch, right) in [(10, true), (11, true), (12, false), (9, false), (0, false)] {
        let mut b = Victim::new();
        let m = Speaker::greet(&mut b, "m");
        let _ = m.request(&mut b, "red", epoch, 1);
        assert_eq!(served(&b), right, "{epoch}");
        assert_eq!(b.refusals().is_empty(), right);
    }
    // After news, the former epoch for ten seconds; of an edge that is out, never.
    for (members, wait, right) in [
        (&["a", "b", "m"][..], 9_999, true),
        (&["a", "b", "m"], 10_000, false),
        (&["a", "b"], 0, false),
    ] {
        let mut b = Victim::new();
        let m = Speaker::greet(&mut b, "m");
        b.members("red", 14, members);
        b.pass(ms(wait));
        let _ = m.request(&mut b, "red", 10, 1);
        assert_eq!(served(&b), right, "{members:?} {wait}");
    }
}

/// One that was not told for long cannot begin, but is still a member: we begin for it.
#[test]
fn a_member_that_is_far_behind_is_asked() {
    let mut b = Victim::new();
    let m = Speaker::greet(&mut b, "m");
    b.members("red", 11, &["a", "b", "m"]);
    b.pass(ms(20_000));
    let _ = m.request(&mut b, "red", 10, 1);
    assert_eq!(b.refusals(), [Refusal::Epoch]);
    b.pass(ms(0));
    assert!(matches!(
        b.said[..],
        [PeerMessage::KeyRequest {
            epoch: Epoch(11),
            ..
        }]
    ));
}

/// All that is with a peer, in both directions.
fn with_m() -> (Victim, Speaker, u32) {
    let mut b = Victim::new();
    let mut m = Speaker::greet(&mut b, "m");
    m.exchange(&mut b, 1);
    let spi = m.sending(&mut b, 0);
    b.need("m", 0);
    assert_eq!(m.heard(&b), [VnMessage::Want { worker: 0 }]);
    (b, m, spi)
}

fn removed(b: &Victim, spi: u32) -> bool {
    b.orders
        .iter()
        .any(|order| matches!(order, Output::RemoveInbound { spi: it, .. } if *it == spi))
}

#[test]
fn whatever_ends_a_membership_ends_all_keys_at_once_and_the_peer_hears_of_it() {
    let none = live::count();
    let ends: [fn(&mut Victim); 4] = [
        |b| b.give(Event::Left { vn: vn("red") }),
        |b| b.members("red", 11, &["a", "b"]),
        |b| b.members("red", 11, &["a", "m"]),
        |b| b.give(Event::Revoked { peer: nve("m") }),
    ];
    for (which, end) in ends.into_iter().enumerate() {
        let (mut b, m, spi) = with_m();
        drop(m);
        assert!(live::count() > none);
        assert_eq!(b.spis("m"), [spi]);
        end(&mut b);
        assert!(removed(&b, spi), "{which}");
        assert_eq!(b.said, [PeerMessage::Bye { vn: vn("red") }], "{which}");
        assert!(b.spis("m").is_empty() && b.keying.pairs.is_empty());
        assert_eq!(b.closed, usize::from(which == 3));
        b.orders.clear();
        assert_eq!(live::count(), none, "{which}: a secret is left");
    }
}

#[test]
fn a_peer_that_says_goodbye_takes_its_own_and_nothing_else() {
    let (mut b, m, spi) = with_m();
    let mut a = Speaker::greet(&mut b, "a");
    a.exchange(&mut b, 1);
    let other = a.sending(&mut b, 0);
    m.say(&mut b, &PeerMessage::Bye { vn: vn("blue") });
    assert_eq!(b.spis("m"), [spi]);
    m.say(&mut b, &PeerMessage::Bye { vn: vn("red") });
    assert!(b.spis("m").is_empty() && removed(&b, spi));
    assert_eq!(b.spis("a"), [other]);
}

#[test]
fn a_new_run_of_a_peer_ends_the_sas_of_the_former() {
    let (mut b, _, spi) = with_m();
    b.orders.clear();
    let session = SessionId(77);
    b.give(Event::SessionUp {
        peer: nve("m"),
        session,
        binding: [8; 32],
    });
    assert_eq!(b.spis("m"), [spi], "a session alone says nothing");
    let boot = BootId([99; 16]);
    let version = VERSION;
    b.give(Event::Message {
        peer: nve("m"),
        session,
        bytes: encode(&PeerMessage::Hello { version, boot }).unwrap(),
    });
    assert!(removed(&b, spi) && b.spis("m").is_empty());
    assert_eq!(b.keying.counters().restarts, 1);
    // What was needed still is.
    b.pass(ms(100));
    assert!(matches!(b.said[..], [PeerMessage::KeyRequest { .. }]));
}

#[test]
fn another_protection_is_another_key() {
    let (mut b, ..) = with_m();
    b.give(Event::Members {
        vn: vn("red"),
        epoch: Epoch(11),
        algorithm: SaAlgorithm::Aes256Gmac,
        members: ["a", "b", "m"].map(nve).into(),
    });
    assert!(b.keying.sas().all(|sa| sa.direction == Direction::Outbound));
    assert!(b.spis("m").is_empty());
}
