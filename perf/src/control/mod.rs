//! `control`: what the control plane bears. Simulated edges with real certificates and sessions at a real
//! authority, which is a process of its own with a store on disk; and keys between two edges. No DPDK.
//!
//! Everything here is software that waits for other software: on a machine with two CPUs, edges and authority
//! have one each. So all work is counted twice, by the clock and by the authority's CPU time.

mod authority;
mod edge;
mod keys;
mod lab;
mod memory;
mod operators;
mod overlay;
mod pair;
mod records;
mod tables;
mod watch;
mod world;

use anyhow::ensure;
use clap::Args;

pub use authority::{SUBCOMMAND, Serve, serve};
pub use overlay::VNS_PER_EDGE;

use crate::machine::Machine;
use crate::options::Report;
use lab::Lab;
use overlay::{Overlay, Station};
use watch::Times;
use world::{Step, World};

/// Name of the benchmark.
pub const NAME: &str = "control";

/// The overlay is measured at these parts of its size: a hundredth, a tenth, all.
const PARTS: [usize; 3] = [100, 10, 1];
/// Changes that are under way at once when there are many.
const WINDOW: u32 = 64;

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    report: Report,
    /// 5,000 edges, 4,000 networks, 10⁶ mappings: some minutes, and some gigabytes of memory.
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Edges; as many at each network as there is room for.
    #[arg(long)]
    edges: Option<usize>,
    /// Networks; an edge is in four.
    #[arg(long)]
    vns: Option<usize>,
    /// Mappings, in all networks together.
    #[arg(long)]
    mappings: Option<usize>,
    /// Members of one network more, in which many have to be told.
    #[arg(long)]
    broad: Option<usize>,
    /// Key agreements of each kind.
    #[arg(long)]
    agreements: Option<usize>,
}

/// How much of everything, if not told otherwise.
struct Scale {
    name: &'static str,
    edges: usize,
    vns: usize,
    mappings: usize,
    broad: usize,
    /// Changes with many under way; a tenth of it one by one, a twentieth for the watched edge.
    changes: usize,
    agreements: usize,
    /// Peers of the edge whose memory is measured.
    peers: usize,
}

const QUICK: Scale = Scale {
    name: "quick",
    edges: 60,
    vns: 40,
    mappings: 480,
    broad: 20,
    changes: 200,
    agreements: 50,
    peers: 8,
};

const DEFAULT: Scale = Scale {
    name: "default",
    edges: 500,
    vns: 400,
    mappings: 20_000,
    broad: 200,
    changes: 2000,
    agreements: 2000,
    peers: 100,
};

const FULL: Scale = Scale {
    name: "full",
    edges: 5000,
    vns: 4000,
    mappings: 1_000_000,
    broad: 1000,
    changes: 20_000,
    agreements: 20_000,
    peers: 500,
};

/// What the watched edge was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    messages: u64,
    bytes: u64,
}

/// The overlay at one size, and what it costs an edge whose own part stays the same.
struct Grown {
    edges: usize,
    vns: usize,
    mappings: usize,
    /// From its dial until it knows all of its networks.
    start: Sent,
    /// By `changes` changes in networks that are not its own, if there are any.
    elsewhere: Option<Sent>,
    /// By as many in its own.
    own: Sent,
    changes: usize,
}

/// Changes of one kind.
struct Changes {
    name: &'static str,
    members: usize,
    step: Step,
    times: Times,
}

/// Everything that was found.
struct Found {
    scale: &'static str,
    overlay: Overlay,
    steps: Vec<(&'static str, Step)>,
    handshakes: Times,
    refused: usize,
    growth: Vec<Grown>,
    changes: Vec<Changes>,
    restart: (f64, usize),
    keys: Vec<(&'static str, keys::Found)>,
    memory: memory::Found,
}

/// Runs the benchmark and prints what it found. `allocated` says how many bytes the process has
/// allocated now.
pub fn run(options: &Options, allocated: fn() -> usize) -> anyhow::Result<()> {
    let scale = match (options.report.quick, options.full) {
        (true, _) => QUICK,
        (_, true) => FULL,
        _ => DEFAULT,
    };
    let overlay = Overlay::near(
        options.edges.unwrap_or(scale.edges),
        options.vns.unwrap_or(scale.vns),
        options.mappings.unwrap_or(scale.mappings),
        options.broad.unwrap_or(scale.broad),
    )?;
    let agreements = options.agreements.unwrap_or(scale.agreements);
    ensure!(agreements > 0 && overlay.broad > 0, "nothing of something");
    let machine = Machine::without_dpdk(std::thread::available_parallelism()?.get());
    // Before there are other threads, which might allocate too.
    let memory = memory::measure(scale.peers, allocated)?;
    let mut keys = vec![("state machines alone", keys::alone(agreements)?)];
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut found = runtime.block_on(async {
        let lab = Lab::new()?;
        let one = (agreements / 4).max(1);
        let by_one = keys::over_session(&lab, one, false).await?;
        keys.push(("over a session, one by one", by_one));
        let many = keys::over_session(&lab, agreements, true).await?;
        keys.push(("over a session, 64 at once", many));
        lab.close()?;
        measure(&scale, overlay, memory).await
    })?;
    found.keys = keys;
    let records = records::all(&found);
    let mut text = Vec::new();
    tables::write(&mut text, &found, &machine)?;
    let pictures = tables::pictures(&found);
    options
        .report
        .publish(NAME, &records, &machine, &text, &pictures)
}

async fn measure(scale: &Scale, overlay: Overlay, memory: memory::Found) -> anyhow::Result<Found> {
    let mut world = World::open(overlay).await?;
    let mut growth = Vec::new();
    let mut there = 0;
    for part in PARTS {
        let blocks = (overlay.blocks / part).max(1);
        if blocks > there {
            world.grow(there..blocks).await?;
            there = blocks;
            growth.push(watched(&mut world, blocks, (scale.changes / 20).max(1)).await?);
        }
    }
    let mut changes = Vec::new();
    let stations: Vec<Station> = overlay.stations(0..overlay.blocks).collect();
    let members = overlay.members;
    for (name, count, window) in [
        ("one by one", scale.changes / 10, 1),
        ("64 at once", scale.changes, WINDOW),
    ] {
        let (step, times) = world.change(&stations, (count, window, members)).await?;
        changes.push(Changes {
            name,
            members,
            step,
            times,
        });
    }
    drop(stations);
    let speakers = world.broaden().await?;
    let members = overlay.broad;
    for (name, window) in [("broad, one by one", 1), ("broad, 16 at once", 16)] {
        let count = (scale.changes / 20).max(1);
        let (step, times) = world.change(&speakers, (count, window, members)).await?;
        changes.push(Changes {
            name,
            members,
            step,
            times,
        });
    }
    let steps = world.steps().to_vec();
    let handshakes = std::mem::replace(&mut world.handshakes, Times::new()?);
    let refused = world.refused;
    let restart = world.restart().await?;
    Ok(Found {
        scale: scale.name,
        overlay,
        steps,
        handshakes,
        refused,
        growth,
        changes,
        restart,
        keys: Vec::new(),
        memory,
    })
}

/// What the first edge is sent: to start, and by `changes` changes elsewhere and in its networks.
async fn watched(world: &mut World, blocks: usize, changes: usize) -> anyhow::Result<Grown> {
    let overlay = world.overlay;
    let (messages, bytes) = world.restart_probe().await?;
    let start = Sent { messages, bytes };
    let others: Vec<Station> = overlay.stations(1..blocks).collect();
    let elsewhere = match others.is_empty() {
        true => None,
        false => Some(sent(world, &others, changes).await?),
    };
    // It hears of others' changes; its own are answered besides.
    let own: Vec<Station> = overlay
        .stations(0..1)
        .filter(|station| station.edge != 0)
        .collect();
    let own = sent(world, &own, changes).await?;
    let all = Overlay { blocks, ..overlay };
    Ok(Grown {
        edges: all.edges(),
        vns: all.vns(),
        mappings: all.mappings(),
        start,
        elsewhere,
        own,
        changes,
    })
}

async fn sent(world: &mut World, stations: &[Station], changes: usize) -> anyhow::Result<Sent> {
    let before = world.probe();
    let members = world.overlay.members;
    world.change(stations, (changes, 1, members)).await?;
    let after = world.probe();
    Ok(Sent {
        messages: after.0 - before.0,
        bytes: after.1 - before.1,
    })
}
