//! What happened between two reports: rates, shares, and the latencies since the last one.

use serde::Serialize;

use crate::manage::status::{Percentiles, Status, Traffic, Worker};

/// What happened from one report to the next, everything per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Frame {
    /// Name of the edge.
    pub nve: String,
    /// Seconds since its start.
    pub uptime: u64,
    /// Seconds between the two reports; 0 if there was no earlier one: then there are no rates.
    pub seconds: f64,
    /// Workers.
    pub workers: Vec<WorkerRate>,
    /// Ports, networks and tunnels.
    pub traffic: Vec<TrafficRate>,
    /// Reasons for which packets were dropped since the start of the switch.
    pub drops: Vec<DropRate>,
    /// Ways through the switch that packets took since the start of the switch.
    pub latency: Vec<LatencyRow>,
}

/// A worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WorkerRate {
    /// Its number.
    pub id: u16,
    /// Its core.
    pub core: u16,
    /// Share of time with packets at hand, 0 to 1.
    pub busy: f64,
    /// Packets taken from queues and colleagues.
    pub packets: f64,
    /// Packets that it handed to colleagues.
    pub handed_out: f64,
    /// Packets that it dropped.
    pub drops: f64,
    /// TSC ticks of work for each packet taken; `None` without packets.
    pub ticks_per_packet: Option<f64>,
}

/// A port, network or tunnel.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TrafficRate {
    /// `port`, `vn` or `tunnel`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Packets received.
    pub rx_packets: f64,
    /// Bits received.
    pub rx_bits: f64,
    /// Packets sent.
    pub tx_packets: f64,
    /// Bits sent.
    pub tx_bits: f64,
    /// Packets dropped, both ways.
    pub drops: f64,
}

/// A reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DropRate {
    /// Its name.
    pub reason: String,
    /// Packets since the start.
    pub total: u64,
    /// Packets per second.
    pub rate: f64,
}

/// A way through the switch.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LatencyRow {
    /// Its name.
    pub direction: String,
    /// Of the last window, in nanoseconds.
    pub recent: Percentiles,
}

/// What a table of traffic is sorted by. By rates the greatest comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// By packets per second.
    #[default]
    Packets,
    /// By bits per second.
    Bits,
    /// By drops per second.
    Drops,
    /// Ports, then networks, then tunnels, each by name.
    Name,
}

impl TrafficRate {
    fn key(&self, sort: Sort) -> f64 {
        match sort {
            Sort::Packets => self.rx_packets + self.tx_packets,
            Sort::Bits => self.rx_bits + self.tx_bits,
            Sort::Drops => self.drops,
            Sort::Name => 0.0,
        }
    }
}

/// Differences over time.
struct Per(Option<f64>);

impl Per {
    fn second(&self, before: u64, after: u64) -> f64 {
        self.0
            .map_or(0.0, |seconds| after.saturating_sub(before) as f64 / seconds)
    }
}

impl Frame {
    /// From `before` to `after`. If the switch was started anew in between, nothing is known
    /// of the time before, as if there were no `before`.
    pub fn between(before: Option<&Status>, after: &Status, sort: Sort) -> Frame {
        let before = before.filter(|b| b.nve.uptime_ns < after.nve.uptime_ns);
        let seconds = before.map(|b| (after.nve.uptime_ns - b.nve.uptime_ns) as f64 / 1e9);
        let per = Per(seconds);
        let nothing = Status::default();
        let b = before.unwrap_or(&nothing);
        let mut traffic = traffic(b, after, &per);
        let order = |rate: &TrafficRate| match rate.kind {
            "port" => 0,
            "vn" => 1,
            _ => 2,
        };
        traffic.sort_by(|x, y| {
            let rates = y.key(sort).total_cmp(&x.key(sort));
            rates.then_with(|| (order(x), &x.name).cmp(&(order(y), &y.name)))
        });
        let mut drops: Vec<DropRate> = after
            .drops
            .iter()
            .filter(|drop| drop.packets > 0)
            .map(|drop| {
                let earlier = b.drops.iter().find(|d| d.reason == drop.reason);
                DropRate {
                    reason: drop.reason.clone(),
                    total: drop.packets,
                    rate: per.second(earlier.map_or(0, |d| d.packets), drop.packets),
                }
            })
            .collect();
        drops.sort_by(|x, y| y.rate.total_cmp(&x.rate).then(y.total.cmp(&x.total)));
        Frame {
            nve: after.nve.name.clone(),
            uptime: after.nve.uptime,
            seconds: seconds.unwrap_or(0.0),
            workers: after
                .workers
                .iter()
                .map(|worker| {
                    let earlier = b.workers.iter().find(|w| w.id == worker.id);
                    rate(earlier, worker, &per)
                })
                .collect(),
            traffic,
            drops,
            latency: after
                .latency
                .iter()
                .filter(|latency| latency.total.samples > 0)
                .map(|latency| LatencyRow {
                    direction: latency.direction.clone(),
                    recent: latency.recent,
                })
                .collect(),
        }
    }
}

fn rate(before: Option<&Worker>, after: &Worker, per: &Per) -> WorkerRate {
    let nothing = Worker::default();
    let known = before.is_some();
    let b = before.unwrap_or(&nothing);
    let taken = |w: &Worker| w.received.saturating_add(w.handed_in);
    let packets = taken(after).saturating_sub(taken(b));
    let busy = after.busy_ticks.saturating_sub(b.busy_ticks);
    let idle = after.idle_ticks.saturating_sub(b.idle_ticks);
    let share = busy as f64 / busy.saturating_add(idle).max(1) as f64;
    WorkerRate {
        id: after.id,
        core: after.core,
        busy: if known { share } else { after.busy },
        packets: per.second(taken(b), taken(after)),
        handed_out: per.second(b.handed_out, after.handed_out),
        drops: per.second(b.dropped, after.dropped),
        ticks_per_packet: (packets > 0).then(|| busy as f64 / packets as f64),
    }
}

fn traffic(before: &Status, after: &Status, per: &Per) -> Vec<TrafficRate> {
    let (b, a) = (counters(before), counters(after));
    a.into_iter()
        .map(|(kind, name, a)| {
            let b = b
                .iter()
                .find(|(k, n, _)| *k == kind && *n == name)
                .map(|(_, _, traffic)| *traffic)
                .unwrap_or_default();
            let bits = |before: u64, after: u64| 8.0 * per.second(before, after);
            TrafficRate {
                kind,
                name,
                rx_packets: per.second(b.rx_packets, a.rx_packets),
                rx_bits: bits(b.rx_bytes, a.rx_bytes),
                tx_packets: per.second(b.tx_packets, a.tx_packets),
                tx_bits: bits(b.tx_bytes, a.tx_bytes),
                drops: per.second(
                    b.rx_dropped.saturating_add(b.tx_dropped),
                    a.rx_dropped.saturating_add(a.tx_dropped),
                ),
            }
        })
        .collect()
}

fn counters(status: &Status) -> Vec<(&'static str, String, Traffic)> {
    let ports = status.ports.iter();
    let ports = ports.map(|p| ("port", p.name.clone(), p.traffic));
    let vns = status.vns.iter();
    let vns = vns.map(|v| ("vn", v.name.clone(), v.traffic));
    let tunnels = status.tunnels.iter();
    let tunnels = tunnels.map(|t| ("tunnel", format!("{}/{}", t.vn, t.peer), t.traffic));
    ports.chain(vns).chain(tunnels).collect()
}
