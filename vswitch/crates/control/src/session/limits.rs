//! How much of everything an endpoint allows. The defaults are an edge's; a mapping authority with
//! thousands of edges behind few addresses raises some.

use std::time::Duration;

/// So many a second in the long run, so many at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// In the long run.
    pub per_second: f64,
    /// At once, after a pause.
    pub burst: f64,
}

/// How soon it is noticed that a peer is gone without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// A session ends after hearing nothing for so long; of two sides' the shorter time counts.
    pub idle_timeout: Duration,
    /// Something is said at least so often.
    pub keepalive: Duration,
}

impl Liveness {
    /// Between edges: a peer that is killed and comes back has lost its keys, and what is sent to
    /// it is lost until the session is known to be dead: that is `idle_timeout` behind the first thing
    /// said to it in vain, so 1.65 s behind its last packet at most, which leaves a third of a second
    /// for another session and its keys. One that stands still for a second keeps its session.
    pub const SHORT: Self = Self {
        idle_timeout: Duration::from_millis(1400),
        keepalive: Duration::from_millis(250),
    };
    /// To an authority, which has thousands of edges, and whose silence costs nothing at once.
    pub const LONG: Self = Self {
        idle_timeout: Duration::from_secs(10),
        keepalive: Duration::from_secs(3),
    };
}

/// What an endpoint allows.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// From a peer's first packet until its session stands, and as long for a dial.
    pub handshake_timeout: Duration,
    /// Of sessions that were dialled from here, with others than edges.
    pub dialled: Liveness,
    /// Of those dialled with an edge. Both ends say something often: one that hears nothing may be the
    /// only one to know.
    pub dialled_edge: Liveness,
    /// Of sessions that others dialled: at an edge, those of its peers.
    pub accepted: Liveness,
    /// From so many unfinished handshakes on, whoever comes has to prove their address first (Retry:
    /// RFC 9000, section 8.1.2). By default always: it costs a round trip, and nobody is sent more
    /// than they have sent before. Where it is more, an address that is not proven is sent
    /// up to three times as much, and one datagram (quinn lets the last one go over).
    pub retry_above: usize,
    /// From so many on, nobody is answered.
    pub max_half_open: usize,
    /// Of these, so many are for addresses that are known (`Known`), whatever strangers do.
    pub kept_for_known: usize,
    /// Of these, one source has so many at most (an IPv4 address, or an IPv6 /64); whoever else
    /// comes from there waits.
    pub half_open_per_source: usize,
    /// And the strangers of one network so many (an IPv4 /24, an IPv6 /48).
    pub half_open_per_network: usize,
    /// Handshakes begun with unproven addresses, of all sources together; above it, Retry.
    pub unproven: Rate,
    /// Handshakes begun with proven addresses, per source (an IPv4 address, or an IPv6 /64).
    pub per_source: Rate,
    /// The same per network (an IPv4 /24, or an IPv6 /48), for addresses that are not known.
    pub per_network: Rate,
    /// So many sources and networks are remembered, and identities by where they last were; the rest
    /// share one allowance.
    pub sources: usize,
    /// Sessions in all.
    pub sessions: usize,
    /// Sessions of one identity; one more ends the oldest, so that who comes back after a
    /// crash need not wait for the idle timeout.
    pub sessions_per_identity: usize,
    /// Bytes waiting to be sent in one session, each frame counting `FRAME_COST` more.
    pub queue: usize,
    /// Bytes sent and not acknowledged in one session.
    pub send_window: u32,
    /// Bytes received and not read in one session.
    pub receive_window: u32,
    /// A frame that waits longer than this ends the session: the peer is too slow.
    pub stall: Duration,
    /// Accepted sessions waiting to be taken.
    pub backlog: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            dialled: Liveness::LONG,
            dialled_edge: Liveness::SHORT,
            accepted: Liveness::SHORT,
            retry_above: 0,
            max_half_open: 1024,
            kept_for_known: 256,
            half_open_per_source: 8,
            half_open_per_network: 32,
            unproven: Rate {
                per_second: 100.0,
                burst: 100.0,
            },
            per_source: Rate {
                per_second: 10.0,
                burst: 50.0,
            },
            per_network: Rate {
                per_second: 40.0,
                burst: 200.0,
            },
            sources: 16_384,
            sessions: 16_384,
            sessions_per_identity: 4,
            queue: 256 * 1024,
            send_window: 128 * 1024,
            receive_window: 128 * 1024,
            stall: Duration::from_secs(10),
            backlog: 64,
        }
    }
}
