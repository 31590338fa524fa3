//! `vswitchctl keys export`: the keys that Wireshark needs, where the edge gives them away.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::CtlError;
use super::sink::Sink;
use crate::manage::api::{self, KeyFormat};
use crate::manage::keys::KeySelection;

/// Keys of security associations.
#[derive(Debug, Args)]
pub struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write the keys from which Wireshark decrypts the underlay's packets.
    ///
    /// Only if the edge's configuration says `allow-key-export: true`, and only to root and
    /// the daemon's user. The keys count as compromised from then on: `show sas` says so, and
    /// the log, until they are replaced.
    Export(Export),
}

#[derive(Debug, Args)]
struct Export {
    /// How to write them.
    #[arg(long, value_enum, default_value_t)]
    format: KeyFormat,

    /// Only keys of this virtual network.
    #[arg(long, value_name = "NAME")]
    vn: Option<String>,

    /// Only keys shared with this peer.
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,

    /// The file to make, with mode 0600; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,
}

impl Keys {
    /// Does it. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// When the switch refuses or the file cannot be made.
    pub async fn run(&self, socket: &Path) -> Result<(), CtlError> {
        let What::Export(export) = &self.what;
        let which = KeySelection {
            vn: export.vn.clone(),
            peer: export.peer.clone(),
        };
        write(socket, export.format, &which, &export.write).await
    }
}

/// Fetches keys into `path`.
pub(super) async fn write(
    socket: &Path,
    format: KeyFormat,
    which: &KeySelection,
    path: &Path,
) -> Result<(), CtlError> {
    leave_no_core().map_err(CtlError::Dumpable)?;
    // Before the keys: once they are on their way they count as given away.
    let mut sink = Sink::create(path)?;
    let written = async {
        let keys = api::export_keys(socket, format, which).await?;
        keys.pieces().try_for_each(|piece| sink.write(piece))
    }
    .await;
    if written.is_err() {
        sink.discard();
    }
    written
}

/// No core dump and no debugger of the same user gets at what this process holds.
fn leave_no_core() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}
