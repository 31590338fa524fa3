//! The daemon of one edge.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::future;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use vswitch::manage::api::{Api, Desk, Proposal, Source, Wanted};
use vswitch::manage::authority::Authority;
use vswitch::manage::change::How;
use vswitch::manage::config::{Config, HostFacts};
use vswitch::manage::doctor::{Host, Level, Needs, start};
use vswitch::manage::edge::Edge;
use vswitch::manage::hardening::harden;
use vswitch::manage::metrics::Listener;
use vswitch::manage::security::{self, SecurityLog};
use vswitch::manage::tools::Pages;

/// A DPDK overlay switch whose tunnels are protected by ESP (Network Virtualization Edge).
#[derive(Parser)]
#[command(name = "vswitchd", version, args_conflicts_with_subcommands = true)]
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
    #[command(flatten)]
    Pages(Pages),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Pages(pages)) = &arguments.command {
        return match pages.run(Arguments::command()) {
            Ok(code) => code,
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("vswitchd: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let filter = EnvFilter::try_from_env("VSWITCH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let log = match arguments.log_format {
        LogFormat::Text => log.with_target(false).boxed(),
        LogFormat::Json => log.json().boxed(),
    };
    // Security events have lines of their own, which no filter of the other log takes away.
    let ordinary = filter_fn(|metadata| metadata.target() != security::TARGET);
    let security_log = SecurityLog::default();
    tracing_subscriber::registry()
        .with(log.with_filter(filter).with_filter(ordinary))
        .with(security::layer(security_log.clone()))
        .init();
    // Before the first key is read.
    match harden() {
        Ok(memory) if arguments.command.is_none() => {
            tracing::info!(memory = memory.name(), "keys are kept apart");
        }
        Ok(_) => {}
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
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
    if let Err(error) = security_log.direct_to(config.security_log.as_deref()) {
        tracing::error!("{error}");
        return ExitCode::FAILURE;
    }
    match run(config, &security_log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config, security_log: &SecurityLog) -> anyhow::Result<()> {
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
    let _prefix = ready(&config)?;
    let socket = config.api_socket.clone();
    let name = config.name.clone();
    let metrics_listen = config.metrics_listen;
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
    let mut edge = Edge::start(config.clone()).context("the edge did not start")?;
    let overlay = edge.take_overlay();
    let authority = overlay.map(|overlay| Authority::start(&config, overlay));
    let mut authority = authority.transpose()?;
    let orphaned = authority.as_mut().map(Authority::ended);
    let handle = edge.handle();
    let mut failed = edge.failed();
    let failure = edge.failed();
    let served = runtime.block_on(async {
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = failed.wait_for(|failed| *failed) => {}
                () = async { match orphaned { Some(orphaned) => orphaned.await, None => future::pending().await } } => {}
            }
        };
        let desk = Desk::new(edge.handle(), &file);
        let questions = authority.as_ref().map(Authority::questions);
        let api = Api::bind(&socket).await?;
        let api = api.with_desk(desk.clone()).with_questions(questions);
        let metrics = serve_metrics(metrics_listen, handle.clone()).await?;
        tracing::info!(nve = name, "ready");
        notify("READY=1");
        let reload = async move {
            while hangup.recv().await.is_some() {
                notify("RELOADING=1");
                // Whoever rotates logs says so by the same signal.
                if let Err(error) = security_log.reopen() {
                    tracing::error!("{error}");
                }
                reload(&desk).await;
                notify("READY=1");
            }
            std::future::pending().await
        };
        tokio::select! {
            served = api.serve(handle, stop) => served?,
            never = metrics => match never {},
            () = reload => {}
        }
        anyhow::Ok(())
    });
    notify("STOPPING=1");
    tracing::info!("stopping");
    let orphan = authority.as_ref().is_some_and(Authority::has_ended);
    // While there is somebody to carry out what it says last.
    drop(authority);
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
    if last.is_none() || orphan || *failure.borrow() {
        anyhow::bail!("a thread of the switch ended by itself; please report what it logged");
    }
    Ok(())
}

/// Listens for whoever fetches metrics, if the configuration asks for it, and serves them
/// while the answer is awaited. The switch goes on without.
async fn serve_metrics(
    address: Option<SocketAddr>,
    source: impl Source,
) -> anyhow::Result<impl Future<Output = Infallible>> {
    let listener = match address {
        Some(address) => Some(Listener::bind(address).await?),
        None => None,
    };
    Ok(async move {
        if let Some(listener) = listener
            && let Err(error) = listener.serve(source, future::pending()).await
        {
            tracing::error!(%error, "metrics are there over the API's socket only");
        }
        future::pending().await
    })
}

/// Refuses a host on which DPDK would fail with less to say, and warns of one on which the
/// switch would be slow. The lock on EAL's file prefix is held while the file is open.
fn ready(config: &Config) -> anyhow::Result<Option<std::fs::File>> {
    let findings = start::check(&Host::here(), &Needs::of(config));
    let mut failed = 0;
    for finding in &findings {
        match finding.level {
            Level::Fail => {
                failed += 1;
                tracing::error!(check = finding.check, "{}", finding.line());
            }
            _ => tracing::warn!(check = finding.check, "{}", finding.line()),
        }
    }
    if failed > 0 {
        anyhow::bail!(
            "this host is not ready for {file}: see above, or ask `vswitchctl doctor --config {file}`",
            file = config.file().display()
        );
    }
    start::claim_prefix(&config.eal.file_prefix).map_err(|finding| anyhow::anyhow!(finding.line()))
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
