//! A worker's security associations: those it owns, and who owns the others.

use std::sync::Arc;

use slab::Slab;
use vswitch_aead::Backend;
use vswitch_sa::{Inbound, KeyMaterial, Outbound, SALT_LEN, Spi};
use vswitch_vn::TunnelId;
use zeroize::Zeroizing;

use super::command::{InboundSetup, OutboundSetup, WorkerId};
use super::decap::Known;
use super::demand::Quiet;
use super::snapshot::SaSnapshot;
use super::spis::{Located, SpiTable};
use crate::dpdk::cache;
use crate::dpdk::mapped::MappedCounters;

/// Inbound SAs up to which asking for them beforehand costs more than it saves.
const FEW: usize = 32;

/// An outbound SA with what the datapath keeps beside it.
pub struct OutboundSlot {
    /// The tunnel it protects.
    pub tunnel: TunnelId,
    /// The SA.
    pub sa: Box<Outbound>,
    /// Outer UDP source port.
    pub source_port: u16,
    /// Reserved numbers left at which it asks for more.
    pub low_water: u64,
    /// Whether more sequence numbers have been asked for.
    pub asked: bool,
}

/// An inbound SA with what the datapath keeps beside it: all that a packet needs of it but window and
/// key, in lines of its own that can be asked for at once.
#[repr(align(64))]
pub struct InboundSlot {
    /// The tunnel it belongs to.
    pub tunnel: TunnelId,
    /// The SA: here and not behind a pointer, which would be one more wait for memory.
    pub sa: Inbound,
    /// What the tables said of it last.
    pub known: Option<Known>,
    /// Packets refused as replayed or too old.
    pub replayed: u64,
    /// Packets that failed authentication.
    pub auth_failed: u64,
    /// Whether it is used.
    pub quiet: Quiet,
    floor: Option<(Arc<MappedCounters>, usize)>,
}

impl InboundSlot {
    /// Writes the highest accepted number where it survives the process.
    #[inline]
    pub fn keep_floor(&self) {
        if let Some((table, slot)) = &self.floor {
            let _ = table.store(*slot, self.sa.highest());
        }
    }
}

/// All SAs a worker knows of.
pub struct SaTable {
    outbound: Slab<OutboundSlot>,
    /// Not a slab, of which one cannot tell where a place is without reading it.
    inbound: Vec<Option<InboundSlot>>,
    /// Places without an SA.
    vacant: Vec<usize>,
    spis: SpiTable,
    /// The real outbound SAs while a dry run uses others in their places.
    set_aside: Vec<(usize, Box<Outbound>)>,
}

impl SaTable {
    /// Empty.
    pub fn new(seed: u64) -> Self {
        SaTable {
            outbound: Slab::new(),
            inbound: Vec::new(),
            vacant: Vec::new(),
            spis: SpiTable::new(seed),
            set_aside: Vec::new(),
        }
    }

    /// Who opens packets of this SPI.
    #[inline]
    pub fn locate(&self, spi: u32) -> Option<Located> {
        self.spis.get(spi)
    }

    /// Asks for what [`Self::locate`] will read.
    #[inline(always)]
    pub fn prefetch_spi(&self, spi: u32) {
        self.spis.prefetch(spi);
    }

    /// Asks for an inbound SA.
    #[inline(always)]
    pub fn prefetch_inbound(&self, slot: usize) {
        if let Some(place) = self.inbound.get(slot) {
            cache::prefetch(place);
        }
    }

    /// The outbound SA in a slot.
    #[inline]
    pub fn outbound(&self, slot: usize) -> Option<&OutboundSlot> {
        self.outbound.get(slot)
    }

    /// The outbound SA in a slot, to count on.
    #[inline]
    pub fn outbound_mut(&mut self, slot: usize) -> Option<&mut OutboundSlot> {
        self.outbound.get_mut(slot)
    }

    /// Reads what a burst will need of these outbound SAs, level by level: loads of one level do
    /// not wait for one another, so their cache misses overlap, which they do not while one
    /// frame after the other is worked on.
    pub fn touch_outbound(&self, slots: impl Iterator<Item = usize> + Clone) {
        let mut seen = 0;
        for slot in slots.clone().filter_map(|slot| self.outbound(slot)) {
            seen ^= u64::from(slot.source_port);
        }
        for slot in slots.filter_map(|slot| self.outbound(slot)) {
            seen ^= slot.sa.touch();
        }
        std::hint::black_box(seen);
    }

    /// Puts an SA with a throw-away key in the place of the one in a slot, until
    /// [`Self::end_rehearsal`]. `None`: that is not possible, and the real one must not be
    /// used.
    pub fn rehearse_outbound(
        &mut self,
        slot: usize,
        secret: &[u8],
        backend: &dyn Backend,
    ) -> Option<()> {
        if self.set_aside.iter().any(|(aside, _)| *aside == slot) {
            return Some(());
        }
        let out = self.outbound.get_mut(slot)?;
        let algorithm = out.sa.algorithm();
        let len = algorithm.key_len() + SALT_LEN;
        let mut bytes = Zeroizing::new(secret.get(..len)?.to_vec());
        // Each SA of the dry run its own salt: copies of one frame share a number, no nonce.
        for (byte, of_slot) in bytes.iter_mut().rev().zip((slot as u32).to_le_bytes()) {
            *byte ^= of_slot;
        }
        let material = KeyMaterial::from_bytes(backend, algorithm, &bytes).ok()?;
        let stand_in = Box::new(out.sa.rehearsal(material).ok()?);
        let real = std::mem::replace(&mut out.sa, stand_in);
        self.set_aside.push((slot, real));
        Some(())
    }

    /// Puts the real outbound SAs back.
    pub fn end_rehearsal(&mut self) {
        for (slot, real) in self.set_aside.drain(..) {
            if let Some(out) = self.outbound.get_mut(slot) {
                out.sa = real;
            }
        }
    }

    /// The inbound SA in a slot.
    #[inline]
    pub fn inbound(&self, slot: usize) -> Option<&InboundSlot> {
        self.inbound.get(slot)?.as_ref()
    }

    /// Whether there are more inbound SAs than the first-level cache has room for, so that it pays to
    /// ask for them beforehand.
    #[inline]
    pub fn are_many(&self) -> bool {
        self.inbound.len() - self.vacant.len() > FEW
    }

    /// The inbound SA in a slot, to count on.
    #[inline]
    pub fn inbound_mut(&mut self, slot: usize) -> Option<&mut InboundSlot> {
        self.inbound.get_mut(slot)?.as_mut()
    }

    /// Slots of inbound SAs are below this.
    pub fn inbound_places(&self) -> usize {
        self.inbound.len()
    }

    /// Stores an outbound SA and returns its slot.
    pub fn install_outbound(&mut self, setup: OutboundSetup) -> usize {
        let OutboundSetup {
            tunnel,
            sa,
            source_port,
            low_water,
        } = setup;
        let slot = OutboundSlot {
            tunnel,
            sa,
            source_port,
            low_water,
            asked: false,
        };
        self.outbound.insert(slot)
    }

    /// Takes the outbound SA of a slot out.
    pub fn remove_outbound(&mut self, slot: usize) -> Option<OutboundSlot> {
        self.outbound.try_remove(slot)
    }

    /// Stores an inbound SA; one with the same SPI is replaced and returned.
    pub fn install_inbound(&mut self, setup: InboundSetup) -> Option<InboundSlot> {
        let spi = setup.sa.spi();
        let old = self.remove_inbound(spi);
        let InboundSetup { tunnel, sa, floor } = setup;
        let slot = InboundSlot {
            tunnel,
            sa: *sa,
            known: None,
            replayed: 0,
            auth_failed: 0,
            quiet: Quiet::default(),
            floor,
        };
        let index = self.vacant.pop().unwrap_or(self.inbound.len());
        match self.inbound.get_mut(index) {
            Some(place) => *place = Some(slot),
            None => self.inbound.push(Some(slot)),
        }
        self.spis.insert(spi.get(), Located::Mine(index));
        old
    }

    /// Takes an inbound SA of this worker out.
    pub fn remove_inbound(&mut self, spi: Spi) -> Option<InboundSlot> {
        let Some(Located::Mine(index)) = self.spis.get(spi.get()) else {
            return None;
        };
        self.spis.remove(spi.get());
        let slot = self.inbound.get_mut(index)?.take()?;
        self.vacant.push(index);
        Some(slot)
    }

    /// Notes who owns an inbound SA of another worker.
    pub fn set_owner(&mut self, spi: Spi, owner: Option<WorkerId>) {
        match owner {
            Some(worker) => self.spis.insert(spi.get(), Located::Colleague(worker)),
            None => self.spis.remove(spi.get()),
        }
    }

    /// SAs of this worker, and bytes of them with what is kept beside them, keys left out.
    pub fn usage(&self) -> (usize, usize) {
        let outbound = self.outbound.len();
        let windows = self.inbound.iter().flatten().map(|s| s.sa.heap_bytes());
        let bytes = outbound * (size_of::<OutboundSlot>() + size_of::<Outbound>())
            + self.inbound.len() * size_of::<Option<InboundSlot>>()
            + windows.sum::<usize>()
            + self.spis.memory_bytes();
        (outbound + self.inbound.iter().flatten().count(), bytes)
    }

    /// What `show sas` needs.
    pub fn snapshot(&self, worker: WorkerId) -> Vec<SaSnapshot> {
        let outbound = self.outbound.iter().map(|(_, slot)| SaSnapshot {
            worker,
            outbound: true,
            spi: slot.sa.spi().get(),
            tunnel: slot.tunnel,
            algorithm: slot.sa.algorithm().name(),
            sequence: slot.sa.next_seq(),
            reserved_until: Some(slot.sa.reserved_until()).filter(|until| *until != u64::MAX),
            blocks: slot.sa.blocks_used(),
            hard_limit: slot.sa.limits().hard,
            packets: slot.sa.counters().packets,
            bytes: slot.sa.counters().bytes,
            replayed: 0,
            auth_failed: 0,
        });
        let inbound = self.inbound.iter().flatten().map(|slot| SaSnapshot {
            worker,
            outbound: false,
            spi: slot.sa.spi().get(),
            tunnel: slot.tunnel,
            algorithm: slot.sa.algorithm().name(),
            sequence: slot.sa.highest(),
            reserved_until: None,
            blocks: 0,
            hard_limit: 0,
            packets: slot.sa.counters().packets,
            bytes: slot.sa.counters().bytes,
            replayed: slot.replayed,
            auth_failed: slot.auth_failed,
        });
        outbound.chain(inbound).collect()
    }
}
