//! Handshakes: who may begin one, what came of it, and the place a session gets.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{Connection, ConnectionError, Incoming, TransportConfig};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::admission::{Admission, Unfinished, Verdict};
use super::endpoint::Setup;
use super::error::{Code, negotiation};
use super::frame::OPENING;
use super::handle::{Session, Shared, Streams};
use super::known::Known;
use super::registry::Sessions;
use super::stats::Counters;
use super::transport;
use crate::identity::{Expect, Refusal, Verifier, tls};

/// Refusals of others are logged at most so often; all are counted.
const QUIET: Duration = Duration::from_secs(1);

/// What an endpoint and its tasks share.
pub(super) struct Inner {
    pub(super) quinn: quinn::Endpoint,
    pub(super) setup: Setup,
    pub(super) dialling: Arc<TransportConfig>,
    pub(super) dialling_edges: Arc<TransportConfig>,
    pub(super) server: Option<quinn::ServerConfig>,
    pub(super) sessions: Sessions,
    pub(super) admission: Mutex<Admission>,
    pub(super) known: Known,
    /// When a refusal was last logged.
    pub(super) told: Mutex<Option<Instant>>,
}

impl core::fmt::Debug for Inner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inner")
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}

/// Counts one unfinished handshake while it lives.
pub(super) struct HalfOpen(Arc<Inner>, Unfinished);

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.0.admission().end(&self.1);
    }
}

/// Why no session came of a handshake.
pub(super) enum Failure {
    Refused(Refusal),
    Lost(ConnectionError),
    Timeout,
    /// The peer did not do what comes first.
    Opening,
    /// No place for it here.
    Local(Code),
}

/// How `connection` was lost; that it is still there means that the peer ended the stream.
pub(super) fn lost(connection: &Connection) -> Failure {
    connection
        .close_reason()
        .map_or(Failure::Opening, Failure::Lost)
}

/// Judges everybody who comes, until the endpoint is closed.
pub(super) async fn accept(inner: Arc<Inner>, backlog: mpsc::Sender<Session>) {
    let begun = Instant::now();
    while let Some(incoming) = inner.quinn.accept().await {
        let counters = inner.counters();
        counters.initials.add();
        let from = incoming.remote_address().ip();
        let proven = incoming.remote_address_validated();
        let verdict = inner.admission().judge(from, proven, begun.elapsed());
        match verdict {
            Verdict::Accept if inner.sessions.count() >= inner.setup.limits.sessions => {
                counters.refused_full.add();
                incoming.refuse();
            }
            Verdict::Accept => {
                counters.handshakes.add();
                let unfinished = inner.admission().begin(from, proven);
                let guard = HalfOpen(inner.clone(), unfinished);
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
            Verdict::Wait => {
                counters.ignored_source.add();
                incoming.ignore();
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
    let from = incoming.remote_address().ip();
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
        Err(failure) => {
            inner.count(&failure);
            if let Failure::Refused(refusal) = failure {
                inner.tell(from, &refusal);
            }
        }
    }
}

impl Inner {
    pub(super) fn counters(&self) -> &Counters {
        &self.sessions.counters
    }

    pub(super) fn admission(&self) -> MutexGuard<'_, Admission> {
        // Numbers, whole after every change.
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a handshake as long as it may last, and puts the verifier's reason before the transport's.
    pub(super) async fn opened(
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
        // The bundle may have changed since the handshake began; whoever looks through all sessions when it
        // does has looked already, or finds this one.
        let credentials = self.setup.credentials.borrow().clone();
        let now = self.setup.clock.now();
        let trusted = || {
            let chain = shared.chain();
            chain.is_some_and(|chain| credentials.trusts(&chain, now))
        };
        if !credentials.is_of(verifier) && !trusted() {
            self.sessions.remove(&shared);
            shared.close(Code::Untrusted, "not accepted");
            return Err(Code::Untrusted);
        }
        Ok(shared)
    }

    fn start(&self, shared: Arc<Shared>, streams: Streams) -> Session {
        self.counters().established.add();
        self.known
            .saw(&shared.certificate.identity, shared.remote.ip());
        let limits = &self.setup.limits;
        tracing::debug!(session = ?shared, "session begun");
        Session::start(
            shared,
            streams,
            self.sessions.clone(),
            (limits.queue, limits.stall),
        )
    }

    pub(super) fn begin(
        &self,
        connection: Connection,
        streams: Streams,
        verifier: &Verifier,
    ) -> Result<Session, Code> {
        let shared = self.begin_with(&connection, verifier)?;
        Ok(self.start(shared, streams))
    }

    /// Says whom we refused and why, so often that it is seen and no oftener.
    fn tell(&self, from: IpAddr, refusal: &Refusal) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= QUIET) {
            *told = Some(Instant::now());
            tracing::warn!(%from, %refusal, "no session");
        }
    }

    pub(super) fn count(&self, failure: &Failure) {
        use crate::identity::CertificateError as E;
        let counters = self.counters();
        let counter = match failure {
            Failure::Refused(Refusal::Untrusted(_)) | Failure::Local(Code::Untrusted) => {
                &counters.failed_untrusted
            }
            Failure::Refused(
                Refusal::Certificate(E::OtherDomain { .. })
                | Refusal::Unexpected { .. }
                | Refusal::Ourselves,
            ) => &counters.failed_identity,
            Failure::Refused(Refusal::Certificate(_)) => &counters.failed_certificate,
            Failure::Refused(Refusal::Denied(_) | Refusal::Revoked(_))
            | Failure::Local(Code::Revoked) => &counters.failed_revoked,
            Failure::Lost(error) if negotiation(error) => &counters.failed_negotiation,
            Failure::Timeout => &counters.failed_timeout,
            Failure::Local(Code::Full) => &counters.refused_full,
            Failure::Lost(_) | Failure::Opening | Failure::Local(_) => &counters.failed_other,
        };
        counter.add();
    }
}
