//! One UDP socket on which sessions are dialled and accepted.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{EndpointConfig, TokioRuntime};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::admission::Admission;
use super::error::{Closed, Code, DialError};
use super::frame::OPENING;
use super::handle::Session;
use super::handshake::{Failure, Inner, accept, lost};
use super::known::Known;
use super::limits::Limits;
use super::registry::Sessions;
use super::stats::Stats;
use super::transport::{self, BadLimit};
use crate::identity::{Clock, Credentials, Denied, Expect, Role, tls};

/// How often expiry and revocation are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// How long the last words of an endpoint may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What an endpoint is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Who we are: `Watcher::subscribe`, or `Credentials::fixed`.
    pub credentials: watch::Receiver<Arc<Credentials>>,
    /// Who may open sessions to us; nobody if it is empty.
    pub accept: Vec<Role>,
    /// Who gets none nevertheless.
    pub denied: Denied,
    /// The clock by which certificates are judged.
    pub clock: Clock,
    /// How much of everything.
    pub limits: Limits,
}

impl Setup {
    /// With nobody denied, the system's clock and the default limits.
    #[must_use]
    pub fn new(credentials: watch::Receiver<Arc<Credentials>>, accept: &[Role]) -> Self {
        Self {
            credentials,
            accept: accept.to_vec(),
            denied: Denied::new(),
            clock: Clock::system(),
            limits: Limits::default(),
        }
    }
}

/// Why an endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address.
    #[error("UDP {0} cannot be used: {1}")]
    Bind(SocketAddr, io::Error),
    /// The socket given.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// A limit.
    #[error(transparent)]
    Limit(#[from] BadLimit),
    /// TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Dials and accepts sessions on one UDP socket. Dropping it ends all of them.
#[derive(Debug)]
pub struct Endpoint {
    inner: Arc<Inner>,
    accepted: Mutex<mpsc::Receiver<Session>>,
    tasks: [JoinHandle<()>; 2],
}

impl Endpoint {
    /// Opens one at `address`. Needs a tokio runtime with I/O and timers.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub fn bind(address: SocketAddr, setup: Setup) -> Result<Self, OpenError> {
        let socket = transport::socket(address).map_err(|error| OpenError::Bind(address, error))?;
        Self::new(socket, setup)
    }

    /// Opens one on a socket that is bound.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn new(socket: UdpSocket, setup: Setup) -> Result<Self, OpenError> {
        let limits = &setup.limits;
        let server = if setup.accept.is_empty() {
            None
        } else {
            let credentials = setup.credentials.borrow().clone();
            let verifier = credentials.verifier(Expect::Roles(Vec::new()), &setup.denied);
            let tls = tls::server(&credentials, verifier, &setup.clock)?;
            transport::server(
                tls,
                transport::transport(limits, limits.accepted, 1)?,
                limits,
            )
        };
        let quinn = quinn::Endpoint::new(
            EndpointConfig::default(),
            server.clone(),
            socket,
            Arc::new(TokioRuntime),
        )?;
        let sessions = Sessions::new(limits, setup.denied.clone(), setup.clock.clone());
        let (backlog, accepted) = mpsc::channel(limits.backlog.max(1));
        let dialling = transport::transport(limits, limits.dialled, 0)?;
        let dialling_edges = transport::transport(limits, limits.dialled_edge, 0)?;
        let known = Known::new(limits.sources);
        let admission = Admission::new(limits, known.clone(), Duration::ZERO);
        let inner = Arc::new(Inner {
            quinn,
            setup,
            dialling,
            dialling_edges,
            server,
            sessions,
            admission: std::sync::Mutex::new(admission),
            known,
            told: std::sync::Mutex::default(),
        });
        let accepting = tokio::spawn(accept(inner.clone(), backlog));
        let credentials = inner.setup.credentials.clone();
        let sweeping = tokio::spawn(sweep(inner.sessions.clone(), credentials));
        let (accepted, tasks) = (Mutex::new(accepted), [accepting, sweeping]);
        Ok(Self {
            inner,
            accepted,
            tasks,
        })
    }

    /// The next session somebody opened; `None` when the endpoint is closed.
    pub async fn accept(&self) -> Option<Session> {
        self.accepted.lock().await.recv().await
    }

    /// Opens a session to `address`, where `expect` has to be. When it returns, both sides have
    /// accepted each other.
    ///
    /// # Errors
    /// When it does not come about within `Limits::handshake_timeout`, and why.
    pub async fn dial(&self, address: SocketAddr, expect: Expect) -> Result<Session, DialError> {
        let inner = &self.inner;
        inner.counters().dials.add();
        let credentials = inner.setup.credentials.borrow().clone();
        let transport = match expect.is_edge() {
            true => &inner.dialling_edges,
            false => &inner.dialling,
        };
        let verifier = credentials.verifier(expect, &inner.setup.denied);
        let impossible = |why: &dyn core::fmt::Display| DialError::Impossible(why.to_string());
        let tls = tls::client(&credentials, verifier.clone(), &inner.setup.clock)
            .map_err(|error| impossible(&error))?;
        let config = transport::client(tls, transport.clone())
            .ok_or_else(|| impossible(&"no cipher for first packets"))?;
        // An address as a name is not sent (RFC 6066, section 3).
        let name = address.ip().to_string();
        let connecting = inner
            .quinn
            .connect_with(config, address, &name)
            .map_err(|error| impossible(&error))?;
        let opening = async {
            let connection = connecting.await.map_err(Failure::Lost)?;
            let (mut send, mut receive) = connection.open_bi().await.map_err(Failure::Lost)?;
            let lost = || lost(&connection);
            send.write_all(&OPENING).await.map_err(|_| lost())?;
            let mut answer = [u8::MAX; OPENING.len()];
            receive.read_exact(&mut answer).await.map_err(|_| lost())?;
            if answer != OPENING {
                connection.close(Code::Protocol.number(), b"no opening");
                return Err(Failure::Opening);
            }
            Ok((connection, (send, receive)))
        };
        let opened = inner.opened(opening, &verifier).await;
        let session = opened.and_then(|(connection, streams)| {
            inner
                .begin(connection, streams, &verifier)
                .map_err(Failure::Local)
        });
        session.map_err(|failure| {
            inner.count(&failure);
            match failure {
                Failure::Refused(refusal) => refusal.into(),
                Failure::Lost(error) => DialError::Closed(error.into()),
                Failure::Timeout => DialError::Timeout,
                Failure::Opening => DialError::Closed(Closed::Transport(
                    "the peer speaks another protocol".to_owned(),
                )),
                Failure::Local(Code::Full) => DialError::Full,
                Failure::Local(code) => DialError::Impossible(format!("{code:?}")),
            }
        })
    }

    /// The sessions there are.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    /// The addresses from which handshakes are taken when strangers have all other places.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.inner.known
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let half_open = self.inner.admission().half_open();
        self.inner
            .counters()
            .snapshot(half_open, self.inner.sessions.count())
    }

    /// Where it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner.quinn.local_addr()
    }

    /// Ends all sessions and tells their peers, which takes at most two seconds.
    pub async fn close(&self, why: &str) {
        self.inner.sessions.close_all(why);
        self.inner
            .quinn
            .close(Code::Shutdown.number(), why.as_bytes());
        // Peers that do not answer notice by themselves.
        let _ = timeout(LAST_WORDS, self.inner.quinn.wait_idle()).await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.inner.sessions.close_all("endpoint closed");
        self.inner
            .quinn
            .close(Code::Shutdown.number(), b"endpoint closed");
    }
}

async fn sweep(sessions: Sessions, mut credentials: watch::Receiver<Arc<Credentials>>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        sessions.sweep();
        if credentials.has_changed().unwrap_or(false) {
            let now = credentials.borrow_and_update().clone();
            sessions.reconsider(&now);
        }
    }
}
