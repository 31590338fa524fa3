//! What the control side says to a worker and what a worker reports.
//!
//! Commands travel on a bounded queue that the worker looks into at burst boundaries; a
//! [`Command::Transaction`] is applied whole within one boundary. Whatever a command
//! replaces goes back as [`Event::Retired`], so that memory is freed on the control side.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use vswitch_net::MacAddr;
use vswitch_policy::Bindings;
use vswitch_sa::{Fingerprint, Inbound, Outbound, Spi};
use vswitch_vn::{Change, PeerId, PortId, TunnelId, VnId};

use super::demand::Terms;
use super::observe::{Observation, Outcome, Rehearsal};
use super::resolve::Unknown;
use super::sightings::Seen;
use super::snapshot::WorkerSnapshot;
use crate::dpdk::mapped::MappedCounters;
use crate::dpdk::mempool::Mempool;
use crate::dpdk::vhost::{VhostRx, VhostTx};

/// Number of a worker, from zero.
pub type WorkerId = u16;

/// One resolved next hop towards a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The underlay port it leads through.
    pub underlay: u16,
    /// Our MAC on that port.
    pub src_mac: MacAddr,
    /// The next hop's MAC.
    pub dst_mac: MacAddr,
    /// Our tunnel endpoint.
    pub src: IpAddr,
    /// The peer's tunnel endpoint.
    pub dst: IpAddr,
    /// IP MTU of the underlay port.
    pub mtu: u16,
}

/// A tenant or VLAN port as a worker needs to know it.
#[derive(Debug, Clone)]
pub struct PortSetup {
    /// Its id.
    pub id: PortId,
    /// Addresses placed on it; `None` admits any source (a VLAN).
    pub bindings: Option<Bindings>,
    /// Broadcast, unknown unicast and multicast frames per second: of a VLAN those that this
    /// worker admits, of a tenant those that all admit who receive from it.
    pub bum_rate: u64,
    /// Index of the device that carries its VLAN; `None` for a tenant.
    pub trunk: Option<u16>,
    /// 802.1Q VLAN identifier on that device.
    pub vid: u16,
}

/// A queue of a tenant, and the buffers that its packets are copied into: the port's own, so
/// that a guest whose packets pile up, or who makes huge ones, uses up only these.
pub struct TenantInput {
    /// Guest to switch.
    pub queue: VhostRx,
    /// The port's buffers.
    pub pool: Mempool,
}

/// An outbound SA and what belongs to it.
pub struct OutboundSetup {
    /// The tunnel whose packets it protects.
    pub tunnel: TunnelId,
    /// The SA.
    pub sa: Box<Outbound>,
    /// Outer UDP source port.
    pub source_port: u16,
    /// Reserved numbers left at which the worker asks for more.
    pub low_water: u64,
}

/// An inbound SA and what belongs to it.
pub struct InboundSetup {
    /// The tunnel whose packets it opens.
    pub tunnel: TunnelId,
    /// The SA.
    pub sa: Box<Inbound>,
    /// Where its highest sequence number is kept across restarts: table and slot.
    pub floor: Option<(Arc<MappedCounters>, usize)>,
}

/// Control → worker.
pub enum Command {
    /// Several commands, applied at one burst boundary.
    Transaction(Vec<Command>),
    /// Changes of the forwarding tables, already validated against the master copy.
    Tables(Arc<[Change]>),
    /// Adds or replaces a port.
    Port(Box<PortSetup>),
    /// Removes a port; its queues come back retired.
    RemovePort(PortId),
    /// A tenant's queues that this worker owns from now on (either may be absent), and the
    /// worker to which packets go for which this one has no queue.
    Attach {
        /// The port.
        port: PortId,
        /// Guest to switch.
        rx: Vec<TenantInput>,
        /// Switch to guest.
        tx: Option<VhostTx>,
        /// Who transmits if `tx` is absent.
        via: WorkerId,
        /// Workers that receive from the port: they share its rate.
        receivers: u16,
    },
    /// The tenant's device is gone; its queues come back retired.
    Detach(PortId),
    /// The next hops of a peer, in a fixed order; empty while unresolved.
    Paths(PeerId, Arc<[Path]>),
    /// Installs or replaces the outbound SA of a tunnel.
    InstallOutbound(Box<OutboundSetup>),
    /// Removes it.
    RemoveOutbound(TunnelId),
    /// The SA that a tunnel on demand had came to a hard limit: frames that wait in vain for another
    /// are dropped for that, until there is one.
    Limit(TunnelId),
    /// The worker that has an outbound SA for a tunnel, for those that have none.
    OutboundOwner(TunnelId, Option<WorkerId>),
    /// More sequence numbers of a tunnel's manual key.
    Reserved {
        /// The tunnel that asked.
        tunnel: TunnelId,
        /// The key they belong to: an SA with another key must not take them.
        key: Fingerprint,
        /// Exclusive end of what is reserved.
        until: u64,
    },
    /// Keys are made on demand, on these terms; `None`: there are manual ones only.
    Terms(Option<Terms>),
    /// The keys of a tunnel are made on demand.
    OnDemand(TunnelId),
    /// Installs or replaces an inbound SA.
    InstallInbound(Box<InboundSetup>),
    /// Removes it.
    RemoveInbound(Spi),
    /// The worker that owns an inbound SA (to all workers), or nobody.
    InboundOwner(Spi, Option<WorkerId>),
    /// A remote MAC that another worker learned.
    Learned(VnId, MacAddr, vswitch_vn::Destination),
    /// Forget learned entries that are too old (sent about once a second).
    Housekeeping,
    /// Watch packets, from this boundary on.
    Observe(Box<Observation>),
    /// Watch them no more; the observation comes back retired.
    Unobserve(u8),
    /// Try what would happen to a packet, with no effect, and answer with
    /// [`Event::Rehearsed`].
    Rehearse(Box<Rehearsal>),
    /// Answer with [`Event::Snapshot`] at this boundary.
    Snapshot(u64),
    /// Answer with [`Event::Done`] when everything before has taken effect.
    Barrier(u64),
    /// Drop what is in the rings, report, and end.
    Stop,
}

/// Worker → control.
pub enum Event {
    /// The counters at a burst boundary.
    Snapshot(u64, Box<WorkerSnapshot>),
    /// Everything sent before this barrier has taken effect.
    Done(WorkerId, u64),
    /// What a dry run came to, by its id.
    Rehearsed(u64, Box<Outcome>),
    /// A manual key's reserved sequence numbers run low.
    ReservationLow(WorkerId, TunnelId, Spi),
    /// An SA passed its soft limit.
    SoftLimit(WorkerId, TunnelId, Spi),
    /// A frame for a tunnel whose keys are made on demand, and this worker has none.
    NeedKey(WorkerId, TunnelId),
    /// An SA has reached its hard limit and sends no more.
    HardLimit(WorkerId, TunnelId, Spi),
    /// An SA on demand has sealed nothing for a while.
    IdleSa(WorkerId, TunnelId, Spi),
    /// An inbound SA on demand has accepted nothing for a while.
    IdleInbound(WorkerId, TunnelId, Spi),
    /// An SA was not installed, for it does not fit its VN's protection; comes before the answer to
    /// any barrier sent behind the install. Whether it is an outbound one.
    Refused(WorkerId, Spi, bool),
    /// A tenant's frame for an address that nobody knows, of a network with an authority.
    Unknown(WorkerId, VnId, PortId, Unknown),
    /// Drops that somebody should know of, since the last such report.
    Seen(WorkerId, Box<Seen>),
    /// A source seen behind a tunnel or a learning port.
    Learned(WorkerId, VnId, MacAddr, vswitch_vn::Destination),
    /// Something a command replaced, to be freed by the control side.
    Retired(Box<dyn Any + Send>),
    /// The worker has ended; its last counters.
    Stopped(WorkerId, Box<WorkerSnapshot>),
}
