//! One packet played to a rig: that it is refused, or passes, and every counter that changes.

use crate::rig::Rig;
use crate::tally::Tally;

/// Network and peer that the attacks are about.
pub const BLUE: (&str, &str) = ("blue", "b");

/// Plays one packet: nothing may come out, and exactly what `note` says is counted.
#[track_caller]
pub fn refused(rig: &mut Rig, packet: Vec<u8>, note: impl FnOnce(&mut Tally, usize)) {
    let mut tally = Tally::new();
    note(&mut tally, packet.len());
    rig.from_underlay(&[packet]);
    let out = rig.settle();
    tally.check(&out.changes);
    assert!(out.underlay.is_empty() && out.trunk.is_empty());
}

/// Plays a packet with a good frame to tenant 1.
#[track_caller]
pub fn passes(rig: &mut Rig, packet: Vec<u8>, frame: &[u8]) {
    let mut tally = Tally::new();
    tally.delivered(packet.len(), BLUE, "blue-1", frame.len());
    rig.from_underlay(&[packet]);
    let out = rig.settle();
    tally.check(&out.changes);
    assert_eq!(out.trunk, [(101, frame.to_vec())]);
    assert!(out.underlay.is_empty());
}
