//! `vswitchctl`: shows an operator what a running `vswitchd` does, and changes it.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use tokio::runtime::Runtime;
use vswitch::manage::api::{self, Section};
use vswitch::manage::ctl::capture::Capture;
use vswitch::manage::ctl::change::{self, ChangeCommand};
use vswitch::manage::ctl::keys::Keys;
use vswitch::manage::ctl::pki::Pki;
use vswitch::manage::observe::ctl::TraceArgs;
use vswitch::manage::tools::Tool;
use vswitch::manage::{show, top};

/// Shows what a running vswitchd does, and changes it.
///
/// Exit status: 0 if all went well, 1 if the switch could not be asked or refused a change,
/// 2 for wrong usage.
#[derive(Debug, Parser)]
#[command(name = "vswitchctl", version, arg_required_else_help = true)]
struct Cli {
    /// The switch's API socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "VSWITCH_SOCKET",
        default_value = api::DEFAULT_SOCKET
    )]
    socket: PathBuf,

    /// Print JSON, with exact numbers, instead of tables.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a part of the switch's state.
    Show(Show),
    /// Rates, load, drops and latencies, live.
    Top(top::Options),
    Trace(Box<TraceArgs>),
    Capture(Capture),
    #[command(flatten)]
    Change(ChangeCommand),
    /// Give away keys for decryption, where the configuration allows it.
    Keys(Keys),
    /// A CA for the laboratory: certificates for edges, mapping authorities and operators.
    Pki(Pki),
    /// Ask the mapping authority: networks, members, placements, revocations (operators).
    Ima(vswitch_ima::cli::Options),
    #[command(flatten)]
    Tool(Tool),
}

#[derive(Debug, Args)]
struct Show {
    /// Print again and again, every 2 seconds or as many as given. With --json, one line
    /// each time.
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    watch: Option<u64>,

    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Everything.
    Status,
    /// The edge: versions, cipher backend, memory, uptime.
    Nve,
    /// Ports: underlay, tenants' and VLANs, with their MTU, traffic and warnings.
    Ports,
    /// Virtual networks, their ports here and their other edges.
    Vns,
    /// Where each virtual network's MAC addresses are.
    Fdb,
    /// Tunnels: one for each virtual network and peer.
    Tunnels,
    /// Security associations: SPIs, sequence numbers, replays, key usage. Never keys.
    Sas,
    /// Peers: their tunnels, SAs and traffic, added up.
    Peers,
    /// Worker threads and their books: packets in and packets out.
    Workers,
    /// Why packets were dropped.
    Drops {
        /// Also the reasons that have no packets. (JSON always has them.)
        #[arg(long)]
        all: bool,
    },
    /// How long packets take inside the switch, by direction: percentiles of a sample.
    Latency,
    /// The mapping authority: session, lease, networks, and how this edge's addresses stand.
    Ima,
    /// Where other edges' addresses are, as the authority says.
    Mappings,
    /// Agreed keys, by SPI. Never their bytes.
    Keys,
    /// Who has what memory: hugepages, DPDK's heaps, packet buffers, rings, tables.
    Memory,
}

impl What {
    /// Where it is asked for.
    fn route(&self) -> &'static str {
        match self {
            What::Mappings => api::MAPPINGS,
            What::Keys => api::KEYS,
            _ => self.section().route(),
        }
    }

    /// The section whose text is printed.
    fn section(&self) -> Section {
        match self {
            What::Status => Section::Status,
            What::Nve => Section::Nve,
            What::Ports => Section::Ports,
            What::Vns => Section::Vns,
            What::Fdb => Section::Fdb,
            What::Tunnels => Section::Tunnels,
            What::Sas => Section::Sas,
            What::Workers => Section::Workers,
            What::Drops { .. } => Section::Drops,
            What::Peers => Section::Peers,
            What::Latency => Section::Latency,
            What::Memory => Section::Memory,
            What::Ima | What::Mappings | What::Keys => Section::Ima,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Tool(tool) => tool.run(Cli::command(), cli.json).map_err(Into::into),
        Command::Ima(options) => {
            vswitch_ima::cli::run(options, cli.json).map(|()| ExitCode::SUCCESS)
        }
        Command::Show(show) => run(&cli, show).map(|()| ExitCode::SUCCESS),
        Command::Top(options) => top::run(&cli.socket, options, cli.json)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::Change(change) => {
            change::run(&cli.socket, cli.json, change).map(|()| ExitCode::SUCCESS)
        }
        Command::Capture(capture) => runtime()
            .and_then(|runtime| Ok(runtime.block_on(capture.run(&cli.socket))?))
            .map(|()| ExitCode::SUCCESS),
        Command::Keys(keys) => runtime()
            .and_then(|runtime| Ok(runtime.block_on(keys.run(&cli.socket))?))
            .map(|()| ExitCode::SUCCESS),
        Command::Pki(pki) => pki
            .run(cli.json, &mut io::stdout().lock())
            .map(|()| ExitCode::SUCCESS),
        Command::Trace(trace) => runtime()
            .and_then(|runtime| {
                runtime.block_on(trace.run(&cli.socket, cli.json, &mut io::stdout()))
            })
            .map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
        // `vswitchctl ... | head` has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error is gone as well.
            let _ = writeln!(io::stderr(), "vswitchctl: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
}

fn run(cli: &Cli, show: &Show) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let clear = show.watch.is_some() && io::stdout().is_terminal();
    let mut first = true;
    loop {
        let body = runtime.block_on(api::get_route(&cli.socket, show.what.route()))?;
        let mut text = render(cli, show, &body)?;
        if matches!(show.what, What::Peers) && !cli.json {
            let sessions = runtime.block_on(api::get_route(&cli.socket, api::SESSIONS))?;
            text.push_str(&show::sessions(&sessions)?);
        }
        let mut out = io::stdout().lock();
        if clear {
            out.write_all(b"\x1b[H\x1b[2J")?;
        } else if !first && !cli.json {
            out.write_all(b"\n")?;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        drop(out);
        match show.watch {
            Some(seconds) => std::thread::sleep(Duration::from_secs(seconds)),
            None => return Ok(()),
        }
        first = false;
    }
}

fn render(cli: &Cli, show: &Show, body: &[u8]) -> anyhow::Result<String> {
    const SKEW: &str = "vswitchd's answer is not understood: is it of the version of this \
                        vswitchctl (see `vswitchctl --version`)?";
    if !cli.json {
        let all = matches!(show.what, What::Drops { all: true });
        match show.what {
            What::Mappings => return show::mappings(body).context(SKEW),
            What::Keys => return show::keys(body).context(SKEW),
            _ => {}
        }
        return show::text(show.what.section(), body, all).context(SKEW);
    }
    // Not through our own types: what a newer switch says beyond them is passed on.
    let value: serde_json::Value = serde_json::from_slice(body).context(SKEW)?;
    let mut text = if show.watch.is_some() {
        value.to_string()
    } else {
        serde_json::to_string_pretty(&value)?
    };
    text.push('\n');
    Ok(text)
}
