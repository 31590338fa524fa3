//! Subcommands that need no running switch: the doctor, shell completion and manual pages,
//! the latter two generated from the same definitions that parse the command line.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Command, Subcommand};
use clap_complete::Shell;

use super::doctor::{self, Level};

/// What both programs have of this.
#[derive(Debug, Subcommand)]
pub enum Pages {
    /// Print the completion script of a shell.
    ///
    /// For bash: `vswitchctl completion bash > /etc/bash_completion.d/vswitchctl`.
    Completion {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write manual pages, one for the program and one for each of its subcommands.
    ///
    /// `vswitchctl man --dir /usr/local/share/man/man1`, then `man vswitchctl-show`.
    Man {
        /// Where; made if it is not there.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

/// What an operator's program has of it.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Check this host: has it what the switch and its configuration need?
    ///
    /// Run it as the switch runs (as root), before its first start or when something is slow.
    /// Each finding has the command that mends it. Nothing is changed, and no running switch
    /// is asked. Exit status: 0 if the switch can start, also with warnings; 1 if something
    /// must be mended; 2 for wrong usage.
    Doctor {
        /// The configuration whose ports, cores and sockets are to be checked; without it
        /// /etc/vswitch/nve.yaml, if there is one.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    #[command(flatten)]
    #[allow(missing_docs)]
    Pages(Pages),
}

impl Tool {
    /// Does it; `program` is the definition of the whole command line.
    pub fn run(&self, program: Command, json: bool) -> io::Result<ExitCode> {
        match self {
            Tool::Doctor { config } => diagnose(config.as_deref(), json),
            Tool::Pages(pages) => pages.run(program),
        }
    }
}

impl Pages {
    /// Does it; `program` is the definition of the whole command line.
    pub fn run(&self, mut program: Command) -> io::Result<ExitCode> {
        match self {
            Pages::Completion { shell } => {
                let name = program.get_name().to_owned();
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut program, name, &mut script);
                io::stdout().lock().write_all(&script)?;
            }
            Pages::Man { dir } => {
                fs::create_dir_all(dir)?;
                clap_mangen::generate_to(program, dir)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn diagnose(config: Option<&std::path::Path>, json: bool) -> io::Result<ExitCode> {
    let report = doctor::report(config);
    let text = if json {
        let mut text = serde_json::to_string_pretty(&report)?;
        text.push('\n');
        text
    } else {
        report.text()
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(match report.verdict {
        Level::Ok | Level::Warn => ExitCode::SUCCESS,
        Level::Fail => ExitCode::from(1),
    })
}
