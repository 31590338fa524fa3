//! Packet buffers whose ownership is in the type.
//!
//! An [`Mbuf`] is the only owner of its chain: dropping it returns every segment to its
//! pool, and handing a [`Burst`] to a transmit call moves what was taken out of the burst,
//! so a transmitted buffer cannot be touched again. This layer never makes a second
//! reference to a buffer (copies are deep), which is what makes `&mut` access sound.
//!
//! Fields are read through `sys::vs_mbuf`, whose offsets the shim asserts against
//! `rte_mbuf` at compile time, so accessors are plain loads and stores.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::slice;

use arrayvec::ArrayVec;
use dpdk_sys as sys;
use sys::vs_mbuf;

use super::mempool::Mempool;

/// Packets per burst: what one receive call asks for at most.
pub const BURST: usize = 32;

/// Segments of a packet at most, as made by [`Mbuf::append_segment`].
pub const MAX_SEGMENTS: usize = 128;

/// Up to [`BURST`] packets, owned.
pub type Burst = ArrayVec<Mbuf, BURST>;

/// An owned chain of one or more DPDK buffers holding one packet.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: the chain has one owner and no thread affinity; mempools are multi-thread safe.
unsafe impl Send for Mbuf {}

/// The packet does not fit into the room of its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room in the buffer")]
pub struct NoRoom;

impl Mbuf {
    /// Takes ownership of a chain.
    ///
    /// # Safety
    /// `raw` heads a valid chain with reference counts of one that nobody else uses.
    pub(in crate::dpdk) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Self {
        Mbuf(raw)
    }

    /// Gives ownership up to C.
    pub(in crate::dpdk) fn into_raw(self) -> NonNull<sys::rte_mbuf> {
        ManuallyDrop::new(self).0
    }

    #[inline(always)]
    fn raw(&self) -> &vs_mbuf {
        // SAFETY: self owns a valid chain for as long as it lives.
        unsafe { self.0.cast::<vs_mbuf>().as_ref() }
    }

    #[inline(always)]
    fn raw_mut(&mut self) -> &mut vs_mbuf {
        // SAFETY: as `raw`, and the borrow is exclusive.
        unsafe { self.0.cast::<vs_mbuf>().as_mut() }
    }

    /// The raw chain, for C calls that only borrow it.
    pub(in crate::dpdk) fn as_ptr(&self) -> *mut sys::rte_mbuf {
        self.0.as_ptr()
    }

    /// Which buffer heads the chain: the packet's own for as long as it lives, then another's.
    #[inline]
    pub fn buffer(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Bytes of the whole packet, all segments.
    #[inline]
    pub fn len(&self) -> usize {
        self.raw().pkt_len as usize
    }

    /// Whether the packet has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of segments, at least one.
    #[inline]
    pub fn segment_count(&self) -> usize {
        usize::from(self.raw().nb_segs)
    }

    /// Whether all bytes lie in the first segment.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.raw().nb_segs == 1
    }

    /// Bytes of the first segment.
    #[inline]
    pub fn head(&self) -> &[u8] {
        let m = self.raw();
        // SAFETY: data_off + data_len lies within the segment's buffer (DPDK's invariant,
        // kept by every method here), and self owns it.
        unsafe { slice::from_raw_parts(data(m), usize::from(m.data_len)) }
    }

    /// Bytes of the first segment, writable.
    #[inline]
    pub fn head_mut(&mut self) -> &mut [u8] {
        let m = self.raw_mut();
        // SAFETY: as `head`; the borrow is exclusive.
        unsafe { slice::from_raw_parts_mut(data(m), usize::from(m.data_len)) }
    }

    /// Every segment's bytes, in order.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> + Clone {
        // SAFETY: each segment of the chain is valid for as long as self is borrowed.
        std::iter::successors(Some(self.raw()), |m| unsafe { m.next.as_ref() }).map(|m| {
            // SAFETY: as `head`.
            unsafe { slice::from_raw_parts(data(m), usize::from(m.data_len)) }
        })
    }

    /// Every segment's bytes, in order, writable.
    pub fn segments_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let mut next = Some(self.0.cast::<vs_mbuf>());
        std::iter::from_fn(move || {
            // SAFETY: the chain is valid and exclusively borrowed for the iterator's life;
            // each segment is yielded once.
            let m = unsafe { next?.as_mut() };
            next = NonNull::new(m.next);
            // SAFETY: as `head_mut`; segments do not overlap.
            Some(unsafe { slice::from_raw_parts_mut(data(m), usize::from(m.data_len)) })
        })
    }

    /// Bytes free before the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.raw().data_off)
    }

    /// Bytes free behind the last segment's data.
    #[inline]
    pub fn tailroom(&self) -> usize {
        // SAFETY: `last` is a segment of the chain that self owns.
        let m = unsafe { self.last().as_ref() };
        usize::from(m.buf_len)
            .saturating_sub(usize::from(m.data_off))
            .saturating_sub(usize::from(m.data_len))
    }

    fn last(&self) -> NonNull<vs_mbuf> {
        let mut seg = self.0.cast::<vs_mbuf>();
        // SAFETY: walks the valid chain that self owns.
        while let Some(next) = NonNull::new(unsafe { seg.as_ref() }.next) {
            seg = next;
        }
        seg
    }

    /// Grows the packet by `n` bytes at its front and returns them (contents undefined).
    #[inline]
    pub fn prepend(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        let m = self.raw_mut();
        let n16 = u16::try_from(n).map_err(|_| NoRoom)?;
        m.data_off = m.data_off.checked_sub(n16).ok_or(NoRoom)?;
        m.data_len += n16;
        m.pkt_len += u32::from(n16);
        // SAFETY: the n bytes were headroom of the first segment and now are its data.
        Ok(unsafe { slice::from_raw_parts_mut(data(m), n) })
    }

    /// Grows the packet by `n` bytes at its end and returns them (contents undefined).
    #[inline]
    pub fn append(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        if n > self.tailroom() {
            return Err(NoRoom);
        }
        self.raw_mut().pkt_len += n as u32;
        let mut last = self.last();
        // SAFETY: a segment of our chain, exclusively borrowed through self.
        let m = unsafe { last.as_mut() };
        let old = usize::from(m.data_len);
        m.data_len += n as u16;
        // SAFETY: tailroom was checked, so old..old+n lies in the segment's buffer.
        Ok(unsafe { slice::from_raw_parts_mut(data(m).add(old), n) })
    }

    /// Whether the packet lies in one segment, whose buffer has room for `before` bytes at its
    /// front and `behind` at its end.
    #[inline(always)]
    pub fn has_room(&self, before: usize, behind: usize) -> bool {
        let m = self.raw();
        let (offset, len) = (usize::from(m.data_off), usize::from(m.data_len));
        m.nb_segs == 1 && before <= offset && offset + len + behind <= usize::from(m.buf_len)
    }

    /// Grows a packet in one segment by `before` bytes at its front and `behind` at its end
    /// (contents undefined), if its buffer has room for both; else nothing is changed.
    #[inline(always)]
    pub fn grow(&mut self, before: usize, behind: usize) -> Result<(), NoRoom> {
        if !self.has_room(before, behind) {
            return Err(NoRoom);
        }
        let m = self.raw_mut();
        let (offset, len) = (usize::from(m.data_off), usize::from(m.data_len));
        // All of it is within the buffer, whose length is 16 bits.
        m.data_off = (offset - before) as u16;
        m.data_len = (before + len + behind) as u16;
        m.pkt_len = u32::from(m.data_len);
        Ok(())
    }

    /// Removes `n` bytes from the front; all of them must lie in the first segment.
    #[inline]
    pub fn trim_front(&mut self, n: usize) -> Result<(), NoRoom> {
        let m = self.raw_mut();
        let n16 = u16::try_from(n).map_err(|_| NoRoom)?;
        m.data_len = m.data_len.checked_sub(n16).ok_or(NoRoom)?;
        m.data_off += n16;
        m.pkt_len -= u32::from(n16);
        Ok(())
    }

    /// Leaves bytes `start` to `end`. An `end` beyond the packet cuts nothing off there.
    ///
    /// # Errors
    /// When `start` is not within the first segment; the packet may have been cut at `end` then.
    #[inline(always)]
    pub fn narrow(&mut self, start: usize, end: usize) -> Result<(), NoRoom> {
        let m = self.raw_mut();
        if m.nb_segs != 1 {
            self.truncate(end);
            return self.trim_front(start);
        }
        let end = end.min(usize::from(m.data_len));
        let len = end.checked_sub(start).ok_or(NoRoom)?;
        // All of it is within the segment, whose length is 16 bits.
        m.data_off += start as u16;
        m.data_len = len as u16;
        m.pkt_len = len as u32;
        Ok(())
    }

    /// Cuts the packet down to `len` bytes and gives segments that are then empty back;
    /// the first one stays. A `len` beyond the packet has no effect.
    #[inline(always)]
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        let m = self.raw_mut();
        if m.nb_segs == 1 {
            // Shorter than the segment, whose length is 16 bits.
            m.data_len = len as u16;
            m.pkt_len = len as u32;
            return;
        }
        self.truncate_chain(len);
    }

    fn truncate_chain(&mut self, len: usize) {
        let mut left = len;
        self.raw_mut().pkt_len = left as u32;
        let mut seg = Some(self.0.cast::<vs_mbuf>());
        let mut kept = 0u16;
        while let Some(mut s) = seg {
            // SAFETY: a segment of our chain, exclusively borrowed through self.
            let m = unsafe { s.as_mut() };
            let here = left.min(usize::from(m.data_len));
            m.data_len = here as u16;
            left -= here;
            kept += 1;
            seg = NonNull::new(m.next);
            if left == 0 {
                m.next = std::ptr::null_mut();
                break;
            }
        }
        self.raw_mut().nb_segs = kept;
        if let Some(rest) = seg {
            // SAFETY: `rest` was just cut off our chain and has no other owner.
            unsafe { free_rest(rest) };
        }
    }

    /// Puts another packet's segments behind this one's. `Err` hands it back: there would
    /// be more than [`MAX_SEGMENTS`].
    pub fn append_segment(&mut self, tail: Mbuf) -> Result<(), Mbuf> {
        if self.segment_count() + tail.segment_count() > MAX_SEGMENTS {
            return Err(tail);
        }
        #[cfg(debug_assertions)]
        tail.report_debt();
        let (segments, bytes) = (tail.raw().nb_segs, tail.raw().pkt_len);
        let mut last = self.last();
        let head = self.raw_mut();
        // A segment holds less than 2^16 bytes, so MAX_SEGMENTS of them fit into a u32.
        head.nb_segs += segments;
        head.pkt_len += bytes;
        // SAFETY: the last segment of our chain; `tail`'s chain has no other owner.
        unsafe { last.as_mut() }.next = tail.into_raw().as_ptr().cast();
        Ok(())
    }

    /// A deep copy in buffers of `pool`, in as few segments as its data room allows, with
    /// the same mark and flags. `None`: the pool is exhausted.
    pub fn copy(&self, pool: &Mempool) -> Option<Mbuf> {
        if self.is_empty() {
            return pool.alloc();
        }
        // SAFETY: the chain is only read; the pool lives. Null or a chain of our own.
        let copied = unsafe { sys::rte_pktmbuf_copy(self.as_ptr(), pool.as_ptr(), 0, u32::MAX) };
        // SAFETY: a fresh chain that nobody else knows.
        NonNull::new(copied).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// Moves all bytes into the first segment.
    pub fn linearize(&mut self) -> Result<(), NoRoom> {
        if self.is_contiguous() {
            return Ok(());
        }
        // SAFETY: the chain is ours; the call only moves data within it and frees the tail.
        if unsafe { sys::vs_pktmbuf_linearize(self.as_ptr()) } == 0 {
            Ok(())
        } else {
            Err(NoRoom)
        }
    }

    /// A number that travels with the packet between workers (kept in `hash.usr`).
    #[inline]
    pub fn mark(&self) -> u32 {
        self.raw().hash_usr
    }

    /// Sets [`Self::mark`].
    #[inline]
    pub fn set_mark(&mut self, mark: u32) {
        self.raw_mut().hash_usr = mark;
    }

    /// A further number that travels with the packet between workers (kept behind `hash.usr`,
    /// where only flow director's drivers write).
    #[inline]
    pub fn stamp(&self) -> u32 {
        self.raw().hash_high
    }

    /// Sets [`Self::stamp`].
    #[inline]
    pub fn set_stamp(&mut self, stamp: u32) {
        self.raw_mut().hash_high = stamp;
    }

    /// A second number that travels with the packet inside a worker (kept in `tx_offload`,
    /// which no driver reads without offload flags).
    #[inline]
    pub fn note(&self) -> u64 {
        self.raw().tx_offload
    }

    /// Sets [`Self::note`].
    #[inline]
    pub fn set_note(&mut self, note: u64) {
        self.raw_mut().tx_offload = note;
    }

    /// Which buffer it is: no other packet's as long as this one lives.
    #[inline]
    pub fn key(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// From here on this packet must end in a verdict. In a debug build, dropping it before
    /// [`Self::settle`] panics with a backtrace; in others this is nothing.
    #[inline]
    pub fn owe_verdict(&mut self) {
        #[cfg(debug_assertions)]
        {
            self.raw_mut().ol_flags |= OWES_VERDICT;
        }
    }

    /// It has its verdict.
    #[inline]
    pub fn settle(&mut self) {
        #[cfg(debug_assertions)]
        {
            self.raw_mut().ol_flags &= !OWES_VERDICT;
        }
    }

    #[cfg(debug_assertions)]
    fn report_debt(&self) {
        if self.raw().ol_flags & OWES_VERDICT != 0 && !std::thread::panicking() {
            let place = std::backtrace::Backtrace::force_capture();
            panic!("a packet is dropped without a verdict, here:\n{place}");
        }
    }

    /// DPDK's offload flags (`RTE_MBUF_F_*`).
    #[inline]
    pub fn offload_flags(&self) -> u64 {
        self.raw().ol_flags
    }

    /// Whether the driver took a tag out of the packet, which nobody has asked for yet.
    #[inline]
    pub fn has_stripped_vlan(&self) -> bool {
        self.raw().ol_flags & u64::from(sys::RTE_MBUF_F_RX_VLAN_STRIPPED) != 0
    }

    /// The tag (TCI) that the driver took out of the packet, once.
    #[inline]
    pub fn take_stripped_vlan(&mut self) -> Option<u16> {
        if !self.has_stripped_vlan() {
            return None;
        }
        let stripped = u64::from(sys::RTE_MBUF_F_RX_VLAN_STRIPPED);
        let m = self.raw_mut();
        m.ol_flags &= !(stripped | u64::from(sys::RTE_MBUF_F_RX_VLAN));
        Some(m.vlan_tci)
    }

    /// Forgets all offload flags and the received VLAN tag. What says whose the buffer's
    /// memory is stays.
    #[inline]
    pub fn clear_offload_flags(&mut self) {
        #[cfg(debug_assertions)]
        let kept = sys::VS_MBUF_F_ATTACHED | OWES_VERDICT;
        #[cfg(not(debug_assertions))]
        let kept = sys::VS_MBUF_F_ATTACHED;
        self.raw_mut().ol_flags &= kept;
    }

    /// Whether the sender left the layer 4 checksum for us to complete
    /// (librte_vhost with compliant flags: `RX_L4_CKSUM_NONE`).
    #[inline]
    pub fn needs_l4_checksum(&self) -> bool {
        self.raw().ol_flags & u64::from(sys::RTE_MBUF_F_RX_L4_CKSUM_MASK)
            == u64::from(sys::RTE_MBUF_F_RX_L4_CKSUM_NONE)
    }
}

#[inline(always)]
fn data(m: &vs_mbuf) -> *mut u8 {
    // SAFETY: data_off never exceeds buf_len, so the pointer stays within the buffer.
    unsafe { m.buf_addr.cast::<u8>().add(usize::from(m.data_off)) }
}

/// # Safety
/// `seg` heads a valid run of segments that nobody else owns.
unsafe fn free_rest(mut seg: NonNull<vs_mbuf>) {
    // A cut-off tail is no head: give it the counts rte_pktmbuf_free expects.
    let mut count = 0u16;
    let mut cursor = Some(seg);
    while let Some(s) = cursor {
        count += 1;
        // SAFETY: caller's contract.
        cursor = NonNull::new(unsafe { s.as_ref() }.next);
    }
    // SAFETY: caller's contract; ownership ends here.
    unsafe {
        seg.as_mut().nb_segs = count;
        sys::vs_pktmbuf_free(seg.as_ptr().cast());
    }
}

/// The last of the flags that DPDK leaves to applications (`RTE_MBUF_F_LAST_FREE`): allocating
/// clears it, drivers and librte_vhost overwrite it on receive and ignore it on transmit.
#[cfg(debug_assertions)]
const OWES_VERDICT: u64 = 1 << 40;

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        self.report_debt();
        // SAFETY: self owns the chain, and it ends here.
        unsafe { sys::vs_pktmbuf_free(self.0.as_ptr()) }
    }
}

/// Fetches the headers of packets that a device has just written, before any is looked at: the
/// waits for memory overlap.
#[inline]
pub(in crate::dpdk) fn fetch_heads(packets: &[Mbuf]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for packet in packets {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(data(packet.raw()).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = packets;
}

/// Returns a burst's packets to their pools with one call.
#[inline]
pub fn free_burst(burst: &mut Burst) {
    #[cfg(debug_assertions)]
    burst.iter().for_each(Mbuf::report_debt);
    let n = burst.len();
    // SAFETY: Mbuf is a transparent pointer; the call takes all n of them, and set_len
    // makes the burst forget them without a second free.
    unsafe {
        sys::rte_pktmbuf_free_bulk(burst.as_mut_ptr().cast::<*mut sys::rte_mbuf>(), n as u32);
        burst.set_len(0);
    }
}

/// The free room of a burst as C's array, for calls that fill it; then [`grown`].
pub(in crate::dpdk) fn room(burst: &mut Burst) -> (*mut *mut sys::rte_mbuf, u16) {
    let free = burst.remaining_capacity();
    // SAFETY: len is within the array, so the pointer stays in it or one behind it.
    let end = unsafe { burst.as_mut_ptr().add(burst.len()) };
    (end.cast(), free as u16)
}

/// Tells a burst that C wrote `n` packets into its [`room`].
///
/// # Safety
/// The first `n` slots of the free room hold chains that nobody else owns.
pub(in crate::dpdk) unsafe fn grown(burst: &mut Burst, n: usize) {
    // SAFETY: caller's contract.
    unsafe { burst.set_len(burst.len() + n) }
}

/// Makes a burst forget its first `n` packets, which C took; the rest moves to the front.
///
/// # Safety
/// `n` is at most the burst's length, and C owns these packets now.
pub(in crate::dpdk) unsafe fn taken(burst: &mut Burst, n: usize) {
    let left = burst.len() - n;
    // SAFETY: both ranges lie within the first len slots; the taken ones are not dropped.
    unsafe {
        let start = burst.as_mut_ptr();
        std::ptr::copy(start.add(n), start, left);
        burst.set_len(left);
    }
}
