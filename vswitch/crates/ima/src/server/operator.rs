//! The session of one operator: one request after the other.

use std::sync::Arc;

use tokio::sync::oneshot;
use vswitch_control::message::operator::{Denied, FromOperator, PROTOCOL, Text, ToOperator};
use vswitch_control::message::{decode, encode};
use vswitch_control::session::{Bytes, Session};

use super::{Input, Shared};

/// Serves an operator until its session ends.
pub(super) async fn run(mut session: Session, shared: &Arc<Shared>) {
    let who = Text::of(session.peer().name());
    let mut greeted = false;
    while let Some(frame) = session.recv().await {
        let answer = match decode(&frame) {
            Ok(FromOperator::Hello { version: PROTOCOL }) if !greeted => {
                greeted = true;
                ToOperator::Welcome
            }
            Ok(FromOperator::Request { id, request }) if greeted => {
                let (answer, answered) = oneshot::channel();
                let input = Input::Operator {
                    who: who.clone(),
                    request,
                    answer,
                };
                let stopping = || Err(Denied::Unavailable(Text::of("the server stops")));
                let result = match shared.inputs.send(input).await {
                    Ok(()) => answered.await.unwrap_or_else(|_| stopping()),
                    Err(_) => stopping(),
                };
                ToOperator::Response { id, result }
            }
            Ok(FromOperator::Hello { .. }) => goodbye("another version of the protocol"),
            Ok(FromOperator::Request { .. }) => goodbye("a request before the greeting"),
            Err(error) => goodbye(&error.to_string()),
        };
        let last = matches!(answer, ToOperator::Goodbye { .. });
        let Ok(bytes) = encode(&answer) else { return };
        if session.send(Bytes::from(bytes)).await.is_err() {
            return;
        }
        if last {
            shared.counters.protocol.add(1);
            session.finish("the protocol was not kept");
            session.closed().await;
            return;
        }
    }
}

fn goodbye(why: &str) -> ToOperator {
    ToOperator::Goodbye { why: Text::of(why) }
}
