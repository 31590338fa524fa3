//! The server's configuration file. docs/ima.md describes it to operators.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use vswitch_control::identity::Files;
use vswitch_control::message::ima::EdgeLimits;
use vswitch_control::session;

use crate::engine::{Limits, Rates};
use crate::store::etcd::EtcdConfig;

/// Larger than any file there is reason to write.
const MAX_FILE: u64 = 1 << 20;

/// Where the file is unless told otherwise.
pub const DEFAULT_FILE: &str = "/etc/vswitch/ima.yaml";

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}: {error}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It is none.
    #[error("{}: {error}", file.display())]
    Yaml {
        /// Which.
        file: PathBuf,
        /// Where, and what.
        error: serde_yaml::Error,
    },
    /// A value that makes no sense.
    #[error("{}: {why}", file.display())]
    Value {
        /// Which.
        file: PathBuf,
        /// What.
        why: String,
    },
}

/// The file as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where sessions are taken (UDP).
    pub listen: SocketAddr,
    /// Who this server is.
    pub credentials: CredentialFiles,
    /// Where records are kept.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub store: StoreConfig,
    /// Length of membership leases, in seconds.
    #[serde(default = "default_lease")]
    pub lease: u32,
    /// What edges may do, and how much is kept for them.
    #[serde(default)]
    pub limits: LimitConfig,
    /// Whether edges may have tunnel addresses that are not declared for them.
    #[serde(default)]
    pub addresses: AddressConfig,
}

/// Which tunnel addresses edges may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressConfig {
    /// Those declared; edges of which nothing is declared those that nobody else has had before.
    #[default]
    FirstClaim,
    /// Those declared and no others.
    Declared,
}

fn default_lease() -> u32 {
    3600
}

/// Certificate, key and CAs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum CredentialFiles {
    /// A directory that has all three under their usual names.
    Directory(PathBuf),
    /// One by one.
    Files {
        /// Certificate, and those between it and the CA, in PEM.
        certificate: PathBuf,
        /// Its key, in PEM.
        key: PathBuf,
        /// The CAs that are trusted, in PEM.
        bundle: PathBuf,
    },
}

impl CredentialFiles {
    /// The three files.
    #[must_use]
    pub fn files(&self) -> Files {
        match self {
            Self::Directory(directory) => Files::in_directory(directory),
            Self::Files {
                certificate,
                key,
                bundle,
            } => Files {
                chain: certificate.clone(),
                key: key.clone(),
                bundle: bundle.clone(),
            },
        }
    }
}

/// Where records are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum StoreConfig {
    /// In a file of this server alone.
    #[serde(rename = "redb")]
    Redb(PathBuf),
    /// In etcd, with any number of servers.
    #[serde(rename = "etcd")]
    Etcd(EtcdConfig),
}

/// What edges may do, and how much is kept for them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LimitConfig {
    /// Messages of one edge, a second, in the long run.
    pub messages_per_second: u32,
    /// Messages of one edge at once.
    pub burst: u32,
    /// VNs that one edge may be in.
    pub vns: u32,
    /// Addresses that one edge may register in one VN.
    pub registrations: u32,
    /// Members and mappings that ended, remembered for each VN.
    pub log: usize,
    /// Seconds that an edge may remember that nobody has an address.
    pub negative_ttl: u32,
    /// Sessions at once.
    pub sessions: usize,
    /// Handshakes a second from one source address.
    pub handshakes_per_source: u32,
    /// Handshakes from one source address that are not finished.
    pub half_open_per_source: u32,
    /// Registrations of one edge that change something, a second.
    pub registrations_per_second: u32,
    /// Joins of one edge that change something or after which it is told a whole network, a second.
    pub joins_per_second: u32,
    /// Questions of one edge, a second.
    pub queries_per_second: u32,
}

/// The strangers of a network (IPv4 /24, IPv6 /48) may do so many times what one source may.
const NETWORK: u32 = 4;

impl Default for LimitConfig {
    fn default() -> Self {
        let limits = Limits::default();
        let sessions = session::Limits::default();
        Self {
            messages_per_second: limits.edge.messages_per_second,
            burst: limits.edge.burst,
            vns: limits.edge.vns,
            registrations: limits.edge.registrations,
            log: limits.log,
            negative_ttl: 5,
            sessions: sessions.sessions,
            handshakes_per_source: 50,
            half_open_per_source: u32::try_from(sessions.half_open_per_source).unwrap_or(u32::MAX),
            registrations_per_second: limits.rates.registrations,
            joins_per_second: limits.rates.joins,
            queries_per_second: limits.rates.queries,
        }
    }
}

impl LimitConfig {
    /// What the endpoint allows.
    #[must_use]
    pub fn session_limits(&self) -> session::Limits {
        let per_second = f64::from(self.handshakes_per_source);
        let half_open = self.half_open_per_source as usize;
        session::Limits {
            sessions: self.sessions,
            half_open_per_source: half_open,
            half_open_per_network: half_open.saturating_mul(NETWORK as usize),
            per_source: session::Rate {
                per_second,
                burst: 4.0 * per_second,
            },
            per_network: session::Rate {
                per_second: f64::from(NETWORK) * per_second,
                burst: 4.0 * f64::from(NETWORK) * per_second,
            },
            accepted: session::Liveness::LONG,
            ..session::Limits::default()
        }
    }
}

impl Config {
    /// Reads and checks `file`. Paths in it are found from its directory.
    ///
    /// # Errors
    /// It cannot be read, or is wrong; with its name and the line.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let failed = |error| ConfigError::Read {
            file: file.to_owned(),
            error,
        };
        let mut text = String::new();
        File::open(file)
            .and_then(|open| open.take(MAX_FILE).read_to_string(&mut text))
            .map_err(failed)?;
        let mut config: Self = serde_yaml::from_str(&text).map_err(|error| ConfigError::Yaml {
            file: file.to_owned(),
            error,
        })?;
        config.check().map_err(|why| ConfigError::Value {
            file: file.to_owned(),
            why,
        })?;
        let directory = file.parent().unwrap_or(Path::new(""));
        for path in config.paths() {
            *path = directory.join(&*path);
        }
        Ok(config)
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = match &mut self.credentials {
            CredentialFiles::Directory(directory) => vec![directory],
            CredentialFiles::Files {
                certificate,
                key,
                bundle,
            } => vec![certificate, key, bundle],
        };
        match &mut self.store {
            StoreConfig::Redb(path) => paths.push(path),
            StoreConfig::Etcd(etcd) => {
                if let Some(tls) = &mut etcd.tls {
                    paths.extend([&mut tls.ca, &mut tls.certificate, &mut tls.key]);
                }
            }
        }
        paths
    }

    fn check(&self) -> Result<(), String> {
        let least = [
            ("lease", u64::from(self.lease), 10),
            (
                "limits.messages-per-second",
                u64::from(self.limits.messages_per_second),
                1,
            ),
            ("limits.burst", u64::from(self.limits.burst), 1),
            ("limits.vns", u64::from(self.limits.vns), 1),
            (
                "limits.registrations",
                u64::from(self.limits.registrations),
                1,
            ),
            ("limits.sessions", self.limits.sessions as u64, 1),
            (
                "limits.registrations-per-second",
                u64::from(self.limits.registrations_per_second),
                1,
            ),
            (
                "limits.joins-per-second",
                u64::from(self.limits.joins_per_second),
                1,
            ),
            (
                "limits.queries-per-second",
                u64::from(self.limits.queries_per_second),
                1,
            ),
            (
                "limits.handshakes-per-source",
                u64::from(self.limits.handshakes_per_source),
                1,
            ),
            (
                "limits.half-open-per-source",
                u64::from(self.limits.half_open_per_source),
                1,
            ),
        ];
        for (name, value, least) in least {
            if value < least {
                return Err(format!("{name} is {value}; at least {least}"));
            }
        }
        if let StoreConfig::Etcd(etcd) = &self.store {
            if etcd.endpoints.is_empty() {
                return Err("store.etcd.endpoints is empty".to_owned());
            }
            for url in &etcd.endpoints {
                let protected = url.starts_with("https://");
                if !protected && !url.starts_with("http://") {
                    return Err(format!(
                        "store.etcd.endpoints: {url} is neither https nor http"
                    ));
                }
                if protected != etcd.tls.is_some() {
                    return Err(format!(
                        "{url}: https needs store.etcd.tls, and http has none"
                    ));
                }
            }
        }
        Ok(())
    }

    /// What edges are granted.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            lease: Duration::from_secs(self.lease.into()),
            edge: EdgeLimits {
                messages_per_second: self.limits.messages_per_second,
                burst: self.limits.burst,
                vns: self.limits.vns,
                registrations: self.limits.registrations,
            },
            log: self.limits.log,
            negative: Duration::from_secs(self.limits.negative_ttl.into()),
            rates: Rates {
                registrations: self.limits.registrations_per_second,
                joins: self.limits.joins_per_second,
                queries: self.limits.queries_per_second,
            },
            declared_only: self.addresses == AddressConfig::Declared,
        }
    }

    /// What the endpoint allows.
    #[must_use]
    pub fn session_limits(&self) -> session::Limits {
        self.limits.session_limits()
    }

    /// What is allowed and dangerous.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        match &self.store {
            StoreConfig::Etcd(etcd) if etcd.tls.is_none() => {
                vec![
                    "etcd is reached without protection: whoever is between can be the authority"
                        .to_owned(),
                ]
            }
            _ => Vec::new(),
        }
    }
}
