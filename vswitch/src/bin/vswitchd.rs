//! The daemon of one edge.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use vswitch::manage::api::{Api, Desk, Proposal, StatusRequest, Unavailable, Wanted};
use vswitch::manage::change::How;
use vswitch::manage::config::{Config, HostFacts};
use vswitch::manage::edge::{Edge, NoAnswer};

/// A DPDK overlay switch whose tunnels are protected by ESP (Network Virtualization Edge).
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Configuration file of this edge.
    #[arg(short, long, default_value = "/etc/vswitch/nve.yaml", global = true)]
    config: PathBuf,
    /// How logs are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Validates the configuration without starting anything.
    Check,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("VSWITCH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
    let check = matches!(arguments.command, Some(Command::Check));
    // Findings name the file as it was given; a daemon may not stay in this directory.
    let file = match std::path::absolute(&arguments.config) {
        Ok(file) if !check => file,
        _ => arguments.config,
    };
    let config = match Config::load(&file) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if check {
        print!("{}", config.check_report_on(&HostFacts::discover()));
        return ExitCode::SUCCESS;
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let missing = config.check_host(&HostFacts::discover());
    if !missing.is_empty() {
        for problem in &missing {
            tracing::error!("{problem}");
        }
        anyhow::bail!(
            "this host does not have what {} asks for",
            config.file().display()
        );
    }
    let socket = config.api_socket.clone();
    let name = config.name.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the API's runtime")?;
    // From here on a signal waits for the start to end, so that what it did is undone.
    let (mut terminate, mut interrupt, mut hangup) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        )
    };
    let file = config.file().to_owned();
    let edge = Edge::start(config).context("the edge did not start")?;
    let handle = edge.handle();
    let mut failed = edge.failed();
    let failure = edge.failed();
    let served = runtime.block_on(async {
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = failed.wait_for(|failed| *failed) => {}
            }
        };
        let source = move |request: StatusRequest| {
            handle
                .status(move |status| request.answer(status))
                .map_err(|error| match error {
                    NoAnswer::Gone => Unavailable::Gone,
                    NoAnswer::Busy => Unavailable::Busy,
                })
        };
        let desk = Desk::new(edge.handle(), &file);
        let api = Api::bind(&socket).await?.with_desk(desk.clone());
        tracing::info!(nve = name, "ready");
        notify("READY=1");
        let reload = async move {
            while hangup.recv().await.is_some() {
                notify("RELOADING=1");
                reload(&desk).await;
                notify("READY=1");
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = api.serve(source, stop) => ended?,
            () = reload => {}
        }
        anyhow::Ok(())
    });
    notify("STOPPING=1");
    tracing::info!("stopping");
    let last = edge.stop();
    for worker in last.iter().flat_map(|last| &last.workers) {
        tracing::info!(
            worker = worker.id,
            received = worker.received,
            sent = worker.sent,
            dropped = worker.dropped,
            balanced = worker.balanced,
            "worker ended"
        );
    }
    served?;
    if last.is_none() || *failure.borrow() {
        anyhow::bail!("a thread of the switch ended by itself; please report what it logged");
    }
    Ok(())
}

/// SIGHUP: the file again, whole or not at all.
async fn reload(desk: &Desk) {
    let proposal = Proposal {
        wanted: Wanted::Startup,
        revision: None,
        diff: None,
        dry_run: false,
    };
    match desk.apply(proposal, How::Signal, None).await {
        Ok(applied) if applied.diff.is_empty() => {
            tracing::info!("SIGHUP: the file means what runs already");
        }
        Ok(applied) => tracing::info!(revision = applied.revision, "SIGHUP: the file was applied"),
        Err(error) => tracing::error!("SIGHUP: nothing was changed: {error}"),
    }
}

/// Tells the service manager, if there is one (sd_notify(3)).
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let Ok(socket) = UnixDatagram::unbound() else {
        return;
    };
    let sent = match path.to_str().and_then(|p| p.strip_prefix('@')) {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            std::os::unix::net::SocketAddr::from_abstract_name(name)
                .and_then(|address| socket.send_to_addr(state.as_bytes(), &address))
        }
        None => socket.send_to(state.as_bytes(), PathBuf::from(path)),
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager was not told");
    }
}
