//! Where etcd is, and clients for its members.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions};
use tokio::time::timeout;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::store::StoreError;

/// How long one endpoint may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Files for TLS with etcd.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdTls {
    /// The CA of etcd's certificates, in PEM.
    pub ca: PathBuf,
    /// This server's certificate for etcd, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

/// Where etcd is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdConfig {
    /// Its members, as URLs: `https://…`, or `http://…` without protection.
    pub endpoints: Vec<String>,
    /// Before all keys.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Needed for `https`.
    pub tls: Option<EtcdTls>,
}

fn default_prefix() -> String {
    "/vswitch/".to_owned()
}

pub(super) fn failed(error: impl fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// The answer, if it comes in time.
pub(super) async fn patient<T>(
    work: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, StoreError> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(failed),
        Err(_) => Err(failed("no answer from etcd in time")),
    }
}

fn endpoint(url: &str, tls: Option<&ClientTlsConfig>) -> Result<Endpoint, StoreError> {
    let bad = |error: tonic::transport::Error| failed(format!("{url}: {error}"));
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(bad)?;
    // A member that is gone without a word is noticed while nothing is asked, too.
    let endpoint = endpoint
        .connect_timeout(PATIENCE)
        .http2_keep_alive_interval(PATIENCE)
        .keep_alive_timeout(PATIENCE)
        .keep_alive_while_idle(true);
    match tls {
        Some(tls) => endpoint.tls_config(tls.clone()).map_err(bad),
        None => Ok(endpoint),
    }
}

/// A client for each member; they connect when they are first used.
pub(super) async fn clients(config: &EtcdConfig) -> Result<Vec<Client>, StoreError> {
    let read = |file: &PathBuf| {
        std::fs::read(file).map_err(|error| failed(format!("{}: {error}", file.display())))
    };
    let tls = match &config.tls {
        Some(tls) => Some(
            ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(read(&tls.ca)?))
                .identity(Identity::from_pem(read(&tls.certificate)?, read(&tls.key)?)),
        ),
        None => None,
    };
    let mut clients = Vec::new();
    for url in &config.endpoints {
        if url.starts_with("https:") != tls.is_some() {
            return Err(failed(format!(
                "{url}: https needs the files of etcd.tls, http none"
            )));
        }
        let channel = endpoint(url, tls.as_ref())?.connect_lazy();
        let options = ConnectOptions::new().with_require_leader(true);
        let client = Client::from_channel(Channel::Tonic(channel), Some(options)).await;
        clients.push(client.map_err(failed)?);
    }
    if clients.is_empty() {
        return Err(failed("no endpoints of etcd are configured"));
    }
    Ok(clients)
}
