//! `perf/run`: one subcommand per benchmark.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use peak_alloc::PeakAlloc;
use vswitch_perf::{aead, control, datapath, delay, e2e, latency, peers, scale, tables, timing};

/// Counts what is allocated, for `tables` and `control`. Of what is timed only `control` allocates,
/// and that is two atomic additions more.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Measures what the switch costs.
#[derive(Debug, Parser)]
#[command(bin_name = "perf/run", version)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// AES-GCM: our backends and others' libraries, sealing and opening, side by side.
    Aead(aead::Options),
    /// One worker's pipeline: ticks and nanoseconds per packet, by direction, size and stage.
    Datapath(datapath::Options),
    /// What following packets for their latency costs: on and off in turn.
    Latency(latency::Options),
    /// Forwarding tables of 10³ to 10⁶ entries: lookups and changes per second, and memory.
    Tables(tables::Options),
    /// This switch, protected, beside Open vSwitch with DPDK in the clear, on the same ports.
    Peers(peers::Options),
    /// Two workers beside one: how much more they do, and where it goes if it is not twice as much.
    Scale(scale::Options),
    /// How long packets take through a switch that is loaded by half, up to the slowest.
    Delay(delay::Options),
    /// The control plane: edges at one authority, changes, keys, and what they cost.
    Control(control::Options),
    /// The authority of `control`, in a process of its own.
    #[command(name = control::SUBCOMMAND, hide = true)]
    Authority(control::Serve),
    /// Whether AES-GCM's time depends on keys, data or where a tag is wrong, by statistics.
    Timing(timing::Options),
    /// Tenant to tenant through two switches: packets per second, loss, and what limits.
    E2e(e2e::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().bench {
        Bench::Aead(options) => aead::run(&options),
        Bench::Datapath(options) => datapath::run(&options),
        Bench::Latency(options) => latency::run(&options),
        Bench::Tables(options) => tables::run(&options, || ALLOCATOR.current_usage()),
        Bench::Peers(options) => peers::run(&options),
        Bench::Scale(options) => scale::run(&options),
        Bench::Delay(options) => delay::run(&options),
        Bench::Control(options) => control::run(&options, || ALLOCATOR.current_usage()),
        Bench::Authority(options) => control::serve(&options, || ALLOCATOR.current_usage()),
        Bench::Timing(options) => timing::run(&options),
        Bench::E2e(options) => e2e::run(&options),
    }
}
