//! Sessions, and what is between them and the engine. One task (`authority`) owns engine and store; each
//! session has a task of its own (`edge`, `operator`) that seals, opens, limits and waits.

mod authority;
mod claims;
mod commit;
mod edge;
mod line;
mod operator;
mod pace;
mod report;
#[cfg(test)]
mod sim;
mod waiting;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use vswitch_control::identity::{Identity, Role};
use vswitch_control::message::operator::{Denied, Request, Response, Text};
use vswitch_control::session::{self, Endpoint, OpenError, Setup};
use vswitch_control::types::NveName;
use vswitch_control::uptime::Uptime;

use crate::engine::{EdgeRequest, Limits, Push, Reply, SessionId};
use crate::store::{Store, StoreError};
use authority::Authority;
use pace::Paces;

/// Requests of one session that may wait for the store at once.
const IN_FLIGHT: usize = 64;

/// Pushes that wait in one session; there is room for the replies beside them.
const PUSHES: usize = 16;

/// Requests of all sessions that wait for the authority.
const WAITING: usize = 4096;

/// Why a server does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The endpoint.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store, at the start.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The socket.
    #[error("no local address: {0}")]
    Address(#[from] std::io::Error),
    /// A task ended that should not.
    #[error("the authority's task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A message of a session to the authority.
enum Input {
    /// An edge's session begins.
    Open {
        id: SessionId,
        nve: NveName,
        source: IpAddr,
        line: Arc<LineTo>,
    },
    /// It is over.
    Close { id: SessionId },
    /// Its edge asks; answered by exactly one `Out::Reply`.
    Edge { id: SessionId, request: EdgeRequest },
    /// An operator asks.
    Operator {
        who: Text,
        request: Request,
        answer: oneshot::Sender<Result<Response, Denied>>,
    },
}

/// The authority's way to an edge's session.
struct LineTo {
    outs: mpsc::Sender<Out>,
    /// More would have been sent: the session says when there is room again.
    full: AtomicBool,
}

/// A message of the authority to an edge's session.
#[derive(Debug)]
enum Out {
    /// To the request that has waited longest.
    Reply(Option<Reply>),
    /// Without being asked.
    Push(Push),
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// What the server counts.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        impl Counters {
            fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$(($label, self.$name.0.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }
}

counters! {
    /// Messages of edges.
    requests = "edge-messages",
    /// Messages that waited because their edge sent more than it may.
    slowed = "edge-messages-slowed",
    /// Sessions closed because of what was sent in them.
    protocol = "sessions-closed-protocol",
    /// Registrations taken.
    registered = "registrations",
    /// Registrations not taken.
    rejected = "registrations-rejected",
    /// Joins refused.
    refused = "joins-refused",
    /// Registrations refused because their edge made too many.
    busy_registrations = "registrations-busy",
    /// Joins refused because their edge made too many.
    busy_joins = "joins-busy",
    /// Edges turned away because they came too often with something new to say.
    busy_hellos = "hellos-busy",
    /// Questions not answered because their edge asked too many.
    busy_queries = "queries-busy",
    /// Addresses of VNs taken by whoever came first.
    first_claims = "first-claims",
    /// Tunnel addresses taken by whoever came first.
    first_addresses = "first-claims-tunnel",
    /// Edges turned away because of the addresses they claimed.
    claims_refused = "claims-refused",
    /// Messages pushed.
    pushed = "pushes",
    /// Of those, parts of a whole VN.
    whole = "pushes-whole-vn",
    /// Changes by operators.
    changes = "operator-changes",
    /// Transactions stored.
    commits = "store-commits",
    /// Transactions that another server was quicker than.
    conflicts = "store-conflicts",
    /// Times when the store did not answer.
    failures = "store-failures",
    /// Records that other servers changed.
    others = "store-changes-of-others",
}

/// What all tasks share.
struct Shared {
    identity: Identity,
    limits: Limits,
    inputs: mpsc::Sender<Input>,
    /// A session that was full has room again.
    room: Notify,
    counters: Counters,
    started: Uptime,
    paces: Paces,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    /// Starts a server on `address`. `setup` says who it is; which roles it takes, and who is denied, is
    /// set here.
    ///
    /// # Errors
    /// The address cannot be used, or the store not be read.
    pub async fn start(
        address: SocketAddr,
        mut setup: Setup,
        store: impl Store,
        limits: Limits,
    ) -> Result<Self, ServerError> {
        setup.accept = vec![Role::Nve, Role::Operator];
        let identity = setup.credentials.borrow().identity().clone();
        let denied = setup.denied.clone();
        let (inputs, queue) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            identity,
            limits,
            inputs,
            room: Notify::new(),
            counters: Counters::default(),
            started: Uptime::begin(),
            paces: Paces::default(),
        });
        // Nobody is let in before it is known who is revoked.
        let mut authority = Authority::load(store, shared.clone(), denied, queue).await?;
        let endpoint = Arc::new(Endpoint::bind(address, setup)?);
        let address = endpoint.local_address()?;
        authority.serve(endpoint.clone());
        let (stop, stopping) = oneshot::channel();
        let task = tokio::spawn(run(endpoint, authority, shared, stopping));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Where it takes sessions.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all sessions and the server. Everything that was answered is stored.
    ///
    /// # Errors
    /// A task had failed.
    pub async fn stop(self) -> Result<(), ServerError> {
        // Gone already if the task is.
        let _ = self.stop.send(());
        self.task.await?
    }
}

async fn run<S: Store>(
    endpoint: Arc<Endpoint>,
    authority: Authority<S>,
    shared: Arc<Shared>,
    stopping: oneshot::Receiver<()>,
) -> Result<(), ServerError> {
    let (quit, quitting) = oneshot::channel();
    let deciding = tokio::spawn(authority.run(quitting));
    let accepting = async {
        let mut number = 0;
        while let Some(session) = endpoint.accept().await {
            number += 1;
            tokio::spawn(serve(session, SessionId(number), shared.clone()));
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stopping => {}
    }
    endpoint.close("the server stops").await;
    let _ = quit.send(());
    deciding.await?;
    Ok(())
}

async fn serve(session: session::Session, id: SessionId, shared: Arc<Shared>) {
    let peer = session.peer().clone();
    let (from, role) = (session.remote_address(), peer.role());
    tracing::info!(%peer, %from, "session begins");
    match role {
        Role::Nve => match peer.name().parse::<NveName>() {
            Ok(nve) => edge::run(session, id, nve, &shared).await,
            Err(error) => tracing::warn!(%peer, %error, "an edge without a name"),
        },
        Role::Operator => operator::run(session, &shared).await,
        // The endpoint takes nobody else.
        Role::Ima => {}
    }
    tracing::info!(%peer, %from, "session ends");
}
