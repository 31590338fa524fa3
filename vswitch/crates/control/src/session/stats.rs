//! What an endpoint has done, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What an endpoint has done since it was opened; `half_open` and `sessions` are what there is now.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Handshakes that others began and that are not finished, now.
            pub half_open: u64,
            /// Sessions, now.
            pub sessions: u64,
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self, half_open: usize, sessions: usize) -> Stats {
                Stats {
                    $($name: self.$name.get(),)*
                    half_open: half_open as u64,
                    sessions: sessions as u64,
                }
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// First packets of handshakes, those repeated after a Retry included.
    initials,
    /// Answered with a Retry.
    retries,
    /// Not answered: too many handshakes unfinished.
    ignored,
    /// Not answered: too many handshakes unfinished from that source, or that network.
    ignored_source,
    /// Refused: too many handshakes from that source, or that network.
    refused_source,
    /// Refused: as many sessions as allowed.
    refused_full,
    /// Handshakes begun with others who came.
    handshakes,
    /// Handshakes begun by us.
    dials,
    /// Handshakes that ended in a session, both ways.
    established,
    /// Peer's certificate of no CA of ours.
    failed_untrusted,
    /// Peer's certificate wrong, expired, or of another domain.
    failed_certificate,
    /// Peer has another role or name than it needs.
    failed_identity,
    /// Peer is revoked.
    failed_revoked,
    /// No key exchange or cipher in common (a peer without X25519MLKEM768).
    failed_negotiation,
    /// Not finished in time.
    failed_timeout,
    /// Given up by the peer, or by both for another reason.
    failed_other,
    /// Sessions ended because the peer did not take what was sent.
    closed_slow,
    /// Sessions ended because the peer's certificate expired.
    closed_expired,
    /// Sessions ended because the peer was revoked.
    closed_revoked,
    /// Ended: the CA of the peer's certificate is not in the bundle any more.
    closed_untrusted,
    /// Sessions ended in favour of newer ones of the same identity.
    closed_replaced,
    /// Sessions ended because the peer broke the framing.
    closed_protocol,
}
