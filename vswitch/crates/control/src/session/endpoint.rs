//! One UDP socket on which sessions are dialled and accepted.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{Connection, ConnectionError, EndpointConfig, Incoming, TokioRuntime, TransportConfig};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::admission::{Admission, Verdict};
use super::error::{Closed, Code, DialError, negotiation};
use super::frame::OPENING;
use super::handle::{Session, Shared, Streams};
use super::limits::Limits;
use super::registry::Sessions;
use super::stats::{Counters, Stats};
use super::transport::{self, BadLimit};
use crate::identity::{Clock, Credentials, Denied, Expect, Refusal, Role, Verifier, tls};

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

struct Inner {
    quinn: quinn::Endpoint,
    setup: Setup,
    dialling: Arc<TransportConfig>,
    server: Option<quinn::ServerConfig>,
    sessions: Sessions,
    half_open: AtomicUsize,
}

impl core::fmt::Debug for Inner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inner")
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}

/// Counts one unfinished handshake while it lives.
struct HalfOpen(Arc<Inner>);

impl HalfOpen {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.half_open.fetch_add(1, Ordering::Relaxed);
        Self(inner.clone())
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.0.half_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why no session came of a handshake.
enum Failure {
    Refused(Refusal),
    Lost(ConnectionError),
    Timeout,
    /// The peer did not do what comes first.
    Opening,
    /// No place for it here.
    Local(Code),
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
            transport::server(tls, transport::transport(limits, 1)?, limits)
        };
        let quinn = quinn::Endpoint::new(
            EndpointConfig::default(),
            server.clone(),
            socket,
            Arc::new(TokioRuntime),
        )?;
        let sessions = Sessions::new(limits, setup.denied.clone(), setup.clock.clone());
        let (backlog, accepted) = mpsc::channel(limits.backlog.max(1));
        let dialling = transport::transport(limits, 0)?;
        let half_open = AtomicUsize::new(0);
        let inner = Arc::new(Inner {
            quinn,
            setup,
            dialling,
            server,
            sessions,
            half_open,
        });
        let accepting = tokio::spawn(accept(inner.clone(), backlog));
        let sweeping = tokio::spawn(sweep(inner.sessions.clone()));
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
        let verifier = credentials.verifier(expect, &inner.setup.denied);
        let impossible = |why: &dyn core::fmt::Display| DialError::Impossible(why.to_string());
        let tls = tls::client(&credentials, verifier.clone(), &inner.setup.clock)
            .map_err(|error| impossible(&error))?;
        let config = transport::client(tls, inner.dialling.clone())
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

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let half_open = self.inner.half_open.load(Ordering::Relaxed);
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

/// How `connection` was lost; that it is still there means that the peer ended the stream.
fn lost(connection: &Connection) -> Failure {
    connection
        .close_reason()
        .map_or(Failure::Opening, Failure::Lost)
}

async fn sweep(sessions: Sessions) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        sessions.sweep();
    }
}

async fn accept(inner: Arc<Inner>, backlog: mpsc::Sender<Session>) {
    let begun = Instant::now();
    let mut admission = Admission::new(&inner.setup.limits, Duration::ZERO);
    while let Some(incoming) = inner.quinn.accept().await {
        let counters = inner.counters();
        counters.initials.add();
        let half_open = inner.half_open.load(Ordering::Relaxed);
        let from = incoming.remote_address().ip();
        let proven = incoming.remote_address_validated();
        match admission.judge(from, proven, half_open, begun.elapsed()) {
            Verdict::Accept if inner.sessions.count() >= inner.setup.limits.sessions => {
                counters.refused_full.add();
                incoming.refuse();
            }
            Verdict::Accept => {
                counters.handshakes.add();
                let guard = HalfOpen::new(&inner);
                tokio::spawn(shake_hands(guard, incoming, backlog.clone()));
            }
            Verdict::Retry => {
                counters.retries.add();
                // It may: the address is not proven.
                if let Err(error) = incoming.retry() {
                    error.into_incoming().ignore();
                }
            }
            Verdict::Refuse => {
                counters.refused_source.add();
                incoming.refuse();
            }
            Verdict::Ignore => {
                counters.ignored.add();
                incoming.ignore();
            }
        }
    }
}

/// From somebody's first packet to a session. `guard` lives until it is taken, so that one who
/// takes none is not overrun.
async fn shake_hands(guard: HalfOpen, incoming: Incoming, backlog: mpsc::Sender<Session>) {
    let inner = &guard.0;
    let credentials = inner.setup.credentials.borrow().clone();
    let accept = Expect::Roles(inner.setup.accept.clone());
    let verifier = credentials.verifier(accept, &inner.setup.denied);
    let tls = tls::server(&credentials, verifier.clone(), &inner.setup.clock).ok();
    let Some((mut config, crypto)) = inner
        .server
        .clone()
        .zip(tls.and_then(transport::server_crypto))
    else {
        return incoming.refuse();
    };
    config.crypto = crypto;
    let opening = async {
        let connecting = incoming
            .accept_with(Arc::new(config))
            .map_err(Failure::Lost)?;
        let connection = connecting.await.map_err(Failure::Lost)?;
        let (send, mut receive) = connection.accept_bi().await.map_err(Failure::Lost)?;
        let mut first = [u8::MAX; OPENING.len()];
        receive
            .read_exact(&mut first)
            .await
            .map_err(|_| lost(&connection))?;
        if first != OPENING {
            connection.close(Code::Protocol.number(), b"no opening");
            return Err(Failure::Opening);
        }
        Ok((connection, (send, receive)))
    };
    let opened = inner.opened(opening, &verifier).await;
    let began = match opened {
        Ok((connection, mut streams)) => {
            let send = inner
                .begin_with(&connection, &verifier)
                .map_err(Failure::Local);
            match send {
                Ok(shared) => {
                    // If it is lost already, the session says so.
                    let _ = streams.0.write_all(&OPENING).await;
                    Ok(inner.start(shared, streams))
                }
                Err(failure) => Err(failure),
            }
        }
        Err(failure) => Err(failure),
    };
    match began {
        // Nobody takes sessions any more: dropped, which ends it.
        Ok(session) => drop(backlog.send(session).await),
        Err(failure) => inner.count(&failure),
    }
}

impl Inner {
    fn counters(&self) -> &Counters {
        &self.sessions.counters
    }

    /// Waits for a handshake as long as it may last, and puts the verifier's reason before the transport's.
    async fn opened(
        &self,
        opening: impl Future<Output = Result<(Connection, Streams), Failure>>,
        verifier: &Verifier,
    ) -> Result<(Connection, Streams), Failure> {
        let outcome = timeout(self.setup.limits.handshake_timeout, opening).await;
        let outcome = outcome.unwrap_or(Err(Failure::Timeout));
        match verifier.verdict() {
            Some(Err(refusal)) if outcome.is_err() => Err(Failure::Refused(refusal.clone())),
            _ => outcome,
        }
    }

    /// Gives an authenticated connection its place.
    fn begin_with(
        &self,
        connection: &Connection,
        verifier: &Verifier,
    ) -> Result<Arc<Shared>, Code> {
        // A handshake that is complete without a verdict would be a fault of the TLS library.
        let Some(Ok(certificate)) = verifier.verdict() else {
            connection.close(Code::Protocol.number(), b"no identity");
            return Err(Code::Protocol);
        };
        let shared = Shared::new(connection.clone(), certificate.clone());
        self.sessions.add(&shared).inspect_err(|code| {
            shared.close(*code, "not accepted");
        })?;
        Ok(shared)
    }

    fn start(&self, shared: Arc<Shared>, streams: Streams) -> Session {
        self.counters().established.add();
        let limits = &self.setup.limits;
        tracing::debug!(session = ?shared, "session begun");
        Session::start(
            shared,
            streams,
            self.sessions.clone(),
            (limits.queue, limits.stall),
        )
    }

    fn begin(
        &self,
        connection: Connection,
        streams: Streams,
        verifier: &Verifier,
    ) -> Result<Session, Code> {
        let shared = self.begin_with(&connection, verifier)?;
        Ok(self.start(shared, streams))
    }

    fn count(&self, failure: &Failure) {
        use crate::identity::CertificateError as E;
        let counters = self.counters();
        let counter = match failure {
            Failure::Refused(Refusal::Untrusted(_)) => &counters.failed_untrusted,
            Failure::Refused(
                Refusal::Certificate(E::OtherDomain { .. })
                | Refusal::Unexpected { .. }
                | Refusal::Ourselves,
            ) => &counters.failed_identity,
            Failure::Refused(Refusal::Certificate(_)) => &counters.failed_certificate,
            Failure::Refused(Refusal::Denied(_)) | Failure::Local(Code::Revoked) => {
                &counters.failed_revoked
            }
            Failure::Lost(error) if negotiation(error) => &counters.failed_negotiation,
            Failure::Timeout => &counters.failed_timeout,
            Failure::Local(Code::Full) => &counters.refused_full,
            Failure::Lost(_) | Failure::Opening | Failure::Local(_) => &counters.failed_other,
        };
        counter.add();
        if let Failure::Refused(refusal) = failure {
            tracing::warn!(%refusal, "no session");
        }
    }
}
