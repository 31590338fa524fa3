//! An operator's side: a session with the authority, one request at a time or many in flight.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;
use vswitch_control::identity::Expect;
use vswitch_control::identity::{Clock, Credentials, CredentialsError, Files, Role};
use vswitch_control::message::operator::{
    AddressLine, AuditLine, Change, DeclaredLine, Denied, EdgeLine, FromOperator, MemberLine,
    OperatorLine, PROTOCOL, Request, Response, Server, ToOperator, VnLine,
};
use vswitch_control::message::overlay::{Mapping, Placement};
use vswitch_control::message::{MessageError, decode, encode};
use vswitch_control::session::{Bytes, DialError, Endpoint, OpenError, Session, Setup};
use vswitch_control::types::VnName;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why an operator's request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The operator's own files.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No session with any server.
    #[error("{address}: {error}")]
    Dial {
        /// The last one tried.
        address: SocketAddr,
        /// What happened.
        error: DialError,
    },
    /// No server is named.
    #[error("no server of the authority is named")]
    Nobody,
    /// The session ended.
    #[error("the session ended: {0}")]
    Ended(String),
    /// No answer in time.
    #[error("no answer in {} s", PATIENCE.as_secs())]
    Timeout,
    /// The server speaks another language.
    #[error("the server's answer is none: {0}")]
    Message(#[from] MessageError),
    /// Another answer than to the question.
    #[error("the server answered something else")]
    Confused,
    /// The authority said no.
    #[error(transparent)]
    Denied(#[from] Denied),
}

/// A session of an operator.
pub struct Client {
    session: Session,
    endpoint: Endpoint,
    next: u32,
}

impl Client {
    /// Opens a session with the first of `servers` that answers.
    ///
    /// # Errors
    /// The files are no operator's, or none answers.
    pub async fn connect(files: &Files, servers: &[SocketAddr]) -> Result<Self, ClientError> {
        let clock = Clock::system();
        let credentials = Credentials::load(files, Role::Operator, clock.now())?.fixed();
        let mut failed = ClientError::Nobody;
        for address in servers {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            // Nobody may open a session to us.
            let setup = Setup::new(credentials.clone(), &[]);
            let endpoint = Endpoint::bind(SocketAddr::new(any, 0), setup)?;
            match endpoint
                .dial(*address, Expect::Roles(vec![Role::Ima]))
                .await
            {
                Ok(session) => {
                    let mut client = Self {
                        session,
                        endpoint,
                        next: 0,
                    };
                    client
                        .send(&FromOperator::Hello { version: PROTOCOL })
                        .await?;
                    return match client.receive().await? {
                        ToOperator::Welcome => Ok(client),
                        _ => Err(ClientError::Confused),
                    };
                }
                Err(error) => {
                    failed = ClientError::Dial {
                        address: *address,
                        error,
                    }
                }
            }
        }
        Err(failed)
    }

    async fn send(&self, message: &FromOperator) -> Result<(), ClientError> {
        let bytes = Bytes::from(encode(message)?);
        let sent = self.session.send(bytes).await;
        sent.map_err(|error| ClientError::Ended(error.to_string()))
    }

    async fn receive(&mut self) -> Result<ToOperator, ClientError> {
        let frame = timeout(PATIENCE, self.session.recv()).await;
        match frame.map_err(|_| ClientError::Timeout)? {
            Some(frame) => match decode(&frame)? {
                ToOperator::Goodbye { why } => Err(ClientError::Ended(why.to_string())),
                message => Ok(message),
            },
            None => Err(ClientError::Ended(self.session.closed().await.to_string())),
        }
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// None came, or the authority said no.
    pub async fn ask(&mut self, request: Request) -> Result<Response, ClientError> {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.send(&FromOperator::Request { id, request }).await?;
        match self.receive().await? {
            ToOperator::Response {
                id: answered,
                result,
            } if answered == id => Ok(result?),
            _ => Err(ClientError::Confused),
        }
    }

    /// One change; whether anything had to be changed.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn change(&mut self, change: Change) -> Result<bool, ClientError> {
        match self.ask(Request::Change(change)).await? {
            Response::Done { changed } => Ok(changed),
            _ => Err(ClientError::Confused),
        }
    }

    /// The server itself.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn server(&mut self) -> Result<Server, ClientError> {
        match self.ask(Request::Server).await? {
            Response::Server(server) => Ok(server),
            _ => Err(ClientError::Confused),
        }
    }

    /// Ends the session.
    pub async fn close(self) {
        self.session.close("done");
        self.endpoint.close("done").await;
    }
}

macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident($($vn:ident)?) -> $item:ty,
        $request:ident { $cursor:ident } by |$line:ident| $key:expr;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// As [`ask`](Self::ask).
                pub async fn $name(&mut self, $($vn: &VnName)?) -> Result<Vec<$item>, ClientError> {
                    let (mut all, mut last) = (Vec::new(), None);
                    loop {
                        let request = Request::$request { $($vn: $vn.clone(),)? $cursor: last };
                        let Response::$request(page) = self.ask(request).await? else {
                            return Err(ClientError::Confused);
                        };
                        let more = page.more;
                        all.extend(page.items.into_inner());
                        last = all.last().map(|$line: &$item| $key);
                        if !more || last.is_none() {
                            return Ok(all);
                        }
                    }
                }
            )*
        }
    };
}

lists! {
    /// All VNs.
    vns() -> VnLine, Vns { after } by |line| line.vn.clone();
    /// All edges that may join a VN.
    members(vn) -> MemberLine, Members { after } by |line| line.nve.clone();
    /// All that is placed in a VN.
    placements(vn) -> Placement, Placements { after } by |line| line.mac;
    /// All that is registered in a VN.
    mappings(vn) -> Mapping, Mappings { after } by |line| line.mac;
    /// All edges.
    edges() -> EdgeLine, Edges { after } by |line| line.nve.clone();
    /// All that operators did, newest first.
    audit() -> AuditLine, Audit { before } by |line| line.id;
    /// What is declared of edges.
    declared() -> DeclaredLine, Declared { after } by |line| line.nve.clone();
    /// Which edge has which tunnel address.
    addresses() -> AddressLine, Addresses { after } by |line| line.address;
    /// Operators without rights.
    operators() -> OperatorLine, Operators { after } by |line| line.name.clone();
}
