//! Real certificates, and the sockets on which simulated edges dial. Many edges share a socket, each with
//! its own certificate and session; sockets have addresses of their own, as hosts have.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tempfile::TempDir;
use tokio::sync::{Mutex, watch};
use vswitch_control::identity::{Clock, Credentials, Expect, Identity, Role};
use vswitch_control::pki::Ca;
use vswitch_control::session::{Endpoint, Limits, Session, Setup};

use super::authority::PATIENT;

/// Trust domain.
pub const DOMAIN: &str = "perf.test";
/// Name of the authority.
const AUTHORITY: &str = "one";
/// Sockets. So many that a source's rate of handshakes is not what is measured.
pub const SOCKETS: usize = 64;
/// Validity of certificates: longer than any run.
const VALIDITY: Duration = Duration::from_secs(7 * 86400);

/// A CA, in memory where there is such a file system: what it writes is synchronized, file by file.
pub struct Lab {
    ca: Ca,
    directory: TempDir,
}

impl Lab {
    /// A CA without certificates.
    pub fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let place = directory.path().join("ca");
        let ca = Ca::init(&place, &DOMAIN.parse()?, VALIDITY, SystemTime::now())?;
        Ok(Lab { ca, directory })
    }

    /// Issues a certificate and reads it as its owner would.
    pub fn credentials(&self, role: Role, name: &str) -> anyhow::Result<Credentials> {
        let files = self.ca.issue(role, name, VALIDITY, SystemTime::now())?;
        Ok(Credentials::load(&files, role, Clock::system().now())?)
    }

    /// Where the authority's certificate is.
    pub fn authority(&self) -> anyhow::Result<PathBuf> {
        let now = SystemTime::now();
        let files = self.ca.issue(Role::Ima, AUTHORITY, VALIDITY, now)?;
        let place = files.chain.parent().context("no directory")?;
        Ok(place.to_owned())
    }

    /// Who the authority is.
    pub fn authority_identity(&self) -> anyhow::Result<Identity> {
        Ok(Identity::new(self.ca.domain(), Role::Ima, AUTHORITY)?)
    }

    /// Removes all certificates.
    pub fn close(self) -> anyhow::Result<()> {
        Ok(self.directory.close()?)
    }
}

struct Socket {
    endpoint: Endpoint,
    /// As whom it dials next.
    credentials: watch::Sender<Arc<Credentials>>,
}

/// The sockets.
pub struct Sockets(Vec<Mutex<Socket>>);

impl Sockets {
    /// Opens them.
    pub fn open(lab: &Lab) -> anyhow::Result<Self> {
        let nobody = Arc::new(lab.credentials(Role::Nve, "nobody")?);
        let open = |n: usize| {
            let (credentials, known) = watch::channel(nobody.clone());
            let mut setup = Setup::new(known, &[]);
            // All of its sessions are with the authority.
            setup.limits = Limits {
                sessions: usize::MAX,
                sessions_per_identity: usize::MAX,
                dialled: PATIENT,
                ..Limits::default()
            };
            let host = Ipv4Addr::new(127, 0, 1, u8::try_from(n + 1)?);
            let endpoint = Endpoint::bind(SocketAddr::from((host, 0)), setup)?;
            Ok(Mutex::new(Socket {
                endpoint,
                credentials,
            }))
        };
        Ok(Sockets(
            (0..SOCKETS).map(open).collect::<anyhow::Result<_>>()?,
        ))
    }

    /// Dials as somebody, on the socket of this number (of all numbers).
    pub async fn dial(
        &self,
        number: usize,
        who: Arc<Credentials>,
        address: SocketAddr,
        expect: Identity,
    ) -> anyhow::Result<Session> {
        let socket = self.0.get(number % SOCKETS).context("no socket")?;
        let socket = socket.lock().await;
        socket.credentials.send_replace(who);
        let dialled = socket.endpoint.dial(address, Expect::Identity(expect));
        Ok(dialled.await?)
    }
}
