//! The server of the mapping authority.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use vswitch_control::identity::{Clock, Credentials, Role, Watcher};
use vswitch_control::session::Setup;
use vswitch_ima::config::{AddressConfig, Config, DEFAULT_FILE, StoreConfig};
use vswitch_ima::server::Server;
use vswitch_ima::store::etcd::Etcd;
use vswitch_ima::store::redb::Redb;

/// The Information Mapping Authority: who may join which virtual network, and who is where.
#[derive(Parser)]
#[command(name = "vswitch-ima", version, arg_required_else_help = true)]
struct Arguments {
    /// Configuration file of this server.
    #[arg(short, long, default_value = DEFAULT_FILE, global = true)]
    config: PathBuf,
    /// How logs are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
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
    /// Runs the server until it is told to stop (SIGTERM or SIGINT).
    Run,
    /// Validates configuration and credentials without starting anything.
    Check,
    /// Asks a server, as `vswitchctl ima` does.
    Ctl(vswitch_ima::cli::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Ctl(options) = &arguments.command {
        let json = matches!(arguments.log_format, LogFormat::Json);
        return match vswitch_ima::cli::run(options, json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("vswitch-ima: {error:#}");
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
    tracing_subscriber::registry()
        .with(log.with_filter(filter))
        .init();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let done = match arguments.command {
        Command::Check => check(&config),
        _ => run(&config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(config: &Config) -> anyhow::Result<()> {
    let clock = Clock::system();
    let credentials = Credentials::load(&config.credentials.files(), Role::Ima, clock.now())?;
    println!("identity  {}", credentials.identity());
    println!("listen    {}", config.listen);
    match &config.store {
        StoreConfig::Redb(path) => println!("store     redb {}", path.display()),
        StoreConfig::Etcd(etcd) => println!("store     etcd {}", etcd.endpoints.join(" ")),
    }
    println!("lease     {} s", config.lease);
    match config.addresses {
        AddressConfig::Declared => println!("addresses declared"),
        AddressConfig::FirstClaim => println!("addresses first-claim"),
    }
    for warning in config.warnings() {
        println!("warning: {warning}");
    }
    Ok(())
}

fn run(config: &Config) -> anyhow::Result<()> {
    vswitch_ima::hardening::harden()
        .map_err(|(what, error)| anyhow::anyhow!("the kernel refuses {what}: {error}"))?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // From here on a signal waits for the start to end.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let watcher = Watcher::start(config.credentials.files(), Role::Ima, Clock::system())?;
        let mut setup = Setup::new(watcher.subscribe(), &[]);
        setup.limits = config.session_limits();
        let (listen, limits) = (config.listen, config.limits());
        let identity = watcher.current().identity().clone();
        let server = match &config.store {
            StoreConfig::Redb(path) => {
                Server::start(listen, setup, Redb::open(path)?, limits).await
            }
            StoreConfig::Etcd(etcd) => {
                Server::start(listen, setup, Etcd::open(etcd).await?, limits).await
            }
        };
        let server = server.context("the server does not start")?;
        tracing::info!(%identity, address = %server.address(), "ready");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        server.stop().await?;
        Ok(())
    })
}
