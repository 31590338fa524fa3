//! Hand-off of packets from one worker to another: a bounded ring with one producer and
//! one consumer. Neither ever waits for the other.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys as sys;

use super::eal::{EalError, Hold, hold};
use super::error::{Errno, NulByte, cstring, socket_id};
use super::mbuf::{Burst, free_burst, grown, room, taken};

/// Why a ring was not made.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// EAL is not there.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// The name cannot be passed.
    #[error("name of a ring: {0}")]
    Name(#[from] NulByte),
    /// A ring of this name exists.
    #[error("a ring named {0:?} exists already")]
    NameTaken(String),
    /// DPDK's reason.
    #[error("ring {name:?} of {capacity} packets: {errno}")]
    Create {
        /// The ring.
        name: String,
        /// What it should hold.
        capacity: u32,
        /// Why not.
        errno: Errno,
    },
}

/// The sending end. It has one owner, which may be any thread.
#[derive(Debug)]
pub struct Producer(Arc<Ring>, PhantomData<Cell<()>>);

/// The receiving end. It has one owner, which may be any thread.
#[derive(Debug)]
pub struct Consumer(Arc<Ring>, PhantomData<Cell<()>>);

/// The ring itself; its packets go back to their pools with the last owner.
#[derive(Debug)]
pub(in crate::dpdk) struct Ring {
    raw: NonNull<sys::rte_ring>,
    _hold: Hold,
}

// SAFETY: one producer and one consumer at a time, which the two ends' `&mut` ensures
// (or the port that holds the other end); nothing in a ring is bound to a thread.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

/// Makes a ring for `capacity` packets, named uniquely, on a NUMA node if one is named.
pub fn channel(
    name: &str,
    capacity: u32,
    numa: Option<u32>,
) -> Result<(Producer, Consumer), RingError> {
    let ring = Ring::create(name, capacity, numa)?;
    Ok((Producer::over(ring.clone()), Consumer::over(ring)))
}

impl Ring {
    pub(in crate::dpdk) fn create(
        name: &str,
        capacity: u32,
        numa: Option<u32>,
    ) -> Result<Arc<Ring>, RingError> {
        let hold = hold()?;
        let c_name = cstring(name)?;
        let flags = sys::RING_F_SP_ENQ | sys::RING_F_SC_DEQ | sys::RING_F_EXACT_SZ;
        // SAFETY: EAL runs (`hold`); the name lives through the call.
        let raw = unsafe {
            sys::rte_ring_create(c_name.as_ptr(), capacity.max(1), socket_id(numa), flags)
        };
        match NonNull::new(raw) {
            Some(raw) => Ok(Arc::new(Ring { raw, _hold: hold })),
            None => Err(match Errno::last() {
                Errno(libc::EEXIST) => RingError::NameTaken(name.to_owned()),
                errno => RingError::Create {
                    name: name.to_owned(),
                    capacity,
                    errno,
                },
            }),
        }
    }

    pub(in crate::dpdk) fn as_ptr(&self) -> *mut sys::rte_ring {
        self.raw.as_ptr()
    }

    fn len(&self) -> usize {
        // SAFETY: the ring lives; reads two counters.
        unsafe { sys::vs_ring_count(self.as_ptr()) as usize }
    }

    fn capacity(&self) -> usize {
        // SAFETY: the ring lives.
        unsafe { sys::vs_ring_capacity(self.as_ptr()) as usize }
    }

    /// # Safety
    /// No one else takes from the ring at the same time.
    unsafe fn take(&self, burst: &mut Burst) -> usize {
        let (slots, free) = room(burst);
        // SAFETY: the burst has `free` slots; a ring of ours holds owned chains only.
        let n = unsafe { sys::vs_ring_dequeue_burst(self.as_ptr(), slots.cast(), free.into()) };
        let n = n as usize;
        // SAFETY: the call moved n chains out of the ring into the slots.
        unsafe { grown(burst, n) };
        n
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut burst = Burst::new();
        // SAFETY: the last owner: both ends are gone.
        while unsafe { self.take(&mut burst) } > 0 {
            free_burst(&mut burst);
        }
        // SAFETY: empty, and nobody knows it any more.
        unsafe { sys::rte_ring_free(self.as_ptr()) }
    }
}

impl Producer {
    pub(in crate::dpdk) fn over(ring: Arc<Ring>) -> Self {
        Producer(ring, PhantomData)
    }

    /// Moves packets from the front of the burst into the ring and says how many; what did
    /// not fit stays in the burst, in order.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        if burst.is_empty() {
            return 0;
        }
        let (packets, n) = (burst.as_mut_ptr(), burst.len() as u32);
        // SAFETY: n pointers to owned chains; we are the only producer.
        let sent =
            unsafe { sys::vs_ring_enqueue_burst(self.0.as_ptr(), packets.cast(), n) } as usize;
        // SAFETY: the ring owns the first `sent` of them now.
        unsafe { taken(burst, sent) };
        sent
    }

    /// Packets in the ring.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the ring holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Packets that fit.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl Consumer {
    pub(in crate::dpdk) fn over(ring: Arc<Ring>) -> Self {
        Consumer(ring, PhantomData)
    }

    /// Adds packets from the ring to the burst, as many as it has room for; says how many.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        // SAFETY: we are the only consumer.
        unsafe { self.0.take(burst) }
    }

    /// Whether the sending end is gone: what is in the ring now is the last.
    pub fn is_abandoned(&mut self) -> bool {
        // Also orders what the other end did last before what we do next.
        Arc::get_mut(&mut self.0).is_some()
    }

    /// Packets in the ring.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the ring holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Packets that fit.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}
