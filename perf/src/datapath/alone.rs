//! A worker as the daemon assembles it, on whatever ports, and driven by hand.

use anyhow::anyhow;
use crossbeam::channel::{Receiver, Sender, bounded};
use vswitch::datapath::Endpoints;
use vswitch::datapath::command::{Command, Event};
use vswitch::datapath::counters::Account;
use vswitch::datapath::handoff::Handoff;
use vswitch::datapath::outlet::{Outlet, Queue, Way};
use vswitch::datapath::probe::Probe;
use vswitch::datapath::verdict::Verdict;
use vswitch::datapath::worker::{Idle, Input, InputKind, Worker, WorkerSetup};
use vswitch::dpdk::ethdev::{Port, PortConfig, Queues, RxQueue, TxQueue};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::quiescence::Domain;
use vswitch::dpdk::time::TscClock;

use super::edge::{self, Common, MTU, PORT, Side};

/// Queues of a worker's ports.
pub struct EdgeQueues {
    /// What it receives.
    pub from_underlay: RxQueue,
    /// Where its packets leave.
    pub to_underlay: TxQueue,
    /// What the tenant is given.
    pub to_tenant: TxQueue,
}

/// A worker without the far ends of its ports.
pub struct Alone<P: Probe> {
    /// The worker.
    pub worker: Worker<P>,
    /// To command it, which must be possible as long as it works.
    pub commands: Sender<Command>,
    /// What it has to say.
    pub events: Receiver<Event>,
}

/// Starts a port of this process with one queue each way.
pub fn one_queue(port: &Port, pool: &Mempool) -> anyhow::Result<Queues> {
    Ok(port.configure(&PortConfig {
        rx_queues: 1,
        tx_queues: 1,
        rx_desc: 512,
        tx_desc: 512,
        mtu: None,
        rss: false,
        promiscuous: false,
        pools: std::slice::from_ref(pool),
    })?)
}

/// A worker that knows its tenants, its peer and the tunnel between them.
pub fn alone<P: Probe>(
    side: Side,
    common: &Common,
    probe: P,
    queues: EdgeQueues,
) -> anyhow::Result<Alone<P>> {
    let (commands, mailbox) = bounded(16);
    let (events, event_rx) = bounded(64);
    let to_underlay_outlet = Outlet::new(
        Queue::Ethernet(queues.to_underlay),
        Verdict::ToUnderlay,
        Verdict::UnderlayTxFull,
        Account::Underlay(0),
    );
    let (tenant_queue, trunks) = match common.vns {
        1 => (Some(queues.to_tenant), Vec::new()),
        _ => {
            let queue = Queue::Ethernet(queues.to_tenant);
            let outlet = Outlet::new(queue, Verdict::ToVlan, Verdict::VlanTxFull, Account::Trunk);
            (None, vec![Way::Mine(Box::new(outlet))])
        }
    };
    let setup = WorkerSetup {
        id: 0,
        idle: Idle::Poll,
        pool: common.pool.clone(),
        backend: common.backend,
        seed: 0x5eed_0123_4567_89ab,
        inputs: vec![Input {
            kind: InputKind::Underlay(0),
            queue: queues.from_underlay,
        }],
        underlays: vec![Way::Mine(Box::new(to_underlay_outlet))],
        taps: vec![Way::Down],
        trunk_mtus: trunks.iter().map(|_| MTU).collect(),
        trunks,
        handoff: Handoff::default(),
        endpoints: Endpoints {
            local: vec![side.ip()],
            esp_port: 4500,
            macs: vec![side.mac()],
        },
        kernel_rate: 1000,
        clock: TscClock::new()?,
        mailbox,
        events,
        reader: Domain::new().reader("benchmark"),
    };
    let mut worker = Worker::new(setup, probe);
    let knowledge = Command::Transaction(edge::knowledge(side, common)?);
    commands
        .send(knowledge)
        .map_err(|_| anyhow!("the worker takes no commands"))?;
    worker.pass();
    if let Some(queue) = tenant_queue {
        worker
            .set_tenant_queue(PORT, queue)
            .map_err(|_| anyhow!("the tenant's port is missing"))?;
    }
    Ok(Alone {
        worker,
        commands,
        events: event_rx,
    })
}
