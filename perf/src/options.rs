//! Options that benchmarks have in common, and what becomes of their figures.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::machine::Machine;
use crate::report::{Record, write_json};
use crate::save::{Picture, save};

/// What every benchmark can be told.
#[derive(Debug, Clone, Args)]
pub struct Report {
    /// JSON lines instead of tables.
    #[arg(long)]
    pub json: bool,
    /// As little as possible of each case: shows that everything works, not how fast it is.
    #[arg(long)]
    pub quick: bool,
    /// Keep the figures in this directory too: JSON lines, the tables, and plots.
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
}

/// Which cases.
#[derive(Debug, Clone, Default, Args)]
pub struct Only {
    /// Only cases whose name, as in the tables, contains this; with `=` before it, whose name
    /// begins with it.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

impl Only {
    /// Whether a case is wanted.
    pub fn wants(&self, case: &str) -> bool {
        match self.only.as_deref() {
            None => true,
            Some(text) => match text.strip_prefix('=') {
                Some(begin) => case.starts_with(begin),
                None => case.contains(text),
            },
        }
    }
}

impl Report {
    /// Prints what was found, `text` or JSON, and keeps it where it is to be kept.
    pub fn publish(
        &self,
        bench: &str,
        records: &[Record],
        machine: &Machine,
        text: &[u8],
        pictures: &[Picture],
    ) -> anyhow::Result<()> {
        if let Some(dir) = &self.save {
            save(dir, bench, records, machine, text, pictures)?;
        }
        let mut out = io::stdout().lock();
        match self.json {
            true => write_json(&mut out, records, machine)?,
            false => out.write_all(text)?,
        }
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_chosen_by_a_part_or_the_beginning_of_their_name() {
        let wants = |only: Option<&str>, case: &str| {
            let only = only.map(str::to_owned);
            Only { only }.wants(case)
        };
        assert!(wants(None, "anything"));
        assert!(wants(Some("to-underlay"), "vhost-tenant-to-underlay"));
        assert!(wants(Some("=tenant"), "tenant-to-underlay"));
        assert!(!wants(Some("=tenant"), "vhost-tenant-to-underlay"));
        assert!(!wants(Some("in"), "out"));
    }
}
