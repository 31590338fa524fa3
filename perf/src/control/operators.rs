//! Declares what there is, as operators do: by role, over sessions, every change stored and kept in the
//! audit. One operator waits for each answer, so there are many at once.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use tokio::task::JoinSet;
use vswitch_control::identity::Role;
use vswitch_control::message::operator::{
    Change, FromOperator, PROTOCOL, Request, Response, ToOperator,
};
use vswitch_control::message::{decode, encode};
use vswitch_control::session::{Bytes, Session};

use super::lab::{Lab, Sockets};

/// Operators at once: as many as the authority stores in one transaction, so that a million placements take minutes.
const OPERATORS: usize = 256;

/// Operators with their sessions.
pub struct Operators(Vec<Session>);

async fn call(session: &mut Session, message: &FromOperator) -> anyhow::Result<ToOperator> {
    session.send(Bytes::from(encode(message)?)).await?;
    let frame = session
        .recv()
        .await
        .context("an operator's session ended")?;
    Ok(decode(&frame)?)
}

impl Operators {
    /// Opens their sessions.
    pub async fn open(lab: &Lab, sockets: &Sockets, address: SocketAddr) -> anyhow::Result<Self> {
        let mut sessions = Vec::new();
        for n in 0..OPERATORS {
            let who = lab.credentials(Role::Operator, &format!("operator-{n}"))?;
            let expect = lab.authority_identity()?;
            let mut session = sockets.dial(n, Arc::new(who), address, expect).await?;
            let hello = FromOperator::Hello { version: PROTOCOL };
            let answer = call(&mut session, &hello).await?;
            ensure!(answer == ToOperator::Welcome, "not welcome: {answer:?}");
            sessions.push(session);
        }
        Ok(Operators(sessions))
    }

    /// Makes these changes, in no order. Gives how many there were.
    pub async fn declare(
        &mut self,
        changes: impl Iterator<Item = anyhow::Result<Change>> + Send + 'static,
    ) -> anyhow::Result<usize> {
        let changes = Arc::new(Mutex::new(changes));
        let mut tasks = JoinSet::new();
        for mut session in self.0.drain(..) {
            let changes = changes.clone();
            tasks.spawn(async move {
                let mut made = 0;
                loop {
                    let next = changes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .next();
                    let Some(change) = next.transpose()? else {
                        return anyhow::Ok((session, made));
                    };
                    let request = Request::Change(change);
                    let message = FromOperator::Request { id: 0, request };
                    match call(&mut session, &message).await? {
                        ToOperator::Response {
                            result: Ok(Response::Done { changed: true }),
                            ..
                        } => made += 1,
                        other => bail!("not changed: {other:?}"),
                    }
                }
            });
        }
        let mut all = 0;
        while let Some(done) = tasks.join_next().await {
            let (session, made) = done??;
            self.0.push(session);
            all += made;
        }
        Ok(all)
    }
}
