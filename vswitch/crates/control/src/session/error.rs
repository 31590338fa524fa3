//! Why there is no session, why it ended, and what a peer is told of it.

use std::fmt;

use quinn::{ConnectionError, VarInt};

use crate::identity::Refusal;

/// What ends a session, as the peer learns it (application error codes of QUIC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The application is done with it.
    Done,
    /// The peer did not take what was sent.
    Slow,
    /// The peer's certificate has expired.
    Expired,
    /// The peer is revoked.
    Revoked,
    /// The same identity opened a newer session.
    Replaced,
    /// A frame too large or empty, or a stream that ended.
    Protocol,
    /// There are as many sessions as allowed.
    Full,
    /// The endpoint is being closed.
    Shutdown,
    /// No CA that is trusted now has issued the peer's certificate.
    Untrusted,
    /// One we do not know.
    Other(u64),
}

const CODES: [Code; 9] = [
    Code::Done,
    Code::Slow,
    Code::Expired,
    Code::Revoked,
    Code::Replaced,
    Code::Protocol,
    Code::Full,
    Code::Shutdown,
    Code::Untrusted,
];

impl Code {
    pub(super) fn number(self) -> VarInt {
        let place = CODES
            .iter()
            .position(|code| *code == self)
            .unwrap_or(CODES.len());
        VarInt::from_u32(u32::try_from(place).unwrap_or(u32::MAX))
    }

    fn of(number: VarInt) -> Self {
        let number = number.into_inner();
        let known = usize::try_from(number)
            .ok()
            .and_then(|place| CODES.get(place));
        known.copied().unwrap_or(Self::Other(number))
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// We ended it.
    Here,
    /// The peer ended it.
    Peer(Code, String),
    /// Nothing was heard for the idle timeout.
    Silence,
    /// The peer does not know the session any more: it was started anew.
    Forgotten,
    /// One side broke TLS or QUIC, or refused the other's certificate.
    Transport(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("closed here"),
            Self::Peer(code, why) => write!(f, "closed by the peer ({code:?}): {why}"),
            Self::Silence => f.write_str("nothing was heard from the peer"),
            Self::Forgotten => f.write_str("the peer does not know this session any more"),
            Self::Transport(why) => f.write_str(why),
        }
    }
}

impl From<ConnectionError> for Closed {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::LocallyClosed => Self::Here,
            ConnectionError::TimedOut => Self::Silence,
            ConnectionError::Reset => Self::Forgotten,
            ConnectionError::ApplicationClosed(close) => {
                let why = String::from_utf8_lossy(&close.reason)
                    .chars()
                    .take(200)
                    .collect();
                Self::Peer(Code::of(close.error_code), why)
            }
            ConnectionError::ConnectionClosed(close) => {
                let code = u64::from(close.error_code);
                Self::Transport(match alert(code).and_then(told) {
                    Some(text) => text.to_owned(),
                    None if code == REFUSED => {
                        "the peer takes no more handshakes from here now".to_owned()
                    }
                    None => format!("the peer gave up: {}", close.error_code),
                })
            }
            other => Self::Transport(other.to_string()),
        }
    }
}

/// CONNECTION_REFUSED (RFC 9000, section 20.1).
const REFUSED: u64 = 2;

/// handshake_failure (RFC 8446, section 6.2): nothing in common.
const NOTHING_IN_COMMON: u8 = 40;

/// TLS's alert in an error code of QUIC (RFC 9001, section 4.8).
fn alert(code: u64) -> Option<u8> {
    code.checked_sub(0x100)
        .and_then(|alert| u8::try_from(alert).ok())
}

/// What a peer's alert means here (RFC 8446, section 6.2; `Refusal` is the other side).
const fn told(alert: u8) -> Option<&'static str> {
    Some(match alert {
        NOTHING_IN_COMMON => "the peer has no key exchange in common with us (X25519MLKEM768)",
        42 => "the peer cannot use our certificate",
        43 => "the peer says our certificate may not be used for this",
        44 => "the peer says we are revoked",
        45 => "the peer says our certificate has expired, or is not valid yet",
        48 => "the peer does not trust the CA of our certificate",
        49 => "the peer does not talk to our role, name or trust domain",
        116 => "the peer wants a certificate",
        120 => "the peer speaks another protocol",
        _ => return None,
    })
}

/// Whether two found nothing in common.
pub(super) fn negotiation(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        _ => return false,
    };
    alert(code) == Some(NOTHING_IN_COMMON)
}

/// Why a dial did not lead to a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The address, or the endpoint is closing.
    #[error("cannot dial: {0}")]
    Impossible(String),
    /// Whoever answers there is not whom we want.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The other side, or the network.
    #[error("{0}")]
    Closed(Closed),
    /// No answer, or not all of it.
    #[error("the handshake was not finished in time")]
    Timeout,
    /// As many sessions as allowed.
    #[error("there are as many sessions as this endpoint allows")]
    Full,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No room now.
    #[error("the session's queue is full")]
    Full,
    /// The session has ended.
    #[error("the session has ended")]
    Closed,
    /// None can be so long, or empty.
    #[error("a frame has 1 to 65536 bytes")]
    Size,
}
