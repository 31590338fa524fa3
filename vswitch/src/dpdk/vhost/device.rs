//! A guest's network device while it runs, and its queues as workers use them.

use std::cell::Cell;
use std::ffi::c_int;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dpdk_sys as sys;

use super::registry::Socket;
use super::vrings::{Handles, Vrings};
use crate::dpdk::mbuf::Burst;
use crate::dpdk::mempool::Mempool;
use crate::dpdk::quiescence::Reader;

/// One life of a device; never used again in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceId(u64);

/// What a device and the handles on its queues share.
pub(super) struct Shared {
    id: DeviceId,
    vid: c_int,
    live: AtomicBool,
    vrings: Arc<Vrings>,
    handles: Handles,
    features: u64,
    mtu: Option<u16>,
    numa: Option<u32>,
    socket: Arc<Socket>,
}

impl Shared {
    /// Reads what librte_vhost knows of the device; from `new_device` only.
    pub(super) fn new(vid: c_int, vrings: Arc<Vrings>, socket: Arc<Socket>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (mut features, mut mtu) = (0, 0);
        // SAFETY: vid is the device that librte_vhost calls us for; out-parameters.
        let (mtu_known, numa) = unsafe {
            sys::rte_vhost_get_negotiated_features(vid, &mut features);
            (
                sys::rte_vhost_get_mtu(vid, &mut mtu) == 0,
                sys::rte_vhost_get_numa_node(vid),
            )
        };
        socket.device_made();
        // Who gets the device looks at all of them.
        vrings.looks();
        Shared {
            id: DeviceId(NEXT.fetch_add(1, Ordering::Relaxed)),
            vid,
            live: AtomicBool::new(true),
            handles: Handles::new(vrings.len()),
            vrings,
            features,
            mtu: (mtu_known && mtu != 0).then_some(mtu),
            numa: u32::try_from(numa).ok(),
            socket,
        }
    }

    pub(super) fn id(&self) -> DeviceId {
        self.id
    }

    /// The first step of a teardown; the caller synchronizes next.
    pub(super) fn publish_gone(&self) {
        self.live.store(false, Ordering::Release);
    }

    /// Whether this worker may go into librte_vhost for this virtqueue now. If so, the device
    /// stays until the worker's next burst boundary.
    #[inline]
    fn usable(&self, vring: u16, reader: &Reader) -> bool {
        // A reader of another domain would not hold a teardown up.
        reader.is_of(&self.socket.domain)
            && self.live.load(Ordering::Acquire)
            && self.vrings.get(vring)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.socket.device_dropped();
    }
}

/// A guest's device that came up. Control holds it, workers hold its queues; after
/// [`super::VhostEvent::Down`] both are to be dropped.
#[derive(Clone)]
pub struct Device(Arc<Shared>);

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("id", &self.0.id)
            .field("vid", &self.0.vid)
            .field("features", &format_args!("{:#x}", self.0.features))
            .field("mtu", &self.0.mtu)
            .finish()
    }
}

impl Device {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Device(shared)
    }

    /// Which one it is.
    pub fn id(&self) -> DeviceId {
        self.0.id
    }

    /// Whether it is still there.
    pub fn is_live(&self) -> bool {
        self.0.live.load(Ordering::Acquire)
    }

    /// Queue pairs of the port; how many the guest uses is in [`Self::enabled`].
    pub fn queue_pairs(&self) -> u16 {
        // Made from a u16 of pairs.
        (self.0.vrings.len() / 2) as u16
    }

    /// By pair: is the guest's transmit queue (ours to receive from), is its receive queue
    /// enabled?
    pub fn enabled(&self) -> Vec<(bool, bool)> {
        self.0.vrings.looks();
        self.0.vrings.pairs()
    }

    /// The guest's transmit queue of a pair, if nobody has it.
    pub fn take_rx(&self, pair: u16) -> Option<VhostRx> {
        let vring = pair.checked_mul(2)?.checked_add(1)?;
        let shared = self.0.handles.take(vring).then(|| Arc::clone(&self.0))?;
        Some(VhostRx {
            shared,
            vring,
            one_thread: PhantomData,
        })
    }

    /// The guest's receive queue of a pair, if nobody has it.
    pub fn take_tx(&self, pair: u16) -> Option<VhostTx> {
        let vring = pair.checked_mul(2)?;
        let shared = self.0.handles.take(vring).then(|| Arc::clone(&self.0))?;
        Some(VhostTx {
            shared,
            vring,
            one_thread: PhantomData,
        })
    }

    /// All pairs whose queues are both free.
    pub fn queues(&self) -> Vec<(VhostRx, VhostTx)> {
        let pairs = 0..self.queue_pairs();
        pairs
            .filter_map(|pair| Some((self.take_rx(pair)?, self.take_tx(pair)?)))
            .collect()
    }

    /// Cuts the frontend off; [`super::VhostEvent::Down`] and a refusal follow.
    pub fn cut_off(&self, reason: super::Refusal) {
        if self.is_live() {
            super::callbacks::cut(self.0.vid, reason);
        }
    }

    /// Virtio feature bits as negotiated (`VIRTIO_*`, VIRTIO 1.1 sections 5.1.3 and 6).
    pub fn features(&self) -> u64 {
        self.0.features
    }

    /// The MTU that the guest was told (`host_mtu`), if it was told one.
    pub fn mtu(&self) -> Option<u16> {
        self.0.mtu
    }

    /// The NUMA node of the guest's memory, if known.
    pub fn numa_node(&self) -> Option<u32> {
        self.0.numa
    }
}

/// From guest to switch: one virtqueue, with one owner. Dropping it frees it for another.
pub struct VhostRx {
    shared: Arc<Shared>,
    vring: u16,
    one_thread: PhantomData<Cell<()>>,
}

/// From switch to guest: one virtqueue, with one owner. Dropping it frees it for another.
pub struct VhostTx {
    shared: Arc<Shared>,
    vring: u16,
    one_thread: PhantomData<Cell<()>>,
}

impl VhostRx {
    /// The device it belongs to.
    pub fn device(&self) -> DeviceId {
        self.shared.id
    }

    /// Its pair.
    pub fn pair(&self) -> u16 {
        self.vring / 2
    }

    /// Adds what the guest sent to the burst, as much as there is room for, copied into
    /// buffers of `pool`, and says how many packets. Guests may mark packets as larger
    /// segments than they negotiated, so their size is the caller's to check. Nothing once
    /// the device is gone, or while the guest has the queue disabled.
    #[inline]
    pub fn receive(&mut self, reader: &Reader, pool: &Mempool, burst: &mut Burst) -> usize {
        let (held, room) = (burst.len(), burst.remaining_capacity());
        // 22.11 counts below zero if asked for none while it has a RARP to announce.
        if room == 0 || !self.shared.usable(self.vring, reader) {
            return 0;
        }
        // SAFETY: `usable` says that librte_vhost keeps the device until this worker's next
        // boundary, which is not within this call. Mbuf is a transparent pointer, there are
        // `room` free slots behind the `held` ones, and the call fills at most those with
        // buffers that nobody else has.
        unsafe {
            let slots = burst.as_mut_ptr().add(held).cast::<*mut sys::rte_mbuf>();
            let got = sys::rte_vhost_dequeue_burst(
                self.shared.vid,
                self.vring,
                pool.as_ptr(),
                slots,
                room as u16,
            );
            let got = usize::from(got).min(room);
            burst.set_len(held + got);
            got
        }
    }
}

impl VhostTx {
    /// The device it belongs to.
    pub fn device(&self) -> DeviceId {
        self.shared.id
    }

    /// Its pair.
    pub fn pair(&self) -> u16 {
        self.vring / 2
    }

    /// Copies packets to the guest, frees those and takes them out of the burst, and says
    /// how many. Refused ones stay, in order: the guest has no room, the first one is larger
    /// than the buffers it gave, or the device is gone. So do not retry without end.
    #[inline]
    pub fn send(&mut self, reader: &Reader, burst: &mut Burst) -> usize {
        let held = burst.len();
        if held == 0 || !self.shared.usable(self.vring, reader) {
            return 0;
        }
        // SAFETY: the device stays, as in `receive`. Mbuf is a transparent pointer; the call
        // only reads the `held` packets. The first `sent` are then freed, and the rest moved
        // to their place before the length says so: each packet has one owner throughout.
        unsafe {
            let pkts = burst.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            let sent = sys::rte_vhost_enqueue_burst(self.shared.vid, self.vring, pkts, held as u16);
            let sent = usize::from(sent).min(held);
            if sent > 0 {
                burst.set_len(0);
                sys::rte_pktmbuf_free_bulk(pkts, sent as u32);
                ptr::copy(pkts.add(sent), pkts, held - sent);
                burst.set_len(held - sent);
            }
            sent
        }
    }
}

impl Drop for VhostRx {
    fn drop(&mut self) {
        self.shared.handles.give_back(self.vring);
    }
}

impl Drop for VhostTx {
    fn drop(&mut self) {
        self.shared.handles.give_back(self.vring);
    }
}
