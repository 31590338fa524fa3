//! The values of the metrics in a report, with their labels. What a label can say is bounded
//! by the configuration, the machine and the code: there is none whose values tenants choose.

use std::collections::BTreeMap;

use super::list::{Counts, Sample, Value};
use crate::manage::status::{
    Heap, Ima, ImaVn, Pages, Peer, Pool, Ring, Sa, Status, Tables, Traffic, Tunnel, Worker,
};

fn up(state: &str) -> Value {
    Value::Whole(u64::from(state == "up"))
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

pub(super) fn build(status: &Status) -> Vec<Sample> {
    let nve = &status.nve;
    let labels = vec![
        ("nve", nve.name.clone()),
        ("version", nve.version.clone()),
        ("dpdk", nve.dpdk.clone()),
        ("aead", nve.aead.clone()),
        ("hugepages", nve.hugepages.to_string()),
    ];
    vec![(labels, Value::Whole(1))]
}

pub(super) fn uptime(status: &Status) -> Vec<Sample> {
    vec![(Vec::new(), Value::Real(seconds(status.nve.uptime_ns)))]
}

fn by_port(status: &Status, of: impl Fn(&crate::manage::status::Port) -> Value) -> Vec<Sample> {
    let ports = status.ports.iter();
    ports
        .map(|port| {
            let labels = vec![
                ("port", port.name.clone()),
                ("kind", port.kind.clone()),
                ("vn", port.vn.clone().unwrap_or_default()),
            ];
            (labels, of(port))
        })
        .collect()
}

pub(super) fn ports_up(status: &Status) -> Vec<Sample> {
    by_port(status, |port| up(&port.state))
}

pub(super) fn ports(status: &Status, of: fn(&Traffic) -> u64) -> Vec<Sample> {
    by_port(status, |port| Value::Whole(of(&port.traffic)))
}

pub(super) fn vns(status: &Status, of: fn(&Traffic) -> u64) -> Vec<Sample> {
    let vns = status.vns.iter();
    vns.map(|vn| (vec![("vn", vn.name.clone())], Value::Whole(of(&vn.traffic))))
        .collect()
}

pub(super) fn ima(status: &Status, of: fn(&Ima) -> u64) -> Vec<Sample> {
    let ima = status.ima.iter();
    ima.map(|ima| (Vec::new(), Value::Whole(of(ima)))).collect()
}

pub(super) fn questions(status: &Status) -> Vec<Sample> {
    let ima = status.ima.iter();
    ima.flat_map(|ima| {
        [
            ("asked", ima.asked),
            ("known", ima.known),
            ("limited", ima.limited),
        ]
    })
    .map(|(outcome, n)| (vec![("outcome", outcome.to_owned())], Value::Whole(n)))
    .collect()
}

pub(super) fn agreed(status: &Status) -> Vec<Sample> {
    let ima = status.ima.iter();
    ima.flat_map(|ima| {
        [
            ("outbound", ima.keys.outbound),
            ("inbound", ima.keys.inbound),
        ]
    })
    .map(|(direction, n)| {
        (
            vec![("direction", direction.to_owned())],
            Value::Whole(n as u64),
        )
    })
    .collect()
}

pub(super) fn ima_vns(status: &Status, of: fn(&ImaVn) -> u64) -> Vec<Sample> {
    let vns = status.ima.iter().flat_map(|ima| &ima.vns);
    vns.map(|vn| (vec![("vn", vn.vn.clone())], Value::Whole(of(vn))))
        .collect()
}

pub(super) fn fdb(status: &Status) -> Vec<Sample> {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for vn in &status.vns {
        for origin in ["static", "learned"] {
            counts.insert((&vn.name, origin), 0);
        }
    }
    for entry in &status.fdb {
        *counts.entry((&entry.vn, &entry.origin)).or_default() += 1;
    }
    let labels =
        |vn: &str, origin: &str| vec![("vn", vn.to_owned()), ("origin", origin.to_owned())];
    counts
        .into_iter()
        .map(|((vn, origin), n)| (labels(vn, origin), Value::Whole(n)))
        .collect()
}

fn by_tunnel(status: &Status, of: impl Fn(&Tunnel) -> Value) -> Vec<Sample> {
    let tunnels = status.tunnels.iter();
    tunnels
        .map(|t| {
            let labels = vec![("vn", t.vn.clone()), ("peer", t.peer.clone())];
            (labels, of(t))
        })
        .collect()
}

pub(super) fn tunnels_up(status: &Status) -> Vec<Sample> {
    by_tunnel(status, |tunnel| up(&tunnel.state))
}

pub(super) fn tunnels(status: &Status, of: fn(&Traffic) -> u64) -> Vec<Sample> {
    by_tunnel(status, |tunnel| Value::Whole(of(&tunnel.traffic)))
}

pub(super) fn of_peers(status: &Status, of: impl Fn(&Peer) -> u64) -> Vec<Sample> {
    let peers = status.peers.iter();
    peers
        .map(|peer| (vec![("peer", peer.name.clone())], Value::Whole(of(peer))))
        .collect()
}

pub(super) fn peers(status: &Status, of: fn(&Traffic) -> u64) -> Vec<Sample> {
    of_peers(status, |peer| of(&peer.traffic))
}

/// `value` if the SA opens.
pub(super) fn inbound(sa: &Sa, value: u64) -> Option<u64> {
    (sa.direction == "inbound").then_some(value)
}

/// `value` if the SA seals.
pub(super) fn outbound(sa: &Sa, value: u64) -> Option<u64> {
    (sa.direction == "outbound").then_some(value)
}

pub(super) fn sas(status: &Status, of: fn(&Sa) -> Option<u64>) -> Vec<Sample> {
    let sas = status.sas.iter();
    sas.filter_map(|sa| {
        let labels = vec![
            ("direction", sa.direction.clone()),
            ("spi", format!("0x{:08x}", sa.spi)),
            ("vn", sa.vn.clone()),
            ("peer", sa.peer.clone()),
            ("worker", sa.worker.to_string()),
        ];
        Some((labels, Value::Whole(of(sa)?)))
    })
    .collect()
}

pub(super) fn workers(status: &Status, of: fn(&Worker) -> u64) -> Vec<Sample> {
    let workers = status.workers.iter();
    workers
        .map(|w| (vec![("worker", w.id.to_string())], Value::Whole(of(w))))
        .collect()
}

pub(super) fn busy(status: &Status) -> Vec<Sample> {
    let workers = status.workers.iter();
    workers
        .map(|w| (vec![("worker", w.id.to_string())], Value::Real(w.busy)))
        .collect()
}

pub(super) fn verdicts(status: &Status) -> Vec<Sample> {
    let workers = status.workers.iter();
    workers
        .flat_map(|w| {
            w.verdicts.iter().map(|(verdict, n)| {
                let labels = vec![("worker", w.id.to_string()), ("verdict", verdict.clone())];
                (labels, Value::Whole(*n))
            })
        })
        .collect()
}

/// What each reason means.
pub(super) fn reasons(status: &Status) -> String {
    let mut text = "Packets dropped, by reason.".to_owned();
    for drop in &status.drops {
        text.push_str(&format!(" {}: {}.", drop.reason, drop.help));
    }
    text
}

pub(super) fn drops(status: &Status) -> Vec<Sample> {
    let drops = status.drops.iter();
    drops
        .map(|drop| {
            let labels = vec![("reason", drop.reason.clone())];
            (labels, Value::Whole(drop.packets))
        })
        .collect()
}

pub(super) fn latency(status: &Status) -> Vec<Sample> {
    let latencies = status.latency.iter();
    latencies
        .map(|latency| {
            let mut before = 0;
            let mut buckets: Vec<(f64, u64)> = latency
                .buckets
                .iter()
                .map(|bucket| {
                    let new = bucket.samples.saturating_sub(before);
                    before = bucket.samples;
                    (seconds(bucket.le), new)
                })
                .collect();
            let total = latency.total;
            buckets.push((f64::INFINITY, total.samples.saturating_sub(before)));
            let counts = Counts {
                sum: seconds(total.sum),
                count: total.samples,
                buckets,
            };
            let labels = vec![("direction", latency.direction.clone())];
            (labels, Value::Histogram(counts))
        })
        .collect()
}

pub(super) fn quantiles(status: &Status) -> Vec<Sample> {
    let latencies = status.latency.iter().filter(|l| l.total.samples > 0);
    latencies
        .flat_map(|latency| {
            let shares = latency.total.shares().into_iter();
            shares.chain([(1.0, latency.total.max)]).map(|(share, ns)| {
                let labels = vec![
                    ("direction", latency.direction.clone()),
                    ("quantile", share.to_string()),
                ];
                (labels, Value::Real(seconds(ns)))
            })
        })
        .collect()
}

fn node(numa: Option<u32>) -> String {
    numa.map_or_else(|| "any".to_owned(), |node| node.to_string())
}

pub(super) fn pages(status: &Status, of: fn(&Pages) -> u64) -> Vec<Sample> {
    let pages = status.memory.pages.iter();
    pages
        .map(|p| {
            let labels = vec![("node", node(p.numa)), ("size", p.size.to_string())];
            (labels, Value::Whole(of(p)))
        })
        .collect()
}

pub(super) fn heaps(status: &Status, of: fn(&Heap) -> u64) -> Vec<Sample> {
    let heaps = status.memory.heaps.iter();
    heaps
        .map(|h| (vec![("node", h.numa.to_string())], Value::Whole(of(h))))
        .collect()
}

pub(super) fn pools(status: &Status, of: fn(&Pool) -> u64) -> Vec<Sample> {
    let pools = status.memory.pools.iter();
    pools
        .map(|p| {
            let labels = vec![
                ("pool", p.name.clone()),
                ("port", p.port.clone().unwrap_or_default()),
                ("node", node(p.numa)),
            ];
            (labels, Value::Whole(of(p)))
        })
        .collect()
}

pub(super) fn rings(status: &Status, of: fn(&Ring) -> u64) -> Vec<Sample> {
    let rings = status.memory.rings.iter();
    rings
        .map(|r| {
            let labels = vec![("from", r.from.to_string()), ("to", r.to.to_string())];
            (labels, Value::Whole(of(r)))
        })
        .collect()
}

pub(super) fn tables(status: &Status, of: fn(&Tables) -> u64) -> Vec<Sample> {
    let tables = status.memory.tables.iter();
    tables
        .map(|t| {
            let owner = t
                .worker
                .map_or_else(|| "control".to_owned(), |w| w.to_string());
            (vec![("worker", owner)], Value::Whole(of(t)))
        })
        .collect()
}
