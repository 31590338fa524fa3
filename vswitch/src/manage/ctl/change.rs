//! What `vswitchctl` does about changes: shows a difference, asks, and has it carried out. What
//! was shown is sent along, so that nothing else is done.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use crate::manage::api::{self, Difference, Proposal, Wanted};
use crate::manage::change::{Applied, Revision};
use crate::manage::show;

/// Changes of the running switch.
#[derive(Debug, Subcommand)]
pub enum ChangeCommand {
    /// Show what applying a file would change.
    Diff {
        /// The configuration; the file that vswitchd starts with if absent.
        file: Option<PathBuf>,
    },
    /// Apply a file to the running switch, whole or not at all. It does not become the file
    /// that vswitchd starts with.
    Apply {
        /// The configuration.
        file: PathBuf,
        /// Whether to ask.
        #[command(flatten)]
        consent: Consent,
    },
    /// Go back to what ran before.
    Rollback {
        /// The revision; the one before the running one if absent.
        revision: Option<u64>,
        /// Whether to ask.
        #[command(flatten)]
        consent: Consent,
    },
    /// List what ran, and who asked for it.
    Revisions,
    /// Apply the file that vswitchd starts with, as it is now; SIGHUP does the same.
    Reload,
}

/// Whether to ask.
#[derive(Debug, Clone, Copy, Args)]
pub struct Consent {
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Only say whether it could be done. Keys and sockets are not tried.
    #[arg(long)]
    dry_run: bool,
}

/// Carries a command out on the switch at `socket` and prints what comes of it.
pub fn run(socket: &Path, json: bool, command: &ChangeCommand) -> anyhow::Result<()> {
    let desk = Desk {
        socket,
        json,
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start")?,
    };
    match command {
        ChangeCommand::Diff { file } => {
            let wanted = match file {
                Some(file) => text_of(file)?,
                None => Wanted::Startup,
            };
            let difference = desk.diff(wanted)?;
            desk.print(&difference, show::difference)
        }
        ChangeCommand::Apply { file, consent } => desk.change(text_of(file)?, *consent),
        ChangeCommand::Rollback { revision, consent } => {
            let number = *revision;
            desk.change(Wanted::Revision { number }, *consent)
        }
        ChangeCommand::Revisions => {
            let body = desk
                .runtime
                .block_on(api::get_route(socket, api::REVISIONS))?;
            let revisions: Vec<Revision> = parse(&body)?;
            desk.print(&revisions, |revisions| show::revisions(revisions))
        }
        ChangeCommand::Reload => {
            let consent = Consent {
                yes: true,
                dry_run: false,
            };
            desk.change(Wanted::Startup, consent)
        }
    }
}

struct Desk<'a> {
    socket: &'a Path,
    json: bool,
    runtime: tokio::runtime::Runtime,
}

impl Desk<'_> {
    fn diff(&self, wanted: Wanted) -> anyhow::Result<Difference> {
        self.post(api::DIFF, wanted, None, false)
    }

    fn post<T: DeserializeOwned>(
        &self,
        route: &'static str,
        wanted: Wanted,
        shown: Option<&Difference>,
        dry_run: bool,
    ) -> anyhow::Result<T> {
        let proposal = Proposal {
            wanted,
            revision: shown.map(|shown| shown.revision),
            diff: shown.map(|shown| shown.diff.clone()),
            dry_run,
        };
        let body = self
            .runtime
            .block_on(api::post(self.socket, route, &proposal))?;
        parse(&body)
    }

    /// Shows, asks, and has it done.
    fn change(&self, wanted: Wanted, consent: Consent) -> anyhow::Result<()> {
        let difference = self.diff(wanted.clone())?;
        if !self.json {
            write(&show::difference(&difference))?;
        }
        if !difference.diff.is_empty() && !consent.yes && !consent.dry_run {
            ask()?;
        }
        // A revision that is not named is the one that was shown.
        let wanted = match (wanted, difference.of) {
            (Wanted::Revision { .. }, number @ Some(_)) => Wanted::Revision { number },
            (wanted, _) => wanted,
        };
        let applied: Applied = self.post(api::APPLY, wanted, Some(&difference), consent.dry_run)?;
        self.print(&applied, show::applied)
    }

    fn print<T: serde::Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self.json {
            true => write(&(serde_json::to_string_pretty(value)? + "\n")),
            false => write(&text(value)),
        }
    }
}

fn text_of(file: &Path) -> anyhow::Result<Wanted> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
    let file = fs::canonicalize(file).with_context(|| format!("{name} cannot be found"))?;
    Ok(Wanted::Text { text, file })
}

fn ask() -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("nothing was changed: there is nobody to ask; say --yes");
    }
    write("Apply this? [y/N] ")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was changed"),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context(
        "vswitchd's answer is not understood: is it of the version of this vswitchctl (see \
         `vswitchctl --version`)?",
    )
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
