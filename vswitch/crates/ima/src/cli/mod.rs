//! The operator's commands, for `vswitchctl ima` and `vswitch-ima ctl`.

mod declare;
mod show;
mod table;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use vswitch_control::identity::Files;
use vswitch_control::message::operator::{Change, Places, Text};
use vswitch_control::message::overlay::{
    Admission, Ips, LeaseEnd, Placement, Prefixes, Protection, TunnelAddresses, VnSettings, Vni,
};
use vswitch_control::message::prefix::Prefix;
use vswitch_control::types::{Mac, NveName, PortName, VnName};

use crate::client::Client;
pub use declare::{Declaration, DeclareError, plan};

/// Declare networks, members and placements at the mapping authority; revoke edges; look.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// A server of the authority, ADDRESS:PORT; several may be given, the first that answers is asked.
    #[arg(long, global = true, env = "VSWITCH_IMA", value_delimiter = ',')]
    server: Vec<SocketAddr>,
    /// Directory with the operator's certificate, key and CA (svid.pem, svid_key.pem, bundle.pem).
    #[arg(
        long,
        global = true,
        env = "VSWITCH_OPERATOR",
        value_name = "DIRECTORY",
        default_value = "/etc/vswitch/operator"
    )]
    credentials: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Virtual networks.
    #[command(subcommand)]
    Vn(VnCommand),
    /// Which edges may join a network.
    #[command(subcommand)]
    Member(MemberCommand),
    /// Which addresses belong on which edge.
    #[command(subcommand)]
    Placement(PlacementCommand),
    /// Where edges may be.
    #[command(subcommand)]
    Edge(EdgeCommand),
    /// Take all rights from an edge, or from an operator, at once.
    Revoke {
        /// The edge, or with --operator the operator: the last part of its identity.
        nve: NveName,
        /// An operator, not an edge.
        #[arg(long)]
        operator: bool,
        /// Why; kept with the revocation.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Give a revoked edge or operator its rights back.
    Unrevoke {
        /// Which.
        nve: NveName,
        /// An operator, not an edge.
        #[arg(long)]
        operator: bool,
    },
    /// End the lease of an edge that is gone for good: its addresses become free at once.
    Release {
        /// The edge.
        nve: NveName,
    },
    /// Show what the authority knows.
    #[command(subcommand)]
    Show(show::What),
    /// Make it so as a file says: only what differs is changed.
    Apply {
        /// The file (YAML).
        file: PathBuf,
        /// Only print what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Also remove networks, declared edges and revocations that the file does not name.
        #[arg(long)]
        prune: bool,
    },
}

#[derive(Debug, Clone, Args)]
struct Settings {
    /// Identifier in tunnel packets, 0 to 16777215.
    #[arg(long, value_parser = vni)]
    vni: Vni,
    /// confidential, integrity or none.
    #[arg(long, default_value = "confidential")]
    protection: Protection,
    /// What happens when an edge's lease has run out: stop or keep.
    #[arg(long, default_value = "stop")]
    lease_end: LeaseEnd,
    /// Who may register addresses: strict (as placed) or first-claim.
    #[arg(long, default_value = "strict")]
    admission: Admission,
}

impl From<Settings> for VnSettings {
    fn from(own: Settings) -> Self {
        let Settings {
            vni,
            protection,
            lease_end,
            admission,
        } = own;
        Self {
            vni,
            protection,
            lease_end,
            admission,
        }
    }
}

#[derive(Debug, Clone, Subcommand)]
enum VnCommand {
    /// A new network.
    Add {
        /// Its name.
        vn: VnName,
        #[command(flatten)]
        settings: Settings,
    },
    /// Other settings; all are replaced. The VNI stays.
    Set {
        /// Which network.
        vn: VnName,
        #[command(flatten)]
        settings: Settings,
    },
    /// Remove a network and all that is in it.
    Remove {
        /// Which network.
        vn: VnName,
    },
    /// Show one network: settings, members, placements, mappings.
    Show {
        /// Which network.
        vn: VnName,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum EdgeCommand {
    /// An edge may have these addresses and no others, and nobody else may have them.
    Set {
        /// Which edge.
        nve: NveName,
        /// A tunnel address; may be given several times.
        #[arg(long, required = true)]
        tunnel: Vec<IpAddr>,
        /// Where its control address may be, as a prefix, beside its tunnel addresses; may be given
        /// several times. Without it: where its session comes from.
        #[arg(long)]
        control: Vec<Prefix>,
    },
    /// Nothing is declared of an edge any more.
    Unset {
        /// Which edge.
        nve: NveName,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum MemberCommand {
    /// An edge may join a network.
    Add {
        /// Which network.
        vn: VnName,
        /// Which edge.
        nve: NveName,
    },
    /// It no longer may: it is out at once.
    Remove {
        /// Which network.
        vn: VnName,
        /// Which edge.
        nve: NveName,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum PlacementCommand {
    /// An address belongs on an edge's port. Replaces what was placed for it.
    Add {
        /// In which network.
        vn: VnName,
        /// The MAC address.
        #[arg(value_parser = mac)]
        mac: Mac,
        /// The edge.
        nve: NveName,
        /// Its port.
        port: PortName,
        /// An IP address; may be given several times.
        #[arg(long)]
        ip: Vec<std::net::IpAddr>,
    },
    /// It no longer does.
    Remove {
        /// In which network.
        vn: VnName,
        /// The MAC address.
        #[arg(value_parser = mac)]
        mac: Mac,
    },
    /// The machine has moved to another edge.
    Move {
        /// In which network.
        vn: VnName,
        /// The MAC address.
        #[arg(value_parser = mac)]
        mac: Mac,
        /// The edge where it is now.
        nve: NveName,
        /// Its port there, if it has another name.
        #[arg(long)]
        port: Option<PortName>,
    },
}

/// Reads a VNI.
fn vni(text: &str) -> Result<Vni, String> {
    let number: u32 = text.parse().map_err(|error| format!("{error}"))?;
    Vni::try_from(number).map_err(|error| error.to_string())
}

/// Reads a MAC address: six pairs of hexadecimal digits and colons.
pub(crate) fn mac(text: &str) -> Result<Mac, String> {
    let wrong = || format!("{text:?} is no MAC address: 52:54:00:00:00:01");
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts
            .next()
            .filter(|part| part.len() == 2)
            .ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    match parts.next() {
        None => Ok(Mac(mac)),
        Some(_) => Err(wrong()),
    }
}

/// Does what was asked for, and prints what came of it; `json` instead of tables.
///
/// # Errors
/// Whatever kept it from being done.
pub fn run(options: &Options, json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        anyhow::ensure!(
            !options.server.is_empty(),
            "name a server: --server ADDRESS:PORT, or VSWITCH_IMA"
        );
        let files = Files::in_directory(&options.credentials);
        let mut client = Client::connect(&files, &options.server).await?;
        let done = command(&mut client, options.command.clone(), json).await;
        client.close().await;
        done
    })
}

async fn command(client: &mut Client, command: Command, json: bool) -> anyhow::Result<()> {
    let change = match command {
        Command::Show(what) => return show::show(client, what, json).await,
        Command::Vn(VnCommand::Show { vn }) => return show::network(client, &vn, json).await,
        Command::Apply {
            file,
            dry_run,
            prune,
        } => {
            return apply(client, &file, dry_run, prune).await;
        }
        Command::Vn(VnCommand::Add { vn, settings }) => Change::VnAdd {
            vn,
            settings: settings.into(),
        },
        Command::Vn(VnCommand::Set { vn, settings }) => Change::VnSet {
            vn,
            settings: settings.into(),
        },
        Command::Vn(VnCommand::Remove { vn }) => Change::VnRemove { vn },
        Command::Member(MemberCommand::Add { vn, nve }) => Change::MemberAdd { vn, nve },
        Command::Member(MemberCommand::Remove { vn, nve }) => Change::MemberRemove { vn, nve },
        Command::Placement(PlacementCommand::Add {
            vn,
            mac,
            nve,
            port,
            ip,
        }) => {
            let ips = Ips::try_from(ip).context("IP addresses")?;
            Change::PlacementAdd {
                vn,
                placement: Placement {
                    mac,
                    ips,
                    nve,
                    port,
                },
            }
        }
        Command::Placement(PlacementCommand::Remove { vn, mac }) => {
            Change::PlacementRemove { vn, mac }
        }
        Command::Placement(PlacementCommand::Move { vn, mac, nve, port }) => {
            Change::PlacementMove { vn, mac, nve, port }
        }
        Command::Edge(EdgeCommand::Set {
            nve,
            tunnel,
            control,
        }) => {
            let places = Places {
                tunnel_addresses: TunnelAddresses::try_from(tunnel).context("tunnel addresses")?,
                control: Prefixes::try_from(control).context("prefixes")?,
            };
            Change::EdgeSet { nve, places }
        }
        Command::Edge(EdgeCommand::Unset { nve }) => Change::EdgeUnset { nve },
        Command::Revoke {
            nve,
            operator,
            reason,
        } => {
            let reason = Text::try_from(reason).context("the reason")?;
            match operator {
                true => Change::OperatorRevoke {
                    name: nve.as_str().parse()?,
                    reason,
                },
                false => Change::Revoke { nve, reason },
            }
        }
        Command::Unrevoke {
            nve,
            operator: true,
        } => Change::OperatorUnrevoke {
            name: nve.as_str().parse()?,
        },
        Command::Unrevoke { nve, .. } => Change::Unrevoke { nve },
        Command::Release { nve } => Change::Release { nve },
    };
    let changed = client.change(change.clone()).await?;
    let line = if changed {
        show::sentence(&change)
    } else {
        "it is so already".to_owned()
    };
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

async fn apply(
    client: &mut Client,
    file: &std::path::Path,
    dry_run: bool,
    prune: bool,
) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let wanted = Declaration::parse(&text).with_context(|| file.display().to_string())?;
    let present = Declaration::of(client, &wanted, prune).await?;
    let steps = plan(&present, &wanted, prune);
    if steps.is_empty() {
        writeln!(io::stdout(), "nothing to do")?;
    }
    for step in steps {
        writeln!(io::stdout(), "{}", show::sentence(&step))?;
        if !dry_run {
            client
                .change(step.clone())
                .await
                .with_context(|| show::sentence(&step))?;
        }
    }
    Ok(())
}
