//! What edges count of one another: every packet that one seals for another, that one opens.

use std::collections::BTreeMap;
use std::thread;

use crate::asking::show;
use crate::bridge::UNDER_WAY;
use crate::lab::wait_for;

/// Packets sealed for a peer, and opened from it, by edge and peer.
type Counted = BTreeMap<(String, String), (u64, u64)>;

#[track_caller]
fn counted(edges: &[&str]) -> Counted {
    let mut counted = Counted::new();
    for edge in edges {
        let tunnels = show(edge, "tunnels");
        for tunnel in tunnels.as_array().expect("tunnels") {
            let peer = tunnel["peer"].as_str().expect("a peer");
            let count = |what: &str| tunnel["traffic"][what].as_u64().expect("a counter");
            let of = counted.entry(((*edge).to_owned(), peer.to_owned()));
            let (sealed, opened) = of.or_default();
            *sealed += count("tx_packets");
            *opened += count("rx_packets");
        }
    }
    counted
}

/// Counters when nothing is under way between these edges.
#[track_caller]
fn at_rest(edges: &[&str]) -> Counted {
    wait_for("nothing is under way", 10, || {
        let first = counted(edges);
        thread::sleep(UNDER_WAY);
        (counted(edges) == first).then_some(first)
    })
}

/// While `traffic` is all that passes, and none of it is lost: what each of these edges seals for each
/// other one is what that one opens, and something is.
#[track_caller]
pub fn add_up(edges: &[&str], traffic: impl FnOnce()) {
    let before = at_rest(edges);
    traffic();
    let after = at_rest(edges);
    for from in edges {
        for to in edges.iter().filter(|to| *to != from) {
            let grown = |edge: &str, peer: &str| {
                let key = (edge.to_owned(), peer.to_owned());
                let [(s0, o0), (s1, o1)] = [&before, &after].map(|c| c[&key]);
                (s1 - s0, o1 - o0)
            };
            let (sealed, opened) = (grown(from, to).0, grown(to, from).1);
            assert!(sealed > 0, "{from} sealed nothing for {to}");
            assert_eq!(sealed, opened, "sealed by {from}, opened by {to}");
        }
    }
}
