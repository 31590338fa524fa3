//! Which metrics there are: name, meaning, and how a report gives their values.

use super::figures;
use crate::manage::status::Status;

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; `_total` is appended to its name.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bounds; `_bucket`, `_sum` and `_count` are appended to its name.
    Histogram,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A count.
    Whole(u64),
    /// A measure.
    Real(f64),
    /// Counts by bounds.
    Histogram(Counts),
}

/// What a histogram holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Sum of all.
    pub sum: f64,
    /// How many.
    pub count: u64,
    /// Upper bounds and how many are between the one before and it; the last is infinite.
    pub buckets: Vec<(f64, u64)>,
}

/// A value with what tells it from others of its metric.
pub type Sample = (Vec<(&'static str, String)>, Value);

/// A metric.
pub struct Metric {
    /// Its name without prefix and without what its kind appends.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it means.
    pub help: fn(&Status) -> String,
    /// Its values.
    pub samples: fn(&Status) -> Vec<Sample>,
}

impl Metric {
    /// The name in queries; of a histogram, that of its buckets.
    pub fn full_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Histogram => "_bucket",
        };
        format!("{}_{}{suffix}", super::PREFIX, self.name)
    }
}

macro_rules! metrics {
    ($( $kind:ident, $name:expr, $help:expr, $samples:expr; )*) => {
        vec![ $( Metric {
            name: $name,
            kind: Kind::$kind,
            help: |_| $help.to_owned(),
            samples: $samples,
        }, )* ]
    };
}

/// Packets, bytes and drops in both directions, of whatever `$what` names.
macro_rules! traffic {
    ($what:literal, $text:literal, $of:path) => {
        metrics! {
            Counter, concat!($what, "_rx_packets"), concat!("Packets received from ", $text, "."), |s| $of(s, |t| t.rx_packets);
            Counter, concat!($what, "_rx_bytes"), concat!("Bytes received from ", $text, "."), |s| $of(s, |t| t.rx_bytes);
            Counter, concat!($what, "_rx_dropped"), concat!("Packets received from ", $text, " and dropped."), |s| $of(s, |t| t.rx_dropped);
            Counter, concat!($what, "_tx_packets"), concat!("Packets sent to ", $text, "."), |s| $of(s, |t| t.tx_packets);
            Counter, concat!($what, "_tx_bytes"), concat!("Bytes sent to ", $text, "."), |s| $of(s, |t| t.tx_bytes);
            Counter, concat!($what, "_tx_dropped"), concat!("Packets for ", $text, " that were dropped."), |s| $of(s, |t| t.tx_dropped);
        }
    };
}

/// All metrics, in the order of the output.
pub fn metrics() -> Vec<Metric> {
    let mut all = edge();
    all.extend(traffic!("port", "a port", figures::ports));
    all.extend(vns());
    all.extend(tunnels());
    all.extend(traffic!(
        "tunnel",
        "a peer by a tunnel (inner frames)",
        figures::tunnels
    ));
    all.extend(peers());
    all.extend(traffic!(
        "peer",
        "a peer by all its tunnels (inner frames)",
        figures::peers
    ));
    all.extend(sas());
    all.extend(workers());
    all.push(drops());
    all.extend(latency());
    all.extend(memory());
    all.extend(authority());
    all
}

fn edge() -> Vec<Metric> {
    metrics! {
        Gauge, "build_info", "Always 1; the labels say what runs.", figures::build;
        Gauge, "uptime_seconds", "Seconds since the start.", figures::uptime;
        Gauge, "port_up", "Whether a port's link is up or its guest connected (1) or not (0).", figures::ports_up;
        Gauge, "fdb_entries", "Forwarding entries of a network, by where they come from.", figures::fdb;
    }
}

fn vns() -> Vec<Metric> {
    metrics! {
        Counter, "vn_rx_packets", "Frames of a network that came from its tenants here.", |s| figures::vns(s, |t| t.rx_packets);
        Counter, "vn_rx_bytes", "Bytes of a network's frames that came from its tenants here.", |s| figures::vns(s, |t| t.rx_bytes);
        Counter, "vn_rx_dropped", "Frames of a network that were dropped where they came in, from tenants or the overlay.", |s| figures::vns(s, |t| t.rx_dropped);
        Counter, "vn_tx_packets", "Frames of a network that came from the overlay.", |s| figures::vns(s, |t| t.tx_packets);
        Counter, "vn_tx_bytes", "Bytes of a network's frames that came from the overlay.", |s| figures::vns(s, |t| t.tx_bytes);
        Counter, "vn_tx_dropped", "Frames of a network that were dropped on their way out.", |s| figures::vns(s, |t| t.tx_dropped);
    }
}

fn tunnels() -> Vec<Metric> {
    metrics! {
        Gauge, "tunnel_up", "Whether a tunnel has a next hop and, where it is protected, an SA (1) or not (0).", figures::tunnels_up;
    }
}

fn peers() -> Vec<Metric> {
    metrics! {
        Gauge, "peer_tunnels", "Tunnels to a peer.", |s| figures::of_peers(s, |p| p.tunnels);
        Gauge, "peer_tunnels_up", "Tunnels to a peer that are up.", |s| figures::of_peers(s, |p| p.tunnels_up);
        Gauge, "peer_sas", "Security associations with a peer.", |s| figures::of_peers(s, |p| p.sas);
        Gauge, "peer_replayed_packets", "Packets of a peer's present SAs refused as replayed or too old.", |s| figures::of_peers(s, |p| p.replayed);
        Gauge, "peer_auth_failed_packets", "Packets of a peer's present SAs that failed authentication.", |s| figures::of_peers(s, |p| p.auth_failed);
    }
}

fn sas() -> Vec<Metric> {
    metrics! {
        Counter, "sa_packets", "Packets protected or accepted by an SA.", |s| figures::sas(s, |sa| Some(sa.packets));
        Counter, "sa_bytes", "Payload bytes protected or accepted by an SA.", |s| figures::sas(s, |sa| Some(sa.bytes));
        Counter, "sa_replayed_packets", "Packets that an inbound SA refused as replayed or too old.", |s| figures::sas(s, |sa| figures::inbound(sa, sa.replayed));
        Counter, "sa_auth_failed_packets", "Packets of an inbound SA that failed authentication.", |s| figures::sas(s, |sa| figures::inbound(sa, sa.auth_failed));
        Gauge, "sa_sequence", "Next sequence number of an outbound SA, highest accepted one of an inbound SA.", |s| figures::sas(s, |sa| Some(sa.sequence));
        Gauge, "sa_reserved_until", "End of the sequence numbers that are reserved for an outbound SA's manual key.", |s| figures::sas(s, |sa| sa.reserved_until);
        Gauge, "sa_blocks", "AES blocks that an outbound SA has used its key for.", |s| figures::sas(s, |sa| figures::outbound(sa, sa.blocks));
        Gauge, "sa_hard_limit_blocks", "AES blocks at which an outbound SA sends no more.", |s| figures::sas(s, |sa| figures::outbound(sa, sa.hard_limit));
    }
}

fn workers() -> Vec<Metric> {
    metrics! {
        Counter, "worker_received_packets", "Packets that a worker took from receive queues.", |s| figures::workers(s, |w| w.received);
        Counter, "worker_generated_packets", "Packets that a worker made itself.", |s| figures::workers(s, |w| w.generated);
        Counter, "worker_copied_packets", "Copies that a worker made.", |s| figures::workers(s, |w| w.copied);
        Counter, "worker_handed_in_packets", "Packets that a worker took over from others.", |s| figures::workers(s, |w| w.handed_in);
        Counter, "worker_sent_packets", "Packets that left a worker through a port.", |s| figures::workers(s, |w| w.sent);
        Counter, "worker_dropped_packets", "Packets that a worker dropped.", |s| figures::workers(s, |w| w.dropped);
        Counter, "worker_consumed_packets", "Packets that ended at a worker on purpose.", |s| figures::workers(s, |w| w.consumed);
        Counter, "worker_handed_out_packets", "Packets that a worker passed to others.", |s| figures::workers(s, |w| w.handed_out);
        Gauge, "worker_held_packets", "Packets in a worker's hands.", |s| figures::workers(s, |w| w.held);
        Gauge, "worker_balanced", "Whether a worker's books balance (1); 0 is a defect.", |s| figures::workers(s, |w| u64::from(w.balanced));
        Counter, "worker_busy_ticks", "TSC ticks that a worker spent with packets at hand.", |s| figures::workers(s, |w| w.busy_ticks);
        Counter, "worker_idle_ticks", "TSC ticks that a worker spent with nothing to do.", |s| figures::workers(s, |w| w.idle_ticks);
        Gauge, "worker_busy_ratio", "Share of a worker's time with packets at hand since the start.", figures::busy;
        Counter, "worker_verdict_packets", "Packets of a worker by how they ended.", figures::verdicts;
    }
}

fn drops() -> Metric {
    Metric {
        name: "dropped_packets",
        kind: Kind::Counter,
        help: figures::reasons,
        samples: figures::drops,
    }
}

fn latency() -> Vec<Metric> {
    metrics! {
        Histogram, "latency_seconds", "Time from receiving a burst to handing a packet of it to the outgoing queue, of a sample of packets.", figures::latency;
        Gauge, "latency_quantile_seconds", "The same since the start: what a share of the samples did not exceed; 1 is the longest.", figures::quantiles;
    }
}

fn authority() -> Vec<Metric> {
    metrics! {
        Gauge, "ima_connected", "Whether there is a session with the mapping authority (1) or not (0).", |s| figures::ima(s, |i| u64::from(i.state == "connected"));
        Gauge, "ima_lease_seconds", "Seconds until the membership lease ends; 0 when it has.", |s| figures::ima(s, |i| i.lease_left.unwrap_or(0));
        Counter, "ima_questions", "Unknown destinations of tenants: asked of the authority, known not to exist or asked already, or above a limit.", figures::questions;
        Gauge, "agreed_keys", "Workers with an agreed key of their own, by network and edge: here (outbound) and at other edges (inbound).", figures::agreed;
        Gauge, "agreed_keys_limit", "Most of them in a direction (authority.max-sas); from three quarters on further workers share.", |s| figures::ima(s, |i| i.keys.limit as u64);
        Gauge, "agreed_keys_shared", "Workers here that send with another worker's key, because of a limit.", |s| figures::ima(s, |i| i.keys.shared as u64);
        Counter, "agreed_keys_denied", "Times that a worker got no key because of the limit: its frames are dropped.", |s| figures::ima(s, |i| i.keys.denied);
        Counter, "agreed_keys_unsteered", "Keys to receive with whose SPI RSS does not bring to the worker that has them, because none of those tried did.", |s| figures::ima(s, |i| i.keys.unsteered);
        Gauge, "ima_vn_joined", "Whether this edge is on a network of the authority (1) or not (0).", |s| figures::ima_vns(s, |vn| u64::from(vn.epoch.is_some()));
        Gauge, "ima_vn_members", "Other edges on a network of the authority.", |s| figures::ima_vns(s, |vn| vn.members as u64);
        Gauge, "ima_vn_mappings", "Mappings of a network at other edges.", |s| figures::ima_vns(s, |vn| vn.mappings as u64);
    }
}

fn memory() -> Vec<Metric> {
    metrics! {
        Gauge, "hugepages", "The host's hugepages by size in bytes.", |s| figures::pages(s, |p| p.total);
        Gauge, "hugepages_free", "The host's hugepages that no process has.", |s| figures::pages(s, |p| p.free);
        Gauge, "dpdk_heap_bytes", "Bytes of DPDK's heap.", |s| figures::heaps(s, |h| h.size);
        Gauge, "dpdk_heap_used_bytes", "Bytes of DPDK's heap that are given out.", |s| figures::heaps(s, |h| h.used);
        Gauge, "dpdk_heap_largest_free_bytes", "Bytes of the largest free piece of DPDK's heap.", |s| figures::heaps(s, |h| h.largest_free);
        Gauge, "pool_buffers", "Packet buffers of a pool.", |s| figures::pools(s, |p| p.size);
        Gauge, "pool_in_use_buffers", "Packet buffers that hold packets or wait in a receive queue.", |s| figures::pools(s, |p| p.in_use);
        Gauge, "pool_cached_buffers", "Free packet buffers in the caches of threads.", |s| figures::pools(s, |p| p.cached);
        Gauge, "pool_bytes", "Bytes of a pool of packet buffers.", |s| figures::pools(s, |p| p.bytes);
        Gauge, "ring_packets_limit", "Packets that fit into the ring from a worker to another.", |s| figures::rings(s, |r| r.size);
        Gauge, "ring_packets", "Packets in the ring from a worker to another.", |s| figures::rings(s, |r| r.used);
        Gauge, "table_fdb_entries", "Forwarding entries that a thread has.", |s| figures::tables(s, |t| t.fdb_entries);
        Gauge, "table_fdb_entries_limit", "Forwarding entries that fit before a thread's table grows.", |s| figures::tables(s, |t| t.fdb_capacity);
        Gauge, "table_fdb_bytes", "Bytes of a thread's forwarding table.", |s| figures::tables(s, |t| t.fdb_bytes);
        Gauge, "table_sas", "Security associations that a thread owns.", |s| figures::tables(s, |t| t.sas);
        Gauge, "table_sa_bytes", "Bytes of a thread's security associations, keys left out.", |s| figures::tables(s, |t| t.sa_bytes);
        Gauge, "table_key_bytes", "Bytes of a thread's expanded keys.", |s| figures::tables(s, |t| t.key_bytes);
        Gauge, "table_counter_bytes", "Bytes of a thread's counters and latencies.", |s| figures::tables(s, |t| t.counter_bytes);
    }
}
