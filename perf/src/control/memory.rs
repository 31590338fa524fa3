//! Memory of an edge's keying per peer, per network with a peer, and per SA: worlds that differ in one of
//! them, and what is given back when the edge in their middle is dropped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::ensure;
use vswitch_control::keying::{Direction, SaState};

use super::overlay::{VNS_PER_EDGE, vn_name};
use super::pair::{Edge, Out};

/// Workers that have an SA each in the larger world.
const WORKERS: u16 = 32;

/// Bytes.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Of a peer with a session, without any keys.
    pub peer: f64,
    /// Of a network with a peer: its exchange and channel.
    pub pair: f64,
    /// Of one outbound SA's state (keys are with the data plane alone).
    pub outbound: f64,
    /// Of one inbound SA's.
    pub inbound: f64,
}

/// An edge with so many peers, the same networks with all of them, and SAs for so many workers from it
/// (or to it). Bytes that it gives back.
fn world(
    peers: usize,
    vns: usize,
    workers: u16,
    inbound: bool,
    allocated: fn() -> usize,
) -> anyhow::Result<f64> {
    let mut edges: Vec<Edge> = (0..=peers).map(Edge::new).collect::<Result<_, _>>()?;
    let names: Vec<_> = edges.iter().map(|edge| edge.name.clone()).collect();
    for vn in 0..vns {
        for (n, edge) in edges.iter_mut().enumerate() {
            let with = names
                .get(if n == 0 { 1..peers + 1 } else { 0..1 })
                .unwrap_or_default();
            let members: Vec<_> = with.iter().chain([&edge.name]).cloned().collect();
            edge.join(vn, &members)?;
        }
    }
    let begun = Instant::now();
    let mut messages: VecDeque<(usize, usize, Vec<u8>)> = VecDeque::new();
    let (hub, leaves) = edges.split_at_mut(1);
    for (n, leaf) in leaves.iter_mut().enumerate() {
        for hub in hub.iter_mut() {
            hub.up(Duration::ZERO, &names[n + 1], 1, [7; 32]);
            leaf.up(Duration::ZERO, &names[0], 1, [7; 32]);
        }
    }
    settle(&mut edges, &names, &mut messages, begun)?;
    for vn in 0..vns {
        for worker in 0..workers {
            for n in 1..=peers {
                let (from, to) = if inbound { (n, 0) } else { (0, n) };
                edges[from].need(begun.elapsed(), vn_name(vn)?, &names[to], worker);
            }
        }
    }
    settle(&mut edges, &names, &mut messages, begun)?;
    drop(messages);
    let hub = edges.swap_remove(0);
    let way = if inbound {
        Direction::Inbound
    } else {
        Direction::Outbound
    };
    let sas = hub.keying.sas();
    let live = sas
        .filter(|sa| sa.direction == way && sa.state == SaState::Live)
        .count();
    let wanted = peers * vns * usize::from(workers);
    ensure!(live == wanted, "{live} SAs are live of {wanted}");
    ensure!(
        hub.keying.sessions().count() == peers,
        "a session is missing"
    );
    let before = allocated();
    drop(hub);
    Ok(before.saturating_sub(allocated()) as f64)
}

/// Carries messages until nobody says anything.
fn settle(
    edges: &mut [Edge],
    names: &[vswitch_control::types::NveName],
    messages: &mut VecDeque<(usize, usize, Vec<u8>)>,
    begun: Instant,
) -> anyhow::Result<()> {
    // Whoever has a message for the edge in the middle; it has them for all.
    let pump = |edges: &mut [Edge], n: usize, messages: &mut VecDeque<_>| {
        edges[n].pump(begun.elapsed(), |out| {
            if let Out::Message(peer, bytes) = out {
                let to = names.iter().position(|name| *name == peer);
                messages.push_back((n, to.unwrap_or_default(), bytes));
            }
            Ok(())
        })
    };
    for n in 0..edges.len() {
        pump(edges, n, messages)?;
    }
    while let Some((from, to, bytes)) = messages.pop_front() {
        edges[to].message(begun.elapsed(), &names[from], 1, bytes);
        pump(edges, to, messages)?;
    }
    Ok(())
}

/// Measures, with so many peers. Nothing else may allocate meanwhile.
pub fn measure(peers: usize, allocated: fn() -> usize) -> anyhow::Result<Found> {
    let of = |peers, vns, workers, inbound| world(peers, vns, workers, inbound, allocated);
    let pairs = (peers * VNS_PER_EDGE) as f64;
    let nobody = of(0, VNS_PER_EDGE, 0, false)?;
    // That the networks have members is a part of it.
    let strangers = of(peers, VNS_PER_EDGE, 0, false)?;
    let sas = |inbound| {
        let one = of(peers, VNS_PER_EDGE, 1, inbound)?;
        let many = of(peers, VNS_PER_EDGE, WORKERS, inbound)?;
        let more = pairs * f64::from(WORKERS - 1);
        anyhow::Ok((one, (many - one) / more))
    };
    let (one, outbound) = sas(false)?;
    let (_, inbound) = sas(true)?;
    Ok(Found {
        peer: (strangers - nobody) / peers as f64,
        pair: (one - strangers) / pairs - outbound,
        outbound,
        inbound,
    })
}
