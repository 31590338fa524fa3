//! `perf/run`: one subcommand per benchmark.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use vswitch_perf::{datapath, latency};

/// Measures what the switch costs.
#[derive(Debug, Parser)]
#[command(bin_name = "perf/run", version)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// One worker's pipeline: ticks and nanoseconds per packet, by direction, size and stage.
    Datapath(datapath::Options),
    /// What following packets for their latency costs: on and off in turn.
    Latency(latency::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().bench {
        Bench::Datapath(options) => datapath::run(&options),
        Bench::Latency(options) => latency::run(&options),
    }
}
