//! Pools of packet buffers. Running out is a value, never an abort.

use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys as sys;

use super::eal::{EalError, Hold, hold};
use super::error::{Errno, NulByte, cstring, socket_id};
use super::mbuf::{BURST, Burst, Mbuf, grown, room};

/// Bytes kept free before a packet's data in every buffer.
pub const HEADROOM: usize = sys::RTE_PKTMBUF_HEADROOM as usize;

/// Buffers that each lcore keeps for itself.
const CACHE: u32 = 256;

/// Why a pool was not made.
#[derive(Debug, thiserror::Error)]
pub enum MempoolError {
    /// EAL is not there.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// The name cannot be passed.
    #[error("name of a pool: {0}")]
    Name(#[from] NulByte),
    /// A pool of this name exists.
    #[error("a packet pool named {0:?} exists already")]
    NameTaken(String),
    /// Too long for DPDK.
    #[error("the pool name {0:?} is too long for DPDK")]
    NameTooLong(String),
    /// A buffer cannot be this large.
    #[error("a buffer of {data_room} bytes exceeds DPDK's limit of {limit}")]
    DataRoom {
        /// What was asked for, without headroom.
        data_room: usize,
        /// What is possible, without headroom.
        limit: usize,
    },
    /// Not enough memory of DPDK.
    #[error(
        "no memory for the pool {name:?} of {mbufs} buffers, {mib} MiB{node}: \
         raise DPDK's memory (`eal.memory-mb`) or lower the number of buffers (`mempool.mbufs`)"
    )]
    NoMemory {
        /// The pool.
        name: String,
        /// Buffers.
        mbufs: u32,
        /// Size of all of them.
        mib: u64,
        /// Where, in words.
        node: String,
    },
    /// Anything else.
    #[error("pool {name:?}: {errno}")]
    Create {
        /// The pool.
        name: String,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// A pool of buffers of one size. Clones share it; it is freed with the last clone if all
/// buffers are back by then, and kept (with a line in the log) if not.
#[derive(Debug, Clone)]
pub struct Mempool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    raw: NonNull<sys::rte_mempool>,
    name: String,
    capacity: usize,
    data_room: usize,
    hold: Hold,
}

// SAFETY: DPDK's pools may be used from any thread at once.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Mempool {
    /// Makes a pool of `mbufs` buffers with `data_room` bytes for data behind
    /// [`HEADROOM`], on a NUMA node if one is named. `shared_cores`: threads that use the
    /// pool share cores, so none may spin while another is preempted (DPDK's RTS rings).
    pub fn create(
        name: &str,
        mbufs: u32,
        data_room: usize,
        numa: Option<u32>,
        shared_cores: bool,
    ) -> Result<Mempool, MempoolError> {
        // DPDK wants 1.5 times the cache to be no more than the pool.
        let cache = CACHE.min(mbufs / 8);
        Self::with_cache(name, mbufs, data_room, numa, shared_cores, cache)
    }

    /// Makes a pool as [`Self::create`] does that `threads` threads will use, so small that
    /// full caches would leave nothing: at most 3/8 of the buffers can rest in caches.
    pub fn create_small(
        name: &str,
        mbufs: u32,
        data_room: usize,
        numa: Option<u32>,
        shared_cores: bool,
        threads: u32,
    ) -> Result<Mempool, MempoolError> {
        // DPDK lets a cache grow to 1.5 times its size.
        let cache = CACHE.min(mbufs / threads.max(1).saturating_mul(4).max(8));
        Self::with_cache(name, mbufs, data_room, numa, shared_cores, cache)
    }

    fn with_cache(
        name: &str,
        mbufs: u32,
        data_room: usize,
        numa: Option<u32>,
        shared_cores: bool,
        cache: u32,
    ) -> Result<Mempool, MempoolError> {
        let hold = hold()?;
        let c_name = cstring(name)?;
        let limit = usize::from(u16::MAX) - HEADROOM;
        let room = data_room
            .checked_add(HEADROOM)
            .and_then(|r| u16::try_from(r).ok())
            .ok_or(MempoolError::DataRoom { data_room, limit })?;
        let ops = if shared_cores {
            c"ring_mt_rts".as_ptr()
        } else {
            std::ptr::null()
        };
        // SAFETY: EAL runs (`hold`); the strings live through the call.
        let raw = unsafe {
            sys::rte_pktmbuf_pool_create_by_ops(
                c_name.as_ptr(),
                mbufs,
                cache,
                0,
                room,
                socket_id(numa),
                ops,
            )
        };
        let Some(raw) = NonNull::new(raw) else {
            return Err(failure(name, mbufs, room, numa, Errno::last()));
        };
        let capacity = mbufs as usize;
        Ok(Mempool(Arc::new(Pool {
            raw,
            name: name.to_owned(),
            capacity,
            data_room,
            hold,
        })))
    }

    pub(in crate::dpdk) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.0.raw.as_ptr()
    }

    /// One empty buffer, its headroom free.
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pool lives, and there is room for one pointer.
        let err = unsafe { sys::vs_pktmbuf_alloc_bulk(self.as_ptr(), &mut raw, 1) };
        let raw = if err == 0 {
            NonNull::new(raw)?
        } else {
            return None;
        };
        // SAFETY: fresh from the pool.
        Some(unsafe { Mbuf::from_raw(raw) })
    }

    /// Adds up to `n` empty buffers to a burst, as many as the burst and the pool have room
    /// for, and says how many.
    pub fn alloc_burst(&self, burst: &mut Burst, n: usize) -> usize {
        let mut missing = n.min(burst.remaining_capacity()).min(BURST);
        let (mut got, mut step) = (0, missing);
        while missing > 0 && step > 0 {
            let (slots, _) = room(burst);
            // SAFETY: the pool lives; the burst has room for `missing`, and step is less.
            if unsafe { sys::vs_pktmbuf_alloc_bulk(self.as_ptr(), slots, step as u32) } == 0 {
                // SAFETY: the call filled `step` slots with fresh buffers.
                unsafe { grown(burst, step) };
                got += step;
                missing -= step;
                step = step.min(missing);
            } else {
                // All or nothing to DPDK: near exhaustion take what there is by halves.
                step /= 2;
            }
        }
        got
    }

    /// Buffers that are out. Walks all caches: for people, not for the datapath.
    pub fn in_use(&self) -> usize {
        self.capacity().saturating_sub(self.available())
    }

    /// Buffers that can be had, those in the caches of other lcores included.
    pub fn available(&self) -> usize {
        // SAFETY: the pool lives.
        unsafe { sys::rte_mempool_avail_count(self.as_ptr()) as usize }
    }

    /// Free buffers that rest in the caches of threads, where others do not get at them.
    pub fn cached(&self) -> usize {
        // SAFETY: the pool lives, and these fields do not change after its making.
        let pool = unsafe { self.0.raw.as_ref() };
        if pool.cache_size == 0 {
            return 0;
        }
        let lengths = (0..sys::RTE_MAX_LCORE as usize).map(|lcore| {
            // SAFETY: there is a cache for each lcore. Its owner may change the length
            // meanwhile, which DPDK's own count lives with too: hence volatile, by pointer.
            unsafe { (&raw const (*pool.local_cache.add(lcore)).len).read_volatile() as usize }
        });
        lengths.sum()
    }

    /// Bytes of all buffers with what DPDK puts before and behind them.
    pub fn memory_bytes(&self) -> usize {
        // SAFETY: the pool lives, and these fields do not change after its making.
        let pool = unsafe { self.0.raw.as_ref() };
        let one = pool.header_size as usize + pool.elt_size as usize + pool.trailer_size as usize;
        one * self.capacity()
    }

    /// The NUMA node it was asked for; `None` where any would do.
    pub fn numa(&self) -> Option<u32> {
        // SAFETY: as in `memory_bytes`.
        u32::try_from(unsafe { self.0.raw.as_ref() }.socket_id).ok()
    }

    /// Buffers in all.
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Bytes for data in one buffer, behind [`HEADROOM`].
    pub fn data_room(&self) -> usize {
        self.0.data_room
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the pool lives.
        let available = unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) } as usize;
        if available < self.capacity {
            let out = self.capacity - available;
            tracing::warn!(pool = %self.name, out, "buffers are still out: the pool's memory is kept");
            // They may come back at any time, so neither the pool nor EAL may go.
            std::mem::forget(self.hold.clone());
            return;
        }
        // SAFETY: no handle is left and every buffer is back.
        unsafe { sys::rte_mempool_free(self.raw.as_ptr()) }
    }
}

fn failure(name: &str, mbufs: u32, room: u16, numa: Option<u32>, errno: Errno) -> MempoolError {
    let name = name.to_owned();
    match errno.0 {
        libc::EEXIST => MempoolError::NameTaken(name),
        libc::ENAMETOOLONG => MempoolError::NameTooLong(name),
        libc::ENOMEM => {
            // Buffer, its rte_mbuf and the pool's own header.
            let mib = (u64::from(mbufs) * (u64::from(room) + 192)).div_ceil(1 << 20);
            let node = numa.map_or(String::new(), |n| format!(" on NUMA node {n}"));
            MempoolError::NoMemory {
                name,
                mbufs,
                mib,
                node,
            }
        }
        _ => MempoolError::Create { name, errno },
    }
}
