//! What an edge counted between two reports.

use std::collections::BTreeMap;

use vswitch::manage::status::{Status, Traffic};

/// Everything that changed. What stayed as it was is in no map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Packets by verdict, all workers.
    pub verdicts: BTreeMap<String, u64>,
    /// Packets by verdict, by worker.
    pub workers: Vec<BTreeMap<String, u64>>,
    /// Packets taken from receive queues.
    pub received: u64,
    /// Packets made by the switch.
    pub generated: u64,
    /// Copies made.
    pub copied: u64,
    /// Packets handed from worker to worker.
    pub handed_over: u64,
    /// By `port NAME`, `vn NAME` and `tunnel VN/PEER`.
    pub traffic: BTreeMap<String, Counts>,
}

/// Traffic as a test writes it down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets and bytes received.
    pub rx: (u64, u64),
    /// Packets received and dropped.
    pub rx_dropped: u64,
    /// Packets and bytes sent.
    pub tx: (u64, u64),
    /// Packets dropped on the way out.
    pub tx_dropped: u64,
}

/// `n` packets of `bytes` in all received.
pub fn rx(n: u64, bytes: usize) -> Counts {
    Counts {
        rx: (n, bytes as u64),
        ..Counts::default()
    }
}

/// `n` packets of `bytes` in all sent.
pub fn tx(n: u64, bytes: usize) -> Counts {
    Counts {
        tx: (n, bytes as u64),
        ..Counts::default()
    }
}

impl Counts {
    /// Sent as well.
    pub fn tx(self, n: u64, bytes: usize) -> Self {
        Counts {
            tx: (n, bytes as u64),
            ..self
        }
    }

    /// Dropped as well, of the received.
    pub fn dropped(self, n: u64) -> Self {
        Counts {
            rx_dropped: n,
            ..self
        }
    }

    /// Dropped as well, on the way out.
    pub fn tx_dropped(self, n: u64) -> Self {
        Counts {
            tx_dropped: n,
            ..self
        }
    }
}

impl Changes {
    /// What happened between two reports of one edge.
    pub fn between(before: &Status, after: &Status) -> Self {
        let mut changes = Changes::default();
        for (b, a) in before.workers.iter().zip(&after.workers) {
            changes.received += a.received - b.received;
            changes.generated += a.generated - b.generated;
            changes.copied += a.copied - b.copied;
            changes.handed_over += a.handed_in - b.handed_in;
            let mut own = BTreeMap::new();
            for (verdict, n) in &a.verdicts {
                let n = n - b.verdicts.get(verdict).copied().unwrap_or(0);
                if n > 0 {
                    own.insert(verdict.clone(), n);
                    *changes.verdicts.entry(verdict.clone()).or_default() += n;
                }
            }
            changes.workers.push(own);
        }
        let (b, a) = (traffic(before), traffic(after));
        for (name, after) in a {
            let before = b.get(&name).copied().unwrap_or_default();
            let counts = Counts {
                rx: (
                    after.rx_packets - before.rx_packets,
                    after.rx_bytes - before.rx_bytes,
                ),
                rx_dropped: after.rx_dropped - before.rx_dropped,
                tx: (
                    after.tx_packets - before.tx_packets,
                    after.tx_bytes - before.tx_bytes,
                ),
                tx_dropped: after.tx_dropped - before.tx_dropped,
            };
            if counts != Counts::default() {
                changes.traffic.insert(name, counts);
            }
        }
        changes
    }

    /// The verdicts must be exactly these.
    #[track_caller]
    pub fn expect_verdicts(&self, expected: &[(&str, u64)]) -> &Self {
        let expected: BTreeMap<String, u64> = expected
            .iter()
            .map(|(verdict, n)| ((*verdict).to_owned(), *n))
            .collect();
        assert_eq!(self.verdicts, expected, "verdicts");
        self
    }

    /// The traffic counted must be exactly this.
    #[track_caller]
    pub fn expect_traffic(&self, expected: &[(&str, Counts)]) -> &Self {
        let expected: BTreeMap<String, Counts> = expected
            .iter()
            .map(|(name, counts)| ((*name).to_owned(), *counts))
            .collect();
        assert_eq!(self.traffic, expected, "traffic");
        self
    }

    /// So many packets taken up, made, copied, and handed from worker to worker.
    #[track_caller]
    pub fn expect_books(&self, received: u64, generated: u64, copied: u64, handed_over: u64) {
        assert_eq!(
            (self.received, self.generated, self.copied, self.handed_over),
            (received, generated, copied, handed_over),
            "(received, generated, copied, handed over)"
        );
    }
}

fn traffic(status: &Status) -> BTreeMap<String, Traffic> {
    let ports = status
        .ports
        .iter()
        .map(|p| (format!("port {}", p.name), p.traffic));
    let vns = status
        .vns
        .iter()
        .map(|v| (format!("vn {}", v.name), v.traffic));
    let tunnels = status
        .tunnels
        .iter()
        .map(|t| (format!("tunnel {}/{}", t.vn, t.peer), t.traffic));
    ports.chain(vns).chain(tunnels).collect()
}

/// Panics unless the books of every worker balance and the sums of a report agree with one
/// another: drops by reason with drops by worker, and both with the verdicts.
#[track_caller]
pub fn check_books(status: &Status) {
    for worker in &status.workers {
        assert!(worker.balanced, "{worker:#?}");
        let (taken, given) = (
            worker.received + worker.generated + worker.copied + worker.handed_in,
            worker.sent + worker.dropped + worker.consumed + worker.handed_out + worker.held,
        );
        assert_eq!(taken, given, "{worker:#?}");
        let verdicts: u64 = worker.verdicts.values().sum();
        assert_eq!(verdicts + worker.held, given, "{worker:#?}");
    }
    let dropped: u64 = status.workers.iter().map(|w| w.dropped).sum();
    let by_reason: u64 = status.drops.iter().map(|d| d.packets).sum();
    assert_eq!(dropped, by_reason, "drops by reason: {:#?}", status.drops);
}
