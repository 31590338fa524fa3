//! One worker's copy of everything it forwards by, and the questions it answers.

use std::collections::HashMap;
use std::net::IpAddr;

use vswitch_net::{MacAddr, Vni};

use crate::change::{Change, ChangeError};
use crate::draft::Draft;
use crate::fdb::{Fdb, Key};
use crate::hash::KeyedHash;
use crate::holders::Holders;
use crate::ids::{Destination, PeerId, PortId, TunnelId, VnId};
use crate::model::{Mapping, Peer, Port, Tunnel, Vn};

pub(crate) type Map<K, V> = HashMap<K, V, KeyedHash>;

/// What one worker needs to know to forward. See the crate's text.
///
/// Cloning gives an independent copy. Two are equal if they know the same, learned entries
/// included.
#[derive(Clone, Debug)]
pub struct Tables {
    pub(crate) vns: Vec<Option<Vn>>,
    pub(crate) ports: Vec<Option<Port>>,
    pub(crate) peers: Vec<Option<Peer>>,
    pub(crate) tunnels: Vec<Option<Tunnel>>,
    pub(crate) fdb: Fdb,
    pub(crate) mappings: Map<Key, Mapping>,
    /// Follows `mappings` and says nothing of its own.
    pub(crate) holders: Holders,
    pub(crate) vnis: Map<Vni, VnId>,
    pub(crate) addresses: Map<IpAddr, PeerId>,
    pub(crate) pairs: Map<(VnId, PeerId), TunnelId>,
    pub(crate) expire_cursor: usize,
    pub(crate) changes: u64,
}

fn get<T>(list: &[Option<T>], index: usize) -> Option<&T> {
    list.get(index).and_then(Option::as_ref)
}

impl Tables {
    /// The most mappings there may be.
    pub const MAX_MAPPINGS: usize = 1 << 22;

    /// Empty tables. The seed is random and secret, for instance another one per worker.
    pub fn new(seed: u64) -> Self {
        // The maps get secrets of their own, so that nothing is learned from one about another.
        let map = |n: u64| KeyedHash::new(seed ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self {
            vns: Vec::new(),
            ports: Vec::new(),
            peers: Vec::new(),
            tunnels: Vec::new(),
            fdb: Fdb::new(seed),
            mappings: Map::with_hasher(map(1)),
            holders: Holders::new(map(5)),
            vnis: Map::with_hasher(map(2)),
            addresses: Map::with_hasher(map(3)),
            pairs: Map::with_hasher(map(4)),
            expire_cursor: 0,
            changes: 0,
        }
    }

    /// How many changes were applied: while it stays the same, so do networks, ports, peers, tunnels and
    /// mappings (learned entries come and go). A clone goes on counting by itself.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A virtual network.
    #[inline]
    pub fn vn(&self, id: VnId) -> Option<&Vn> {
        get(&self.vns, id.index())
    }

    /// An attachment.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        get(&self.ports, id.index())
    }

    /// Another edge.
    #[inline]
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        get(&self.peers, id.index())
    }

    /// A network at a peer.
    #[inline]
    pub fn tunnel(&self, id: TunnelId) -> Option<&Tunnel> {
        get(&self.tunnels, id.index())
    }

    /// All networks.
    pub fn vns(&self) -> impl Iterator<Item = (VnId, &Vn)> {
        (0..=u16::MAX).map(VnId).zip(&self.vns).filter_map(present)
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &Port)> {
        (0..=u16::MAX)
            .map(PortId)
            .zip(&self.ports)
            .filter_map(present)
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        (0..PeerId::LIMIT)
            .map(PeerId)
            .zip(&self.peers)
            .filter_map(present)
    }

    /// All tunnels.
    pub fn tunnels(&self) -> impl Iterator<Item = (TunnelId, &Tunnel)> {
        (0..TunnelId::LIMIT)
            .map(TunnelId)
            .zip(&self.tunnels)
            .filter_map(present)
    }

    /// All mappings, in no order.
    pub fn mappings(&self) -> impl Iterator<Item = (Key, &Mapping)> {
        self.mappings.iter().map(|(&key, mapping)| (key, mapping))
    }

    /// The network with this identifier on the wire.
    #[inline]
    pub fn vn_by_vni(&self, vni: Vni) -> Option<VnId> {
        self.vnis.get(&vni).copied()
    }

    /// The peer with this tunnel endpoint address.
    #[inline]
    pub fn peer_by_address(&self, address: IpAddr) -> Option<PeerId> {
        self.addresses.get(&address).copied()
    }

    /// The tunnel of a network to a peer.
    #[inline]
    pub fn tunnel_between(&self, vn: VnId, peer: PeerId) -> Option<TunnelId> {
        self.pairs.get(&(vn, peer)).copied()
    }

    /// The forwarding database, for looking.
    #[inline]
    pub const fn fdb(&self) -> &Fdb {
        &self.fdb
    }

    /// Where a frame to `mac` goes.
    #[inline]
    pub fn lookup(&self, vn: VnId, mac: MacAddr) -> Option<Destination> {
        self.fdb.lookup(Key::new(vn, mac))
    }

    /// [`Fdb::lookup_burst`].
    #[inline]
    pub fn lookup_burst(&self, keys: &[Key], out: &mut [Option<Destination>]) {
        self.fdb.lookup_burst(keys, out);
    }

    /// What the control side said about an address.
    pub fn mapping(&self, vn: VnId, mac: MacAddr) -> Option<&Mapping> {
        self.mappings.get(&Key::new(vn, mac))
    }

    /// Where a source address belongs, by mapping or as learned.
    pub fn source_of(&self, vn: VnId, mac: MacAddr) -> Option<Destination> {
        self.fdb.lookup(Key::new(vn, mac))
    }

    /// Whether the changes can be applied, in this order, all of them.
    ///
    /// What is learned has no influence, so the answer holds for every worker that went
    /// through the same changes.
    ///
    /// # Errors
    /// The first change that cannot be applied after those before it.
    pub fn validate(&self, changes: &[Change]) -> Result<(), ChangeError> {
        let mut draft = Draft::new(self);
        for (index, change) in changes.iter().enumerate() {
            draft
                .apply(change)
                .map_err(|refusal| ChangeError { index, refusal })?;
        }
        Ok(())
    }
}

fn present<I, T>((id, item): (I, &Option<T>)) -> Option<(I, &T)> {
    item.as_ref().map(|item| (id, item))
}

impl PartialEq for Tables {
    fn eq(&self, other: &Self) -> bool {
        self.vns().eq(other.vns())
            && self.ports().eq(other.ports())
            && self.peers().eq(other.peers())
            && self.tunnels().eq(other.tunnels())
            && self.mappings == other.mappings
            && self.vnis == other.vnis
            && self.addresses == other.addresses
            && self.pairs == other.pairs
            && self.fdb == other.fdb
    }
}
