//! The configuration file: read, checked as a whole, and only then a [`Config`].
//!
//! `raw` is the file as written, `check` turns it into the `model` and collects everything
//! that is wrong, `locate` gives that its lines. `docs/configuration.md` is for operators.

mod accounts;
mod check;
mod defaults;
mod findings;
mod host;
mod keyfile;
mod locate;
mod model;
mod names;
mod problem;
mod raw;
mod report;
mod scalars;
mod shape;
mod types;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};

pub use accounts::Accounts;
pub use host::HostFacts;
pub use model::{
    AllowedIps, Attachment, Authority, Device, Eal, ManualKey, Mapping, Mempool, Model, Neighbour,
    Peer, Port, Route, SecurityAssociation, Source, TenantAddress, Underlay, UnderlayPort, Vhost,
    Vlan, Vn, Workers,
};
pub use problem::{ConfigError, Position, Problem};
pub use types::{
    Aead, Algorithm, DeviceId, Direction, Encapsulation, Idle, IpPrefix, LeaseEnd, Limits, MacAddr,
    Memory, NotAPrefix, PeerId, Protection, Spi, UnknownUnicast, VhostMode, VnId, Vni,
};

use findings::Findings;

/// Larger than any file a person or a generator has reason to write.
const MAX_FILE: u64 = 16 << 20;

/// A configuration without errors. There is no other way to make one than to check a file, and
/// none to change it but to add what an authority says: what the daemon is handed holds together.
///
/// Two are equal if they mean the same, whatever their text, comments and warnings.
#[derive(Clone, Debug)]
pub struct Config {
    model: Model,
    file: PathBuf,
    text: String,
    warnings: Vec<Problem>,
}

impl Config {
    /// Reads and checks `file`; its key files are found from its directory.
    pub fn load(file: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let file = file.as_ref();
        let bytes = read(file).map_err(|source| ConfigError::Unreadable {
            file: file.to_owned(),
            source,
        })?;
        let text = String::from_utf8(bytes).map_err(|error| ConfigError::Invalid {
            file: file.to_owned(),
            problems: vec![not_utf8(error.as_bytes(), error.utf8_error().valid_up_to())],
        })?;
        let base = file.parent().unwrap_or(Path::new(""));
        Self::build(text, file.to_owned(), base, &Accounts::system())
    }

    /// Checks `text`; relative key files are found from `base_dir`, users and groups are this
    /// host's.
    pub fn parse(text: &str, base_dir: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::parse_with(text, base_dir, &Accounts::system())
    }

    /// As [`Config::parse`], with the given users and groups.
    pub fn parse_with(
        text: &str,
        base_dir: impl AsRef<Path>,
        accounts: &Accounts,
    ) -> Result<Self, ConfigError> {
        let name = PathBuf::from("configuration");
        Self::build(text.to_owned(), name, base_dir.as_ref(), accounts)
    }

    /// Checks `text` as if it were that of `file`: key files are found from its directory,
    /// and findings name it.
    pub fn parse_as(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let base = file.parent().unwrap_or(Path::new(""));
        Self::build(text.to_owned(), file.to_owned(), base, &Accounts::system())
    }

    fn build(
        text: String,
        file: PathBuf,
        base: &Path,
        accounts: &Accounts,
    ) -> Result<Self, ConfigError> {
        let raw = match shape::read(&text) {
            Ok(raw) => raw,
            Err(problem) => {
                let problems = vec![problem];
                return Err(ConfigError::Invalid { file, problems });
            }
        };
        let mut findings = Findings::default();
        let model = check::check(&raw, base, accounts, &mut findings);
        if !findings.errors.is_empty() {
            let problems = Findings::locate(findings.errors, &text);
            return Err(ConfigError::Invalid { file, problems });
        }
        let warnings = Findings::locate(findings.warnings, &text);
        Ok(Self {
            model,
            file,
            text,
            warnings,
        })
    }

    /// The same with what an authority says of its networks; `change` keeps what is checked.
    pub(in crate::manage) fn adapted(&self, change: impl FnOnce(&mut Model)) -> Self {
        let mut adapted = self.clone();
        change(&mut adapted.model);
        adapted
    }

    /// The same without a copy.
    pub(in crate::manage) fn adjust(&mut self, change: impl FnOnce(&mut Model)) {
        change(&mut self.model);
    }

    /// The file it came from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its text. Keys are in files of their own, so there is none in it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is allowed but probably not meant, in the order of the text.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// What this host does not have and the configuration asks for: a reason not to start,
    /// and a warning where the file is checked on another machine.
    pub fn check_host(&self, host: &HostFacts) -> Vec<Problem> {
        let mut findings = Findings::default();
        host::check(&self.model, host, &mut findings);
        Findings::locate(findings.errors, &self.text)
    }

    /// What `vswitchd check` prints: the verdict, warnings, and what follows from the file.
    pub fn check_report(&self) -> String {
        report::render(self, &[])
    }

    /// As [`Config::check_report`], with what `host` does not have among the warnings.
    pub fn check_report_on(&self, host: &HostFacts) -> String {
        report::render(self, &self.check_host(host))
    }
}

impl Deref for Config {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.model == other.model
    }
}

impl Eq for Config {}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        let limit = format!("it is larger than {} MiB", MAX_FILE >> 20);
        return Err(io::Error::other(limit));
    }
    Ok(bytes)
}

fn not_utf8(bytes: &[u8], valid: usize) -> Problem {
    let good = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
    let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let byte = bytes.get(valid).copied().unwrap_or_default();
    Problem {
        position: Some(Position {
            line: good.matches('\n').count() + 1,
            column,
        }),
        key: String::new(),
        message: format!("byte {byte:#04x} is not UTF-8: save the file as UTF-8"),
    }
}
